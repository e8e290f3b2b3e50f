"""Who is admitted: who may sign in and what is in force, and the policy that it makes with what is deployed.

Knows nothing of Envoy, and not what becomes of the policy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import func, select

from tulle.errors import Invalid
from tulle.gateway import contract_record, offer, service_keys
from tulle.gateway.apis import records as api_records
from tulle.gateway.applications import PORTAL, forms_of
from tulle.gateway.contract_record import Held
from tulle.gateway.policies.opening import accesses
from tulle.gateway.policy import USUAL_LIMIT, Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.serving.package import products_of
from tulle.state.db import Database, now
from tulle.state.tables import applications as application_rows
from tulle.state.tables import events as event_rows


def as_deployed(
    database: Database, services: Iterable[ManagedService], *, usual_limit: str = USUAL_LIMIT
) -> tuple[list[ManagedService], Mapping[tuple[str, str], str]]:
    """The services with what their deployments say of who may call them; and where that cannot be read, why."""
    with database.read() as connection:
        said, damaged = service_keys.readable_accesses(connection)
    deployed: list[ManagedService] = []
    wrong: dict[tuple[str, str], str] = {}
    for service in services:
        place = (service.name, service.environment)
        if place in damaged:
            wrong[place] = damaged[place]
            continue
        found = replace(service, access=said.get(place, service.access), usual_limit=usual_limit)
        try:
            _limit_of_keys(found)
        except Invalid as exc:
            wrong[place] = exc.message
            continue
        deployed.append(found)
    return deployed, wrong


def _limit_of_keys(service: ManagedService) -> RateLimit | None:
    """That of a key made without one; None where keys do not open it. Invalid."""
    found = (access.api_keys for access in accesses(service.policies, service.access))
    keys = next((keys for keys in found if keys is not None), None)
    return None if keys is None else RateLimit.parse(keys.limit or service.usual_limit)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who may sign in and what is in force, as the database has it, until `ends` or the next event."""

    stamp: int
    ends: float | None
    clients: tuple[Client, ...]
    portal: frozenset[str]
    held: tuple[Held, ...]
    keys: tuple[tuple[service_keys.ServiceKey, str], ...]
    products: Mapping[str, frozenset[str]]
    offered: tuple[tuple[RateLimit, ...], ...] = ()  # the limits of every tier
    offers_stamp: object = None


# The newest that was read. Reading it for ten thousand applications takes a tenth of a second, and it is wanted often.
_known: WeakKeyDictionary[Database, Admitted] = WeakKeyDictionary()


def admitted(database: Database) -> Admitted:
    """What the database has; read anew only when an event was recorded, or something has ended, since.

    Everything that changes it appends an event in its own transaction.
    """
    at = now()
    with database.read() as connection:
        stamp = int(connection.execute(select(func.max(event_rows.c.id))).scalar() or 0)
        known = _known.get(database)
        if known is not None and known.stamp == stamp and (known.ends is None or at < known.ends):
            return known
        rows = connection.execute(select(*_SIGNING).where(application_rows.c.revoked_at.is_(None))).all()
        held = contract_record.all_held(connection, at)
        ends = [contract_record.next_end(connection, at), service_keys.next_end(connection, at)]
        keys = service_keys.in_force(connection, at)
        offers_stamp = offer.stamp(connection)
        if known is not None and known.offers_stamp == offers_stamp:
            offered = known.offered
        else:
            offered = tuple({tier.limits for one in offer.offers(connection).values() for tier in one.tiers})
    hidden = api_records.hidden(database)
    opened = {
        **products_of(database),
        **{api: frozenset({one}) for api, one in api_records.owners(database).items()},
    }
    products = {name: of for name, of in opened.items() if name not in hidden}
    clients: list[Client] = []
    clients_before = {} if known is None else {one.client_id: one for one in known.clients}
    for row in rows:
        forms = dict(forms_of(row, at))
        ends += [secret.until for secret in forms.values()]
        if forms:
            hashes = [getattr(row, f"{form}_hash") if form in forms else "" for form in ("secret", "second")]
            before = clients_before.get(row.client_id)
            is_same = before is not None and (before.secret_hash, before.second_hash) == (*hashes,)
            clients.append(before if before is not None and is_same else Client(row.client_id, *hashes))
    made = Admitted(
        stamp,
        min((one for one in ends if one is not None), default=None),
        tuple(clients),
        frozenset(row.client_id for row in rows if row.name == PORTAL),
        held,
        tuple(keys),
        products,
        offered,
        offers_stamp,
    )
    _known[database] = made
    return made


def forget(database: Database) -> None:
    """Read everything anew the next time: somebody changed rows without an event."""
    _known.pop(database, None)


