"""Collection: what no ref needs any more is removed from the store, without a moment in which writers must stop.

A collection is a durable task. It marks commits that are past their branch's retention as expired, finds every
blob some kept commit, staged row, upload, issued address or other repository names, and puts down the rest as
candidates. A candidate is removed only by a later collection, at least the grace after, that finds it unnamed
again. Whatever cannot be read ends the collection with nothing removed. The argument why this is safe beside
writers is in docs/decisions/collection.md. Never touches anything outside of the repository's own storage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pyarrow.compute as pc
from sqlalchemy import select

from tulle.errors import Conflict, Invalid, NotFound, TulleError, from_dict
from tulle.lake import locks, refs, uploads
from tulle.lake.blobs import Blobs
from tulle.lake.expiry import expire
from tulle.lake.marking import mark
from tulle.lake.quarantine import KIND
from tulle.lake.repository import Lake, Repository
from tulle.lake.sweep import (
    Previous,
    Sweep,
    Tally,
    nested_in,
    numbers_of,
    plain,
    put_down_before,
    recorded,
)
from tulle.state import tasks
from tulle.state.db import now
from tulle.state.tables import lake_branches, lake_commits
from tulle.state.tasks import Handler, Running, Task

__all__ = ["Collection", "Tally", "collect", "collections", "handlers", "start", "status"]

GRACE_SECONDS = 86_400.0
LEAST_GRACE_SECONDS = 7_200.0
UPLOAD_SECONDS = 7 * 86_400.0  # an upload nobody has added to for so long is given up


@dataclass(frozen=True, slots=True)
class Collection:
    """How far a collection is. `status` is waiting, running, done, failed or cancelled.

    `removed` (in a dry run: what would be) and `waiting` (candidates of a later collection) are by kind: data,
    ranges, metaranges, manifests, uploads. `expired` counts the commits whose data was given up by this one,
    `storages` what deleted repositories were in and was looked through, `left` has those that were not, and why.
    """

    id: str
    status: str
    dry_run: bool
    started_at: float
    expired: int = 0
    kept_commits: int = 0
    seconds: float = 0.0
    removed: Mapping[str, Tally] = field(default_factory=dict)
    waiting: Mapping[str, Tally] = field(default_factory=dict)
    error: TulleError | None = None
    storages: int = 0
    left: Mapping[str, str] = field(default_factory=dict)


def start(
    lake: Lake,
    repository: str,
    *,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    actor: str = "",
) -> str:
    """Ask for a collection and return its id. Conflict while another one of the repository is under way."""
    demand_grace(grace_seconds)
    return _ask(lake, repository, dry_run=dry_run, grace_seconds=grace_seconds, actor=actor)


def demand_grace(seconds: float) -> None:
    """Invalid for a grace that operations under way may outlast."""
    if seconds < LEAST_GRACE_SECONDS:
        raise Invalid(
            f"a grace of {seconds:.0f} s is too short",
            hint=f"{LEAST_GRACE_SECONDS:.0f} s at least: longer than any commit, merge or upload takes",
        )


def status(lake: Lake, repository: str, id_: str) -> Collection:
    """How far a collection is. NotFound."""
    task = tasks.get(lake.database, id_)
    if task.kind != KIND or task.subject != lake.repository(repository).record.storage:
        raise NotFound(f"there is no collection '{id_}' of repository '{repository}'")
    return collection_of(task)


def collections(lake: Lake, repository: str, *, limit: int = 100) -> list[Collection]:
    """The collections of a repository, newest first."""
    storage = lake.repository(repository).record.storage
    return [collection_of(task) for task in tasks.recent(lake.database, KIND, storage, limit=limit)]


def collect(
    lake: Lake, repository: str, *, dry_run: bool = False, grace_seconds: float = GRACE_SECONDS
) -> Collection:
    """Collect here and now. Raises what the collection met."""
    id_ = _ask(lake, repository, dry_run=dry_run, grace_seconds=grace_seconds, actor="", delay=86_400.0)
    tasks.run_now(lake.database, id_, handlers(lake)[KIND], uuid4().hex)
    done = status(lake, repository, id_)
    if done.error is not None:
        raise done.error
    return done


def handlers(lake: Lake) -> dict[str, Handler]:
    """What a worker needs to run collections."""
    return {KIND: lambda running: _Collector(lake, running).run()}


def _ask(
    lake: Lake, repository: str, *, dry_run: bool, grace_seconds: float, actor: str, delay: float = 0.0
) -> str:
    record = lake.repository(repository).record
    request = {
        "repository": repository,
        "repository_id": record.id,
        "dry_run": dry_run,
        "grace_seconds": grace_seconds,
    }
    under_way = tasks.recent(lake.database, KIND, record.storage, limit=5)
    for task in under_way:
        if task.status in {"waiting", "running"}:
            raise Conflict(
                f"collection {task.id} of repository '{repository}' is under way", hint="wait for it"
            )
    with lake.database.write() as cx:
        return tasks.ask(cx, KIND, record.storage, request, actor=actor, delay=delay)


def collection_of(task: Task) -> Collection:
    """A collection as its task tells it."""
    result = task.result or {}
    return Collection(
        task.id,
        task.status,
        bool(task.request["dry_run"]),
        task.created_at,
        int(result.get("expired", 0)),
        int(result.get("kept_commits", 0)),
        float(result.get("seconds", 0.0)),
        recorded(result.get("removed", {})),
        recorded(result.get("waiting", {})),
        from_dict(dict(task.error)) if task.error else None,
        int(result.get("storages", 0)),
        dict(result.get("left", {})),
    )


class _Collector:
    """One collection in its worker's hands."""

    def __init__(self, lake: Lake, running: Running) -> None:
        request = running.task.request
        self._lake = lake
        self._running = running
        self._repository: Repository = lake.repository(request["repository"], force=True)
        if self._repository.record.id != request["repository_id"]:
            raise NotFound(f"repository '{request['repository']}' was deleted")
        self._dry_run = bool(request["dry_run"])
        self._grace = float(request["grace_seconds"])
        self._blobs: Blobs = self._repository.reader.blobs
        self._storage = self._repository.record.storage
        self._began = now()
        self._sweep = Sweep(
            running,
            self._blobs,
            self._storage,
            began=self._began,
            grace_seconds=self._grace,
            dry_run=self._dry_run,
            nested=nested_in(lake, self._blobs, self._storage),
        )
        self._told = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Expire, mark, put down candidates, remove those of old."""
        clock = time.monotonic()
        self._running.report({"phase": "expire", "in_hand": []})
        unpublished = self._unpublished()
        abandoned = self._abandoned()
        previous = self._previous()
        expired = expire(self._lake.database, self._repository.record, self._began, dry_run=self._dry_run)
        self._running.report({"phase": "mark", "in_hand": []})
        marked = mark(self._lake, self._repository.record, expired, step=self._tell)
        self._running.report({"phase": "list", "in_hand": []})
        candidates = self._sweep.candidates(
            lambda names: marked.holds(numbers_of(names)), previous, step=self._tell
        )
        name = "" if self._dry_run else self._sweep.put_down(candidates)
        due = self._sweep.due(candidates)
        removed = self._sweep.remove(candidates.filter(due))
        if not self._dry_run:
            self._drop_unpublished(unpublished)
            if (
                self._repository.quota().max_bytes is not None
                or self._repository.quota().max_objects is not None
            ):
                self._repository.recount()
            self._sweep.forget(name)
        waiting = self._sweep.tallies(candidates.filter(pc.invert(due)))
        return {
            "storage": self._storage,
            "dry_run": self._dry_run,
            "candidates": name,
            "began": self._began,
            "expired": len(expired),
            "kept_commits": marked.commits,
            "abandoned_uploads": abandoned,
            "seconds": time.monotonic() - clock,
            "removed": plain(removed),
            "waiting": plain(waiting),
        }

    def _abandoned(self) -> int:
        """Give up multipart uploads that nobody has added to for long; how many."""
        since = self._began - max(self._grace, UPLOAD_SECONDS)
        found = uploads.stale(self._repository, since)
        if not self._dry_run:
            for upload in found:
                uploads.drop(self._repository, upload, unless_since=since)
                self._tell()
        return len(found)

    def _previous(self) -> Previous:
        """The candidates of the last collection."""
        found = ""
        for task in tasks.recent(self._lake.database, KIND, self._storage):
            result = task.result or {}
            if task.status == "done" and not result.get("dry_run"):
                found = str(result["candidates"])
                break
        return put_down_before(self._blobs, self._storage, found)

    def _unpublished(self) -> list[str]:
        query = select(lake_commits.c.id).where(
            lake_commits.c.repository_id == self._repository.record.id, lake_commits.c.published.is_(False)
        )
        with self._lake.database.read() as cx:
            return list(cx.execute(query).scalars())

    def _drop_unpublished(self, known: Sequence[str]) -> None:
        """Remove the records of commits that a gate left behind, unless some gate may still look at them.

        A gate keeps its branch locked: where no branch is, what was there before the collection is left over.
        """
        id_ = self._repository.record.id
        with self._lake.database.write() as cx:
            query = select(lake_branches.c.lock_owner, lake_branches.c.lock_until).where(
                lake_branches.c.repository_id == id_
            )
            if any(locks.is_held(row.lock_owner, row.lock_until) for row in cx.execute(query)):
                return
            for commit_id in known:
                refs.drop_commit(cx, id_, commit_id)

    def _tell(self) -> None:
        if time.monotonic() - self._told > 2:
            self._running.report({"phase": "mark", "in_hand": []})
            self._told = time.monotonic()
