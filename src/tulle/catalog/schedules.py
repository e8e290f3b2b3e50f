"""Schedules as a page shows them: what comes on which day, what is in force, what fired, what is wrong.

Days are UTC. Knows schedules as `pipeline.schedule` gives them; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tulle.catalog.masking import untold
from tulle.observe import incidents
from tulle.observe.incidents import Incident
from tulle.pipeline import backfill, schedule
from tulle.pipeline.backfill import Backfill
from tulle.pipeline.schedule import Fire, Scheduled
from tulle.state.db import Database, now

DAYS = 7
MOST_COMING = 2000  # fires that are looked ahead
IN_FORCE_SHOWN = 200
PAST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Entry:
    """One product on one day: the times of its fires, in UTC."""

    product: str
    environment: str
    times: tuple[str, ...]

    @property
    def told(self) -> str:
        """Its times in short."""
        if len(self.times) <= 3:
            return ", ".join(self.times)
        return f"{self.times[0]} to {self.times[-1]}, {len(self.times)} times"


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the calendar."""

    date: str  # ISO
    name: str  # such as Monday
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class BackfillLine:
    """A backfill and how far it came."""

    backfill: Backfill
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class SchedulesPage:
    """What the page of schedules shows; `is_cut`: there is more within the days than is shown."""

    days: tuple[Day, ...]
    is_cut: bool
    in_force: tuple[Scheduled, ...]
    count: int
    past: tuple[Fire, ...]
    backfills: tuple[BackfillLine, ...]
    wrong: tuple[Incident, ...]


def schedules_page(database: Database, *, at: float | None = None) -> SchedulesPage:
    """The page as things stand."""
    moment = now() if at is None else at
    known = schedule.all_scheduled(database, limit=100_000)
    start = datetime.fromtimestamp(moment, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = (start + timedelta(days=DAYS)).timestamp() - 1
    coming = schedule.upcoming(known, until, limit=MOST_COMING)
    return SchedulesPage(
        days=tuple(_days(start, coming)),
        is_cut=len(coming) == MOST_COMING,
        in_force=known[:IN_FORCE_SHOWN],
        count=len(known),
        past=tuple(
            replace(one, message=untold(one.message))
            for one in schedule.fires(database, series="", limit=PAST_SHOWN)
        ),
        backfills=tuple(_line(one) for one in backfill.recent(database, limit=10)),
        wrong=tuple(
            replace(one, message=untold(one.message)) for one in incidents.recent(database, is_open=True)
        ),
    )


def _days(start: datetime, coming: list[tuple[float, Scheduled]]) -> Iterator[Day]:
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for at, one in coming:
        moment = datetime.fromtimestamp(at, UTC)
        of_day = found.setdefault(moment.date().isoformat(), {})
        of_day.setdefault((one.product, one.environment), []).append(moment.strftime("%H:%M"))
    for number in range(DAYS):
        date = (start + timedelta(days=number)).date()
        entries = found.get(date.isoformat(), {})
        yield Day(
            date.isoformat(),
            date.strftime("%A"),
            tuple(Entry(product, env, tuple(times)) for (product, env), times in entries.items()),
        )


def _line(one: Backfill) -> BackfillLine:
    done = sum(one.counts.get(status, 0) for status in ("succeeded", "unchanged"))
    return BackfillLine(one, done, sum(one.counts.values()))
