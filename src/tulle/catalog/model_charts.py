"""Curves of a model as pictures: numbers into the points of a small drawing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT = 300.0, 220.0
LEFT, BELOW = 34.0, 24.0  # room for the axes' numbers


@dataclass(frozen=True, slots=True)
class Tick:
    """A number beside an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing: a line, dots or bars, perhaps with the line of what would be perfect, or of mere chance."""

    title: str
    across: str
    up: str
    words: str  # for who cannot see it
    line: str = ""
    dots: tuple[tuple[float, float], ...] = ()
    bars: tuple[Bar, ...] = ()
    reference: str = ""
    ticks_across: tuple[Tick, ...] = ()
    ticks_up: tuple[Tick, ...] = ()


def charts_of(curves: Mapping[str, Any]) -> tuple[Chart, ...]:
    """The charts of an experiment's curves, as many as there are."""
    found = []
    if roc := curves.get("roc"):
        words = f"ROC curve: area {_area(roc['x'], roc['y']):.3f}, chance is 0.5"
        found.append(_line("ROC", "false positives", "true positives", words, roc, diagonal=True))
    if recall := curves.get("precision_recall"):
        words = f"precision from {min(recall['y']):.2f} to {max(recall['y']):.2f} over recall"
        found.append(_line("Precision and recall", "recall", "precision", words, recall))
    if said := curves.get("calibration"):
        apart = max((abs(x - y) for x, y in zip(said["x"], said["y"], strict=True)), default=0.0)
        words = f"calibration: what came true is at most {apart:.2f} apart from what was said"
        found.append(_line("Calibration", "said", "came true", words, said, diagonal=True, dotted=True))
    if predicted := curves.get("predicted"):
        found.append(scatter(predicted, span_of([*predicted["x"], *predicted["y"]])))
    if residuals := curves.get("residuals"):
        found.append(_histogram(residuals))
    return tuple(found)


def _line(
    title: str,
    across: str,
    up: str,
    words: str,
    curve: Mapping[str, Sequence[float]],
    *,
    diagonal: bool = False,
    dotted: bool = False,
) -> Chart:
    """A curve of shares: both axes go from 0 to 1."""
    points = [place(x, y, (0.0, 1.0), (0.0, 1.0)) for x, y in zip(curve["x"], curve["y"], strict=True)]
    return Chart(
        title,
        across,
        up,
        words,
        line=joined(points),
        dots=tuple(points) if dotted else (),
        reference=joined([place(0, 0, (0, 1), (0, 1)), place(1, 1, (0, 1), (0, 1))]) if diagonal else "",
        ticks_across=ticks((0.0, 1.0), across=True),
        ticks_up=ticks((0.0, 1.0), across=False),
    )


def scatter(predicted: Mapping[str, Sequence[float]], span: tuple[float, float]) -> Chart:
    """What was predicted against what was true, both axes of the same span."""
    dots = tuple(place(x, y, span, span) for x, y in zip(predicted["x"], predicted["y"], strict=True))
    low, high = span
    return Chart(
        "Predicted and true",
        "true",
        "predicted",
        f"{len(dots)} rows, predicted against true",
        dots=dots,
        reference=joined([place(low, low, span, span), place(high, high, span, span)]),
        ticks_across=ticks(span, across=True),
        ticks_up=ticks(span, across=False),
    )


def _histogram(residuals: Mapping[str, Sequence[float]]) -> Chart:
    edges, counts = residuals["edges"], residuals["counts"]
    span, most = span_of(edges), (0.0, float(max(counts, default=1) or 1))
    bars = []
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        x, y = place(left, count, span, most)
        end, floor = place(right, 0, span, most)
        words = f"{count} rows from {left:.4g} to {right:.4g}"
        bars.append(Bar(x, y, max(1.0, end - x - 1), round(floor - y, 1), words))
    return Chart(
        "Residuals",
        "true less predicted",
        "rows",
        f"residuals from {edges[0]:.4g} to {edges[-1]:.4g}",
        bars=tuple(bars),
        ticks_across=ticks(span, across=True),
        ticks_up=ticks(most, across=False),
    )


def span_of(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest value, never of no width."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def place(x: float, y: float, across: tuple[float, float], up: tuple[float, float]) -> tuple[float, float]:
    """Where a point lies in the drawing, whose axes reach over these spans."""
    right = (x - across[0]) / (across[1] - across[0]) * (WIDTH - LEFT - 8)
    above = (y - up[0]) / (up[1] - up[0]) * (HEIGHT - BELOW - 8)
    return round(LEFT + right, 1), round(HEIGHT - BELOW - above, 1)


def ticks(span: tuple[float, float], *, across: bool) -> tuple[Tick, ...]:
    """The numbers beside an axis: its ends and its middle."""
    found = []
    for share in (0.0, 0.5, 1.0):
        value = span[0] + share * (span[1] - span[0])
        x, y = place(value, value, span, span)
        found.append(Tick(x if across else y, f"{value:.3g}"))
    return tuple(found)


def joined(points: Sequence[tuple[float, float]]) -> str:
    """Points as a line of a drawing."""
    return " ".join(f"{x},{y}" for x, y in points)


def _area(x: Sequence[float], y: Sequence[float]) -> float:
    """Below a curve of straight lines."""
    pairs = list(zip(x, y, strict=True))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(pairs))
