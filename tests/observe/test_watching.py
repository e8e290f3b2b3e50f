"""Judging watches: lasting, ending, and that no data is neither good nor bad."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tulle.config import Watch, watch_from
from tulle.errors import Invalid
from tulle.observe.insight import Point
from tulle.observe.watching import Judged, digest_of, judged, measured, words


def point(
    requests: int = 100, failed: int = 0, wrong: int = 0, refused: int = 0, p99: int | None = 5000
) -> Point:
    return Point(0, requests, failed, wrong, refused, 0, 0, 1000, 1000, 2000, p99)


ERRORS = Watch("errors", above=0.05, minutes=1, periods=3)


def run(watch: Watch, values: list[float | None]) -> list[Judged]:
    state, found = Judged(0.0), []
    for value in values:
        state = judged(watch, state, value)
        found.append(state)
    return found


def test_it_is_broken_after_its_periods_and_holds_again_with_the_first_good_one() -> None:
    states = run(ERRORS, [0.5, 0.5, 0.01, 0.5, 0.5, 0.5, 0.5, 0.05])
    assert [one.broken_at for one in states] == [None, None, None, None, None, 360.0, 360.0, None]
    assert [one.streak for one in states] == [1, 2, 0, 1, 2, 3, 4, 0]
    assert states[-1].until == 480.0


def test_no_data_leaves_everything_as_it_was() -> None:
    states = run(ERRORS, [0.5, None, 0.5, None, None, 0.5, None])
    assert [one.streak for one in states] == [1, 1, 2, 2, 2, 3, 3]
    assert states[-1].broken_at == 360.0
    assert (states[-1].unknown, states[-1].value) == (1, 0.5)


def test_what_is_measured() -> None:
    asked = point(200, failed=20, wrong=50, refused=7)
    for measure, value in {
        "rate": 200 / 300, "errors": 0.1, "wrong": 0.25, "violations": 7.0, "p50": 1.0, "p95": 2.0, "p99": 5.0,
    }.items():  # fmt: skip
        assert measured(Watch(measure, above=1), asked, is_known=True) == pytest.approx(value)
        assert measured(Watch(measure, above=1), asked, is_known=False) is None


def test_nothing_asked_is_a_rate_of_zero_and_no_latency() -> None:
    assert measured(Watch("rate", below=1), None, is_known=True) == 0.0
    assert measured(Watch("violations", above=1), None, is_known=True) == 0.0
    assert measured(Watch("p99", above=1), None, is_known=True) is None
    assert measured(Watch("errors", above=0.1, least=101), point(failed=100), is_known=True) is None
    assert run(Watch("rate", below=1, minutes=1, periods=1), [0.0])[0].broken_at == 60.0
    assert run(Watch("rate", below=1, minutes=1, periods=1), [None])[0].broken_at is None


def test_words_say_what_and_for_how_long() -> None:
    assert words(ERRORS, "offers", 0.25) == "offers: share of errors is 25.00%, above 5.00% for 3 × 1 min"
    slow = Watch("p99", above=50, operation="POST /a", periods=1)
    assert words(slow, "offers", 120.0) == "offers, POST /a: p99 is 120 ms, above 50 ms for 5 min"
    assert words(slow, "offers", 12_345.6).startswith("offers, POST /a: p99 is 12,346 ms")
    assert "unknown" in words(Watch("rate", below=2), "x", None)
    assert digest_of(ERRORS) != digest_of(slow)
    part = replace(slow, service="offers", version="v2", generation="g7")
    assert words(part, "offers", 120.0).startswith("offers v2 g7, POST /a: p99 is 120 ms")


def test_a_watch_of_before_versions_is_the_same_one() -> None:
    before = (
        b'{"measure":"p99","above":50.0,"below":null,"service":"offers","operation":"","environment":"","minutes":5,'
        b'"periods":3,"least":1,"severity":"warning"}'
    )
    said = msgspec.json.decode(before)
    watch = watch_from("watch 'slow", "slow", said)
    assert digest_of(watch) == hashlib.blake2b(before, digest_size=16).hexdigest()
    assert digest_of(replace(watch, version="v1")) != digest_of(replace(watch, generation="v1"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "must be a mapping"),
        ({}, "needs either above or below"),
        ({"above": 1, "below": 2}, "needs either above or below"),
        ({"above": True}, "expected a number"),
        ({"above": float("nan")}, "expected a number"),
        ({"above": -1}, "expected a number"),
        ({"above": 1, "measur": "p99"}, "unknown setting 'measur'"),
        ({"above": 1, "measure": "p98"}, "expected rate, errors"),
        ({"above": 5, "measure": "errors"}, "is a share"),
        ({"above": 1, "minutes": 0}, "expected 1 to 1,440"),
        ({"above": 1, "periods": "3"}, "expected 1 to 100"),
        ({"above": 1, "service": ["a"]}, "expected text"),
        ({"above": 1, "version": "v1"}, "slow.version' is of no service"),
        ({"above": 1, "generation": "v1"}, "slow.generation' is of no service"),
        ({"above": 1, "service": "a", "version": 1}, "expected text"),
        ({"above": 1, "severity": "fatal"}, "expected info, warning, critical"),
    ],
)
def test_what_is_no_watch_is_refused_by_name(value: Any, said: str) -> None:
    with pytest.raises(Invalid, match=r"watches\.slow") as caught:
        watch_from("mesh.yaml: 'watches.slow", "slow", value)
    assert said in caught.value.message
    with pytest.raises(Invalid, match="no name of a watch"):
        watch_from("watch 'A b", "A b", {"above": 1})
