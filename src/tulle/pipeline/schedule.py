"""Schedules as they are recorded: which product fires when, what fired, and what came of it.

One row a product and environment has the next moment anything of it is due (`next_at`, indexed), one row a fire
says why and when it fired and which run it became. A fire is unique by product, environment, moment and attempt, so
none is there twice, whoever records it. Starting runs is the `scheduler`'s.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tulle.errors import Conflict, NotFound
from tulle.events import SCHEDULE_PAUSED, SCHEDULE_RESUMED, Event
from tulle.pipeline import run as runs
from tulle.spec.product import DataProduct
from tulle.spec.schedule import Schedule
from tulle.state import log, products
from tulle.state.db import Database, now
from tulle.state.tables import lake_branches, lake_commits, lake_repositories, schedule_upstreams, schedules
from tulle.state.tables import runs as run_table
from tulle.state.tables import schedule_fires as fires_table

CRON, UPSTREAM, FRESH, BACKFILL = "cron", "upstream", "fresh", "backfill"
WAITING, STARTED, SKIPPED, HELD, CANCELLED = "waiting", "started", "skipped", "held", "cancelled"
OPEN = (WAITING, STARTED)
_EMPTY = 1  # the generation of the commit that a repository is made with
_MOMENTS = ("cron_at", "fresh_at", "late_at")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule in force; times in seconds since the epoch, None for never."""

    product: str
    environment: str
    domain: str
    schedule: Schedule
    paused: bool  # by somebody or by its document
    cron_at: float | None
    fresh_at: float | None
    late_at: float | None
    good_at: float | None
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Fire:
    """One time a product was to run. `status` is waiting, started, how its run ended, skipped, held or cancelled."""

    id: int
    product: str
    environment: str
    series: str
    reason: str  # cron upstream fresh backfill
    fire_at: float
    attempt: int
    status: str
    due_at: float
    options: Mapping[str, Any]
    run_id: str | None
    message: str
    created_at: float
    ended_at: float | None


# ── what is in force ─────────────────────────────────────────────────────────────────────────────────────


def sync(cx: Connection, changed: Mapping[str, DataProduct | None]) -> None:
    """Put the schedules of products in force as they were applied last; None for a product that there is no more.

    A few statements, however many products there are.
    """
    at, names = now(), list(changed)
    known = {
        (row.product, row.environment): row
        for row in cx.execute(select(schedules).where(schedules.c.product.in_(names)))
    }
    wanted = {
        (name, environment): (product, product.schedule)
        for name, product in changed.items()
        if product is not None and product.schedule is not None
        for environment in product.schedule.environments
    }
    cx.execute(delete(schedule_upstreams).where(schedule_upstreams.c.product.in_(names)))
    upstreams = [
        {"upstream": upstream, "environment": environment, "product": name}
        for (name, environment), (_, schedule) in sorted(wanted.items(), key=lambda item: item[0])
        for upstream in dict.fromkeys(schedule.on)
    ]
    if upstreams:
        cx.execute(insert(schedule_upstreams), upstreams)
    _end(cx, sorted(known.keys() - wanted.keys()))
    good = _last_good(cx, {name for name, _ in wanted.keys() - known.keys()})
    new, other = [], []
    for who, (product, schedule) in wanted.items():
        old = known.get(who)
        values = _put(product, schedule, old, good.get(who), at)
        if old is None:
            new.append(
                {"product": who[0], "environment": who[1], "paused": False, "changed_at": at, **values}
            )
        elif any(getattr(old, name) != value for name, value in values.items()):
            other.append({"of_product": who[0], "of_environment": who[1], "changed_at": at, **values})
    if new:
        cx.execute(insert(schedules), new)
    if other:
        cx.execute(update(schedules).where(_THIS), other)


_THIS = (schedules.c.product == bindparam("of_product")) & (
    schedules.c.environment == bindparam("of_environment")
)


def _end(cx: Connection, gone: Sequence[tuple[str, str]]) -> None:
    """Products that are no longer scheduled there: what waits is not started any more."""
    if not gone:
        return
    these = [{"of_product": product, "of_environment": environment} for product, environment in gone]
    cx.execute(delete(schedules).where(_THIS), these)
    waiting = (
        (fires_table.c.product == bindparam("of_product"))
        & (fires_table.c.environment == bindparam("of_environment"))
        & (fires_table.c.status == WAITING)
        & (fires_table.c.series == "")
    )
    values = {"status": CANCELLED, "ended_at": now(), "message": "the product is no longer scheduled"}
    cx.execute(update(fires_table).where(waiting), [{**these_, **values} for these_ in these])


