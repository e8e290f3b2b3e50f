"""Runs as they are recorded: asking for one, letting it start in its turn, its progress, how it ended.

A run is queued, then running, then succeeded, failed, unchanged or stopped; each change is one transaction with
its event. What a run does is in `execute`; that it is a process of its own in `worker`.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import psutil
from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, insert, select, tuple_, update

from tulle.config import Warehouse
from tulle.errors import Conflict, NotFound, TulleError, Unavailable
from tulle.events import RUN_FINISHED, RUN_STARTED, STEP_FINISHED, STEP_STARTED, STEPS_KEPT, Event
from tulle.pipeline.alive import GONE_AFTER_SECONDS, Watch, is_alive, machine, watch_of
from tulle.quality import history
from tulle.quality.verdict import CheckResult
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import lake_commits, lake_repositories, run_steps, runs

QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "running", "succeeded", "failed"
UNCHANGED, STOPPED, WAITING, SKIPPED = "unchanged", "stopped", "waiting", "skipped"
ENDED = frozenset({SUCCEEDED, FAILED, UNCHANGED, STOPPED})
# Why a run did not end well: it failed, somebody stopped it, it took too long, its process is gone or was interrupted,
# another run does its work.
ERROR, CANCELLED, TIMEOUT, LOST, SUPERSEDED = "error", "cancelled", "timeout", "lost", "superseded"
_NEVER_STARTED_SECONDS = 60.0
_PUBLISH = "publish"  # the last step, and its kind

_OF_STEP = (run_steps.c.run_id == bindparam("in_run")) & (run_steps.c.name == bindparam("of_step"))
_BEGAN = (
    update(run_steps)
    .where(_OF_STEP)
    .values(status="running", started_at=bindparam("at"), branch=bindparam("on"))
)
_ENDED = (
    update(run_steps)
    .where(_OF_STEP)
    .values(
        status=bindparam("to"),
        started_at=func.coalesce(run_steps.c.started_at, bindparam("at")),
        finished_at=bindparam("at"),
        rows=bindparam("of_rows"),
        message=bindparam("said"),
        report=bindparam("told", type_=run_steps.c.report.type),
        branch=func.coalesce(bindparam("on"), run_steps.c.branch),
    )
)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number a model reported."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a step has to say beside its rows.

    `columns` are (name, type) pairs; `lineage` maps each column to the (data set, column) pairs it is computed
    from; `inputs` says per data set read which version: its identity, and product and commit where it is
    another product's.
    """

    checks: tuple[CheckResult, ...] = ()
    metrics: tuple[Metric, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    lineage: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "checks": [check.as_dict() for check in self.checks],
            "metrics": [[metric.name, metric.value] for metric in self.metrics],
            "columns": [list(pair) for pair in self.columns],
            "lineage": {name: [list(pair) for pair in pairs] for name, pairs in self.lineage.items()},
            "inputs": {name: dict(version) for name, version in self.inputs.items()},
            "models": list(self.models),
            "log": list(self.log),
        }

    @staticmethod
    def of(value: Mapping[str, Any] | None) -> Report:
        """The report behind plain values."""
        value = value or {}
        checks = [_check_result(item) for item in value.get("checks", ())]
        return Report(
            checks=tuple(checks),
            metrics=tuple(Metric(name, number) for name, number in value.get("metrics", ())),
            columns=tuple((name, kind) for name, kind in value.get("columns", ())),
            lineage=value.get("lineage", {}),
            inputs=value.get("inputs", {}),
            models=tuple(value.get("models", ())),
            log=tuple(value.get("log", ())),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a run, or its publishing; times in seconds since the epoch."""

    name: str
    position: int
    kind: str  # ingest, port, sql, python, publish
    status: str  # waiting, running, succeeded, failed, unchanged, skipped
    started_at: float | None = None
    finished_at: float | None = None
    branch: str | None = None
    rows: int | None = None
    message: str | None = None
    checks: tuple[CheckResult, ...] = ()
    metrics: tuple[Metric, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    lineage: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one product in one environment; times in seconds since the epoch.

    `error` is a TulleError as plain values (`errors.from_dict` rebuilds it). `commit_id` is what it published.
    """

    id: str
    product: str
    environment: str
    status: str  # queued, running, succeeded, failed, unchanged, stopped
    requested_at: float
    started_at: float | None
    finished_at: float | None
    branch: str | None
    base_commit: str | None
    commit_id: str | None
    options: Mapping[str, Any]
    error: Mapping[str, Any] | None
    pid: int | None = None
    machine: str | None = None  # where that process is
    cause: str | None = None  # why it did not end well: error, cancelled, timeout, lost, superseded
    steps: tuple[Step, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────


def request(
    database: Database,
    product: str,
    *,
    environment: str = "main",
    options: Mapping[str, Any] | None = None,
) -> str:
    """Ask for a run of a product; its id, which sorts by time. Options: `full` (make everything again)."""
    with database.write() as cx:
        return request_in(cx, product, environment=environment, options=options)


def request_in(
    cx: Connection,
    product: str,
    *,
    environment: str = "main",
    options: Mapping[str, Any] | None = None,
) -> str:
    """Ask for a run in the transaction of `cx`."""
    at = now()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(at)) + f"{int(at * 1000) % 1000:03d}"
    run_id = f"{stamp}-{secrets.token_hex(2)}"
    cx.execute(
        insert(runs).values(
            id=run_id,
            product=product,
            environment=environment,
            status=QUEUED,
            requested_at=at,
            options=dict(options or {}),
        )
    )
    return run_id


def register_process(database: Database, run_id: str) -> None:
    """Say that this process is the one that carries the run out."""
    process = psutil.Process()
    with database.write() as cx:
        cx.execute(
            update(runs)
            .where(runs.c.id == run_id, runs.c.status == QUEUED)
            .values(pid=process.pid, pid_started=process.create_time(), machine=machine(), alive_at=now())
        )


def claim(
    database: Database, run_id: str, *, warehouse: str, bounds: Warehouse, wait_seconds: float = 3600.0
) -> None:
    """Wait for the run's turn and start it: queued → running, in one transaction.

    One run of a product and environment at a time, and `concurrent_runs` of a warehouse, in the order in which they
    were asked for; the run says which warehouse it is, with its bounds. Raises Conflict when the run is not queued (any
    more), Unavailable when its turn did not come in time.
    """
    register_process(database, run_id)
    _stand_in_line(database, run_id, warehouse)
    deadline = time.monotonic() + wait_seconds
    pause, checked = 0.02, 0.0
    while not _try_start(database, run_id, warehouse, bounds):
        if time.monotonic() > deadline:
            error = Unavailable(
                f"run {run_id} waited {wait_seconds:,.0f} s for its turn",
                hint="`tulle runs` shows what is running; 'concurrent_runs' in mesh.yaml bounds a warehouse's runs",
            )
            finish(database, run_id, FAILED, error=error)
            raise error
        if time.monotonic() - checked > 2:
            recover(database)  # whoever holds the turn may be dead
            checked = time.monotonic()
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)


