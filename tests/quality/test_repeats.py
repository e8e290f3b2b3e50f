"""However keys are told apart (in the pass, by bits, by sorted numbers, by the engine), the answer is the same."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pyarrow as pa
import pytest
from tests.quality.conftest import Relations

from tulle.engine.duck import DuckEngine
from tulle.quality import kind, repeats, verdict
from tulle.quality.check import Check
from tulle.quality.repeats import repeated
from tulle.quality.verdict import CheckResult, evaluate

DAY = dt.date(2024, 2, 29)
ROWS = pa.table(
    {
        "near": pa.array([1, 2, 2, 2, None, 9, 9], pa.int64()),
        "far": pa.array([-(1 << 62), 1 << 62, 5, 5, None, 0, 1], pa.int64()),
        "text": ["a", "b", "b", None, "", "", "c"],
        "number": [0.0, -0.0, math.nan, math.nan, None, 1.5, 2.5],
        "day": [DAY, DAY, None, dt.date(1, 1, 1), dt.date(9999, 12, 31), DAY, None],
        "kept": [True, True, True, False, True, True, True],
    }
)
WAYS = ("few", "large", "too many rows", "no memory", "too many repeated", "one hash for many keys")


def no_memory(_column: object) -> None:
    raise MemoryError


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    if name != "few":
        monkeypatch.setattr(verdict, "_LARGE", 0)
    if name == "too many rows":
        monkeypatch.setattr(verdict, "MOST_ROWS", 3)
    if name == "no memory":
        monkeypatch.setattr(verdict, "repeated", no_memory)
    if name == "too many repeated":
        monkeypatch.setattr(repeats, "MOST_REPEATED", 0)
    if name == "one hash for many keys":
        monkeypatch.setattr(kind, "_hash", lambda _settings: "hash(1)")
        monkeypatch.setattr(kind, "_MOST_BITS", 0)
        monkeypatch.setattr(kind, "_MOST_WHOLE", 0)
    return name


def unique(*columns: str, where: str = "") -> Check:
    return Check(f"{columns}{where}", "unique", "t", settings={"columns": list(columns)}, where=where)


def judged(engine: DuckEngine, relations: Relations, *checks: Check) -> list[CheckResult]:
    return list(evaluate(engine, checks, relations(t=ROWS)))


def test_keys_are_told_apart_in_every_way(engine: DuckEngine, relations: Relations, way: str) -> None:
    assert way in WAYS
    found = judged(
        engine,
        relations,
        unique("near"),
        unique("far"),
        unique("text"),
        unique("number"),
        unique("day"),
        unique("near", "text"),
        unique("near", "kept"),
        unique("near", where="kept -- all others are not looked at"),
    )
    assert [result.failing_count for result in found] == [3, 1, 2, 2, 2, 1, 2, 2]
    shown = [[row[result.name.split("'")[1]] for row in result.failing_rows] for result in found]
    assert shown[0] == [2, 2, 2, 9, 9]
    assert shown[1] == [5, 5]
    assert shown[2] == ["", "", "b", "b"]
    assert len(shown[3]) == 4
    assert shown[4] == ["2024-02-29"] * 3
    assert (shown[5], shown[6], shown[7]) == ([2, 2], [2, 2, 9, 9], [2, 2, 9, 9])


def test_bounds_that_are_known_say_the_same_as_rows(
    engine: DuckEngine, relations: Relations, way: str
) -> None:
    assert way in WAYS

    def within(column: str, **bounds: Any) -> Check:
        return Check(f"{column} {bounds}", "range", "t", settings={"column": column, **bounds})

    found = judged(
        engine,
        relations,
        within("near", min=1, max=9),
        within("near", min=2),
        within("near", max=8.5),
        within("number", min=0, max=3),  # NaN is more than 3
        within("day", min="0001-01-01", max="9999-12-31"),
        within("day", min="0001-01-02"),
        within("day", max="9999-12-30"),
    )
    assert [result.failing_count for result in found] == [0, 1, 2, 2, 0, 1, 1]


def test_what_repeats_in_chunks_is_found() -> None:
    chunks = pa.chunked_array(
        [pa.array([3, 1], pa.uint64()), pa.array([2**64 - 1, 1, 2**64 - 1, 1], pa.uint64())]
    )
    assert repeated(chunks) == [1, 2**64 - 1]
    assert repeated(pa.chunked_array([], pa.int64())) == []
    many = pa.chunked_array([pa.array([*range(repeats.MOST_REPEATED + 1)] * 2)])
    assert repeated(many) is None
