"""Who may use what and why: applications by contract, keys, the other ways in, people by roles. What holds now.

The read side of contracts: knows what is recorded, not who may see it, and changes nothing.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from tulle.catalog.open_ways import open_ways
from tulle.config import Settings
from tulle.errors import Invalid
from tulle.gateway import contract_record, service_keys
from tulle.gateway.apis import records
from tulle.gateway.contract import PORTAL
from tulle.gateway.last_used import last_used
from tulle.serving.package import products_of
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.spec.roles import CONSUMER, roles_of
from tulle.spec.tier import limits_in_words
from tulle.state import products
from tulle.state.db import Database, now


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
    def order(self) -> tuple[int, str, str, str, str, str]:
        """By what it stands among others; no two have the same."""
        rank = 2 if self.is_open_way else _RANKS.index(self.by)
        return rank, self.who, self.what, self.name, self.environment or "", self.why


_RANKS: Final = ("application", "key", "", "user", "group")
LONGEST_PLACE: Final = 16_384  # characters of where a page ends


def uses(settings: Settings, database: Database) -> tuple[Use, ...]:
    """All of them in order: first applications, then keys, then the other ways into services, then people."""
    applied = {item.product.name: item for item in products.applied(database)}
    owner_of = owners(database)
    documents = {name: item.product for name, item in applied.items()}
    found = (
        *_by_contract(settings, database, owner_of),
        *_by_key(database, owner_of),
        *_by_open_way(settings, database, owner_of, documents),
        *(use for one in documents.values() for use in _by_role(one, documents)),
    )
    return tuple(sorted(dict.fromkeys(found), key=lambda use: use.order))


def one_page(found: Sequence[Use], *, after: str = "", limit: int) -> tuple[tuple[Use, ...], str | None]:
    """So many of them, in their order, after where a page ended; and where this one ends, None: there are no more.

    Invalid for a place that no page ended at.
    """
    left = found
    if after:
        try:
            text = base64.urlsafe_b64decode(after.encode("ascii"))
            place = msgspec.json.decode(text, type=tuple[int, str, str, str, str, str])
        except (ValueError, msgspec.MsgspecError):
            raise Invalid("`after` is no place where a page ended", hint="give `next` of that page") from None
        left = [use for use in found if use.order > place]
    some = tuple(left[:limit])
    if len(left) <= limit:
        return some, None
    return some, base64.urlsafe_b64encode(msgspec.json.encode(some[-1].order)).decode()


def owners(database: Database) -> Mapping[str, str]:
    """By service and API, the product that declared it when it was applied, else the one that made its packages."""
    made = {service: next(iter(of)) for service, of in products_of(database).items() if len(of) == 1}
    applied = products.applied(database)
    made |= {service: item.product.name for item in applied for service in item.services or ()}
    return {**made, **records.owners(database)}


def _by_contract(settings: Settings, database: Database, owner_of: Mapping[str, str]) -> Iterator[Use]:
    used = last_used(database)
    with database.read() as cx:
        held = contract_record.held(cx, now())
    for one in held:
        if one.application == PORTAL:
            continue
        place = one.place
        is_api = place.kind == "api"
        said = f"tier {one.tier}" if one.tier else "limits of its own"
        yield Use(
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
    used = last_used(database)
    for key in service_keys.held(database):
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
    settings: Settings,
    database: Database,
    owner_of: Mapping[str, str],
    documents: Mapping[str, DataProduct],
) -> Iterator[Use]:
    for way in open_ways(settings, database, documents):
        owner = owner_of.get(way.service, "")
        yield Use(way.by, way.who, "service", way.service, owner, way.environment, "", way.limits, way.why)


def _by_role(product: DataProduct, others: Mapping[str, DataProduct]) -> Iterator[Use]:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for role in roles_of(product, others, today):
        is_consumer = role.name.endswith(f"-{CONSUMER}")
        why = f"role {role.name}: {role.says}" + (", by an agreement" if is_consumer else "")
        for user in role.users:
            yield Use("user", user, "product", product.name, product.name, None, "", "", why)
        for group in role.groups:
            yield Use("group", group, "product", product.name, product.name, None, "", "", why)
