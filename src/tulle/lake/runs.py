"""A run: sorted rows of any number, kept as one range or as a tree of ranges under a metarange.

A run of at most 32,768 rows is one range, kept in a file of its own or inline in a commit's manifest; a larger
one is cut into ranges that a metarange lists. The base of a commit is always such a tree. `RunStore` writes and
opens the runs of one repository and keeps what it decoded. Knows nothing of commits or branches.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import pyarrow as pa
from blake3 import blake3

from tulle.errors import Broken
from tulle.lake import quarantine, ranges
from tulle.lake.blobs import Blobs
from tulle.lake.range_files import RangeFiles
from tulle.lake.ranges import EMPTY, Range, Row
from tulle.state.db import Database

T = TypeVar("T")

MAPPED_ROWS = 2048  # smaller ranges are decoded as quickly as they are mapped
AT_A_TIME = 8  # ranges written side by side


@dataclass(frozen=True, slots=True)
class RunRef:
    """Where a run is. `id` is its identity, `rows` how many it has, `deleted` how many of them are tombstones.

    place     the rows are in
    tree      ranges listed by the metarange `id`
    range     the range file `id`
    inline    `data`, in the file form of a range
    manifest  the manifest blob named `manifest`, as that commit's own delta
    """

    id: str
    rows: int
    deleted: int
    place: Literal["tree", "range", "inline", "manifest"]
    data: bytes = b""
    manifest: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain values; the inverse is `RunRef(**value)`."""
        value: dict[str, Any] = {
            "id": self.id,
            "rows": self.rows,
            "deleted": self.deleted,
            "place": self.place,
        }
        if self.data:
            value["data"] = self.data
        if self.manifest:
            value["manifest"] = self.manifest
        return value


class Run(Protocol):
    """Sorted rows that can be looked up and read in pieces."""

    def find(self, path: bytes) -> Row | None:
        """The row at exactly `path`."""
        ...

    def chunk(self, start: bytes, end: bytes | None, limit: int) -> tuple[Range, bytes | None]:
        """Some first rows with start ≤ path < end, at most `limit`, and where to go on.

        The second value is None when no more rows follow before `end`; else every row before it was given.
        """
        ...


class RangeRun:
    """A run in memory."""

    def __init__(self, content: Range) -> None:
        self.content = content

    def find(self, path: bytes) -> Row | None:
        """The row at exactly `path`."""
        return self.content.find(path)

    def chunk(self, start: bytes, end: bytes | None, limit: int) -> tuple[Range, bytes | None]:
        """Some first rows of the interval."""
        content = self.content
        low = content.seek(start) if start else 0
        high = content.rows if end is None else content.seek(end, low)
        if high - low > limit:
            return content.slice(low, low + limit), content.path(low + limit)
        return content.slice(low, high), None


@dataclass(frozen=True, slots=True)
class Metarange:
    """The ranges of a tree in order, by parallel sequences: name, first path, last path, rows."""

    ids: list[str]
    firsts: list[bytes]
    lasts: list[bytes]
    rows: list[int]

    def identity(self) -> str:
        """blake3 over the logical content, 64 hex digits."""
        hasher = blake3(b"tulle metarange 1")
        for id_, first, last, rows in zip(self.ids, self.firsts, self.lasts, self.rows, strict=True):
            for part in (bytes.fromhex(id_), first, last, rows.to_bytes(8, "little")):
                hasher.update(len(part).to_bytes(4, "little"))
                hasher.update(part)
        return str(hasher.hexdigest())

    def encode(self) -> bytes:
        """The file form: one Arrow IPC file, zstd level 1."""
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array([bytes.fromhex(i) for i in self.ids], pa.binary()),
                pa.array(self.firsts, pa.binary()),
                pa.array(self.lasts, pa.binary()),
                pa.array(self.rows, pa.int64()),
            ],
            names=["id", "first", "last", "rows"],
        )
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))
        with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())


def decode_metarange(data: bytes, name: str) -> Metarange:
    """Read the file form; `name` is for the message when it is damaged."""
    try:
        batch = pa.ipc.open_file(pa.BufferReader(data)).get_batch(0)
        ids, firsts, lasts, rows = (batch.column(n).to_pylist() for n in ("id", "first", "last", "rows"))
    except (pa.ArrowException, KeyError) as exc:
        raise Broken(f"metarange {name} cannot be read: {exc}") from exc
    return Metarange([i.hex() for i in ids], firsts, lasts, rows)


