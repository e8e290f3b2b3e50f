"""Checks within runs: what they find is kept, other products are looked into, failing rows can be read afterwards."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from tests.pipeline.conftest import World

from tulle.pipeline.judge import file_name
from tulle.quality.check import Check
from tulle.quality.history import history, latest

CUSTOMERS = "customer,land\nann,DE\nbob,AT\n"


def failing(world: World, product: str, run_id: str, path: str) -> list[dict[str, object]]:
    branches = [b.name for b in world.lake.repository(product).branches() if run_id in b.name]
    for branch in branches:
        for file in world.lake.repository(product).files(branch, path):
            return pq.read_table(file).to_pylist()
    raise AssertionError(branches)


def test_what_every_check_found_is_kept(world: World) -> None:
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 1, tags: [size]}]")
    run = world.run("sales")
    found = {o.check: o for o in latest(world.database, product="sales")}
    assert found["the number of rows is at least 1"].run == run.id
    assert found["the number of rows is at least 1"].tags == ("size",)
    assert (found["id is the key"].state, found["id is the key"].total) == ("passed", 3)
    world.run("sales")  # nothing is judged again
    assert len(history(world.database, "sales", "id is the key")) == 1


def test_all_failing_rows_lie_on_the_branch_that_is_kept(world: World) -> None:
    rows = "".join(f"{n},eve,01.02.2020,-1\n" for n in range(10, 60))
    world.mesh.sales("data/sales.csv", f"id,customer,day,amount\n1,ann,01.02.2020,1\n{rows}")
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: range, column: amount, min: 0}]")
    world.mesh.sales(
        "checks/odd.py",
        "data_set = 'sales'\ndef check(table):\n    return table.filter(table['id'].is_valid())\n",
    )
    run = world.run("sales")
    assert run.status == "failed"
    checks = {check.name: check for step in run.steps for check in step.checks}
    found = checks["amount is at least 0"]
    assert (found.failing_count, len(found.failing_rows)) == (50, 20)
    assert found.kept.startswith(f"_tulle/failing/{run.id}/sales-amount-is-at-least-0")
    assert len(failing(world, "sales", run.id, found.kept)) == 50
    assert len(failing(world, "sales", run.id, checks["odd"].kept)) == 51
    assert history(world.database, "sales", "amount is at least 0")[0].state == "failed"


def test_a_reference_looks_into_another_product(world: World) -> None:
    world.mesh.features(
        "checks/c.yaml",
        "checks:\n- data_set: features\n  type: references\n  column: customer\n"
        "  to: {product: sales, data_set: sales, column: customer}\n",
    )
    world.run("sales")
    assert world.run("features").status == "succeeded"
    # The same features against sales without bob, who is still in the rows that were taken in before.
    world.mesh.features(
        "transform/features.sql",
        "SELECT customer, sum(amount) AS total FROM sold GROUP BY 1 UNION ALL SELECT 'zoe', 1\n",
    )
    run = world.run("features")
    (check,) = [c for s in run.steps for c in s.checks if c.kind == "references"]
    assert (run.status, check.failing_count, check.failing_rows[0]["customer"]) == ("failed", 1, "zoe")
    assert check.name == "customer is known in sales.sales.customer"


def test_a_reference_to_what_changed_is_judged_again(world: World) -> None:
    world.mesh.features(
        "product.yaml", (world.mesh.folder / "products/people/features/product.yaml").read_text()
    )
    world.mesh.features("transform/features.sql", "SELECT 'ann' AS customer, 1.0::DECIMAL(12,2) AS total\n")
    world.mesh.features(
        "checks/c.yaml",
        "checks: [{data_set: features, type: references, column: customer, to: {product: sales, data_set: sales, column: customer}}]",
    )
    world.run("sales")
    assert world.run("features").status == "succeeded"
    world.mesh.sales("data/sales.csv", "id,customer,day,amount\n1,bob,01.02.2020,1\n")
    world.run("sales")
    assert world.run("features").status == "failed"


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        ("{product: salez, data_set: sales, column: id}", "there is no product 'salez'"),
        (
            "{product: sales, data_set: till_rows, column: id}",
            "offers no data set 'till_rows' by an output port",
        ),
        ("{product: sales, data_set: sales, column: idd}", "has no column 'idd'"),
        ("{product: features, data_set: features, column: customer}", "is the product itself"),
    ],
)
def test_a_wrong_name_elsewhere_is_placed(world: World, to: str, problem: str) -> None:
    text = f"checks: [{{data_set: features, type: references, column: customer, to: {to}}}]"
    world.mesh.features("checks/c.yaml", text)
    run = world.run("features")
    assert run.status == "failed"
    (found,) = (run.error or {})["problems"]
    assert problem in str(found)


def test_history_decides_over_runs(world: World) -> None:
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: volume, max_change: 50%, after: 2}]")
    for amount in (1, 2):
        world.mesh.sales(
            "data/sales.csv", f"id,customer,day,amount\n1,a,01.02.2020,{amount}\n2,b,01.02.2020,3\n"
        )
        assert world.run("sales").status == "succeeded"
    world.mesh.sales(
        "data/sales.csv", "id,customer,day,amount\n" + "".join(f"{n},a,01.02.2020,1\n" for n in range(9))
    )
    run = world.run("sales")
    assert run.status == "failed"
    assert "+350.0% against the 2 that are usual" in str(run.error)


def test_files_of_failing_rows_have_names_of_their_own() -> None:
    one, two = Check("a is >0", "sql", "t"), Check("a is <0", "sql", "t")
    assert file_name(one) != file_name(two)
    assert file_name(Check("key", "sql", "t")) == "t-key"
    assert len(file_name(Check("ä/../" + "x" * 400, "sql", "t"))) < 120


def test_what_is_published_is_judged_without_making_anything(world: World) -> None:
    world.run("sales")
    before = world.lake.repository("sales").resolve("main")
    world.mesh.sales(
        "checks/c.yaml",
        "checks:\n- {data_set: sales, type: row_count, min: 1, tags: [size]}\n"
        "- {data_set: sales, type: volume, max_change: 10%, after: 1, tags: [size]}\n",
    )
    run = world.check("sales")
    assert (run.status, run.commit_id) == ("unchanged", None), run.error
    assert [(step.name, step.kind, step.status) for step in run.steps] == [
        ("till_rows", "check", "succeeded"),
        ("sales", "check", "succeeded"),
    ]
    only = world.check("sales", tags=["size"])
    assert [c.name for s in only.steps for c in s.checks if c.kind != "schema"] == [
        "the number of rows is at least 1", "the number of rows is as usual, within 10 % of change",
    ]  # fmt: skip
    assert "0 earlier runs" in [c for s in only.steps for c in s.checks][-1].message  # looking is no run
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 99}]")
    refused = world.check("sales")
    assert refused.status == "failed"
    assert "1 check of 'sales' failed on what is published: sales: the number of rows" in str(refused.error)
    assert history(world.database, "sales", "the number of rows is at least 99")[0].run == refused.id
    assert world.lake.repository("sales").resolve("main") == before


@pytest.mark.parametrize(
    ("tags", "message"),
    [([], "'sales' has published nothing on 'main'"), (["none"], "'sales' has published nothing on 'main'")],
)
def test_nothing_to_check_is_told(world: World, tags: list[str], message: str) -> None:
    assert message in str(world.check("sales", tags=tags).error)


def test_an_unknown_tag_is_told(world: World) -> None:
    world.run("sales")
    assert "no check of 'sales' is tagged none" in str(world.check("sales", tags=["none"]).error)


def test_a_suite_is_the_gate_of_a_run(world: World) -> None:
    world.mesh.sales(
        "checks/c.yaml", "checks: [{data_set: sales, type: suite, suite: suites/s.py, timeout: 60s}]"
    )
    world.mesh.sales(
        "checks/suites/s.py",
        "import pathlib, sys\nsys.exit(not list(pathlib.Path('data/sales').iterdir()))\n",
    )
    assert world.run("sales").status == "succeeded"
    world.mesh.sales("checks/suites/s.py", "raise SystemExit(3)\n")
    run = world.run("sales")
    assert run.status == "failed"
    assert "suites/s.py ended with exit code 3" in str(run.error)
