"""Collection: what no ref needs any more is removed from the store, without a moment in which writers must stop.

A collection is a durable task. It marks commits that are past their branch's retention as expired, finds every
blob some kept commit, staged row, upload, issued address or other repository names, and puts down the rest as
candidates. A candidate is removed only by a later collection, at least the grace after, that finds it unnamed
again. Whatever cannot be read ends the collection with nothing removed. The argument why this is safe beside
writers is in docs/decisions/collection.md. Never touches anything outside of the repository's own storage.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from tulle.errors import Conflict, Invalid, NotFound, TulleError, from_dict
from tulle.lake import locks, quarantine, refs, uploads
from tulle.lake.blobs import BlobInfo, Blobs
from tulle.lake.expiry import expire
from tulle.lake.marking import Marked, mark
from tulle.lake.quarantine import KIND, Names, key, load
from tulle.lake.repository import Lake, Repository
from tulle.state import tasks
from tulle.state.db import now
from tulle.state.tables import lake_branches, lake_commits
from tulle.state.tasks import Handler, Running, Task

T = TypeVar("T")

GRACE_SECONDS = 86_400.0
LEAST_GRACE_SECONDS = 7_200.0
UPLOAD_SECONDS = 7 * 86_400.0  # an upload nobody has added to for so long is given up
AT_A_TIME = 500  # blobs in hand while they are removed
THREADS = 16
SAMPLES = 10
SWEEP_SECONDS = tasks.LEASE_SECONDS / 3  # so long after it said what it has in hand a sweep may go on
FOLDERS = ("data", "_tulle/ranges", "_tulle/metaranges", "_tulle/manifests", "uploads")
_SCHEMA = pa.schema(
    [("name", pa.string()), ("size", pa.int64()), ("modified", pa.float64()), ("since", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Blobs of one kind: how many, bytes, the oldest (seconds since the epoch, 0 without), and some names."""

    count: int = 0
    bytes: int = 0
    oldest: float = 0.0
    samples: tuple[str, ...] = ()

    def plus(self, name: str, size: int, modified: float) -> Tally:
        """With one more."""
        oldest = min(self.oldest, modified) if self.count else modified
        samples = self.samples if len(self.samples) >= SAMPLES else (*self.samples, name)
        return Tally(self.count + 1, self.bytes + size, oldest, samples)


