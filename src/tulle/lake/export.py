"""Exporting what a ref holds to a plain folder or prefix, where anything can read it.

An export is a durable task. At the destination it keeps a small object that says which commit is there; exported
again, only what differs from that commit is copied. That object is written last and says so while an export is
under way, so a reader knows whether what it sees is whole. Every copy is checked against what was committed. What
is there beside is never touched. Knows nothing of the doors it is asked through.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy import select

from tulle.errors import Broken, Conflict, NotFound, TulleError, from_dict
from tulle.lake.blobs import StoreBlobs, raise_disk_error
from tulle.lake.entry import Entry, encoded_text, successor
from tulle.lake.listing import Oddities
from tulle.lake.onboard import demand_outside, open_place
from tulle.lake.repository import Lake
from tulle.lake.view import View
from tulle.state import tasks
from tulle.state.db import in_turn, now
from tulle.state.tables import tasks as task_table
from tulle.state.tasks import Handler, Running, Task

KIND = "export"
STATE = "_tulle_export.json"
FORMAT = "tulle export 1"
AT_ONCE = 8
MAX_NAME = 255  # bytes of a name on the disks there are
BATCH = 64  # copied between two notes of how far it is


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """How far an export of commit `commit_id` is. `status` is waiting, running, done, failed or cancelled.

    `copied` and `deleted` count objects, `copied_bytes` their bytes; `kept` is what is gone from the commit but was
    left at the destination. `update_time` is in seconds since the epoch.
    """

    id: str
    status: str
    completed: bool
    commit_id: str
    destination: str
    copied: int
    copied_bytes: int
    deleted: int
    kept: int
    update_time: float
    error: TulleError | None = None


def start(
    lake: Lake,
    repository: str,
    ref: str,
    destination: str,
    *,
    prefix: str = "",
    delete: bool = False,
    check: bool = False,
    actor: str = "",
) -> str:
    """Ask for an export of what `ref` has committed under a folder, and return its id.

    `destination` is a URL the mesh allows, outside of the lake's own places (Denied). With `delete`, what the
    export before put there and the commit has no more is removed. With `check`, everything that should be there
    already is looked at, and copied again where it is missing or has another size. Conflict while another export
    to the same place is under way.
    """
    origin = lake.repository(repository, actor=actor)
    demand_outside(lake, destination)
    prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
    encoded_text(prefix)
    ours = destination.rstrip("/") + "/"
    request = {
        "repository": repository,
        "repository_id": origin.record.id,
        "commit": origin.resolve(ref),
        "prefix": prefix,
        "destination": ours[:-1],
        "delete": delete,
        "check": check,
    }
    with lake.database.write() as cx:
        in_turn(cx, KIND)
        query = select(task_table.c.id, task_table.c.request).where(
            task_table.c.kind == KIND, task_table.c.status.in_(["waiting", "running"])
        )
        for other in cx.execute(query):
            theirs = other.request["destination"] + "/"
            if ours.startswith(theirs) or theirs.startswith(ours):
                raise Conflict(
                    f"an export to '{other.request['destination']}' is under way ({other.id})",
                    hint="wait for it, or cancel it",
                )
        return tasks.ask(cx, KIND, repository, request, actor=actor)


def status(lake: Lake, repository: str, id_: str) -> ExportStatus:
    """How far an export is. NotFound."""
    task = _found(lake, repository, id_)
    numbers = task.result or task.progress
    return ExportStatus(
        id_,
        task.status,
        task.status == "done",
        task.request["commit"],
        task.request["destination"],
        int(numbers.get("copied", 0)),
        int(numbers.get("copied_bytes", 0)),
        int(numbers.get("deleted", 0)),
        int(numbers.get("kept", 0)),
        task.updated_at,
        from_dict(dict(task.error)) if task.error else None,
    )


def cancel(lake: Lake, repository: str, id_: str) -> None:
    """Ask an export to end where it is. NotFound; Conflict when it has ended."""
    _found(lake, repository, id_)
    tasks.cancel(lake.database, id_)


def handlers(lake: Lake) -> dict[str, Handler]:
    """What a worker needs to run exports."""
    return {KIND: lambda running: _Export(lake, running).run()}


def _found(lake: Lake, repository: str, id_: str) -> Task:
    task = tasks.get(lake.database, id_)
    if task.kind != KIND or task.request["repository_id"] != lake.repository(repository).record.id:
        raise NotFound(f"there is no export '{id_}' of repository '{repository}'")
    return task


# ── destinations ─────────────────────────────────────────────────────────────────────────────────────────


class Target(Protocol):
    """A place that is written to. Paths are relative and plain."""

    def put(self, path: str, data: Iterable[bytes]) -> None:
        """Write an object, in place of what is there."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object; no error when there is none."""
        ...

    def get(self, path: str) -> bytes | None:
        """An object's bytes, or None when there is none."""
        ...

    def settle(self) -> None:
        """Make everything durable that was written or removed."""
        ...


