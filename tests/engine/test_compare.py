"""Comparing a data set between two refs, over real files in a real lake."""

from __future__ import annotations

import datetime as dt
import gzip
import io
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulle.config import Warehouse
from tulle.engine.columns_compared import common_type
from tulle.engine.compare import Comparison, compare
from tulle.engine.dataset_files import changed_data_sets, data_set_of
from tulle.engine.duck import DuckEngine
from tulle.errors import Invalid, LimitExceeded, NotFound
from tulle.lake.repository import Repository, open_lake
from tulle.state.db import Database

Put = Callable[..., None]


@pytest.fixture
def repository(database: Database, tmp_path: Path) -> Repository:
    made = open_lake(database, f"local://{tmp_path / 'objects'}").create_repository("shop")
    made.create_branch("exp")
    return made


def parquet(table: pa.Table | Mapping[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(dict(table)), sink)
    return sink.getvalue()


def put(repository: Repository, branch: str, **files: Any) -> None:
    """Stage data sets of one file each: a table, or the bytes of a CSV file."""
    for name, content in files.items():
        if isinstance(content, bytes):
            repository.put(branch, f"{name}/part-0.csv", content)
        else:
            repository.put(branch, f"{name}/part-0.parquet", parquet(content))


def changes(found: Comparison) -> dict[str, tuple[str, ...]]:
    kinds = dict.fromkeys(change.kind for change in found.columns)
    return {k: tuple(c.name for c in found.columns if c.kind == k) for k in kinds}


def test_rows_by_key(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", orders={"id": [1, 2, 3], "who": ["a", "b", "c"], "n": [1, 2, 3]})
    repository.commit("main", "first")
    put(repository, "exp", orders={"id": [4, 3, 2], "who": ["d", "c", "B"], "n": [4, None, 20]})
    found = compare(engine, repository, "main", "exp", "orders", key=["id"])
    assert (found.left_rows, found.right_rows, found.format) == (3, 3, "parquet")
    rows = found.rows
    assert rows is not None
    assert (rows.added, rows.removed, rows.changed, rows.duplicate_keys) == (1, 1, 2, 0)
    assert rows.changed_by_column == {"who": 1, "n": 2}
    assert rows.added_rows[0].right == {"id": "4", "who": "d", "n": "4"}
    assert rows.removed_rows[0].key == {"id": "1"}
    first, second = rows.changed_rows
    assert first.key == {"id": "2"}
    assert first.columns == ("who", "n")
    assert (first.left, first.right) == (
        {"id": "2", "who": "b", "n": "2"},
        {"id": "2", "who": "B", "n": "20"},
    )
    assert second.columns == ("n",)
    assert second.right == {"id": "3", "who": "c", "n": None}
    assert not found.same


def test_rows_without_a_key_count_how_often(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"x": [1, 1, 1, 2, None], "y": ["a", "a", "a", "b", None]})
    put(repository, "exp", t={"x": [1, 2, 2, None, None], "y": ["a", "b", "b", None, None]})
    found = compare(engine, repository, "main", "exp", "t/")
    assert found.rows is not None
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (2, 2, 0)
    assert [(r.right, r.times) for r in found.rows.added_rows] == [
        ({"x": "2", "y": "b"}, 1),
        ({"x": None, "y": None}, 1),
    ]
    assert [(r.left, r.times) for r in found.rows.removed_rows] == [({"x": "1", "y": "a"}, 2)]


@pytest.mark.parametrize("key", [None, ["id"]])
def test_rows_that_move_between_files_are_no_difference(
    engine: DuckEngine, repository: Repository, key: list[str] | None
) -> None:
    for branch, halves in (("main", ([1, 2], [3, 4])), ("exp", ([4, 1], [2, 3]))):
        repository.put(branch, "t/same.parquet", parquet({"id": [9], "v": ["same"]}))
        for name, half in zip("ab", halves, strict=True):
            repository.put(branch, f"t/{name}.parquet", parquet({"id": half, "v": [str(i) for i in half]}))
    found = compare(engine, repository, "main", "exp", "t", key=key)
    assert found.rows is not None
    assert found.rows.is_empty
    assert (found.files.shared, len(found.files.left_only), len(found.files.right_only)) == (1, 2, 2)
    assert found.same
    assert not any(change.changed for change in found.profile)


def test_files_both_sides_have_are_not_read_for_rows(engine: DuckEngine, repository: Repository) -> None:
    spoilt = bytearray(parquet({"id": list(range(1000)), "v": ["x" * (i % 7) for i in range(1000)]}))
    spoilt[4:400] = b"\xff" * 396  # its foot is sound, its rows cannot be read
    for branch in ("main", "exp"):
        repository.put(branch, "t/a.parquet", bytes(spoilt))
    repository.put("exp", "t/b.parquet", parquet({"id": [1], "v": ["a"]}))
    found = compare(engine, repository, "main", "exp", "t", profile=False)
    assert found.rows is not None
    assert (found.rows.added, found.left_rows, found.right_rows) == (1, 1000, 1001)
    with pytest.raises(Invalid, match="comparison of 't'"):
        compare(engine, repository, "main", "exp", "t")


def test_a_duplicate_key_is_told_and_joins_nothing(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"id": [1, 1, 2, 3], "v": [1, 2, 3, 4]})
    put(repository, "exp", t={"id": [1, 2, 3, 3, 4], "v": [1, 3, 4, 5, 6]})
    rows = compare(engine, repository, "main", "exp", "t", key=["id"]).rows
    assert rows is not None
    assert (rows.added, rows.removed, rows.changed) == (1, 0, 0)
    assert rows.duplicate_keys == 2
    assert [(d.key["id"], d.left, d.right) for d in rows.duplicate_samples] == [("1", 2, 1), ("3", 1, 2)]