class TreeRun:
    """A run of many ranges; loads those it is asked about."""

    def __init__(self, metarange: Metarange, load: Callable[[str], Range]) -> None:
        self.metarange = metarange
        self.load = load

    def find(self, path: bytes) -> Row | None:
        """The row at exactly `path`."""
        number = bisect.bisect_left(self.metarange.lasts, path)
        if number == len(self.metarange.ids) or path < self.metarange.firsts[number]:
            return None
        return self.load(self.metarange.ids[number]).find(path)

    def chunk(self, start: bytes, end: bytes | None, limit: int) -> tuple[Range, bytes | None]:
        """Some first rows of the interval, never more than one range's."""
        metarange = self.metarange
        number = bisect.bisect_left(metarange.lasts, start)
        if number == len(metarange.ids) or (end is not None and metarange.firsts[number] >= end):
            return EMPTY, None
        rows, bound = RangeRun(self.load(metarange.ids[number])).chunk(start, end, limit)
        if bound is None and number + 1 < len(metarange.ids):
            following = metarange.firsts[number + 1]
            bound = following if end is None or following < end else None
        return rows, bound


class Cache(Generic[T]):
    """Values by name, the least recently used forgotten first when their weights exceed a capacity."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._weight = 0
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> T | None:
        """The value, or None when it is not kept."""
        with self._lock:
            found = self._values.get(name)
            if found is None:
                return None
            self._values.move_to_end(name)
            return found[0]

    def put(self, name: str, value: T, weight: int = 1) -> None:
        """Keep a value."""
        with self._lock:
            if name in self._values:
                self._weight -= self._values.pop(name)[1]
            self._values[name] = (value, weight)
            self._weight += weight
            while self._weight > self.capacity and len(self._values) > 1:
                self._weight -= self._values.popitem(last=False)[1][1]


class RunCaches:
    """What was decoded, shared by all repositories of a lake: names are hashes, so never stale."""

    def __init__(self, range_bytes: int = 256 * 1024 * 1024, files: RangeFiles | None = None) -> None:
        self.files = files  # ranges on this disk, uncompressed; shared by the processes of the machine
        self.ranges: Cache[Range] = Cache(range_bytes)
        self.metaranges: Cache[Metarange] = Cache(2_000_000)  # weighed in ranges listed
        self.manifests: Cache[Any] = Cache(64 * 1024 * 1024)


class RunStore:
    """The runs of one repository."""

    def __init__(
        self, blobs: Blobs, storage: str, caches: RunCaches, database: Database | None = None
    ) -> None:
        self._blobs = blobs
        self._storage = storage
        self._caches = caches
        self._database = database  # asked what a collection has in hand

    def write(self, content: Range, *, inline_bytes: int = 0) -> RunRef:
        """Keep sorted rows: inline when their file form is small enough, else durably in the store."""
        if content.rows > ranges.MAX_ROWS:
            writer = TreeWriter(self)
            writer.add(content)
            return writer.finish()
        id_ = ranges.identity(content)
        self._remember(id_, content)
        data = ranges.encode(content)
        deleted = int(content.deleted.sum())
        if len(data) <= inline_bytes:
            return RunRef(id_, content.rows, deleted, "inline", data)
        self._put(f"ranges/{id_}", data)
        return RunRef(id_, content.rows, deleted, "range")

    def write_chunks(self, chunks: Iterable[Range], *, inline_bytes: int = 0) -> RunRef:
        """Keep sorted rows that arrive in pieces, few of them in memory at a time."""
        pending: list[Range] = []
        rows = 0
        writer: TreeWriter | None = None
        for chunk in chunks:
            if writer is not None:
                writer.add(chunk)
                continue
            pending.append(chunk)
            rows += chunk.rows
            if rows > ranges.MAX_ROWS:
                writer = TreeWriter(self)
                for each in pending:
                    writer.add(each)
        if writer is not None:
            return writer.finish()
        return self.write(ranges.joined(pending), inline_bytes=inline_bytes)

    def open(self, ref: RunRef) -> RangeRun | TreeRun:
        """Open a run for reading. A ref with place `manifest` must be resolved to its inline form before."""
        if ref.place == "tree":
            return TreeRun(self.metarange(ref.id), self.range)
        if ref.place == "range":
            return RangeRun(self.range(ref.id))
        if ref.place == "inline":
            return RangeRun(self._inline(ref))
        raise Broken(f"run {ref.id} was not resolved before it was opened")

    def open_kept(self, ref: RunRef) -> RangeRun | None:
        """The run, when its rows are in memory already."""
        content = self._caches.ranges.get(ref.id) if ref.place != "tree" else None
        return None if content is None else RangeRun(content)

    def range(self, id_: str) -> Range:
        """One range."""
        content = self._caches.ranges.get(id_)
        if content is None:
            files = self._caches.files
            content = files.open(id_) if files is not None else None
            if content is None:
                content = self._loaded(id_)
                if files is None or content.rows < MAPPED_ROWS:
                    self._remember(id_, content)
                    return content
                content = files.keep(id_, content)
            self._caches.ranges.put(id_, content, 4 * content.rows + 2000)  # the rows are not on our heap
        return content

    def _loaded(self, id_: str) -> Range:
        name = self._name(f"ranges/{id_}")
        data = self._blobs.get(name)
        with _naming_damage("range", name):
            content = ranges.decode(data, id_)
            if not content.batch.schema.equals(ranges.SCHEMA) or ranges.identity(content) != id_:
                raise ValueError("other content")
        return content

    def metarange(self, id_: str) -> Metarange:
        """One metarange."""
        found = self._caches.metaranges.get(id_)
        if found is None:
            name = self._name(f"metaranges/{id_}")
            data = self._blobs.get(name)
            with _naming_damage("metarange", name):
                found = decode_metarange(data, id_)
                if found.identity() != id_:
                    raise ValueError("other content")
            self._caches.metaranges.put(id_, found, len(found.ids))
        return found

    def put_range(self, content: Range) -> str:
        """Keep one range in a file of its own and return its name."""
        id_ = ranges.identity(content)
        data = ranges.encode(content)
        self._put(f"ranges/{id_}", data)
        self._remember(id_, ranges.decode(data, id_))  # `content` is often a slice that holds on to much more
        return id_

    def put_metarange(self, metarange: Metarange) -> str:
        """Keep a metarange and return its name."""
        id_ = metarange.identity()
        self._put(f"metaranges/{id_}", metarange.encode())
        self._caches.metaranges.put(id_, metarange, len(metarange.ids))
        return id_

    def _inline(self, ref: RunRef) -> Range:
        content = self._caches.ranges.get(ref.id)
        if content is None:
            content = ranges.decode(ref.data, ref.id)
            self._remember(ref.id, content)
        return content

    def _remember(self, id_: str, content: Range) -> None:
        learned = 150 * content.rows if content.rows <= ranges.KNOWN_ROWS else 0  # once it is asked often
        self._caches.ranges.put(id_, content, content.batch.nbytes + 4 * content.rows + 1000 + learned)

    def _put(self, name: str, data: bytes) -> None:
        quarantine.reuse(
            self._database, self._blobs, self._name(name), data
        )  # equal names have equal content

    def put_shared(self, name: str, data: bytes) -> None:
        """Keep something else that is named by its content below the storage's `_tulle`."""
        self._put(name, data)

    def _name(self, name: str) -> str:
        return f"{self._storage}/_tulle/{name}"