def _put(
    product: DataProduct, schedule: Schedule, old: Row[Any] | None, good: float | None, at: float
) -> dict[str, Any]:
    """What the row of a schedule says; `old` is what it said."""
    before = _schedule(old.document) if old else None
    good = old.good_at if old else good
    # A fire that was missed while nothing ran stays missed, unless the times themselves are other ones now.
    same = before is not None and (before.cron, before.time_zone) == (schedule.cron, schedule.time_zone)
    same = same and before is not None and not before.paused
    values: dict[str, Any] = {
        "domain": product.warehouse_name,  # whose turns it takes
        "document": msgspec.to_builtins(schedule, enc_hook=str),
        "cron_at": old.cron_at if old is not None and same else schedule.after(at),
        "fresh_at": (good or at - schedule.fresh_within) + schedule.fresh_within
        if schedule.fresh_within
        else None,
        "late_at": (good or at) + schedule.late_after if schedule.late_after else None,
        "good_at": good,
    }
    paused = schedule.paused or (old is not None and bool(old.paused))
    return {**values, "next_at": None if paused else _first(values)}


def _first(moments: Mapping[str, Any]) -> float | None:
    known = [moments[name] for name in _MOMENTS]
    return min((moment for moment in known if moment is not None), default=None)


def settle_next(cx: Connection, product: str, environment: str) -> None:
    """Make `next_at` the first of what is to come."""
    row = cx.execute(select(schedules).where(_is(product, environment))).one()
    paused = row.paused or row.document.get("paused")
    following = None if paused else _first({name: getattr(row, name) for name in _MOMENTS})
    if following != row.next_at:
        cx.execute(update(schedules).where(_is(product, environment)).values(next_at=following))


def move_on(cx: Connection, moved: Sequence[tuple[str, str, Mapping[str, float | None]]]) -> None:
    """Record what comes next of schedules, after what was due: (product, environment, their moments)."""
    if moved:
        values = [
            {"of_product": product, "of_environment": environment, **moments, "next_at": _first(moments)}
            for product, environment, moments in moved
        ]
        cx.execute(update(schedules).where(_THIS), values)


def _last_good(cx: Connection, names: Collection[str]) -> dict[tuple[str, str], float]:
    """When runs of these products were good last, by product and environment."""
    if not names:
        return {}
    query = (
        select(run_table.c.product, run_table.c.environment, func.max(run_table.c.finished_at))
        .where(run_table.c.product.in_(names), run_table.c.status.in_([runs.SUCCEEDED, runs.UNCHANGED]))
        .where(runs.whole())
        .group_by(run_table.c.product, run_table.c.environment)
    )
    return {(product, environment): float(at) for product, environment, at in cx.execute(query).all() if at}


def is_good(cx: Connection, product: str, environment: str, at: float) -> None:
    """What is published was made or confirmed at that time: its age counts from then."""
    row = cx.execute(select(schedules).where(_is(product, environment)).with_for_update()).first()
    if row is None:
        return
    schedule = _schedule(row.document)
    values = {
        "good_at": at,
        "fresh_at": at + schedule.fresh_within if schedule.fresh_within else None,
        "late_at": at + schedule.late_after if schedule.late_after else None,
    }
    cx.execute(update(schedules).where(_is(product, environment)).values(**values))
    settle_next(cx, product, environment)


def pause(database: Database, product: str, environment: str, *, actor: str = "") -> Scheduled:
    """Let a schedule fire no more until it is resumed; what it fired already goes on. NotFound."""
    return _set_paused(database, product, environment, paused=True, actor=actor)


def resume(database: Database, product: str, environment: str, *, actor: str = "") -> Scheduled:
    """Let a schedule fire again, from now on: what it would have fired meanwhile is not made up for.

    NotFound; Conflict when its document pauses it.
    """
    return _set_paused(database, product, environment, paused=False, actor=actor)


def _set_paused(database: Database, product: str, environment: str, *, paused: bool, actor: str) -> Scheduled:
    scheduled(database, product, environment)  # with its hint where there is none
    with database.write() as cx:
        row = cx.execute(select(schedules).where(_is(product, environment)).with_for_update()).one()
        schedule = _schedule(row.document)
        if not paused and schedule.paused:
            raise Conflict(
                f"the document of '{product}' pauses its schedule",
                hint="take `paused: true` out of its schedule, then `tulle apply`",
            )
        if row.paused != paused:
            values: dict[str, Any] = {"paused": paused, "changed_at": now()}
            if not paused:
                values["cron_at"] = schedule.after(now())
            cx.execute(update(schedules).where(_is(product, environment)).values(**values))
            settle_next(cx, product, environment)
            kind = SCHEDULE_PAUSED if paused else SCHEDULE_RESUMED
            log.append(cx, Event(kind, product, {"environment": environment}), actor=actor)
    return scheduled(database, product, environment)


