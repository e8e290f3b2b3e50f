"""How far values have moved from those a model was made with, and how good its answers were. Pure.

    PSI and Jensen-Shannon compare the shares of bins: deciles of a number, the most frequent categories of a text;
    Kolmogorov-Smirnov compares all values of a number, chi-square the counts of categories.

A PSI below 0.1 is taken for stable, above 0.25 for drifted, as is usual in credit scoring. The p of a test says
how likely so much is by chance; with many rows the least movement is certain, so PSI decides. With few rows a PSI is
large by chance alone, the more so the more bins there are: what chance explains is stable.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Verdict = Literal["stable", "moving", "drifted", "unknown"]
MOVING, DRIFTED = 0.1, 0.25
LEAST_ROWS = 50  # with fewer, chance moves more than the world
LEAST_CHANCE = 0.01  # a PSI that chance exceeds more often is no movement
BINS = 10
CATEGORIES = 20
NULL, OTHERS = "null", "others"
_ROUNDED = 1e-6  # by so much of itself a value may be off that is still the same
_MOST_NUMBER = 1e100  # whose square is one, too
_LEAST_SHARE = 1e-4  # of a bin: none at all would be infinitely far
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """A part of the values; `then` and `now` are shares of all."""

    label: str
    then: float
    now: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How far one thing moved. `p` and `statistic` are of the test, None where it says nothing."""

    name: str
    kind: Literal["number", "category"]
    rows_then: int
    rows_now: int
    psi: float
    jensen_shannon: float
    test: Literal["ks", "chi2"]
    statistic: float | None
    p: float | None
    bins: tuple[Bin, ...]

    @property
    def chance(self) -> float:
        """How likely a movement as large is where nothing moved: chi-square of what is in the bins."""
        then, now = np.array([(one.then, one.now) for one in self.bins]).reshape(-1, 2).T
        _, p = chi_square(then * self.rows_then, now * self.rows_now)
        return 1.0 if p is None else p

    @property
    def verdict(self) -> Verdict:
        """What the PSI says; unknown with too few rows."""
        if min(self.rows_then, self.rows_now) < LEAST_ROWS:
            return "unknown"
        if self.psi > MOVING and self.chance > LEAST_CHANCE:
            return "stable"
        return "drifted" if self.psi > DRIFTED else "moving" if self.psi > MOVING else "stable"


def drift_of(name: str, then: Sequence[Any], now: Sequence[Any]) -> Drift:
    """How far values moved; numbers where all that are there are, else categories."""
    if all(_is_number(value) for values in (then, now) for value in values if value is not None):
        return _of_numbers(name, then, now)
    return _of_categories(name, then, now)


def performance(
    outcomes: Sequence[Any], predictions: Sequence[Any], probas: Sequence[Any], *, of_classes: bool
) -> dict[str, float]:
    """How good answers were, by metric: accuracy, log loss and area under the curve of classes, else RMSE, MAE and R².

    `probas`: by class name (text), or None. A class is told by its text, since callers tell 1, "1" and true alike.
    """
    if not outcomes:
        return {}
    if of_classes:  # their names may be numbers, whose distance says nothing
        return _of_classes(outcomes, predictions, probas)
    pairs = [
        (_number(outcome), _number(prediction))
        for outcome, prediction in zip(outcomes, predictions, strict=True)
        if _is_number(outcome) and _is_number(prediction)
    ]
    # What is told may be anything: a number that none can be calculated with says nothing of the others.
    usable = np.array([pair for pair in pairs if max(map(abs, pair)) < _MOST_NUMBER], dtype=np.float64)
    if not len(usable):
        return {}
    true, said = usable.T
    error = said - true
    spread = float(((true - true.mean()) ** 2).sum())
    found = {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
    }
    return found | ({"r2": 1 - float((error**2).sum()) / spread} if spread else {})


def _of_classes(
    outcomes: Sequence[Any], predictions: Sequence[Any], probas: Sequence[Any]
) -> dict[str, float]:
    true, said = [class_name(v) for v in outcomes], [class_name(v) for v in predictions]
    found = {"accuracy": sum(map(str.__eq__, true, said)) / len(true)}
    known = [(t, p) for t, p in zip(true, probas, strict=True) if isinstance(p, Mapping) and t in p]
    if not known:
        return found
    losses = [-math.log(min(max(float(p[t]), 1e-15), 1.0)) for t, p in known]
    found["log_loss"] = sum(losses) / len(losses)
    names = list(known[0][1])
    if len(names) == 2:
        area = _area([t == names[1] for t, _ in known], [float(p[names[1]]) for _, p in known])
        if area is not None:
            found["roc_auc"] = area
    return found


