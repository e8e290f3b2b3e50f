"""Incidents: what is wrong with a product, from when it began until it was good again.

They follow the log of events. One incident a product, environment and cause is open at a time; it is told when it
opens and when it closes, by tasks of the durable queue that are asked for in the same transaction. How a message
looks and where it goes is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, insert, select, update

from tulle.config import AlertChannel, Settings
from tulle.events import (
    CALLS_WATCHED,
    DATA_LATE,
    GENERATION_TESTED,
    GENERATION_WITHDRAWN,
    RUN_FINISHED,
    SERVICE_DRIFT,
)
from tulle.pipeline import run as runs
from tulle.pipeline.scheduler import will_be_tried_again
from tulle.spec.environment import production
from tulle.spec.schedule import words
from tulle.state import followers, tasks
from tulle.state.db import Database, now
from tulle.state.log import LogEntry
from tulle.state.tables import incidents as table
from tulle.state.tables import products, run_steps
from tulle.state.tables import runs as run_table

NAME = "alerts"
TASK = "alert"
RUN, CHECKS, LATE, DRIFT, CALLS = "run", "checks", "late", "drift", "calls"
RECOVERED, TEST_QUERIES = "recovered", "test queries"
_EVENTS = {RUN: "failed", CHECKS: "checks", LATE: "late", DRIFT: "drift", CALLS: "calls"}
_BY_THEMSELVES = (DRIFT, CALLS)  # which no run ends


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident; `cause` is run, checks, late, drift or calls.

    Times are in seconds since the epoch; `closed_at` is None while it is open.

    `about` tells incidents of one cause apart: the watch and the service; `severity` is that of the watch.
    """

    id: str
    product: str
    environment: str
    cause: str
    message: str
    run_id: str | None
    times: int
    opened_at: float
    last_at: float
    closed_at: float | None
    closed_by: str | None
    about: str = ""
    severity: str = ""


def follow(settings: Settings, database: Database) -> int:
    """Open and close incidents by what happened since; how many events there were."""
    if followers.begin(database, NAME):
        return 0
    position, found = followers.unseen(database, NAME)
    if not found:
        return 0
    with database.write() as cx:
        if not followers.move(cx, NAME, position, found[-1].id):
            return 0
        for entry in found:
            if entry.kind == RUN_FINISHED:
                _run_finished(cx, settings, entry)
            elif entry.kind == DATA_LATE:
                age = words(float(entry.data["late_after"]))
                message = f"what is published was last confirmed more than {age} ago"
                _open(cx, settings, entry.subject, str(entry.data["environment"]), LATE, message, None)
            elif entry.kind == SERVICE_DRIFT:
                _drifted(cx, settings, entry)
            elif entry.kind == CALLS_WATCHED:
                _watched(cx, settings, entry)
            elif entry.kind == GENERATION_TESTED:
                _tested(cx, settings, entry)
            elif entry.kind == GENERATION_WITHDRAWN:
                _withdrawn(cx, settings, entry)
    return len(found)


def _drifted(cx: Connection, settings: Settings, entry: LogEntry) -> None:
    """What a product's services are asked has moved, or is again like what their models were made with."""
    product, environment = entry.subject, "main"
    if entry.data["drifted"]:
        _open(cx, settings, product, environment, DRIFT, str(entry.data["message"]), None)
        return
    same = _still_open(product, environment) & (table.c.cause == DRIFT)
    for row in cx.execute(select(table).where(same)).all():
        cx.execute(update(table).where(table.c.id == row.id).values(closed_at=now()))
        _tell(cx, settings, product, environment, RECOVERED, row.id)


def _watched(cx: Connection, settings: Settings, entry: LogEntry) -> None:
    """A watch on what a service is asked does not hold, or holds again."""
    product, said = entry.subject, entry.data
    environment, about = str(said["environment"]), f"{said['watch']}/{said['service']}"
    if said["broken"]:
        message, severity = str(said["message"]), str(said["severity"])
        _open(cx, settings, product, environment, CALLS, message, None, about=about, severity=severity)
        return
    # Whose it was then: what was told of an API that was taken out, or is another product's now, ends too.
    same = table.c.closed_at.is_(None) & (table.c.cause == CALLS) & (table.c.about == about)
    for row in cx.execute(select(table).where(same & (table.c.environment == environment))).all():
        _hold_again(cx, settings, row.product, environment, about)


def _tested(cx: Connection, settings: Settings, entry: LogEntry) -> None:
    """Test queries of a generation that was deployed fail or could not be asked, or those of all that run pass."""
    said = entry.data
    product, environment, about = str(said["product"]), str(said["branch"]), f"{TEST_QUERIES}/{entry.subject}"
    if said["status"] in {"failed", "unasked"}:
        message = f"{entry.subject} {said['version']}: {said['message']}"
        _open(cx, settings, product, environment, CALLS, message, None, about=about, severity="critical")
    elif said["all_pass"]:
        _hold_again(cx, settings, product, environment, about)


def _withdrawn(cx: Connection, settings: Settings, entry: LogEntry) -> None:
    """What does not run has no test queries that fail."""
    same = table.c.closed_at.is_(None) & (table.c.cause == CALLS)
    same &= table.c.about == f"{TEST_QUERIES}/{entry.subject}"
    name = entry.data.get("environment")  # none: it is withdrawn everywhere
    place = production(settings) if name == "" else settings.environments.get(str(name))
    if place is not None:
        same &= table.c.environment == place.branch
    for row in cx.execute(select(table).where(same)).all():
        _hold_again(cx, settings, row.product, row.environment, row.about)