# ── fires ────────────────────────────────────────────────────────────────────────────────────────────────


def new_fire(
    *,
    product: str,
    environment: str,
    domain: str,
    reason: str,
    fire_at: float,
    status: str = WAITING,
    series: str = "",
    attempt: int = 1,
    due_at: float | None = None,
    options: Mapping[str, Any] | None = None,
    message: str = "",
) -> dict[str, Any]:
    """A fire as it is recorded by `add_fires`."""
    at = now()
    return {
        "product": product,
        "environment": environment,
        "domain": domain,
        "series": series,
        "reason": reason,
        "fire_at": fire_at,
        "attempt": attempt,
        "status": status,
        "due_at": fire_at if due_at is None else due_at,
        "options": dict(options or {}),
        "message": message,
        "created_at": at,
        "ended_at": None if status in {*OPEN, HELD} else at,
    }


def add_fires(cx: Connection, found: Sequence[Mapping[str, Any]]) -> None:
    """Record fires; those that are recorded already stay as they are."""
    if found:
        make = postgresql.insert if cx.dialect.name == "postgresql" else sqlite.insert
        cx.execute(make(fires_table).on_conflict_do_nothing(), [dict(one) for one in found])


def add_fire(cx: Connection, **values: Any) -> bool:
    """Record a fire, with the arguments of `new_fire`; False when it is recorded already."""
    make = postgresql.insert if cx.dialect.name == "postgresql" else sqlite.insert
    statement = make(fires_table).values(new_fire(**values))
    made = cx.execute(statement.on_conflict_do_nothing().returning(fires_table.c.id))
    return made.first() is not None


def waits(cx: Connection, product: str, environment: str) -> bool:
    """Whether a fire of the schedule waits already, so that another one would do nothing more."""
    query = select(fires_table.c.id).where(
        fires_table.c.product == product,
        fires_table.c.environment == environment,
        fires_table.c.status == WAITING,
        fires_table.c.series == "",
    )
    return cx.execute(query.limit(1)).first() is not None


def is_busy(cx: Connection, product: str, environment: str) -> bool:
    """Whether the product runs there, or is about to, whoever asked for it."""
    ours = (fires_table.c.product == product) & (fires_table.c.environment == environment)
    begun = fires_table.c.status == STARTED
    waiting = (fires_table.c.status == WAITING) & (fires_table.c.series == "")  # not those of a backfill
    if cx.execute(select(fires_table.c.id).where(ours, begun | waiting).limit(1)).first():
        return True
    theirs = (run_table.c.product == product) & (run_table.c.environment == environment)
    going_on = run_table.c.status.in_([runs.QUEUED, runs.RUNNING])
    return cx.execute(select(run_table.c.id).where(theirs, going_on).limit(1)).first() is not None


def upstream_published(
    cx: Connection, product: str, environment: str, at: float, *, off: str = "", branches: Sequence[str] = ()
) -> None:
    """Let those fire that run after this product, once for as many of its publishings as they have not begun with.

    A product that runs after others too is skipped until each of them has published: its run would find nothing there.
    `off` says why nothing fires in that environment, when so it is; `branches` are those in which it reads other
    products beside its own.
    """
    below = schedule_upstreams.c
    takers = (
        select(below.product)
        .where(below.upstream == product, below.environment == environment)
        .order_by(below.product)
    )
    for taker in cx.execute(takers).scalars().all():
        row = cx.execute(select(schedules).where(_is(taker, environment)).with_for_update()).first()
        if row is None or row.paused or row.document.get("paused") or waits(cx, taker, environment):
            continue
        schedule = _schedule(row.document)
        why = off or _never_published(cx, schedule.on, (environment, *branches))
        if not why and schedule.if_running == "skip" and is_busy(cx, taker, environment):
            why = "the product was running"
        add_fire(
            cx,
            product=taker,
            environment=environment,
            domain=row.domain,
            reason=UPSTREAM,
            fire_at=at,
            status=SKIPPED if why else WAITING,
            message=f"after {product}" + (f": {why}" if why else ""),
        )


