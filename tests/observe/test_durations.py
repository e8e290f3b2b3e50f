"""Durations in buckets: how far off a quantile is, and adding up in any order."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest

from tulle.observe.durations import (
    BUCKETS,
    added,
    bucket,
    buckets,
    middle,
    packed,
    quantiles,
    table,
    together,
    unpacked,
    upper,
)


def test_a_bucket_is_at_most_two_percent_off_from_a_microsecond_to_an_hour() -> None:
    for microseconds in [*range(30, 50_000, 7), 10**6, 10**7, 3_599_000_000]:
        assert abs(middle(bucket(microseconds)) - microseconds) <= 0.02 * microseconds + 0.5
        assert bucket(microseconds) == 0 or upper(bucket(microseconds) - 1) <= microseconds * (1 + 1e-9)
        assert microseconds < upper(bucket(microseconds)) * (1 + 1e-9)
    assert bucket(-5) == bucket(0) == bucket(1) == 0
    assert bucket(10**15) == BUCKETS - 1
    some = [-5, 0, 1, 2, 3, 57, 999, 10**6, 3_599_000_000, 10**15]
    assert buckets(np.array(some)).tolist() == [bucket(one) for one in some]


def test_counts_are_packed_and_added() -> None:
    one, other = {3: 1, 500: 70_000}, {3: 2, 4: 1}
    assert unpacked(packed(one)) == one
    assert unpacked(added(packed(one), packed(other))) == {3: 3, 4: 1, 500: 70_000}
    assert added(None, packed(one)) == added(b"", packed(one)) == packed(one)
    assert added(None, None) == b""
    twice = packed(one) + packed(other)
    assert unpacked(twice) == unpacked(together(twice)) == {3: 3, 4: 1, 500: 70_000}
    assert (together(packed(one)), together(b"")) == (packed(one), b"")
    assert table([twice], [0], 1)[0, [3, 4, 500]].tolist() == [3, 1, 70_000]
    most = {7: 0xFFFFFFFF}
    assert unpacked(added(packed(most), packed({7: 1, 8: 2}))) == {
        7: 0xFFFFFFFF,
        8: 2,
    }  # as many as there can be


def test_quantiles_of_parts_added_up_are_those_of_the_whole() -> None:
    drawn = random.Random(3)
    measured = [int(drawn.lognormvariate(7, 1.2)) for _ in range(20_000)]
    parts = [packed(Counter(bucket(one) for one in measured[n::50])) for n in range(50)]
    counts = table(parts, [0] * 50, 2)
    assert counts[0].sum() == 20_000
    ordered = sorted(measured)
    for share in (0.5, 0.95, 0.99):
        found, nothing = quantiles(counts, share)
        assert found == pytest.approx(ordered[math.ceil(share * 20_000) - 1], rel=0.021)
        assert nothing is None
    assert np.all(table([], [], 3) == 0)