class LocalTarget:
    """A folder of this machine. Symbolic links in it are never followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._touched: set[str] = set()

    def put(self, path: str, data: Iterable[bytes]) -> None:
        """Write beside, sync, rename into place."""
        with self._parent(path, make=True) as (parent, name):
            temporary = f".tulle-{uuid4().hex}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            try:
                with open(os.open(temporary, flags, 0o644, dir_fd=parent), "wb") as stream:  # noqa: PTH123
                    stream.writelines(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def delete(self, path: str) -> None:
        """Remove a file, and the folders that are empty then."""
        try:
            with self._parent(path) as (parent, name):
                os.unlink(name, dir_fd=parent)
        except NotFound:
            return
        folder = path.rpartition("/")[0]
        while folder:
            try:
                with self._parent(folder) as (parent, name):
                    os.rmdir(name, dir_fd=parent)
            except TulleError:
                return  # not empty
            folder = folder.rpartition("/")[0]

    def get(self, path: str) -> bytes | None:
        """Read a file."""
        try:
            with self._parent(path) as (parent, name):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
                with open(file, "rb") as stream:  # noqa: PTH123  by descriptor
                    return stream.read()
        except NotFound:
            return None

    def settle(self) -> None:
        """Sync the folders."""
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self._touched | {""}):
                with (
                    contextlib.suppress(NotFound),
                    self._parent(f"{folder}/x" if folder else "x") as (parent, _),
                ):
                    os.fsync(parent)
        self._touched.clear()

    @contextlib.contextmanager
    def _parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder a path is in, opened step by step, and the path's last name."""
        *folders, name = path.split("/")
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            if make:
                self._folder.mkdir(parents=True, exist_ok=True)
            opened = os.open(self._folder, flags)
            try:
                for folder in folders:
                    if make:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(folder, dir_fd=opened)
                            self._touched.add("/".join(folders))
                    below = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=opened)
                    os.close(opened)
                    opened = below
                self._touched.update("/".join(folders[:depth]) for depth in range(len(folders) + 1))
                yield opened, name
            finally:
                os.close(opened)
        except FileNotFoundError:
            raise NotFound(f"there is no {self._folder}/{path}") from None
        except NotADirectoryError:
            raise Conflict(
                f"{self._folder}/{path} cannot be written: a file or a link is where a folder is needed"
            ) from None
        except OSError as exc:
            raise_disk_error(exc, self._folder / path)


class StoreTarget:
    """A prefix of an object store."""

    def __init__(self, blobs: StoreBlobs) -> None:
        self._blobs = blobs

    def put(self, path: str, data: Iterable[bytes]) -> None:
        """Upload an object."""
        self._blobs.replace(path, data)

    def delete(self, path: str) -> None:
        """Remove an object."""
        self._blobs.delete(path)

    def get(self, path: str) -> bytes | None:
        """Read an object."""
        try:
            return self._blobs.get(path)
        except NotFound:
            return None

    def settle(self) -> None:
        """What an object store has accepted is durable."""


def open_target(lake: Lake, url: str) -> Target:
    """A place outside of the lake, to be written to. Denied unless it is allowed."""
    demand_outside(lake, url)
    if url.startswith("local://"):
        return LocalTarget(Path(url.removeprefix("local://")))
    blobs = lake.external_blobs(url)
    assert isinstance(blobs, StoreBlobs)
    return StoreTarget(blobs)


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────

Work = tuple[str, Entry | None]  # a path at the destination, and what it is to hold; None where it goes


