"""Indexes: exact keys of every type, clear refusals, equal bytes for equal rows."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import resource
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.errors import Broken, Invalid, LimitExceeded
from tulle.serving import index_build
from tulle.serving.index import Column, key_of, normal_key, open_index, rows_of, timed
from tulle.serving.index_build import Wish, build_index


def built(
    path: Path, table: pa.Table, key: list[Column], columns: list[Column], form: Any, **more: Any
) -> int:
    """Build an index of a table, which becomes a file on the way as all data is."""
    file = path.with_suffix(".parquet")
    pq.write_table(table, file)
    engine = DuckEngine(Warehouse(threads=1, memory="256MB"), path.parent / "spill")
    wish = Wish(tuple(key), tuple(columns), form, **more)
    return build_index(path, engine, Relation("x", (str(file),)), wish, what="data set 'x'")


def build(path: Path, table: pa.Table, key: list[Column], form: Any = "object", **more: Any) -> int:
    columns = [Column(name, "string") for name in table.column_names]
    return built(path, table, key, columns, form, **more)


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
    assert built(tmp_path / "i.mdb", table, key, [Column("s", "string")], "array") == 2
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
    assert built(path, table, [Column("k", "string")], [Column("v", "string")], "array") == len(rows)
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


KINDS = {
    "string": st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=20),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "date": st.dates(),
    "timestamp": st.datetimes(timezones=st.just(dt.UTC)),
    "decimal(12,2)": st.decimals(-(10**9), 10**9, places=2),
    "decimal(12,9)": st.decimals(-999, 999, places=9),
    "decimal(4,4)": st.decimals("-0.9999", "0.9999", places=4),
    "decimal(20,0)": st.integers(-(10**20) + 1, 10**20 - 1).map(decimal.Decimal),
    "decimal(38,5)": st.integers(-(10**38) + 1, 10**38 - 1).map(
        lambda i: decimal.Decimal(i).scaleb(-5, decimal.Context(prec=40))
    ),
}
ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "decimal(12,2)": pa.decimal128(12, 2),
    "decimal(12,9)": pa.decimal128(12, 9),
    "decimal(4,4)": pa.decimal128(4, 4),
    "decimal(20,0)": pa.decimal128(20, 0),
    "decimal(38,5)": pa.decimal128(38, 5),
}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4))
def test_the_engine_renders_keys_and_rows_as_requests_do(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kinds: list[str]
) -> None:
    rows = data.draw(st.lists(st.tuples(*(KINDS[kind] for kind in kinds)), min_size=1, max_size=20))
    path = tmp_path_factory.mktemp("index") / "i.mdb"
    names = [f"c{i}" for i in range(len(kinds))]
    table = pa.table(
        {
            name: pa.array([row[i] for row in rows], ARROW[kind])
            for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
        }
    )
    columns = [Column(name, kind) for name, kind in zip(names, kinds, strict=True)]
    assert built(path, table, columns, columns, "array", several="first") == len(rows)
    index = open_index(path)
    for row in rows:
        number, (stored, *_) = rows_of(index.get(key_of(normal_key(row, kinds))))
        assert number >= 1
        read = msgspec.json.decode(stored, type=tuple[tuple(type(value) for value in row)])  # type: ignore[misc]
        assert normal_key(read, kinds) == normal_key(row, kinds)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(width=64) | st.none() | st.binary(max_size=9), min_size=1, max_size=20))
def test_numbers_and_bytes_are_rendered_as_json(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("index") / "i.mdb"
    numbers = [value if isinstance(value, float) else None for value in values]
    pieces = [value if isinstance(value, bytes) else None for value in values]
    keys = list(range(len(values)))
    table = pa.table({"k": keys, "n": pa.array(numbers, pa.float64()), "b": pa.array(pieces, pa.binary())})
    built(path, table, [Column("k", "integer")], [Column("n", "double"), Column("b", "binary")], "object")
    index = open_index(path)
    for key, number, piece in zip(keys, numbers, pieces, strict=True):
        read = json.loads(index.get(key_of([key])))
        assert read["n"] == (number if number is not None and math.isfinite(number) else None)
        assert read["b"] == (None if piece is None else base64.b64encode(piece).decode())


def test_a_number_of_single_precision_is_the_double_that_training_reads(tmp_path: Path) -> None:
    table = pa.table({"s": ["a"], "x": pa.array([0.1], pa.float32())})
    built(tmp_path / "i.mdb", table, [Column("s", "string")], [Column("x", "double")], "array")
    stored = open_index(tmp_path / "i.mdb").get(key_of(["a"]))
    assert msgspec.json.decode(stored) == [table.column("x")[0].as_py()]


def test_rows_of_a_key_may_come_in_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_build, "_BATCH", 2048)  # the engine's smallest
    count = 10_000
    table = pa.table({"k": [i // 7 for i in range(count)], "v": list(range(count))})
    key, columns = [Column("k", "integer")], [Column("v", "integer")]
    built(tmp_path / "i.mdb", table, key, columns, "array", several="all", most_rows=100, order_by=("-v",))
    index = open_index(tmp_path / "i.mdb")
    for k in range(-(-count // 7)):
        number, rows = rows_of(index.get(key_of([k])))
        wanted = list(range(k * 7, min(count, k * 7 + 7)))[::-1]
        assert (number, rows) == (len(wanted), [b"[%d]" % v for v in wanted])
    unique = pa.table({"k": list(range(count)), "v": list(range(count))})
    assert built(tmp_path / "u.mdb", unique, key, columns, "array") == count
    index = open_index(tmp_path / "u.mdb")
    assert all(index.get(key_of([k])) == b"[%d]" % k for k in range(count))


def test_a_key_has_one_form_however_it_is_sent() -> None:
    for kind in ("decimal(10,2)", "decimal(12,0)"):
        assert key_of(normal_key([-0.0], [kind])) == key_of(normal_key([decimal.Decimal(0)], [kind]))
    early = dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert normal_key([early], ["timestamp"]) == (early,)  # there is no such moment in UTC, and so no row


def test_rows_of_a_key_are_ordered_by_the_data_set_s_columns(tmp_path: Path) -> None:
    """Also where they are called as what the statement makes of them."""
    table = pa.table({"a": ["x"] * 3, "key": [1, 2, 10], "row": [10, 9, 1], "k0": [3, 2, 1]})
    for name in ("key", "row", "k0"):
        values = sorted(table.column(name).to_pylist())
        for order, wanted in ((name, values), (f"-{name}", values[::-1])):
            path = tmp_path / f"{order}.mdb"
            more = {"several": "all", "most_rows": 9, "order_by": (order,)}
            built(path, table, [Column("a", "string")], [Column(name, "integer")], "array", **more)
            _, rows = rows_of(open_index(path).get(key_of(["x"])))
            assert rows == [b"[%d]" % value for value in wanted]


def test_since_when_a_row_holds_is_kept_with_it(tmp_path: Path) -> None:
    at = dt.datetime(1969, 12, 31, 23, 59, 59, 5, tzinfo=dt.UTC)
    table = pa.table({"k": ["a|b", "b"], "t": pa.array([at, None], pa.timestamp("us", "UTC"))})
    build(tmp_path / "i.mdb", table.select(["k", "t"]), [Column("k", "string")], event_time="t")
    index = open_index(tmp_path / "i.mdb")
    micros, row = timed(index.get(key_of(["a|b"])))
    assert micros == -999_995
    assert json.loads(row)["k"] == "a|b"
    assert timed(index.get(key_of(["b"])))[0] is None


def test_an_index_for_which_there_is_no_room_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    table = pa.table({"s": [f"{i:06}" for i in range(5000)], "x": ["y" * 100] * 5000})
    pq.write_table(table, tmp_path / "x.parquet")
    engine = DuckEngine(Warehouse(threads=1, memory="256MB"), tmp_path / "spill")
    wish = Wish((Column("s", "string"),), (Column("x", "string"),), "object")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as a disk that is full
    try:
        with pytest.raises(LimitExceeded, match="the index of data set 'x' cannot be written"):
            build_index(
                tmp_path / "i.mdb",
                engine,
                Relation("x", (str(tmp_path / "x.parquet"),)),
                wish,
                what="data set 'x'",
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "i.mdb").exists()


def test_an_index_that_needs_more_room_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_build, "_ROOM", 1 << 16)
    table = pa.table({"k": [str(i) for i in range(5000)], "v": ["x" * 100] * 5000})
    assert build(tmp_path / "i.mdb", table, [Column("k", "string")]) == 5000
    assert open_index(tmp_path / "i.mdb").get(key_of(["4999"])) is not None
