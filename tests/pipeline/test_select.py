"""Choosing jobs by words, and runs of some jobs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.pipeline.conftest import World

from tulle.errors import NotFound
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.job import SQL, Job
from tulle.pipeline.model_kind import ModelKind
from tulle.pipeline.select import chosen

JOBS = [
    Job("raw", "ingest"),
    Job("stg_a", SQL, ("raw",), way=ModelKind(tags=("nightly",))),
    Job("stg_b", SQL, ("raw",)),
    Job("both", SQL, ("stg_a", "stg_b"), way=ModelKind(tags=("nightly", "big"))),
    Job("end", SQL, ("both",)),
]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], None),
        (["stg_a"], "stg_a"),
        (["+both"], "raw stg_a stg_b both"),
        (["stg_b+"], "stg_b both end"),
        (["+stg_a+"], "raw stg_a both end"),
        (["stg_*"], "stg_a stg_b"),
        (["tag:nightly"], "stg_a both"),
        (["tag:big+"], "both end"),
        (["raw", " end"], "raw end"),
    ],
)
def test_words(words: list[str], names: str | None) -> None:
    assert chosen(JOBS, words) == (None if names is None else frozenset(names.split()))


def test_a_word_that_names_nothing() -> None:
    with pytest.raises(NotFound, match="nothing of the product is called 'stg_aa'") as caught:
        chosen(JOBS, ["stg_aa+"])
    assert "stg_a" in str(caught.value.hint)
    with pytest.raises(NotFound, match="'tag:nightli'"):
        chosen(JOBS, ["tag:nightli"])


def run(world: World, **options: Any) -> runs.Run:
    run_id = runs.request(world.database, "sales", options=options)
    return execute(world.database, world.lake, world.mesh.spec(), run_id)


def statuses(run: runs.Run) -> dict[str, str]:
    return {step.name: step.status for step in run.steps if step.name != "publish"}


@pytest.fixture
def chain(world: World) -> World:
    world.mesh.sales("transform/a.sql", "SELECT id FROM till_rows")
    world.mesh.sales("transform/b.sql", "SELECT id + 1 AS id FROM a")
    return world


def test_what_is_not_chosen_stays_as_it_is(chain: World) -> None:
    chain.run("sales")
    chain.mesh.sales("transform/a.sql", "SELECT id + 10 AS id FROM till_rows")
    chain.mesh.sales("transform/b.sql", "SELECT id + 2 AS id FROM a")
    assert statuses(run(chain, select=["b"])) == {
        "till_rows": "skipped",
        "sales": "skipped",
        "a": "skipped",
        "b": "succeeded",
    }
    assert [row["id"] for row in chain.rows("sales", "b")] == [3, 4, 5], "of a as it was"
    assert statuses(run(chain, select=["a+"]))["b"] == "succeeded"
    assert [row["id"] for row in chain.rows("sales", "b")] == [13, 14, 15]


def test_a_view_that_is_not_chosen_is_what_it_was(chain: World) -> None:
    chain.mesh.sales("transform/v.sql", "-- kind: view\nSELECT id FROM a")
    chain.mesh.sales("transform/w.sql", "SELECT id FROM v ORDER BY id")
    chain.run("sales")
    again = run(chain, select=["w"])
    assert (again.status, statuses(again)["w"]) == ("unchanged", "unchanged")


def test_what_has_no_data_must_be_chosen_as_well(chain: World) -> None:
    failed = run(chain, select=["b"])
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["message"] == "'b' is made from 'a', which has no data yet"
    assert "+b" in str(failed.error["hint"])
    assert run(chain, select=["+b"]).status == "succeeded"


def test_a_run_takes_up_what_a_failed_one_had_made(chain: World) -> None:
    chain.mesh.sales("checks/c.yaml", "checks: [{data_set: b, type: row_count, max: 1}]")
    failed = chain.run("sales")
    assert (failed.status, statuses(failed)["a"]) == ("failed", "succeeded")
    chain.mesh.sales("checks/c.yaml", "checks: [{data_set: b, type: row_count, max: 5}]")
    again = run(chain, resume=failed.id)
    assert again.status == "succeeded", again.error
    assert statuses(again) == {
        "till_rows": "unchanged",
        "sales": "unchanged",
        "a": "unchanged",
        "b": "succeeded",
    }
    assert len(chain.rows("sales", "a")) == 3


def test_what_was_published_meanwhile_is_not_taken_back(chain: World) -> None:
    chain.mesh.sales("checks/c.yaml", "checks: [{data_set: b, type: row_count, max: 1}]")
    failed = chain.run("sales")
    chain.mesh.sales("checks/c.yaml", "checks: []")
    chain.run("sales")
    chain.mesh.sales("transform/b.sql", "SELECT 7 AS id FROM a")
    again = run(chain, resume=failed.id)
    assert (again.status, statuses(again)["a"]) == ("succeeded", "unchanged")
    assert {row["id"] for row in chain.rows("sales", "b")} == {7}


def test_only_what_was_made_is_published_by_who_takes_up(chain: World) -> None:
    chain.mesh.sales("checks/c.yaml", "checks: [{data_set: b, type: row_count, max: 1}]")
    failed = chain.run("sales")
    (chain.mesh.folder / "products/shop/sales/transform/b.sql").unlink()
    chain.mesh.sales("checks/c.yaml", "checks: []")
    again = run(chain, resume=failed.id)
    assert again.status == "succeeded"
    assert len(chain.rows("sales", "a")) == 3
    head = chain.lake.repository("sales").log("main")[0]
    assert f"what run {failed.id} made" in head.message
    other = run(chain, resume="nothing")
    assert other.status == "failed"
