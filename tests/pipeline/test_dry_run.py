"""What a run would do is what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import World

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.errors import Conflict
from tulle.pipeline import run as runs
from tulle.pipeline.dry_run import Foreseen, foresee
from tulle.pipeline.graph import load_code


def foreseen(world: World, product: str = "sales", **more: Any) -> dict[str, Foreseen]:
    spec = world.mesh.spec()
    code = load_code(spec.product(product), spec=spec)
    engine = DuckEngine(Warehouse(), Path("/nonexistent"))
    return {job.name: job for job in foresee(world.database, world.lake, code, engine, **more)}


def actions(found: dict[str, Foreseen]) -> dict[str, str]:
    return {name: job.action for name, job in found.items()}


def test_what_was_never_made_is_made_and_then_kept(world: World) -> None:
    assert actions(foreseen(world)) == {"till_rows": "make", "sales": "make"}
    before = world.lake.repository("sales").branches()
    world.run("sales")
    found = foreseen(world)
    assert actions(found) == {"till_rows": "keep", "sales": "keep"}
    assert (found["sales"].rows, found["sales"].reads_rows) == (3, 3)
    assert found["sales"].reads_bytes > 100
    assert found["sales"].seconds is not None
    assert actions(foreseen(world, full=True)) == {"till_rows": "make", "sales": "make"}
    assert world.lake.repository("sales").branches() != before
    assert len(world.lake.repository("sales").branches()) == 1, "nothing is written"


def test_a_change_is_named(world: World) -> None:
    world.run("sales")
    world.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows ORDER BY id")
    found = foreseen(world)
    assert (found["sales"].action, found["sales"].reason) == ("make", "its code is another one")
    world.mesh.sales("data/sales.csv", "id,customer,day,amount\n1,ann,01.02.2020,1\n")
    found = foreseen(world)
    assert (found["till_rows"].action, found["till_rows"].reason) == ("make", "its files changed")
    world.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
    found = foreseen(world)
    assert (found["sales"].action, found["sales"].reason) == (
        "perhaps",
        "if the rows of till_rows turn out to be others",
    )
    assert actions(foreseen(world, words=["sales"]))["till_rows"] == "leave"
    (world.mesh.folder / "products/shop/sales/data/sales.csv").unlink()
    assert "would fail" in foreseen(world)["till_rows"].reason


def test_a_source_of_which_rows_are_put_aside_is_not_told_by_its_files(world: World) -> None:
    document = world.mesh.folder / "products/shop/sales/product.yaml"
    text = document.read_text()
    path = "        path: data/sales.csv\n"
    assert path in text
    document.write_text(text.replace(path, f"{path}        on_bad_rows: quarantine\n"))
    world.run("sales")
    world.run("sales")
    assert actions(foreseen(world)) == {"till_rows": "perhaps", "sales": "perhaps"}


def test_another_products_data(world: World) -> None:
    found = foreseen(world, "features")
    assert (found["sold"].action, found["sold"].reason) == (
        "leave",
        "product 'sales' has not published 'sales' yet",
    )
    world.run("sales")
    world.run("features")
    assert actions(foreseen(world, "features")) == {"sold": "keep", "features": "keep"}
    world.mesh.sales("data/sales.csv", "id,customer,day,amount\n1,ann,01.02.2020,1\n")
    world.run("sales")
    assert foreseen(world, "features")["features"].reason == "sold changed"


def test_the_last_failed_run_is_the_one_to_take_up(world: World) -> None:
    with pytest.raises(Conflict, match="never ran"):
        runs.last_failed(world.database, "sales", "main")
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, max: 1}]")
    failed = world.run("sales")
    assert runs.last_failed(world.database, "sales", "main") == failed.id
    world.mesh.sales("checks/c.yaml", "checks: []")
    world.run("sales")
    with pytest.raises(Conflict, match="ended as 'succeeded'"):
        runs.last_failed(world.database, "sales", "main")
