"""Reading several runs as one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.lake.entry import Entry, successor
from tulle.lake.ranges import EMPTY, Range, Row, row_of, tombstone
from tulle.lake.runs import RangeRun
from tulle.lake.view import View, overlay

keys = st.text(alphabet="ab/é", min_size=1, max_size=4)
layers = st.lists(st.dictionaries(keys, st.integers(0, 1), max_size=8), max_size=5)  # 0: a tombstone


def rows_of(layer: dict[str, int], age: int) -> Range:
    def row(path: str, live: int) -> Row:
        return row_of(Entry(path, f"age {age}", age)) if live else tombstone(path.encode())

    return Range.of(sorted(row(path, live) for path, live in layer.items()))


def expected(given_layers: list[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for age in reversed(range(len(given_layers))):
        for path, live in given_layers[age].items():
            if live:
                found[path] = age
            else:
                found.pop(path, None)
    return dict(sorted(found.items(), key=lambda item: item[0].encode()))


@given(layers, st.integers(1, 6), keys | st.just(""), keys | st.just(""))
@settings(max_examples=80, deadline=None)
def test_the_newest_row_of_a_path_counts(
    given_layers: list[dict[str, int]], step: int, prefix: str, after: str
) -> None:
    view = View([RangeRun(rows_of(layer, age)) for age, layer in enumerate(given_layers)])
    truth = expected(given_layers)
    assert {e.path: e.size for e in view.entries(rows=step)} == truth
    some = [p for p in truth if p.startswith(prefix) and p.encode() > after.encode()]
    assert [e.path for e in view.entries(prefix.encode(), after.encode(), rows=step)] == some
    for path in {path for layer in given_layers for path in layer} | {prefix or "zz"}:
        found = view.find(path.encode())
        assert (None if found is None else found.size) == truth.get(path)


@given(layers, st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_with_tombstones_nothing_is_lost(given_layers: list[dict[str, int]], step: int) -> None:
    runs = [RangeRun(rows_of(layer, age)) for age, layer in enumerate(given_layers)]
    merged = [row for chunk in View(runs).chunks(rows=step, tombstones=True) for row in chunk.all_rows()]
    assert [row[0].decode() for row in merged] == sorted(
        {path for layer in given_layers for path in layer}, key=str.encode
    )
    again = View([RangeRun(Range.of(merged))])
    assert {e.path: e.size for e in again.entries()} == expected(given_layers)


def test_nothing_over_nothing() -> None:
    assert overlay([]) is EMPTY
    assert overlay([EMPTY, EMPTY]) is EMPTY
    assert list(View([]).entries()) == []


def test_successor() -> None:
    assert successor(b"") is None
    assert successor(b"a") == b"b"
    assert successor(b"a\xff\xff") == b"b"
    assert successor(b"\xff") is None
