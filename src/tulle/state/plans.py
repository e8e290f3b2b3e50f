"""The plans that were carried out, each with its steps and how every one of them ended.

Knows the columns of two tables and nothing of what a step does. A plan that is `running` without anybody at work
was interrupted: whoever applies next carries the same record on.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tulle.errors import Conflict, NotFound, did_you_mean
from tulle.state.db import Database, now
from tulle.state.tables import plan_steps, plans

WAITING, RUNNING, SUCCEEDED, FAILED = "waiting", "running", "succeeded", "failed"
_LONGEST_MESSAGE = 2000


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step: what it is, how it stands; times in seconds since the epoch."""

    position: int
    operation: str
    subject: str
    status: str
    started_at: float | None
    finished_at: float | None
    message: str


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan that somebody carried out. `document` is the plan as it was shown."""

    id: str
    digest: str
    kind: str  # apply | destroy
    status: str  # running | succeeded | failed
    actor: str
    started_at: float
    finished_at: float | None
    document: Mapping[str, Any]
    error: str
    steps: tuple[StepRecord, ...] = ()

    @property
    def done(self) -> int:
        """How many steps are done."""
        return sum(step.status == SUCCEEDED for step in self.steps)


def begin(
    database: Database,
    digest: str,
    document: Mapping[str, Any],
    steps: Sequence[tuple[str, str]],
    *,
    kind: str = "apply",
    actor: str = "",
) -> PlanRecord:
    """Record that a plan is being carried out; `steps` are pairs of operation and subject.

    A plan with this digest that did not come to its end is carried on under the same record.
    """
    with database.write() as connection:
        found = connection.execute(
            select(plans.c.id)
            .where(plans.c.digest == digest, plans.c.kind == kind, plans.c.status != SUCCEEDED)
            .order_by(plans.c.started_at.desc())
            .limit(1)
        ).scalar()
        if found is not None:
            connection.execute(
                update(plans)
                .where(plans.c.id == found)
                .values(status=RUNNING, finished_at=None, error=None, actor=actor[:255])
            )
            return _one(connection, found)
        plan_id = secrets.token_hex(8)
        connection.execute(
            insert(plans).values(
                id=plan_id,
                digest=digest,
                kind=kind,
                status=RUNNING,
                actor=actor[:255],
                started_at=now(),
                document=dict(document),
            )
        )
        rows = [
            {
                "plan_id": plan_id,
                "position": position,
                "operation": operation,
                "subject": subject,
                "status": WAITING,
            }
            for position, (operation, subject) in enumerate(steps, 1)
        ]
        if rows:
            connection.execute(insert(plan_steps), rows)
        return _one(connection, plan_id)


def step_started(database: Database, plan_id: str, position: int) -> None:
    """A step begins, or begins again."""
    with database.write() as connection:
        _set(connection, plan_id, position, status=RUNNING, started_at=now(), finished_at=None, message=None)


def step_done(connection: Connection, plan_id: str, position: int, message: str = "") -> None:
    """A step is done, in the transaction of what it did. Conflict, which undoes it, when it was done before."""
    here = (plan_steps.c.plan_id == plan_id) & (plan_steps.c.position == position)
    changed = connection.execute(
        update(plan_steps)
        .where(here, plan_steps.c.status != SUCCEEDED)
        .values(status=SUCCEEDED, finished_at=now(), message=message[:_LONGEST_MESSAGE] or None)
    )
    if changed.rowcount != 1:
        raise Conflict("somebody else carried out this step", hint="`tulle plan` shows what is left")


def step_failed(database: Database, plan_id: str, position: int, message: str) -> None:
    """A step failed, and with it the plan; what was done stays done."""
    short = message[:_LONGEST_MESSAGE]
    with database.write() as connection:
        _set(connection, plan_id, position, status=FAILED, finished_at=now(), message=short)
        connection.execute(
            update(plans).where(plans.c.id == plan_id).values(status=FAILED, finished_at=now(), error=short)
        )


def finish(database: Database, plan_id: str) -> None:
    """Every step is done."""
    with database.write() as connection:
        connection.execute(
            update(plans).where(plans.c.id == plan_id).values(status=SUCCEEDED, finished_at=now(), error=None)
        )


def superseded(database: Database, keep: str) -> int:
    """Plans that were interrupted and that no one carries on any more have failed; how many."""
    text = "interrupted; another plan was made and carried out since"
    with database.write() as connection:
        changed = connection.execute(
            update(plans)
            .where(plans.c.status == RUNNING, plans.c.id != keep, plans.c.kind == "apply")
            .values(status=FAILED, finished_at=now(), error=text)
        )
    return changed.rowcount


def recent(database: Database, *, product: str = "", limit: int = 50) -> tuple[PlanRecord, ...]:
    """The latest plans with their steps, newest first; with `product`, those that have a step of its."""
    query = select(plans).order_by(plans.c.started_at.desc(), plans.c.id.desc()).limit(limit)
    if product:
        query = query.where(
            plans.c.id.in_(select(plan_steps.c.plan_id).where(plan_steps.c.subject == product))
        )
    with database.read() as connection:
        return tuple(_value(connection, row) for row in connection.execute(query).all())


def get(database: Database, name: str) -> PlanRecord:
    """One plan by its id, or by its digest or the start of it (the latest). NotFound."""
    query = select(plans.c.id).where((plans.c.id == name) | plans.c.digest.startswith(name, autoescape=True))
    with database.read() as connection:
        found = connection.execute(query.order_by(plans.c.started_at.desc()).limit(1)).scalar()
        if found is None or len(name) < 6:
            known = connection.execute(select(plans.c.digest).order_by(plans.c.started_at.desc()).limit(20))
            shown = {digest[:12] for digest in known.scalars()}
            raise NotFound(f"no plan '{name}' was carried out", hint=did_you_mean(name, shown))
        return _one(connection, found)


def _set(connection: Connection, plan_id: str, position: int, **values: Any) -> None:
    here = (plan_steps.c.plan_id == plan_id) & (plan_steps.c.position == position)
    connection.execute(update(plan_steps).where(here).values(**values))


def _one(connection: Connection, plan_id: str) -> PlanRecord:
    row = connection.execute(select(plans).where(plans.c.id == plan_id)).one()
    return _value(connection, row)


def _value(connection: Connection, row: Row[Any]) -> PlanRecord:
    steps = connection.execute(
        select(plan_steps).where(plan_steps.c.plan_id == row.id).order_by(plan_steps.c.position)
    )
    return PlanRecord(
        row.id,
        row.digest,
        row.kind,
        row.status,
        row.actor,
        row.started_at,
        row.finished_at,
        row.document,
        row.error or "",
        tuple(
            StepRecord(
                s.position, s.operation, s.subject, s.status, s.started_at, s.finished_at, s.message or ""
            )
            for s in steps
        ),
    )
