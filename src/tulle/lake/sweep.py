"""Sweeping one storage: what nothing names is put down as a candidate, and removed when it was one for long.

Whoever calls says what is named; why candidates may be removed is in docs/decisions/collection.md. Looks only
where the lake itself puts things, and not into the storages of others that lie within. Knows neither
repositories nor rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from tulle.errors import NotFound
from tulle.lake import quarantine
from tulle.lake.blobs import BlobInfo, Blobs
from tulle.lake.quarantine import Names, key
from tulle.lake.repository import Lake
from tulle.state import tasks
from tulle.state.tables import lake_storages
from tulle.state.tasks import Running

T = TypeVar("T")

Previous = tuple[Names, np.ndarray[Any, np.dtype[np.float64]]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

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


class Sweep:
    """One storage in the hands of a task that began at a time.

    `nested` are the folders in it that are storages of others; `label` goes before the names in tallies.
    """

    def __init__(
        self,
        running: Running,
        blobs: Blobs,
        storage: str,
        *,
        began: float,
        grace_seconds: float,
        dry_run: bool,
        folders: Sequence[str] = FOLDERS,
        nested: Sequence[str] = (),
        label: str = "",
    ) -> None:
        self._running = running
        self._blobs = blobs
        self._storage = storage
        self._began = began
        self._young = began - grace_seconds  # what is younger is left alone
        self._dry_run = dry_run
        self._folders = folders
        self._nested = tuple(nested)
        self._label = label

    def candidates(
        self, named: Callable[[Sequence[str]], Mask], previous: Previous, *, step: Callable[[], None]
    ) -> pa.Table:
        """Every blob older than the grace that is not `named`, and since when it is known so."""
        numbers, since = previous
        batches: list[pa.RecordBatch] = []
        for blobs in _batched(self._listed(), 50_000):
            step()
            names = [blob.path.removeprefix(f"{self._storage}/") for blob in blobs]
            free = np.flatnonzero(~named(names))
            own = numbers_of([names[n] for n in free])
            at = np.searchsorted(numbers, own)
            known = np.zeros(len(free), dtype=bool)
            inside = at < len(numbers)
            known[inside] = numbers[at[inside]] == own[inside]
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

    def put_down(self, candidates: pa.Table) -> str:
        """Keep candidates for the next collection; the name they are kept under."""
        name = f"_tulle/collections/{self._running.task.id}.{uuid4().hex[:8]}"
        self._blobs.put(f"{self._storage}/{name}", _encoded(candidates))
        return name

    def due(self, candidates: pa.Table) -> pa.ChunkedArray:
        """For each candidate whether it has been one for as long as the grace."""
        return pc.less_equal(candidates.column("since"), self._young)

    def remove(self, due: pa.Table) -> dict[str, Tally]:
        """Remove candidates, but what was made young again; what was removed, in a dry run what would be."""
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
                _count(
                    removed, (row for row, is_gone in zip(some, gone, strict=True) if is_gone), self._label
                )
        if not self._dry_run:
            self._running.report({"phase": "end", "in_hand": []})
        return removed

    def forget(self, newest: str) -> None:
        """Remove the candidates of earlier collections."""
        for blob in list(self._blobs.list(f"{self._storage}/_tulle/collections")):
            if blob.path != f"{self._storage}/{newest}" and blob.modified < self._young:
                self._blobs.delete(blob.path)

    def tallies(self, candidates: pa.Table) -> dict[str, Tally]:
        """Candidates by kind."""
        found: dict[str, Tally] = {}
        for batch in candidates.to_batches():
            _count(found, batch.to_pylist(), self._label)
        return found

    def _listed(self) -> Iterator[BlobInfo]:
        others = tuple(f"{self._storage}/{folder}/" for folder in self._nested)
        for folder in self._folders:
            for blob in self._blobs.list(f"{self._storage}/{folder}"):
                if blob.modified <= self._young and not blob.path.startswith(others or "\0"):
                    yield blob

    def _removed(self, path: str, until: float) -> bool:
        try:
            if self._blobs.stat(path).modified > self._young:
                return False  # somebody named it anew
        except NotFound:
            return False
        if time.monotonic() > until:
            return False  # our word may have lapsed: the next collection removes it
        self._blobs.delete(path)
        return True


def numbers_of(names: Sequence[str]) -> Names:
    """The numbers that stand for names."""
    return np.fromiter(map(key, names), dtype=np.uint64, count=len(names))


def put_down_before(blobs: Blobs, storage: str, name: str) -> Previous:
    """What a collection put down under a name: candidates by number, in order, and since when each is one."""
    if name:
        try:
            table = quarantine.load(blobs, storage, name)
        except NotFound:
            pass
        else:
            numbers = quarantine.keys(table.column("name"))
            order = np.argsort(numbers, kind="stable")
            return numbers[order], table.column("since").to_numpy()[order]
    return np.zeros(0, dtype=np.uint64), np.zeros(0)


def nested_in(lake: Lake, blobs: Blobs, storage: str) -> list[str]:
    """The folders of a storage in which others lie: a repository may be made over any folder of the lake."""
    root = blobs.url(storage) + "/"
    with lake.database.read() as cx:
        rows = cx.execute(select(lake_storages.c.storage, lake_storages.c.namespace)).all()
    found = []
    for row in rows:
        # Compared as text: a store of a deleted repository may be out of reach.
        namespace = (row.namespace or lake.stores.namespace).removeprefix("local://").rstrip("/")
        if f"{namespace}/{row.storage}".startswith(root):
            found.append(f"{namespace}/{row.storage}".removeprefix(root))
    return found


def plain(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Tallies as they are recorded."""
    return {
        kind: {
            "count": tally.count,
            "bytes": tally.bytes,
            "oldest": tally.oldest,
            "samples": list(tally.samples),
        }
        for kind, tally in tallies.items()
    }


def recorded(value: Mapping[str, Any]) -> dict[str, Tally]:
    """What `plain` gave, as tallies again."""
    return {
        kind: Tally(item["count"], item["bytes"], item["oldest"], tuple(item["samples"]))
        for kind, item in value.items()
    }


def add(total: dict[str, Tally], more: Mapping[str, Tally]) -> None:
    """Add tallies to others."""
    for kind, tally in more.items():
        known = total.get(kind, Tally())
        total[kind] = Tally(
            known.count + tally.count,
            known.bytes + tally.bytes,
            min(known.oldest, tally.oldest) if known.count and tally.count else known.oldest or tally.oldest,
            (*known.samples, *tally.samples)[:SAMPLES],
        )


def _count(total: dict[str, Tally], rows: Iterable[Mapping[str, Any]], label: str) -> None:
    for row in rows:
        kind = _kind(row["name"])
        total[kind] = total.get(kind, Tally()).plus(label + row["name"], row["size"], row["modified"])


def _kind(name: str) -> str:
    first, _, rest = name.partition("/")
    return rest.partition("/")[0] if first == "_tulle" else first


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
