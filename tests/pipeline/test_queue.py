"""A warehouse's queue: who has room in it, what a run in it waits for, and which warehouse a product's runs use."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.conftest import SALES, World

from tulle.config import Settings, Warehouse
from tulle.errors import Invalid, LimitExceeded
from tulle.pipeline import queue, run_end, run_turn
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.spec.mesh import load_mesh

MESH = """name: test
warehouse: {threads: 1, memory: 256MB}
warehouses:
  night: {threads: 1, memory: 300MB, concurrent_runs: 1, queue: 2}
"""


@pytest.fixture
def night(world: World) -> World:
    """A mesh whose product `sales` names a warehouse of its own."""
    world.mesh.write("mesh.yaml", MESH)
    named = SALES.replace(
        "type: data-product, properties: {", "type: data-product, properties: {warehouse: night, "
    )
    assert named != SALES
    world.mesh.sales("product.yaml", named)
    return world


def test_a_product_runs_in_the_warehouse_it_names_and_the_run_says_so(
    night: World, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_mesh(night.mesh.folder)
    run_id = queue.request(night.database, spec, "sales")
    run = execute(night.database, night.lake, spec, run_id)
    assert run.status == "succeeded", run.error
    assert run.options["warehouse"] == "night"
    assert run.options["bounds"]["memory"] == "300MB"
    said = "warehouse night: 1 thread, 300MB memory, 10GB disk, 1 at a time"
    assert said in capsys.readouterr().out


def test_a_full_queue_refuses_and_says_what_to_do(night: World) -> None:
    spec = load_mesh(night.mesh.folder)
    first, second = (queue.request(night.database, spec, "sales") for _ in range(2))
    with pytest.raises(LimitExceeded) as full:
        queue.request(night.database, spec, "sales")
    assert full.value.message == "the queue of warehouse 'night' is full: 2 of at most 2 runs wait"
    assert "`tulle runs ID --stop`" in str(full.value.hint)
    assert [run.id for run in runs.recent(night.database)] == [second, first]
    run_end.finish(night.database, second, runs.STOPPED)
    queue.request(night.database, spec, "features")  # another warehouse, whose queue is its own
    runs.request(night.database, "sales", options={"warehouse": "night", "fired": {"reason": "cron"}})
    assert queue.request(night.database, spec, "sales")  # what a schedule started does not fill it
    run_turn.claim(night.database, first, warehouse="night", bounds=Warehouse())
    assert queue.request(night.database, spec, "sales")


def test_a_run_that_waits_says_for_what(night: World) -> None:
    spec = load_mesh(night.mesh.folder)
    settings = spec.settings

    def waits(run_id: str) -> str:
        return queue.what_for(night.database, settings, runs.get(night.database, run_id))

    first = queue.request(night.database, spec, "sales")
    assert waits(first) == ""
    run_turn.claim(night.database, first, warehouse="night", bounds=Warehouse())
    elsewhere = queue.request(night.database, spec, "sales", environment="dev")
    assert waits(elsewhere) == "warehouse 'night' has 1 of 1 runs under way"
    third = queue.request(night.database, spec, "sales", environment="test")
    assert waits(third) == "warehouse 'night' has 1 of 1 runs under way, and 1 came before"
    same = queue.request(night.database, spec, "features")
    assert waits(same) == ""
    run_end.finish(night.database, elsewhere, runs.STOPPED)
    again = queue.request(night.database, spec, "sales")
    assert waits(again) == f"run {first} of 'sales' on 'main' is under way"
    assert waits(first) == ""


def test_a_warehouse_that_does_not_exist_is_told_at_its_place(night: World) -> None:
    path = night.mesh.folder / "products/shop/sales/product.yaml"
    path.write_text(path.read_text().replace("warehouse: night", "warehouse: nigth"))
    with pytest.raises(Invalid) as failure:
        load_mesh(night.mesh.folder)
    (problem,) = failure.value.problems
    assert problem.message == "there is no warehouse 'nigth'"
    assert problem.place is not None
    assert (problem.place.file, problem.place.line > 1) == ("products/shop/sales/product.yaml", True)
    assert "night" in str(problem.hint)
    path.write_text(
        path.read_text().replace("nigth", "people")
    )  # a domain has one, whether it is written or not
    assert load_mesh(night.mesh.folder).product("sales").warehouse_name == "people"


def test_a_warehouse_without_bounds_of_its_own_has_those_of_the_mesh(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, warehouse=Warehouse(threads=3), warehouses={"a": Warehouse()})
    assert settings.warehouse_of("a").threads == 2
    assert settings.warehouse_of("b").threads == 3
