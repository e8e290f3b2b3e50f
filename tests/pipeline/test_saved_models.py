"""Models that runs save: whose they are, and what becomes of them when the code changes."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import Mesh, World

from tulle.control.models import delete_model
from tulle.control.workspace import Workspace
from tulle.errors import Conflict
from tulle.pipeline import run as runs
from tulle.pipeline.saved_models import names_of
from tulle.spec.capability import load_registry

SAVES = """
import numpy as np
from sklearn.linear_model import LinearRegression

inputs = ["sales"]


def model(run):
    rows = np.arange(20.0).reshape(-1, 1)
    for name in [{names}]:
        run.save_model(
            name, LinearRegression().fit(rows, rows[:, 0]), features=["a"],
            sample=__import__("pyarrow").table({{"a": rows[:, 0]}}), metrics={{}},
        )
    return run.read("sales")
"""


def saves(mesh: Mesh, file: str, *names: str) -> None:
    mesh.sales(f"transform/{file}.py", SAVES.format(names=", ".join(map(repr, names))))


def models(world: World) -> list[str]:
    return names_of(world.lake.repository("sales"), "main")


def test_a_model_stays_when_its_file_is_renamed_or_another_one_saves_it(world: World, mesh: Mesh) -> None:
    saves(mesh, "old", "spends", "stays")
    assert world.run("sales").status == runs.SUCCEEDED
    assert models(world) == ["spends", "stays"]
    (mesh.folder / "products/shop/sales/transform/old.py").unlink()
    saves(mesh, "new", "spends", "stays")
    assert world.run("sales").status == runs.SUCCEEDED
    assert models(world) == ["spends", "stays"]
    saves(mesh, "new", "stays")
    saves(mesh, "apart", "spends")
    run = world.run("sales")
    assert run.status == runs.SUCCEEDED, run.error
    assert models(world) == ["spends", "stays"]


def test_two_files_cannot_save_the_same_model(world: World, mesh: Mesh) -> None:
    saves(mesh, "one", "spends")
    assert world.run("sales").status == runs.SUCCEEDED
    workspace = Workspace(world.settings, world.database, world.lake, load_registry(world.settings))
    with pytest.raises(Conflict, match=r"'spends' is saved by one\.py in the runs of the product"):
        delete_model(workspace, "sales", "spends", "main", "somebody")  # the next run would not bring it back
    saves(mesh, "two", "spends")
    run = world.run("sales")
    assert run.status == runs.FAILED
    assert run.error is not None
    assert run.error["message"] == "model 'spends' is saved by one.py as well"
