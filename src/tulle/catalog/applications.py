"""What the pages of applications show: who they are, what they asked for, what waits for a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tulle.catalog.uses import Use, owners, uses
from tulle.config import Settings
from tulle.errors import NotFound
from tulle.gateway import contract, contract_record
from tulle.gateway.contract import PORTAL, Application
from tulle.gateway.contract_record import ContractRecord
from tulle.gateway.last_used import last_used
from tulle.gateway.offer import MESH, offers
from tulle.spec.tier import Offer, Terms, Tier, mesh_tiers
from tulle.state.db import Database, now

A_PAGE = 60
MOST_USES = 1000


@dataclass(frozen=True, slots=True)
class ApplicationsPage:
    """A page of applications by name; `next` continues it, `waiting` is how many requests wait."""

    applications: tuple[Application, ...]
    services: tuple[str, ...]
    default_limit: str
    last_used: Mapping[tuple[str, str], float]  # by client id and service
    query: str
    owner: str
    next: str
    waiting: int


@dataclass(frozen=True, slots=True)
class ApplicationPage:
    """One application, everything it asked for, and what else it may ask for."""

    application: Application
    records: tuple[ContractRecord, ...]
    last_used: Mapping[str, float]  # by service
    offers: Mapping[str, tuple[Tier, ...]]  # by service
    terms: Mapping[str, Terms]  # by service, those in force
    now: float


@dataclass(frozen=True, slots=True)
class RequestsPage:
    """What waits for a decision, and what was decided last."""

    waiting: tuple[ContractRecord, ...]
    decided: tuple[ContractRecord, ...]
    tiers: Mapping[str, tuple[Tier, ...]]  # that an owner may give, by contract id
    product_of: Mapping[str, str]  # by service


@dataclass(frozen=True, slots=True)
class UsesPage:
    """Who may use what; `more` says that there are others."""

    uses: tuple[Use, ...]
    product: str
    service: str
    products: tuple[str, ...]
    more: int


class Applications:
    """The read model of one mesh's applications."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def page(self, services: tuple[str, ...], *, query: str, owner: str, after: str) -> ApplicationsPage:
        """Applications whose name contains `query`, of an owner, after a page; those in force and those that were."""
        found: list[Application] = []
        while True:
            some = contract.applications(
                self._database, include_revoked=True, containing=query, after=after, limit=A_PAGE
            )
            found += [a for a in some if a.name != PORTAL and (not owner or owner in a.about.owners)]
            if len(some) < A_PAGE:
                following = ""
                break
            after = f"{some[-1].name}/{some[-1].client_id}"
            if len(found) >= A_PAGE:
                following = after
                break
        return ApplicationsPage(
            tuple(found),
            services,
            self._settings.default_rate_limit,
            last_used(self._database),
            query,
            owner,
            following,
            contract_record.waiting(self._database),
        )

    def one(self, name: str) -> ApplicationPage:
        """One application. NotFound, also for the portal's own."""
        if name == PORTAL:
            raise NotFound(f"there is no application '{name}'")
        found = contract.get(self._database, name)
        records = contract_record.records(self._database, application=found.client_id, limit=500)
        known = self._offers()
        used = last_used(self._database)
        mine = {service: at for (client, service), at in used.items() if client == found.client_id}
        tiers = {name: self._open(known, name) for name in sorted(owners(self._database))}
        terms = {name: one.terms for name, one in known.items() if one.terms is not None}
        return ApplicationPage(found, records, mine, tiers, terms, now())

    def requests(self) -> RequestsPage:
        """What waits, the oldest first, and the hundred last that do not."""
        waiting = contract_record.records(self._database, states=["pending"], limit=500)
        decided = contract_record.records(
            self._database, states=["approved", "rejected", "revoked", "expired"], limit=100
        )
        known = self._offers()
        tiers = {
            one.id: tuple(
                tier
                for tier in self._tiers(known, one.place.subject if one.place.kind == "api" else MESH)
                if not tier.deprecated or tier.name == one.tier
            )
            for one in waiting
        }
        shown = tuple(one for one in decided if one.application != PORTAL)
        return RequestsPage(tuple(reversed(waiting)), shown, tiers, owners(self._database))

    def uses(self, product: str, service: str) -> UsesPage:
        """Who may use what, of a product or a service, or all of it; no people, as nobody signs in to see it."""
        owner = owners(self._database).get(service, "")
        every = [use for use in uses(self._settings, self._database) if use.by in {"application", "key"}]
        found = [
            use
            for use in every
            if (not product or use.product == product) and (not service or use.covers(service, owner))
        ]
        names = tuple(sorted({use.product for use in every if use.product}))
        return UsesPage(tuple(found[:MOST_USES]), product, service, names, max(0, len(found) - MOST_USES))

    def _offers(self) -> Mapping[str, Offer]:
        with self._database.read() as cx:
            return offers(cx)

    def _tiers(self, known: Mapping[str, Offer], api: str) -> tuple[Tier, ...]:
        return known.get(api, Offer()).tiers or mesh_tiers(self._settings)

    def _open(self, known: Mapping[str, Offer], api: str) -> tuple[Tier, ...]:
        tiers = self._tiers(known, api)
        return tuple(tier for tier in tiers if tier.visibility == "public" and not tier.deprecated)
