"""Backfills: a product made anew window by window, from a day to a day, a run each.

The windows are fires of a series of their own (`schedule`), so the scheduler starts them, in order, one of a product
at a time, behind what the product's schedule fires; a crash leaves them where they are. The first window that fails
for good holds the rest until somebody resumes or cancels. A run finds its window in its options.
"""

from __future__ import annotations

import calendar
import datetime as dt
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from tulle.errors import Conflict, Invalid, NotFound
from tulle.events import BACKFILL_CANCELLED, BACKFILL_RESUMED, BACKFILL_STARTED, Event
from tulle.pipeline import worker
from tulle.pipeline.schedule import (
    BACKFILL,
    CANCELLED,
    HELD,
    OPEN,
    STARTED,
    WAITING,
    Fire,
    add_fire,
    fire_value,
)
from tulle.state import log, products
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import backfills
from tulle.state.tables import schedule_fires as fires_table

STEPS = ("hour", "day", "week", "month")
MOST_WINDOWS = 10_000
RUNNING, DONE, FAILED = "running", "done", "failed"
_GOOD = ("succeeded", "unchanged")


@dataclass(frozen=True, slots=True)
class Window:
    """One window and how it went: waiting, started, how its run ended, held or cancelled."""

    start: str
    end: str
    status: str
    attempt: int
    run_id: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill. `status` is running, done, failed (the rest is held) or cancelled; `counts` are windows by status."""

    id: str
    product: str
    environment: str
    start: str
    end: str
    step: str
    status: str
    actor: str
    created_at: float
    ended_at: float | None
    counts: dict[str, int]
    windows: tuple[Window, ...] = ()


def windows(start: str, end: str, step: str) -> list[tuple[str, str]]:
    """The windows from `start` until before `end`, each (first moment, first moment after it).

    Hours are ISO timestamps in UTC, larger steps ISO dates; the last window may be shorter. Invalid for what is
    no time, nothing, or too much.
    """
    if step not in STEPS:
        raise Invalid(f"'{step}' is no step", hint=f"one of {', '.join(STEPS)}")
    hours = step == "hour"
    first, last = _moment("from", start, hours=hours), _moment("to", end, hours=hours)
    if first >= last:
        raise Invalid(
            f"there is nothing from {start} until before {end}", hint="--to is the first day after the last"
        )
    found: list[tuple[str, str]] = []
    for one, following in _steps(first, last, step):
        if len(found) == MOST_WINDOWS:
            raise Invalid(
                f"{start} to {end} by {step} is more than {MOST_WINDOWS:,} windows",
                hint="take larger steps, or a part of it",
            )
        found.append((_text(one, hours=hours), _text(min(following, last), hours=hours)))
    return found


def _steps(first: dt.datetime, last: dt.datetime, step: str) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    at, number = first, 0
    while at < last:
        number += 1
        if step == "month":
            month = first.month - 1 + number
            year, month = first.year + month // 12, month % 12 + 1
            if year > dt.MAXYEAR:
                raise Invalid(f"the year {year} is beyond the calendar")
            day = min(first.day, calendar.monthrange(year, month)[1])
            following = first.replace(year=year, month=month, day=day)
        else:
            following = first + number * dt.timedelta(**{f"{step}s": 1})
        yield at, following
        at = following


def _moment(name: str, text: str, *, hours: bool) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f"--{name} is '{text}', which is no date", hint="write 2026-01-31, or 2026-01-31T06:00 with hours"
        ) from None
    moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    if not hours and moment.time() != dt.time():
        raise Invalid(f"--{name} is '{text}', which is within a day", hint="give a date, or --step hour")
    if moment.year < 1900 or moment.year > 2200:
        raise Invalid(f"--{name} is '{text}'", hint="give a year from 1900 to 2200")
    return moment


def _text(moment: dt.datetime, *, hours: bool) -> str:
    return moment.isoformat() if hours else moment.date().isoformat()


def start(
    database: Database,
    product: str,
    first: str,
    last: str,
    *,
    step: str = "day",
    environment: str = "main",
    retries: int | None = None,
    actor: str = "",
) -> Backfill:
    """Ask for a run of every window. NotFound for a product that is not applied, Conflict while one is under way."""
    applied = products.applied_product(database, product).product
    cut = windows(first, last, step)
    id_ = f"b{dt.datetime.fromtimestamp(now(), dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    with database.write() as cx:
        _one_by_one(cx, product)
        going_on = cx.execute(
            select(backfills.c.id).where(
                backfills.c.product == product,
                backfills.c.environment == environment,
                backfills.c.status.in_([RUNNING, FAILED]),
            )
        ).first()
        if going_on is not None:
            raise Conflict(
                f"backfill {going_on.id} of '{product}' in '{environment}' has not ended",
                hint=f"`tulle backfills {going_on.id}` shows it, --cancel ends it, --resume goes on",
            )
        cx.execute(
            insert(backfills).values(
                id=id_,
                product=product,
                environment=environment,
                window_start=cut[0][0],
                window_end=cut[-1][1],
                step=step,
                status=RUNNING,
                actor=actor,
                created_at=now(),
            )
        )
        options = {} if retries is None else {"retries": retries}
        at = now()
        for one, following in cut:
            add_fire(
                cx,
                product=product,
                environment=environment,
                domain=applied.warehouse_name,
                reason=BACKFILL,
                series=id_,
                fire_at=_moment("from", one, hours=True).timestamp(),
                due_at=at,
                options={**options, "window": [one, following]},
            )
        data = {"backfill": id_, "environment": environment, "windows": len(cut)}
        log.append(cx, Event(BACKFILL_STARTED, product, data), actor=actor)
    return get(database, id_)


def _one_by_one(cx: Connection, product: str) -> None:
    """Nobody else starts, ends or goes on with a backfill of the product until the end of this transaction."""
    in_turn(cx, f"backfills of {product}")


def window_ended(cx: Connection, series: str, *, well: bool) -> None:
    """A window's run ended for good: go on, or hold the rest; called in the transaction that noted it."""
    ours = fires_table.c.series == series
    if not well:
        cx.execute(update(fires_table).where(ours, fires_table.c.status == WAITING).values(status=HELD))
        _end(cx, series, FAILED)
        return
    if (
        cx.execute(select(fires_table.c.id).where(ours, fires_table.c.status.in_(OPEN)).limit(1)).first()
        is None
    ):
        _end(cx, series, DONE)


