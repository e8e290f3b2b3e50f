"""The jobs of a run over time, as bars of a picture: what ran side by side, what waited, what took long.

Pure: steps in, positions out; a template draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tulle.catalog.history import RunView, StepView
from tulle.catalog.look import took

WIDTH: Final = 900.0
LABEL: Final = 190.0  # of the width, for names
ROW: Final = 26.0
TOP: Final = 24.0  # for the axis
_BAR: Final = 14.0
_LEAST: Final = 2.0  # so that a bar of no length is seen
_LABEL_CHARACTERS: Final = 24
_MOST_TICKS: Final = 6
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)


@dataclass(frozen=True, slots=True)
class Bar:
    """One step: its row, and from where to where it goes; `words` say the same."""

    name: str
    label: str
    status: str
    x: float
    y: float
    width: float
    words: str

    @property
    def middle(self) -> float:
        """The height of its text."""
        return self.y + _BAR - 3

    @property
    def height(self) -> float:
        """Of every bar."""
        return _BAR


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the axis, and what it says."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Gantt:
    """All of it; lengths in the picture's own units."""

    width: float
    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    words: str


def gantt(run: RunView) -> Gantt | None:
    """The picture of a run; None before its first step has begun."""
    begun = [step for step in run.steps if step.started_at is not None]
    if not begun:
        return None
    start = min(step.started_at or 0.0 for step in begun)
    end = max((step.started_at or 0.0) + (step.seconds or 0.0) for step in begun)
    span = max(end - start, 0.001)
    scale = (WIDTH - LABEL - 8) / span
    bars = tuple(_bar(step, number, start, scale) for number, step in enumerate(begun))
    most = max(begun, key=lambda step: step.seconds or 0.0)
    words = f"{len(begun)} of {len(run.steps)} steps over {took(span)}; the longest, {most.name}, "
    words += f"took {took(most.seconds)}"
    return Gantt(WIDTH, TOP + ROW * len(bars) + 4, bars, tuple(_ticks(span, scale)), words)


def _bar(step: StepView, number: int, start: float, scale: float) -> Bar:
    begun = (step.started_at or start) - start
    took_ = step.seconds or 0.0
    name = step.name if len(step.name) <= _LABEL_CHARACTERS else step.name[: _LABEL_CHARACTERS - 1] + "…"
    return Bar(
        step.name,
        name,
        step.status,
        round(LABEL + begun * scale, 1),
        TOP + ROW * number,
        round(max(_LEAST, took_ * scale), 1),
        f"{step.name}: {step.status}, from {took(begun)} on, for {took(took_)}",
    )


def _ticks(span: float, scale: float) -> Sequence[Tick]:
    steps = [0.01 * step for step in (1, 2, 5, 10, 20, 50)] + [float(step) for step in _STEPS]
    step = next((one for one in steps if span / one <= _MOST_TICKS), span / _MOST_TICKS)
    return [Tick(round(LABEL + n * step * scale, 1), took(n * step)) for n in range(int(span / step) + 1)]