@contextmanager
def _naming_damage(kind: str, name: str) -> Iterator[None]:
    """Whatever goes wrong while stored bytes are made sense of means one thing: they are not what was written."""
    try:
        yield
    except Exception as exc:
        raise Broken(
            f"a {kind} is damaged: {name} holds something else than when it was written ({exc})",
            hint="restore that object of the store from a copy; refs that do not need it are not affected",
        ) from exc


class TreeWriter:
    """Cuts sorted rows into ranges as they come. Between ranges, ranges that exist may be taken over whole."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._metarange = Metarange([], [], [], [])
        self._pending: list[Range] = []
        self._pending_rows = 0
        self._deleted = 0
        self._unwritten: list[tuple[int, Range]] = []

    @property
    def aligned(self) -> bool:
        """Whether all rows so far ended in complete ranges, as far as `cut` was called."""
        return not self._pending

    def add(self, rows: Range) -> None:
        """Rows that follow on those before."""
        if not rows.rows:
            return
        self._pending.append(rows)
        self._pending_rows += rows.rows
        self._deleted += int(rows.deleted.sum())
        if self._pending_rows > 2 * ranges.MAX_ROWS:
            self.cut()

    def take(self, source: Metarange, number: int) -> None:
        """Take over a complete range of another tree; only when `aligned`."""
        self._metarange.ids.append(source.ids[number])
        self._metarange.firsts.append(source.firsts[number])
        self._metarange.lasts.append(source.lasts[number])
        self._metarange.rows.append(source.rows[number])

    def cut(self) -> None:
        """Write every range that is complete."""
        rows = ranges.joined(self._pending)
        start = 0
        for stop in ranges.cuts(rows):
            self._write(rows.slice(start, stop))
            start = stop
        self._pending = [rows.slice(start, rows.rows)] if start < rows.rows else []
        self._pending_rows = rows.rows - start

    def finish(self) -> RunRef:
        """Write what is left and the metarange."""
        self.cut()
        for rest in self._pending:
            self._write(rest)
        self._pending = []
        self._flush()
        id_ = self._store.put_metarange(self._metarange)
        return RunRef(id_, sum(self._metarange.rows), self._deleted, "tree")

    def _write(self, content: Range) -> None:
        self._unwritten.append((len(self._metarange.ids), content))
        self._metarange.ids.append("")  # known when it is written
        self._metarange.firsts.append(content.path(0))
        self._metarange.lasts.append(content.path(content.rows - 1))
        self._metarange.rows.append(content.rows)
        if len(self._unwritten) >= AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        """Write ranges side by side: hashing, compressing, syncing and sending leave Python's lock to others."""
        contents = [content for _, content in self._unwritten]
        if len(contents) > 1:
            with ThreadPoolExecutor(len(contents), thread_name_prefix="lake-ranges") as pool:
                ids = list(pool.map(self._store.put_range, contents))
        else:
            ids = [self._store.put_range(content) for content in contents]
        for (number, _), id_ in zip(self._unwritten, ids, strict=True):
            self._metarange.ids[number] = id_
        self._unwritten = []
