"""The quality of a product over time: every check with what it found in run after run, as numbers and as a chart.

A chart is a value for the template: points in a box of its own, nothing of HTML. Knows no rows: what a check
says is shown without what it may quote of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from sqlalchemy import select

from tulle.catalog.masking import untold
from tulle.errors import NotFound, did_you_mean
from tulle.quality.history import MAIN, Outcome, series
from tulle.state.db import Database
from tulle.state.tables import check_results

SHOWN_RUNS = 40
WIDTH, HEIGHT, MARGIN = 260.0, 54.0, 5.0


class Told(Protocol):
    """What a dot of a chart says beside its number."""

    @property
    def state(self) -> str:
        """How it looks: passed, warn or failed."""

    @property
    def message(self) -> str:
        """What it says."""

    @property
    def run(self) -> str:
        """The run it is of."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One result: where it lies in the chart, and what it says."""

    x: float
    y: float
    state: str
    text: str
    run: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Numbers over time in a box (of `WIDTH` by `HEIGHT` if not told), and the least and the greatest of them."""

    dots: tuple[Dot, ...]
    low: float
    high: float

    @property
    def line(self) -> str:
        """The points of the line through all dots, as SVG writes them."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


@dataclass(frozen=True, slots=True)
class CheckHistory:
    """A check with what it found, oldest first; `figure` says what its chart is of."""

    data_set: str
    name: str
    outcomes: tuple[Outcome, ...]
    chart: Chart
    figure: str

    @property
    def last(self) -> Outcome:
        """What it found last."""
        return self.outcomes[-1]

    @property
    def failed(self) -> int:
        """How many of the results it did not pass."""
        return sum(not outcome.passed for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class DataSetQuality:
    """The checks of one data set, those that fail first, and how many rows it had."""

    name: str
    checks: tuple[CheckHistory, ...]
    rows: Chart | None

    @property
    def total(self) -> int:
        """How many rows were looked at last."""
        return max((check.last.total for check in self.checks), default=0)


@dataclass(frozen=True, slots=True)
class QualityPage:
    """What the page shows."""

    product: str
    environment: str
    environments: tuple[str, ...]
    data_sets: tuple[DataSetQuality, ...]

    @property
    def checks(self) -> tuple[CheckHistory, ...]:
        """All checks."""
        return tuple(check for data_set in self.data_sets for check in data_set.checks)

    def count(self, state: str) -> int:
        """How many checks ended so the last time."""
        return sum(check.last.state == state for check in self.checks)


def quality_page(database: Database, product: str, environment: str = MAIN) -> QualityPage:
    """The quality of a product in an environment. NotFound when nothing was judged there, but elsewhere."""
    there = _environments(database, product)
    if environment != MAIN and environment not in there:
        raise NotFound(
            f"no check of product '{product}' was judged on '{environment}'",
            hint=did_you_mean(environment, there) or f"`tulle check {product} -e {environment}` judges them",
        )
    found = series(database, product, environment=environment, last=SHOWN_RUNS)
    histories = [_history(outcomes) for outcomes in found.values()]
    order = {"failed": 0, "warn": 1, "passed": 2}
    data_sets = []
    for name, checks in groupby(histories, key=lambda one: one.data_set):
        mine = sorted(checks, key=lambda one: (order[one.last.state], one.name))
        data_sets.append(DataSetQuality(name, tuple(mine), _rows(mine)))
    return QualityPage(product, environment, there, tuple(data_sets))


def _environments(database: Database, product: str) -> tuple[str, ...]:
    column = check_results.c.environment
    query = select(column).where(check_results.c.product == product).distinct().order_by(column)
    with database.read() as cx:
        found = [row.environment for row in cx.execute(query)]
    return tuple(sorted(found, key=lambda name: (name != MAIN, name)))


def _history(outcomes: tuple[Outcome, ...]) -> CheckHistory:
    last = outcomes[-1]
    measured = all(outcome.value is not None for outcome in outcomes)
    figure = _figure(last) if measured else "failing rows"
    numbers = [
        float(outcome.value if measured and outcome.value is not None else outcome.failing)
        for outcome in outcomes
    ]
    return CheckHistory(last.data_set, last.check, outcomes, chart(numbers, outcomes), figure)


_FIGURES = {
    "row_count": "rows",
    "volume": "rows",
    "completeness": "share with values",
    "unique_share": "share of different values",
    "freshness": "age in seconds",
    "distribution": "distance from usual",
    "schema": "columns that differ",
}


def _figure(outcome: Outcome) -> str:
    return _FIGURES.get(outcome.kind, "failing rows")


def _rows(checks: Sequence[CheckHistory]) -> Chart | None:
    """How many rows the data set had, by the check with the longest history of looking at all of them."""
    if not checks:
        return None
    longest = max(checks, key=lambda one: (max(o.total for o in one.outcomes), len(one.outcomes)))
    return chart([float(outcome.total) for outcome in longest.outcomes], longest.outcomes)


def chart(
    numbers: Sequence[float], outcomes: Sequence[Told], size: tuple[float, float] = (WIDTH, HEIGHT)
) -> Chart:
    """Numbers over time; the lower edge is zero where all of them are positive and some are near it."""
    low, high = min(numbers), max(numbers)
    edge = 0.0 if 0 < low < high / 2 else low
    span = high - edge
    width, height = size[0] - 2 * MARGIN, size[1] - 2 * MARGIN
    step = width / (len(numbers) - 1) if len(numbers) > 1 else 0.0
    dots = []
    for position, (number, outcome) in enumerate(zip(numbers, outcomes, strict=True)):
        x = MARGIN + (position * step if step else width / 2)
        up = (number - edge) / span if span else (0.0 if not number else 0.5)
        dots.append(
            Dot(x, size[1] - MARGIN - up * height, outcome.state, untold(outcome.message), outcome.run)
        )
    return Chart(tuple(dots), low, high)
