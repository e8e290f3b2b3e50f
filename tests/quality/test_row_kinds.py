"""Kinds about what rows hold, allowances and conditions, on real rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tulle.engine.duck import DuckEngine
from tulle.quality.check import Check, read_checks
from tulle.quality.row_kinds import in_percent, share_of
from tulle.quality.verdict import CheckResult, evaluate

ROWS: dict[str, Any] = {
    "id": ["a1", "b2", "b2", "zzz", None],
    "net": [1.0, 2.0, 3.0, None, 9.0],
    "gross": [1.5, 1.0, 3.0, 4.0, 8.0],
    "land": ["DE", "DE", "AT", "AT", "AT"],
    "n": [1, 2, 3, 4, 5],
}


def judged(engine: DuckEngine, relations: Any, folder: Path, text: str, **more: Any) -> list[CheckResult]:
    folder.mkdir(exist_ok=True)
    (folder / "c.yaml").write_text(f"checks:\n{text}")
    checks, problems = read_checks(folder, "checks")
    assert problems == ()
    return list(evaluate(engine, checks, relations(t=ROWS, **more)))


@pytest.mark.parametrize(
    ("text", "failing", "ids", "message"),
    [
        ("type: pattern, column: id, pattern: '[a-z][0-9]'", 1, ["zzz"], "in 1 row id does not match"),
        ("type: length, column: id, min: 3", 3, ["a1", "b2", "b2"], "the length of id is below 3"),
        ("type: length, column: id, min: 1, max: 2", 1, ["zzz"], "below 1 or above 2"),
        (
            "type: expression, expression: gross >= net",
            2,
            ["b2", None],
            "2 rows do not meet gross >= net",
        ),
        (
            "type: expression, expression: gross >= net, where: land = 'DE'",
            1,
            ["b2"],
            "1 row does not meet gross >= net",
        ),
        ("type: expression, expression: 'GROSS >= net -- why', where: land = 'DE' -- so", 1, ["b2"], "1 row"),
        ("type: completeness, columns: [id], min: 80%", 0, [], "values in 80 % of 5 rows"),
        (
            "type: completeness, columns: [id, net], min: 0.8",
            2,
            ["zzz", None],
            "60 % of 5 rows, expected at least 80 %",
        ),
        ("type: completeness, columns: [net], min: 1, where: land = 'DE'", 0, [], "100 % of 2 rows"),
        ("type: unique_share, columns: [id], min: 80%", 1, [], "3 different values of id in 4 rows: 75 %"),
        ("type: unique_share, columns: [land, id], max: 100%", 0, [], "at most 100 %"),
        ("type: unique_share, columns: [id], max: 50%, where: land = 'AT'", 1, [], "2 different values"),
        ("type: not_null, columns: [id], where: n < 5", 0, [], "in 0 rows"),
        ("type: unique, columns: [id], where: land = 'DE'", 0, [], "0 rows repeat"),
        ("type: unique, columns: [land], where: n > 1", 2, ["b2", "zzz", None], "2 rows repeat"),
        ("type: unique, columns: [n]", 0, [], "0 rows repeat"),
        ("type: accepted_values, column: land, values: [AT], where: n < 2", 1, ["a1"], "in 1 row"),
        ("type: range, column: n, max: 3, where: land = 'DE'", 0, [], "in 0 rows"),
        ("type: row_count, max: 2, where: land = 'DE'", 0, [], "2 rows, expected at most 2"),
        (
            "type: references, column: land, to: {data_set: u, column: land}, where: n > 2",
            3,
            ["b2", "zzz", None],
            "in 3 rows",
        ),
        ("type: schema, columns: {id: string, n: integer}", 0, [], "all 2 columns are there"),
        (
            "type: schema, columns: {idd: string, n: double, net: double, gross: double, land: string}, closed: true",
            3,
            [],
            "column 'idd' is missing (did you mean 'id'?); column 'n' is integer, expected double; column 'id' is not among those allowed",
        ),
    ],
)
def test_verdicts(
    engine: DuckEngine, relations: Any, tmp_path: Path, text: str, failing: int, ids: list[Any], message: str
) -> None:
    # A block of its own line for each setting: some settings end in a comment.
    lines = f"- {{data_set: t, {text}}}" if "--" not in text else _block(text)
    (result,) = judged(engine, relations, tmp_path / "c", lines, u={"land": ["DE", "CH"]})
    assert (result.failing_count, result.passed) == (failing, failing == 0), result.message
    assert [row["id"] for row in result.failing_rows] == ids
    assert message in result.message


def _block(text: str) -> str:
    parts = [part.strip() for part in text.replace("'GROSS >= net -- why'", "GROSS >= net -- why").split(",")]
    settings = dict(part.split(": ", 1) for part in parts)
    return "- data_set: t\n" + "".join(
        f"  {name}: |\n    {value}\n" if "--" in value else f"  {name}: {value}\n"
        for name, value in settings.items()
    )


@pytest.mark.parametrize(
    ("allow", "passed", "said"),
    [
        ("2", True, "; allowed: 2"),
        ("1", False, "; allowed: 1"),
        ("40%", True, "; allowed: 40% (2)"),
        ("39.9%", False, "(1)"),
    ],
)
def test_some_rows_may_fail(
    engine: DuckEngine, relations: Any, tmp_path: Path, allow: str, passed: bool, said: str
) -> None:
    text = f"- {{data_set: t, type: expression, expression: gross >= net, allow: {allow}}}"
    (result,) = judged(engine, relations, tmp_path / "c", text)
    assert (result.passed, result.failing_count, len(result.failing_rows)) == (passed, 2, 2)
    assert result.message.endswith(said)
    assert (result.value, result.threshold) == (2.0, allow)


def test_a_share_is_one_of_the_rows_looked_at(engine: DuckEngine, relations: Any, tmp_path: Path) -> None:
    text = "- {data_set: t, type: expression, expression: gross >= net, where: land = 'DE', allow: 40%}"
    (result,) = judged(engine, relations, tmp_path / "c", text)
    assert (result.passed, result.failing_count, result.total) == (False, 1, 2)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3, 3, 3, None, None],
        [-5, 7, 7, 2**62, None],
        [None, None],
        [],
        [-(2**63), 2**63 - 1, 0, 0],
        [5],
        [-5, 7, 7, None],
    ],
)
def test_repeated_numbers_are_counted_alike_however_far_apart(
    engine: DuckEngine, relations: Any, values: list[int | None]
) -> None:
    there = [value for value in values if value is not None]
    table = pa.table({"n": pa.array(values, pa.int64()), "m": pa.array(values, pa.int64())})
    checks = [
        Check("one", "unique", "t", settings={"columns": ["n"]}),
        Check("two", "unique", "t", settings={"columns": ["n", "m"]}),
    ]
    for result in evaluate(engine, checks, relations(t=table)):
        assert result.failing_count == len(there) - len(set(there)), result


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "type: pattern, column: a, pattern: '(?=x)'",
            "checks/c.yaml:2:52: 'pattern' cannot be used: invalid perl operator",
        ),
        ("type: length, column: a", "needs 'min', 'max' or both"),
        ("type: length, column: a, min: -1", "min"),
        ("type: expression, expression: 'a >'", "'expression': this is not a condition that can be read"),
        ("type: expression, expression: 'a > 1) OR (b'", "'expression'"),
        ("type: expression, expression: 'a > 1; DROP TABLE t'", "'expression'"),
        ("type: expression, expression: 'a IN (SELECT b FROM x)'", "it reads other rows"),
        ("type: expression, expression: 'sum(a) > 3'", "it counts over several rows"),
        ("type: not_null, columns: [a], where: 'a >'", "'where': this is not a condition"),
        (
            "type: not_null, columns: [a], allow: 3 rows",
            "expected a number of rows like 5, or a share of them like 0.1%",
        ),
        ("type: not_null, columns: [a], allow: 101", ""),
        ("type: row_count, min: 1, allow: 1", "unknown property 'allow'"),
        ("type: sql, sql: FROM x, where: a > 1", "unknown property 'where'"),
        ("type: completeness, columns: [a], min: 101%", "expected a share like 0.95 or 95%"),
        (
            "type: unique_share, columns: [a], min: 0.9, max: 10%",
            "'min' is 0.9, which is more than 'max', 10%",
        ),
        ("type: schema, columns: {}", "columns"),
    ],
)
def test_a_wrong_setting_is_placed(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "c.yaml").write_text(f"checks:\n- {{data_set: x, {text}}}")
    _, problems = read_checks(tmp_path, "checks")
    if not problem:
        assert problems == ()
        return
    assert problems
    assert problem in str(problems[0]), problems
    assert str(problems[0]).startswith("checks/c.yaml:2:")


def test_what_a_condition_names_is_looked_for(engine: DuckEngine, relations: Any) -> None:
    made = Check("c", "not_null", "t", settings={"columns": ["id"]}, where="lannd = 'DE'")
    (result,) = evaluate(engine, [made], relations(t=ROWS))
    assert result.message == "data set 't' has no column 'lannd' (did you mean 'land'?)"


def test_a_header_may_allow(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- data_set: t\n-- allow: 0.5%\n-- tags: nightly, slow\nFROM t")
    (tmp_path / "b.sql").write_text("-- data_set: t\n-- allow: some\nFROM t")
    (check,), (problem,) = read_checks(tmp_path, "checks")
    assert (check.allow, check.tags, check.allowed(1000)) == ("0.5%", ("nightly", "slow"), 5)
    assert "'allow' is 'some'" in str(problem)


def test_shares_are_not_rounded_into_all() -> None:
    assert [in_percent(share) for share in (1, 0, 0.5, 0.999999, 0.00001, 0.12345)] == [
        "100 %", "0 %", "50 %", "99.9999 %", "0.001 %", "12.34 %",
    ]  # fmt: skip


def test_a_share_that_is_met_exactly_is_met() -> None:
    assert [n for n in range(1001) if share_of(f"{n / 10}%") != n / 1000] == []
