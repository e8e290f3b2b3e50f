"""Who may use what and why: applications by contract, keys of services, people by their roles. What holds now.

The read side of contracts: knows what is recorded, not who may see it, and changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tulle.config import Settings
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

    `environment` None is each. `product` is whose service it is, empty where nobody declares it.
    """

    by: Literal["application", "key", "user", "group"]
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


def uses(settings: Settings, database: Database) -> tuple[Use, ...]:
    """All of them: first applications, then keys, then people."""
    applied = {item.product.name: item for item in products.applied(database)}
    owner_of = owners(database)
    documents = {name: item.product for name, item in applied.items()}
    return (
        *_by_contract(settings, database, owner_of),
        *_by_key(database, owner_of),
        *(use for one in documents.values() for use in _by_role(one, documents)),
    )


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


def _by_role(product: DataProduct, others: Mapping[str, DataProduct]) -> Iterator[Use]:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for role in roles_of(product, others, today):
        is_consumer = role.name.endswith(f"-{CONSUMER}")
        why = f"role {role.name}: {role.says}" + (", by an agreement" if is_consumer else "")
        for user in role.users:
            yield Use("user", user, "product", product.name, product.name, None, "", "", why)
        for group in role.groups:
            yield Use("group", group, "product", product.name, product.name, None, "", "", why)
