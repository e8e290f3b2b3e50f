"""Who may use what and why: applications by contract, keys, the other ways in, people by roles. What holds now.

The read side of contracts: knows what is recorded, not who may see it, and changes nothing.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import msgspec

from tulle.catalog.open_ways import open_ways
from tulle.config import Settings
from tulle.errors import Invalid
from tulle.gateway import contract_record, service_keys
from tulle.gateway.apis import records
from tulle.gateway.applications import PORTAL
from tulle.gateway.contract_record import Concerning, ContractRecord, Kind
from tulle.gateway.last_used import last_used
from tulle.serving.package import products_of
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.spec.roles import CONSUMER, roles_of
from tulle.spec.tier import limits_in_words
from tulle.state import products
from tulle.state.db import Database, now

_Order = tuple[int, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Use:
    """That somebody may use something: who, what, under which tier or role, and why. Times are seconds since the epoch.

    `environment` None is each. `product` is whose service it is, empty where nobody declares it. Where a service lets
    in others than applications and keys, `by` says what they show, and `who` of which kind.
    """

    by: Literal["application", "key", "everybody", "tokens", "directory", "others", "user", "group"]
    who: str
    what: Literal["service", "product"]
    name: str
    product: str
    environment: str | None
    tier: str
    limits: str
    why: str
    purpose: str = ""
    approved_by: str = ""
    since: float | None = None
    until: float | None = None
    last_used_at: float | None = None
    contract: str = ""

    def covers(self, service: str, owner: str) -> bool:
        """Whether it is for this service of that product: by name, or as one of all."""
        if self.what == "service":
            return self.name == service
        return self.by == "application" and self.name == owner

    @property
    def is_open_way(self) -> bool:
        """Whether it is of nobody in particular: whoever shows what it says may call."""
        return self.what == "service" and self.by not in {"application", "key"}

    @property
    def order(self) -> _Order:
        """By what it stands among others; no two have the same."""
        rank = 2 if self.is_open_way else _RANKS.index(self.by)
        return rank, self.who, self.what, self.name, self.environment or "", self.why


_RANKS: Final = ("application", "key", "", "user", "group")
_RANK_OF_WAYS: Final = 2
_RANKED: Final = 4  # users and groups are found together
_AT_ONCE: Final = 200  # applications whose contracts are read together
LONGEST_PLACE: Final = 16_384  # characters of where a page ends


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which uses are looked for; empty is any. `owner` is the product whose contracts open `service`.

    `concerning`: applications and products, of which a contract concerns who looks; None: all do. `people` says whether
    those who have roles are among them.
    """

    product: str = ""
    service: str = ""
    owner: str = ""
    application: str = ""
    concerning: tuple[frozenset[str], frozenset[str]] | None = None
    people: bool = True

    def has(self, use: Use) -> bool:
        """Whether a use is one of them, but for whom it concerns."""
        return (
            (not self.product or use.product == self.product)
            and (not self.service or use.covers(self.service, self.owner))
            and (not self.application or (use.by == "application" and use.who == self.application))
        )


def uses(settings: Settings, database: Database) -> tuple[Use, ...]:
    """All of them in order: first applications, then keys, then the other ways into services, then people."""
    return tuple(in_order(settings, database, Wanted()))


def one_page(
    settings: Settings,
    database: Database,
    wanted: Wanted,
    shows: Callable[[Use], bool] = lambda _: True,
    *,
    after: str = "",
    limit: int,
) -> tuple[tuple[Use, ...], str | None]:
    """So many of those that are wanted and shown, in order; and where they end, None: there are no more.

    `after` is where a page before it ended. Invalid for a place that no page ended at. Of ten thousand applications it
    reads the contracts of those on the page.
    """
    place = None
    if after:
        try:
            text = base64.urlsafe_b64decode(after.encode("ascii"))
            place = msgspec.json.decode(text, type=_Order)
        except (ValueError, msgspec.MsgspecError):
            raise Invalid("`after` is no place where a page ended", hint="give `next` of that page") from None
    found = filter(shows, in_order(settings, database, wanted, place))
    some = tuple(islice(found, limit))
    if next(found, None) is None or not some:
        return some, None
    return some, base64.urlsafe_b64encode(msgspec.json.encode(some[-1].order)).decode()


def in_order(
    settings: Settings, database: Database, wanted: Wanted, after: _Order | None = None
) -> Iterator[Use]:
    """Those that are wanted, in order, after one; read as far as they are taken."""
    owner_of = owners(database)
    for rank in range(_RANKED):
        if after is not None and rank < min(after[0], _RANKED - 1):
            continue
        if rank == 0:
            some = _by_contract(settings, database, owner_of, wanted, "" if after is None else after[1])
        elif wanted.application:
            return
        elif rank == 1:
            some = _sorted(_by_key(database, owner_of))
        elif rank == _RANK_OF_WAYS:
            some = _sorted(_by_open_way(settings, database, owner_of, wanted))
        elif wanted.service or not wanted.people:
            return
        else:
            some = _sorted(_by_role(database, wanted.product))
        for use in some:
            if wanted.has(use) and (after is None or use.order > after):
                yield use


