"""What the pages of applications show: who they are, what they asked for and use, what waits for a decision.

Of APIs that who reads may not see nothing is shown: neither their names nor what applications have to do with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tulle.catalog.exchange import Exchange
from tulle.catalog.uses import Use, one_page, owners, uses
from tulle.config import Settings
from tulle.errors import NotFound
from tulle.gateway import contract, contract_record
from tulle.gateway.apis import remarks
from tulle.gateway.apis.sight import NOBODY
from tulle.gateway.contract import PORTAL, Application
from tulle.gateway.contract_record import ContractRecord
from tulle.gateway.last_used import last_used
from tulle.gateway.offer import MESH, offers
from tulle.observe.insight import Insight, Point, Which, span_of
from tulle.spec.environment import production
from tulle.spec.tier import Offer, Terms, Tier, mesh_tiers
from tulle.state.db import Database, now

A_PAGE = 60
MOST_USES = 1000
A_PAGE_OF_USES = 200


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
    asked: Mapping[str, Point] = field(default_factory=dict)  # by client id, in the last day
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an application asked of one API or service, all environments together; None: nothing."""

    name: str
    day: Point | None
    month: Point | None


@dataclass(frozen=True, slots=True)
class ApplicationPage:
    """One application, everything it asked for, and what else it may ask for."""

    application: Application
    records: tuple[ContractRecord, ...]
    last_used: Mapping[str, float]  # by service
    offers: Mapping[str, tuple[Tier, ...]]  # by service
    terms: Mapping[str, Terms]  # by service, those in force
    now: float
    usage: tuple[Usage, ...] = ()
    hidden: int = 0  # contracts and requests for APIs that who reads does not see


@dataclass(frozen=True, slots=True)
class RequestsPage:
    """What waits for a decision, and what was decided last."""

    waiting: tuple[ContractRecord, ...]
    decided: tuple[ContractRecord, ...]
    tiers: Mapping[str, tuple[Tier, ...]]  # that an owner may give, by contract id
    product_of: Mapping[str, str]  # by service
    products: tuple[str, ...] = ()  # that anything is about
    product: str = ""  # the only one that is shown
    mine: bool = False  # only what who reads may decide about
    reader: str = ""
    questions: Mapping[str, int] = field(default_factory=dict)  # by API, those that no owner has answered


@dataclass(frozen=True, slots=True)
class UsesPage:
    """Who may use what; `next` is where the page ends, when there are others."""

    uses: tuple[Use, ...]
    product: str
    service: str
    products: tuple[str, ...]
    is_first: bool
    next: str | None