def _stand_in_line(database: Database, run_id: str, warehouse: str) -> None:
    """Say whose turn the run waits for, so that who was asked for later lets it go first."""
    with database.write() as cx:
        mine = _row(cx, run_id, lock=True)
        if mine.status == QUEUED and mine.options.get("warehouse") != warehouse:
            options = {**mine.options, "warehouse": warehouse}
            cx.execute(update(runs).where(runs.c.id == run_id).values(options=options))


def _try_start(database: Database, run_id: str, warehouse: str, bounds: Warehouse) -> bool:
    process = psutil.Process()
    with database.write() as cx:
        in_turn(cx, "starting a run")  # who else runs decides
        mine = _row(cx, run_id)
        if mine.status != QUEUED:
            raise Conflict(f"run {run_id} is {mine.status}, so it cannot start")
        others = cx.execute(
            select(runs.c.product, runs.c.environment, runs.c.options).where(runs.c.status == RUNNING)
        ).all()
        if any((o.product, o.environment) == (mine.product, mine.environment) for o in others):
            return False
        room = bounds.concurrent_runs - sum(o.options.get("warehouse") == warehouse for o in others)
        first = _before(cx, mine, warehouse) - {(o.product, o.environment) for o in others}
        if len(first) >= room or (mine.product, mine.environment) in first:
            return False
        cx.execute(
            update(runs)
            .where(runs.c.id == run_id)
            .values(
                status=RUNNING,
                started_at=now(),
                pid=process.pid,
                pid_started=process.create_time(),
                machine=machine(),
                alive_at=now(),
                options={**mine.options, "warehouse": warehouse, "bounds": asdict(bounds)},
            )
        )
        data = {"run": run_id, "environment": mine.environment}
        log.append(cx, Event(RUN_STARTED, mine.product, data))
    return True


