"""Training sets: no skew between what a model learns from and what it is asked with, and nothing from the future."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.errors import Invalid
from tulle.serving.finder import Finder, FinderEntry, Ignored
from tulle.serving.index import Column
from tulle.serving.index_build import Wish, build_index
from tulle.serving.predict_features import row_type
from tulle.serving.request import RequestError
from tulle.serving.training import ENTITIES, Asked, parts_of, relation_of, training_sql

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR = dt.timedelta(hours=1)
MICRO = dt.timedelta(microseconds=1)
TYPES = {
    "i": ("integer", pa.int64()),
    "d": ("double", pa.float64()),
    "n": ("decimal(12,3)", pa.decimal128(12, 3)),
    "s": ("string", pa.string()),
    "day": ("date", pa.date32()),
    "b": ("boolean", pa.bool_()),
    "ts": ("timestamp", pa.timestamp("us", "UTC")),
}
DEFAULTS = {
    "i": -1,
    "d": 0.1,
    "n": 2.5,
    "s": "it's",
    "day": "2001-02-03",
    "b": True,
    "ts": "2001-02-03T04:05:06Z",
}
KEYS = {
    "string": (pa.string(), ["a", "b", 'quo"te', ""]),
    "integer": (pa.int64(), [0, 1, -(2**63), 2**53 + 1]),
    "decimal(10,2)": (pa.decimal128(10, 2), [decimal.Decimal(n) for n in ("0.00", "1.50", "-0.75", "9.99")]),
    "date": (pa.date32(), [dt.date(2000, 1, 1) + dt.timedelta(days=n) for n in range(4)]),
    "boolean": (pa.bool_(), [True, False, True, False]),
}
_values = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-(2**63), 2**63 - 1),
        "d": st.none() | st.floats(),
        "n": st.none() | st.decimals(-(10**8), 10**8, places=3),
        "s": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
        "day": st.none() | st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
        "b": st.none() | st.booleans(),
        "ts": st.none()
        | st.integers(-(2**51), 2**51).map(lambda n: dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + n * MICRO),
    }
)
_rows = st.lists(
    st.tuples(st.integers(0, 2), st.none() | st.sampled_from([1, 2, 2, 5, 30, 60, -1, -1, -9]), _values),
    max_size=12,
)
_policies = st.fixed_dictionaries(
    {
        "key": st.sampled_from(list(KEYS)),
        "several": st.sampled_from(["first", "first", "error", "ignore", "forbidden"]),
        "order": st.sampled_from([("-at",), ("-at", "i"), ("at",), ("d", "-s"), ()]),
        "no_match": st.sampled_from(["error", "ignore", "default"]),
        "is_timed": st.booleans(),
        "hours": st.sampled_from([0, 3, 40]),
        "too_old": st.sampled_from(["keep", "error", "ignore", "default"]),
        "with_defaults": st.booleans(),
        "is_model": st.booleans(),
    }
)


class Case:
    """A data set, a look-up in it, and entities: the three keys that may be there, one that is not, and none."""

    def __init__(self, folder: Path, rows: list[Any], how: dict[str, Any]) -> None:
        kind, keys = KEYS[how["key"]]
        if how["several"] == "forbidden":
            rows = list({keys[number]: (number, hours, values) for number, hours, values in rows}.values())
        table = {
            "k": pa.array([keys[number] for number, _, _ in rows], kind),
            "at": pa.array(
                [None if hours is None else NOW - hours * HOUR for _, hours, _ in rows],
                pa.timestamp("us", "UTC"),
            ),
        }
        table |= {n: pa.array([v[n] for _, _, v in rows], t) for n, (_, t) in TYPES.items()}
        pq.write_table(pa.table(table), folder / "rows.parquet")
        entities = {"sent": pa.array([*keys, None], kind), "when": [NOW] * 5, "label": list(range(5))}
        pq.write_table(pa.table(entities), folder / "entities.parquet")
        columns = tuple(Column(name, word) for name, (word, _) in TYPES.items())
        is_timed = how["is_timed"]
        self.form = "array" if how["is_model"] else "object"
        self.entry = FinderEntry(
            index="i.mdb",
            product="p",
            data_set="rows",
            key=(Column("sent", how["key"]),),
            columns=columns,
            defaults=DEFAULTS if how["with_defaults"] else {},
            no_match=how["no_match"],
            several=how["several"],
            timed=is_timed,
            max_age_seconds=how["hours"] * 3600 if is_timed else 0,
            too_old=how["too_old"],
            wish=Wish(
                (Column("sent", how["key"]),),
                columns,
                self.form,  # type: ignore[arg-type]
                key_sources={"sent": "k"},
                defaults=DEFAULTS if how["with_defaults"] else {},
                several=how["several"],
                order_by=how["order"],
                event_time="at" if is_timed else "",
            ),
        )
        self.keys, self.folder, self.how = keys, folder, how
        self.engine = DuckEngine(Warehouse(threads=1, memory="256MB"), folder / "spill")
        assert self.entry.wish is not None
        relation = Relation("rows", (str(folder / "rows.parquet"),))
        build_index(folder / "i.mdb", self.engine, relation, self.entry.wish, what="rows")

    def trained(self) -> dict[int, dict[str, Any]]:
        """The features of the training set, by entity."""
        known = {"sent": self.how["key"], "when": "timestamp", "label": "integer"}
        sql = training_sql([self.entry], Asked(known, "when", self.how["is_model"]))
        relations = [
            Relation(ENTITIES, (str(self.folder / "entities.parquet"),)),
            Relation(relation_of(0), (str(self.folder / "rows.parquet"),)),
        ]
        return {
            row["label"]: {name: row[name] for name in TYPES}
            for row in self.engine.query(sql, relations).to_pylist()
        }

    def answered(self) -> dict[int, dict[str, Any]]:
        """The features that the endpoint would take, by entity."""
        finder = Finder(self.entry, self.folder, self.form)  # type: ignore[arg-type]
        found = {}
        for number, key in enumerate(self.keys):
            try:
                (row, *_) = finder.find([key]).rows
            except (RequestError, Ignored):
                continue
            found[number] = self._read(row)
        return found

    def _read(self, row: bytes) -> dict[str, Any]:
        if self.form == "array":  # as a model gets it
            types = tuple(row_type(word) for word, _ in TYPES.values())
            return dict(zip(TYPES, msgspec.json.decode(row, type=tuple[types]), strict=True))  # type: ignore[valid-type]
        fields = [
            (name, (decimal.Decimal if word.startswith("decimal") else row_type(word)) | None)
            for name, (word, _) in TYPES.items()
        ]
        struct = msgspec.defstruct("Row", fields)
        return msgspec.structs.asdict(msgspec.json.decode(row, type=struct))


def same(left: Any, right: Any) -> bool:
    """Equal, and of one type; a time of the engine's has no zone, and is UTC."""
    if isinstance(left, dt.datetime) and isinstance(right, dt.datetime):
        return left.replace(tzinfo=dt.UTC) == right.replace(tzinfo=dt.UTC)
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    return type(left) is type(right) and bool(left == right)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_rows, _policies)
def test_what_is_trained_with_is_what_is_answered_with(rows: list[Any], how: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder), rows, how)
        trained, answered = case.trained(), case.answered()
        assert trained.keys() == answered.keys()
        for number, features in answered.items():
            for name, value in features.items():
                assert same(trained[number][name], value), (number, name, trained[number][name], value)


