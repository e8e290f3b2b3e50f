"""The read model of the portal: one question a page, answered with frozen values. Changes nothing.

Here are the pages of products and runs and of the whole mesh; those of services, APIs, applications, models, data sets,
releases and the lake have readers of their own, which this one holds together. Knows nothing of HTML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from tulle.catalog import flow, history
from tulle.catalog.api_page import ApiPages
from tulle.catalog.applications import Applications
from tulle.catalog.calendar import CalendarPage, calendar_page
from tulle.catalog.data_sets import DataSetReader
from tulle.catalog.exchange import Exchange, Services
from tulle.catalog.experiments import ExperimentsReader
from tulle.catalog.gantt import gantt
from tulle.catalog.gateway import GatewayReader
from tulle.catalog.hits import find
from tulle.catalog.insight import InsightReader
from tulle.catalog.known import KnownProducts
from tulle.catalog.lake.masked import commit_masked
from tulle.catalog.lake.opened import LakeBrowser
from tulle.catalog.lineage import draw
from tulle.catalog.mesh_reader import Mesh, MeshReader
from tulle.catalog.models import ModelReader
from tulle.catalog.output import output_of
from tulle.catalog.page_values import (
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
    ServicesPage,
)
from tulle.catalog.pictures import PICTURED, Pictures
from tulle.catalog.plan_history import PlansPage, plans_page
from tulle.catalog.product import PUBLISHED, Shelf, service_levels
from tulle.catalog.quality import QualityPage, quality_page
from tulle.catalog.queried import QueriedReader
from tulle.catalog.readers import Readers
from tulle.catalog.rejected import RejectedReader
from tulle.catalog.releases import ReleaseReader
from tulle.catalog.repository import (
    has_branch,
    published,
    repository_card,
)
from tulle.catalog.schedules import SchedulesPage, schedules_page
from tulle.catalog.service import ServiceView
from tulle.catalog.service_deployments import DeploymentsReader
from tulle.catalog.service_load import LoadReader
from tulle.catalog.service_reader import ServiceReader
from tulle.catalog.unseen import Unseen
from tulle.config import Settings
from tulle.errors import NotFound, TulleError, did_you_mean
from tulle.gateway import applications as registered
from tulle.gateway.apis.sight import NOBODY, Sight
from tulle.lake.access import Access as People
from tulle.lake.access import open_access
from tulle.lake.repository import Branch, Commit, Lake, Repository
from tulle.observe.calls import Calls
from tulle.observe.insight import Insight
from tulle.pipeline import schedule
from tulle.pipeline.saved_models import names_of
from tulle.pipeline.schedule import Scheduled
from tulle.spec.capability import Capability, Registry
from tulle.spec.product import DataProduct
from tulle.spec.source import QUARANTINE
from tulle.state import drift, products
from tulle.state.db import Database

PUBLISHED_SHOWN = 10
PLANS_SHOWN = 5  # on the page of a product
RUNS_A_PAGE = 50
PRODUCTS_A_PAGE = 60
REPOSITORIES_A_PAGE = 50


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
        self._meshes = meshes = MeshReader(database, self.known)
        self.browser = LakeBrowser(settings, lake, meshes.product)
        self.releases = ReleaseReader(settings, database, lake, self.known)
        self.queried = QueriedReader(settings, database, lake, meshes.product)
        self.deployments = DeploymentsReader(settings, database, processes)
        calls = calls or Calls(settings.state_folder)
        self.gateway = GatewayReader(settings, database)
        self.insight = InsightReader(settings, database, calls)
        people = people or open_access(database, settings.state_folder / "secret.key")
        self.readers = Readers(people)
        sight = Sight(database, people)
        self.services = read = ServiceReader(settings, database, lake, meshes, sight, processes)
        self._pictures = Pictures(database, meshes, read.of_mesh)
        self.unseen = Unseen(database, sight, self.known)
        services = Services(read.all, read.openapi, read.access_now, read.in_force)
        self.exchange = Exchange(settings, database, self.known, sight, services)
        self.api_pages = ApiPages(self.exchange, Insight(calls))
        self.callers = Applications(settings, database, self.exchange, Insight(calls))
        self.load = LoadReader(settings, lake, collect)
        self.rejected = RejectedReader(settings, database, lake, self.known)
        self.models = ModelReader(database, lake, self.known)
        self.experiments = ExperimentsReader(database)
        self.data_sets = DataSetReader(
            database, lake, self._shelf, meshes.findings_of, self._pictures.columns
        )

    def take_up(self, settings: Settings) -> None:
        """Answer by other settings from now on."""
        self.settings = self.exchange.settings = settings
        self.services.take_up(settings)
        self.callers.take_up(settings)
        self.gateway.take_up(settings)

    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────

    def home(self, user: str = NOBODY) -> HomePage:
        """Domains with their products, and how the mesh is, of services those that `user` may see."""
        mesh, unseen = self._meshes.now(), self.unseen.of(user)
        services = self.services.seen(mesh, user)
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
                self._pictures.graph(mesh, services)
                if len(mesh.applied) <= PICTURED
                else flow.domains([item.product for item in mesh.applied])
            ),
            problems=self.unseen.problems(mesh, user),
            is_large=len(mesh.applied) > PICTURED,
            pin=self.gateway.pin(),
        )

    def domain(self, name: str, after: str = "", user: str = NOBODY) -> DomainPage:
        """A domain with its products by name, from `after` on. NotFound with the nearest name."""
        mesh = self._meshes.now()
        mine = sorted(
            (p for p in mesh.by_name.values() if p.domain == name), key=lambda product: product.name
        )
        if not mine:
            known = {product.domain for product in mesh.by_name.values()}
            hint = did_you_mean(name, known) or "`tulle apply` registers products with their domains"
            raise NotFound(f"there is no domain '{name}'", hint=hint)
        mesh.newest_runs |= dict.fromkeys(mesh.by_name) | history.newest(self._database)
        services = self.services.seen(mesh, user)
        rest = [product for product in mine if product.name > after]
        shown = rest[:PRODUCTS_A_PAGE] or mine[-1:]
        (view,) = _domains([self._card(mesh, product, services) for product in shown])
        return DomainPage(view, len(mine), shown[-1].name if len(rest) > len(shown) else "")

    def product(self, name: str, user: str = NOBODY) -> ProductPage:
        """Everything about a product; of APIs and services what `user` may see. NotFound with the nearest name."""
        applied = products.applied_product(self._database, name)
        product = applied.product
        mesh, hidden = self._meshes.now(), self.unseen.of(user)
        services = self.services.seen(mesh, user)
        branches, commits = self._versions(name)
        return ProductPage(
            applied=applied,
            data_sets=self._shelf.data_sets(product),
            levels=service_levels(product),
            findings=self._meshes.findings(mesh, product),
            runs=history.recent(self._database, product=name, limit=10),
            services=tuple(service for service in services if service.product == name or service.reads(name)),
            picture=draw(self._pictures.graph(mesh, services, name), f"product:{name}"),
            branches=branches,
            commits=tuple(commit_masked(one, partial(hidden.masked, product=name)) for one in commits),
            upstream=tuple(dict.fromkeys(p.product for p in product.input_ports if p.product)),
            downstream=tuple(
                other.product.name
                for other in mesh.applied
                if any(port.product == name for port in other.product.input_ports)
            ),
            problems=self.unseen.problems(mesh, user, name),
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
        return plans_page(self._database, product, hidden=self.unseen.of(user))

    def quality(self, name: str, environment: str = "main") -> QualityPage:
        """What the checks of a product found over time. NotFound."""
        products.applied_product(self._database, name)
        return quality_page(self._database, name, environment)

    def run(self, run_id: str, user: str = NOBODY) -> RunPage:
        """One run. NotFound."""
        unseen = self.unseen.of(user)
        run = unseen.run(history.run_view(self._database, run_id, self._meshes.product))
        repository = self._repository(run.product)
        is_kept = bool(run.branch) and repository is not None and has_branch(repository, run.branch)
        output = output_of(self.settings, run.id, self._meshes.product(run.product))
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
        page, unseen = schedules_page(self._database), self.unseen.of(user)
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

    def services_page(self, user: str = NOBODY) -> ServicesPage:
        """Every service that `user` may see, and what is wrong with files that declare some."""
        mesh = self._meshes.now()
        return ServicesPage(self.services.seen(mesh, user), self.unseen.problems(mesh, user))

    def capabilities(self) -> tuple[Capability, ...]:
        """Every component type."""
        return self._registry.all()

    def repositories(self, *, query: str = "", after: str = "", user: str = NOBODY) -> RepositoriesPage:
        """A page of repositories by name, of those whose name contains `query`; without queries of what is hidden."""
        known = self._meshes.now().by_name
        unseen = self.unseen.of(user)
        found = self._lake.repositories(search=query, after=after, limit=REPOSITORIES_A_PAGE + 1)
        shown = found[:REPOSITORIES_A_PAGE]
        return RepositoriesPage(
            query,
            tuple(
                repository_card(
                    one, is_product=one.name in known, hide=partial(unseen.masked, product=one.name)
                )
                for one in shown
                if not unseen.hides(one.name)
            ),
            shown[-1].name if len(found) > len(shown) else "",
        )

    def search(self, query: str, user: str = NOBODY) -> SearchPage:
        """What holds every word of `query`, of APIs and services as far as `user` may see them."""
        if not query.strip():
            return SearchPage(query, ())
        mesh = self._meshes.now()
        apis = self.exchange.declared(user)
        return SearchPage(
            query, find(query, tuple(mesh.by_name.values()), self.services.seen(mesh, user), apis)
        )

    def _card(self, mesh: Mesh, product: DataProduct, services: Sequence[ServiceView]) -> ProductCard:
        run = self._meshes.newest_run(mesh, product.name)
        failing = self._meshes.findings(mesh, product).failing
        mine = tuple(service.name for service in services if service.product == product.name)
        return ProductCard(product, run, mine, failing)

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
