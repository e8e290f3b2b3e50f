"""A month of schedules as its page shows it: what fired on each day and how it ended, and what comes.

Days are UTC. Knows schedules as `pipeline.schedule` gives them; changes nothing.
"""

from __future__ import annotations

import heapq
from calendar import Calendar
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from sqlalchemy import Integer, cast, func, select

from tulle.errors import Invalid
from tulle.pipeline import schedule
from tulle.pipeline.schedule import Fire, Scheduled
from tulle.state.db import Database, now
from tulle.state.tables import schedule_fires

MOST_COMING = 32_000  # fires that are looked ahead: a month of a thousand that run daily
MOST_MONTHS = 24  # from now, in either direction
MOST_OF_DAY = 200
NAMES_SHOWN = 3
DAY = 86_400
_LOOKS = {
    "succeeded": "ok",
    "unchanged": "ok",
    "failed": "bad",
    "stopped": "bad",
    "skipped": "warn",
    "held": "warn",
    "cancelled": "warn",
}
_ORDER = ("bad", "warn", "busy", "ok")
_WORDS = {"bad": "failed", "warn": "not carried out", "busy": "going on", "ok": "went well"}


@dataclass(frozen=True, slots=True)
class Tally:
    """How many fires of a day ended alike; `look` is ok, bad, warn or busy."""

    look: str
    count: int

    @property
    def words(self) -> str:
        """How they ended."""
        return _WORDS[self.look]


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One day: how its fires ended, some that failed, and what comes."""

    date: str  # ISO
    number: int
    is_of_month: bool
    is_today: bool
    past: tuple[Tally, ...] = ()
    failed: tuple[Fire, ...] = ()
    coming: int = 0
    next: tuple[tuple[str, str], ...] = ()  # time and product of the first to come


@dataclass(frozen=True, slots=True)
class ComingFire:
    """A fire to come."""

    at: float
    product: str
    environment: str


@dataclass(frozen=True, slots=True)
class CalendarPage:
    """What the page shows; of one product or of all. `is_cut`: more is to come within the month than is shown."""

    month: str  # such as 2026-06
    title: str
    before: str  # the month before; empty where the calendar begins
    after: str
    product: str
    weeks: tuple[tuple[CalendarDay, ...], ...]
    is_cut: bool
    is_scheduled: bool  # whether anything (of the product) is in force
    day: str
    of_day: tuple[Fire, ...]
    coming_of_day: tuple[ComingFire, ...]


def calendar_page(
    database: Database, month: str = "", *, product: str = "", day: str = "", at: float | None = None
) -> CalendarPage:
    """A month, this one by default. Invalid for what is no month, or is too far away."""
    moment = now() if at is None else at
    today = datetime.fromtimestamp(moment, UTC).date()
    first = _month(month, day, today)
    last = _next(first) - timedelta(days=1)
    known = [one for one in schedule.all_scheduled(database, limit=100_000) if product in {"", one.product}]
    coming, is_cut = _coming(known, first, last, moment)
    tallies = _tallies(database, first, last, product)
    failed = _failed(database, first, last, product)
    by_day: dict[date, list[ComingFire]] = defaultdict(list)
    for one in coming:
        by_day[datetime.fromtimestamp(one.at, UTC).date()].append(one)
    weeks = tuple(
        tuple(
            _day(each, first, today, tallies.get(each, {}), failed.get(each, ()), by_day.get(each, ()))
            for each in week
        )
        for week in Calendar().monthdatescalendar(first.year, first.month)
    )
    chosen = _date(day) if day else None
    return CalendarPage(
        month=f"{first:%Y-%m}",
        title=f"{first:%B %Y}",
        before=_link(first - timedelta(days=1), today),
        after=_link(_next(first), today),
        product=product,
        weeks=weeks,
        is_cut=is_cut,
        is_scheduled=bool(known),
        day=day,
        of_day=_of_day(database, chosen, product) if chosen else (),
        coming_of_day=tuple(by_day.get(chosen, ())[:MOST_OF_DAY]) if chosen else (),
    )


# ── days ─────────────────────────────────────────────────────────────────────────────────────────────────


def _month(month: str, day: str, today: date) -> date:
    if day:
        first = _date(day).replace(day=1)
    elif month:
        first = _date(f"{month}-01")
    else:
        first = today.replace(day=1)
    if abs((first.year - today.year) * 12 + first.month - today.month) > MOST_MONTHS:
        raise Invalid(
            f"the calendar goes {MOST_MONTHS} months back and forth from today",
            hint="`tulle schedule next` and `tulle backfills` tell of other times",
        )
    return first


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        hint = "write a month as 2026-06, a day as 2026-06-30"
        raise Invalid(f"'{text}' is no day of a calendar", hint=hint) from None


def _next(first: date) -> date:
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)


def _link(other: date, today: date) -> str:
    apart = abs((other.year - today.year) * 12 + other.month - today.month)
    return f"{other:%Y-%m}" if apart <= MOST_MONTHS else ""


def _start(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _day(
    each: date,
    first: date,
    today: date,
    tally: Mapping[str, int],
    failed: Sequence[Fire],
    coming: Sequence[ComingFire],
) -> CalendarDay:
    if each.month != first.month:
        return CalendarDay(each.isoformat(), each.day, is_of_month=False, is_today=False)
    return CalendarDay(
        each.isoformat(),
        each.day,
        is_of_month=True,
        is_today=each == today,
        past=tuple(Tally(look, tally[look]) for look in _ORDER if look in tally),
        failed=tuple(failed[:NAMES_SHOWN]),
        coming=len(coming),
        next=tuple(
            (datetime.fromtimestamp(one.at, UTC).strftime("%H:%M"), one.product)
            for one in coming[:NAMES_SHOWN]
        ),
    )


# ── what comes ───────────────────────────────────────────────────────────────────────────────────────────


def _coming(
    known: Sequence[Scheduled], first: date, last: date, moment: float
) -> tuple[list[ComingFire], bool]:
    start, end = max(moment, _start(first) - 1), _start(last) + DAY
    if end <= moment:
        return [], False

    def of(one: Scheduled) -> Iterator[tuple[float, str, str]]:
        fires = one.schedule.fires(start)
        age = [one.fresh_at] if one.fresh_at is not None and start < one.fresh_at else []
        for at in takewhile(lambda at: at < end, heapq.merge(fires, age)):
            yield at, one.product, one.environment

    merged = heapq.merge(*(of(one) for one in known if not one.paused))
    found = [ComingFire(*entry) for entry in islice(merged, MOST_COMING + 1)]
    return found[:MOST_COMING], len(found) > MOST_COMING


# ── what was ─────────────────────────────────────────────────────────────────────────────────────────────


def _within(first: date, last: date, product: str) -> Any:
    fires = schedule_fires.c
    start, end = _start(first), _start(last) + DAY
    found = (fires.fire_at >= start) & (fires.fire_at < end) & (fires.series == "")
    found &= fires.created_at >= start  # none is recorded before its time; these are found quickly
    return found & (fires.product == product) if product else found


def _tallies(database: Database, first: date, last: date, product: str) -> dict[date, dict[str, int]]:
    fires = schedule_fires.c
    found: dict[date, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with database.read() as cx:
        days = fires.fire_at / DAY
        day = cast(days, Integer) if cx.dialect.name == "sqlite" else cast(func.floor(days), Integer)
        query = select(day.label("day"), fires.status, func.count().label("fires"))
        query = query.where(_within(first, last, product)).group_by(day, fires.status)
        for row in cx.execute(query):
            found[date(1970, 1, 1) + timedelta(days=row.day)][_look(row.status)] += row.fires
    return found


def _failed(database: Database, first: date, last: date, product: str) -> dict[date, list[Fire]]:
    fires = schedule_fires.c
    bad = [status for status, look in _LOOKS.items() if look == "bad"]
    query = select(schedule_fires).where(_within(first, last, product), fires.status.in_(bad))
    found: dict[date, list[Fire]] = defaultdict(list)
    with database.read() as cx:
        for row in cx.execute(query.order_by(fires.fire_at.desc()).limit(500)):
            found[datetime.fromtimestamp(row.fire_at, UTC).date()].append(schedule.fire_value(row))
    return found


def _of_day(database: Database, day: date, product: str) -> tuple[Fire, ...]:
    fires = schedule_fires.c
    query = select(schedule_fires).where(_within(day, day, product))
    with database.read() as cx:
        rows = cx.execute(query.order_by(fires.fire_at.desc(), fires.id.desc()).limit(MOST_OF_DAY))
        return tuple(schedule.fire_value(row) for row in rows)


def _look(status: str) -> str:
    return _LOOKS.get(status, "busy")