def _before(cx: Connection, mine: Row[Any], warehouse: str) -> set[tuple[str, str]]:
    """Product and environment of the runs that wait for the same turn and were asked for before.

    A process that has not come to wait yet, or said nothing for long, holds up nobody.
    """
    query = select(runs.c.product, runs.c.environment, runs.c.options).where(
        runs.c.status == QUEUED,
        tuple_(runs.c.requested_at, runs.c.id) < (mine.requested_at, mine.id),
        runs.c.alive_at > now() - GONE_AFTER_SECONDS,
    )
    return {
        (one.product, one.environment)
        for one in cx.execute(query)
        if one.options.get("warehouse") == warehouse
    }


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────


def begin(
    database: Database, run_id: str, *, branch: str, base_commit: str, steps: Sequence[tuple[str, str]]
) -> None:
    """Record where the run works and what it will do: (name, kind) of each step. Conflict when it has ended."""
    with database.write() as cx:
        if _row(cx, run_id, lock=True).status in ENDED:
            raise Conflict(f"run {run_id} was ended meanwhile; it begins nothing")
        cx.execute(update(runs).where(runs.c.id == run_id).values(branch=branch, base_commit=base_commit))
        rows = [
            {"run_id": run_id, "name": name, "position": position, "kind": kind, "status": WAITING}
            for position, (name, kind) in enumerate(steps)
        ]
        cx.execute(insert(run_steps), rows)


@dataclass(frozen=True, slots=True)
class Word:
    """What is told of a step: that it began (RUNNING), how it ended, or that there was nothing to do (UNCHANGED,
    `together` with others that are told of by one event). `branch`: where it works, or what it made was kept."""

    name: str
    status: str
    at: float
    rows: int | None = None
    message: str | None = None
    report: Report | None = None
    branch: str | None = None
    together: bool = False


def tell(cx: Connection, run: Run, words: Sequence[Word]) -> None:
    """Record what is told of steps, in its order; nothing once their run has ended, and they with it."""
    if _row(cx, run.id, lock=True).status in ENDED:  # by somebody else: its process may go on for a while
        return
    began = [word for word in words if word.status == RUNNING]
    ended = [word for word in words if word.status != RUNNING]
    if began:
        cx.execute(_BEGAN, [_key(run, w) | {"at": w.at, "on": w.branch} for w in began])
    if ended:
        cx.execute(
            _ENDED,
            [
                _key(run, w)
                | {
                    "to": w.status,
                    "at": w.at,
                    "of_rows": w.rows,
                    "said": w.message,
                    "told": w.report.as_dict() if w.report else None,
                    "on": w.branch,
                }
                for w in ended
            ],
        )
    results = [check for word in ended if word.report and not word.together for check in word.report.checks]
    made = not run.options.get("only")
    history.record(cx, run.product, run.environment, run.id, results, made=made)
    log.append_all(cx, list(_events(run, words)))


def _key(run: Run, word: Word) -> dict[str, Any]:
    return {"in_run": run.id, "of_step": word.name}


def _events(run: Run, words: Sequence[Word]) -> Iterator[Event]:
    for together, group in itertools.groupby(words, lambda word: word.together):
        if together:
            data: dict[str, Any] = {"run": run.id, "steps": [w.name for w in group], "status": UNCHANGED}
            yield Event(STEPS_KEPT, run.product, data)
            continue
        for word in group:
            data = {"run": run.id, "step": word.name}
            if word.status == RUNNING:
                yield Event(STEP_STARTED, run.product, data)
                continue
            checks = word.report.checks if word.report else ()
            failed = [check.name for check in checks if not check.passed]
            data |= {"status": word.status, "rows": word.rows, "failed_checks": failed}
            yield Event(STEP_FINISHED, run.product, data)


def step_started(database: Database, run: Run, name: str, *, branch: str | None = None) -> None:
    """A step begins."""
    with database.write() as cx:
        tell(cx, run, [Word(name, RUNNING, now(), branch=branch)])


def step_finished(
    database: Database,
    run: Run,
    name: str,
    status: str,
    *,
    rows: int | None = None,
    message: str | None = None,
    report: Report | None = None,
) -> None:
    """A step has ended."""
    with database.write() as cx:
        tell(cx, run, [Word(name, status, now(), rows, message, report)])


