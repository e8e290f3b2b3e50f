"""How values are spread, and how far one spread is from another: pure numbers, no SQL and no store.

A profile of numbers has 101 quantiles, one of categories the shares of its most frequent values. The distances:
PSI (population stability index, over ten equally filled bins) and KS (the largest difference between the cumulative
shares; to 1 %, since there are 101 quantiles).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

QUANTILES = tuple(i / 100 for i in range(101))
OTHER = "\0other"  # what the most frequent values leave
_BINS = 10
_LEAST = 0.0001  # an empty bin would be infinitely far


def pooled(profiles: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What several runs found, as one profile: quantiles and shares on average. None for no run with values."""
    profiles = [profile for profile in profiles if profile.get("count")]
    if not profiles:
        return None
    made: dict[str, Any] = {
        "count": fmean(p["count"] for p in profiles),
        "null_share": fmean(p["null_share"] for p in profiles),
    }
    if "quantiles" in profiles[0]:
        spread = [p for p in profiles if "quantiles" in p]
        made["quantiles"] = [fmean(column) for column in zip(*(p["quantiles"] for p in spread), strict=True)]
        made["mean"] = fmean(p["mean"] for p in spread)
        made["stddev"] = fmean(p["stddev"] for p in spread)
    else:
        shares = [p["shares"] for p in profiles if "shares" in p]
        names = dict.fromkeys(name for one in shares for name in one)
        made["shares"] = {name: fmean(one.get(name, 0.0) for one in shares) for name in names}
    return made


def psi(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Population stability index: below 0.1 is taken for the same, above 0.25 for another population."""
    old, new = _binned(before, now)
    pairs = [(max(o, _LEAST), max(n, _LEAST)) for o, n in zip(old, new, strict=True)]
    return sum((n - o) * math.log(n / o) for o, n in pairs)


def ks(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The largest difference between cumulative shares; for categories half the sum of all differences."""
    if "quantiles" not in before:
        old, new = _shares(before, now)
        return sum(abs(o - n) for o, n in zip(old, new, strict=True)) / 2
    points = {*before["quantiles"], *now["quantiles"]}
    return max(abs(_below(before["quantiles"], x) - _below(now["quantiles"], x)) for x in points)


def _binned(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    if "quantiles" not in before:
        return _shares(before, now)
    quantiles = before["quantiles"]
    # Values that are frequent fill several bins: those become one.
    edges = sorted({quantiles[100 * i // _BINS] for i in range(1, _BINS)})
    return _parts(before["quantiles"], edges), _parts(now["quantiles"], edges)


def _parts(quantiles: Sequence[float], edges: Sequence[float]) -> list[float]:
    below = [0.0, *(_below(quantiles, edge) for edge in edges), 1.0]
    return [b - a for a, b in pairwise(below)]


def _below(quantiles: Sequence[float], value: float) -> float:
    """The share of values that are at most `value`."""
    high = bisect_right(quantiles, value)
    if high in {0, len(quantiles)}:
        return high / len(quantiles)
    low = bisect_left(quantiles, value)
    steps = len(quantiles) - 1
    if low < high:
        return (high - 1) / steps
    left, right = quantiles[high - 1], quantiles[high]
    return (high - 1 + (value - left) / (right - left)) / steps


def _shares(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Shares by name; what only one profile lists apart is not counted as `other` in one and by name in the other."""
    old, new = before["shares"], now["shares"]
    names = [name for name in dict.fromkeys((*old, *new)) if name != OTHER]
    first = [old.get(name, 0.0) for name in names]
    second = [new.get(name, 0.0) for name in names]
    return [*first, max(0.0, 1 - sum(first))], [*second, max(0.0, 1 - sum(second))]
