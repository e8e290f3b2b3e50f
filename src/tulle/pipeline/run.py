"""Runs as they are recorded: asking for one, and reading what became of it.

A run is queued, then running, then succeeded, failed, unchanged or stopped; each change is one transaction with
its event. When it may start is in `run_turn`, what is told of its steps in `step_record`, how it ends in `run_end`.
What a run does is in `execute`; that it is a process of its own in `worker`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select

from tulle.errors import Conflict, NotFound
from tulle.quality.verdict import CheckResult
from tulle.state.db import Database, now
from tulle.state.tables import run_steps, runs

QUEUED, RUNNING, SUCCEEDED, FAILED = "queued", "running", "succeeded", "failed"
UNCHANGED, STOPPED, WAITING, SKIPPED = "unchanged", "stopped", "waiting", "skipped"
ENDED = frozenset({SUCCEEDED, FAILED, UNCHANGED, STOPPED})
# Why a run did not end well: it failed, somebody stopped it, it took too long, its process is gone or was interrupted,
# another run does its work.
ERROR, CANCELLED, TIMEOUT, LOST, SUPERSEDED = "error", "cancelled", "timeout", "lost", "superseded"
PUBLISH = "publish"  # the last step, and its kind


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
    while cx.execute(select(runs.c.id).where(runs.c.id == run_id)).first() is not None:
        run_id = f"{stamp}-{secrets.token_hex(2)}"  # of many in one millisecond two may be named alike
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


def get(database: Database, run_id: str) -> Run:
    """One run with its steps. Raises NotFound."""
    with database.read() as cx:
        row = row_in(cx, run_id)
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


def row_in(cx: Connection, run_id: str, *, lock: bool = False) -> Row[Any]:
    """A run as it is recorded, locked until the transaction ends if that is asked for. NotFound."""
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
