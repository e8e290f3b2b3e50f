"""Traffic: parts that make the whole, and the same generation for the same key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.serving.traffic import (
    WHOLE,
    Share,
    Traffic,
    from_plain,
    generation_of,
    part_of,
    preloading,
    single,
    split,
)


def test_one_generation_answers_all() -> None:
    assert single("v1") == split({"v1": 1.0}) == split({"v1": 1}, sticky=True)
    assert (single("v1").mode, single("v1").main, single("v1").mounted) == ("single", "v1", ("v1",))
    assert str(single("v1")) == "v1"


def test_parts_a_shadow_and_what_runs_beside() -> None:
    traffic = split({"v1": 0.9, "v2": 0.1, "v0": 0}, sticky=True, shadow=("v3", 0.25), preloaded=["v4"])
    assert traffic.mode == "sticky"
    assert traffic.shares == (Share("v1", 9000), Share("v2", 1000))
    assert traffic.mounted == ("v1", "v2", "v3", "v0", "v4")
    assert (traffic.parts_of("v2"), traffic.parts_of("v3")) == (1000, 0)
    assert str(traffic) == "v1 90%, v2 10% (sticky), shadow v3 25%"
    assert from_plain(traffic.as_plain()) == traffic
    assert preloading(traffic, "v4") == traffic
    assert preloading(traffic, "v5").preloaded == ("v0", "v4", "v5")


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({}, "are none, which is not 1"),
        ({"v1": 0.5}, "are 0.5, which is not 1"),
        ({"v1": 0.7, "v2": 0.7}, r"0\.7 \+ 0\.7"),
        ({"v1": 1.5, "v2": -0.5}, "'v1' is 1.5"),
        ({"v1": float("nan")}, "'v1' is nan"),
        ([("v1", 0.5), ("v1", 0.5)], "'v1' is named twice"),
    ],
)
def test_shares_that_are_not_the_whole_are_refused(shares: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        split(shares)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(Invalid, match="'v1' is named twice"):
        split({"v1": 1.0}, shadow=("v1", 1.0))
    with pytest.raises(Invalid, match="shadow 'v2' is 0"):
        split({"v1": 1.0}, shadow=("v2", 0.0))
    with pytest.raises(Invalid, match="at most 20"):
        split({"v1": 1.0}, preloaded=[f"p{i}" for i in range(20)])
    with pytest.raises(Invalid, match="200,000 generations are to run, at most 20"):
        split([(f"p{i}", 1 / 200_000) for i in range(200_000)])
    with pytest.raises(Invalid, match="by the mode 'random'"):
        Traffic("random", (Share("v1", WHOLE),))
    for value in ({}, {"shares": [{"generation": "v1"}]}, {"shares": [{"generation": "v1", "share": "x"}]}):
        with pytest.raises(Invalid):
            from_plain(value)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=15))
def test_parts_always_make_the_whole(weights: list[int]) -> None:
    total = sum(weights)
    traffic = split({f"v{i}": weight / total for i, weight in enumerate(weights)})
    assert sum(share.parts for share in traffic.shares) == WHOLE
    for share, weight in zip(traffic.shares, weights, strict=True):
        assert abs(share.parts - weight / total * WHOLE) < 1 + len(weights)
    assert from_plain(traffic.as_plain()) == traffic


def test_a_key_always_meets_the_same_generation_and_parts_are_kept() -> None:
    assert part_of("u1") == 3663
    traffic = split({"v1": 0.7, "v2": 0.3}, sticky=True)
    met = Counter(generation_of(traffic, f"user-{i}") for i in range(20_000))
    assert abs(met["v1"] - 14_000) < 400
    wider = split({"v1": 0.8, "v2": 0.2}, sticky=True)
    moved = [f"user-{i}" for i in range(2000) if generation_of(traffic, f"user-{i}") == "v1"]
    assert all(generation_of(wider, key) == "v1" for key in moved)  # who had v1 keeps it when v1 grows
