"""Firing what is due and starting the runs of it; any number of schedulers may share one database.

Each step is one transaction that locks what it decides about, so a crash leaves it done or not begun, and a second
scheduler finds it done:
- *follow*: the log of events, in order and each once: applied products, ended runs (retries, triggers, freshness);
- *fire*: schedules whose `next_at` has come, by an index;
- *start*: fires that wait become runs, in the bounds of the domains' warehouses. The run is recorded with its fire,
  then its process is started; a scheduler that dies between the two leaves a run that nobody carries out, which
  `run.recover` ends and which is then fired again, as it never began.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, func, not_, select, update

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.events import DATA_LATE, PRODUCT_APPLIED, PRODUCT_DESTROYED, RUN_FINISHED, Event
from tulle.pipeline import backfill, run_end, schedule, worker
from tulle.pipeline import run as runs
from tulle.pipeline.forget import forget
from tulle.pipeline.schedule import (
    CRON,
    FRESH,
    SKIPPED,
    STARTED,
    UPSTREAM,
    WAITING,
    add_fire,
    new_fire,
)
from tulle.spec.environment import of_branch, read_from
from tulle.spec.schedule import Schedule
from tulle.state import followers, log, products
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import runs as run_table
from tulle.state.tables import schedule_fires as fires_table
from tulle.state.tables import schedule_upstreams, schedules

NAME = "scheduler"
BATCH = 200
TAKEN_OVER = 500  # products in one transaction, when a mesh begins to be scheduled
ON_TIME_SECONDS = 60.0  # a fire later than this was missed, which `catch_up` is about
MOST_CAUGHT_UP = 1000  # fires of one schedule at a time
PAUSE_SECONDS = 0.5
_MAY_PASS = {"unavailable", "conflict"}

LOG = logging.getLogger("tulle")
Start = Callable[[Settings, str], int]


class Scheduler:
    """Fires, and starts the runs of one mesh; `step` does all that is due now."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        start: Start = worker.start,
        clock: Callable[[], float] = now,
    ) -> None:
        self._settings = settings
        self._database = database
        self._start = start
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._tidied = 0.0

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End; runs that were started go on."""
        self._stop.set()
        self._thread.join(timeout)

    def _work(self) -> None:
        said = ""
        while not self._stop.is_set():
            try:
                busy = self.step()
                said = ""
            except Exception as exc:
                if str(exc) != said:
                    LOG.exception("the scheduler tries again")
                said, busy = str(exc), False
            if not busy:
                self._stop.wait(PAUSE_SECONDS)

    def step(self) -> bool:
        """Do all that is due now, a batch of each; whether there was anything."""
        followed = self.follow()
        fired = self.fire()
        started = self.start_waiting()
        if time.monotonic() > self._tidied + 3600:
            self._tidied = time.monotonic()
            forget(self._settings, self._database, self._clock())
        return bool(followed or fired or started)

    # ── follow ───────────────────────────────────────────────────────────────────────────────────────────

    def follow(self) -> int:
        """Take note of what happened since; how many events."""
        followers.begin(self._database, NAME, takes_over=True)
        if (taken := followers.taken_over(self._database, NAME)) is not None:
            return self._take_over(taken)
        position, found = followers.unseen(self._database, NAME)
        if not found:
            return 0
        changed = {e.subject for e in found if e.kind in {PRODUCT_APPLIED, PRODUCT_DESTROYED}}
        known = products.named(self._database, changed) if changed else {}
        with self._database.write() as cx:
            if not followers.move(cx, NAME, position, found[-1].id):
                return 0  # another scheduler took note of these
            if changed:
                schedule.sync(cx, {name: known.get(name) for name in sorted(changed)})
            for entry in found:
                if entry.kind == RUN_FINISHED:
                    self._run_ended(cx, str(entry.data["run"]), entry.at)
        return len(found)

    def _take_over(self, after: str) -> int:
        """The first time in this mesh: the schedules that are applied, so many in a transaction; how many."""
        found = products.after(self._database, after, TAKEN_OVER)
        last = found[-1].name if len(found) == TAKEN_OVER else None
        with self._database.write() as cx:
            if followers.take_over(cx, NAME, after, last):
                schedule.sync(cx, {product.name: product for product in found})
        return max(1, len(found))  # what was applied meanwhile is in the events that come next

    def _run_ended(self, cx: Connection, run_id: str, at: float) -> None:
        run = cx.execute(select(run_table).where(run_table.c.id == run_id)).first()
        if run is None:
            return
        fire = cx.execute(
            select(fires_table).where(fires_table.c.run_id == run_id, fires_table.c.status == STARTED)
        ).first()
        if fire is not None:
            self._fire_ended(cx, fire, run)
        if run.status in {runs.SUCCEEDED, runs.UNCHANGED} and runs.is_whole(run.options):
            schedule.is_good(cx, run.product, run.environment, run.finished_at)
        if run.status == runs.SUCCEEDED:
            off, branches = self._is_off(run.environment), self._read_beside(run.environment)
            schedule.upstream_published(cx, run.product, run.environment, at, off=off, branches=branches)

    def _fire_ended(self, cx: Connection, fire: Row[Any], run: Row[Any]) -> None:
        message = str((run.error or {}).get("message", ""))
        cx.execute(
            update(fires_table)
            .where(fires_table.c.id == fire.id)
            .values(status=run.status, ended_at=now(), message=message)
        )
        well = run.status in {runs.SUCCEEDED, runs.UNCHANGED}
        if (well or not self._try_again(cx, fire, run, message)) and fire.series:
            backfill.window_ended(cx, fire.series, well=well)

    def _try_again(self, cx: Connection, fire: Row[Any], run: Row[Any], message: str) -> bool:
        """Fire once more what failed but may pass, as often as its schedule says; whether it does."""
        never_began = run.started_at is None and run.pid is None
        row = cx.execute(
            select(schedules).where(
                schedules.c.product == fire.product, schedules.c.environment == fire.environment
            )
        ).first()
        plan = schedule.schedule_of_row(row) if row is not None else None
        tries = fire.options.get("retries", plan.retries if plan else 0)
        spent = fire.attempt - int(fire.options.get("lost", 0))
        if not never_began and (not may_pass(run) or spent > tries):
            return False
        if fire.series and not backfill.goes_on(cx, fire.product, fire.series):
            return False
        delay = 0.0 if never_began else float(plan.retry_delay if plan else 60)
        lost = int(fire.options.get("lost", 0)) + never_began
        add_fire(
            cx,
            product=fire.product,
            environment=fire.environment,
            domain=fire.domain,
            reason=fire.reason,
            fire_at=fire.fire_at,
            series=fire.series,
            attempt=fire.attempt + 1,
            due_at=self._clock() + delay,
            options={**fire.options, "lost": lost} if lost else fire.options,
            message=message,
        )
        return True

    # ── fire ─────────────────────────────────────────────────────────────────────────────────────────────

    def fire(self) -> int:
        """Fire the schedules whose time has come; how many there were."""
        at = self._clock()
        due = select(schedules.c.product).where(schedules.c.next_at <= at)
        with self._database.read() as cx:  # most of the time there is none: no write lock for that
            if cx.execute(due.limit(1)).first() is None:
                return 0
        with self._database.write() as cx:
            found = cx.execute(
                select(schedules)
                .where(schedules.c.next_at <= at)
                .order_by(schedules.c.next_at)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            going_on = _GoingOn.among(cx, [row.product for row in found])
            fires: list[dict[str, Any]] = []
            moved = [
                (row.product, row.environment, self._fire_one(cx, row, at, going_on, fires)) for row in found
            ]
            schedule.add_fires(cx, fires)
            schedule.move_on(cx, moved)
        return len(found)

    def _fire_one(
        self, cx: Connection, row: Row[Any], at: float, going_on: _GoingOn, fires: list[dict[str, Any]]
    ) -> dict[str, float | None]:
        """Add to `fires` what is due of a schedule; its moments from now on."""
        plan = schedule.schedule_of_row(row)
        moments = {"cron_at": row.cron_at, "fresh_at": row.fresh_at, "late_at": row.late_at}
        if row.cron_at is not None and row.cron_at <= at:
            missed, moments["cron_at"] = _missed(plan, row.cron_at, at)
            fires += [self._new(row, plan, CRON, moment, at, going_on) for moment in missed]
        if row.fresh_at is not None and row.fresh_at <= at:
            fires.append(self._new(row, plan, FRESH, row.fresh_at, at, going_on))
            moments["fresh_at"] = at + plan.fresh_within  # unless a run confirms it before
        if row.late_at is not None and row.late_at <= at:
            data = {"environment": row.environment, "good_at": row.good_at, "late_after": plan.late_after}
            log.append(cx, Event(DATA_LATE, row.product, data))
            moments["late_at"] = None  # told once, until it is good again
        return moments

    def _is_off(self, branch: str) -> str:
        """Why nothing runs by itself in the environment of a branch; empty when it does."""
        place = of_branch(self._settings, branch)
        off = place is not None and not place.schedules
        return f"schedules are off in environment '{place.name}' of mesh.yaml" if place and off else ""

    def _read_beside(self, branch: str) -> tuple[str, ...]:
        """The branches on which runs in the environment of a branch read products that are not on it."""
        place = of_branch(self._settings, branch)
        return tuple(e.branch for e in read_from(self._settings, place.name)) if place else ()

    def _new(
        self,
        row: Row[Any],
        plan: Schedule,
        reason: str,
        moment: float,
        at: float,
        going_on: _GoingOn,
    ) -> dict[str, Any]:
        status, message, who = WAITING, "", (row.product, row.environment)
        if off := self._is_off(row.environment):
            status, message = SKIPPED, off
        elif reason == CRON and plan.catch_up == "none" and at - moment > ON_TIME_SECONDS:
            status, message = SKIPPED, "it was missed while no scheduler ran"
        elif plan.if_running == "skip" and (who in going_on.busy or who in going_on.waiting):
            status, message = SKIPPED, "the product was running"
        elif plan.catch_up != "all" and who in going_on.waiting:
            status, message = SKIPPED, "a run of the product was waiting already"
        if status == WAITING:
            going_on.waiting.add(who)
        return new_fire(
            product=row.product,
            environment=row.environment,
            domain=row.domain,
            reason=reason,
            fire_at=moment,
            status=status,
            message=message,
        )

    # ── start ────────────────────────────────────────────────────────────────────────────────────────────

    def start_waiting(self) -> int:
        """Start the runs of fires that wait, as many as the warehouses allow; how many."""
        at = self._clock()
        waiting = and_(fires_table.c.status == WAITING, fires_table.c.due_at <= at)
        with self._database.read() as cx:
            if cx.execute(select(fires_table.c.id).where(waiting).limit(1)).first() is None:
                return 0
        started: list[str] = []
        with self._database.write() as cx:
            in_turn(cx, "starting fires")  # how many are under way decides
            under_way = _under_way(cx)
            room = self._settings.scheduled_runs - sum(under_way.values())
            for is_backfill in (False, True):  # what schedules fire goes first
                while room > 0:
                    full = [d for d, n in under_way.items() if n >= self._limit(d)]
                    found = _candidates(cx, at, full, is_backfill=is_backfill, limit=min(room, BATCH))
                    if not found:
                        break
                    begun: set[tuple[str, str]] = set()
                    for fire in found:
                        who = (fire.product, fire.environment)
                        if who in begun or under_way.get(fire.domain, 0) >= self._limit(fire.domain):
                            continue
                        begun.add(who)
                        if (run_id := self._begin(cx, fire)) is None:
                            continue
                        started.append(run_id)
                        under_way[fire.domain] = under_way.get(fire.domain, 0) + 1
                        room -= 1
        for run_id in started:
            try:
                self._start(self._settings, run_id)
            except OSError as exc:
                error = Unavailable(
                    f"the process of run {run_id} could not be started: {exc.strerror or exc}"
                )
                run_end.finish(self._database, run_id, runs.FAILED, error=error)
        return len(started)

    def _limit(self, domain: str) -> int:
        return self._settings.warehouse_of(domain).concurrent_runs

    def _begin(self, cx: Connection, fire: Row[Any]) -> str | None:
        """Record the run of a fire; None when somebody cancelled the fire just now."""
        waits = (fires_table.c.id == fire.id) & (fires_table.c.status == WAITING)
        if not cx.execute(update(fires_table).where(waits).values(status=STARTED)).rowcount:
            return None
        options = {key: value for key, value in fire.options.items() if key in {"full", "window"}}
        row = cx.execute(
            select(schedules).where(
                schedules.c.product == fire.product, schedules.c.environment == fire.environment
            )
        ).first()
        if row is not None and (seconds := schedule.schedule_of_row(row).timeout):
            options["timeout"] = seconds
        fired = {"reason": fire.reason, "at": fire.fire_at, "attempt": fire.attempt}
        fired |= {key: fire.options[key] for key in ("lost", "retries") if key in fire.options}
        if fire.series:
            fired["series"] = fire.series
        run_id = runs.request_in(
            cx, fire.product, environment=fire.environment, options={**options, "fired": fired}
        )
        cx.execute(update(fires_table).where(fires_table.c.id == fire.id).values(run_id=run_id))
        return run_id


def will_be_tried_again(cx: Connection, run: Row[Any]) -> bool:
    """Whether a run that failed is one of a schedule that tries it again."""
    fired = run.options.get("fired")
    if not fired:
        return False
    if run.started_at is None and run.pid is None:
        return True
    row = cx.execute(
        select(schedules).where(
            schedules.c.product == run.product, schedules.c.environment == run.environment
        )
    ).first()
    retries = fired.get("retries", schedule.schedule_of_row(row).retries if row is not None else 0)
    return may_pass(run) and int(fired["attempt"]) - int(fired.get("lost", 0)) <= int(retries)


def may_pass(run: Row[Any]) -> bool:
    """Whether the same run may well succeed later: something it needs was away, and nobody stopped it."""
    error: Mapping[str, Any] = run.error or {}
    return error.get("kind") in _MAY_PASS and run.cause != runs.CANCELLED


def _missed(plan: Schedule, first: float, at: float) -> tuple[list[float], float | None]:
    """The fires from `first` until now that are to be recorded, and the next one."""
    if plan.catch_up != "all":
        # Of what was missed only the latest counts; look for it from near, not through years of minutes.
        latest, following = first, plan.after(first)
        while following is not None and following <= at:
            if (
                at - following > 2 * 86_400
                and (near := plan.after(at - 2 * 86_400)) is not None
                and near <= at
            ):
                following = near
            latest, following = following, plan.after(following)
        return [latest], following
    found: list[float] = [first]
    for moment in plan.fires(first):
        if moment > at or len(found) >= MOST_CAUGHT_UP:
            return found, moment
        found.append(moment)
    return found, None


def _under_way(cx: Connection) -> dict[str, int]:
    query = (
        select(fires_table.c.domain, func.count())
        .where(fires_table.c.status == STARTED)
        .group_by(fires_table.c.domain)
    )
    return {domain: int(count) for domain, count in cx.execute(query).all()}


@dataclass(frozen=True, slots=True)
class _GoingOn:
    """Which of some products, each with its environment, run or are about to."""

    busy: set[tuple[str, str]]
    waiting: set[tuple[str, str]]  # a fire of the schedule, not of a backfill

    @staticmethod
    def among(cx: Connection, names: list[str]) -> _GoingOn:
        """Of these products."""
        fires, run_of = fires_table.c, run_table.c
        begun = select(fires.product, fires.environment).where(
            fires.product.in_(names), fires.status == STARTED
        )
        asked = select(run_of.product, run_of.environment).where(
            run_of.product.in_(names), run_of.status.in_([runs.QUEUED, runs.RUNNING])
        )
        waiting = select(fires.product, fires.environment).where(
            fires.product.in_(names), fires.status == WAITING, fires.series == ""
        )
        return _GoingOn(
            {(row.product, row.environment) for query in (begun, asked) for row in cx.execute(query)},
            {(row.product, row.environment) for row in cx.execute(waiting)},
        )


def _candidates(
    cx: Connection, at: float, full: list[str], *, is_backfill: bool, limit: int
) -> Sequence[Row[Any]]:
    """The fires that wait longest among those that may start now."""
    other = fires_table.alias()
    same = and_(
        other.c.product == fires_table.c.product,
        other.c.environment == fires_table.c.environment,
        other.c.status == STARTED,
    )
    # After its upstream it waits until none of it is on its way, so that one run takes what all of them published.
    above = schedule_upstreams
    on_its_way = (
        select(above.c.upstream)
        .join(
            run_table,
            and_(
                run_table.c.product == above.c.upstream,
                run_table.c.environment == above.c.environment,
                run_table.c.status.in_([runs.QUEUED, runs.RUNNING]),
            ),
        )
        .where(above.c.product == fires_table.c.product, above.c.environment == fires_table.c.environment)
    )
    about_to = (
        select(above.c.upstream)
        .join(
            other,
            and_(
                other.c.product == above.c.upstream,
                other.c.environment == above.c.environment,
                other.c.status == WAITING,
                other.c.due_at <= at,
                other.c.series == "",
            ),
        )
        .where(above.c.product == fires_table.c.product, above.c.environment == fires_table.c.environment)
    )
    query = (
        select(fires_table)
        .where(
            fires_table.c.status == WAITING,
            fires_table.c.due_at <= at,
            fires_table.c.series != "" if is_backfill else fires_table.c.series == "",
            not_(exists().where(same)),
            not_(and_(fires_table.c.reason == UPSTREAM, on_its_way.exists() | about_to.exists())),
        )
        .order_by(fires_table.c.due_at, fires_table.c.id)
        .limit(limit)
    )
    if is_backfill:
        # The windows of one in their order: behind one that is to be tried again they wait, though they are due.
        first = (
            select(other.c.series, func.min(other.c.fire_at).label("fire_at"))
            .where(other.c.series != "", other.c.status == WAITING)
            .group_by(other.c.series)
            .subquery()
        )
        query = query.join(
            first, and_(first.c.series == fires_table.c.series, first.c.fire_at == fires_table.c.fire_at)
        )
    if full:
        query = query.where(fires_table.c.domain.not_in(full))
    return cx.execute(query).all()
