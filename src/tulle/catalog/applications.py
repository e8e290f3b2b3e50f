"""What the pages of applications show: who they are, what they asked for and use, what waits for a decision.

Of APIs that who reads may not see nothing is shown: neither their names nor what applications have to do with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tulle.catalog.exchange import Exchange
from tulle.catalog.uses import Use, Wanted, one_page, owners
from tulle.config import Settings
from tulle.errors import NotFound
from tulle.gateway import applications as registered
from tulle.gateway import contract_record
from tulle.gateway.apis import remarks
from tulle.gateway.apis.sight import NOBODY
from tulle.gateway.applications import PORTAL, Application
from tulle.gateway.contract_record import ContractRecord, Head
from tulle.gateway.last_used import last_used
from tulle.gateway.offer import MESH, offers
from tulle.observe.insight import Insight, Point, Which, span_of
from tulle.spec.environment import production
from tulle.spec.tier import Offer, Terms, Tier, mesh_tiers
from tulle.state.db import Database, now

A_PAGE = 60
OFFERED = 20  # services to choose from when access is asked for
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
    """One application, a page of what it asked for, the newest first, and of what else it may ask for.

    `offers` are some of those whose name contains `query`, by name; `offered` is how many there are.
    """

    application: Application
    records: tuple[ContractRecord, ...]
    last_used: Mapping[str, float]  # by service
    offers: Mapping[str, tuple[Tier, ...]]  # by service
    terms: Mapping[str, Terms]  # by service, those in force
    now: float
    usage: tuple[Usage, ...] = ()
    further_usage: int = 0  # APIs that it asks beside those of `usage`
    hidden: int = 0  # contracts and requests of the page for APIs that who reads does not see
    query: str = ""
    offered: int = 0
    page: int = 1  # counted from 1
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class RequestsPage:
    """A page of what waits for a decision, and what was decided last."""

    waiting: tuple[ContractRecord, ...]
    decided: tuple[ContractRecord, ...]
    tiers: Mapping[str, tuple[Tier, ...]]  # that an owner may give, by contract id
    product_of: Mapping[str, str]  # by service
    products: tuple[str, ...] = ()  # that anything is about
    product: str = ""  # the only one that is shown
    mine: bool = False  # only what who reads may decide about
    reader: str = ""
    questions: Mapping[str, int] = field(default_factory=dict)  # by API, those that no owner has answered
    count: int = 0  # of what waits on all pages
    page: int = 1
    query: str = ""  # part of a name, of what asks or what is asked for

    @property
    def pages(self) -> int:
        """Of what waits."""
        return max(1, -(-self.count // A_PAGE))

    @property
    def has_more(self) -> bool:
        """Whether another page of what waits follows."""
        return self.page * A_PAGE < self.count


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
            some = registered.applications(
                self._database,
                include_revoked=True,
                containing=query,
                owner=owner,
                after=after,
                limit=A_PAGE,
            )
            found += [a for a in some if a.name != PORTAL]
            if len(some) < A_PAGE:
                following = ""
                break
            after = f"{some[-1].name}/{some[-1].client_id}"
            if len(found) >= A_PAGE:
                following = after
                break
        theirs = Which(clients=tuple(one.client_id for one in found))
        told = self._insight.told("client", span_of("day"), theirs, limit=len(found), points=False)
        return ApplicationsPage(
            tuple(_without(one, hidden) for one in found),
            services,
            self._settings.default_rate_limit,
            last_used(self._database, clients=[one.client_id for one in found]),
            query,
            owner,
            following,
            sum(1 for one in self._waiting() if one.kind != "api" or one.subject not in hidden),
            {one.name["client"]: one.whole for one in told.series},
            user,
        )

    def _waiting(self) -> tuple[Head, ...]:
        """All requests that wait but the portal's own, the oldest first."""
        return tuple(
            one for one in contract_record.heads(self._database, "pending") if one.application != PORTAL
        )

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

    def one(self, name: str, user: str = NOBODY, *, query: str = "", page: int = 1) -> ApplicationPage:
        """One application; `query` is in the names of what it may ask for. NotFound, also for the portal's own."""
        if name == PORTAL:
            raise NotFound(f"there is no application '{name}'")
        found = registered.get(self._database, name)
        records = contract_record.records(
            self._database, application=found.client_id, limit=page * A_PAGE + 1
        )
        mine = records[(page - 1) * A_PAGE : page * A_PAGE]
        hidden = self._exchange.hidden(user)
        shown = tuple(one for one in mine if one.place.kind != "api" or one.place.subject not in hidden)
        there = sorted(
            one for one in set(owners(self._database)) - hidden if query.casefold() in one.casefold()
        )
        some = there[:OFFERED]
        with self._database.read() as cx:
            known = offers(cx, {*some, *(one.place.subject for one in shown)})
        used = last_used(self._database, clients=[found.client_id])
        usage = self._usage(found.client_id, hidden)
        return ApplicationPage(
            _without(found, hidden),
            shown,
            {service: at for (_, service), at in used.items()},
            {name: self._open(known, name) for name in some},
            {name: one.terms for name, one in known.items() if one.terms is not None and name not in hidden},
            now(),
            usage[:A_PAGE],
            len(usage[A_PAGE:]),
            len(mine) - len(shown),
            query,
            len(there),
            page,
            len(records) > page * A_PAGE,
        )

    def requests(
        self, product: str = "", user: str = NOBODY, *, mine: bool = False, query: str = "", page: int = 1
    ) -> RequestsPage:
        """A page of what waits, the oldest first, and the last decided; of a product, or of what `user` owns.

        With a `query`, of applications, APIs and products whose names contain it.
        """
        product_of = owners(self._database)
        hidden = self._exchange.hidden(user)
        branch = production(self._settings).branch

        def owner(kind: str, subject: str) -> str:
            return product_of.get(subject, "") if kind == "api" else subject

        def shows(kind: str, subject: str) -> bool:
            if kind == "api" and subject in hidden:
                return False
            of = owner(kind, subject)
            if product and of != product:
                return False
            return not mine or self._exchange.sight.may_change(user, of, branch)

        def is_meant(application: str, subject: str) -> bool:
            return query.casefold() in application.casefold() or query.casefold() in subject.casefold()

        heads = self._waiting()
        mine_of_them = [
            one for one in heads if shows(one.kind, one.subject) and is_meant(one.application, one.subject)
        ]
        some = mine_of_them[(page - 1) * A_PAGE : page * A_PAGE]
        waiting = contract_record.by_id(self._database, [one.id for one in some])
        decided = contract_record.records(
            self._database, states=["approved", "rejected", "revoked", "expired"], limit=100
        )
        with self._database.read() as cx:
            known = offers(cx, {one.place.subject for one in waiting})
        tiers = {
            one.id: tuple(
                tier
                for tier in self._tiers(known, one.place.subject if one.place.kind == "api" else MESH)
                if not tier.deprecated or tier.name == one.tier
            )
            for one in waiting
        }
        decided = tuple(one for one in decided if one.application != PORTAL)
        told = {(one.kind, one.subject) for one in heads}
        told |= {(one.place.kind, one.place.subject) for one in decided}
        apis = [
            name
            for name, of in product_of.items()
            if name not in hidden
            and (not product or of == product)
            and (not mine or self._exchange.sight.may_change(user, of, branch))
        ]
        return RequestsPage(
            waiting,
            tuple(
                one
                for one in decided
                if shows(one.place.kind, one.place.subject) and is_meant(one.application, one.place.subject)
            ),
            tiers,
            product_of,
            tuple(sorted({owner(*one) for one in told if one[1] not in hidden} - {""})),
            product,
            mine,
            user,
            remarks.unanswered(self._database, apis),
            len(mine_of_them),
            page,
            query,
        )

    def uses(self, product: str, service: str, user: str = NOBODY, after: str = "") -> UsesPage:
        """Who may use what, of a product or a service, or all of it; no people, as nobody signs in to see it.

        Invalid for a place that no page ended at.
        """
        product_of = owners(self._database)
        hidden = self._exchange.hidden(user)
        names = tuple(sorted({of for name, of in product_of.items() if name not in hidden} - {""}))

        def shows(use: Use) -> bool:
            return use.what == "product" or use.name not in hidden

        wanted = Wanted(product, service, product_of.get(service, ""), people=False)
        some, next_ = one_page(
            self._settings, self._database, wanted, shows, after=after, limit=A_PAGE_OF_USES
        )
        return UsesPage(some, product, service, names, not after, next_)

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