def test_a_key_that_is_twice_because_of_a_file_nobody_changed(
    engine: DuckEngine, repository: Repository
) -> None:
    for branch in ("main", "exp"):
        repository.put(branch, "t/kept.parquet", parquet({"id": [1, 2], "v": [1, 2]}))
    repository.put("exp", "t/new.parquet", parquet({"id": [2, 3], "v": [7, 3]}))
    rows = compare(engine, repository, "main", "exp", "t", key=["id"]).rows
    assert rows is not None
    assert (rows.added, rows.duplicate_keys) == (1, 1)
    assert [(d.key["id"], d.left, d.right) for d in rows.duplicate_samples] == [("2", 1, 2)]
    assert rows.added_rows[0].key == {"id": "3"}


def test_null_keys_meet_one_another(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"a": [None, 1, None], "b": [1, None, None], "v": [1, 2, 3]})
    put(repository, "exp", t={"a": [None, 1, 2], "b": [1, None, 2], "v": [1, 9, 3]})
    rows = compare(engine, repository, "main", "exp", "t", key=["a", "b"]).rows
    assert rows is not None
    assert (rows.added, rows.removed, rows.changed) == (1, 1, 1)
    assert rows.null_keys == (3, 2)
    assert rows.removed_rows[0].key == {"a": None, "b": None}  # a null in a key is sampled too


def test_schema_changes(engine: DuckEngine, repository: Repository) -> None:
    left = pa.table(
        {"id": [1, 2], "old_name": ["x", "y"], "gone": [True, False], "n": pa.array([1, 2], pa.int32())}
    )
    strict = pa.schema([pa.field("id", pa.int64(), nullable=False), *list(left.schema)[1:]])
    put(repository, "main", t=left.cast(strict))
    right = {"id": [1, 2], "n": [1.0, 2.0], "renamed": ["x", "y"], "extra": [{"a": 1}, None]}
    put(repository, "exp", t=right)
    found = compare(engine, repository, "main", "exp", "t", key=["id"])
    assert changes(found) == {
        "removed": ("old_name", "gone"),
        "added": ("renamed", "extra"),
        "nullability": ("id",),
        "type": ("n",),
        "renamed": ("old_name",),
    }
    rename = next(c for c in found.columns if c.kind == "renamed")
    assert (rename.right_name, rename.right) == ("renamed", "same values")
    kinds = [(c.left, c.right) for c in found.columns if c.kind in {"type", "nullability"}]
    assert kinds == [("required", "nullable"), ("INTEGER", "DOUBLE")]
    assert found.rows is not None
    assert found.rows.changed == 0  # 1 and 1.0 are one number


