"""A small mesh with real runs, a package and applications, and the portal's pages on it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from fastapi.responses import Response

from tulle.catalog.page_values import ProcessView
from tulle.catalog.pages import portal, render_failure
from tulle.catalog.portal import Reader
from tulle.catalog.routes import RoutedLate
from tulle.catalog.trial import Credentials, How, TryAnswer
from tulle.cli.connect import InProcess
from tulle.config import Settings
from tulle.errors import NotFound, TulleError
from tulle.gateway import applications as registered
from tulle.gateway.policy import RateLimit
from tulle.lake.repository import Lake, open_lake
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.graph import load_code
from tulle.pipeline.run import Run
from tulle.serving import generation, package
from tulle.serving.package import Package
from tulle.serving.service import load_services
from tulle.spec.capability import load_registry
from tulle.spec.mesh import load_mesh
from tulle.state import products
from tulle.state.db import Database, open_database

SALES = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop, owner: Jane}}
  - name: sales
    type: data-product
    properties:
      definition: What was sold <b>today</b>
      data_product_owner: Ann Owner
      data_product_type: Source Oriented
      version: 1.2.0
  - name: sales
    type: data-set
    properties:
      description: one row a sale
      columns:
      - {name: id, type: integer, key: true, description: the number of the sale}
      - {name: customer, type: string, required: true}
      - {name: email, type: string, pii: direct}
      - {name: amount, type: 'decimal(10,2)'}
  - name: till
    type: input-port
    properties:
      description: the till's export
      source:
        type: file
        path: data/sales.csv
        columns: [{name: id, type: integer}, {name: customer}, {name: email}, {name: amount, type: 'decimal(10,2)'}]
      data_set: till_rows
  - {name: sales files, type: output-port, properties: {description: all sales, data_set: sales}}
  - name: old sales files
    type: output-port
    properties: {description: as before, data_set: sales, deprecated: true, sunset: '2027-06-30', replaced_by: sales files}
  - {name: fresh every day, type: service-level-asset, properties: {description: daily, dimension: Freshness}}
  - name: days refreshed
    type: service-level-indicator
    properties: {description: share of days, service_level_name: fresh every day, objective: 80, window_days: 20}
  - {name: how to use it, type: data-sharing-agreement, properties: {description: ask Ann, terms: be kind, notice_period: 60 days}}
"""
PEOPLE = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: crm, type: domain, properties: {description: customers}}
  - {name: people, type: data-product, properties: {definition: what customers did, data_product_type: Aggregate}}
  - name: totals
    type: data-set
    properties:
      description: one row a customer
      columns: [{name: customer, type: string, key: true}, {name: total, type: 'decimal(12,2)'}]
  - name: from sales
    type: input-port
    properties: {description: all sales, product: sales, associated_output_port: sales files, data_set: sold}
"""
SERVICE = """
service: customer-totals
description: What a customer spent
endpoints:
- name: total
  type: lookup
  data_set: totals
  key: [customer]
  test_queries:
  - {name: ann, data: {customer: ann}}
