"""What runs have a service's definitions do: answers to rows as a data set of their own, and training sets in models."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pipeline.conftest import Mesh, World

from tulle.engine.duck import DuckEngine
from tulle.pipeline import by_service
from tulle.pipeline import run as runs
from tulle.pipeline.dry_run import Foreseen, foresee
from tulle.pipeline.graph import load_code
from tulle.pipeline.record import read_record
from tulle.serving import for_run, package
from tulle.serving.package import Package
from tulle.serving.service import load_service

SERVICE = """
service: of-sales
endpoints:
- name: known
  type: lookup
  data_set: till_rows
  key: {number: id}
  columns: {who: customer, paid: amount}
- name: latest
  type: lookup
  data_set: till_rows
  source: latest
  key: id
  columns: [customer]
- name: totals
  type: lookup
  data_set: sales
  key: customer
  columns: [amount]
  several: first
  order_by: [-day]
  event_time: day
"""
ASKED = "id,customer,day,amount\n1,ann,01.02.2020,10.50\n4,zoe,05.02.2020,1\n3,ann,03.02.2020,1.25\n"
ANSWERED = "endpoint: of-sales/known\nversion: v1\nrows: sales\nmap: {number: id}\nkeep: [id]\n"
CHECK = """
checks:
- type: sql
  data_set: answered
  name: all are answered
  sql: SELECT * FROM answered WHERE error IS NOT NULL
"""


def packaged(world: World, text: str = SERVICE, product: str = "sales") -> Package:
    return package.build(
        load_service(text, name="services/s.yaml"),
        product=world.mesh.spec().product(product),
        lake=world.lake,
        database=world.database,
        settings=world.settings,
        code_version="c0de",
    )


def step(run: runs.Run, name: str = "answered") -> runs.Step:
    return next(one for one in run.steps if one.name == name)


@pytest.fixture
def answering(mesh: Mesh, world: World) -> World:
    """A mesh whose service knows three sales, and a product that has later ones answered."""
    assert world.run("sales").status == runs.SUCCEEDED
    packaged(world)
    mesh.sales("data/sales.csv", ASKED)
    mesh.sales("transform/answered.yaml", ANSWERED)
    return world


def test_rows_are_answered_as_a_step_and_only_when_something_changed(answering: World, mesh: Mesh) -> None:
    run = answering.run("sales")
    assert (run.status, run.error) == (runs.SUCCEEDED, None)
    rows = answering.rows("sales", "answered")
    assert [(row["id"], row["who"], str(row["paid"])) for row in rows] == [
        (1, "ann", "10.50"),
        (3, "ann", "1.25"),
        (4, None, "None"),
    ]
    assert [row["error"] for row in rows][:2] == [None, None]
    assert rows[2]["error"].startswith("NoMatch: ")
    made = step(run)
    assert (made.kind, made.rows, made.status) == ("score", 3, runs.SUCCEEDED)
    assert [(m.name, m.value) for m in made.metrics] == [("rows refused", 1)]
    assert made.lineage["id"] == [["sales", "id"]]
    assert made.lineage["who"] == [["sales", "id"]]
    assert made.inputs["of-sales/known"]["package"].startswith("v1 ")
    record = read_record(answering.lake.repository("sales"), "main", "answered")
    assert record is not None
    assert dict(record.columns) == {
        "id": "integer",
        "who": "string",
        "paid": "decimal(10,2)",
        "status": "string",
        "error": "string",
    }
    assert step(answering.run("sales")).status == runs.UNCHANGED
    foreseen = {one.name: one for one in foresaw(answering)}
    assert (foreseen["answered"].action, foreseen["answered"].kind) == ("keep", "score")
    mesh.sales("transform/answered.yaml", ANSWERED + "# another one\n")
    foreseen = {one.name: one for one in foresaw(answering)}
    assert (foreseen["answered"].action, foreseen["answered"].reason) == ("make", "its code is another one")


def foresaw(world: World) -> tuple[Foreseen, ...]:
    spec = world.mesh.spec()
    code = load_code(spec.product("sales"), spec=spec)
    engine = DuckEngine(world.settings.warehouse, world.settings.state_folder / "spill")
    return foresee(world.database, world.lake, code, engine)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process, which has all of it loaded."""

    def carried_out(question: Path) -> int:
        for_run.answer(for_run.read_asked(question))
        return 0

    monkeypatch.setattr(by_service, "_carried_out", carried_out)


