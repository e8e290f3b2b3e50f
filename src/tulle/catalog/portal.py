"""The read model of the portal: one question a page, answered with frozen values. Changes nothing.

Knows every store; knows nothing of HTML. What cannot be read (a broken services file, a damaged package) is
told on the page it belongs to and never takes another page down.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tulle.catalog import flow, history
from tulle.catalog.api_page import ApiPages
from tulle.catalog.applications import Applications
from tulle.catalog.calendar import CalendarPage, calendar_page
from tulle.catalog.column_lineage import ColumnFlow, column_flow
from tulle.catalog.data_sets import DataSetReader
from tulle.catalog.exchange import Exchange, Services
from tulle.catalog.experiments import ExperimentsReader
from tulle.catalog.gantt import gantt
from tulle.catalog.gateway import GatewayReader
from tulle.catalog.hidden_names import HiddenNames
from tulle.catalog.history import Findings, RunView
from tulle.catalog.hits import find
from tulle.catalog.insight import InsightReader
from tulle.catalog.known import KnownProducts
from tulle.catalog.lake.opened import LakeBrowser
from tulle.catalog.lineage import Graph, draw
from tulle.catalog.log_masks import shown_of
from tulle.catalog.models import ModelReader
from tulle.catalog.openapi import read_api
from tulle.catalog.output import output_of
from tulle.catalog.page_values import (
    Consumer,
    DomainPage,
    DomainView,
    HomePage,
    ProcessView,
    ProductCard,
    ProductPage,
    RepositoriesPage,
    RunPage,
    RunsPage,
    SearchPage,
    ServicePage,
    ServicesPage,
)
from tulle.catalog.plan_history import PlansPage, plans_page
from tulle.catalog.product import PUBLISHED, Shelf, service_levels
from tulle.catalog.quality import QualityPage, quality_page
from tulle.catalog.queried import QueriedReader
from tulle.catalog.query_log import repository_name
from tulle.catalog.query_masks import masked_document, rules_of
from tulle.catalog.readers import Readers
from tulle.catalog.rejected import RejectedReader
from tulle.catalog.releases import ReleaseReader
from tulle.catalog.repository import (
    has_branch,
    published,
    repository_card,
)
from tulle.catalog.schedules import SchedulesPage, schedules_page
from tulle.catalog.service import ServiceView, read_document, service_view, shown
from tulle.catalog.service_access import AccessView, access_now, access_view
from tulle.catalog.service_compare import ComparePage, compare_page
from tulle.catalog.service_deployments import DeploymentsReader
from tulle.catalog.service_design import DesignPage, Suggested, design_page, suggested
from tulle.catalog.service_load import LoadReader
from tulle.catalog.service_policies import PoliciesView, policies_view
from tulle.config import Settings
from tulle.errors import Invalid, NotFound, Problem, TulleError, did_you_mean
from tulle.gateway import applications as registered
from tulle.gateway.apis.sight import NOBODY, Sight
from tulle.gateway.applications import Application
from tulle.gateway.faults import fault_of
from tulle.gateway.holders import holders
from tulle.gateway.in_force import InForce, Said, of_service, said_at_deployments
from tulle.gateway.policies.opening import WaysIn, ways_in
from tulle.lake.access import Access as People
from tulle.lake.access import open_access
from tulle.lake.repository import Branch, Commit, Lake, Repository
from tulle.observe.calls import Calls
from tulle.observe.insight import Insight
from tulle.pipeline import schedule
from tulle.pipeline.saved_models import names_of
from tulle.pipeline.schedule import Scheduled
from tulle.serving import generation, package
from tulle.serving.access import Access, access_of
from tulle.serving.look_ups import LookUp, look_ups
from tulle.serving.openapi_access import with_ways
from tulle.serving.package import Package
from tulle.serving.service import Service, file_of
from tulle.spec.capability import Capability, Registry
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.spec.source import QUARANTINE
from tulle.spec.tier import limits_in_words
from tulle.state import drift, products
from tulle.state.db import Database
from tulle.state.products import AppliedProduct

PORTAL = "tulle-portal"  # the application the portal itself calls services as
PUBLISHED_SHOWN = 10
PLANS_SHOWN = 5  # on the page of a product
RUNS_A_PAGE = 50
CALLERS_DRAWN = 5  # of a service, in a picture
PRODUCTS_A_PAGE = 60
PICTURED = 60  # products that one picture holds
REPOSITORIES_A_PAGE = 50
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Declared:
    product: DataProduct
    service: Service


@dataclass(slots=True)
class _Mesh:
    """What one page needs again and again, read once."""

    applied: tuple[AppliedProduct, ...]
    declared: Mapping[str, _Declared]
    problems: Mapping[str, tuple[Problem, ...]]  # by product
    by_name: Mapping[str, DataProduct] = field(init=False)
    newest_runs: dict[str, RunView | None] = field(default_factory=dict)  # filled as they are asked for

    def __post_init__(self) -> None:
        self.by_name = {item.product.name: item.product for item in self.applied}

    def find(self, name: str) -> DataProduct | None:
        return self.by_name.get(name)


class Reader:
    """Answers the portal's questions about one mesh. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        lake: Lake,
        registry: Registry,
        processes: Callable[[], Sequence[ProcessView]],
        collect: Callable[[str], object] | None = None,
        calls: Calls | None = None,
        people: People | None = None,
    ) -> None:
        """`processes` are those of the running mesh; `collect` brings a service's query log up to date.

        `people` are users and what they may do.
        """
        self.settings = settings
        self._database = database
        self._lake = lake
        self._registry = registry
        self._processes = processes
        self.known = KnownProducts(database)
        self._shelf = Shelf(settings, lake)
        self.browser = LakeBrowser(settings, lake, self._declared)
        self.releases = ReleaseReader(settings, database, lake, self.known)
        self.queried = QueriedReader(settings, database, lake, self._declared)
        self.deployments = DeploymentsReader(settings, database, processes)
        calls = calls or Calls(settings.state_folder)
        self.gateway = GatewayReader(settings, database)
        self.insight = InsightReader(settings, database, calls)
        people = people or open_access(database, settings.state_folder / "secret.key")
        self.readers = Readers(people)
        services = Services(self.services, self.openapi, self._access_now, self._in_force)
        self.exchange = Exchange(settings, database, self.known, Sight(database, people), services)
        self.api_pages = ApiPages(self.exchange, Insight(calls))
        self.callers = Applications(settings, database, self.exchange, Insight(calls))
        self.load = LoadReader(settings, lake, collect)
        self.rejected = RejectedReader(settings, database, lake, self.known)
        self.models = ModelReader(database, lake, self.known)
        self.experiments = ExperimentsReader(database)
        self.data_sets = DataSetReader(database, lake, self._shelf, self._findings_of, self._columns)
        self._memory: dict[tuple[str, str], tuple[object, Any]] = {}  # one entry a product or service and use
        self._lock = threading.Lock()

    def take_up(self, settings: Settings) -> None:
        """Answer by other settings from now on."""
        self.settings = self.exchange.settings = settings
        self.callers.take_up(settings)
        self.gateway.take_up(settings)

    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────

    def home(self, user: str = NOBODY) -> HomePage:
        """Domains with their products, and how the mesh is, of services those that `user` may see."""
        mesh, unseen = self._mesh(), self._hidden(user)
        services = self._seen(mesh, user)
        mesh.newest_runs |= dict.fromkeys(mesh.by_name) | history.newest(self._database)
        runs = history.recent(self._database, limit=8)
        cards = [self._card(mesh, item.product, services) for item in mesh.applied]
        return HomePage(
            name=self.settings.name,
            description=self.settings.description,
            domains=tuple(_domains(cards)),
            processes=tuple(one for one in self._processes() if not unseen.are_in(f"{one.name} {one.why}")),
            runs=runs,
            failing=tuple((card.product.name, check) for card in cards for check in card.failing),
            services=services,
            applications=registered.count(self._database),
            picture=draw(
                self._graph(mesh, services)
                if len(mesh.applied) <= PICTURED
                else flow.domains([item.product for item in mesh.applied])
            ),
            problems=self._problems(mesh, user),
            is_large=len(mesh.applied) > PICTURED,
            pin=self.gateway.pin(),
        )

    def domain(self, name: str, after: str = "", user: str = NOBODY) -> DomainPage:
        """A domain with its products by name, from `after` on. NotFound with the nearest name."""
        mesh = self._mesh()
        mine = sorted(
            (p for p in mesh.by_name.values() if p.domain == name), key=lambda product: product.name
        )
        if not mine:
            known = {product.domain for product in mesh.by_name.values()}
            hint = did_you_mean(name, known) or "`tulle apply` registers products with their domains"
            raise NotFound(f"there is no domain '{name}'", hint=hint)
        mesh.newest_runs |= dict.fromkeys(mesh.by_name) | history.newest(self._database)
        services = self._seen(mesh, user)
        rest = [product for product in mine if product.name > after]
        shown = rest[:PRODUCTS_A_PAGE] or mine[-1:]
        (view,) = _domains([self._card(mesh, product, services) for product in shown])
        return DomainPage(view, len(mine), shown[-1].name if len(rest) > len(shown) else "")

    def product(self, name: str, user: str = NOBODY) -> ProductPage:
        """Everything about a product; of APIs and services what `user` may see. NotFound with the nearest name."""
        applied = products.applied_product(self._database, name)
        product = applied.product
        mesh, hidden = self._mesh(), self._hidden(user)
        services = self._seen(mesh, user)
        branches, commits = self._versions(name)
        return ProductPage(
            applied=applied,
            data_sets=self._shelf.data_sets(product),
            levels=service_levels(product),
            findings=self._findings(mesh, product),
            runs=history.recent(self._database, product=name, limit=10),
            services=tuple(service for service in services if service.product == name or service.reads(name)),
            picture=draw(self._graph(mesh, services, name), f"product:{name}"),
            branches=branches,
            commits=commits,
            upstream=tuple(dict.fromkeys(p.product for p in product.input_ports if p.product)),
            downstream=tuple(
                other.product.name
                for other in mesh.applied
                if any(port.product == name for port in other.product.input_ports)
            ),
            problems=self._problems(mesh, user, name),
            apis=tuple(one for one in self.exchange.declared(user) if one.product == name),
            releases=self.releases.page(name),
            plans=plans_page(self._database, name, limit=PLANS_SHOWN, hidden=hidden).plans,
            scheduled=_scheduled(self._database, name),
            puts_aside=tuple(
                port.data_set
                for port in product.input_ports
                if port.source is not None and port.source.on_bad_rows == QUARANTINE
            ),
            drift=hidden.drift(drift.found_of(self._database, name)),
            models=self._models(name),
        )

    def plans(self, product: str = "", user: str = NOBODY) -> PlansPage:
        """The plans that were carried out, of one product or of all, without what `user` does not find. NotFound."""
        return plans_page(self._database, product, hidden=self._hidden(user))

    def quality(self, name: str, environment: str = "main") -> QualityPage:
        """What the checks of a product found over time. NotFound."""
        products.applied_product(self._database, name)
        return quality_page(self._database, name, environment)

    def run(self, run_id: str, user: str = NOBODY) -> RunPage:
        """One run. NotFound."""
        unseen = self._hidden(user)
        run = unseen.run(history.run_view(self._database, run_id, self._declared))
        repository = self._repository(run.product)
        is_kept = bool(run.branch) and repository is not None and has_branch(repository, run.branch)
        output = output_of(self.settings, run.id, self._declared(run.product))
        return RunPage(
            run, is_kept, gantt(run), replace(output, text=unseen.masked(output.text, run.product))
        )

    def runs(self, *, product: str = "", environment: str = "", status: str = "", page: int = 1) -> RunsPage:
        """A page of runs, the newest first, of those that are asked for."""
        found = history.recent(
            self._database,
            product=product or None,
            environment=environment or None,
            status=status or None,
            offset=(page - 1) * RUNS_A_PAGE,
            limit=RUNS_A_PAGE + 1,
        )
        return RunsPage(found[:RUNS_A_PAGE], page, len(found) > RUNS_A_PAGE, product, environment, status)

    def schedules(self, user: str = NOBODY) -> SchedulesPage:
        """What runs by itself: the next days, what is in force, what fired."""
        page, unseen = schedules_page(self._database), self._hidden(user)
        past = tuple(replace(one, message=unseen.masked(one.message, one.product)) for one in page.past)
        wrong = (one for one in page.wrong if not unseen.are_in(one.about, one.product))
        return replace(
            page,
            past=past,
            wrong=tuple(replace(one, message=unseen.masked(one.message, one.product)) for one in wrong),
        )

    def calendar(self, month: str = "", product: str = "", day: str = "") -> CalendarPage:
        """A month of what ran by itself and what comes, of one product or of all. Invalid."""
        return calendar_page(self._database, month, product=product, day=day)

    def services(self, user: str | None = None) -> tuple[ServiceView, ...]:
        """Every service that `user` may see, by name; None sees all."""
        return self._seen(self._mesh(), user)

    def demand_seen(self, name: str, user: str) -> None:
        """NotFound, as for a service that is not there, where `user` may not see the API of this name."""
        hidden, mesh = self.exchange.hidden(user), self._mesh()
        known = {*mesh.declared, *(one.service for one in generation.everywhere(self._database))}
        is_there = name in known or self._file_of(name) or package.packages(self._database, name)
        if name in hidden or not is_there:
            raise _no_service(name, known - hidden)

    def services_page(self, user: str = NOBODY) -> ServicesPage:
        """Every service that `user` may see, and what is wrong with files that declare some."""
        mesh = self._mesh()
        return ServicesPage(self._seen(mesh, user), self._problems(mesh, user))

    def service(self, name: str) -> ServiceView:
        """One service. NotFound with the nearest name."""
        known = {service.name: service for service in self.services()}
        if name not in known:
            if (broken := self._file_of(name)) is not None:
                raise Invalid(
                    f"{broken[1].name} of product '{broken[0].name}' is not valid",
                    hint=f"/services/{name}/design shows the file and what is wrong with it",
                )
            raise _no_service(name, known)
        return known[name]

    def service_page(self, name: str) -> ServicePage:
        """One service with its API, who may call it and what answers. NotFound with the nearest name."""
        service = self.service(name)
        api, problem = None, ""
        try:
            api = read_api(self.openapi(name))
        except NotFound:
            problem = "The API is described once there is a package."
        except TulleError as exc:
            problem = str(exc)
        consumers = [
            Consumer(one.application, one.client_id, limits_in_words(one.limits))
            for one in holders(self._database).get(name, ())
        ]
        workers = [p for p in self._processes() if p.name.split("/")[0] == name]
        usual = production(self.settings).name
        fault = fault_of(self.settings, name)
        return ServicePage(
            service,
            api,
            problem,
            tuple(consumers),
            tuple(workers),
            self._access(name),
            self._look_ups(service),
            tuple(sorted(self.settings.environments, key=lambda one: (one != usual, one))),
            fault.sentence if fault is not None else "",
            self._policies(name),
        )

    def _policies(self, name: str) -> PoliciesView:
        chosen = shown(package.packages(self._database, name), generation.find(self._database, name))
        own = "its file" if chosen is None else f"version {chosen.version}"
        return policies_view(self.settings, partial(self._in_force, name), own)

    def _in_force(self, name: str) -> InForce:
        """What holds for a service where consumers are."""
        declared = self._mesh().declared.get(name)
        chosen = shown(package.packages(self._database, name), generation.find(self._database, name))
        return self._held(said_at_deployments(self._database), name, declared, chosen)

    def _ways(self, said: Said, name: str, declared: _Declared | None, chosen: Package | None) -> WaysIn:
        """What callers of a service send; the usual where that cannot be read, which its page tells."""
        try:
            return self._held(said, name, declared, chosen).ways
        except TulleError:
            return ways_in((), declared.service.access if declared is not None else Access())

    def _held(self, said: Said, name: str, declared: _Declared | None, chosen: Package | None) -> InForce:
        place = ("", production(self.settings).name)
        product = declared.product if declared is not None else None
        if chosen is not None:
            access, plain = access_of(chosen.manifest.access), chosen.manifest.policies
        elif declared is not None:
            access, plain = declared.service.access, declared.service.policies
        else:
            access, plain = Access(), ()
        return of_service(self.settings, said, name, place, access=access, plain=plain, product=product)

    def _look_ups(self, service: ServiceView) -> tuple[LookUp, ...]:
        if not service.versions:
            return ()
        with contextlib.suppress(NotFound):  # a package that was removed a moment ago
            return tuple(look_ups(self.settings, self._database, self._lake, service.name)[1])
        return ()

    def compare(self, name: str, left: str = "", right: str = "") -> ComparePage:
        """Two versions of a service, to be compared. NotFound."""
        return compare_page(self._database, name, left, right)

    def design(self, name: str) -> DesignPage:
        """A service as its product declares it now. NotFound."""
        found = self._file_of(name)
        if found is None:
            self.service(name)
            raise NotFound(f"service '{name}' is declared no longer", hint="its versions are on its page")
        product, file = found
        return design_page(name, product.name, product.folder, file)

    def _file_of(self, name: str) -> tuple[DataProduct, Path] | None:
        """Whose service it is and the file that declares it, whatever is wrong with that."""
        mesh = self._mesh()
        if (declared := mesh.declared.get(name)) is not None:
            return declared.product, declared.service.file
        for product in map(mesh.by_name.__getitem__, mesh.problems):
            if (file := file_of(product, name)) is not None:
                return product, file
        return None

    def suggested(self, name: str, product: str, data_set: str) -> Suggested:
        """What a look-up of a declared service may mean; without a product in its own one. NotFound."""
        found = self._file_of(name)
        own = found[0].name if found else self.service(name).product
        everything = (one.product for one in self.known.all().values())
        return suggested(everything, product or own, data_set)

    def _access_now(self, name: str) -> Access:
        declared = self._mesh().declared.get(name)
        chosen = shown(package.packages(self._database, name), generation.find(self._database, name))
        usual = declared.service.access if declared is not None else Access()
        return access_now(self._database, name, usual, chosen)[0]

    def _access(self, name: str) -> AccessView:
        declared = self._mesh().declared.get(name)
        versions = package.packages(self._database, name)
        chosen = shown(versions, generation.find(self._database, name))
        usual = declared.service.access if declared is not None else Access()
        return access_view(self._database, name, usual, chosen)

    def openapi(self, name: str) -> Mapping[str, Any]:
        """The OpenAPI document of the version that answers, else of the newest. NotFound before there is one."""
        versions = package.packages(self._database, name)
        chosen = shown(versions, generation.find(self._database, name))
        if chosen is None:
            self.service(name)
            raise NotFound(f"service '{name}' has no package yet", hint=f"`tulle service package {name}`")
        document: Mapping[str, Any] = self._remembered(
            ("openapi", name),
            (chosen.version, chosen.digest),
            partial(read_document, self.settings, chosen),
        )
        kinds = {str(one["name"]): str(one["type"]) for one in chosen.manifest.endpoints}
        document = masked_document(document, shown_of(chosen.manifest, self._declared), kinds)
        try:
            ways = self._in_force(name).ways
        except TulleError:  # of what is recorded, or of mesh.yaml, which the gateway tells
            return document
        return with_ways(
            document, ways.usual, lambda method, path: ways.at(method, path, f"/public/api/v1/{name}")
        )

    def applications(self) -> tuple[Application, ...]:
        """Every application that somebody registered, those in force first."""
        found = registered.applications(self._database, include_revoked=True)
        visible = [a for a in found if a.name != PORTAL]
        return tuple(sorted(visible, key=lambda a: (a.revoked_at is not None, a.name)))

    def capabilities(self) -> tuple[Capability, ...]:
        """Every component type."""
        return self._registry.all()

    def repositories(self, *, query: str = "", after: str = "", user: str = NOBODY) -> RepositoriesPage:
        """A page of repositories by name, of those whose name contains `query`; without queries of what is hidden."""
        known = self._mesh().by_name
        unseen = {repository_name(name) for name in self.exchange.hidden(user)}
        found = self._lake.repositories(search=query, after=after, limit=REPOSITORIES_A_PAGE + 1)
        shown = found[:REPOSITORIES_A_PAGE]
        return RepositoriesPage(
            query,
            tuple(
                repository_card(one, is_product=one.name in known) for one in shown if one.name not in unseen
            ),
            shown[-1].name if len(found) > len(shown) else "",
        )

    def search(self, query: str, user: str = NOBODY) -> SearchPage:
        """What holds every word of `query`, of APIs and services as far as `user` may see them."""
        if not query.strip():
            return SearchPage(query, ())
        mesh = self._mesh()
        apis = self.exchange.declared(user)
        return SearchPage(query, find(query, tuple(mesh.by_name.values()), self._seen(mesh, user), apis))

    def _hidden(self, user: str) -> HiddenNames:
        """What `user` does not find, and of whose people they are."""
        apis, names = self.exchange.names(), self.exchange.hidden(user)
        names |= {repository_name(name) for name in names}
        mine = [one for one in self.known.all() if self.exchange.sight.belongs(user, one)]
        return HiddenNames(names, apis, mine)

    def _problems(self, mesh: _Mesh, user: str, product: str = "") -> tuple[Problem, ...]:
        """What is wrong with files of one product or of all, as far as `user` may see what they declare."""
        if not mesh.problems:
            return ()
        hidden = self._hidden(user)
        return tuple(
            one
            for name, found in mesh.problems.items()
            for one in found
            if product in {"", name}
            and not hidden.is_their_file(one.place.file if one.place else "", name)
            and not hidden.are_in(f"{one.message} {one.hint or ''}", name)
        )

    # ── helpers ──────────────────────────────────────────────────────────────────────────────────────────

    def _declared(self, name: str) -> DataProduct | None:
        found = self.known.all().get(name)
        return found.product if found else None

    def _mesh(self) -> _Mesh:
        applied = tuple(self.known.all().values())
        declared: dict[str, _Declared] = {}
        problems: dict[str, tuple[Problem, ...]] = {}
        for item in applied:
            services, wrong = self.known.services(item.product)
            for service in services:
                declared.setdefault(service.name, _Declared(item.product, service))
            if wrong:
                problems[item.product.name] = wrong
        return _Mesh(applied, declared, problems)

    def _seen(self, mesh: _Mesh, user: str | None) -> tuple[ServiceView, ...]:
        """The services but for those with the name of an API that is hidden from `user`: an API may be over its own."""
        hidden = frozenset[str]() if user is None else self.exchange.hidden(user)
        return tuple(service for service in self._services(mesh) if service.name not in hidden)

    def _services(self, mesh: _Mesh) -> tuple[ServiceView, ...]:
        deployed = {d.service: d for d in generation.deployments(self._database)}
        said = said_at_deployments(self._database)
        found = []
        for name in sorted({*mesh.declared, *deployed}):
            declared, deployment = mesh.declared.get(name), deployed.get(name)
            owner = declared.product.name if declared else deployment.product if deployment else ""
            product = mesh.find(owner)
            versions = package.packages(self._database, name)
            spec = declared.service if declared else None
            view = service_view(
                self.settings,
                name,
                declared=spec,
                product=owner,
                domain=product.domain if product else "",
                versions=versions,
                deployment=deployment,
                ways=self._ways(said, name, declared, shown(versions, deployment)),
                rules=rules_of(shown(versions, deployment), spec, product, mesh.find),
            )
            found.append(view)
        return tuple(found)

    def _card(self, mesh: _Mesh, product: DataProduct, services: Sequence[ServiceView]) -> ProductCard:
        run = self._newest_run(mesh, product.name)
        failing = self._findings(mesh, product).failing
        mine = tuple(service.name for service in services if service.product == product.name)
        return ProductCard(product, run, mine, failing)

    def _graph(self, mesh: _Mesh, services: Sequence[ServiceView], around: str = "") -> Graph:
        """All of a mesh that is small; of a large one only what hangs together with `around`, a product."""
        near = self._near(mesh, services, around)
        shown = [item for item in mesh.applied if item.product.name in near]
        flows, models = {}, {}
        for item in shown:
            product = item.product
            flows[product.name] = self._remembered(
                ("flow", product.name), (product.digest, item.code_digest), partial(flow.flow_of, product)
            )
            models[product.name] = self._findings(mesh, product).models
        names = {item.product.name for item in shown}
        theirs = [s for s in services if s.product in names or any(map(s.reads, names))]
        return flow.graph([item.product for item in shown], flows, theirs, models, self._callers())

    def _near(self, mesh: _Mesh, services: Sequence[ServiceView], around: str) -> Collection[str]:
        if len(mesh.applied) <= PICTURED or not around:
            return mesh.by_name.keys()
        return flow.near(around, mesh.by_name.values(), services)

    def _findings_of(self, name: str) -> Findings:
        mesh = self._mesh()
        product = mesh.find(name)
        return self._findings(mesh, product) if product else Findings()

    def _columns(self, around: str, hidden: Collection[str]) -> ColumnFlow:
        """The columns of all products that hang together with one, without services that are `hidden`."""
        mesh = self._mesh()
        services = [service for service in self._services(mesh) if service.name not in hidden]
        names = flow.near(around, mesh.by_name.values(), services)
        shown = [product for name, product in mesh.by_name.items() if name in names]
        told = {product.name: self._findings(mesh, product) for product in shown}
        theirs = [s for s in services if any(map(s.reads, names)) or s.product in names]
        return column_flow(shown, told, theirs, self._callers(), hidden)

    def _callers(self) -> Mapping[str, Sequence[str]]:
        """The applications that may call each service; of many only how many there are."""
        return {
            name: [one.application for one in of] if len(of) <= CALLERS_DRAWN else [f"{len(of)} of {name}"]
            for name, of in holders(self._database).items()
        }

    def _newest_run(self, mesh: _Mesh, product: str) -> RunView | None:
        if product not in mesh.newest_runs:
            runs = history.recent(self._database, product=product, limit=1)
            mesh.newest_runs[product] = runs[0] if runs else None
        return mesh.newest_runs[product]

    def _findings(self, mesh: _Mesh, product: DataProduct) -> Findings:
        """What the newest runs found out; read again when there is a newer one, or one goes on."""
        newest = self._newest_run(mesh, product.name)
        return self._remembered(
            ("findings", product.name),
            (product.digest, newest and (newest.id, newest.finished_at)),
            partial(history.findings, self._database, product),
            keep=newest is None or newest.has_ended,
        )

    def _remembered(
        self, key: tuple[str, str], state: object, read: Callable[[], T], *, keep: bool = True
    ) -> T:
        """What was read before under `key`, if it was in the same `state`."""
        with self._lock:
            found = self._memory.get(key)
        if found is not None and found[0] == state:
            known: T = found[1]
            return known
        value = read()
        if keep:
            with self._lock:
                self._memory[key] = (state, value)
        return value

    def _repository(self, name: str) -> Repository | None:
        try:
            return self._lake.repository(name)
        except TulleError:
            return None

    def _models(self, product: str) -> tuple[str, ...]:
        repository = self._repository(product)
        try:
            return tuple(names_of(repository, PUBLISHED)) if repository is not None else ()
        except NotFound:  # no such branch yet
            return ()

    def _versions(self, product: str) -> tuple[tuple[Branch, ...], tuple[Commit, ...]]:
        repository = self._repository(product)
        if repository is None:
            return (), ()
        return tuple(repository.branches()), tuple(published(repository, PUBLISHED_SHOWN))


def _scheduled(database: Database, product: str) -> Scheduled | None:
    try:
        return schedule.scheduled(database, product)
    except NotFound:
        return None


def _domains(cards: Sequence[ProductCard]) -> Iterator[DomainView]:
    by_name: dict[str, list[ProductCard]] = defaultdict(list)
    for card in cards:
        by_name[card.product.domain].append(card)
    for name, mine in sorted(by_name.items()):
        told = max((card.product for card in mine), key=lambda p: len(p.domain_description))
        owner = next((card.product.domain_owner for card in mine if card.product.domain_owner), "")
        yield DomainView(name, told.domain_title or name, told.domain_description, owner, tuple(mine))


def _no_service(name: str, known: Collection[str]) -> NotFound:
    hint = did_you_mean(name, known) or "declare it in products/<domain>/<product>/services/"
    return NotFound(f"there is no service '{name}'", hint=hint)
