"""What making a data set would take, from what making it took before; without a past, from the engine's own guess.

Rows and time are scaled by the rows that are read: along a line where runs of different sizes are known, else in
proportion to the last one. Says which of these it was. Knows runs and steps, not the lake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from tulle.pipeline.run import SUCCEEDED, UNCHANGED
from tulle.state.db import Database
from tulle.state.tables import run_steps, runs

HISTORY, OTHERS, ENGINE, UNKNOWN = "history", "other models", "engine", "unknown"
_MOST_STEPS = 5_000
_POINTS = 20  # the latest runs of one model say enough


@dataclass(frozen=True, slots=True)
class Point:
    """One making: the rows it read, the rows it gave, how long it took."""

    read: int
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a making would give and take, and on what that is based; None is not known."""

    rows: int | None
    seconds: float | None
    basis: str
    runs: int = 0  # how many earlier ones it is from


def past(database: Database, product: str, inputs: Mapping[str, Iterable[str]]) -> dict[str, list[Point]]:
    """The earlier makings of each job of a product, the latest first. `inputs` are the names each one reads."""
    steps = run_steps.c
    query = (
        select(
            steps.run_id,
            steps.name,
            steps.status,
            steps.rows,
            steps.message,
            steps.started_at,
            steps.finished_at,
        )
        .join(runs, runs.c.id == steps.run_id)
        .where(runs.c.product == product, steps.status.in_((SUCCEEDED, UNCHANGED)))
        .order_by(runs.c.requested_at.desc())
        .limit(_MOST_STEPS)
    )
    rows: dict[tuple[str, str], int] = {}
    made: list[tuple[str, str, float]] = []
    with database.read() as cx:
        for run, name, status, count, message, since, until in cx.execute(query):
            rows[run, name] = count or 0
            took = since is not None and until is not None and status == SUCCEEDED
            if took and not str(message or "").startswith("only checked"):
                made.append((run, name, until - since))
    found: dict[str, list[Point]] = {}
    for run, name, seconds in made:
        points = found.setdefault(name, [])
        if len(points) < _POINTS:
            read = sum(rows.get((run, one), 0) for one in inputs.get(name, ()))
            points.append(Point(read, rows[run, name], seconds))
    return found


def estimate(
    points: Sequence[Point], read: int | None, *, others: Sequence[Point] = (), guessed: int | None = None
) -> Estimate:
    """What reading `read` rows would give and take.

    `points` are earlier makings of the same model, latest first, `others` those of other models; `guessed` are the
    rows the engine expects.
    """
    if points:
        last = points[0]
        if read is None or not last.read:
            return Estimate(last.rows, last.seconds, HISTORY, 1)
        known = [(point.read, point.rows, point.seconds) for point in points if point.read]
        rows = _along([(r, float(n)) for r, n, _ in known], read)
        seconds = _along([(r, s) for r, _, s in known], read)
        return Estimate(round(rows), seconds, HISTORY, len(known))
    total = sum(point.read for point in others)
    seconds_ = sum(point.seconds for point in others if point.read) / total * read if total and read else None
    if guessed is not None:
        return Estimate(guessed, seconds_, ENGINE)
    return Estimate(None, seconds_, OTHERS if seconds_ is not None else UNKNOWN)


def _along(points: Sequence[tuple[int, float]], at: int) -> float:
    """The value at `at`: on the line through the points where they tell one that rises, else in proportion."""
    count = len(points)
    middle = sum(x for x, _ in points) / count
    level = sum(y for _, y in points) / count
    spread = sum((x - middle) ** 2 for x, _ in points)
    slope = sum((x - middle) * (y - level) for x, y in points) / spread if spread else 0.0
    if slope > 0 and (value := level + slope * (at - middle)) > 0:
        return value
    x, y = points[0]
    return y * at / x
