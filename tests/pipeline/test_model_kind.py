"""What a model's file says of how its rows are kept."""

from __future__ import annotations

import ast
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.pipeline.model_kind import GRAINS, ModelKind, back, floor, joined, read_constants, read_header


def test_comments_say_the_kind_and_others_are_left_alone() -> None:
    text = (
        "-- orders: one row an order\n-- kind: incremental\n-- key: id, day\n--\nSELECT 1 -- key: not this\n"
    )
    kind, problems = read_header(text, "m.sql")
    assert problems == []
    assert kind == ModelKind(kind="incremental", strategy="merge", key=("id", "day"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-- kind: incremantal", "m.sql:1:4: 'kind' is 'incremantal', expected table, incremental, view"),
        ("-- kidn: view", "m.sql:1:4: unknown setting 'kidn'"),
        ("-- kind: view\n-- kind: table", "m.sql:2:4: 'kind' is said twice"),
        ("-- kind: incremental", "m.sql:1:4: an incremental model must say how new rows go"),
        ("-- kind: incremental\n-- time_column: day", "m.sql:1:4: strategy 'window' needs 'grain'"),
        ("-- kind: incremental\n-- strategy: merge", "m.sql:1:4: strategy 'merge' needs 'key'"),
        ("-- kind: snapshot", "m.sql:1:4: a snapshot needs to know what tells rows apart"),
        ("-- key: id", "m.sql:1:4: 'key' says nothing of a table"),
        ("-- kind: view\n-- lookback: 3", "m.sql:2:4: 'lookback' says nothing of a view"),
        ("-- kind: snapshot\n-- key: a b", "m.sql:2:4: 'key' is 'a b', expected names of columns"),
        ("-- kind: incremental\n-- key: a\n-- lookback: many", "m.sql:3:4: 'lookback' is 'many', expected a"),
        ("-- kind: incremental\n-- key: a\n-- start: soon", "m.sql:3:4: 'start' is 'soon', expected a day"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(text: str, said: str) -> None:
    _, problems = read_header(f"{text}\nSELECT 1", "m.sql")
    assert said in " | ".join(map(str, problems))


def test_constants_say_it_in_python() -> None:
    tree = ast.parse("kind = 'incremental'\nkey = ['id']\ntags = ('nightly',)\n")
    kind, problems = read_constants(tree, "m.py")
    assert (kind.strategy, kind.key, kind.tags, problems) == ("merge", ("id",), ("nightly",), [])
    _, problems = read_constants(ast.parse("x = 1\nkind = f()\n"), "m.py")
    assert [problem.message for problem in problems] == ["'kind' is no plain value"]


TIMES = st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001


@given(TIMES, st.sampled_from(GRAINS), st.integers(0, 30))
def test_windows_begin_where_windows_begin(at: dt.datetime, grain: str, number: int) -> None:
    begins = floor(at, grain)
    assert begins <= at
    assert floor(begins, grain) == begins
    before = back(begins, grain, number)
    assert floor(before, grain) == before
    assert before <= begins
    assert (before == begins) == (number == 0)


@given(st.lists(st.tuples(TIMES, TIMES).map(lambda pair: (min(pair), max(pair))), max_size=4), TIMES)
def test_what_is_done_and_what_is_due_make_the_whole(
    spans: list[tuple[dt.datetime, dt.datetime]], now: dt.datetime
) -> None:
    kind = ModelKind("incremental", "window", time_column="t", grain="day", start="2010-01-01")
    done = joined([(floor(a, "day"), floor(b, "day")) for a, b in spans if floor(a, "day") < floor(b, "day")])
    due = list(kind.windows(done, now))
    first, end = kind.first, floor(now, "day")
    whole = joined([*due, *((max(a, first), min(b, end)) for a, b in done if max(a, first) < min(b, end))])
    assert whole == (((first, end),) if first < end else ())
    for since, until in due:
        assert since < until
        assert all(until <= a or b <= since for a, b in done)