POLICIES: dict[str, Any] = {
    "key": "string",
    "several": "first",
    "order": ("-at",),
    "no_match": "error",
    "is_timed": True,
    "hours": 0,
    "too_old": "keep",
    "with_defaults": False,
    "is_model": True,
}
NOTHING = dict.fromkeys(TYPES)


def at_times(folder: Path, ages: list[int | None], asked: list[int], **how: Any) -> list[Any]:
    """What is trained with at moments so many hours ago; rows hold their number, each since so many hours ago."""
    rows = [(0, ago, {**NOTHING, "i": number}) for number, ago in enumerate(ages)]
    case = Case(folder, rows, {**POLICIES, **how})
    moments = {
        "sent": ["a"] * len(asked),
        "when": [NOW - ago * HOUR for ago in asked],
        "label": range(len(asked)),
    }
    pq.write_table(pa.table({**moments, "label": list(moments["label"])}), folder / "entities.parquet")
    found = case.trained()
    return [found[n]["i"] if n in found else "left out" for n in range(len(asked))]


@pytest.mark.parametrize("order", [("-at",), ("-at", "i"), ("-i",)])
def test_nothing_is_known_before_its_time(tmp_path: Path, order: tuple[str, ...]) -> None:
    ages = [30, 20, 10]  # row 0 holds since 30 hours ago, row 1 since 20, row 2 since 10
    asked = [40, 30, 25, 20, 11, 10, 0]
    expected = ["left out", 0, 0, 1, 1, 2, 2]
    assert at_times(tmp_path, [*ages], asked, order=order) == expected


def test_of_rows_that_came_late_the_time_they_hold_from_counts(tmp_path: Path) -> None:
    assert at_times(tmp_path, [10, 20], [15, 5]) == [
        1,
        0,
    ]  # row 1 was written after row 0, and holds from before


