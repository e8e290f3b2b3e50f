"""The page of one API: what it is, its versions and operations, how it is, what it asks of callers, what people say.

Put together from what is applied, packaged and counted. Of what answers an API outsiders are told the kind alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tulle.catalog.api_keys import KeysView, keys_view
from tulle.catalog.api_status import Answering, Status, status_of
from tulle.catalog.exchange import Exchange, problem_of
from tulle.catalog.openapi import Api, Operation, read_api
from tulle.catalog.service import ServiceView
from tulle.catalog.service_policies import PoliciesView, policies_view
from tulle.catalog.shown_operation import Shown, shown
from tulle.catalog.way_forms import WayForm
from tulle.catalog.way_words import API_KEY, OPEN, in_words
from tulle.config import Settings
from tulle.errors import NotFound, TulleError, did_you_mean
from tulle.gateway.apis import records, remarks
from tulle.gateway.apis.declared import Page, Target
from tulle.gateway.apis.document import address_of, as_met
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.records import Life, RecordedApi
from tulle.gateway.apis.remarks import Question, Ratings
from tulle.gateway.apis.service_life import life_of
from tulle.gateway.faults import fault_of
from tulle.gateway.in_force import InForce, of_instance, ways_of_instance
from tulle.gateway.offer import MESH, offers
from tulle.gateway.policies.opening import WaysIn, ways_in
from tulle.observe.insight import Insight
from tulle.serving.access import Access
from tulle.serving.ways_in import WayIn
from tulle.spec.environment import places, production
from tulle.spec.openapi_compare import ApiChange, compare_openapi
from tulle.spec.tier import Offer, Terms, Tier, mesh_tiers
from tulle.state.db import now

MOST_CHANGES: Final = 300  # of two versions, shown
_WHY_NOT: Final[Mapping[str, str]] = {
    "draft": "it is a draft, which consumers cannot call yet",
    "retired": "it has ended",
}
_TRUST: Final = (
    "The gateway's certificate is the mesh's own: give curl the file of its authority with --cacert."
)
A_PART: Final = 50  # operations on one page


@dataclass(frozen=True, slots=True)
class Address:
    """Where a version is called in one environment, and by what it is answered, in words."""

    environment: str
    is_consumers: bool
    url: str
    path: str
    hosts: tuple[str, ...]
    answered_by: str
    is_mock: bool
    answers: bool
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an API: where it is in its life, its ways in, where it is."""

    version: str
    life: Life
    access: Access
    called_by: WaysIn
    addresses: tuple[Address, ...]
    has_document: bool

    @property
    def ways(self) -> tuple[str, ...]:
        """How callers show who they are, in words."""
        return in_words(self.called_by.all())


@dataclass(frozen=True, slots=True)
class ApiPage:
    """What the page shows; without an `api`, `api_problem` says why. `reader` is who looks, empty for nobody."""

    name: str
    title: str
    summary: str
    product: str
    domain: str
    owner: str
    tags: tuple[str, ...]
    visibility: str
    visible_to: tuple[str, ...]
    contact: Mapping[str, str]
    pages: tuple[Page, ...]
    versions: tuple[Version, ...]
    chosen: Version
    address: Address | None
    api: Api | None
    api_problem: str
    operations: tuple[Shown, ...]
    policies: PoliciesView
    tiers: tuple[Tier, ...]
    terms: Terms | None
    takes_contracts: bool
    opens_chosen: bool  # a contract that is made now opens the chosen version
    status: Status
    ratings: Ratings
    mine: int  # how the reader rated it, 0 where they did not
    questions: tuple[Question, ...]
    reader: str
    is_owner: bool
    is_service: bool
    keys: KeysView | None = None  # of an API, for those who keep it
    trust: str = ""  # what callers need to trust the gateway
    part: int = 1  # of the operations, counted from 1
    parts: int = 1

    @property
    def tried_by(self) -> tuple[WayForm, ...]:
        """Each way in that one of the operations has, for a form to try them."""
        return tuple({way.id: way for one in self.operations for way in one.ways}.values())

    @property
    def first_call(self) -> Shown | None:
        """What somebody who is new here may paste first: an operation that reads, where there is one."""
        called = [one for one in self.operations if one.curl]
        reads = (one for one in called if one.operation.method == "get")
        return next(reads, called[0] if called else None)

    @property
    def before_chosen(self) -> str:
        """The version before the chosen one, empty for the first."""
        names = [one.version for one in self.versions]
        number = names.index(self.chosen.version)
        return names[number - 1] if number else ""

    @property
    def needs_nothing(self) -> bool:
        """Whether the chosen version is called by whoever likes to."""
        return () in self.chosen.called_by.usual

    @property
    def needs_no_contract(self) -> bool:
        """Whether a contract adds nothing to what the chosen version is called by; tokens and users may need one."""
        return set(self.chosen.ways) <= {OPEN, API_KEY}


