"""Going on from a run that failed: what holds is kept, what was repaired is made again from what is published."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from tests.pipeline.conftest import World

from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute

FILES = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: sales, type: data-product, properties: {definition: what was sold}}
  - name: till
    type: input-port
    properties:
      description: the till's export, a file a day
      source: {type: file, path: data/*.csv, columns: [{name: id, type: integer}], LOAD}
      data_set: till_rows
  - {name: kept, type: data-set, properties: {description: what was seen, columns: [{name: id, type: integer}]}}
"""


def run(world: World, **options: Any) -> runs.Run:
    run_id = runs.request(world.database, "sales", options=options)
    return execute(world.database, world.lake, world.mesh.spec(), run_id)


def statuses(run: runs.Run) -> dict[str, str]:
    return {step.name: step.status for step in run.steps if step.name != "publish"}


@pytest.fixture
def daily(world: World) -> World:
    """A product that reads a file a day, keeps what it saw, and refuses numbers above 100 at its end."""
    shutil.rmtree(world.mesh.folder / "products/people")
    (world.mesh.folder / "products/shop/sales/data/sales.csv").unlink()
    (world.mesh.folder / "products/shop/sales/transform/sales.sql").unlink()
    world.mesh.sales("product.yaml", FILES.replace("LOAD", "load: incremental"))
    world.mesh.sales("data/1.csv", "id\n1\n2\n")
    header = "-- kind: incremental\n-- strategy: append\n"
    world.mesh.sales("transform/kept.sql", f"{header}SELECT id FROM till_rows ANTI JOIN this USING (id)")
    world.mesh.sales("transform/other.sql", "SELECT 7 AS id")
    world.mesh.sales("transform/last.sql", "SELECT id FROM kept")
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: last, type: range, column: id, max: 100}]")
    assert world.run("sales").status == "succeeded"
    world.mesh.sales("data/2.csv", "id\n3\n400\n")
    return world


def ids(world: World, data_set: str) -> list[int]:
    return sorted(row["id"] for row in world.rows("sales", data_set))


@pytest.mark.parametrize("load", ["load: incremental", "load: merge, key: [id]"])
def test_a_repaired_file_is_taken_by_who_takes_up(daily: World, load: str) -> None:
    daily.mesh.sales("product.yaml", FILES.replace("LOAD", load))
    if "merge" in load:
        daily.mesh.sales("data/2.csv", "id\n3\n")
        assert daily.run("sales").status == "succeeded"
        daily.mesh.sales("data/2.csv", "id\n3\n400\n")
    daily.mesh.sales("transform/other.sql", "SELECT 8 AS id")
    failed = daily.run("sales")
    assert statuses(failed) == {
        "till_rows": "succeeded",
        "kept": "succeeded",
        "last": "failed",
        "other": "succeeded",
    }
    daily.mesh.sales("data/2.csv", "id\n3\n4\n")
    again = run(daily, resume=failed.id)
    assert again.status == "succeeded", again.error
    assert statuses(again)["other"] == "unchanged", "what has nothing to do with it is kept"
    assert ids(daily, "till_rows") == [1, 2, 3, 4]
    assert ids(daily, "kept") == [1, 2, 3, 4], "nothing of the file as it was"
    assert ids(daily, "last") == [1, 2, 3, 4]


def test_a_file_taken_away_after_a_run_failed_is_not_published(daily: World) -> None:
    failed = daily.run("sales")
    (daily.mesh.folder / "products/shop/sales/data/2.csv").unlink()
    again = run(daily, resume=failed.id)
    assert again.error is None
    assert ids(daily, "till_rows") == ids(daily, "kept") == ids(daily, "last") == [1, 2]


def test_a_published_file_that_changed_is_refused_whoever_asks(daily: World) -> None:
    failed = daily.run("sales")
    daily.mesh.sales("data/1.csv", "id\n1\n20\n")
    again = run(daily, resume=failed.id)
    assert again.error is not None
    assert "1.csv has changed since it was read" in str(again.error["message"])


def test_a_new_file_is_taken_beside_what_a_failed_run_had_read(daily: World) -> None:
    failed = daily.run("sales")
    daily.mesh.sales("data/3.csv", "id\n5\n")
    daily.mesh.sales("checks/c.yaml", "checks: [{data_set: last, type: range, column: id, max: 500}]")
    again = run(daily, resume=failed.id)
    assert again.error is None
    assert ids(daily, "till_rows") == ids(daily, "kept") == [1, 2, 3, 5, 400]
