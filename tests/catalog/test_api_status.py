"""How an API is, by what was counted, and whether it keeps what it promises."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.observe.lines import as_read, line

from tulle.catalog.api_status import Answering, status_of
from tulle.observe.calls import Calls, Place
from tulle.observe.insight import Insight, Point
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally


def point(requests: int, failed: int = 0, p95: int = 120_000) -> Point:
    return Point(0, requests, failed, 0, 0, 0, 0, p95, p95, p95, p95)


class Counted:
    """An insight that has counted so much in the last hour, day and 30 days."""

    def __init__(self, *points: Point | None) -> None:
        self._points = dict(zip(("hour", "day", "month"), points, strict=True))

    def told(self, by: str, span: SimpleNamespace, which: object, *, points: bool) -> SimpleNamespace:
        found = self._points[span.name]
        series = (SimpleNamespace(whole=found),) if found is not None else ()
        return SimpleNamespace(series=series, counted_until=1.0)


UP = Answering(answers=True)


@pytest.mark.parametrize(
    ("answering", "hour", "word"),
    [
        (UP, point(100, 1), "answers"),
        (UP, point(100, 10), "failing"),
        (UP, None, "quiet"),
        (Answering(answers=False, fault="it is broken"), point(100), "down"),
        (Answering(answers=True, is_mock=True), None, "examples"),
    ],
)
def test_a_word_says_how_it_is(answering: Answering, hour: Point | None, word: str) -> None:
    found = status_of(Counted(hour, None, None), "orders", "", answering, {})  # type: ignore[arg-type]
    assert found.word == word
    assert found.why


def test_objectives_are_held_against_30_days() -> None:
    promised = {"availability": 99.5, "p95": 100.0, "p99": 120.0}
    found = status_of(Counted(None, None, point(1000, 2)), "orders", "", UP, promised)  # type: ignore[arg-type]
    assert [(one.measure, one.found, one.held, one.unit) for one in found.objectives] == [
        ("availability", 99.8, True, "%"),
        ("p95", 120.0, False, "ms"),
        ("p99", 120.0, True, "ms"),
    ]


def test_examples_and_other_versions_keep_no_promise(tmp_path: Path) -> None:
    calls, counting, at = Calls(tmp_path), Tally(Operations({}, "/")), time.time() - 60
    said = {"service": "orders", "generation": None}
    mock = said | {"reason": "mock", "details": "direct_response"}
    counting.count(as_read([line(at, version="v1", **said)] * 3 + [line(at, version="v1", code=500, **said)]))
    counting.count(as_read([line(at, version="v1", **mock)] * 96))
    counting.count(as_read([line(at, version="v2", code=500, **said), line(at, version="v2", **said)]))
    counting.count(as_read([line(at, version="v3", **mock)] * 9))
    calls.add(counting.taken(), Place("f", 1))
    kept = {
        version: status_of(Insight(calls), "orders", "", UP, {"availability": 70.0}, version).objectives[0]
        for version in ("v1", "v2", "v3", "")
    }
    assert [(one.found, one.held) for one in kept.values()] == [
        (75.0, True),
        (50.0, False),
        (None, None),
        (pytest.approx(100 * 4 / 6), False),
    ]
    calls.close()


def test_where_nothing_was_asked_nothing_is_known(tmp_path: Path) -> None:
    found = status_of(Insight(Calls(tmp_path)), "orders", "", UP, {"availability": 99.0})
    assert (found.word, found.hour, found.month) == ("quiet", None, None)
    assert (found.objectives[0].found, found.objectives[0].held) == (None, None)