def publishes(cx: Connection, run: Run, commit_id: str, message: str) -> None:
    """In the transaction that publishes its commit: the run has succeeded. Conflict when it has ended before.

    So whoever ends a run, because nobody seems to carry it out, either keeps it from publishing or comes too late.
    """
    if _row(cx, run.id, lock=True).status != RUNNING:
        raise Conflict(
            f"run {run.id} was ended meanwhile; it publishes nothing",
            hint="`tulle runs` tells by whom, and why",
        )
    tell(cx, run, [Word(_PUBLISH, SUCCEEDED, now(), message=message, branch=run.environment)])
    _finish(cx, run.id, SUCCEEDED, commit_id=commit_id)


def finish(
    database: Database,
    run_id: str,
    status: str,
    *,
    commit_id: str | None = None,
    error: TulleError | None = None,
    cause: str = ERROR,
) -> bool:
    """End a run that has not ended; False when it had. Steps that wait are skipped, one that runs has failed.

    `cause` is why it did not end well, if so it is. What has published succeeded, whatever went wrong after it, and
    also if somebody ended it while it published.
    """
    with database.write() as cx:
        return _finish(cx, run_id, status, commit_id=commit_id, error=error, cause=cause)


def _finish(
    cx: Connection,
    run_id: str,
    status: str,
    *,
    commit_id: str | None = None,
    error: TulleError | None = None,
    cause: str = ERROR,
) -> bool:
    row = _row(cx, run_id, lock=True)
    published = commit_id or row.commit_id
    has_published = published is not None and _is_published(cx, row.product, published)
    if row.status in ENDED and (row.status == SUCCEEDED or status != SUCCEEDED or not has_published):
        return False
    if status in {FAILED, STOPPED} and has_published:
        status, commit_id, error = SUCCEEDED, published, None
    cx.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(
            status=status,
            finished_at=now(),
            commit_id=commit_id,
            error=error.as_dict() if error else None,
            cause=cause if status in {FAILED, STOPPED} else None,
        )
    )
    steps = run_steps.c
    done = SUCCEEDED if status == SUCCEEDED else FAILED
    message = error.message if error else None
    # That a run which had published was called failed is taken back.
    under_way = {RUNNING, FAILED} if row.status in ENDED else {RUNNING}
    cx.execute(
        update(run_steps)
        .where(steps.run_id == run_id, steps.status.in_(under_way))
        .values(status=done, finished_at=now(), message=message)
    )
    if status == SUCCEEDED:  # so it has published, even where nobody came to tell so
        unfinished = (steps.run_id == run_id) & (steps.kind == _PUBLISH) & (steps.status != SUCCEEDED)
        cx.execute(update(run_steps).where(unfinished).values(status=SUCCEEDED, finished_at=now()))
    cx.execute(
        update(run_steps).where(steps.run_id == run_id, steps.status == WAITING).values(status=SKIPPED)
    )
    data = {"run": run_id, "environment": row.environment, "status": status, "commit": commit_id}
    if error:
        data["error"] = error.message
    log.append(cx, Event(RUN_FINISHED, row.product, data))
    return True


# ── runs whose process is gone ───────────────────────────────────────────────────────────────────────────


def recover(database: Database) -> tuple[str, ...]:
    """End every run whose process is gone, and tell their ids.

    One that had published succeeded; any other is stopped, its branches kept for inspection. What is published
    is what was published before.
    """
    with database.read() as cx:
        found = cx.execute(select(runs).where(runs.c.status.in_([QUEUED, RUNNING]))).all()
    watch = watch_of(database)
    watch.forget({row.id for row in found})
    gone = [row.id for row in found if not _is_carried_out(row, watch)]
    for run_id in gone:
        settle(
            database,
            run_id,
            Unavailable(
                f"the process of run {run_id} ended before the run did; nothing was published",
                hint=f"it may have been killed or run out of memory: see `tulle logs {run_id}`, then run again",
            ),
            LOST,
        )
    return tuple(gone)


def settle(database: Database, run_id: str, error: TulleError, cause: str) -> None:
    """End a run that nobody carries out: succeeded when its commit is published, else stopped with `error`."""
    finish(database, run_id, STOPPED, error=error, cause=cause)


def _is_published(cx: Connection, product: str, commit_id: str) -> bool:
    commits = lake_commits.c
    query = (
        select(commits.published)
        .join(lake_repositories, lake_repositories.c.id == commits.repository_id)
        .where(lake_repositories.c.name == product, commits.id == commit_id)
    )
    return bool(cx.execute(query).scalar())