@dataclass(frozen=True, slots=True)
class Collection:
    """How far a collection is. `status` is waiting, running, done, failed or cancelled.

    `removed` (in a dry run: what would be) and `waiting` (candidates of a later collection) are by kind: data,
    ranges, metaranges, manifests, uploads. `expired` counts the commits whose data was given up by this one.
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


def start(
    lake: Lake,
    repository: str,
    *,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    actor: str = "",
) -> str:
    """Ask for a collection and return its id. Conflict while another one of the repository is under way."""
    if grace_seconds < LEAST_GRACE_SECONDS:
        raise Invalid(
            f"a grace of {grace_seconds:.0f} s is too short",
            hint=f"{LEAST_GRACE_SECONDS:.0f} s at least: longer than any commit, merge or upload takes",
        )
    return _ask(lake, repository, dry_run=dry_run, grace_seconds=grace_seconds, actor=actor)


def status(lake: Lake, repository: str, id_: str) -> Collection:
    """How far a collection is. NotFound."""
    task = tasks.get(lake.database, id_)
    if task.kind != KIND or task.subject != lake.repository(repository).record.storage:
        raise NotFound(f"there is no collection '{id_}' of repository '{repository}'")
    return _collection(task)


def collections(lake: Lake, repository: str, *, limit: int = 100) -> list[Collection]:
    """The collections of a repository, newest first."""
    storage = lake.repository(repository).record.storage
    return [_collection(task) for task in tasks.recent(lake.database, KIND, storage, limit=limit)]


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


def _collection(task: Task) -> Collection:
    result = task.result or {}

    def tallies(name: str) -> dict[str, Tally]:
        return {
            kind: Tally(value["count"], value["bytes"], value["oldest"], tuple(value["samples"]))
            for kind, value in result.get(name, {}).items()
        }

    return Collection(
        task.id,
        task.status,
        bool(task.request["dry_run"]),
        task.created_at,
        int(result.get("expired", 0)),
        int(result.get("kept_commits", 0)),
        float(result.get("seconds", 0.0)),
        tallies("removed"),
        tallies("waiting"),
        from_dict(dict(task.error)) if task.error else None,
    )


def _kind(name: str) -> str:
    return next(folder for folder in FOLDERS if name.startswith(folder + "/")).removeprefix("_tulle/")


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
        candidates = self._candidates(marked, previous)
        name = ""
        if not self._dry_run:
            name = f"_tulle/collections/{self._running.task.id}.{uuid4().hex[:8]}"
            self._blobs.put(f"{self._storage}/{name}", _encoded(candidates))
        due = pc.less_equal(candidates.column("since"), self._began - self._grace)
        removed = self._remove(candidates.filter(due))
        if not self._dry_run:
            self._drop_unpublished(unpublished)
            if (
                self._repository.quota().max_bytes is not None
                or self._repository.quota().max_objects is not None
            ):
                self._repository.recount()
            self._forget(name)
        waiting = _tallies(candidates.filter(pc.invert(due)))
        return {
            "storage": self._storage,
            "dry_run": self._dry_run,
            "candidates": name,
            "began": self._began,
            "expired": len(expired),
            "kept_commits": marked.commits,
            "abandoned_uploads": abandoned,
            "seconds": time.monotonic() - clock,
            "removed": _plain(removed),
            "waiting": _plain(waiting),
        }

    def _abandoned(self) -> int:
        """Give up multipart uploads that nobody has added to for long; how many."""
        found = uploads.stale(self._repository, self._began - max(self._grace, UPLOAD_SECONDS))
        if not self._dry_run:
            for upload in found:
                uploads.drop(self._repository, upload)
                self._tell()
        return len(found)

    def _previous(self) -> tuple[Names, np.ndarray[Any, np.dtype[np.float64]]]:
        """The candidates of the last collection by number, in order, and since when each is one."""
        for task in tasks.recent(self._lake.database, KIND, self._storage):
            result = task.result or {}
            if task.status == "done" and not result.get("dry_run"):
                try:
                    table = load(self._blobs, self._storage, result["candidates"])
                except NotFound:
                    break
                numbers = quarantine.keys(table.column("name"))
                order = np.argsort(numbers, kind="stable")
                return numbers[order], table.column("since").to_numpy()[order]
        return np.zeros(0, dtype=np.uint64), np.zeros(0)

    def _candidates(
        self, marked: Marked, previous: tuple[Names, np.ndarray[Any, np.dtype[np.float64]]]
    ) -> pa.Table:
        """Every blob that nothing names and that is older than the grace, and since when it is known so."""
        numbers, since = previous
        batches: list[pa.RecordBatch] = []
        for blobs in _batched(self._listed(), 50_000):
            self._tell()
            names = [blob.path.removeprefix(f"{self._storage}/") for blob in blobs]
            own = np.fromiter(map(key, names), dtype=np.uint64, count=len(names))
            free = np.flatnonzero(~marked.holds(own))
            at = np.searchsorted(numbers, own[free])
            known = np.zeros(len(free), dtype=bool)
            inside = at < len(numbers)
            known[inside] = numbers[at[inside]] == own[free][inside]
            first = np.full(len(free), self._began)
            first[known] = since[at[known]]
            batches.append(
                pa.RecordBatch.from_arrays(
                    [
                        pa.array([names[n] for n in free], pa.string()),
                        pa.array([blobs[n].size for n in free], pa.int64()),
                        pa.array([blobs[n].modified for n in free], pa.float64()),
                        pa.array(first, pa.float64()),
                    ],
                    schema=_SCHEMA,
                )
            )
        return pa.Table.from_batches(batches, schema=_SCHEMA)

    def _listed(self) -> Iterator[BlobInfo]:
        for folder in FOLDERS:
            for blob in self._blobs.list(f"{self._storage}/{folder}"):
                if blob.modified <= self._began - self._grace:
                    yield blob

    def _remove(self, due: pa.Table) -> dict[str, Tally]:
        removed: dict[str, Tally] = {}
        rows = (row for batch in due.to_batches(max_chunksize=AT_A_TIME) for row in batch.to_pylist())
        with ThreadPoolExecutor(THREADS, thread_name_prefix="collect") as pool:
            for some in _batched(rows, AT_A_TIME):
                if self._dry_run:
                    gone: Sequence[bool] = [True] * len(some)
                else:
                    # Said before any of them is looked at: see `quarantine.reuse`.
                    paths = [f"{self._storage}/{row['name']}" for row in some]
                    self._running.report({"phase": "remove", "in_hand": paths})
                    until = time.monotonic() + SWEEP_SECONDS
                    gone = list(pool.map(self._removed, paths, [until] * len(paths)))
                for row, is_gone in zip(some, gone, strict=True):
                    if is_gone:
                        kind = _kind(row["name"])
                        removed[kind] = removed.get(kind, Tally()).plus(
                            row["name"], row["size"], row["modified"]
                        )
        if not self._dry_run:
            self._running.report({"phase": "end", "in_hand": []})
        return removed

    def _removed(self, path: str, until: float) -> bool:
        try:
            if self._blobs.stat(path).modified > self._began - self._grace:
                return False  # somebody named it anew
        except NotFound:
            return False
        if time.monotonic() > until:
            return False  # our word may have lapsed: the next collection removes it
        self._blobs.delete(path)
        return True

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

    def _forget(self, newest: str) -> None:
        """Remove the candidates of earlier collections."""
        for blob in list(self._blobs.list(f"{self._storage}/_tulle/collections")):
            if blob.path != f"{self._storage}/{newest}" and blob.modified < self._began - self._grace:
                self._blobs.delete(blob.path)

    def _tell(self) -> None:
        if time.monotonic() - self._told > 2:
            self._running.report({"phase": "mark", "in_hand": []})
            self._told = time.monotonic()


def _batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    left = iter(items)
    while some := tuple(islice(left, size)):
        yield some


def _encoded(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _tallies(table: pa.Table) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for batch in table.to_batches():
        for row in batch.to_pylist():
            kind = _kind(row["name"])
            found[kind] = found.get(kind, Tally()).plus(row["name"], row["size"], row["modified"])
    return found


def _plain(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    return {
        kind: {
            "count": tally.count,
            "bytes": tally.bytes,
            "oldest": tally.oldest,
            "samples": list(tally.samples),
        }
        for kind, tally in tallies.items()
    }
