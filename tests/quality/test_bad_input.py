"""Bad input to checks: what can be told before anything runs has its place, what cannot fails alone and says why."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.pipeline.conftest import World
from tests.quality.conftest import Relations

from tulle.engine.duck import DuckEngine
from tulle.quality import verdict
from tulle.quality.check import Check, check_names, parse_checks
from tulle.quality.kind import Finding
from tulle.quality.verdict import Circumstances, evaluate

KNOWN = {"t": ["id", "s", "at"]}


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("{data_set: t, type: uniqe, columns: [id]}", "1:30", "did you mean 'unique'?"),
        ("{data_set: tt, type: unique, columns: [id]}", "1:10", "did you mean 't'?"),
        ("{data_set: t, type: unique, columns: [idd]}", "1:10", "did you mean 'id'?"),
        ("{data_set: t, type: unique, columns: []}", "1:47", "expected at least 1 entry"),
        ("{data_set: t, type: unique, columns: [id, id]}", "1:47", "each entry only once"),
        ("{data_set: t, type: unique, columns: [id], allow: -1}", "1:60", "expected a number of rows like 5"),
        ("{data_set: t, type: unique, columns: [id], allow: 400%}", "1:60", "more than all rows"),
        ("{data_set: t, type: unique, columns: [id], where: 'id >'}", "1:60", "no condition|not a condition"),
        ("{data_set: t, type: pattern, column: s, pattern: '('}", "1:59", "patterns are RE2"),
        ("{data_set: t, type: pattern, column: s, pattern: '(?=x)'}", "1:59", "patterns are RE2"),
        ("{data_set: t, type: pattern, column: s, pattern: '(x{900}){900}'}", "1:59", "repetition size"),
        ("{data_set: t, type: range, column: id, min: .inf, max: -.inf}", "1:54", "more than 'max'"),
        ("{data_set: t, type: range, column: id}", "1:10", "needs 'min', 'max' or both"),
        ("{data_set: t, type: row_count, min: -1}", "1:46", "expected at least 0"),
        ("{data_set: t, type: completeness, columns: [id], min: 150%}", "1:64", "expected a share"),
        ("{data_set: t, type: volume, max_z: .nan}", "1:45", "expected a number"),
        ("{data_set: t, type: volume}", "1:10", "either 'max_change' or 'max_z'"),
        ("{data_set: t, type: freshness, column: at, max_age: 99999999999999d}", "1:62", "longer than time"),
        ("{data_set: t, type: freshness, column: at, max_age: 1d, as_of: '2024-13-45'}", "1:73", "no day"),
        ("{data_set: t, type: sql, sql: 'DELETE FROM t'}", "1", "expected one SELECT, found DELETE"),
        ("{data_set: t, type: sql, sql: 'SELECT 1; SELECT 2'}", "1", "found 2 statements"),
        ("{data_set: t, type: sql, sql: \"COPY t TO '/tmp/x'\"}", "1", "found COPY"),
        ("{data_set: t, type: sql, sql: \"SELECT * FROM read_csv('/x')\"}", "1:15", "may not be used"),
        ("{data_set: t, type: sql, sql: \"SELECT * FROM '/etc/passwd'\"}", "1:15", "would read a file"),
        ("{data_set: t, type: expression, expression: 'id > 0) OR (1=1'}", "1:54", "not a condition"),
        ("{data_set: t, type: expression, expression: 'sum(id) > 0'}", "1:54", "looks at one row"),
        ("{data_set: t, type: references, column: id, to: {data_set: u, column: k}}", "1:10", "known: t"),
        ("{data_set: t, type: suite, suite: ../x.py}", "1:44", "suites/orders.py"),
        ("{data_set: t, type: python, code: x}", "1:30", "expected one of"),
        ("{data_set: t, type: row_count, min: 1, severity: fatal}", "1:59", "'error', 'warn'"),
        ("3", "1:10", "expected a mapping"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(text: str, place: str, said: str) -> None:
    checks, problems = parse_checks(f"checks: [{text}]", "checks/c.yaml")
    (problem, *_) = [*problems, *check_names(checks, KNOWN)]
    assert str(problem.place) == f"checks/c.yaml:{place}"
    told = f"{problem.message} {problem.hint}"
    assert any(one in told for one in said.split("|")), told


FAR = 10_000_000
ROWS = {
    "id": [1, 2, 3],
    "s": ["secret-" + "a" * 5000, "b", None],
    "at": pa.array([FAR, 1, 2], pa.int32()).cast(pa.date32()),
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: pattern, column: id, pattern: a", "column 'id' is integer, and 'pattern' is for string"),
        ("type: length, column: at, min: 1", "column 'at' is date, and 'length' is for string"),
        (
            "type: freshness, column: s, max_age: 1d",
            "column 's' is string, and 'freshness' is for date or timestamp",
        ),
        ("type: freshness, column: at, max_age: 1d", "beyond the year 9999, so nothing is known of its age"),
        ("type: range, column: s, min: 1", "Cannot compare values"),
        ("type: range, column: at, min: '2024-01-01'", "in 2 rows at is below 2024-01-01"),
        ("type: accepted_values, column: id, values: [a]", "Could not convert string '…' to INT64"),
        ("type: sql, sql: 'SELECT nope FROM t'", 'Referenced column "nope" not found'),
        ("type: sql, sql: 'SELECT * FROM t WHERE s::INT > 3'", "Could not convert string '…' to INT32"),
        ("type: sql, sql: \"SELECT getenv('HOME') FROM t\"", "getenv does not exist"),
        (
            "type: sql, sql: \"SELECT DATE '99999-01-01' AS d, [DATE '99999-01-01'] AS l, INTERVAL 1 DAY AS i FROM t\"",
            "3 rows",
        ),
        (
            "type: sql, sql: \"SELECT 'infinity'::TIMESTAMP AS d, '-infinity'::DATE AS e FROM t\"",
            "gives 3 rows",
        ),
        ("type: distribution, column: s, measure: mean", "s has no numbers, so it has no mean"),
    ],
)
def test_what_is_wrong_with_the_data_fails_alone(
    engine: DuckEngine, relations: Relations, text: str, said: str
) -> None:
    checks, problems = parse_checks(
        f"checks: [{{data_set: t, {text}}}, {{data_set: t, type: row_count, min: 3, max: 3}}]",
        "checks/c.yaml",
    )
    assert problems == []
    wrong, right = evaluate(engine, checks, relations(t=ROWS))
    assert (wrong.passed, right.passed) == (False, True)
    assert said in wrong.message
    assert len(wrong.message) < 700
    assert "secret" not in wrong.message  # pages mask rows, not messages


def test_history_that_is_not_there_is_no_failure(engine: DuckEngine, relations: Relations) -> None:
    text = (
        "checks: [{data_set: t, type: volume, max_change: 1%}, {data_set: t, type: distribution, column: id}]"
    )
    results = evaluate(engine, parse_checks(text, "c.yaml")[0], relations(t=ROWS))
    assert [result.passed for result in results] == [True, True]
    assert all("0 earlier runs" in result.message for result in results)


def test_a_check_that_does_not_end_is_named(
    engine: DuckEngine, relations: Relations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "SLOW_SECONDS", 0.0)
    heard, lines = threading.Event(), []

    def say(line: str) -> None:
        lines.append(line)
        heard.set()

    def program(_check: Check, _relations: object) -> tuple[Finding, tuple[()]]:
        return Finding(int(not heard.wait(60)), "waited"), ()

    check = Check("for ever", "python", "t", settings={"code": ""})
    (result,) = evaluate(engine, [check], relations(t=ROWS), around=Circumstances(program=program, say=say))
    assert (result.passed, lines) == (True, ["t: the check 'for ever' takes longer than 0 s"])


@pytest.fixture
def world(tmp_path: Path) -> Any:
    from tests.control.conftest import fill
    from tests.pipeline.conftest import Mesh

    made = World(fill(Mesh(tmp_path / "mesh")))
    yield made
    made.database.close()


PROGRAMS = """data_set = "sales"


def check(table):
    {body}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('gone')", "checks/odd.py:5 KeyError: 'gone'"),
        ("raise SystemExit(0)", "checks/odd.py:5 SystemExit: 0"),
        ("return 'fine'", "check() returned a str"),
        ("return [1, 2]", "check() returned a list"),
        ("return [{'a': 1}, {'a': 'x'}]", "odd.py"),
        ("import os; return table.nothing", "AttributeError"),
    ],
)
def test_a_program_that_misbehaves_stops_the_publish_and_nothing_else(
    world: World, body: str, said: str
) -> None:
    assert world.run("sales").status == "succeeded"
    world.mesh.sales("checks/odd.py", PROGRAMS.format(body=body))
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 1}]")
    world.mesh.sales("data/sales.csv", "id,customer,day,amount\n9,zoe,01.02.2020,1\n")
    run = world.run("sales")
    assert run.status == "failed"
    found = {check.kind: check for step in run.steps for check in step.checks if step.name == "sales"}
    assert said in found["python"].message
    assert found["row_count"].passed
    assert [row["id"] for row in world.rows("sales", "sales")] == [1, 2, 3]