"""
ROWS = "id,customer,email,amount\n1,ann,ann@x.org,10.50\n2,bob,bob@x.org,3\n3,ann,ann@x.org,1.25\n"
MESH = "name: test mesh\ndescription: for tests\nwarehouse: {threads: 1}\n"
CHECKS = "checks:\n- {data_set: sales, type: range, column: amount, min: 0, max: 100}\n"


@dataclass
class World:
    """The mesh, its stores, and the calls its portal made."""

    settings: Settings
    database: Database
    lake: Lake
    called: list[tuple[str, str, str, bytes, Credentials | None]] = field(default_factory=list)
    hows: list[How] = field(default_factory=list)
    answer: TryAnswer | TulleError = field(default_factory=lambda: TryAnswer(200, {}, "{}", 1.5))
    processes: list[ProcessView] = field(default_factory=list)

    def write(self, path: str, text: str) -> None:
        file = self.settings.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"))

    def apply(self) -> None:
        spec = load_mesh(self.settings.folder)
        with self.database.write() as connection:
            for product in spec.products:
                products.save(connection, product, code_digest=load_code(product).digest)

    def run(self, product: str) -> Run:
        run_id = runs.request(self.database, product)
        return execute(self.database, self.lake, load_mesh(self.settings.folder), run_id)

    def build(self) -> Package:
        product = products.applied_product(self.database, "people").product
        (service,) = load_services(product)
        return package.build(
            service,
            product=product,
            lake=self.lake,
            database=self.database,
            settings=self.settings,
            code_version="c0de",
        )

    def call(
        self,
        service: str,
        endpoint: str,
        action: str,
        body: bytes,
        credentials: Credentials | None,
        how: How,
    ) -> TryAnswer:
        self.hows.append(how)
        self.called.append((service, endpoint, action, body, credentials))
        if isinstance(self.answer, TulleError):
            raise self.answer
        return self.answer

    def reader(self) -> Reader:
        registry = load_registry(self.settings)
        return Reader(self.settings, self.database, self.lake, registry, lambda: self.processes)


def open_world(folder: Path) -> World:
    settings = load_mesh(folder).settings
    database = open_database(settings.database_url)
    return World(settings, database, open_lake(database, settings.storage_namespace))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[World]:
    """A mesh with no product."""
    folder = tmp_path / "mesh"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(MESH)
    made = open_world(folder)
    yield made
    made.database.close()


@pytest.fixture
def applied(empty: World) -> World:
    """A mesh of two products that never ran."""
    return with_products(empty)


def with_products(world: World) -> World:
    world.write("products/shop/sales/product.yaml", SALES)
    world.write("products/shop/sales/data/sales.csv", ROWS)
    world.write("products/shop/sales/transform/sales.sql", "SELECT * FROM till_rows\n")
    world.write("products/shop/sales/checks/sales.yaml", CHECKS)
    world.write("products/crm/people/product.yaml", PEOPLE)
    world.write(
        "products/crm/people/transform/totals.sql",
        "SELECT customer, sum(amount) AS total FROM sold GROUP BY customer\n",
    )
    world.write("products/crm/people/services/customer-totals.yaml", SERVICE)
    world.apply()
    for name in ("sales", "people"):
        world.lake.create_repository(name)
    return world


@pytest.fixture(scope="session")
def built_mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mesh after its runs, with an active service and an application that may call it; made once."""
    folder = tmp_path_factory.mktemp("built") / "mesh"
    folder.mkdir()
    (folder / "mesh.yaml").write_text(MESH)
    made = with_products(open_world(folder))
    assert made.run("sales").status == "succeeded"
    assert made.run("people").status == "succeeded"
    built = made.build()
    generation.request(made.database, built.service, built.version)
    generation.activate(made.database, built.service, built.version)
    limits = {built.service: RateLimit(5, 1000)}
    registered.register(made.database, "web-shop", owner="Web team", services=limits)
    registered.register(made.database, "tulle-portal", services=limits)
    made.database.close()
    return folder


@pytest.fixture
def world(built_mesh: Path, tmp_path: Path) -> Iterator[World]:
    """A copy of that mesh."""
    folder = tmp_path / "mesh"
    shutil.copytree(built_mesh, folder)
    made = open_world(folder)
    made.apply()  # products know their folder
    yield made
    made.database.close()


class Browser:
    """Gets pages as a browser does, without running their scripts."""

    def __init__(self, world: World) -> None:
        self.world = world
        app = self.app = RoutedLate(openapi_url=None)
        self.reader = world.reader()
        app.include(portal(self.reader, world.call))

        @app.exception_handler(TulleError)
        def failure(request: Request, exc: TulleError) -> Response:
            return render_failure(request, 404 if isinstance(exc, NotFound) else 422, exc)

        self.client = httpx.Client(transport=InProcess(app), base_url="http://127.0.0.1:8080")

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("text/html")
        return str(answer.text)

    def addresses(self) -> set[str]:
        """The paths of all that may be looked at."""
        return {path for path, said in self.app.openapi()["paths"].items() if "get" in said}

    def json(self, path: str) -> object:
        return self.client.get(path).json()

    def attempt(self, service: str, body: Mapping[str, object]) -> httpx.Response:
        return self.client.post(f"/services/{service}/try", json=dict(body))

    def __enter__(self) -> Browser:
        self.client.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.__exit__(None, None, None)


@pytest.fixture
def browser(world: World) -> Iterator[Browser]:
    with Browser(world) as opened:
        yield opened
