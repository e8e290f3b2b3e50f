"""Which branch of another product a run reads, and what its manifest says."""

from __future__ import annotations

import pytest
from sqlalchemy import insert
from tests.pipeline.conftest import ROWS, SALES, World

from tulle.errors import NotFound
from tulle.pipeline import manifest
from tulle.pipeline.environment import connections_of, upstream_branch
from tulle.state.tables import environments

ENVIRONMENTS = """
    name: test
    warehouse: {threads: 1, memory: 256MB}
    environments:
      dev: {fallback: prod}
      lonely: {}
"""


def prepared(world: World) -> World:
    world.mesh.write("mesh.yaml", ENVIRONMENTS)
    return world


def test_a_run_reads_its_own_environment_then_where_it_falls_back_to(world: World) -> None:
    prepared(world)
    assert world.run("sales").status == "succeeded"
    features = world.lake.repository("features")
    features.create_branch("dev")
    assert world.run("features", environment="dev").status == "succeeded"
    assert world.rows("features", "features", "dev")[0]["total"] == 11.75
    sales = world.lake.repository("sales")
    sales.create_branch("dev")
    world.mesh.sales("data/sales.csv", ROWS + "4,ann,04.02.2020,100\n")
    assert world.run("sales", environment="dev").status == "succeeded"
    assert world.run("features", environment="dev").status == "succeeded"
    assert world.rows("features", "features", "dev")[0]["total"] == 111.75
    assert len(world.rows("sales", "sales")) == 3


def test_without_a_fallback_what_is_not_there_is_missing(world: World) -> None:
    prepared(world)
    world.run("sales")
    sales = world.lake.repository("sales")
    settings = world.mesh.spec().settings
    with pytest.raises(NotFound) as refused:
        upstream_branch(world.database, settings, sales, "lonely", "sales")
    assert refused.value.message == "product 'sales' has no branch 'lonely'"
    assert "fallback" in (refused.value.hint or "")
    assert upstream_branch(world.database, settings, sales, "somebody-s", "sales") == "main"
    assert upstream_branch(world.database, settings, sales, "preview-x", "sales") == "main"


def test_an_environment_uses_the_connections_it_is_bound_to(world: World) -> None:
    world.mesh.write(
        "mesh.yaml",
        "name: test\nenvironments:\n  dev: {connections: test}\n  test: {}\n  stage: {branch: st}\n",
    )
    settings = world.mesh.spec().settings
    with world.database.write() as cx:
        values = {"product": "sales", "kind": "preview", "created_at": 0.0, "changed_at": 0.0}
        cx.execute(insert(environments).values(name="x", branch="preview-x", source="dev", **values))
    found = {
        b: connections_of(world.database, settings, b) for b in ("main", "dev", "st", "preview-x", "mine")
    }
    assert found == {"main": "prod", "dev": "test", "st": "stage", "preview-x": "test", "mine": "mine"}


def test_a_manifest_tells_what_was_specified_and_what_came_of_it(world: World) -> None:
    first, again = world.run("sales"), world.run("sales")
    found = manifest.manifest(world.database, first.id)
    assert (found["status"], found["commit"], found["compared_with"]) == ("succeeded", first.commit_id, None)
    jobs = {job["name"]: job for job in found["jobs"]}
    assert jobs["sales"]["rows"] == 3
    assert jobs["sales"]["lineage"]["amount"] == [["till_rows", "amount"]]
    assert {check["passed"] for check in jobs["sales"]["checks"]} == {True}
    assert [d["name"] for d in found["specification"]["data_sets"]] == ["sales"]
    same = manifest.manifest(world.database, again.id)["compared_with"]
    assert same == {"run": first.id, "code_changed": False, "compatible": True, "differences": []}


def test_a_manifest_names_what_consumers_would_miss(world: World) -> None:
    first = world.run("sales")
    fewer = SALES.replace("      - {name: amount, type: 'decimal(10,2)'}\n", "", 1)
    world.mesh.sales("product.yaml", fewer)
    world.mesh.sales("transform/sales.sql", "SELECT id, customer, day, 1 AS extra FROM till_rows\n")
    second = world.run("sales")
    assert second.status == "succeeded", second.error
    compared = manifest.manifest(world.database, second.id)["compared_with"]
    assert (compared["run"], compared["code_changed"], compared["compatible"]) == (first.id, True, False)
    told = {one["sentence"]: one["breaking"] for one in compared["differences"]}
    assert told["column 'amount' of 'sales' is gone"]
    assert told["column 'extra' of 'sales' is new"] is False


def test_a_run_that_never_took_its_code_has_no_manifest(world: World) -> None:
    with pytest.raises(NotFound) as refused:
        manifest.manifest(world.database, "20200101-000000000-abcd")
    assert "no run" in refused.value.message