def goes_on(cx: Connection, product: str, series: str) -> bool:
    """Whether a backfill is under way still, and stays so until the end of this transaction."""
    _one_by_one(cx, product)
    return cx.execute(select(backfills.c.status).where(backfills.c.id == series)).scalar() == RUNNING


def _end(cx: Connection, id_: str, status: str) -> None:
    running = (backfills.c.id == id_) & (backfills.c.status == RUNNING)
    cx.execute(update(backfills).where(running).values(status=status, ended_at=now()))


def cancel(database: Database, id_: str, *, actor: str = "") -> Backfill:
    """Start no further window, and stop the run under way. Conflict when it has ended."""
    with database.write() as cx:
        _one_by_one(cx, _row(cx, id_).product)
        row = _row(cx, id_)
        if row.status not in {RUNNING, FAILED}:
            raise Conflict(f"backfill {id_} is {row.status} already")
        run_ids = _cancelled(cx, row, actor)
    for run_id in run_ids:
        worker.stop(database, run_id)
    return get(database, id_)


def end_of_product(cx: Connection, product: str, *, actor: str = "") -> tuple[str, ...]:
    """Cancel the backfills of a product that ends, in its transaction; the runs of theirs that are still to be stopped.

    A window that was left waiting would begin when a product is called so again.
    """
    _one_by_one(cx, product)
    open_ones = (backfills.c.product == product) & backfills.c.status.in_([RUNNING, FAILED])
    left: list[str] = []
    for row in cx.execute(select(backfills).where(open_ones)).all():
        left += _cancelled(cx, row, actor)
    return tuple(left)


def open_of_product(database: Database, product: str) -> tuple[Backfill, ...]:
    """The backfills of a product that have not ended, without their windows."""
    open_ones = (backfills.c.product == product) & backfills.c.status.in_([RUNNING, FAILED])
    with database.read() as cx:
        rows = cx.execute(select(backfills).where(open_ones).order_by(backfills.c.created_at)).all()
        return tuple(_value(row, _counts(cx, row.id), ()) for row in rows)


