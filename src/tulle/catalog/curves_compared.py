"""Curves of several models drawn over each other, on axes that they share. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tulle.catalog.model_charts import Chart, Tick, joined, place, scatter, span_of, ticks

Curve = Mapping[str, Any]
_SHARES = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Overlaid:
    """A drawing with a line for each model that has this curve: the model's place among those compared, its points."""

    title: str
    across: str
    up: str
    words: str  # for who cannot see it
    lines: tuple[tuple[int, str], ...]
    reference: str
    ticks_across: tuple[Tick, ...]
    ticks_up: tuple[Tick, ...]


def overlaid(curves: Mapping[str, Sequence[Curve | None]]) -> tuple[Overlaid, ...]:
    """The charts of what is drawn as lines, as many as there are; None stands for a model without the curve."""
    return tuple(_overlaid(curves))


def _overlaid(curves: Mapping[str, Sequence[Curve | None]]) -> Iterator[Overlaid]:
    diagonal = joined([place(0, 0, _SHARES, _SHARES), place(1, 1, _SHARES, _SHARES)])
    for name, title, across, up, reference in (
        ("roc", "ROC", "false positives", "true positives", diagonal),
        ("precision_recall", "Precision and recall", "recall", "precision", ""),
        ("calibration", "Calibration", "said", "came true", diagonal),
    ):
        found = _there(curves, name)
        points = {n: list(zip(one["x"], one["y"], strict=True)) for n, one in found.items()}
        if points:
            yield _drawn(title, across, up, reference, points, (_SHARES, _SHARES))
    residuals = {n: _shares(one) for n, one in _there(curves, "residuals").items()}
    if residuals:
        every = [point for line in residuals.values() for point in line]
        spans = span_of([x for x, _ in every]), (0.0, max(y for _, y in every) or 1.0)
        yield _drawn("Residuals", "true less predicted", "share of rows", "", residuals, spans)


def side_by_side(curves: Mapping[str, Sequence[Curve | None]]) -> tuple[tuple[int, Chart], ...]:
    """Predicted against true, a drawing each and all with the same axes: dots over each other tell nothing."""
    found = _there(curves, "predicted")
    shared = (
        span_of([value for one in found.values() for value in (*one["x"], *one["y"])]) if found else _SHARES
    )
    return tuple((n, scatter(one, shared)) for n, one in found.items())


def _there(curves: Mapping[str, Sequence[Curve | None]], name: str) -> dict[int, Curve]:
    return {n: one for n, one in enumerate(curves.get(name, ())) if one}


def _shares(residuals: Curve) -> list[tuple[float, float]]:
    """A histogram as a line: the share of the rows of each bar, at its middle."""
    counts = residuals["counts"]
    whole = sum(counts) or 1
    middles = [(left + right) / 2 for left, right in pairwise(residuals["edges"])]
    return [(x, count / whole) for x, count in zip(middles, counts, strict=True)]


def _drawn(
    title: str,
    across: str,
    up: str,
    reference: str,
    points: Mapping[int, Sequence[tuple[float, float]]],
    spans: tuple[tuple[float, float], tuple[float, float]],
) -> Overlaid:
    letters = ", ".join(letter(n) for n in points)
    return Overlaid(
        title,
        across,
        up,
        f"{title} of {letters}: {up} over {across}",
        tuple((n, joined([place(x, y, *spans) for x, y in line])) for n, line in points.items()),
        reference,
        ticks(spans[0], across=True),
        ticks(spans[1], across=False),
    )


def letter(number: int) -> str:
    """How the model at this place is called on the page: A, B, C …"""
    return chr(ord("A") + number)