@pytest.mark.usefixtures("here")
def test_what_is_looked_up_and_followed_is_what_is_published(answering: World, mesh: Mesh) -> None:
    mesh.sales("transform/answered.yaml", "endpoint: of-sales/latest\nversion: v1\nrows: sales\nkeep: [id]\n")
    first = answering.run("sales")
    assert first.status == runs.SUCCEEDED, first.error
    # What it follows is published by the same run, after it was answered: the next run has it.
    assert [row["customer"] for row in answering.rows("sales", "answered")] == ["ann", "ann", None]
    assert step(answering.run("sales")).status == runs.SUCCEEDED
    assert [row["customer"] for row in answering.rows("sales", "answered")] == ["ann", "ann", "zoe"]
    assert step(answering.run("sales")).status == runs.UNCHANGED


@pytest.mark.usefixtures("here")
def test_a_check_of_the_answers_stops_the_run(answering: World, mesh: Mesh) -> None:
    mesh.sales("checks/answered.yaml", CHECK)
    before = answering.lake.repository("sales").resolve("main")
    run = answering.run("sales")
    assert run.status == runs.FAILED
    assert "all are answered" in str(step(run).message)
    assert answering.lake.repository("sales").resolve("main") == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (ANSWERED.replace("v1", "v7"), "service 'of-sales' has no version 'v7'"),
        (ANSWERED.replace("of-sales/", "of-sale/"), "service 'of-sale' has no version 'v1'"),
        (ANSWERED.replace("/known", "/know"), "service 'of-sales' v1 has no endpoint 'know'"),
        (ANSWERED.replace("number: id", "nummer: id"), "takes no 'nummer'"),
        (ANSWERED.replace("number: id", "number: idd"), "the rows have no column 'idd'"),
    ],
)
def test_what_cannot_be_answered_fails_the_step_with_the_reason(
    answering: World, mesh: Mesh, said: str, message: str
) -> None:
    mesh.sales("transform/answered.yaml", said)
    run = answering.run("sales")
    assert run.status == runs.FAILED
    assert message in str(step(run).message)
    assert run.error is not None


@pytest.mark.usefixtures("here")
def test_a_service_of_another_product_answers_nothing_here(answering: World, mesh: Mesh) -> None:
    mesh.features("transform/answered.yaml", ANSWERED.replace("rows: sales", "rows: sold"))
    answering.run("sales")
    run = answering.run("features")
    assert run.status == runs.FAILED
    assert step(run).message == "service 'of-sales' is one of product 'sales'"


def test_a_process_that_ends_without_an_answer_is_told(
    answering: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_service, "MODULE", "tulle.pipeline.refusal")  # which does nothing at all
    run = answering.run("sales")
    assert run.status == runs.FAILED
    assert "ended with 0 and without an answer" in str(step(run).message)


LEARNING = """
from tulle.sdk.run import Run

inputs = ["{entities}", "sales"]


def model(run: Run):
    return run.training_set("of-sales/totals", version="v1", entities="{entities}", time="day")
"""


@pytest.mark.usefixtures("here")
def test_a_python_model_learns_from_what_the_endpoint_would_have_looked_up(world: World, mesh: Mesh) -> None:
    world.run("sales")
    packaged(world)
    mesh.sales(
        "transform/visits.sql",
        """
        -- kind: view
        SELECT * FROM (VALUES ('ann', DATE '2020-02-02', 1), ('ann', DATE '2020-02-04', 0), ('bob', DATE '2020-01-01', 1))
            AS given(customer, day, bought)
        """,
    )
    mesh.sales("transform/learned.py", LEARNING.format(entities="visits"))
    run = world.run("sales")
    assert run.status == runs.SUCCEEDED, run.error
    rows = sorted(world.rows("sales", "learned"), key=lambda row: str(row["day"]))
    # Nothing was known of bob by then; of ann what held on each of the days.
    assert [(r["customer"], r["bought"], str(r["amount"])) for r in rows] == [
        ("ann", 1, "10.50"),
        ("ann", 0, "1.25"),
    ]
    assert "2 rows to learn from, 1 of 'visits' left out" in " ".join(step(run, "learned").log)
    mesh.sales("transform/learned.py", LEARNING.format(entities="visits").replace(', "sales"]', "]"))
    run = world.run("sales")
    assert run.status == runs.FAILED
    message = str(step(run, "learned").message)
    assert "looks up 'sales' of product 'sales', which the model does not read" in message
