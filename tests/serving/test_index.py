"""Indexes: exact keys of every type, clear refusals, equal bytes for equal rows."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.errors import Broken, Invalid
from tulle.serving.index import Column, build_index, key_of, normal_key, open_index


def build(path: Path, table: pa.Table, key: list[Column], form: Any = "object") -> int:
    columns = [Column(name, "string") for name in table.column_names]
    return build_index(path, table, key, columns, form, what="data set 'x'")


def test_rows_are_found_by_keys_of_every_type(tmp_path: Path) -> None:
    moment = dt.datetime(1998, 6, 30, 12, tzinfo=dt.UTC)
    table = pa.table(
        {
            "s": ["a", "b"],
            "i": [1, -(2**63)],
            "b": [True, False],
            "d": [dt.date(1998, 6, 30), dt.date(2000, 2, 29)],
            "t": pa.array([moment, moment + dt.timedelta(microseconds=1)], pa.timestamp("us", "UTC")),
            "n": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-2.00")], pa.decimal128(10, 2)),
        }
    )
    words = ("string", "integer", "boolean", "date", "timestamp", "decimal(10,2)")
    key = [Column(name, word) for name, word in zip(table.column_names, words, strict=True)]
    assert build_index(tmp_path / "i.mdb", table, key, [Column("s", "string")], "array", what="x") == 2
    index = open_index(tmp_path / "i.mdb")
    zone = dt.timezone(dt.timedelta(hours=2))
    same = [
        ["a", 1, True, dt.date(1998, 6, 30), moment, decimal.Decimal("1.5")],
        ["a", 1, True, dt.date(1998, 6, 30), moment.astimezone(zone), 1.5],
        ["a", 1, True, dt.date(1998, 6, 30), moment.replace(tzinfo=None), decimal.Decimal("1.500")],
    ]
    for values in same:
        assert index.get(key_of(normal_key(values, words))) == b'["a"]'
    other = ["a", 1, True, dt.date(1998, 6, 30), moment, decimal.Decimal("1.501")]
    assert index.get(key_of(normal_key(other, words))) is None


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(max_size=700), st.text(max_size=20), min_size=1, max_size=30))
def test_any_text_is_a_key_and_finds_its_own_row(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("index") / "i.mdb"
    table = pa.table({"k": list(rows), "v": list(rows.values())})
    assert build_index(
        path, table, [Column("k", "string")], [Column("v", "string")], "array", what="x"
    ) == len(rows)
    index = open_index(path)

    for key, value in rows.items():
        assert msgspec.json.decode(index.get(key_of([key]))) == [value]
    assert index.get(key_of(["no such key" * 80])) is None


def test_keys_that_are_not_unique_are_told_with_their_counts(tmp_path: Path) -> None:
    table = pa.table({"k": ["a", "b", "a", "c", "a", "b"], "v": list("123456")})
    with pytest.raises(
        Invalid, match=r"data set 'x': the key \(k\) is not unique: 'a' \(3 rows\), 'b' \(2 rows\)"
    ):
        build(tmp_path / "i.mdb", table, [Column("k", "string")])
    many = pa.table({"k": [f"k{i % 5}" for i in range(10)]})
    with pytest.raises(Invalid, match=r"'k2' \(2 rows\) and 2 more"):
        build(tmp_path / "i.mdb", many, [Column("k", "string")])


def test_keys_without_a_value_are_counted(tmp_path: Path) -> None:
    table = pa.table({"k": ["a", None, None], "v": list("123")})
    with pytest.raises(Invalid, match=r"2 rows have no value in the key \(k\)"):
        build(tmp_path / "i.mdb", table, [Column("k", "string")])


def test_equal_rows_in_any_order_give_equal_bytes(tmp_path: Path) -> None:
    table = pa.table({"k": [f"{i:06}" for i in range(5000)], "v": [f"value {i}" for i in range(5000)]})
    build(tmp_path / "one.mdb", table, [Column("k", "string")])
    build(tmp_path / "two.mdb", table.take(list(range(4999, -1, -1))), [Column("k", "string")])
    assert (tmp_path / "one.mdb").read_bytes() == (tmp_path / "two.mdb").read_bytes()
    assert (tmp_path / "one.mdb").stat().st_size < 1_500_000


def test_values_larger_than_a_page_fit(tmp_path: Path) -> None:
    table = pa.table({"k": [str(i) for i in range(50)], "v": ["x" * 20_000] * 50})
    assert build(tmp_path / "i.mdb", table, [Column("k", "string")]) == 50
    index = open_index(tmp_path / "i.mdb")
    assert len(index.get(key_of(["7"]))) > 20_000


def test_an_empty_table_gives_an_empty_index(tmp_path: Path) -> None:
    table = pa.table({"k": pa.array([], pa.string())})
    assert build(tmp_path / "i.mdb", table, [Column("k", "string")]) == 0
    index = open_index(tmp_path / "i.mdb")
    assert index.first() is None
    assert index.get(key_of(["a"])) is None


def test_a_file_opened_twice_is_mapped_once(tmp_path: Path) -> None:
    build(tmp_path / "i.mdb", pa.table({"k": ["a"]}), [Column("k", "string")])
    one, two = open_index(tmp_path / "i.mdb"), open_index(tmp_path / "." / "i.mdb")
    assert one is two
    del one, two
    assert open_index(tmp_path / "i.mdb").get(key_of(["a"])) == b'{"k":"a"}'


def test_a_file_that_is_no_index_is_told(tmp_path: Path) -> None:
    (tmp_path / "i.mdb").write_bytes(b"no index" * 1000)
    with pytest.raises(Broken, match=r"the index i\.mdb cannot be opened"):
        open_index(tmp_path / "i.mdb")
    with pytest.raises(Broken, match=r"the index none\.mdb is gone"):
        open_index(tmp_path / "none.mdb")
