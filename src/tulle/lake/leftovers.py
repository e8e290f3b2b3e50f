"""What deleted repositories left in the stores: removed when somebody asks for it, never by itself.

Deleting a repository keeps its data: it may be restored from a dump, and others name it that copied or imported
without copying bytes. A collection of leftovers is a durable task like any other. It finds what the repositories
there are name in the storages of those that are no more, puts down the rest as candidates, and removes what an
earlier one, at least the grace before, put down already. Whatever cannot be read of a repository ends it with
nothing removed. The argument is in docs/decisions/collection.md. Knows nothing of retention.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, select

from tulle.errors import Conflict, NotFound, TulleError
from tulle.lake.blobs import Blobs
from tulle.lake.collect import GRACE_SECONDS, Collection, collection_of, demand_grace
from tulle.lake.marking import Marked, mark_abandoned
from tulle.lake.quarantine import DELETED
from tulle.lake.repository import Lake
from tulle.lake.sweep import FOLDERS, Sweep, Tally, add, nested_in, numbers_of, plain, put_down_before
from tulle.state import tasks
from tulle.state.db import in_turn, now
from tulle.state.tables import lake_repositories
from tulle.state.tasks import Handler, Running

DUMPS = "_tulle/dumps"


def start(lake: Lake, *, dry_run: bool = False, grace_seconds: float = GRACE_SECONDS, actor: str = "") -> str:
    """Ask for a collection of what deleted repositories left; its id. Conflict while one is under way."""
    demand_grace(grace_seconds)
    return _ask(lake, dry_run=dry_run, grace_seconds=grace_seconds, actor=actor)


def status(lake: Lake, id_: str) -> Collection:
    """How far a collection is. NotFound."""
    task = tasks.get(lake.database, id_)
    if task.kind != DELETED:
        raise NotFound(f"there is no collection '{id_}' of deleted repositories")
    return collection_of(task)


def collections(lake: Lake, *, limit: int = 100) -> list[Collection]:
    """The collections, newest first."""
    return [collection_of(task) for task in tasks.recent(lake.database, DELETED, limit=limit)]


def collect(lake: Lake, *, dry_run: bool = False, grace_seconds: float = GRACE_SECONDS) -> Collection:
    """Collect here and now. Raises what the collection met."""
    id_ = _ask(lake, dry_run=dry_run, grace_seconds=grace_seconds, actor="", delay=86_400.0)
    tasks.run_now(lake.database, id_, handlers(lake)[DELETED], uuid4().hex)
    done = status(lake, id_)
    if done.error is not None:
        raise done.error
    return done


def handlers(lake: Lake) -> dict[str, Handler]:
    """What a worker needs to run collections of leftovers."""
    return {DELETED: lambda running: _Leftovers(lake, running).run()}


def take_turn(cx: Connection, storage: str) -> None:
    """Let one at a time decide whether a storage is given up or, with a dump, a repository's again."""
    in_turn(cx, f"whose storage {storage} is")


def _ask(lake: Lake, *, dry_run: bool, grace_seconds: float, actor: str, delay: float = 0.0) -> str:
    for task in tasks.recent(lake.database, DELETED, limit=5):
        if task.status in {"waiting", "running"}:
            raise Conflict(
                f"collection {task.id} of deleted repositories is under way", hint="wait for it to end"
            )
    with lake.database.write() as cx:
        request = {"dry_run": dry_run, "grace_seconds": grace_seconds}
        return tasks.ask(cx, DELETED, "deleted repositories", request, actor=actor, delay=delay)


class _Leftovers:
    """One collection in its worker's hands."""

    def __init__(self, lake: Lake, running: Running) -> None:
        request = running.task.request
        self._lake = lake
        self._running = running
        self._dry_run = bool(request["dry_run"])
        self._grace = float(request["grace_seconds"])
        self._began = now()
        self._told = time.monotonic()
        self._removed: dict[str, Tally] = {}
        self._waiting: dict[str, Tally] = {}
        self._put_down: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        """Mark, then storage by storage put down candidates and remove those of old."""
        clock = time.monotonic()
        self._running.report({"phase": "mark", "in_hand": []})
        previous = self._previous()
        found = mark_abandoned(self._lake, step=self._tell)
        left: dict[str, str] = {}
        for storage, namespace in sorted(found.storages.items()):
            self._tell()
            try:
                reason = self._storage(storage, namespace, found.named, previous.get(storage, ""))
            except Conflict:  # another worker has the task
                raise
            except TulleError as exc:
                reason = exc.message
            if reason:
                left[storage] = reason
        return {
            "dry_run": self._dry_run,
            "put_down": self._put_down,
            "began": self._began,
            "storages": len(found.storages) - len(left),
            "left": left,
            "seconds": time.monotonic() - clock,
            "removed": plain(self._removed),
            "waiting": plain(self._waiting),
        }

    def _storage(self, storage: str, namespace: str, named: Marked, previous: str) -> str:
        """Collect in one storage; why that is not done, if it is not."""
        blobs = self._lake.stores.blobs(namespace)
        limit = self._began - self._grace
        if any(blob.modified > limit for blob in blobs.list(f"{storage}/{DUMPS}")):
            return "it was dumped lately, perhaps to be restored"
        sweep = Sweep(
            self._running,
            blobs,
            storage,
            began=self._began,
            grace_seconds=self._grace,
            dry_run=self._dry_run,
            folders=(*FOLDERS, DUMPS),
            nested=nested_in(self._lake, blobs, storage),
            label=f"{storage}/",
        )
        candidates = sweep.candidates(
            lambda names: named.holds(numbers_of([f"{storage}/{name}" for name in names])),
            put_down_before(blobs, storage, previous),
            step=self._tell,
        )
        due = sweep.due(candidates)
        name = ""
        if len(candidates) and not self._dry_run:
            self._put_down[storage] = name = sweep.put_down(candidates)
        if pc.any(due).as_py():
            dumps = self._give_up(blobs, storage, _dumps(candidates.filter(due)))
            if dumps is None:
                return "it is a repository's again, restored from a dump"
            add(self._removed, dumps)
            add(self._removed, sweep.remove(_without_dumps(candidates.filter(due))))
        add(self._waiting, sweep.tallies(candidates.filter(pc.invert(due))))
        if not self._dry_run:
            sweep.forget(name)
        return ""

    def _give_up(
        self, blobs: Blobs, storage: str, dumps: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tally] | None:
        """Before anything else the dumps go: from then on nobody can restore the repository. None if one has."""
        with self._lake.database.write() as cx:
            take_turn(cx, storage)
            query = select(lake_repositories.c.id).where(lake_repositories.c.storage == storage)
            if cx.execute(query).first() is not None:
                return None
            tally = Tally()
            for row in dumps:
                tally = tally.plus(f"{storage}/{row['name']}", row["size"], row["modified"])
                if not self._dry_run:
                    blobs.delete(f"{storage}/{row['name']}")
        return {"dumps": tally} if tally.count else {}

    def _previous(self) -> Mapping[str, str]:
        """Where the last collection put down the candidates of each storage."""
        for task in tasks.recent(self._lake.database, DELETED):
            if task.status == "done" and not (task.result or {}).get("dry_run"):
                return dict((task.result or {}).get("put_down", {}))
        return {}

    def _tell(self) -> None:
        if time.monotonic() - self._told > 2:
            self._running.report({"phase": "mark", "in_hand": []})
            self._told = time.monotonic()


def _dumps(table: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.filter(pc.starts_with(table.column("name"), f"{DUMPS}/")).to_pylist()
    return found


def _without_dumps(table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(pc.starts_with(table.column("name"), f"{DUMPS}/")))