class Applications:
    """The read model of one mesh's applications."""

    def __init__(self, settings: Settings, database: Database, exchange: Exchange, insight: Insight) -> None:
        self._settings = settings
        self._database = database
        self._exchange = exchange
        self._insight = insight

    def take_up(self, settings: Settings) -> None:
        """Answer by other settings from now on."""
        self._settings = settings

    def page(
        self, services: tuple[str, ...], *, query: str, owner: str, after: str, user: str = NOBODY
    ) -> ApplicationsPage:
        """Applications whose name contains `query`, of an owner, after a page; those in force and those that were."""
        hidden = self._exchange.hidden(user)
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
        told = self._insight.told("client", span_of("day"), limit=MOST_USES, points=False)
        return ApplicationsPage(
            tuple(_without(one, hidden) for one in found),
            services,
            self._settings.default_rate_limit,
            last_used(self._database),
            query,
            owner,
            following,
            sum(1 for one in self._waiting() if one.place.kind != "api" or one.place.subject not in hidden),
            {one.name["client"]: one.whole for one in told.series},
            user,
        )

    def _waiting(self) -> tuple[ContractRecord, ...]:
        return contract_record.records(self._database, states=["pending"], limit=500)

    def _usage(self, client_id: str, hidden: Collection[str]) -> tuple[Usage, ...]:
        """What a client asked of each API in the last day and 30 days, what it asked most first."""
        found: dict[str, dict[str, Point]] = {}
        for span in ("month", "day"):
            told = self._insight.told("service", span_of(span), Which(client=client_id), points=False)
            for one in told.series:
                found.setdefault(one.name["service"], {})[span] = one.whole
        return tuple(
            Usage(name, spans.get("day"), spans.get("month"))
            for name, spans in found.items()
            if name and name not in hidden
        )

    def one(self, name: str, user: str = NOBODY) -> ApplicationPage:
        """One application. NotFound, also for the portal's own."""
        if name == PORTAL:
            raise NotFound(f"there is no application '{name}'")
        found = contract.get(self._database, name)
        records = contract_record.records(self._database, application=found.client_id, limit=500)
        known = self._offers()
        used = last_used(self._database)
        mine = {service: at for (client, service), at in used.items() if client == found.client_id}
        hidden = self._exchange.hidden(user)
        shown = tuple(one for one in records if one.place.kind != "api" or one.place.subject not in hidden)
        there = sorted(set(owners(self._database)) - hidden)
        tiers = {name: self._open(known, name) for name in there}
        terms = {
            name: one.terms for name, one in known.items() if one.terms is not None and name not in hidden
        }
        return ApplicationPage(
            _without(found, hidden),
            shown,
            mine,
            tiers,
            terms,
            now(),
            self._usage(found.client_id, hidden),
            len(records) - len(shown),
        )

    def requests(self, product: str = "", user: str = NOBODY, *, mine: bool = False) -> RequestsPage:
        """What waits, the oldest first, and the hundred last that do not; of a product, or of what `user` owns."""
        product_of = owners(self._database)
        hidden = self._exchange.hidden(user)
        branch = production(self._settings).branch

        def owner(one: ContractRecord) -> str:
            return product_of.get(one.place.subject, "") if one.place.kind == "api" else one.place.subject

        def shows(one: ContractRecord) -> bool:
            if one.place.kind == "api" and one.place.subject in hidden:
                return False
            if product and owner(one) != product:
                return False
            return not mine or self._exchange.sight.may_change(user, owner(one), branch)

        waiting = self._waiting()
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
        seen = [one for one in (*waiting, *decided) if one.application != PORTAL]
        apis = [
            name
            for name, of in product_of.items()
            if name not in hidden
            and (not product or of == product)
            and (not mine or self._exchange.sight.may_change(user, of, branch))
        ]
        return RequestsPage(
            tuple(one for one in reversed(waiting) if shows(one)),
            tuple(one for one in decided if one.application != PORTAL and shows(one)),
            tiers,
            product_of,
            tuple(sorted({owner(one) for one in seen if one.place.subject not in hidden} - {""})),
            product,
            mine,
            user,
            remarks.unanswered(self._database, apis),
        )

    def uses(self, product: str, service: str, user: str = NOBODY, after: str = "") -> UsesPage:
        """Who may use what, of a product or a service, or all of it; no people, as nobody signs in to see it.

        Invalid for a place that no page ended at.
        """
        owner = owners(self._database).get(service, "")
        hidden = self._exchange.hidden(user)
        every = [
            use
            for use in uses(self._settings, self._database)
            if (use.by in {"application", "key"} or use.is_open_way)
            and (use.what == "product" or use.name not in hidden)
        ]
        found = [
            use
            for use in every
            if (not product or use.product == product) and (not service or use.covers(service, owner))
        ]
        names = tuple(sorted({use.product for use in every if use.product}))
        some, next_ = one_page(found, after=after, limit=A_PAGE_OF_USES)
        return UsesPage(some, product, service, names, not after, next_)

    def _offers(self) -> Mapping[str, Offer]:
        with self._database.read() as cx:
            return offers(cx)

    def _tiers(self, known: Mapping[str, Offer], api: str) -> tuple[Tier, ...]:
        return known.get(api, Offer()).tiers or mesh_tiers(self._settings)

    def _open(self, known: Mapping[str, Offer], api: str) -> tuple[Tier, ...]:
        tiers = self._tiers(known, api)
        return tuple(tier for tier in tiers if tier.visibility == "public" and not tier.deprecated)


def _without(application: Application, hidden: Collection[str]) -> Application:
    """An application without its contracts for APIs that who reads does not see."""
    if not hidden:
        return application
    return replace(
        application, contracts=tuple(one for one in application.contracts if one.service not in hidden)
    )
