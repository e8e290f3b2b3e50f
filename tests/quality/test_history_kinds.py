"""Checks against history: quiet until there is some, then loud about what moved too far."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pytest

from tulle.engine.duck import DuckEngine
from tulle.quality.check import Check, read_checks
from tulle.quality.kind import Past
from tulle.quality.profile import ks, pooled, psi
from tulle.quality.verdict import CheckResult, Circumstances, evaluate


def judge(engine: DuckEngine, relations: Any, check: Check, past: list[Past], **columns: Any) -> CheckResult:
    around = Circumstances(past=lambda _: past)
    (result,) = evaluate(engine, [check], relations(t=columns), around=around)
    return result


def remembered(*results: CheckResult) -> list[Past]:
    return [Past(result.value, result.detail, 0.0) for result in results]


def counts(*values: float) -> list[Past]:
    return [Past(value, None, 0.0) for value in values]


@pytest.mark.parametrize(
    ("settings", "before", "rows", "passed", "message"),
    [
        ({"max_change": "20%"}, [], 10, True, "10 rows; there are 0 earlier runs to compare with, 3 are needed"),
        ({"max_change": "20%", "after": 1}, [100], 10, False, "10 rows, -90.0% against the 100 that are usual"),
        ({"max_change": "20%"}, [9, 10, 11], 12, True, "+20.0%"),
        ({"max_change": "20%"}, [9, 10, 11], 13, False, "allowed: 20 % of change"),
        ({"max_change": 0.2, "over": 3}, [9, 10, 11, 99, 99, 99], 12, True, "last 3 runs"),
        ({"max_change": "0%"}, [0, 0, 0], 0, True, "0 rows"),
        ({"max_change": "50%"}, [0, 0, 0], 1, False, "from none"),
        ({"max_z": 2}, [8, 10, 12], 13, True, "1.8 standard deviations from the 10 of the last 3 runs"),
        ({"max_z": 2}, [8, 10, 12], 15, False, "3.1 standard deviations"),
        ({"max_z": 3}, [10, 10, 10], 11, False, "infinitely many"),
    ],
)  # fmt: skip
def test_volume(
    engine: DuckEngine,
    relations: Any,
    settings: dict[str, Any],
    before: list[float],
    rows: int,
    passed: bool,
    message: str,
) -> None:
    check = Check("v", "volume", "t", settings=settings)
    result = judge(engine, relations, check, counts(*before), n=list(range(rows)))
    assert (result.passed, result.value) == (passed, rows)
    assert message in result.message


def spread(seed: int, shift: float = 0.0, n: int = 3000) -> list[float | None]:
    made = random.Random(seed)
    return [made.gauss(50 + shift, 10) if made.random() > 0.02 else None for _ in range(n)]


@pytest.mark.parametrize("measure", ["psi", "ks", "mean", "stddev", "median", "null_share"])
def test_numbers_that_are_spread_as_usual_pass(engine: DuckEngine, relations: Any, measure: str) -> None:
    check = Check("d", "distribution", "t", settings={"column": "x", "measure": measure})
    first = [judge(engine, relations, check, [], x=spread(seed)) for seed in range(3)]
    assert all(result.passed and "not judged yet" in result.message for result in first)
    again = judge(engine, relations, check, remembered(*first), x=spread(9))
    assert again.passed, again.message
    assert again.value is not None
    assert again.value < 0.05


@pytest.mark.parametrize(
    ("measure", "values"),
    [
        ("psi", spread(9, 12)),
        ("ks", spread(9, 5)),
        ("mean", spread(9, 15)),
        ("median", spread(9, -15)),
        ("stddev", [50 + (x - 50) * 2 if x is not None else None for x in spread(9)]),
        ("null_share", [x if i % 10 else None for i, x in enumerate(spread(9))]),
    ],
)  # fmt: skip
def test_numbers_that_moved_are_told(
    engine: DuckEngine, relations: Any, measure: str, values: list[Any]
) -> None:
    check = Check("d", "distribution", "t", settings={"column": "x", "measure": measure})
    first = [judge(engine, relations, check, [], x=spread(seed)) for seed in range(3)]
    moved = judge(engine, relations, check, remembered(*first), x=values)
    assert not moved.passed, moved.message
    assert "x" in moved.message


def test_categories_days_and_what_has_none(engine: DuckEngine, relations: Any) -> None:
    check = Check("d", "distribution", "t", settings={"column": "x"})
    first = [judge(engine, relations, check, [], x=["a"] * 60 + ["b"] * 40) for _ in range(3)]
    assert first[0].detail == {"count": 100, "null_share": 0.0, "shares": {"a": 0.6, "b": 0.4}}
    same = judge(engine, relations, check, remembered(*first), x=["a"] * 118 + ["b"] * 82)
    moved = judge(engine, relations, check, remembered(*first), x=["a"] * 30 + ["c"] * 70)
    gone = judge(engine, relations, check, remembered(*first), x=[None, None])
    assert (same.passed, moved.passed, gone.passed) == (True, False, False)
    assert gone.message == "x has no value any more"
    by_mean = Check("d", "distribution", "t", settings={"column": "x", "measure": "mean"})
    assert "it has no mean" in judge(engine, relations, by_mean, remembered(*first), x=["a"]).message
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=n % 30) for n in range(300)]
    earlier = [judge(engine, relations, check, [], x=days) for _ in range(3)]
    later = judge(engine, relations, check, remembered(*earlier), x=[d + dt.timedelta(days=60) for d in days])
    assert not later.passed


def test_only_the_rows_looked_at_are_spread(engine: DuckEngine, relations: Any) -> None:
    check = Check("d", "distribution", "t", settings={"column": "x"}, where="land = 'DE'")
    rows: dict[str, Any] = {"x": ["a", "b", "c"], "land": ["DE", "DE", "AT"]}
    assert (judge(engine, relations, check, [], **rows).detail or {})["shares"] == {"a": 0.5, "b": 0.5}


def test_hostile_values_are_profiled(engine: DuckEngine, relations: Any) -> None:
    check = Check("d", "distribution", "t", settings={"column": "x"})
    strange = judge(engine, relations, check, [], x=[float("nan"), float("inf"), 1.0, None])
    assert (strange.detail or {})["mean"] == 1.0
    nothing = judge(engine, relations, check, [], x=[float("nan")])
    assert nothing.detail == {"count": 0, "null_share": 0.0}
    many = judge(engine, relations, check, [], x=[f"v{n}" for n in range(1000)])
    assert len((many.detail or {})["shares"]) == 101


def test_distances() -> None:
    one = {
        "count": 1,
        "null_share": 0.0,
        "quantiles": [float(i) for i in range(101)],
        "mean": 50.0,
        "stddev": 29.0,
    }
    two = {**one, "quantiles": [float(i + 50) for i in range(101)]}
    assert (psi(one, one), ks(one, one)) == (0.0, 0.0)
    assert ks(one, two) == pytest.approx(0.5, abs=0.011)
    assert psi(one, two) > 1
    constant = {**one, "quantiles": [7.0] * 101}
    assert (psi(constant, constant), ks(constant, constant)) == (0.0, 0.0)
    assert ks(constant, two) > 0.9
    assert pooled([]) is None
    assert (pooled([one, two]) or {})["quantiles"][0] == 25.0


def test_a_volume_needs_one_bound(tmp_path: Path) -> None:
    text = "checks:\n- {data_set: x, type: volume}\n- {data_set: x, type: volume, max_z: 1, max_change: 1%}\n"
    (tmp_path / "c.yaml").write_text(text + "- {data_set: x, type: distribution, column: a, measure: chi}\n")
    _, problems = read_checks(tmp_path, "checks")
    assert [str(problem).split(" (")[0] for problem in problems[:2]] == [
        "checks/c.yaml:2:3: a check 'volume' needs either 'max_change' or 'max_z'",
        "checks/c.yaml:3:3: a check 'volume' needs either 'max_change' or 'max_z'",
    ]
    assert len(problems) == 3