def _hold_again(cx: Connection, settings: Settings, product: str, environment: str, about: str) -> None:
    same = _still_open(product, environment) & (table.c.cause == CALLS) & (table.c.about == about)
    for row in cx.execute(select(table).where(same)).all():
        cx.execute(update(table).where(table.c.id == row.id).values(closed_at=now()))
        _tell(cx, settings, product, environment, RECOVERED, row.id)


def _run_finished(cx: Connection, settings: Settings, entry: LogEntry) -> None:
    run = cx.execute(select(run_table).where(run_table.c.id == entry.data["run"])).first()
    if run is None:
        return
    if run.status in {runs.SUCCEEDED, runs.UNCHANGED}:
        _close(cx, settings, run)
        return
    message = str((run.error or {}).get("message", ""))
    if run.cause in {runs.CANCELLED, runs.SUPERSEDED} or will_be_tried_again(cx, run):
        return
    failed = _failed_checks(cx, run.id)
    if failed:
        names = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
        _open(cx, settings, run.product, run.environment, CHECKS, f"checks failed: {names}", run.id)
    else:
        _open(cx, settings, run.product, run.environment, RUN, message, run.id)


def _failed_checks(cx: Connection, run_id: str) -> list[str]:
    reports = cx.execute(select(run_steps.c.report).where(run_steps.c.run_id == run_id)).scalars()
    return [
        str(check["name"])
        for report in reports
        for check in (report or {}).get("checks", ())
        if not check["passed"] and check["severity"] == "error"
    ]


def _open(
    cx: Connection,
    settings: Settings,
    product: str,
    environment: str,
    cause: str,
    message: str,
    run_id: str | None,
    *,
    about: str = "",
    severity: str = "",
) -> None:
    same = _still_open(product, environment) & (table.c.cause == cause) & (table.c.about == about)
    again = update(table).where(same).values(times=table.c.times + 1, last_at=now())
    if cx.execute(again).rowcount:
        return  # it has been told
    at, id_ = now(), uuid4().hex[:12]
    cx.execute(
        insert(table).values(
            id=id_,
            product=product,
            environment=environment,
            cause=cause,
            message=message,
            run_id=run_id,
            opened_at=at,
            last_at=at,
            about=about,
            severity=severity,
        )
    )
    _tell(cx, settings, product, environment, _EVENTS[cause], id_)


def _close(cx: Connection, settings: Settings, run: Row[Any]) -> None:
    open_ones = _still_open(run.product, run.environment) & table.c.cause.not_in(_BY_THEMSELVES)
    for row in cx.execute(select(table).where(open_ones)).all():
        if not _is_answered(cx, row.run_id, run):
            continue
        closed = {"closed_at": now(), "closed_by": run.id}
        cx.execute(update(table).where(table.c.id == row.id).values(**closed))
        _tell(cx, settings, run.product, run.environment, RECOVERED, row.id)


def _is_answered(cx: Connection, failed: str | None, run: Row[Any]) -> bool:
    """Whether a run that went well says that all is well again: one of all that failed, or of the same part."""
    if runs.is_whole(run.options):
        return True
    options = cx.execute(select(run_table.c.options).where(run_table.c.id == failed)).scalar()
    part = ("only", "select", "tags")
    return options is not None and all(options.get(name) == run.options.get(name) for name in part)


def _still_open(product: str, environment: str) -> Any:
    return (table.c.product == product) & (table.c.environment == environment) & table.c.closed_at.is_(None)


def _tell(
    cx: Connection, settings: Settings, product: str, environment: str, event: str, incident: str
) -> None:
    row = cx.execute(select(products.c.domain, products.c.document).where(products.c.name == product)).first()
    domain = row.domain if row else ""
    named = set((row.document if row else {}).get("alerts") or ())
    for name, channel in settings.alerts.items():
        if takes(channel, event, product, domain, environment, is_named=name in named):
            tasks.ask(cx, TASK, product, {"channel": name, "event": event, "incident": incident})


def takes(
    channel: AlertChannel, event: str, product: str, domain: str, environment: str, *, is_named: bool
) -> bool:
    """Whether a channel is told of an event of a product; `is_named`: the product's document names it."""
    if event not in channel.on or environment not in channel.environments:
        return False
    if is_named:
        return True
    if channel.products is None and channel.domains is None:
        return True
    return product in (channel.products or ()) or domain in (channel.domains or ())


def get(database: Database, id_: str) -> Incident | None:
    """One incident, None when it is not known."""
    with database.read() as cx:
        row = cx.execute(select(table).where(table.c.id == id_)).first()
    return _value(row) if row is not None else None


def recent(
    database: Database, *, product: str | None = None, is_open: bool = False, limit: int = 50
) -> tuple[Incident, ...]:
    """Incidents, newest first; those that are open only, of one product only."""
    query = select(table).order_by(table.c.opened_at.desc()).limit(limit)
    if product is not None:
        query = query.where(table.c.product == product)
    if is_open:
        query = query.where(table.c.closed_at.is_(None))
    with database.read() as cx:
        return tuple(_value(row) for row in cx.execute(query))


def _value(row: Row[Any]) -> Incident:
    return Incident(
        row.id,
        row.product,
        row.environment,
        row.cause,
        row.message,
        row.run_id,
        row.times,
        row.opened_at,
        row.last_at,
        row.closed_at,
        row.closed_by,
        row.about,
        row.severity,
    )