def test_only_the_order_of_columns_changed(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"a": [1], "b": [2], "c": [3]})
    put(repository, "exp", t={"a": [1], "c": [3], "b": [2]})
    found = compare(engine, repository, "main", "exp", "t", key=["a"])
    assert changes(found) == {"moved": ("c", "b")}
    assert found.same


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [
        ("INTEGER", "INTEGER", None),
        ("INTEGER", "BIGINT", "DECIMAL(19,0)"),
        ("DECIMAL(10,2)", "DECIMAL(12,4)", "DECIMAL(12,4)"),
        ("BIGINT", "DECIMAL(38,30)", "DOUBLE"),
        ("BIGINT", "FLOAT", "DOUBLE"),
        ("DATE", "TIMESTAMP", "TIMESTAMP"),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
        ("INTEGER", "VARCHAR", "VARCHAR"),
        ("BOOLEAN", "INTEGER[]", "VARCHAR"),
    ],
)
def test_the_type_two_sides_are_compared_in(left: str, right: str, common: str | None) -> None:
    assert common_type(left, right) == common
    assert common_type(right, left) == common


def test_hostile_column_names(engine: DuckEngine, repository: Repository) -> None:
    names = [
        'a"; DROP TABLE l; --',
        "select",
        "l",
        "r",
        "n",
        "k0",
        "c0",
        "ü ✓",
        "x' OR '1'='1",
        "shown",
        "dup",
    ]
    put(repository, "main", t={name: [1, 2] for name in names})
    put(repository, "exp", t={name: [1, 3] for name in names})
    for key in (None, names[:1], ["l", "r"], ["k0"]):
        rows = compare(engine, repository, "main", "exp", "t", key=key).rows
        assert rows is not None
        assert (rows.added, rows.removed) == (1, 1)
        row = rows.added_rows[0].right
        assert row == dict.fromkeys(names, "3")


def test_values_that_are_easily_spoilt(engine: DuckEngine, repository: Repository) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 678901, dt.UTC)
    left = pa.table(
        {
            "id": [1],
            "money": pa.array([Decimal("123456789012345678901234567890.12")], pa.decimal128(38, 2)),
            "at": pa.array([moment], pa.timestamp("us", tz="Europe/Berlin")),
            "nan": [float("nan")],
            "nested": [{"a": [1, None], "b": {"c": "x"}}],
            "pairs": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "raw": [b"\x00\xff"],
        }
    )
    later = moment + dt.timedelta(microseconds=1)
    change: dict[str, pa.Array] = {
        "money": pa.array([Decimal("123456789012345678901234567890.13")], pa.decimal128(38, 2)),
        "at": pa.array([later], pa.timestamp("us", tz="UTC")),
        "nested": pa.array([{"a": [1, 2], "b": {"c": "x"}}]),
        "pairs": pa.array([[("k", 2)]], pa.map_(pa.string(), pa.int64())),
        "raw": pa.array([b"\x00\xfe"]),
    }
    put(repository, "main", t=left, u=left)
    right = left
    for name, values in change.items():
        right = right.set_column(right.schema.get_field_index(name), name, values)
    put(repository, "exp", t=right, u=left)
    rows = compare(engine, repository, "main", "exp", "t", key=["id"]).rows
    assert rows is not None
    assert rows.changed_by_column == dict.fromkeys(change, 1)  # NaN is NaN
    (row,) = rows.changed_rows
    assert row.right is not None
    assert row.right["money"] == "123456789012345678901234567890.13"
    assert row.right["at"] == "2024-01-02 03:04:05.678902+00"
    assert row.right["nested"] == "{'a': [1, 2], 'b': {'c': x}}"
    rows = compare(engine, repository, "main", "exp", "t").rows
    assert rows is not None
    assert (rows.added, rows.removed) == (1, 1)
    assert compare(engine, repository, "main", "exp", "u").same