def _sorted(found: Iterable[Use]) -> Iterator[Use]:
    return iter(sorted(dict.fromkeys(found), key=lambda use: use.order))


def owners(database: Database) -> Mapping[str, str]:
    """By service and API, the product that declared it when it was applied, else the one that made its packages."""
    made = {service: next(iter(of)) for service, of in products_of(database).items() if len(of) == 1}
    return {**made, **products.declared_services(database), **records.owners(database)}


def _subjects(owner_of: Mapping[str, str], of: Collection[str]) -> list[tuple[Kind, str]]:
    """What contracts for these products are for: all of one, or one of its services."""
    apis: list[tuple[Kind, str]] = [("api", name) for name, owner in owner_of.items() if owner in of]
    return [*(("product", name) for name in of), *apis]


def _by_contract(
    settings: Settings, database: Database, owner_of: Mapping[str, str], wanted: Wanted, first: str
) -> Iterator[Use]:
    """In order, from the application of that name on; some applications at a time."""
    at = now()
    subjects: list[tuple[Kind, str]] | None = None
    concerning: Concerning | None = None
    if wanted.service:
        subjects = [("api", wanted.service), ("product", wanted.owner)]
    elif wanted.product:
        subjects = _subjects(owner_of, [wanted.product])
    if wanted.concerning is not None:
        names, of = wanted.concerning
        concerning = Concerning(names, _subjects(owner_of, of))
    with database.read() as cx:
        known = contract_record.holders(
            cx, at, subjects=subjects, application=wanted.application, concerning=concerning
        )
    waiting = sorted(name for name in known if name >= first and name != PORTAL)
    for begin in range(0, len(waiting), _AT_ONCE):
        ids = [id_ for name in waiting[begin : begin + _AT_ONCE] for id_ in known[name]]
        with database.read() as cx:
            held = contract_record.held(cx, at, client_ids=ids, subjects=subjects)
        used = last_used(database, clients=ids)
        yield from _sorted(_of_contract(settings, owner_of, one, used) for one in held)


def _of_contract(
    settings: Settings,
    owner_of: Mapping[str, str],
    one: ContractRecord,
    used: Mapping[tuple[str, str], float],
) -> Use:
    place = one.place
    is_api = place.kind == "api"
    said = f"tier {one.tier}" if one.tier else "limits of its own"
    return Use(
        by="application",
        who=one.application,
        what="service" if is_api else "product",
        name=place.subject,
        product=owner_of.get(place.subject, "") if is_api else place.subject,
        environment=None if place.environment is None else place.environment or production(settings).name,
        tier=one.tier,
        limits=limits_in_words(one.limits),
        why=f"contract {one.id}, {said}" + ("" if one.decided_by else ", approved automatically"),
        purpose=one.purpose,
        approved_by=one.decided_by,
        since=one.since,
        until=one.until,
        last_used_at=used.get((one.client_id, place.subject)),
        contract=one.id,
    )


def _by_key(database: Database, owner_of: Mapping[str, str]) -> Iterator[Use]:
    keys = service_keys.held(database)
    used = last_used(database, clients=[key.id for key in keys])
    for key in keys:
        yield Use(
            by="key",
            who=key.label,
            what="service",
            name=key.service,
            product=owner_of.get(key.service, ""),
            environment=None,
            tier="",
            limits=str(key.limit) if key.limit else "the service's",
            why=f"key {key.id}" + (f": {key.description}" if key.description else ""),
            approved_by=key.created_by,
            since=key.created_at,
            until=key.expires_at,
            last_used_at=used.get((key.id, key.service)),
        )


def _by_open_way(
    settings: Settings, database: Database, owner_of: Mapping[str, str], wanted: Wanted
) -> Iterator[Use]:
    only = None
    if wanted.service:
        only = [wanted.service]
    elif wanted.product:
        only = [name for name, owner in owner_of.items() if owner == wanted.product]
    documents = {item.product.name: item.product for item in products.applied(database)}
    for way in open_ways(settings, database, documents, only):
        owner = owner_of.get(way.service, "")
        yield Use(way.by, way.who, "service", way.service, owner, way.environment, "", way.limits, way.why)


def _by_role(database: Database, of: str) -> Iterator[Use]:
    """Those of one product or of all."""
    documents = {item.product.name: item.product for item in products.applied(database)}
    for product in documents.values():
        if not of or product.name == of:
            yield from _roles(product, documents)


def _roles(product: DataProduct, others: Mapping[str, DataProduct]) -> Iterator[Use]:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for role in roles_of(product, others, today):
        is_consumer = role.name.endswith(f"-{CONSUMER}")
        why = f"role {role.name}: {role.says}" + (", by an agreement" if is_consumer else "")
        for user in role.users:
            yield Use("user", user, "product", product.name, product.name, None, "", "", why)
        for group in role.groups:
            yield Use("group", group, "product", product.name, product.name, None, "", "", why)