def test_what_is_too_old_then_is_left_out_or_has_defaults(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    asked = [9, 6, 5]
    assert at_times(tmp_path / "a", [10], asked, hours=4, too_old="error") == [0, 0, "left out"]
    how = {"hours": 4, "too_old": "default", "with_defaults": True}
    assert at_times(tmp_path / "b", [10], asked, **how) == [0, 0, -1]


def test_a_row_without_a_time_holds_always_and_after_those_that_have_one(tmp_path: Path) -> None:
    assert at_times(tmp_path, [None, 10], [20, 5]) == [0, 1]


def test_features_are_asked_for_in_the_order_of_the_look_ups(tmp_path: Path) -> None:
    first = Case(_made(tmp_path / "1"), [(0, 1, {**NOTHING, "i": 1})], POLICIES)
    second = Case(_made(tmp_path / "2"), [(0, 1, {**NOTHING, "i": 2, "d": 0.5})], POLICIES)
    entries = [first.entry, _with_key(second.entry, "other")]
    table = {
        "sent": ["a", None, "a", "z"],
        "other": ["a", "a", None, "a"],
        "when": [NOW] * 4,
        "label": list(range(4)),
        "s": ["sent"] * 4,
    }
    pq.write_table(pa.table(table), tmp_path / "entities.parquet")
    known = {"sent": "string", "other": "string", "when": "timestamp", "label": "integer", "s": "string"}
    relations = [
        Relation(ENTITIES, (str(tmp_path / "entities.parquet"),)),
        Relation(relation_of(0), (str(tmp_path / "1/rows.parquet"),)),
        Relation(relation_of(1), (str(tmp_path / "2/rows.parquet"),)),
    ]
    sql = training_sql(entries, Asked(known, "when", is_model=True))
    rows = first.engine.query(sql, relations).to_pylist()
    # Without the first key the second look-up answers; 'z' is known to neither, so the first refuses it.
    assert [(row["label"], row["i"], row["d"], row["s"]) for row in rows] == [
        (0, 1, None, "sent"),
        (1, 2, 0.5, "sent"),
        (2, 1, None, "sent"),
    ]


def test_parts_are_by_a_number_s_value_whatever_its_width(tmp_path: Path) -> None:
    """What was written by others may hold a key in half the width; no row of it may be in another part for that."""
    numbers = list(range(-50, 50))
    pq.write_table(
        pa.table({"k": pa.array(numbers, pa.int32()), "when": [NOW] * 100}), tmp_path / "entities.parquet"
    )
    pq.write_table(pa.table({"k": pa.array(numbers, pa.int64()), "x": numbers}), tmp_path / "rows.parquet")
    wish = Wish((Column("k", "integer"),), (Column("x", "integer"),), "object")
    entry = FinderEntry("i.mdb", "p", "rows", wish.key, wish.columns, wish=wish)
    asked = Asked({"k": "integer", "when": "timestamp"}, "when", is_model=False)
    relations = [
        Relation(ENTITIES, (str(tmp_path / "entities.parquet"),)),
        Relation(relation_of(0), (str(tmp_path / "rows.parquet"),)),
    ]
    engine = DuckEngine(Warehouse(threads=1, memory="256MB"), tmp_path / "spill")
    sql, found = training_sql([entry], asked), []
    for part in parts_of([entry], asked, relations, 4):
        found += engine.query(sql, part).column("x").to_pylist()
    assert sorted(found) == numbers


def test_what_cannot_be_put_together_is_told(tmp_path: Path) -> None:
    entry = Case(tmp_path, [], POLICIES).entry
    known = {"sent": "string", "when": "timestamp"}
    for wrong, time, message in (
        ({"when": "timestamp"}, "when", "no column 'sent', by which rows are found"),
        (known, "wen", "no column 'wen' that tells the time"),
        ({**known, "when": "string"}, "when", "is string, not a date or a time"),
        ({**known, "sent": "integer"}, "when", "is integer, the key is string"),
    ):
        with pytest.raises(Invalid, match=message):
            training_sql([entry], Asked(wrong, time, is_model=True))
    with pytest.raises(Invalid, match="have a column 'i', and so has what is looked up"):
        training_sql([entry], Asked({**known, "i": "integer"}, "when", is_model=False))
    with pytest.raises(Invalid, match="looks nothing up"):
        training_sql([], Asked(known, "when", is_model=True))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _with_key(entry: FinderEntry, name: str) -> FinderEntry:
    from dataclasses import replace

    assert entry.wish is not None
    key = (Column(name, entry.key[0].type),)
    return replace(entry, key=key, wish=replace(entry.wish, key=key, key_sources={name: "k"}))