def test_tolerance(engine: DuckEngine, repository: Repository) -> None:
    values = [1.0, 1e9, 0.0, float("inf"), float("nan"), 1.0, None]
    others = [1.0 + 1e-12, 1e9 + 0.1, 1e-12, 1e300, 1.0, None, 1.0]
    put(repository, "main", t={"id": list(range(7)), "x": values})
    put(repository, "exp", t={"id": list(range(7)), "x": others})
    exact = compare(engine, repository, "main", "exp", "t", key=["id"]).rows
    near = compare(engine, repository, "main", "exp", "t", key=["id"], tolerance=1e-9).rows
    assert exact is not None
    assert near is not None
    assert (exact.changed, near.changed) == (7, 4)
    with pytest.raises(Invalid, match="needs a key"):
        compare(engine, repository, "main", "exp", "t", tolerance=1e-9)


def test_csv(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t=b"id,name,price\n007,Ann,1.50\n008,Bob,2\n")
    repository.put("exp", "t/a.csv.gz", gzip.compress(b"id;name;price;extra\n007;Ann;1.5;x\n"))
    repository.put("exp", "t/b.csv", b"id,name,price\n008,Bob,2\n9,,3\n")
    found = compare(engine, repository, "main", "exp", "t", key=["id"])
    assert found.format == "csv"
    assert changes(found)["added"] == ("extra",)
    rows = found.rows
    assert rows is not None
    assert (rows.added, rows.removed, rows.changed_by_column) == (1, 0, {"price": 1})
    assert rows.added_rows[0].right == {"id": "9", "name": None, "price": "3", "extra": None}
    price = next(p for p in found.profile if p.name == "price")
    assert price.right is not None
    assert price.right.type == "DOUBLE"
    assert price.right.mean == pytest.approx(6.5 / 3)
    near = compare(engine, repository, "main", "exp", "t", key=["id"], tolerance=1e-9).rows
    assert near is not None
    assert near.changed == 0


def test_a_single_file(engine: DuckEngine, repository: Repository) -> None:
    repository.put("main", "prices.csv", b"x\n1\n")
    repository.put("exp", "prices.csv", b"x\n1\n2\n")
    found = compare(engine, repository, "main", "exp", "prices.csv")
    assert found.rows is not None
    assert (found.rows.added, found.left_rows, found.right_rows) == (1, 1, 2)


def test_a_data_set_only_one_side_has(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "exp", t={"id": [1, 2], "v": ["a", "b"]})
    for key in (None, ["id"]):
        found = compare(engine, repository, "main", "exp", "t", key=key)
        assert found.rows is not None
        assert (found.left_rows, found.rows.added, found.rows.removed) == (0, 2, 0)
        back = compare(engine, repository, "exp", "main", "t", key=key)
        assert back.rows is not None
        assert (back.rows.added, back.rows.removed) == (0, 2)
    assert changes(found) == {"added": ("id", "v")}
    with pytest.raises(NotFound, match="neither at 'main' nor at 'exp'"):
        compare(engine, repository, "main", "exp", "nothing")


def test_staged_and_committed(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"x": [1]})
    repository.commit("main", "first")
    put(repository, "main", t={"x": [1, 2]})
    found = compare(engine, repository, "main@", "main", "t")
    assert found.rows is not None
    assert found.rows.added == 1
    same = compare(engine, repository, "main", "main", "t")
    assert same.same
    assert same.files.shared == 1


