"""What the portal's pages show: one frozen value a page, and what several of them hold. Data alone."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.catalog.exchange_search import Entry
from tulle.catalog.gantt import Gantt
from tulle.catalog.history import CheckView, Findings, RunView
from tulle.catalog.hits import Hit
from tulle.catalog.lineage import Picture
from tulle.catalog.openapi import Api
from tulle.catalog.output import Output
from tulle.catalog.plan_history import PlanView
from tulle.catalog.product import DataSetView, ServiceLevel
from tulle.catalog.releases import ReleasesPage
from tulle.catalog.repository import (
    RepositoryCard,
)
from tulle.catalog.service import ServiceView
from tulle.catalog.service_access import AccessView
from tulle.catalog.service_policies import PoliciesView
from tulle.errors import Problem
from tulle.gateway.versions.told import Pin
from tulle.lake.repository import Branch, Commit
from tulle.pipeline.schedule import Scheduled
from tulle.serving.look_ups import LookUp
from tulle.spec.product import DataProduct
from tulle.state.drift import Drift
from tulle.state.products import AppliedProduct

CARDS_A_DOMAIN = 3  # on the first page of a large mesh


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A supervised process."""

    name: str
    kind: str
    state: str
    url: str | None
    restarts: int
    why: str = ""  # it does not run


@dataclass(frozen=True, slots=True)
class ProductCard:
    """A product in a list."""

    product: DataProduct
    last_run: RunView | None
    services: tuple[str, ...]
    failing: tuple[CheckView, ...]


@dataclass(frozen=True, slots=True)
class DomainView:
    """A domain and its products."""

    name: str
    title: str
    description: str
    owner: str
    products: tuple[ProductCard, ...]


@dataclass(frozen=True, slots=True)
class HomePage:
    """What the first page shows."""

    name: str
    description: str
    domains: tuple[DomainView, ...]
    processes: tuple[ProcessView, ...]
    runs: tuple[RunView, ...]
    failing: tuple[tuple[str, CheckView], ...]  # (product, check)
    services: tuple[ServiceView, ...]
    applications: int
    picture: Picture
    problems: tuple[Problem, ...]
    is_large: bool = False
    pin: Pin | None = None  # to what the gateway was rolled back

    @property
    def cards_a_domain(self) -> int:
        """How many products of a domain it shows."""
        return CARDS_A_DOMAIN if self.is_large else len(self.products)

    @property
    def products(self) -> tuple[ProductCard, ...]:
        """The products of all domains."""
        return tuple(card for domain in self.domains for card in domain.products)


@dataclass(frozen=True, slots=True)
class ProductPage:
    """What the page of a product shows."""

    applied: AppliedProduct
    data_sets: tuple[DataSetView, ...]
    levels: tuple[ServiceLevel, ...]
    findings: Findings  # verdicts on checks, and where columns come from
    runs: tuple[RunView, ...]
    services: tuple[ServiceView, ...]
    picture: Picture
    branches: tuple[Branch, ...]
    commits: tuple[Commit, ...]
    upstream: tuple[str, ...]
    downstream: tuple[str, ...]
    problems: tuple[Problem, ...]
    releases: ReleasesPage
    plans: tuple[PlanView, ...]
    scheduled: Scheduled | None
    puts_aside: tuple[str, ...]  # data sets whose source puts rows aside that do not fit
    drift: Drift | None = None
    models: tuple[str, ...] = ()
    apis: tuple[Entry, ...] = ()  # that its files declare, as far as who reads may see them

    @property
    def product(self) -> DataProduct:
        """The product itself."""
        return self.applied.product


@dataclass(frozen=True, slots=True)
class RunPage:
    """What the page of a run shows; whether the branch it worked on is still there to be looked at."""

    run: RunView
    branch_is_kept: bool
    gantt: Gantt | None
    output: Output


@dataclass(frozen=True, slots=True)
class RunsPage:
    """A page of runs, counted from 1, and what they were chosen by."""

    runs: tuple[RunView, ...]
    number: int
    has_more: bool
    product: str = ""
    environment: str = ""
    status: str = ""
    statuses: tuple[str, ...] = ("queued", "running", "succeeded", "unchanged", "failed", "stopped")

    @property
    def chosen(self) -> tuple[tuple[str, str], ...]:
        """What they were chosen by, as an address says it."""
        said = {"product": self.product, "environment": self.environment, "status": self.status}
        return tuple((name, value) for name, value in said.items() if value)


@dataclass(frozen=True, slots=True)
class DomainPage:
    """A domain with some of its products; `next` continues them."""

    domain: DomainView
    count: int
    next: str


@dataclass(frozen=True, slots=True)
class Consumer:
    """An application that may call a service."""

    name: str
    client_id: str
    limit: str


@dataclass(frozen=True, slots=True)
class ServicesPage:
    """Every service; `problems` are of files that are not valid, whose services are not among them."""

    services: tuple[ServiceView, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class ServicePage:
    """What the page of a service shows; without an `api`, `api_problem` says why."""

    service: ServiceView
    api: Api | None
    api_problem: str
    consumers: tuple[Consumer, ...]
    workers: tuple[ProcessView, ...]
    access: AccessView
    look_ups: tuple[LookUp, ...] = ()  # of the version that answers, else of the newest
    environments: tuple[str, ...] = ()  # that of consumers first
    fault: str = ""  # why the gateway has it otherwise than it is wanted
    policies: PoliciesView = PoliciesView()


@dataclass(frozen=True, slots=True)
class RepositoriesPage:
    """A page of the lake's repositories; `next` continues it."""

    query: str
    repositories: tuple[RepositoryCard, ...]
    next: str


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What was looked for, and what was found."""

    query: str
    hits: tuple[Hit, ...]