_SIGNING: Final = tuple(
    application_rows.c[name]
    for name in (
        "client_id",
        "name",
        "secret_hash",
        "secret_made_at",
        "secret_until",
        "second_hash",
        "second_made_at",
        "second_until",
    )
)


def policy_of(database: Database, deployed: Iterable[ManagedService]) -> GatewayPolicy:
    """The policy by which exactly these services are called, as the database knows applications, contracts and keys."""
    now_, deployed = admitted(database), tuple(deployed)
    before = _made.get(database)
    if before is not None and before[0] is now_ and before[1] == deployed:
        return before[2]
    made = _policy_of(now_, deployed)
    _made[database] = (now_, deployed, made)
    return made


# The policy that was made last, of whom and what. It is wanted five times a second, and mostly nothing has changed.
_made: WeakKeyDictionary[Database, tuple[Admitted, tuple[ManagedService, ...], GatewayPolicy]] = (
    WeakKeyDictionary()
)


def _policy_of(now_: Admitted, deployed: tuple[ManagedService, ...]) -> GatewayPolicy:
    known = {c.client_id for c in now_.clients}
    # A deployment may say another limit than another one: each holds in its own environment. Versions of an API in one
    # environment share their keys: of what they say the tightest holds.
    usual: dict[str, dict[str, RateLimit]] = defaultdict(dict)
    # that of tiers which nobody declared
    everybody = {(RateLimit.parse(text),) for text in {service.usual_limit for service in deployed}}
    places: dict[str, list[str]] = defaultdict(list)
    for service in deployed:
        places[service.name].append(service.environment)
        if (limit := _limit_of_keys(service)) is not None:
            known_limit = usual[service.name].get(service.environment, limit)
            usual[service.name][service.environment] = min(known_limit, limit, key=_tightness)
    opening = [(key, hashed) for key, hashed in now_.keys if key.service in usual]
    sunsets: dict[str, dict[str, float]] = defaultdict(dict)
    for service in deployed:
        if service.front is not None and service.notice is not None and service.notice.sunset_at is not None:
            sunsets[service.name][service.front.version] = service.notice.sunset_at
    holding = [one for one in now_.held if one.client_id in known]
    held = _in_places(holding, places, now_.products, sunsets)
    return GatewayPolicy.of(
        services=deployed,
        offered=(*now_.offered, *everybody),
        clients=(*now_.clients, *(Client(key.id, hashed) for key, hashed in opening)),
        contracts=(
            *(replace(c, way="always", not_in=()) if c.client_id in now_.portal else c for c in held),
            *(
                Contract(key.id, key.service, key.limit or limit, "api_keys", environment)
                for key, _ in opening
                for environment, limit in usual[key.service].items()
            ),
        ),
    )


def _tightness(limit: RateLimit) -> tuple[float, int]:
    """Fewer a second is tighter; of as many, fewer at once."""
    return limit.requests / limit.period_ms, limit.requests


def _in_places(
    held: Iterable[Held],
    places: Mapping[str, Sequence[str]],
    products: Mapping[str, frozenset[str]],
    sunsets: Mapping[str, Mapping[str, float]],
) -> list[Contract]:
    """The contracts as the gateway needs them: of each application one for a service in an environment.

    Where several are in force, the one that says most exactly what it is for: of the environment before those of each,
    of the API before those of its product. Of an API it is not for the versions that were past their sunset when the
    first of them was made; `sunsets` are those by API and version.
    """
    of_product: dict[str, list[str]] = defaultdict(list)
    for service, owners in products.items():
        if len(owners) == 1:
            of_product[next(iter(owners))].append(service)
    chosen: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for one in held:
        is_api = one.kind == "api"
        for service in (one.subject,) if is_api else of_product.get(one.subject, ()):
            if service in places:
                chosen[one.client_id, service].append(one)
    found: list[Contract] = []
    for (_, service), several in chosen.items():
        first, *others = several
        if not others:
            not_in = _past(sunsets.get(service), several)
            found.append(first.contract(service, first.environment, not_in=not_in))
            continue
        for environment in dict.fromkeys(places[service]):  # an API may have several versions in one
            fitting = [one for one in several if one.environment in {None, environment}]
            if fitting:
                best = min(fitting, key=lambda one: (one.environment is None, one.kind != "api"))
                not_in = _past(sunsets.get(service), fitting)
                found.append(best.contract(service, environment, not_in=not_in))
    return found


def _past(sunsets: Mapping[str, float] | None, held: Sequence[Held]) -> tuple[str, ...]:
    """The versions whose sunset had come before any of these was made."""
    if not sunsets:
        return ()
    since = min(one.since or 0.0 for one in held)
    return tuple(version for version, at in sorted(sunsets.items()) if at <= since)