def _is_carried_out(row: Row[Any], watch: Watch) -> bool:
    if row.pid is None:
        return bool(row.status == QUEUED and now() - row.requested_at < _NEVER_STARTED_SECONDS)
    if row.machine not in {None, machine()}:
        return not watch.is_gone(row.id, row.alive_at)
    return is_alive(row.pid, row.pid_started)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def get(database: Database, run_id: str) -> Run:
    """One run with its steps. Raises NotFound."""
    with database.read() as cx:
        row = _row(cx, run_id)
        steps = cx.execute(
            select(run_steps).where(run_steps.c.run_id == run_id).order_by(run_steps.c.position)
        ).all()
    return _run(row, tuple(_step_value(step) for step in steps))


def is_whole(options: Mapping[str, Any]) -> bool:
    """Whether a run makes or confirms all that is published: not one that only looks, nor one of some models."""
    return not options.get("only") and not options.get("select")


def whole() -> ColumnElement[bool]:
    """The runs for which `is_whole` holds."""
    only, chosen = (runs.c.options[name].as_string() for name in ("only", "select"))
    found: ColumnElement[bool] = only.is_(None) & (chosen.is_(None) | (chosen == "[]"))
    return found


def last_failed(database: Database, product: str, environment: str) -> str:
    """The latest run of a product that ended without publishing. Conflict when the latest one did not fail."""
    query = (
        select(runs.c.id, runs.c.status)
        .where(runs.c.product == product, runs.c.environment == environment, runs.c.status.in_(ENDED))
        .order_by(runs.c.requested_at.desc(), runs.c.id.desc())
        .limit(1)
    )
    with database.read() as cx:
        row = cx.execute(query).first()
    if row is None or row.status not in {FAILED, STOPPED}:
        how = f"ended as '{row.status}'" if row else "never ran"
        hint = "`tulle run` without --resume"
        raise Conflict(f"there is nothing to take up: product '{product}' {how}", hint=hint)
    return str(row.id)


def recent(
    database: Database,
    *,
    product: str | None = None,
    status: str | None = None,
    environment: str | None = None,
    among: Select[Any] | None = None,
    offset: int = 0,
    limit: int | None = 20,
) -> tuple[Run, ...]:
    """The latest runs, newest first, without their steps; `among`: a query that gives the ids of those meant."""
    query = select(runs).order_by(runs.c.requested_at.desc(), runs.c.id.desc()).offset(offset).limit(limit)
    if product is not None:
        query = query.where(runs.c.product == product)
    if status is not None:
        query = query.where(runs.c.status == status)
    if environment is not None:
        query = query.where(runs.c.environment == environment)
    if among is not None:
        query = query.where(runs.c.id.in_(among))
    with database.read() as cx:
        return tuple(_run(row, ()) for row in cx.execute(query))


def _row(cx: Connection, run_id: str, *, lock: bool = False) -> Row[Any]:
    query = select(runs).where(runs.c.id == run_id)
    row = cx.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"there is no run '{run_id}'", hint="`tulle runs` lists them")
    return row


def _run(row: Row[Any], steps: tuple[Step, ...]) -> Run:
    return Run(
        id=row.id,
        product=row.product,
        environment=row.environment,
        status=row.status,
        requested_at=row.requested_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        branch=row.branch,
        base_commit=row.base_commit,
        commit_id=row.commit_id if row.status == SUCCEEDED else None,
        options=row.options,
        error=row.error,
        pid=row.pid,
        machine=row.machine,
        cause=row.cause,
        steps=steps,
    )


def _check_result(value: Mapping[str, Any]) -> CheckResult:
    known = {f.name for f in fields(CheckResult)}
    arguments: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name in known
    }
    return CheckResult(**arguments)


def _step_value(row: Row[Any]) -> Step:
    report = Report.of(row.report)
    return Step(
        name=row.name,
        position=row.position,
        kind=row.kind,
        status=row.status,
        started_at=row.started_at,
        finished_at=row.finished_at,
        branch=row.branch,
        rows=row.rows,
        message=row.message,
        checks=report.checks,
        metrics=report.metrics,
        columns=report.columns,
        lineage=report.lineage,
        inputs=report.inputs,
        models=report.models,
        log=report.log,
    )
