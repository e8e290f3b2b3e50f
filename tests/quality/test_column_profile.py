"""Profiles of columns: exact where all is looked at, honest where a sample is, and never out of step with odd values."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.quality.conftest import Relations

from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.quality import column_profile
from tulle.quality.column_profile import BINS, DataSetProfile, profile

DAY = dt.date(2024, 2, 29)


@pytest.fixture
def odd(relations: Relations) -> Relation:
    made = relations(
        odd=pa.table(
            {
                "n": pa.array([1, 2, 2, None, 100], pa.int64()),
                "x": [0.5, math.nan, math.inf, None, -0.5],
                "price": pa.array([Decimal("1.10"), Decimal("2.20"), None, Decimal("2.20"), Decimal("9.90")]),
                "text": ["b", "a", "b", None, "c" * 1000],
                "flag": [True, False, None, True, True],
                "day": [DAY, None, DAY, DAY + dt.timedelta(1), DAY],
                "at": pa.array(
                    [dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC), None, None, None, None],
                    pa.timestamp("us", "UTC"),
                ),
                "raw": [b"x", b"y", None, b"x", b"x"],
                'na"me; {--}': pa.nulls(5, pa.string()),
            }
        )
    )
    return made["odd"]


def columns(found: DataSetProfile) -> dict[str, Any]:
    return {column.name: column for column in found.columns}


def test_every_type_of_column(engine: DuckEngine, odd: Relation, tmp_path: Path) -> None:
    found = profile(engine, odd, tmp_path / "sample")
    assert (found.rows, found.looked_at) == (5, 5)
    by_name = columns(found)
    n = by_name["n"]
    assert (n.nulls, n.distinct, n.distinct_exact, n.min, n.max, n.mean) == (1, 3, True, 1, 100, 26.25)
    assert n.top[0] == {"value": 2, "count": 2}
    assert len(n.histogram) == BINS
    assert [b["count"] for b in n.histogram if b["count"]] == [3, 1]
    assert (n.histogram[0]["from"], n.histogram[-1]["to"]) == (1, 100)
    x = by_name["x"]
    assert (x.min, x.max, x.mean, x.stddev) == (-0.5, 0.5, 0.0, 0.5)
    assert sum(b["count"] for b in x.histogram) == 2  # no bin for what is no number
    assert (by_name["price"].min, by_name["price"].max) == ("1.10", "9.90")
    assert by_name["text"].top[0] == {"value": "b", "count": 2}
    assert len(by_name["text"].max) < 400
    assert (by_name["flag"].distinct, by_name["flag"].nulls) == (2, 1)
    assert (by_name["day"].min, by_name["day"].max) == ("2024-02-29", "2024-03-01")
    assert by_name["day"].histogram[0]["from"] == "2024-02-29T00:00:00+00:00"
    assert (by_name["at"].min, by_name["at"].histogram) == ("2024-01-01T12:00:00", ())
    assert (by_name["raw"].nulls, by_name["raw"].distinct, by_name["raw"].top) == (1, None, ())
    empty = by_name['na"me; {--}']
    assert (empty.nulls, empty.distinct, empty.min, empty.top) == (5, 0, None, ())


def test_values_that_may_not_be_seen_are_left_out(engine: DuckEngine, odd: Relation, tmp_path: Path) -> None:
    found = columns(profile(engine, odd, tmp_path, shown=lambda names: set(names) - {"text"}))
    text = found["text"]
    assert (text.hidden, text.nulls, text.distinct, text.min, text.max, text.top) == (
        True,
        1,
        3,
        None,
        None,
        (),
    )
    assert not found["n"].hidden


def test_moments_that_python_does_not_know(engine: DuckEngine, relations: Relations, tmp_path: Path) -> None:
    far = pa.array([10_000_000, 10_000_000, 0, None], pa.int32()).cast(pa.date32())
    (found,) = profile(engine, relations(far=pa.table({"day": far}))["far"], tmp_path).columns
    assert (found.min, found.max, found.nulls) == ("1970-01-01", "29349-01-26", 1)
    assert found.top[0] == {"value": "29349-01-26", "count": 2}
    assert found.histogram[0]["count"] == 1


def test_no_rows_at_all(engine: DuckEngine, relations: Relations, tmp_path: Path) -> None:
    made = relations(none=pa.table({"n": pa.array([], pa.int64()), "t": pa.array([], pa.string())}))
    found = profile(engine, made["none"], tmp_path)
    assert [(c.nulls, c.distinct, c.min, c.histogram) for c in found.columns] == [(0, 0, None, ())] * 2


def test_more_columns_than_a_statement_takes(
    engine: DuckEngine, relations: Relations, tmp_path: Path
) -> None:
    made = relations(wide=pa.table({f"c{i}": [i, None] for i in range(130)}))
    found = profile(engine, made["wide"], tmp_path)
    assert [(c.name, c.nulls, c.max) for c in found.columns] == [(f"c{i}", 1, i) for i in range(130)]


def test_data_sets_of_the_same_name_are_looked_at_side_by_side(
    engine: DuckEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_profile, "MOST_ROWS", 500)
    made = {}
    for place, start in (("a", 0), ("b", 5_000)):
        pq.write_table(
            pa.table({"id": range(start, start + 1000)}), tmp_path / f"{place}.parquet", row_group_size=100
        )
        relation = Relation("big", (str(tmp_path / f"{place}.parquet"),))
        made[place] = column_profile._Sample(
            relation, tmp_path / "sample"
        )  # the second begins beside the first
    for place, start in (("a", 0), ("b", 5_000)):
        (found,) = engine.query(
            "SELECT min(id) AS low, max(id) AS high FROM big", [made[place].relation]
        ).to_pylist()
        made[place].remove()
        assert start <= found["low"] <= found["high"] < start + 1000
    assert list((tmp_path / "sample").iterdir()) == []


def test_of_a_large_data_set_some_rows_are_looked_at(
    engine: DuckEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_profile, "MOST_ROWS", 500)
    file, rows = tmp_path / "big.parquet", 10_000
    table = pa.table(
        {
            "id": range(rows),
            "t": [None if i % 4 == 0 else f"k{i % 7}" for i in range(rows)],
            "none": pa.nulls(rows, pa.int64()),
        }
    )
    pq.write_table(table, file, row_group_size=100)
    relation = Relation("big", (str(file),))
    found = profile(engine, relation, tmp_path / "sample")
    by_name = columns(found)
    assert found.rows == rows
    assert 0 < found.looked_at <= 500
    assert (by_name["id"].min, by_name["id"].max) == (0, rows - 1)  # what the files' feet tell is of all rows
    assert (by_name["t"].nulls, by_name["none"].nulls) == (rows // 4, rows)
    assert {one["value"] for one in by_name["t"].top} == {f"k{i}" for i in range(7)}
    assert list((tmp_path / "sample").iterdir()) == []
