"""Work that outlives the request that asked for it: a durable queue in the control-plane database.

A task is asked for in a transaction, taken by one worker at a time under a lease, and ends done, failed or
cancelled. A worker that dies loses its lease and another one takes the task up again, with the progress the
first had recorded: what a task does must therefore be safe to do twice. Knows nothing of what tasks do: each
kind has a handler, given by whoever owns it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, or_, select, update

from tulle.errors import Broken, Conflict, NotFound, TulleError
from tulle.state.db import Database, now
from tulle.state.tables import tasks

LEASE_SECONDS = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work as it is recorded. `status` is waiting, running, done, failed or cancelled.

    `progress` is what its worker last recorded, `error` what `TulleError.as_dict` gives.
    """

    id: str
    kind: str
    subject: str
    status: str
    request: Mapping[str, Any]
    progress: Mapping[str, Any]
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    attempts: int
    actor: str
    created_at: float
    updated_at: float
    owner: str


class Cancelled(Exception):
    """Raised in a handler when its task is to end."""


class Again(Exception):
    """Raised by a handler: this attempt failed with `error`, try again after `seconds`."""

    def __init__(self, seconds: float, error: TulleError) -> None:
        super().__init__(error.message)
        self.seconds = seconds
        self.error = error


class Running:
    """A task in its worker's hands."""

    def __init__(self, database: Database, task: Task) -> None:
        self.database = database
        self.task = task

    def report(self, progress: Mapping[str, Any]) -> None:
        """Record progress and keep the lease.

        Raises Cancelled when the task is to end, Conflict when another worker has it. Call it every few seconds.
        """
        at = now()
        with self.database.write() as cx:
            found = cx.execute(
                update(tasks)
                .where(
                    tasks.c.id == self.task.id, tasks.c.owner == self.task.owner, tasks.c.status == "running"
                )
                .values(progress=dict(progress), owner_until=at + LEASE_SECONDS, updated_at=at)
            )
            cancelled = cx.execute(select(tasks.c.cancelled).where(tasks.c.id == self.task.id)).scalar()
        if found.rowcount != 1:
            raise Conflict(f"task {self.task.id} was taken over by another worker")
        if cancelled:
            raise Cancelled


Handler = Callable[[Running], Mapping[str, Any]]


def ask(
    cx: Connection,
    kind: str,
    subject: str,
    request: Mapping[str, Any],
    *,
    actor: str = "",
    delay: float = 0.0,
) -> str:
    """Record a task in the transaction of `cx`, due in `delay` seconds, and return its id."""
    id_, at = uuid4().hex, now()
    cx.execute(
        insert(tasks).values(
            id=id_,
            kind=kind,
            subject=subject,
            status="waiting",
            request=dict(request),
            progress={},
            due_at=at + delay,
            actor=actor,
            created_at=at,
            updated_at=at,
        )
    )
    return id_


def get(database: Database, id_: str) -> Task:
    """One task. NotFound."""
    with database.read() as cx:
        row = cx.execute(select(tasks).where(tasks.c.id == id_)).first()
    if row is None:
        raise NotFound(f"there is no task '{id_}'")
    return _task(row)


def recent(database: Database, kind: str, subject: str | None = None, *, limit: int = 100) -> list[Task]:
    """Tasks of a kind, of one subject or of all, newest first."""
    query = select(tasks).where(tasks.c.kind == kind).order_by(tasks.c.created_at.desc()).limit(limit)
    if subject is not None:
        query = query.where(tasks.c.subject == subject)
    with database.read() as cx:
        return [_task(row) for row in cx.execute(query)]


def forget(database: Database, kind: str, before: float) -> None:
    """Remove the records of tasks of a kind that ended before a time."""
    ended = tasks.c.status.in_(["done", "failed", "cancelled"])
    with database.write() as cx:
        cx.execute(delete(tasks).where(tasks.c.kind == kind, ended, tasks.c.updated_at < before))


def cancel(database: Database, id_: str) -> None:
    """Ask a task to end: at once when it waits, at its next report when it runs. Conflict when it has ended."""
    with database.write() as cx:
        mark = update(tasks).where(tasks.c.id == id_, tasks.c.status.in_(["waiting", "running"]))
        if not cx.execute(mark.values(cancelled=True, updated_at=now())).rowcount:
            if cx.execute(select(tasks.c.id).where(tasks.c.id == id_)).first() is None:
                raise NotFound(f"there is no task '{id_}'")
            raise Conflict(f"task '{id_}' has ended already")
        cx.execute(
            update(tasks).where(tasks.c.id == id_, tasks.c.status == "waiting").values(status="cancelled")
        )


