"""What of a policy is new to who has read the last one: only that has to be looked at again. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from tulle.gateway.policy import Contract, GatewayPolicy

READ_AGAIN: Final = 20  # contracts of a service that is otherwise


def unread(policy: GatewayPolicy, last: GatewayPolicy) -> GatewayPolicy:
    """Of the policy what Envoy has not read in the last one: services that are otherwise, clients and contracts.

    A contract is read with the service it is for, and of a service that is otherwise some of the contracts are: each
    is a line or an entry like the others.
    """
    known = {one.path: one for one in last.services}
    changed = {one.path for one in policy.services if known.get(one.path) != one}
    # By what names them: to compare one is cheaper than to put ten thousand of them into a set.
    before = {_named(one): one for one in last.contracts}
    of_changed = {one.name for one in policy.services if one.path in changed}
    contracts: list[Contract] = []
    read: Counter[str] = Counter()
    for one in policy.contracts:
        held = before.get(_named(one))
        is_new = held is not one and held != one
        if is_new or (one.service in of_changed and read[one.service] < READ_AGAIN):
            contracts.append(one)
            read[one.service] += 1
    places = {one.service for one in contracts}
    services = tuple(
        one
        for one in policy.services
        if one.path in changed or (one.name in places and one.name not in of_changed)
    )
    needed = {one.client_id for one in contracts}
    clients_before = {one.client_id: one for one in last.clients}
    clients = tuple(
        one
        for one in policy.clients
        if one.client_id in needed or ((was := clients_before.get(one.client_id)) is not one and was != one)
    )
    return replace(policy, services=services, clients=clients, contracts=tuple(contracts))


def _named(contract: Contract) -> tuple[str, str, str | None]:
    return contract.client_id, contract.service, contract.environment
