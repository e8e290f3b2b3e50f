"""What of a policy ends with the next one: who may no longer sign in, or no longer call.

What ends is put in force by itself and before all else, so that nothing that goes wrong with the rest keeps it or
brings it back. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from tulle.gateway.policy import Contract, GatewayPolicy


def without_ended(last: GatewayPolicy, policy: GatewayPolicy) -> GatewayPolicy:
    """The policy in force, less the clients, secrets and contracts that `policy` has no longer.

    A contract of a service that leaves goes with it. A secret that is another one is so at once: the old one ends.
    """
    if (policy.clients, policy.contracts) == (last.clients, last.contracts):
        return last
    clients = {one.client_id: one for one in policy.clients}
    places: dict[str, list[str]] = defaultdict(list)
    for service in (*last.services, *policy.services):
        if service.environment not in places[service.name]:
            places[service.name].append(service.environment)
    served = {service.name for service in policy.services}
    held: dict[tuple[str, str], list[Contract]] = defaultdict(list)
    for one in policy.contracts:
        held[one.client_id, one.service].append(one)

    def left() -> Iterator[Contract]:
        for one in last.contracts:
            if one.client_id not in clients:
                continue
            if one.service not in served:
                yield one
                continue
            mine = [place for place in sorted(places[one.service]) if one.holds_in(place)]
            still = held[one.client_id, one.service]
            kept = [(place, other) for place in mine for other in still if other.holds_in(place)]
            if len(kept) == len(mine) and all({*other.not_in} <= {*one.not_in} for _, other in kept):
                yield one
            else:
                for place, other in kept:
                    fewer = tuple(sorted({*one.not_in, *other.not_in}))
                    yield replace(one, environment=place, not_in=fewer)

    return replace(
        last,
        clients=tuple(clients[one.client_id] for one in last.clients if one.client_id in clients),
        contracts=tuple(left()),
    )
