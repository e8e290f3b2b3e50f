"""Checks in Python: read without running them, carried out with the data, their errors at the user's line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tulle.engine.duck import DuckEngine
from tulle.errors import Invalid
from tulle.quality.check import declared_checks, read_checks
from tulle.quality.program import carry_out
from tulle.quality.verdict import evaluate
from tulle.spec.details import AcceptedValue, ForeignKey
from tulle.spec.product import Column, DataSet

ROWS = {"id": [1, 2, 3], "amount": [1.0, -2.0, -3.0]}


@pytest.mark.parametrize(
    ("body", "failing", "ids"),
    [
        (
            "def check(table):\n    import pyarrow.compute as pc\n    return table.filter(pc.less(table['amount'], 0))",
            2,
            [2, 3],
        ),
        ("def check(relation):\n    return relation.filter('amount < -2')", 1, [3]),
        ("def check(table):\n    return [row for row in table.to_pylist() if row['id'] == 1]", 1, [1]),
        ("def check(table):\n    return table.to_pandas().query('amount < 0')", 2, [2, 3]),
        ("def check(table):\n    return table.num_rows == 3", 0, []),
        ("def check(table):\n    return False", 1, []),
        ("columns = ['id']\ndef check(table):\n    return table.column_names == ['id']", 0, []),
        ("columns = ['id']\ndef check(relation):\n    return relation.columns == ['id']", 0, []),
    ],
)
def test_what_a_check_gives(
    engine: DuckEngine, relations: Any, tmp_path: Path, body: str, failing: int, ids: list[int]
) -> None:
    (tmp_path / "mine.py").write_text(f"data_set = 't'\n{body}\n")
    (check,), problems = read_checks(tmp_path, "checks")
    assert problems == ()
    finding, shown, rows = carry_out(check.settings, "checks/mine.py", engine, relations(t=ROWS)["t"])
    assert (finding.failing, [row["id"] for row in shown]) == (failing, ids)
    assert (rows.num_rows if rows is not None else 0) == len(ids)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "def check(table):\n    x = 1\n    return x / 0",
            "checks/mine.py:4 ZeroDivisionError: division by zero",
        ),
        ("def check(table):\n    return None", "check() returned nothing"),
        ("def check(table):\n    return 3", "check() returned a int"),
        ("def check(table):\n    raise SystemExit(1)", "checks/mine.py:3 SystemExit: 1"),
        ("raise ValueError('early')\ndef check(table): ...", "checks/mine.py:2 ValueError: early"),
    ],
)
def test_an_error_is_told_at_its_line(
    engine: DuckEngine, relations: Any, tmp_path: Path, body: str, message: str
) -> None:
    (tmp_path / "mine.py").write_text(f"data_set = 't'\n{body}\n")
    (check,), _ = read_checks(tmp_path, "checks")
    with pytest.raises(Invalid) as caught:
        carry_out(check.settings, "checks/mine.py", engine, relations(t=ROWS)["t"])
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data_set = 't'\ndef check(table) return", "checks/mine.py:2:18: not Python"),
        ("def check(table): ...", "checks/mine.py:1: the check does not say which data set it is about"),
        ("data_set = name()\ndef check(table): ...", "checks/mine.py:1:12: 'data_set'"),
        ("data_set = 't'", "there is no function 'check'"),
        (
            "data_set = 't'\ndef check(rows): ...",
            "checks/mine.py:2:1: 'check' must take 'table' or 'relation'",
        ),
        (
            "data_set = 't'\nseverity = 'bad'\ndef check(table): ...",
            "checks/mine.py:2:12: 'severity' is 'bad'",
        ),
        ("data_set = 't'\nallow = 'some'\ndef check(table): ...", "'allow' is 'some'"),
        ("data_set = 't'\ncolumns = 'a'\ndef check(table): ...", "'columns' must be a list of words"),
    ],
)
def test_a_wrong_file_is_placed_and_never_executed(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.py").write_text(f"{text}\nraise SystemExit(3)\n" if "return" not in text else text)
    (tmp_path / "_shared.py").write_text("not Python at all")
    checks, problems = read_checks(tmp_path, "checks")
    assert checks == ()
    assert problem in str(problems[0])


def test_whoever_may_not_run_programs_says_so(engine: DuckEngine, relations: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("data_set = 't'\nallow = 1\nname = 'no debts'\ndef check(table): ...\n")
    checks, _ = read_checks(tmp_path, "checks")
    (result,) = evaluate(engine, checks, relations(t=ROWS))
    assert (result.name, result.passed, checks[0].allow) == ("no debts", False, "1")
    assert "only carried out by a run" in result.message


def test_all_that_columns_declare_is_checked(engine: DuckEngine, relations: Any) -> None:
    columns = (
        Column("id", "integer", key=True, unique=True),
        Column("code", "string", unique=True, pattern="[a-z]{2}", min_length=1, max_length=2),
        Column("land", "string", enum=(AcceptedValue("DE"), AcceptedValue("AT"))),
        Column("day", "date", min="2020-01-01"),
        Column("customer", "integer", foreign_key=ForeignKey("customers", "id")),
        Column("shop", "integer", foreign_key=ForeignKey("shops", "id", "retail")),
    )
    checks = declared_checks(DataSet("t", "t", "", columns=columns))
    assert [(c.name, c.kind) for c in checks] == [
        ("id is part of the key", "not_null"),
        ("code is unique", "unique"),
        ("code matches [a-z]{2}", "pattern"),
        ("code has at least 1 and at most 2 characters", "length"),
        ("land has only accepted values", "accepted_values"),
        ("day is at least 2020-01-01", "range"),
        ("customer is known in customers.id", "references"),
        ("shop is known in retail.shops.id", "references"),
        ("id is the key", "unique"),
    ]
    assert dict(checks[7].elsewhere) == {"retail.shops": ("retail", "shops")}
    rows = {"id": [1], "code": ["ab"], "land": ["CH"], "day": ["2020-05-01"], "customer": [1], "shop": [2]}
    found = evaluate(
        engine, checks, relations(t=rows, customers={"id": [1]}, **{"retail.shops": {"id": [3]}})
    )
    assert [result.name for result in found if not result.passed] == [
        "land has only accepted values", "shop is known in retail.shops.id",
    ]  # fmt: skip
