"""Counting in windows: against a model that remembers every request."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tulle.gateway.processing.windows import SLOTS, Window, Windows
from tulle.spec.rate_limit import RateLimit


def windows(*limits: str, kind: Any = "fixed") -> list[Window]:
    return [Window(RateLimit.parse(one), kind) for one in limits]


def test_a_fixed_window_begins_with_its_first_request() -> None:
    counted, limits = Windows(), windows("2/10s")
    assert counted.take("a", limits, 100.0).is_let_on
    assert counted.take("a", limits, 109.0).is_let_on
    refused = counted.take("a", limits, 109.5)
    assert (refused.is_let_on, refused.limit, refused.remaining, refused.seconds) == (False, 2, 0, 0.5)
    assert counted.take("a", limits, 110.0).is_let_on
    assert counted.take("b", limits, 109.5).is_let_on


def test_a_request_that_one_window_refuses_uses_up_nothing_of_another() -> None:
    counted, limits = Windows(), windows("1/1s", "3/1h")
    assert counted.take("a", limits, 0.0).is_let_on
    for _ in range(100):
        assert not counted.take("a", limits, 0.5).is_let_on
    assert counted.take("a", limits, 1.0).remaining == 0
    assert counted.take("a", limits, 2.0).is_let_on
    refused = counted.take("a", limits, 3.0)
    assert (refused.limit, refused.is_let_on, refused.seconds) == (3, False, 3597.0)


def test_the_tightest_window_is_told() -> None:
    counted, limits = Windows(), windows("10/1s", "3/1h")
    found = counted.take("a", limits, 0.0)
    assert (found.limit, found.remaining, found.seconds) == (3, 2, 3600.0)


@given(st.lists(st.floats(0, 3, allow_subnormal=False), min_size=1, max_size=80), st.integers(1, 5))
def test_a_sliding_window_lets_no_more_pass_in_any_stretch_of_its_length(
    steps: list[float], most: int
) -> None:
    counted, limits = Windows(), windows(f"{most}/10s", kind="sliding")
    at, passed = 1000.0, list[float]()
    for step in steps:
        at += step
        found = counted.take("a", limits, at)
        recent = [one for one in passed if at - one < 10]
        assert not (found.is_let_on and len(recent) >= most)
        if not found.is_let_on:  # a twentieth late at most
            assert len([one for one in passed if at - one <= 10 + 10 / SLOTS]) >= most
            again = Windows()
            again.put_back([("a", counted.counted({"a"})["a"] or [])])
            assert again.take("a", limits, at + found.seconds + 1e-6).is_let_on
        else:
            passed.append(at)


def test_a_clock_that_is_set_back_makes_no_window_longer() -> None:
    for kind in ("fixed", "sliding"):
        counted, limits = Windows(), windows("1/10s", kind=kind)
        assert counted.take("a", limits, 1_000_000.0).is_let_on
        assert counted.take("a", limits, 1000.0).is_let_on or counted.take("a", limits, 1011.0).is_let_on


def test_the_key_that_asked_longest_ago_is_forgotten_first() -> None:
    counted, limits = Windows(most_keys=2), windows("1/1h")
    for key in ("a", "b", "a", "c"):
        counted.take(key, limits, 0.0)
    assert len(counted) == 2
    assert counted.counted({"a", "b", "c"})["b"] is None
    assert not counted.take("a", limits, 1.0).is_let_on
    assert counted.take("b", limits, 1.0).is_let_on


def test_limits_may_be_others_while_counts_stay() -> None:
    counted = Windows()
    for at in range(3):
        assert counted.take("a", windows("3/1h"), float(at)).is_let_on
    assert not counted.take("a", windows("3/1h"), 3.0).is_let_on
    assert counted.take("a", windows("5/1h"), 3.0).remaining == 1
    assert counted.take("a", windows("5/1h", "7/1m"), 3.0).is_let_on