def test_profiles(engine: DuckEngine, repository: Repository) -> None:
    put(
        repository, "main", t={"x": [1.0, 2.0, 3.0, float("nan")], "s": ["a", "b", None, "b"], "l": [[1]] * 4}
    )
    put(repository, "exp", t={"x": [1.0, 2.0, 3.0, float("inf")], "s": ["a", "b", None, "b"], "l": [[2]] * 4})
    found = {p.name: p for p in compare(engine, repository, "main", "exp", "t").profile}
    left = found["x"].left
    assert left is not None
    assert (left.count, left.nulls, left.mean, left.deviation) == (4, 0, 2.0, 1.0)
    assert left.quantiles is not None
    assert left.quantiles[2] == 2.0
    text = found["s"].right
    assert text is not None
    assert (text.count, text.nulls, text.distinct, text.least, text.most) == (3, 1, 2, "a", "b")
    assert {name: p.changed for name, p in found.items()} == {"x": True, "s": False, "l": False}
    without = compare(engine, repository, "main", "exp", "t", profile=False, rows=False)
    assert (without.profile, without.rows) == ((), None)


def test_what_may_not_be_shown_is_hidden_everywhere(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"id": ["s1", "s2", "s2"], "n": [1, 2, 3], "v": ["s3", "s4", "s5"]})
    put(
        repository,
        "exp",
        t={"id": ["s1", "s6", "s7", "s7"], "n": [1, 2, 3, 4], "v": ["s8", "s9", "s1", "s1"]},
    )
    found = compare(engine, repository, "main", "exp", "t", key=["id"])
    assert "'s6'" in str(found)
    hidden = found.without_values(lambda name: name == "n")
    assert not any(f"'s{i}'" in str(hidden) for i in range(10))
    assert hidden.rows is not None
    assert hidden.rows.changed_rows[0].left == {"id": "•••", "n": "1", "v": "•••"}
    assert hidden.rows.changed == 1


def test_what_cannot_be_compared(engine: DuckEngine, repository: Repository) -> None:
    put(repository, "main", t={"id": [1]}, u={"id": [1]})
    put(repository, "exp", t={"id": [2]}, u={"id": [1]})
    with pytest.raises(Invalid, match=r"the key 'ID' is no column of the left side .*id"):
        compare(engine, repository, "main", "exp", "t", key=["ID"])
    with pytest.raises(Invalid, match="holds 2 data sets"):
        compare(engine, repository, "main", "exp", "")
    repository.put("exp", "t/more.csv", b"a\n1\n")
    with pytest.raises(Invalid, match="both Parquet and CSV"):
        compare(engine, repository, "main", "exp", "t")
    with pytest.raises(Invalid, match="a sample of 0 rows"):
        compare(engine, repository, "main", "exp", "u", limit=0)
    with pytest.raises(NotFound):
        compare(engine, repository, "main", "nowhere", "u")


def test_columns_that_come_with_a_later_file(engine: DuckEngine, repository: Repository) -> None:
    """Files of one folder need not have the same columns; what a file lacks is null."""
    repository.put("main", "t/a.parquet", parquet({"id": [1], "v": pa.array([1], pa.int32())}))
    repository.put("exp", "t/a.parquet", parquet({"id": [1], "v": pa.array([1], pa.int32())}))
    repository.put("exp", "t/b.parquet", parquet({"id": [2], "v": [1 << 40], "w": ["x"]}))
    found = compare(engine, repository, "main", "exp", "t", key=["id"])
    assert changes(found) == {"added": ("w",), "type": ("v",)}
    assert found.rows is not None
    assert (found.rows.added, found.rows.changed) == (1, 0)
    assert found.rows.added_rows[0].right == {"id": "2", "v": str(1 << 40), "w": "x"}