def _cancelled(cx: Connection, row: Row[Any], actor: str) -> list[str]:
    """Let no further window of a backfill begin; its runs that are under way."""
    ours = fires_table.c.series == row.id
    cx.execute(
        update(fires_table)
        .where(ours, fires_table.c.status.in_([WAITING, HELD]))
        .values(status=CANCELLED, ended_at=now())
    )
    going_on = cx.execute(select(fires_table.c.run_id).where(ours, fires_table.c.status == STARTED))
    run_ids = [str(run_id) for run_id in going_on.scalars()]
    cx.execute(update(backfills).where(backfills.c.id == row.id).values(status=CANCELLED, ended_at=now()))
    data = {"backfill": row.id, "environment": row.environment}
    log.append(cx, Event(BACKFILL_CANCELLED, row.product, data), actor=actor)
    return run_ids


def resume(database: Database, id_: str, *, actor: str = "") -> Backfill:
    """Go on with a backfill that failed: the window that failed again, then the rest. Conflict when it did not."""
    with database.write() as cx:
        _one_by_one(cx, _row(cx, id_).product)
        row = _row(cx, id_)
        if row.status != FAILED:
            raise Conflict(f"backfill {id_} is {row.status}, so there is nothing to resume")
        for fire in _last_tries(cx, id_):
            if fire.status in {*_GOOD, *OPEN, HELD, CANCELLED}:
                continue
            domain = cx.execute(select(fires_table.c.domain).where(fires_table.c.id == fire.id)).scalar_one()
            add_fire(
                cx,
                product=fire.product,
                environment=fire.environment,
                domain=domain,
                reason=BACKFILL,
                series=id_,
                fire_at=fire.fire_at,
                attempt=fire.attempt + 1,
                due_at=now(),
                options={**fire.options, "lost": fire.attempt},  # earlier tries count no more
            )
        held = (fires_table.c.series == id_) & (fires_table.c.status == HELD)
        cx.execute(update(fires_table).where(held).values(status=WAITING, due_at=now()))
        cx.execute(update(backfills).where(backfills.c.id == id_).values(status=RUNNING, ended_at=None))
        data = {"backfill": id_, "environment": row.environment}
        log.append(cx, Event(BACKFILL_RESUMED, row.product, data), actor=actor)
    return get(database, id_)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def get(database: Database, id_: str) -> Backfill:
    """One backfill with its windows. NotFound."""
    with database.read() as cx:
        row = _row(cx, id_)
        tries = _last_tries(cx, id_)
    found = tuple(_window(fire) for fire in tries)
    counts: dict[str, int] = {}
    for window in found:
        counts[window.status] = counts.get(window.status, 0) + 1
    return _value(row, counts, found)


def recent(database: Database, *, product: str | None = None, limit: int = 20) -> tuple[Backfill, ...]:
    """The latest backfills, newest first, without their windows."""
    query = select(backfills).order_by(backfills.c.created_at.desc()).limit(limit)
    if product is not None:
        query = query.where(backfills.c.product == product)
    with database.read() as cx:
        return tuple(_value(row, _counts(cx, row.id), ()) for row in cx.execute(query).all())


def _counts(cx: Connection, id_: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for fire in _last_tries(cx, id_):
        counts[fire.status] = counts.get(fire.status, 0) + 1
    return counts


def _last_tries(cx: Connection, id_: str) -> list[Fire]:
    """The last try of every window, in the order of the windows."""
    last = (
        select(fires_table.c.fire_at, func.max(fires_table.c.attempt).label("attempt"))
        .where(fires_table.c.series == id_)
        .group_by(fires_table.c.fire_at)
        .subquery()
    )
    query = (
        select(fires_table)
        .join(last, (last.c.fire_at == fires_table.c.fire_at) & (last.c.attempt == fires_table.c.attempt))
        .where(fires_table.c.series == id_)
        .order_by(fires_table.c.fire_at)
    )
    return [fire_value(row) for row in cx.execute(query)]


def _window(fire: Fire) -> Window:
    first, following = fire.options["window"]
    return Window(first, following, fire.status, fire.attempt, fire.run_id, fire.message)


def _row(cx: Connection, id_: str) -> Row[Any]:
    row = cx.execute(select(backfills).where(backfills.c.id == id_)).first()
    if row is None:
        raise NotFound(f"there is no backfill '{id_}'", hint="`tulle backfills` lists them")
    return row


def _value(row: Row[Any], counts: dict[str, int], found: tuple[Window, ...]) -> Backfill:
    return Backfill(
        row.id,
        row.product,
        row.environment,
        row.window_start,
        row.window_end,
        row.step,
        row.status,
        row.actor,
        row.created_at,
        row.ended_at,
        counts,
        found,
    )
