"""Verdicts on real rows: who fails, how many, and which rows are shown."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Relation
from tulle.quality.check import Check
from tulle.quality.kind import KINDS
from tulle.quality.verdict import drift, evaluate, plain
from tulle.spec.product import Column, DataSet

NOW = dt.datetime(1998, 7, 10, 12, tzinfo=dt.UTC)
ROWS: dict[str, Any] = {
    "id": ["a", "b", "b", "b", None, None],
    "day": [dt.date(1998, 6, d) for d in (1, 2, 2, 30, 4, 5)],
    "amount": [1.5, -2.0, 3.0, None, 99.0, 4.0],
    "cohort": ["x", "y", None, "z", "x", "y"],
}


def check(kind: str, *, severity: str = "error", **settings: Any) -> Check:
    reads = settings.pop("reads", ())
    return Check(KINDS[kind].title(settings), kind, "t", severity, settings=settings, reads=reads)


@pytest.mark.parametrize(
    ("made", "failing", "ids", "message"),
    [
        (check("not_null", columns=["day"]), 0, [], "in 0 rows day is null"),
        (check("not_null", columns=["id", "amount"]), 3, ["b", None, None], "in 3 rows id or amount is null"),
        (check("unique", columns=["id"]), 2, ["b", "b", "b"], "2 rows repeat a value of id seen before"),
        (
            check("unique", columns=["id", "day"]),
            1,
            ["b", "b"],
            "1 row repeats a value of id, day seen before",
        ),
        (check("unique", columns=["day", "cohort"]), 0, [], ""),
        (
            check("accepted_values", column="cohort", values=["x", "y"]),
            1,
            ["b"],
            "in 1 row cohort is none of the 2 accepted values",
        ),
        (
            check("accepted_values", column="cohort", values=["x", "it's"]),
            3,
            ["b", "b", None],
            "accepted values",
        ),
        (
            check("range", column="amount", min=0, max=50),
            2,
            ["b", None],
            "in 2 rows amount is below 0 or above 50",
        ),
        (check("range", column="day", min="1998-06-02"), 1, ["a"], "in 1 row day is below 1998-06-02"),
        (
            check("references", column="id", to={"data_set": "u", "column": "k"}),
            3,
            ["b"] * 3,
            "in 3 rows id is not found in u.k",
        ),
        (check("row_count", min=6, max=6), 0, [], "6 rows, expected at least 6 and at most 6"),
        (check("row_count", min=7), 1, [], "6 rows, expected at least 7"),
        (check("freshness", column="day", max_age="11d"), 0, [], "the newest day is 1998-06-30, 10 days old"),
        (check("freshness", column="day", max_age="9d"), 1, [], "10 days old; allowed: 9d"),
        (check("freshness", column="day", max_age="36h", as_of="1998-07-01"), 0, [], "24.0 hours old"),
        (check("sql", sql="SELECT id FROM t WHERE amount < 0; "), 1, ["b"], "gives 1 row, expected none"),
        (
            check("sql", sql="SELECT t.id FROM t JOIN u ON t.id = u.k -- x", reads=("t", "u")),
            1,
            ["a"],
            "1 row",
        ),
    ],
)
def test_verdicts(
    engine: DuckEngine, relations: Any, made: Check, failing: int, ids: list[Any], message: str
) -> None:
    (result,) = evaluate(engine, [made], relations(t=ROWS, u={"k": ["a", None]}), now=NOW)
    assert result.failing_count == failing
    assert result.passed is (failing == 0)
    assert result.total == 6
    assert [row["id"] for row in result.failing_rows] == ids
    assert message in result.message
    assert result.stops is (failing > 0)
    json.dumps(result.as_dict(), allow_nan=False)


def test_column_checks_of_a_data_set_take_one_pass(relations: Any) -> None:
    class Counting(DuckEngine):
        asked: list[str] = []  # noqa: RUF012

        def query(self, sql: str, *args: Any, **kwargs: Any) -> Any:
            self.asked.append(sql)
            return DuckEngine.query(self, sql, *args, **kwargs)

    made = [check("not_null", columns=[c]) for c in ("day", "day", "day")] + [check("row_count", min=1)]
    engine = Counting(Warehouse(threads=1), Path("unused"))
    results = evaluate(engine, made, relations(t=ROWS))
    assert all(result.passed for result in results)
    assert len(Counting.asked) == 1


def test_failing_rows_come_whole_and_not_too_many(engine: DuckEngine, relations: Any) -> None:
    rows = {"n": list(range(100)), "text": ["y" * 1000] * 100}
    (result,) = evaluate(engine, [check("range", column="n", min=200)], relations(t=rows))
    assert (result.failing_count, len(result.failing_rows), result.columns) == (100, 20, ("n", "text"))
    assert len(result.failing_rows[0]["text"]) == 301


def test_a_warning_fails_but_does_not_stop(engine: DuckEngine, relations: Any) -> None:
    (result,) = evaluate(engine, [check("row_count", min=7, severity="warn")], relations(t=ROWS))
    assert (result.passed, result.stops) == (False, False)


def test_a_check_that_cannot_be_carried_out_fails_alone(engine: DuckEngine, relations: Any) -> None:
    made = [
        check("not_null", columns=["idd"]),
        check("range", column="cohort", min=3),
        check("not_null", columns=["day"]),
        check("references", column="id", to={"data_set": "v", "column": "k"}),
        check("references", column="id", to={"data_set": "u", "column": "kk"}),
        check("sql", sql="SELECT nothing FROM t"),
        Check("elsewhere", "row_count", "tt", settings={"min": 1}),
        check("references", column="id", to={"product": "crm", "data_set": "people", "column": "id"}),
    ]
    results = evaluate(engine, made, relations(t=ROWS, u={"k": ["a"]}))
    assert [result.passed for result in results] == [False, False, True, False, False, False, False, False]
    messages = [result.message for result in results]
    assert messages[0] == "data set 't' has no column 'idd' (did you mean 'id'?)"
    assert "Cannot compare values" in messages[1]
    assert messages[3] == "there is no data set 'v' (known: t, u)"
    assert messages[4] == "data set 'u' has no column 'kk' (did you mean 'k'?)"
    assert "nothing" in messages[5]
    assert messages[6].startswith("there is no data set 'tt'")
    assert messages[7] == "product 'crm' has published no 'people' here yet (first: tulle run crm)"


def test_an_empty_data_set_is_not_fresh_and_all_else_holds(engine: DuckEngine, relations: Any) -> None:
    empty = pa.table(ROWS).slice(0, 0)
    made = [check("freshness", column="day", max_age="9d"), check("unique", columns=["id"])]
    fresh, unique = evaluate(engine, made, relations(t=empty))
    assert (fresh.passed, unique.passed) == (False, True)
    assert "no value at all" in fresh.message


def test_drift() -> None:
    declared = DataSet(
        "t", "t", "", columns=(Column("id", "string"), Column("amount", "double"), Column("d", "date"))
    )
    actual = [ColumnType("id", "string"), ColumnType("amuont", "double"), ColumnType("d", "string")]
    errors, more = drift(declared, actual, 5)
    assert errors.stops
    assert errors.message == (
        "column 'amount' is missing (did you mean 'amuont'?); column 'd' is string, declared as date"
    )
    assert (more.passed, more.stops, more.message) == (False, False, "column 'amuont' is not declared")
    (fine,) = drift(declared, [ColumnType(c.name, c.type) for c in declared.columns], 5)
    assert fine.passed
    assert drift(DataSet("t", "t", ""), actual, 5) == ()


def test_cells_become_plain_values() -> None:
    values = [
        None,
        True,
        3,
        1.5,
        float("nan"),
        dt.date(2020, 1, 2),
        dt.datetime(2020, 1, 2, 3, tzinfo=dt.UTC),
        Decimal("1.50"),
        b"a",
    ]
    assert [plain(value) for value in values] == [
        None,
        True,
        3,
        1.5,
        "nan",
        "2020-01-02",
        "2020-01-02T03:00:00+00:00",
        "1.50",
        "61",
    ]
    assert plain({"a": [Decimal(1)]}) == {"a": ["1"]}


def test_hostile_names_and_values_stay_values(engine: DuckEngine, relations: Any) -> None:
    rows = {'a"; DROP': ["x'; --", "y"]}
    made = check("accepted_values", column='a"; DROP', values=["x'; --"])
    (result,) = evaluate(engine, [made], relations(t=rows))
    assert result.failing_count == 1
    assert isinstance(relations(t=rows)["t"], Relation)