def _never_published(cx: Connection, upstreams: Sequence[str], branches: Sequence[str]) -> str:
    """Which of these products have nothing on any of the branches; empty when all have.

    By a run, or by whoever else committed: not all that is published was made by a run of this mesh.
    """
    by_run = (
        select(run_table.c.product)
        .where(run_table.c.product.in_(upstreams), run_table.c.environment.in_(branches))
        .where(run_table.c.status == runs.SUCCEEDED)
    )
    head = lake_branches.c
    committed = (
        select(lake_repositories.c.name)
        .join(lake_branches, head.repository_id == lake_repositories.c.id)
        .join(
            lake_commits,
            and_(lake_commits.c.repository_id == head.repository_id, lake_commits.c.id == head.commit_id),
        )
        .where(lake_repositories.c.name.in_(upstreams), head.name.in_(branches))
        .where(lake_commits.c.generation > _EMPTY)
    )
    there = {name for query in (by_run, committed) for name in cx.execute(query.distinct()).scalars()}
    missing = [f"'{name}'" for name in dict.fromkeys(upstreams) if name not in there]
    if not missing:
        return ""
    return f"{' and '.join(missing)} {'has' if len(missing) == 1 else 'have'} published nothing yet"


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def scheduled(database: Database, product: str, environment: str = "main") -> Scheduled:
    """The schedule of one product. NotFound with the nearest name."""
    with database.read() as cx:
        row = cx.execute(select(schedules).where(_is(product, environment))).first()
    if row is None:
        products.applied_product(database, product)  # NotFound with the nearest name
        raise NotFound(
            f"product '{product}' has no schedule in '{environment}'",
            hint="write `schedule:` in its data-product component, then `tulle apply`",
        )
    return _scheduled(row)


def all_scheduled(
    database: Database, *, environment: str | None = None, limit: int = 1000
) -> tuple[Scheduled, ...]:
    """Schedules, the next to fire first, those that never fire last."""
    query = select(schedules).order_by(
        schedules.c.next_at.is_(None), schedules.c.next_at, schedules.c.product, schedules.c.environment
    )
    if environment is not None:
        query = query.where(schedules.c.environment == environment)
    with database.read() as cx:
        return tuple(_scheduled(row) for row in cx.execute(query.limit(limit)))


def upcoming(found: Sequence[Scheduled], until: float, *, limit: int = 200) -> list[tuple[float, Scheduled]]:
    """The fires to come of these schedules until a time, in order: (moment, schedule)."""

    def of(one: Scheduled) -> Iterator[tuple[float, str, Scheduled]]:
        if one.paused:
            return
        # One after another as they are asked for: of ten thousand schedules most are not asked for a second one.
        clock = [] if one.cron_at is None else chain([one.cron_at], one.schedule.fires(one.cron_at))
        age = [] if one.fresh_at is None else [one.fresh_at]
        for moment in takewhile(lambda at: at <= until, heapq.merge(clock, age)):
            yield moment, one.product, one

    merged = heapq.merge(*(of(one) for one in found), key=lambda entry: entry[:2])
    return [(moment, one) for moment, _, one in islice(merged, limit)]


def fires(
    database: Database,
    *,
    product: str | None = None,
    series: str | None = None,
    limit: int = 100,
) -> tuple[Fire, ...]:
    """What fired, newest first; of one product or backfill, or of all."""
    query = select(fires_table).order_by(fires_table.c.created_at.desc(), fires_table.c.id.desc())
    if product is not None:
        query = query.where(fires_table.c.product == product)
    if series is not None:
        query = query.where(fires_table.c.series == series)
    with database.read() as cx:
        return tuple(fire_value(row) for row in cx.execute(query.limit(limit)))


def fire_value(row: Row[Any]) -> Fire:
    """The fire of a row."""
    return Fire(
        row.id,
        row.product,
        row.environment,
        row.series,
        row.reason,
        row.fire_at,
        row.attempt,
        row.status,
        row.due_at,
        row.options,
        row.run_id,
        row.message,
        row.created_at,
        row.ended_at,
    )


def _scheduled(row: Row[Any]) -> Scheduled:
    schedule = _schedule(row.document)
    return Scheduled(
        row.product,
        row.environment,
        row.domain,
        schedule,
        bool(row.paused) or schedule.paused,
        row.cron_at,
        row.fresh_at,
        row.late_at,
        row.good_at,
        row.next_at,
    )


def _schedule(document: Mapping[str, Any]) -> Schedule:
    return msgspec.convert(document, Schedule)


def schedule_of_row(row: Row[Any]) -> Schedule:
    """The schedule a row of the table has."""
    return _schedule(row.document)


def _is(product: str, environment: str) -> Any:
    return (schedules.c.product == product) & (schedules.c.environment == environment)
