"""A small mesh in a folder: `sales` reads a CSV, `features` builds on its output port."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.errors import AlreadyExists
from tulle.lake.repository import open_lake
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.spec.mesh import MeshSpec, load_mesh
from tulle.state.db import open_database

SALES = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: sales, type: data-product, properties: {definition: what was sold}}
  - name: sales
    type: data-set
    properties:
      description: one row a sale
      columns:
      - {name: id, type: integer, key: true}
      - {name: customer, type: string, required: true}
      - {name: day, type: date}
      - {name: amount, type: 'decimal(10,2)'}
  - name: till
    type: input-port
    properties:
      description: the till's export
      source:
        type: file
        path: data/sales.csv
        columns:
        - {name: id, type: integer}
        - {name: customer}
        - {name: day, type: date, format: '%d.%m.%Y'}
        - {name: amount, type: 'decimal(10,2)'}
      data_set: till_rows
  - {name: sales files, type: output-port, properties: {description: all sales, data_set: sales}}
"""
FEATURES = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: people, type: domain, properties: {description: customers}}
  - {name: features, type: data-product, properties: {definition: what customers did}}
  - name: features
    type: data-set
    properties:
      description: one row a customer
      columns:
      - {name: customer, type: string, key: true}
      - {name: total, type: 'decimal(12,2)'}
  - name: from sales
    type: input-port
    properties: {description: all sales, product: sales, associated_output_port: sales files, data_set: sold}
"""
ROWS = "id,customer,day,amount\n1,ann,01.02.2020,10.50\n2,bob,02.02.2020,3\n3,ann,03.02.2020,1.25\n"


class Mesh:
    """A mesh folder that tests write into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("mesh.yaml", "name: test\nwarehouse: {threads: 1, memory: 256MB}\n")

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"))
        return file

    def sales(self, path: str, text: str) -> Path:
        """Write a file of the product `sales`."""
        return self.write(f"products/shop/sales/{path}", text)

    def features(self, path: str, text: str) -> Path:
        """Write a file of the product `features`."""
        return self.write(f"products/people/features/{path}", text)

    def spec(self) -> MeshSpec:
        return load_mesh(self.folder)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    made = Mesh(tmp_path / "mesh")
    made.sales("product.yaml", SALES)
    made.sales("data/sales.csv", ROWS)
    made.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
    made.features("product.yaml", FEATURES)
    made.features(
        "transform/features.sql", "SELECT customer, sum(amount) AS total\nFROM sold GROUP BY customer\n"
    )
    return made


class World:
    """The mesh with its database and lake opened, and runs carried out in this process."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        settings = mesh.spec().settings
        self.settings = settings
        self.database = open_database(settings.database_url)
        self.lake = open_lake(self.database, settings.storage_namespace)
        for product in ("sales", "features"):
            with contextlib.suppress(AlreadyExists):
                self.lake.create_repository(product)

    def run(self, product: str, *, environment: str = "main", full: bool = False) -> runs.Run:
        run_id = runs.request(self.database, product, environment=environment, options={"full": full})
        return execute(self.database, self.lake, self.mesh.spec(), run_id)

    def check(self, product: str, *, tags: Sequence[str] = ()) -> runs.Run:
        options = {"only": "checks", "tags": list(tags)}
        run_id = runs.request(self.database, product, options=options)
        return execute(self.database, self.lake, self.mesh.spec(), run_id)

    def run_sql_only(self) -> str:
        """Publish `sales` without its Python models; the commit."""
        python = list((self.mesh.folder / "products/shop/sales/transform").glob("*.py"))
        hidden = [(file, file.read_text()) for file in python]
        for file in python:
            file.unlink()
        commit_id = self.run("sales").commit_id
        for file, text in hidden:
            file.write_text(text)
        assert commit_id is not None
        return commit_id

    def rows(self, product: str, data_set: str, ref: str = "main") -> list[dict[str, Any]]:
        files = self.lake.repository(product).files(ref, f"{data_set}/")
        table = pa.concat_tables([pq.read_table(file) for file in files])
        return table.sort_by(table.column_names[0]).to_pylist()


@pytest.fixture
def world(mesh: Mesh) -> Iterator[World]:
    made = World(mesh)
    yield made
    made.database.close()
