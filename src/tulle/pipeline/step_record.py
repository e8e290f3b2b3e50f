"""The steps of runs as they are recorded: which there are, what is told of each, and the events of it.

Knows nothing of what steps do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, update

from tulle.errors import Conflict
from tulle.events import STEP_FINISHED, STEP_STARTED, STEPS_KEPT, Event
from tulle.pipeline.run import (
    ENDED,
    RUNNING,
    UNCHANGED,
    WAITING,
    Report,
    Run,
    row_in,
)
from tulle.quality import history
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import run_steps, runs

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


def begin(
    database: Database, run_id: str, *, branch: str, base_commit: str, steps: Sequence[tuple[str, str]]
) -> None:
    """Record where the run works and what it will do: (name, kind) of each step. Conflict when it has ended."""
    with database.write() as cx:
        if row_in(cx, run_id, lock=True).status in ENDED:
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
    if row_in(cx, run.id, lock=True).status in ENDED:  # by somebody else: its process may go on for a while
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
