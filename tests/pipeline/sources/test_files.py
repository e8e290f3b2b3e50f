"""Files that come one after another, columns that change, and rows that are put aside."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.sources.conftest import Shop, problems

COLUMNS = [{"name": "id", "type": "integer"}, {"name": "price", "type": "decimal(10,2)"}]


def write(shop: Shop, name: str, text: str) -> None:
    (shop.product / "data" / name).write_text(text)


def ids(shop: Shop) -> list[int]:
    return [row["id"] for row in shop.rows()]


def test_only_new_files_are_read(shop: Shop) -> None:
    shop.source(type="file", path="data/*.csv", columns=COLUMNS, load="incremental")
    write(shop, "1.csv", "id,price\n1,1.50\n")
    shop.good()
    assert shop.run().status == "unchanged"
    write(shop, "2.csv", "id,price\n2,2.50\n3,\n")
    shop.good()
    assert ids(shop) == [1, 2, 3]
    assert len(shop.names()) == 2
    write(shop, "1.csv", "id,price\n1,9.99\n")
    said = problems(shop.run())
    assert "1.csv has changed since it was read" in said
    assert ids(shop) == [1, 2, 3]
    shop.good(full=True)
    assert [row["price"] for row in shop.rows()] == [Decimal("9.99"), Decimal("2.50"), None]


def test_many_small_loads_become_one_file(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulle.pipeline.keep.MOST_FILES", 3)
    shop.source(type="file", path="data/*.csv", columns=COLUMNS, load="incremental")
    for number in range(5):
        write(shop, f"{number}.csv", f"id,price\n{number},1\n")
        shop.good()
    assert ids(shop) == [0, 1, 2, 3, 4]
    assert len(shop.names()) <= 3


def test_a_file_that_changed_replaces_rows_of_the_same_key(shop: Shop) -> None:
    shop.source(type="file", path="data/*.csv", columns=COLUMNS, load="merge", key=["id"])
    write(shop, "1.csv", "id,price\n1,1\n2,2\n")
    shop.good()
    write(shop, "1.csv", "id,price\n2,5\n2,6\n3,3\n")
    shop.good()
    assert [(r["id"], r["price"]) for r in shop.rows()] == [(1, 1), (2, 6), (3, 3)]


def test_rows_that_do_not_fit_are_put_aside_with_their_lines(shop: Shop) -> None:
    source: dict[str, Any] = {"type": "file", "path": "data/*.csv", "columns": COLUMNS, "load": "incremental"}
    shop.source(**source, on_bad_rows="quarantine")
    write(shop, "1.csv", 'id,price\n1,1\n2,dear\n3\nx,"y\nz"\n5,5\n')
    run = shop.good()
    assert ids(shop) == [1, 5]
    assert [(m.name, m.value) for m in run.steps[0].metrics] == [("rows put aside", 3)]
    bad = sorted(shop.rows("orders__rejected"), key=lambda row: str(row["place"]))
    places = [row["place"].rpartition("/")[2] for row in bad]
    assert places == ["1.csv:3", "1.csv:4", "1.csv:5"]
    assert "column 'price' is 'dear', expected a number" in bad[0]["reason"]
    assert bad[1]["reason"] == "1 value, expected 2"
    assert "column 'id' is 'x'" in bad[2]["reason"]
    assert "column 'price' is" in bad[2]["reason"]
    assert json.loads(bad[2]["row"]) == {"id": "x", "price": "y\nz"}
    assert {row["run"] for row in bad} == {run.id}
    assert shop.run().status == "unchanged"
    write(shop, "2.csv", "id,price\n7,7\n8,?\n")
    shop.good()
    assert (ids(shop), len(shop.rows("orders__rejected"))) == ([1, 5, 7], 4)


def parquet(shop: Shop, name: str, **columns: Any) -> None:
    pq.write_table(pa.table(columns), shop.product / "data" / name)


def test_an_empty_text_stays_one_whatever_else_does_not_fit(shop: Shop) -> None:
    columns = [{"name": "id", "type": "integer"}, {"name": "name"}, {"name": "more"}]
    shop.source(type="file", path="data/*.csv", columns=columns, on_bad_rows="quarantine")
    good = 'id,name,more\n1,"",\n2,,""\n3,"a ""b"", \nc",""\n4,d"",""\n'
    write(shop, "1.csv", good)
    shop.good()
    rows = shop.rows()
    assert [(row["name"], row["more"]) for row in rows] == [
        ("", None),
        (None, ""),
        ('a "b", \nc', ""),
        ('d""', ""),
    ]
    write(shop, "1.csv", f"{good}x,,\n")
    shop.good()
    assert shop.rows() == rows


def test_other_columns_are_refused_unless_somebody_says_otherwise(shop: Shop) -> None:
    shop.source(type="file", path="data/*.parquet", load="incremental")
    parquet(shop, "1.parquet", id=[1], n=[1])
    shop.good()
    parquet(shop, "2.parquet", id=[2], n=[0.5], more=["x"])
    said = problems(shop.run())
    assert "column 'n' is double and was integer" in said
    assert "column 'more' is new" in said
    assert "on_drift: widen" in said
    assert shop.rows() == [{"id": 1, "n": 1}]


def test_columns_become_wider(shop: Shop) -> None:
    shop.source(type="file", path="data/*.parquet", load="incremental", on_drift="widen")
    parquet(shop, "1.parquet", id=[1], n=[1])
    shop.good()
    parquet(shop, "2.parquet", id=[2], n=[0.5], more=["x"])
    shop.good()
    assert shop.rows() == [{"id": 1, "n": 1.0, "more": None}, {"id": 2, "n": 0.5, "more": "x"}]
    parquet(shop, "3.parquet", id=[3])
    shop.good()
    assert shop.rows()[-1] == {"id": 3, "n": None, "more": None}
    parquet(shop, "4.parquet", id=["four"], n=[1.0], more=["x"])
    assert "column 'id' is string and was integer" in problems(shop.run())


def test_a_number_that_is_no_double_is_told(shop: Shop) -> None:
    shop.source(type="file", path="data/*.parquet", load="incremental", on_drift="widen")
    parquet(shop, "1.parquet", n=[0.5])
    shop.good()
    parquet(shop, "2.parquet", n=[2**53 + 1])
    said = problems(shop.run())
    assert "column 'n' has values that are no double, as it was before" in said
    assert "--full" in said
    assert shop.rows() == [{"n": 0.5}]


@pytest.mark.parametrize("load", [{"load": "incremental"}, {"load": "merge", "key": ["id"]}])
def test_whole_numbers_become_doubles_only_where_they_stay_the_same(shop: Shop, load: dict[str, Any]) -> None:
    shop.source(type="file", path="data/*.parquet", on_drift="widen", **load)
    parquet(shop, "1.parquet", id=[1, 2], n=[2**53, None])
    shop.good()
    parquet(shop, "2.parquet", id=[3], n=[0.5])
    shop.good()
    assert [row["n"] for row in shop.rows()] == [2.0**53, None, 0.5]
    parquet(shop, "1.parquet", id=[1, 2], n=[2**53 + 1, None])
    (shop.product / "data/2.parquet").unlink()
    shop.good(full=True)
    parquet(shop, "2.parquet", id=[3], n=[0.5])
    assert "column 'n' becomes double, and there are whole numbers that are none" in problems(shop.run())
    assert [row["n"] for row in shop.rows()] == [2**53 + 1, None]


def test_what_does_not_fit_the_columns_of_before_is_put_aside(shop: Shop) -> None:
    shop.source(type="file", path="data/*.parquet", load="incremental", on_drift="quarantine")
    parquet(shop, "1.parquet", id=[1], n=[1])
    shop.good()
    parquet(shop, "2.parquet", id=["2", "zwei"], n=[2, 3], more=[True, False])
    shop.good()
    assert shop.rows() == [{"id": 1, "n": 1}, {"id": 2, "n": 2}]
    (bad,) = shop.rows("orders__rejected")
    assert "column 'id' is 'zwei', which is no integer as before" in bad["reason"]
