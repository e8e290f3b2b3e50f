"""A mesh with environments, opened as the control plane opens it, for tests of releases."""

from __future__ import annotations

import time
from pathlib import Path

from tests.pipeline.conftest import FEATURES, ROWS, SALES, Mesh

from tulle.control import apply
from tulle.control.workspace import Workspace
from tulle.pipeline import promotion
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.promotion import Promotion
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

MESH = """
    name: test
    warehouse: {threads: 1, memory: 256MB}
    environments:
      dev: {fallback: prod}
      test: {after: dev, fallback: prod}
      prod: {after: test, approvers: [ann, bob, eve], approvals: 2}
"""
VERSIONED = SALES.replace("definition: what was sold}", "definition: what was sold, version: VERSION}")


def sales_at(version: str, text: str = VERSIONED) -> str:
    return text.replace("VERSION", version)


class Team:
    """People who release: the mesh's folder, its workspace, and short ways to what they do."""

    def __init__(self, folder: Path, environments: str = MESH) -> None:
        self.mesh = Mesh(folder)
        self.mesh.write("mesh.yaml", environments)
        self.mesh.sales("product.yaml", sales_at("1.0.0"))
        self.mesh.sales("data/sales.csv", ROWS)
        self.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
        self.mesh.features("product.yaml", FEATURES)
        self.mesh.features(
            "transform/features.sql", "SELECT customer, sum(amount) AS total\nFROM sold GROUP BY customer\n"
        )
        self.open()
        apply.apply_plan(self.workspace)

    def open(self) -> Workspace:
        self.workspace = open_workspace(load_settings(self.mesh.folder))
        return self.workspace

    def run(self, branch: str, product: str = "sales") -> runs.Run:
        """A run in this process."""
        database, lake = self.workspace.database, self.workspace.lake
        run_id = runs.request(database, product, environment=branch)
        return execute(database, lake, self.workspace.spec(), run_id)

    def wait(self, asked: Promotion) -> Promotion:
        """A promotion whose run, a process of its own, has ended."""
        assert asked.run_id is not None, asked
        deadline = time.monotonic() + 120
        while not runs.get(self.workspace.database, asked.run_id).ended:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        promotion.settle(self.workspace.database, self.workspace.lake)
        return promotion.get(self.workspace.database, asked.id)

    def amounts(self, ref: str) -> list[object]:
        """What the data set `sales` holds at a ref."""
        import pyarrow.parquet as pq

        repository = self.workspace.lake.repository("sales")
        files = repository.files(ref, "sales/")
        return sorted(value for file in files for value in pq.read_table(file)["amount"].to_pylist())