@dataclass(frozen=True, slots=True)
class ApiChanges:
    """What differs between two versions; `problem` is why they cannot be compared."""

    name: str
    title: str
    versions: tuple[str, ...]
    before: str
    after: str
    changes: tuple[ApiChange, ...]
    more: int
    problem: str = ""

    @property
    def breaking(self) -> tuple[ApiChange, ...]:
        """Those by which callers of the first break."""
        return tuple(one for one in self.changes if one.breaking)

    @property
    def others(self) -> tuple[ApiChange, ...]:
        """Those that nobody has to follow."""
        return tuple(one for one in self.changes if not one.breaking)


class ApiPages:
    """The pages of one mesh's APIs. Safe to share between threads."""

    def __init__(self, exchange: Exchange, insight: Insight) -> None:
        self._exchange = exchange
        self._insight = insight

    @property
    def _settings(self) -> Settings:
        return self._exchange.settings

    def page(self, name: str, user: str, version: str = "", environment: str = "", part: int = 1) -> ApiPage:
        """One API, at one of its versions in one environment; without, the usual ones. NotFound.

        Of many operations it has one part.
        """
        found, at = self._exchange.api(name, user), now()
        versions = tuple(self._versions(found, user))
        chosen = _chosen(name, versions, version)
        address = _address(name, chosen, environment)
        document, problem = self._read(found, chosen, address)
        api = read_api(document) if document is not None else None
        is_service = isinstance(found, ServiceView)
        said = None if isinstance(found, ServiceView) else found.declared
        product = found.product if isinstance(found, ServiceView) else found.declared.product
        owned_by = self._exchange.product(product)
        offer, ways = self._offer(name), self._ways(found, chosen, address)
        rated = remarks.ratings(self._exchange.database, name)
        every = api.operations if api else ()
        parts = max(1, -(-len(every) // A_PART))
        part = min(part, parts)
        some = every[(part - 1) * A_PART : part * A_PART]
        is_owner = bool(user) and self._exchange.sight.may_change(
            user, product, production(self._settings).branch
        )
        keys = None
        if is_owner and not isinstance(found, ServiceView):
            keys = keys_view(self._settings, self._exchange.database, found)
        return ApiPage(
            name=name,
            title=(said.title if said else "") or name,
            summary=said.summary if said else getattr(found, "description", ""),
            product=product,
            domain=owned_by.domain if owned_by else "",
            owner=owned_by.owner if owned_by else "",
            tags=said.tags if said else (),
            visibility=said.visibility if said else "public",
            visible_to=said.visible_to if said else (),
            contact=said.contact if said else {},
            pages=said.pages if said else (),
            versions=versions,
            chosen=chosen,
            address=address,
            api=api,
            api_problem=problem,
            operations=tuple(_shown(document or {}, one, address, ways) for one in some),
            policies=self._policies(found, chosen, address, user),
            tiers=tuple(t for t in offer.tiers if t.visibility == "public" and not t.deprecated),
            terms=offer.terms,
            takes_contracts=any(one.life.takes_contracts(at) for one in versions),
            opens_chosen=chosen.life.takes_contracts(at),
            status=self._status(found, name, chosen),
            ratings=rated,
            mine=next((one.stars for one in rated.ratings if one.user == user), 0),
            questions=remarks.questions(self._exchange.database, name),
            reader=user,
            is_owner=is_owner,
            is_service=is_service,
            keys=keys,
            trust=_TRUST
            if self._settings.gateway_tls is not None and self._settings.gateway_tls.self_signed
            else "",
            part=part,
            parts=parts,
        )

    def _status(self, found: RecordedApi | ServiceView, name: str, version: Version) -> Status:
        """How a version is where consumers are."""
        places = [one for one in version.addresses if one.is_consumers]
        up = [one for one in places if one.answers]
        answering = Answering(
            bool(up),
            bool(up) and all(one.is_mock for one in up),
            next((one.fault for one in places if one.fault), "") or _WHY_NOT.get(version.life.status, ""),
        )
        if isinstance(found, ServiceView):
            return status_of(self._insight, name, "", answering, {})
        return status_of(self._insight, name, "", answering, found.declared.objectives, version.version)

    def document(self, name: str, user: str, version: str = "", environment: str = "") -> Mapping[str, Any]:
        """The OpenAPI document of a version at the gateway's address. NotFound."""
        found = self._exchange.api(name, user)
        chosen = _chosen(name, tuple(self._versions(found, user)), version)
        return self._document(found, chosen, _address(name, chosen, environment))

    def operation(
        self, name: str, user: str, version: str, environment: str, method: str, path: str
    ) -> tuple[Operation, Address, tuple[WayIn, ...]]:
        """What a page may try, where, and by which ways.

        NotFound: nothing that is not declared, and no place that is not its own.
        """
        found = self._exchange.api(name, user)
        chosen = _chosen(name, tuple(self._versions(found, user)), version)
        address = _address(name, chosen, environment)
        if address is None:
            raise NotFound(f"API '{name}' {chosen.version} is nowhere to be called")
        for one in read_api(self._document(found, chosen, address)).operations:
            if (one.method, one.path) == (method.lower(), path):
                ways = self._ways(found, chosen, address)
                return one, address, ways.at(method.upper(), path, address.path)
        raise NotFound(f"API '{name}' {chosen.version} has no operation {method[:10]} {path[:100]}")

    def changes(self, name: str, user: str, before: str = "", after: str = "") -> ApiChanges:
        """What differs between two versions, without names the two newest. NotFound."""
        found = self._exchange.api(name, user)
        versions = tuple(self._versions(found, user))
        names = tuple(one.version for one in versions)
        title = name if isinstance(found, ServiceView) else found.declared.title or name
        if len(names) < 2 and not (before and after):
            return ApiChanges(
                name, title, names, "", "", (), 0, "It has one version, so there is nothing to compare."
            )
        one, other = (
            _chosen(name, versions, said or usual)
            for said, usual in ((before, names[-2]), (after, names[-1]))
        )
        try:
            documents = [self._document(found, each, _address(name, each, "")) for each in (one, other)]
        except TulleError as exc:
            return ApiChanges(name, title, names, one.version, other.version, (), 0, problem_of(exc))
        changes = compare_openapi(*documents)
        more = max(0, len(changes) - MOST_CHANGES)
        shown = tuple(sorted(changes, key=lambda change: not change.breaking)[:MOST_CHANGES])
        return ApiChanges(name, title, names, one.version, other.version, shown, more)

    def _versions(self, found: RecordedApi | ServiceView, user: str) -> Iterator[Version]:
        if isinstance(found, ServiceView):
            yield self._of_service(found)
            return
        belongs = self._belongs(user, found)
        at = list(instances([found], places(self._settings)))
        for version in found.declared.versions:
            mine = [one for one in at if one.version.version == version.version]
            yield Version(
                version.version,
                found.lives.get(version.version, Life()),
                next((one.access for one in mine if not one.environment), version.access),
                next(
                    (
                        ways_of_instance(self._settings, self._exchange.database, one)
                        for one in mine
                        if not one.environment
                    ),
                    ways_in((), version.access),
                ),
                tuple(self._address_of(one, belongs=belongs) for one in mine if one.answers),
                bool(version.openapi_digest) or bool(version.target.service),
            )

    def _address_of(self, one: Instance, *, belongs: bool) -> Address:
        settings, target = self._settings, one.target
        fault = fault_of(settings, f"{one.api.name}@{one.version.version}", one.environment)
        return Address(
            one.place,
            not one.environment,
            address_of(settings, one.path, one.hosts),
            one.path,
            one.hosts,
            str(target) if belongs else _in_words(target),
            target.mock,
            (target.mock or bool(target.service) or target.external is not None)
            and one.life.status != "retired",
            fault.sentence if fault is not None and belongs else "",
        )

    def _of_service(self, service: ServiceView) -> Version:
        ending = service.deployment.ending if service.deployment else None
        life = life_of(ending, now()) if service.active or ending else Life()
        path = f"/public/api/v1/{service.name}"
        answers = service.state == "active"
        place = production(self._settings).name
        address = Address(
            place, True, address_of(self._settings, path), path, (), f"service:{service.name}", False, answers
        )
        version = service.active.version if service.active else ""
        access = self._exchange.services.access(service.name)
        return Version(version, life, access, self._ways_of(service.name), (address,), has_document=True)

    def _belongs(self, user: str, found: RecordedApi | ServiceView) -> bool:
        product = found.product if isinstance(found, ServiceView) else found.declared.product
        return bool(user) and self._exchange.sight.belongs(user, product)

    # ── what holds ───────────────────────────────────────────────────────────────────────────────────────

    def _policies(
        self, found: RecordedApi | ServiceView, chosen: Version, address: Address | None, user: str
    ) -> PoliciesView:
        """Those in force there; how they are set is for people of the API's product."""
        own = f"version {chosen.version}" if chosen.version else "its file"
        otherwise = "its deployment" if isinstance(found, ServiceView) else "hand"
        view = policies_view(self._settings, partial(self._in_force, found, chosen, address), own, otherwise)
        return view if self._belongs(user, found) else view.without_settings()

    def _in_force(
        self, found: RecordedApi | ServiceView, chosen: Version, address: Address | None
    ) -> InForce:
        if isinstance(found, ServiceView):
            return self._exchange.services.in_force(found.name)
        return of_instance(self._settings, self._exchange.database, self._instance(found, chosen, address))

    def _ways(self, found: RecordedApi | ServiceView, chosen: Version, address: Address | None) -> WaysIn:
        if isinstance(found, ServiceView):
            return chosen.called_by
        instance = self._instance(found, chosen, address)
        return ways_of_instance(self._settings, self._exchange.database, instance)

    def _ways_of(self, service: str) -> WaysIn:
        try:
            return self._exchange.services.in_force(service).ways
        except TulleError:  # which the page tells in the place of the policies
            return ways_in((), self._exchange.services.access(service))

    def _instance(self, found: RecordedApi, chosen: Version, address: Address | None) -> Instance:
        place = address.environment if address is not None else production(self._settings).name
        return next(
            one
            for one in instances([found], places(self._settings))
            if one.version.version == chosen.version and one.place == place
        )

    # ── documents ────────────────────────────────────────────────────────────────────────────────────────

    def _read(
        self, found: RecordedApi | ServiceView, chosen: Version, address: Address | None
    ) -> tuple[Mapping[str, Any] | None, str]:
        try:
            return self._document(found, chosen, address), ""
        except TulleError as exc:
            return None, problem_of(exc)

    def _document(
        self, found: RecordedApi | ServiceView, chosen: Version, address: Address | None
    ) -> Mapping[str, Any]:
        if isinstance(found, ServiceView):
            return self._exchange.services.document(found.name)
        instance = self._instance(found, chosen, address)
        ways = ways_of_instance(self._settings, self._exchange.database, instance)
        text = records.openapi_text(self._exchange.database, found.name, chosen.version)
        if text is not None:
            return as_met(self._settings, json.loads(text), instance, ways)
        if instance.target.service:
            behind = self._exchange.services.document(instance.target.service)
            return as_met(self._settings, behind, instance, ways)
        raise NotFound(
            f"API '{found.name}' {chosen.version} has no OpenAPI document", hint="its owners may declare one"
        )

    def _offer(self, name: str) -> Offer:
        with self._exchange.database.read() as cx:
            known = offers(cx, [name])
        own = known.get(name, Offer())
        tiers = own.tiers or known.get(MESH, Offer()).tiers or mesh_tiers(self._settings)
        return Offer(tiers, own.terms)


def _in_words(target: Target) -> str:
    if target.mock:
        return "its examples"
    if target.external is not None:
        return "an external service"
    return "a service" if target.service else "nothing now"


def _chosen(name: str, versions: tuple[Version, ...], wanted: str) -> Version:
    """That version; without a name the newest that is published, else the newest. NotFound with the nearest."""
    if wanted:
        for one in versions:
            if one.version == wanted:
                return one
        known = [one.version for one in versions]
        hint = did_you_mean(wanted, known) or f"known: {', '.join(known)}"
        raise NotFound(f"API '{name}' has no version '{wanted[:60]}'", hint=hint)
    published = [one for one in versions if one.life.status == "published" and one.addresses]
    return (published or list(versions))[-1]


def _address(name: str, version: Version, environment: str) -> Address | None:
    if not environment:
        usual = [one for one in version.addresses if one.is_consumers]
        return next(iter([*usual, *version.addresses]), None)
    for one in version.addresses:
        if one.environment == environment:
            return one
    known = ", ".join(one.environment for one in version.addresses) or "none"
    raise NotFound(
        f"API '{name}' {version.version} is not in '{environment[:60]}'", hint=f"it is in: {known}"
    )


def _shown(document: Mapping[str, Any], operation: Operation, address: Address | None, ways: WaysIn) -> Shown:
    path = address.path if address is not None else ""
    here = ways.at(operation.method.upper(), operation.path, path)
    return shown(document, operation, address.url if address is not None else "", here)
