"""Onboarding: existing objects become entries of a branch without being copied, by one commit.

An import is a durable task. It lists its sources and puts what it found down as sorted rows, noting now and then
how far it is; a crash costs the rows since the last note. Then one commit makes each destination hold exactly
what its source held. The commit's metadata names the import, so that an import taken up again after its commit
finds it. Sources are only read. Knows nothing of the doors it is asked through.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from tulle.errors import Denied, Invalid, NotFound, TulleError, from_dict
from tulle.lake.blobs import StoreBlobs
from tulle.lake.entry import (
    MAX_COMMIT_METADATA,
    MAX_PATH_BYTES,
    Commit,
    checked_date,
    checked_path,
    encode_metadata,
    encoded_text,
    successor,
)
from tulle.lake.listing import SCHEMA as LISTED
from tulle.lake.listing import LocalPlace, Oddities, Place, StorePlace
from tulle.lake.ranges import MAX_ROWS, SCHEMA, Range, row_of
from tulle.lake.repository import Lake, Repository
from tulle.lake.runs import Run
from tulle.lake.spool import Mark, Spool, opened, ranges_of
from tulle.state import tasks
from tulle.state.tasks import Handler, Running, Task

KIND = "import"
MARKER = "tulle-import"  # in the metadata of the commit, the id of the import
REPORT_SECONDS = 1.0
CHECKPOINT_SECONDS = 5.0
HEADS_AT_ONCE = 16
UNORDERED_ROWS = 1_000_000  # sorted at a time, where a store does not list in order


@dataclass(frozen=True, slots=True)
class Source:
    """What to import: an object to the path `destination`, or all below a prefix to below `destination`.

    `path` is a URL: `s3://…`, `gs://…`, `https://…`, `local:///folder`, or `lakefs://repository/ref/path` for
    what another repository (or this one) has committed. A prefix is a folder, with or without a slash at its end.
    """

    path: str
    destination: str
    type: Literal["common_prefix", "object"] = "common_prefix"


@dataclass(frozen=True, slots=True)
class ImportStatus:
    """How far an import is. `status` is waiting, running, done, failed or cancelled.

    `commit` is what the branch was on when it ended, `unchanged` says that this was so before. `update_time` is
    in seconds since the epoch.
    """

    id: str
    status: str
    completed: bool
    ingested_objects: int
    update_time: float
    commit: Commit | None = None
    unchanged: bool = False
    added: int = 0
    changed: int = 0
    removed: int = 0
    error: TulleError | None = None


def start(
    lake: Lake,
    repository: str,
    branch: str,
    sources: Sequence[Source],
    message: str,
    *,
    committer: str = "",
    metadata: Mapping[str, str] | None = None,
    date: float | None = None,
    actor: str = "",
    force: bool = False,
) -> str:
    """Ask for an import and return its id. Denied for a place that may not be read, Invalid, NotFound.

    What a `lakefs://` source names is fixed now. `date` is the commit's, in seconds since the epoch. `force` also
    writes to a read-only repository.
    """
    target = lake.repository(repository, actor=actor, force=force)
    target.demand_replaceable(branch)
    if not sources:
        raise Invalid("an import needs at least one source")
    if not message.strip():
        raise Invalid("a commit needs a message")
    encode_metadata(metadata, MAX_COMMIT_METADATA)
    request = {
        "repository": repository,
        "repository_id": target.record.id,
        "branch": branch,
        "sources": [_checked(lake, source) for source in sources],
        "message": message,
        "committer": committer or actor,
        "metadata": dict(metadata or {}),
        "date": checked_date(date),
        "force": force,
    }
    with lake.database.write() as cx:
        return tasks.ask(cx, KIND, repository, request, actor=actor)


def status(lake: Lake, repository: str, branch: str, id_: str) -> ImportStatus:
    """How far an import is. NotFound."""
    task = _found(lake, repository, branch, id_)
    result = task.result or {}
    commit = lake.repository(repository).commit_info(result["commit"]) if result else None
    return ImportStatus(
        id_,
        task.status,
        task.status == "done",
        int(result.get("ingested", task.progress.get("ingested", 0))),
        task.updated_at,
        commit,
        bool(result.get("unchanged")),
        int(result.get("added", 0)),
        int(result.get("changed", 0)),
        int(result.get("removed", 0)),
        from_dict(dict(task.error)) if task.error else None,
    )


def cancel(lake: Lake, repository: str, branch: str, id_: str) -> None:
    """Ask an import to end without a commit. NotFound; Conflict when it has ended."""
    _found(lake, repository, branch, id_)
    tasks.cancel(lake.database, id_)


def handlers(lake: Lake) -> dict[str, Handler]:
    """What a worker needs to run imports."""
    return {KIND: lambda running: _Import(lake, running).run()}


def _found(lake: Lake, repository: str, branch: str, id_: str) -> Task:
    task = tasks.get(lake.database, id_)
    if (task.kind, task.request["repository"], task.request["branch"]) != (KIND, repository, branch):
        raise NotFound(f"there is no import '{id_}' into branch '{branch}' of repository '{repository}'")
    if task.request["repository_id"] != lake.repository(repository).record.id:
        raise NotFound(f"import '{id_}' was into an earlier repository of the name '{repository}'")
    return task


# ── sources ──────────────────────────────────────────────────────────────────────────────────────────────


def _checked(lake: Lake, source: Source) -> dict[str, Any]:
    """A source as the task records it."""
    if source.type not in {"common_prefix", "object"}:
        raise Invalid(f"'{source.type}' is no type of source", hint="known: common_prefix, object")
    destination = source.destination
    if destination.startswith("/"):
        raise Invalid(f"destination '{destination}' must be relative to the branch", hint="without a slash")
    if source.type == "object":
        checked_path(destination)
    else:
        destination = _folder(destination)
        encoded_text(destination)
    checked = {**asdict(source), "destination": destination}
    if source.path.startswith("lakefs://"):
        name, ref, prefix = lake_url(source.path)
        checked["commit"] = lake.repository(name).resolve(ref)
        checked["path"] = prefix
        checked["repository"] = name
        return checked
    demand_outside(lake, source.path)
    return checked


def demand_outside(lake: Lake, url: str) -> None:
    """Denied unless a URL is of a place outside of the lake that the mesh allows."""
    scheme, mark, rest = url.partition("://")
    if not mark or not rest or any(ord(character) < 32 for character in url):
        raise Invalid(f"'{url}' is no URL of a place", hint="for example s3://bucket/folder/")
    lake.stores.demand(url.rstrip("/"))
    plain = f"{scheme}://{posixpath.normpath(rest)}/"
    places = [(plain, lake.stores.namespace, lake.stores.allowed)]
    if scheme == "local":  # what a link in the way leads to counts as well
        real = [_real(place) for place in lake.stores.allowed if place.startswith("local://")]
        places.append((_real(plain), _real(lake.stores.namespace), tuple(real)))
    for place, namespace, allowed in places:
        own = namespace.rstrip("/") + "/"
        if (place.startswith(own) or own.startswith(place)) and own != "memory:///":
            raise Denied(
                f"'{url}' is where the lake itself keeps its objects",
                hint="name what a repository holds as lakefs://repository/ref/path",
            )
        if not place.startswith(allowed):
            raise Denied(f"'{url}' leads through a link to a place this mesh may not use")


def _real(url: str) -> str:
    if not url.startswith("local://"):
        return url
    return "local://" + os.path.realpath(url.removeprefix("local://")).rstrip("/") + "/"


def lake_url(url: str) -> tuple[str, str, str]:
    """Repository, ref and path of a `lakefs://` URL. Invalid."""
    name, _, rest = url.removeprefix("lakefs://").partition("/")
    ref, _, prefix = rest.partition("/")
    if not name or not ref:
        raise Invalid(f"'{url}' names no ref", hint="lakefs://repository/ref/path")
    return name, ref, prefix


def _folder(text: str) -> str:
    return text if not text or text.endswith("/") else text + "/"


def open_place(lake: Lake, url: str, oddities: Oddities) -> Place:
    """A place outside of the lake, to be listed. Denied unless it is allowed."""
    demand_outside(lake, url)
    if url.startswith("local://"):
        return LocalPlace(Path(url.removeprefix("local://")), oddities)
    blobs = lake.external_blobs(url)
    assert isinstance(blobs, StoreBlobs)
    return StorePlace(blobs, url, oddities)


class _Feed:
    """The rows of one source, or of all single objects, as they are to be on the branch, in path order."""

    def __init__(self, lake: Lake, target: Repository, oddities: Oddities) -> None:
        self._lake = lake
        self._storage = target.record.storage
        self._oddities = oddities

    def prefix(self, source: Mapping[str, Any], after: bytes) -> Iterator[Range]:
        """Everything below a prefix whose path comes after another."""
        destination = encoded_text(source["destination"])
        if "commit" in source:
            yield from self._of_repository(source, destination, after)
            return
        place = open_place(self._lake, source["path"], self._oddities)
        for batch in place.batches(after[len(destination) :]):
            yield rows_of(batch, destination, self._oddities)

    def objects(self, sources: Sequence[Mapping[str, Any]], after: bytes) -> Iterator[Range]:
        """Single objects whose path comes after another; of several for one path the last one counts."""
        newest = {encoded_text(source["destination"]): source for source in sources}
        paths = sorted(path for path in newest if path > after)
        places: dict[str, Place] = {}
        with ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="import") as pool:
            for first in range(0, len(paths), MAX_ROWS):
                some = paths[first : first + MAX_ROWS]
                for path in some:  # opened here, one after the other
                    folder = posixpath.dirname(newest[path]["path"])
                    if "commit" not in newest[path] and folder not in places:
                        places[folder] = open_place(self._lake, folder, self._oddities)
                yield Range.of(list(pool.map(lambda path: self._row(path, newest[path], places), some)))

    def _row(self, path: bytes, source: Mapping[str, Any], places: Mapping[str, Place]) -> Any:
        if "commit" in source:
            origin = self._lake.repository(source["repository"])
            entry = origin.stat(source["commit"], source["path"])
            address = _address(entry.address, origin.record.storage, self._storage)
            row = row_of(entry)
            return (path, address, *row[2:])
        folder, _, name = source["path"].rpartition("/")
        found = places[folder].one(name)
        return (path, found["address"], found["size"], b"", found["etag"], found["modified"], "", "", False)

    def _of_repository(self, source: Mapping[str, Any], destination: bytes, after: bytes) -> Iterator[Range]:
        origin = self._lake.repository(source["repository"])
        prefix = encoded_text(_folder(source["path"]))
        start = prefix + after[len(destination) :] + b"\0" if after else prefix
        view = origin.reader.content(source["commit"]).view
        for chunk in view.chunks(start, successor(prefix)):
            columns = list(chunk.batch.columns)
            # As text: Arrow's slicing of binary values fails on parts of a batch.
            below = pc.utf8_slice_codeunits(columns[0].cast(pa.string()), len(prefix.decode()))
            below = below.cast(pa.binary())
            columns[0] = pc.binary_join_element_wise(destination, below, b"")
            columns[1] = _addresses(columns[1], origin.record.storage, self._storage)
            batch = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
            yield Range(_fitting(batch, 0, self._oddities))


def rows_of(batch: pa.RecordBatch, destination: bytes, oddities: Oddities) -> Range:
    """A batch of a listing as rows below a destination."""
    columns = {name: batch.column(name) for name in LISTED.names}
    count = batch.num_rows
    columns["path"] = pc.binary_join_element_wise(destination, columns.pop("key"), b"")
    for field_ in SCHEMA:
        if field_.name not in columns:
            nothing = pa.scalar(
                False if field_.name == "deleted" else b"",
                pa.bool_() if field_.name == "deleted" else pa.binary(),
            )
            columns[field_.name] = pa.repeat(nothing, count).cast(field_.type)
    whole = pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    return Range(_fitting(whole, 0, oddities))


def _fitting(batch: pa.RecordBatch, column: int, oddities: Oddities) -> pa.RecordBatch:
    """The rows whose path may be one."""
    lengths = pc.binary_length(batch.column(column))
    if not batch.num_rows or 0 < pc.min(lengths).as_py() <= pc.max(lengths).as_py() <= MAX_PATH_BYTES:
        return batch
    wrong = pc.or_(pc.greater(lengths, MAX_PATH_BYTES), pc.equal(lengths, 0))
    for path in batch.column(column).filter(wrong).to_pylist():
        oddities.note(f"name(s) longer than {MAX_PATH_BYTES} bytes", path)
    return batch.filter(pc.invert(wrong))


def _address(address: str, origin: str, target: str) -> str:
    return str(_addresses(pa.array([address]), origin, target)[0].as_py())


def _addresses(addresses: pa.Array, origin: str, target: str) -> pa.Array:
    """Addresses of one storage as another one names them."""
    if origin == target:
        return addresses
    relative = pc.starts_with(addresses, "data/")
    elsewhere = pc.if_else(relative, pc.binary_join_element_wise(f"lake:{origin}", addresses, "/"), addresses)
    home = f"lake:{target}/"
    if not pc.any(pc.starts_with(elsewhere, home)).as_py():
        return elsewhere
    return pc.if_else(
        pc.starts_with(elsewhere, home), pc.utf8_slice_codeunits(elsewhere, len(home)), elsewhere
    )


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Line:
    """One sorted listing under way: a prefix, or all single objects."""

    sources: list[Mapping[str, Any]]
    done: bool = False
    trees: list[str] = field(default_factory=list)
    mark: Mark = field(default_factory=Mark)

    def as_dict(self) -> dict[str, Any]:
        mark = {"tree": self.mark.tree, "rows": self.mark.rows, "last": self.mark.last.decode()}
        return {"done": self.done, "trees": self.trees, "mark": mark}

    def go_on(self, known: Mapping[str, Any]) -> None:
        mark = known["mark"]
        self.done, self.trees = known["done"], list(known["trees"])
        self.mark = Mark(mark["tree"], mark["rows"], mark["last"].encode())


class _Import:
    """One import in its worker's hands."""

    def __init__(self, lake: Lake, running: Running) -> None:
        request, progress = running.task.request, running.task.progress
        self._running = running
        self._request = request
        self._branch: str = request["branch"]
        self._target = lake.repository(
            request["repository"], actor=running.task.actor, force=bool(request["force"])
        )
        if self._target.record.id != request["repository_id"]:
            raise NotFound(f"repository '{request['repository']}' was deleted")
        self._store = self._target.reader.runs
        self._oddities = Oddities(**progress["oddities"]) if "oddities" in progress else Oddities()
        self._feed = _Feed(lake, self._target, self._oddities)
        self._before: str = progress.get("before") or self._target.branch(self._branch).commit_id
        self._lines = _lines(request["sources"])
        for line, known in zip(self._lines, progress.get("lines", ()), strict=False):
            line.go_on(known)
        self._ingested = 0
        self._reported = self._marked = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Do what is still to be done and tell how it ended."""
        published = self._published()
        if published is not None:
            count = int(self._running.task.progress.get("ingested", 0))
            return {"commit": published.id, "unchanged": False, "ingested": count}
        self._report()
        for line in self._lines:
            if not line.done:
                self._list(line)
        names = ", ".join(source["path"] for source in self._request["sources"][:3])
        self._oddities.refuse(f"what is at {names}")
        self._report()
        metadata = {**self._request["metadata"], MARKER: self._running.task.id}
        prefixes = [s["destination"] for s in self._request["sources"] if s["type"] == "common_prefix"]
        ended = self._target.replace_runs(
            self._branch,
            self._wanted(),
            prefixes,
            self._request["message"],
            committer=self._request["committer"],
            metadata=metadata,
            date=self._request["date"],
            step=self._tell,
        )
        return {
            "commit": ended.commit.id,
            "unchanged": ended.unchanged,
            "ingested": self._count(),
            "added": ended.added,
            "changed": ended.changed,
            "removed": ended.removed,
        }

    def _published(self) -> Commit | None:
        """The commit of this import, if an attempt before this one came so far."""
        if self._running.task.attempts < 2:
            return None
        commit = self._target.commit_info(f"{self._branch}@")
        oldest = self._target.commit_info(self._before).generation
        while commit.generation > oldest:
            if commit.metadata.get(MARKER) == self._running.task.id:
                return commit
            commit = self._target.commit_info(commit.parents[0])
        return None

    def _list(self, line: _Line) -> None:
        single = line.sources[0]["type"] == "object"
        after = line.mark.last
        rows = (
            self._feed.objects(line.sources, after) if single else self._feed.prefix(line.sources[0], after)
        )
        spool = Spool(self._store, line.mark, self._known())
        last = after
        for chunk in rows:
            if not chunk.rows:
                continue
            if not _is_sorted(chunk) or chunk.path(0) <= last:
                self._list_unordered(line)
                return
            last = chunk.path(chunk.rows - 1)
            spool.add(chunk)
            self._ingested = spool.rows
            if time.monotonic() - self._marked > CHECKPOINT_SECONDS:
                line.mark = spool.checkpoint()
                self._report()
                self._marked = time.monotonic()
            self._tell()
        self._end(line, [spool.end()], spool.rows)

    def _list_unordered(self, line: _Line) -> None:
        """The same for a store that does not list in order: from the beginning, sorted piece by piece."""
        trees: list[str] = []
        pending: list[pa.RecordBatch] = []
        rows = 0

        def put_down() -> None:
            if pending:
                spool = Spool(self._store)
                for batch in _in_order(pending).to_batches(max_chunksize=MAX_ROWS):
                    spool.add(Range(batch))
                trees.append(spool.end())
                pending.clear()

        for chunk in self._feed.prefix(line.sources[0], b""):
            pending.append(chunk.batch)
            rows += chunk.rows
            self._ingested = rows
            if sum(batch.num_rows for batch in pending) >= UNORDERED_ROWS:
                put_down()
            self._tell()
        put_down()
        self._end(line, trees, rows)

    def _end(self, line: _Line, trees: list[str], rows: int) -> None:
        line.trees, line.mark, line.done = trees, Mark("", rows), True
        self._ingested = 0
        self._report()

    def _known(self) -> frozenset[str]:
        """The ranges of the branch: on a second import most are met again."""
        head = self._target.reader.content(self._target.resolve(f"{self._branch}@"))
        return ranges_of(head.view.runs)

    def _wanted(self) -> list[Run]:
        return [opened(self._store, name) for line in self._lines for name in line.trees]

    def _count(self) -> int:
        return sum(line.mark.rows for line in self._lines if line.done) + self._ingested

    def _tell(self) -> None:
        if time.monotonic() - self._reported > REPORT_SECONDS:
            self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        self._running.report(
            {
                "before": self._before,
                "ingested": self._count(),
                "lines": [line.as_dict() for line in self._lines],
                "oddities": asdict(self._oddities),
            }
        )


def _lines(sources: Sequence[Mapping[str, Any]]) -> list[_Line]:
    prefixes = [_Line([source]) for source in sources if source["type"] == "common_prefix"]
    objects = [source for source in sources if source["type"] == "object"]
    return [*prefixes, _Line(objects)] if objects else prefixes


def _in_order(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Rows sorted by path, of each path one."""
    table = pa.Table.from_batches(batches).sort_by("path").combine_chunks()
    paths = table.column("path")
    differs = pc.not_equal(paths.slice(1), paths.slice(0, len(table) - 1))
    return table.filter(pa.chunked_array([pa.array([True]), *differs.chunks]))


def _is_sorted(rows: Range) -> bool:
    paths = rows.batch.column(0)
    return rows.rows < 2 or bool(pc.all(pc.less(paths.slice(0, rows.rows - 1), paths.slice(1))).as_py())