class _Export:
    """One export in its worker's hands."""

    def __init__(self, lake: Lake, running: Running) -> None:
        request = running.task.request
        self._lake = lake
        self._running = running
        self._origin = lake.repository(request["repository"])
        if self._origin.record.id != request["repository_id"]:
            raise NotFound(f"repository '{request['repository']}' was deleted")
        self._commit: str = request["commit"]
        self._prefix: str = request["prefix"]
        self._url: str = request["destination"]
        self._delete: bool = request["delete"]
        self._check: bool = request["check"]
        self._target = open_target(lake, self._url)
        self._progress: dict[str, Any] = {"last": "", "copied": 0, "copied_bytes": 0, "deleted": 0, "kept": 0}
        self._progress.update(running.task.progress)

    def run(self) -> dict[str, Any]:
        """Do what is still to be done and tell how it ended."""
        self._running.report(self._progress)
        known = self._known()
        before = known.get("commit") if known else None
        unfinished = [id_ for id_ in (known or {}).get("unfinished", ()) if id_ != self._commit]
        if before == self._commit and not known.get("unfinished") and not self._check:
            return self._ended()
        last, self._progress["last"] = self._progress["last"], ""
        self._refuse_odd_names(self._work(before, unfinished))
        started = self._running.task.attempts > 1 and self._commit in (known or {}).get("unfinished", ())
        if started:
            self._progress["last"] = last
        else:  # from here on what is there is not whole
            self._write_state(before, [*unfinished, self._commit])
        work = self._work(before, unfinished)
        if self._check:
            work = _joined(work, self._missing())
        self._copy(work)
        self._target.settle()
        self._write_state(self._commit, [])
        return self._ended()

    def _ended(self) -> dict[str, Any]:
        return {**self._progress, "commit": self._commit}

    def _known(self) -> dict[str, Any]:
        """What the destination says is there. Conflict when that is something else's export."""
        data = self._target.get(STATE)
        if data is None:
            return {}
        try:
            known = json.loads(data)
            ours = (FORMAT, self._origin.record.storage, self._prefix)
            theirs = (known["format"], known["storage"], known["prefix"])
        except (ValueError, KeyError, TypeError):
            ours, theirs, known = ("", "", ""), None, {}
        if theirs != ours:
            what = f"repository '{known.get('repository')}'" if known else "something unknown"
            raise Conflict(
                f"'{self._url}' holds an export of {what}, prefix '{known.get('prefix', '')}'",
                hint=f"choose another place, or remove {STATE} there to have all of it written anew",
            )
        try:
            for id_ in filter(None, [known.get("commit"), *known["unfinished"]]):
                self._origin.commit_info(id_)
        except NotFound:
            return {}  # of a history that is gone
        return dict(known)

    def _write_state(self, commit: str | None, unfinished: Sequence[str]) -> None:
        state = {
            "format": FORMAT,
            "repository": self._origin.name,
            "storage": self._origin.record.storage,
            "prefix": self._prefix,
            "commit": commit,
            "complete": not unfinished,
            "unfinished": list(dict.fromkeys(unfinished)),
            "written_at": now(),
        }
        self._target.put(STATE, [json.dumps(state, indent=1).encode() + b"\n"])
        self._target.settle()

    def _refuse_odd_names(self, work: Iterator[Work]) -> None:
        """Before anything is written: every path must be one a folder can hold."""
        oddities = Oddities()
        names = _Names(self._origin.reader.content(self._commit).view, self._prefix, self._url, oddities)
        reported = time.monotonic()
        for path, entry in work:
            if entry is not None:
                names.check(path)
            if time.monotonic() - reported > 1:
                self._running.report(self._progress)
                reported = time.monotonic()
        oddities.refuse(f"what commit {self._commit[:12]} holds")

    def _work(self, before: str | None, unfinished: Sequence[str]) -> Iterator[Work]:
        if before is None:
            return self._everything()
        return self._changes(before, [*unfinished, self._commit])

    def _everything(self) -> Iterator[Work]:
        view = self._origin.reader.content(self._commit).view
        prefix, last = encoded_text(self._prefix), self._progress["last"]
        for entry in view.entries(prefix, encoded_text(self._prefix + last) if last else b""):
            yield entry.path[len(self._prefix) :], entry

    def _changes(self, before: str, later: Sequence[str]) -> Iterator[Work]:
        """What differs at any path that exports since commit `before` may have written."""
        reader, prefix, last = self._origin.reader, encoded_text(self._prefix), self._progress["last"]
        after = encoded_text(self._prefix + last) if last else b""
        view = reader.content(self._commit).view
        sides = [(c.path for c in reader.changes(before, id_, prefix, after)) for id_ in later]
        previous = ""
        for path in heapq.merge(*sides, key=str.encode):
            if path != previous:
                yield path[len(self._prefix) :], view.find(path.encode())
            previous = path

    def _missing(self) -> Iterator[Work]:
        """What should be at the destination and is not, or has another size."""
        try:
            listed = self._listed()
            first = next(listed, None)
        except NotFound:
            listed, first = iter(()), None
        for path, entry in self._everything():
            key = path.encode()
            while first is not None and first[0] < key:
                first = next(listed, None)
            if entry is not None and (first is None or first != (key, entry.size)):
                yield path, entry

    def _listed(self) -> Iterator[tuple[bytes, int]]:
        place = open_place(self._lake, self._url, Oddities())
        for batch in place.batches(self._progress["last"].encode()):
            yield from zip(batch.column("key").to_pylist(), batch.column("size").to_pylist(), strict=True)

    def _copy(self, work: Iterator[Work]) -> None:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="export") as pool:
            while batch := list(islice(work, BATCH)):
                for path, entry in batch:
                    if entry is not None:
                        self._progress["copied_bytes"] += entry.size
                        self._progress["copied"] += 1
                    else:
                        self._progress["deleted" if self._delete else "kept"] += 1
                        if self._delete:
                            self._target.delete(path)
                list(pool.map(self._put, batch))
                self._target.settle()
                self._progress["last"] = batch[-1][0]
                self._running.report(self._progress)

    def _put(self, work: Work) -> None:
        path, entry = work
        if entry is not None:
            self._target.put(path, self._read(entry))

    def _read(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of an entry; Broken when they are not what was committed, before the target has all of them."""
        sha, size = hashlib.sha256(), 0
        for chunk in self._origin.writer.read(entry):
            sha.update(chunk)
            size += len(chunk)
            yield chunk
        if size != entry.size:
            raise Broken(f"'{entry.path}' has {size} bytes in the store, {entry.size} were committed")
        if entry.checksum and sha.hexdigest() != entry.checksum:
            raise Broken(f"'{entry.path}' has another SHA-256 in the store than was committed")


class _Names:
    """Tells which paths of a commit no folder can hold."""

    def __init__(self, view: View, prefix: str, url: str, oddities: Oddities) -> None:
        self._view = view
        self._prefix = prefix
        self._is_local = url.startswith("local://")
        self._oddities = oddities
        self._folder = ""

    def check(self, path: str) -> None:
        """Note what is odd about a path below the prefix."""
        parts = path.split("/")
        if path == STATE or any(part in {"", ".", ".."} for part in parts):
            self._oddities.note("path(s) that no folder can hold", path)
        elif self._is_local:
            if max(len(part.encode()) for part in parts) > MAX_NAME:
                self._oddities.note(f"path(s) with a name longer than {MAX_NAME} bytes", path)
            if self._is_folder(path):
                self._oddities.note("path(s) with others below them", path)
            folder = path.rpartition("/")[0]
            if folder != self._folder:
                self._folder = folder
                for depth in range(1, len(parts)):
                    if self._view.find((self._prefix + "/".join(parts[:depth])).encode()) is not None:
                        self._oddities.note("path(s) below another object", path)

    def _is_folder(self, path: str) -> bool:
        below = f"{self._prefix}{path}/".encode()
        return any(run.chunk(below, successor(below), 1)[0].rows for run in self._view.runs) and bool(
            next(self._view.chunks(below, successor(below), rows=16), None)
        )


def _joined(*sides: Iterator[Work]) -> Iterator[Work]:
    """Work in path order, each path once."""
    previous = None
    for path, entry in heapq.merge(*sides, key=lambda work: work[0].encode()):
        if path != previous:
            yield path, entry
        previous = path
