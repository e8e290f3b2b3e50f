"""A mesh of two products in a folder, opened the way the control plane opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pipeline.conftest import FEATURES, ROWS, SALES, Mesh

from tulle.control.workspace import Workspace
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings


def fill(mesh: Mesh) -> Mesh:
    """Write the two products: `sales` reads a CSV, `features` uses two columns of it."""
    mesh.sales("product.yaml", SALES)
    mesh.sales("data/sales.csv", ROWS)
    mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
    mesh.features("product.yaml", FEATURES)
    mesh.features(
        "transform/features.sql", "SELECT customer, sum(amount) AS total\nFROM sold GROUP BY customer\n"
    )
    return mesh


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """The mesh's folder."""
    return fill(Mesh(tmp_path / "mesh"))


def opened(mesh: Mesh) -> Workspace:
    """The mesh, opened anew."""
    return open_workspace(load_settings(mesh.folder, {}))


@pytest.fixture
def workspace(mesh: Mesh) -> Iterator[Workspace]:
    """The mesh, opened."""
    made = opened(mesh)
    yield made
    made.database.close()