def class_name(value: Any) -> str:
    """A class as text, the same for 1, "1", 1.0 and true."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = _text(value)
    return {"true": "1", "false": "0"}.get(text.lower(), text)


def _area(positive: Sequence[bool], score: Sequence[float]) -> float | None:
    """The share of pairs of a positive and a negative in which the positive has the higher score; ties count half."""
    is_positive = np.array(positive)
    number, others = int(is_positive.sum()), int((~is_positive).sum())
    if not number or not others:
        return None
    scores = np.array(score)
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[place]
    return float((ranks[is_positive].sum() - number * (number + 1) / 2) / (number * others))


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────


def _of_numbers(name: str, then: Sequence[Any], now: Sequence[Any]) -> Drift:
    before, after = _floats(then), _floats(now)
    edges, has_lowest = _edges(before)
    counts = [
        np.append(np.bincount(np.searchsorted(edges, v, side="left"), minlength=len(edges) + 1), n - len(v))
        for v, n in ((before, len(then)), (after, len(now)))
    ]
    labels = _labels(edges, has_lowest=has_lowest)
    statistic, p = kolmogorov_smirnov(before, after)
    return _drift(name, "number", [*labels, NULL], counts, "ks", statistic, p)


def _edges(values: _Floats) -> tuple[_Floats, bool]:
    """Between deciles. Where the lowest is one value alone, what is below it is a bin of its own, empty so far."""
    if not len(values):
        return np.array([], dtype=np.float64), False
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    lowest = float(values.min())
    if edges[0] > lowest:
        return edges, False
    return np.insert(edges, 0, lowest - (abs(lowest) * _ROUNDED or _ROUNDED)), True


def kolmogorov_smirnov(one: _Floats, other: _Floats) -> tuple[float | None, float | None]:
    """The largest distance between the distributions, and how likely one as large is by chance (for large samples)."""
    if not len(one) or not len(other):
        return None, None
    values = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (one, other)]
    distance = float(np.abs(below[0] - below[1]).max())
    size = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    return distance, _kolmogorov(size * distance)


def _kolmogorov(x: float) -> float:
    """The probability that Kolmogorov's distribution is above x."""
    if x < 0.2:
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def _labels(edges: _Floats, *, has_lowest: bool) -> list[str]:
    if not len(edges):
        return ["any"]
    told = [f"{edge:.4g}" for edge in edges]
    if has_lowest:
        lowest, *above = told[1:]
        between = [f"{low} to {high}" for low, high in pairwise([lowest, *above])]
        return [f"< {lowest}", lowest, *between, f"> {told[-1]}"]
    between = [f"{low} to {high}" for low, high in pairwise(told)]
    return [f"≤ {told[0]}", *between, f"> {told[-1]}"]


# ── categories ───────────────────────────────────────────────────────────────────────────────────────────


def _of_categories(name: str, then: Sequence[Any], now: Sequence[Any]) -> Drift:
    before, after = (Counter(_category(value) for value in values) for values in (then, now))
    both = before + after
    both.pop(NULL, None)
    names = [category for category, _ in both.most_common(CATEGORIES)]
    labels = [*names, OTHERS, NULL]
    counts = []
    for side in (before, after):
        told = [side[category] for category in names]
        counts.append(np.array([*told, side.total() - sum(told) - side[NULL], side[NULL]]))
    return _drift(name, "category", labels, counts, "chi2", *chi_square(*counts))


def chi_square(one: NDArray[Any], other: NDArray[Any]) -> tuple[float | None, float | None]:
    """Pearson's statistic of two rows of counts, and how likely one as large is by chance."""
    table = np.array([one, other], dtype=float)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return None, None
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, _upper_gamma((table.shape[1] - 1) / 2, statistic / 2)


def _upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function: a series for small x, a continued fraction for large."""
    if x <= 0:
        return 1.0
    factor = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for k in range(1, 10_000):
            term *= x / (a + k)
            total += term
            if term < total * 1e-15:
                break
        return max(0.0, 1 - total * factor)
    # Lentz's method.
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for k in range(1, 10_000):
        step = -k * (k - a)
        b += 2
        d = step * d + b
        c = b + step / c
        d, c = 1 / (d if abs(d) > tiny else tiny), c if abs(c) > tiny else tiny
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(1.0, factor * h)


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────


def _drift(
    name: str,
    kind: Literal["number", "category"],
    labels: Sequence[str],
    counts: Sequence[NDArray[Any]],
    test: Literal["ks", "chi2"],
    statistic: float | None,
    p: float | None,
) -> Drift:
    then, now = (_shares(side) for side in counts)
    bins = [
        Bin(label, float(a), float(b))
        for label, a, b in zip(labels, then, now, strict=True)
        if a or b or label not in {NULL, OTHERS}
    ]
    rows_then, rows_now = (int(side.sum()) for side in counts)
    if not rows_then or not rows_now:
        return Drift(name, kind, rows_then, rows_now, 0.0, 0.0, test, None, None, tuple(bins))
    a, b = (np.maximum(side, _LEAST_SHARE) for side in (then, now))
    psi = float(((b - a) * np.log(b / a)).sum())
    return Drift(
        name, kind, rows_then, rows_now, psi, _jensen_shannon(then, now), test, statistic, p, tuple(bins)
    )


def _jensen_shannon(one: _Floats, other: _Floats) -> float:
    """The divergence of two distributions, 0 for equal ones, 1 where they have nothing in common."""
    middle = (one + other) / 2
    found = 0.0
    for side in (one, other):
        there = side > 0
        found += float((side[there] * np.log2(side[there] / middle[there])).sum()) / 2
    return min(1.0, max(0.0, found))


def _shares(counts: NDArray[Any]) -> _Floats:
    total = int(counts.sum())
    shares: _Floats = counts.astype(np.float64) / max(total, 1)
    return shares


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


def _number(value: Any) -> float:
    """As a float; infinite where it is larger than any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _floats(values: Sequence[Any]) -> _Floats:
    there = (_number(value) for value in values if value is not None)
    return np.array([value for value in there if math.isfinite(value)], dtype=np.float64)


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # a number of more digits than Python writes
        return "a huge number"


def _category(value: Any) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime | dt.date):
        return str(msgspec.to_builtins(value))  # as it is in the log
    return _text(value)
