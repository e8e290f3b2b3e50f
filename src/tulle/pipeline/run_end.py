"""How runs end: by publishing, by failing, by somebody's word, and those whose process is gone.

Knows nothing of what runs do.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from tulle.errors import Conflict, TulleError, Unavailable
from tulle.events import RUN_FINISHED, Event
from tulle.pipeline.alive import Watch, is_alive, machine, watch_of
from tulle.pipeline.run import (
    ENDED,
    ERROR,
    FAILED,
    LOST,
    PUBLISH,
    QUEUED,
    RUNNING,
    SKIPPED,
    STOPPED,
    SUCCEEDED,
    WAITING,
    Run,
    row_in,
)
from tulle.pipeline.step_record import Word, tell
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import lake_commits, lake_repositories, run_steps, runs

_NEVER_STARTED_SECONDS = 60.0


def publishes(cx: Connection, run: Run, commit_id: str, message: str) -> None:
    """In the transaction that publishes its commit: the run has succeeded. Conflict when it has ended before.

    So whoever ends a run, because nobody seems to carry it out, either keeps it from publishing or comes too late.
    """
    if row_in(cx, run.id, lock=True).status != RUNNING:
        raise Conflict(
            f"run {run.id} was ended meanwhile; it publishes nothing",
            hint="`tulle runs` tells by whom, and why",
        )
    tell(cx, run, [Word(PUBLISH, SUCCEEDED, now(), message=message, branch=run.environment)])
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
    row = row_in(cx, run_id, lock=True)
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
        unfinished = (steps.run_id == run_id) & (steps.kind == PUBLISH) & (steps.status != SUCCEEDED)
        cx.execute(update(run_steps).where(unfinished).values(status=SUCCEEDED, finished_at=now()))
    cx.execute(
        update(run_steps).where(steps.run_id == run_id, steps.status == WAITING).values(status=SKIPPED)
    )
    data = {"run": run_id, "environment": row.environment, "status": status, "commit": commit_id}
    if error:
        data["error"] = error.message
    log.append(cx, Event(RUN_FINISHED, row.product, data))
    return True


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
