"""The records of runs of hooks: one row a run, one a hook in it. Knows nothing of how hooks run."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil
from sqlalchemy import Connection, Row, delete, insert, select, update

from tulle.errors import NotFound
from tulle.state.db import Database, now
from tulle.state.tables import lake_action_runs as runs
from tulle.state.tables import lake_hook_runs as hook_runs

KEPT = 100  # runs of a repository that are kept however old they are
AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Run:
    """The hooks of one event. `status` is running, completed or failed."""

    id: str
    event: str
    branch: str
    source_ref: str
    commit_id: str
    status: str
    started_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class HookRun:
    """One hook of a run. `status` is waiting, running, completed, failed or skipped."""

    id: str
    action: str
    hook: str
    status: str
    attempts: int
    started_at: float | None
    finished_at: float | None
    output: str


def new_run_id() -> str:
    """An id before all earlier ones, so that a list by id has the newest first."""
    return f"{2**63 - time.time_ns():016x}{secrets.token_hex(4)}"


@cache
def this_process() -> str:
    """What this process is called among all that share the database, for good."""
    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time()}"


def is_dead(owner: str) -> bool:
    """Whether a process surely is no more; of other machines that cannot be known."""
    host, _, rest = owner.rpartition("/")[0].partition("/")
    began = owner.rpartition("/")[2]
    if host != socket.gethostname():
        return False
    try:
        return str(psutil.Process(int(rest)).create_time()) != began
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError):
        return False


def begin(
    cx: Connection,
    id_: str,
    repository_id: int,
    about: Mapping[str, Any],
    hooks: Iterable[tuple[str, str, str]],
    *,
    ends_by: float,
) -> None:
    """Record a run with its hooks (id, action, hook). `about` is the event in lakeFS's words."""
    cx.execute(
        insert(runs).values(
            id=id_,
            repository_id=repository_id,
            event=about["event_type"],
            branch=about.get("branch_id", ""),
            source_ref=about.get("source_ref", "")[:255],
            commit_id=about.get("commit_id", ""),
            status="running",
            payload={"about": dict(about), "ends_by": ends_by},
            owner=this_process(),
            started_at=now(),
        )
    )
    rows = [
        {"run_id": id_, "id": hook_id, "action": action, "hook": hook, "status": "waiting"}
        for hook_id, action, hook in hooks
    ]
    cx.execute(insert(hook_runs), rows)


def resume(cx: Connection, id_: str) -> bool:
    """Say that a recorded run goes on; False when there is none."""
    values = {"status": "running", "owner": this_process(), "finished_at": None}
    return bool(cx.execute(update(runs).where(runs.c.id == id_).values(**values)).rowcount)


def end(cx: Connection, id_: str, *, passed: bool) -> None:
    """Record how a run ended."""
    status = "completed" if passed else "failed"
    cx.execute(update(runs).where(runs.c.id == id_).values(status=status, finished_at=now(), owner=None))


def hook_begins(cx: Connection, run_id: str, id_: str) -> None:
    """Record that a hook begins, once more perhaps."""
    cx.execute(
        _hook(run_id, id_).values(
            status="running", attempts=hook_runs.c.attempts + 1, started_at=now(), finished_at=None
        )
    )


def hook_ends(cx: Connection, run_id: str, id_: str, status: str, output: str) -> None:
    """Record how a hook ended."""
    cx.execute(_hook(run_id, id_).values(status=status, finished_at=now(), output=output.replace("\0", "␀")))


def exhaust(cx: Connection, run_id: str, id_: str, attempts: int) -> None:
    """Record that a hook is not to be tried again."""
    cx.execute(_hook(run_id, id_).values(attempts=attempts))


def interrupt_dead(database: Database) -> int:
    """Mark runs failed whose process is no more; returns how many. They are not run again."""
    with database.read() as cx:
        rows = cx.execute(
            select(runs.c.id, runs.c.owner, runs.c.payload).where(
                runs.c.status == "running", ~runs.c.event.like("post-%")
            )
        ).all()
    at = now()
    dead = [row.id for row in rows if is_dead(row.owner or "") or at > row.payload["ends_by"] + 60]
    for id_ in dead:
        with database.write() as cx:
            found = cx.execute(
                update(runs)
                .where(runs.c.id == id_, runs.c.status == "running")
                .values(status="failed", finished_at=at, owner=None)
            )
            if found.rowcount:
                cx.execute(
                    update(hook_runs)
                    .where(hook_runs.c.run_id == id_, hook_runs.c.status.in_(["waiting", "running"]))
                    .values(status="failed", finished_at=at, output="interrupted: the server ended meanwhile")
                )
    return len(dead)


def prune(database: Database, before: float, *, keep: int = KEPT) -> int:
    """Remove runs that began before a time and have ended, but the last so many of a repository; how many."""
    with database.read() as cx:
        repositories = cx.execute(select(runs.c.repository_id).distinct()).scalars().all()
    return sum(_prune(database, repository, before, keep) for repository in repositories)


def _prune(database: Database, repository: int, before: float, keep: int) -> int:
    of_it = select(runs.c.id).where(runs.c.repository_id == repository).order_by(runs.c.id)  # newest first
    removed = 0
    while True:
        with database.write() as cx:
            last = cx.execute(of_it.offset(keep - 1).limit(1)).scalar()
            if last is None:
                return removed
            old = of_it.where(runs.c.id > last, runs.c.status != "running", runs.c.started_at < before)
            ids = cx.execute(old.limit(AT_A_TIME)).scalars().all()
            cx.execute(delete(hook_runs).where(hook_runs.c.run_id.in_(ids)))
            cx.execute(delete(runs).where(runs.c.id.in_(ids)))
        removed += len(ids)
        if len(ids) < AT_A_TIME:
            return removed


def list_runs(
    database: Database,
    repository_id: int,
    *,
    after: str = "",
    limit: int = 100,
    branch: str = "",
    commit_id: str = "",
) -> list[Run]:
    """Runs that have ended, newest first."""
    query = select(runs).where(
        runs.c.repository_id == repository_id, runs.c.id > after, runs.c.status != "running"
    )
    if branch:
        query = query.where(runs.c.branch == branch)
    if commit_id:
        query = query.where(runs.c.commit_id == commit_id)
    with database.read() as cx:
        return [_run(row) for row in cx.execute(query.order_by(runs.c.id).limit(limit))]


def get_run(database: Database, repository_id: int, id_: str) -> Run:
    """One run. NotFound."""
    with database.read() as cx:
        row = cx.execute(select(runs).where(runs.c.id == id_, runs.c.repository_id == repository_id)).first()
    if row is None:
        raise NotFound(
            f"there is no run '{id_}' of hooks", hint="old ones are removed: see `hook_run_days` in mesh.yaml"
        )
    return _run(row)


def hooks_of(database: Database, run_id: str) -> list[HookRun]:
    """The hooks of a run in their order."""
    with database.read() as cx:
        rows = cx.execute(select(hook_runs).where(hook_runs.c.run_id == run_id).order_by(hook_runs.c.id))
        return [
            HookRun(r.id, r.action, r.hook, r.status, r.attempts, r.started_at, r.finished_at, r.output)
            for r in rows
        ]


def _hook(run_id: str, id_: str) -> Any:
    return update(hook_runs).where(hook_runs.c.run_id == run_id, hook_runs.c.id == id_)


def _run(row: Row[Any]) -> Run:
    return Run(
        row.id,
        row.event,
        row.branch,
        row.source_ref,
        row.commit_id,
        row.status,
        row.started_at,
        row.finished_at,
    )