def test_more_rows_than_memory(repository: Repository, tmp_path: Path) -> None:
    rows = 250_000
    text = pa.array([f"{i * 7919 % rows:096x}" for i in range(rows)])
    table = pa.table({"id": range(rows), "a": text, "b": text})
    other = table.set_column(2, "b", pa.concat_arrays([text[:-1], pa.array(["other"])]))
    for branch, content in (("main", table), ("exp", other)):
        sink = io.BytesIO()
        pq.write_table(content, sink, row_group_size=50_000, use_dictionary=False, compression="none")
        repository.put(branch, "t/part-0.parquet", sink.getvalue())
    small = DuckEngine(Warehouse(threads=1, memory="80MB", temp_disk="500MB"), tmp_path / "spill")
    found = compare(small, repository, "main", "exp", "t", key=["id"], profile=False).rows
    assert found is not None
    assert (found.changed, found.changed_by_column) == (1, {"b": 1})
    tight = DuckEngine(Warehouse(threads=1, memory="30MB", temp_disk="1MB"), tmp_path / "spill")
    with pytest.raises(LimitExceeded, match="more than its warehouse allows"):
        compare(tight, repository, "main", "exp", "t", key=["id"])
    assert not list((tmp_path / "spill").glob("compare-*"))


CELL = st.one_of(st.none(), st.integers(0, 3))
ROWS = st.lists(st.tuples(CELL, CELL, CELL), max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(left=st.lists(ROWS, max_size=3), right=st.lists(ROWS, max_size=3), both=ROWS)
def test_like_counting_by_hand(
    engine: DuckEngine,
    repository: Repository,
    left: list[list[tuple[Any, ...]]],
    right: list[list[tuple[Any, ...]]],
    both: list[tuple[Any, ...]],
) -> None:
    for branch, files in (("main", [both, *left]), ("exp", [*right, both])):
        repository.delete_prefix(branch, "t/")
        for i, rows in enumerate(files):
            columns = {n: pa.array([row[c] for row in rows], pa.int64()) for c, n in enumerate("kvw")}
            repository.put(branch, f"t/{i}.parquet", parquet(columns))
    before, after = (Counter(sum(files, list(both))) for files in (left, right))
    found = compare(engine, repository, "main", "exp", "t", profile=False).rows
    assert found is not None
    assert (found.added, found.removed) == ((after - before).total(), (before - after).total())
    found = compare(engine, repository, "main", "exp", "t", key=["k"], profile=False).rows
    assert found is not None
    sides = []
    times: Counter[Any] = Counter()
    for side in (before, after):
        times |= Counter(row[0] for row in side.elements())
        sides.append({row[0]: row for row in side})
    once = {key for key, most in times.items() if most == 1}
    ours = [{key: row for key, row in by_key.items() if key in once} for by_key in sides]
    assert found.added == len(ours[1].keys() - ours[0].keys())
    assert found.removed == len(ours[0].keys() - ours[1].keys())
    assert found.changed == sum(ours[0][k] != ours[1][k] for k in ours[0].keys() & ours[1].keys())


def test_which_data_sets_changed(repository: Repository) -> None:
    put(repository, "main", a={"x": [1]}, b={"x": [1]}, c={"x": [1]})
    repository.put("main", "d/day=1/part.parquet", parquet({"x": [1]}))
    repository.put("main", "_tulle/jobs/a.json", b"{}")
    repository.commit("main", "first")
    repository.create_branch("try")
    put(repository, "try", a={"x": [2]}, c={"x": [1]})
    repository.delete("try", "d/day=1/part.parquet")
    repository.put("try", "_tulle/jobs/a.json", b"{1}")
    assert changed_data_sets(repository, "main", "try") == ["a", "d"]
    repository.commit("try", "second")
    put(repository, "main", a={"x": [2]})
    assert changed_data_sets(repository, "main", "try") == ["d"]
    assert data_set_of("top.csv") == "top.csv"