def take(
    database: Database, kinds: Sequence[str], owner: str, among: ColumnElement[bool] | None = None
) -> Task | None:
    """The next task of these kinds that is due, ours under a lease from now on; None when there is none.

    With `among`, a condition on the table, one for which it holds.
    """
    at = now()
    due = and_(tasks.c.status == "waiting", tasks.c.due_at <= at)
    lost = and_(tasks.c.status == "running", tasks.c.owner_until < at)
    wanted = and_(tasks.c.kind.in_(list(kinds)), or_(due, lost))
    if among is not None:
        wanted = and_(wanted, among)
    with database.read() as cx:  # most of the time there is nothing: do not take the write lock for that
        if cx.execute(select(tasks.c.id).where(wanted).limit(1)).first() is None:
            return None
    with database.write() as cx:
        query = (
            select(tasks).where(wanted).order_by(tasks.c.due_at).limit(1).with_for_update(skip_locked=True)
        )
        row = cx.execute(query).first()
        if row is None:
            return None
        cx.execute(
            update(tasks)
            .where(tasks.c.id == row.id)
            .values(
                status="running",
                owner=owner,
                owner_until=at + LEASE_SECONDS,
                attempts=row.attempts + 1,
                updated_at=at,
            )
        )
        taken = cx.execute(select(tasks).where(tasks.c.id == row.id)).one()
    return _task(taken)


class Apart:
    """Has workers of one process run at most one task at a time of those whose request has the same `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def take(self, database: Database, kinds: Sequence[str], owner: str) -> Task | None:
        """As `take`, but none that would be a second one; `end` is to be called when it has ended."""
        with self._lock:
            free = tasks.c.request[self._name].as_string().not_in(self._busy) if self._busy else None
            task = take(database, kinds, owner, free)
            if task is not None:
                self._busy.add(str(task.request[self._name]))
            return task

    def end(self, task: Task) -> None:
        """Another one may be taken."""
        with self._lock:
            self._busy.discard(str(task.request[self._name]))


def run_one(
    database: Database, handlers: Mapping[str, Handler], owner: str, apart: Apart | None = None
) -> bool:
    """Take a due task and run its handler; False when there was none."""
    kinds = list(handlers)
    task = take(database, kinds, owner) if apart is None else apart.take(database, kinds, owner)
    if task is None:
        return False
    try:
        _run(database, task, handlers[task.kind])
    finally:
        if apart is not None:
            apart.end(task)
    return True


def _run(database: Database, task: Task, handler: Handler) -> None:
    try:
        result = handler(Running(database, task))
    except Cancelled:
        _end(database, task, status="cancelled")
    except Again as again:
        _end(database, task, status="waiting", error=again.error.as_dict(), due_at=now() + again.seconds)
    except TulleError as exc:
        _end(database, task, status="failed", error=exc.as_dict())
    except Exception as exc:
        log.exception("task %s (%s) met a defect", task.id, task.kind)
        error = Broken(f"a defect in tulle: {exc!r}").as_dict()
        _end(database, task, status="failed", error=error)
    else:
        _end(database, task, status="done", result=dict(result))


def run_now(database: Database, id_: str, handler: Handler, owner: str) -> None:
    """Run one waiting task here, due or not. What its handler raises is recorded with the task."""
    at = now()
    with database.write() as cx:
        mine = update(tasks).where(tasks.c.id == id_, tasks.c.status == "waiting")
        values = {"status": "running", "owner": owner, "owner_until": at + LEASE_SECONDS, "attempts": 1}
        if not cx.execute(mine.values(**values, updated_at=at)).rowcount:
            raise Conflict(f"task '{id_}' does not wait to be run")
    _run(database, get(database, id_), handler)


class Worker:
    """A thread that runs tasks as they come due; several that share an `apart` as that says."""

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, Handler],
        *,
        pause: float = 0.2,
        apart: Apart | None = None,
    ) -> None:
        self._database = database
        self._handlers = dict(handlers)
        self._pause = pause
        self._apart = apart
        self._stop = threading.Event()
        self._owner = uuid4().hex
        self._thread = threading.Thread(target=self._work, name="tasks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Take no further task, and wait a while for the one under way; its lease lapses if it goes on."""
        self._stop.set()
        self._thread.join(timeout)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                if run_one(self._database, self._handlers, self._owner, self._apart):
                    continue
            except Exception:
                log.exception("tasks cannot be taken; trying again")
                self._stop.wait(2)
            self._stop.wait(self._pause)


def _end(database: Database, task: Task, **values: Any) -> None:
    with database.write() as cx:
        cx.execute(
            update(tasks)
            .where(tasks.c.id == task.id, tasks.c.owner == task.owner)
            .values(owner=None, owner_until=None, updated_at=now(), **values)
        )


def _task(row: Row[Any]) -> Task:
    return Task(
        row.id,
        row.kind,
        row.subject,
        row.status,
        dict(row.request),
        dict(row.progress),
        None if row.result is None else dict(row.result),
        None if row.error is None else dict(row.error),
        row.attempts,
        row.actor,
        row.created_at,
        row.updated_at,
        row.owner or "",
    )
