"""The write side of one repository: storing data objects and staging entries on branches.

A write is acknowledged only when it is durable: first the bytes in the store, then the staged row. Knows
nothing of commits.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from tulle.errors import AlreadyExists, Invalid, NotFound
from tulle.lake import links, refs, staging
from tulle.lake.blobs import CHUNK_BYTES, read_chunks, read_external, stat_external
from tulle.lake.entry import Entry, checked_path, encode_metadata
from tulle.lake.grouping import GroupCommit
from tulle.lake.links import Link
from tulle.lake.ranges import MAX_ROWS, Range, Row, row_of
from tulle.lake.reading import Reader
from tulle.state.db import now

_DATA = re.compile(r"(lake:[a-z0-9-]+/)?data/")  # what follows is checked by the store

Data = bytes | Iterable[bytes] | Path


@dataclass(frozen=True, slots=True)
class DataPath:
    """A place for a new data object: its `address` for `link`, and where an engine writes it.

    `path` is the local file, or None when the store is not on this machine; `url` works either way.
    """

    address: str
    path: Path | None
    url: str


class Writer:
    """Writes to one repository. Safe to share between threads."""

    def __init__(self, reader: Reader, group: GroupCommit, external: Sequence[str] = ()) -> None:
        self._reader = reader
        self._group = group
        self._id = reader.id
        self._blobs = reader.blobs
        self._storage = reader.record.storage
        self._external = tuple(external)
        self._session = secrets.token_hex(6)
        self._numbers = itertools.count()

    # ── data objects ─────────────────────────────────────────────────────────────────────────────────────

    def new_data_path(self, suffix: str) -> DataPath:
        """A place nothing was written to yet."""
        address = self._new_address(suffix)
        url = self._blobs.url(self.blob(address), for_writing=True)
        return DataPath(address, Path(url) if url.startswith("/") else None, url)

    def store(
        self, path: str, data: Data, *, content_type: str = "", metadata: Mapping[str, str] | None = None
    ) -> Entry:
        """Keep data durably and return the entry to stage for it."""
        checked_path(path)
        encode_metadata(metadata)
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        address = self._new_address("")
        sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)  # MD5 is what S3 clients expect

        def hashed() -> Iterator[bytes]:
            for chunk in _chunks(data):
                sha.update(chunk)
                md5.update(chunk)
                yield chunk

        if isinstance(data, bytes):
            sha.update(data)
            md5.update(data)
            size = self._blobs.put(self.blob(address), data)
        else:
            size = self._blobs.put(self.blob(address), hashed())
        return Entry(
            path=path,
            address=address,
            size=size,
            checksum=sha.hexdigest(),
            etag=md5.hexdigest(),
            modified=_microseconds(now()),
            content_type=content_type,
            metadata=dict(metadata or {}),
        )

    def linked(self, wanted: Iterable[Link]) -> list[Entry]:
        """The entries to stage for data that is in place already.

        An address in this lake must exist; it is made durable, and its true size is recorded (Invalid when
        another was stated). An address outside must begin with an allowed prefix, and is believed when its
        size is stated.
        """
        settled: dict[str, int] = {}
        time_of_linking = _microseconds(now())
        return [self._linked(link, settled, time_of_linking) for link in wanted]

    def linked_table(self, table: pa.Table) -> Iterator[Range]:
        """The sorted rows to stage for a table of links, checked like `linked`, without an object per row."""
        table = links.sorted_table(table)
        allowed = pa.array(np.zeros(len(table), dtype=bool))
        for prefix in self._external:
            allowed = pc.or_(allowed, pc.starts_with(table.column("address"), prefix))
        settled: dict[str, int] = {}
        modified = _microseconds(now())
        for row in table.filter(pc.invert(allowed)).select(["path", "address", "size"]).to_pylist():
            self._linked(
                Link(row["path"].decode(), row["address"], row["size"]), settled, modified
            )  # or raises
        for batch in table.to_batches(max_chunksize=MAX_ROWS):
            yield links.rows_of(batch, modified)

    def stage_table(self, branch: str, table: pa.Table) -> int:
        """Stage a table of links on a branch, all of it or none, and return how many paths that were."""
        run = self._reader.runs.write_chunks(self.linked_table(table))
        if run.rows:
            self._group.run(lambda cx: staging.stage_run(cx, self._id, branch, run))
        return run.rows

    def copied(self, found: Entry, dest: str, origin: Writer) -> Entry:
        """The entry to stage under `dest` for the data of an entry of another repository, or of this one."""
        checked_path(dest)
        address = found.address
        if origin._storage != self._storage and not _is_external(address):
            address = f"lake:{origin.blob(address)}"
        return replace(found, path=dest, address=address, modified=_microseconds(now()))

    def read(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of an entry in pieces of a few MiB."""
        if _is_external(entry.address):
            return read_external(entry.address, entry.size, start, end)
        return read_chunks(self._blobs, self.blob(entry.address), entry.size, start, end)

    def location(self, entry: Entry) -> str:
        """Where the data of an entry is: a local file name or a URL an engine can open."""
        if _is_external(entry.address):
            return entry.address.removeprefix("local://")
        return self._blobs.url(self.blob(entry.address))

    def blob(self, address: str) -> str:
        """The name in the store of an address inside the lake."""
        if address.startswith("lake:"):
            return address.removeprefix("lake:")
        return f"{self._storage}/{address}"

    def _new_address(self, suffix: str) -> str:
        # Consecutive names compress well in ranges; the day lets a collector skip what is too young.
        day = time.strftime("%Y%m%d", time.gmtime(now()))
        return f"data/{day}-{self._session}/{next(self._numbers):06d}{suffix}"

    def _linked(self, link: Link, settled: dict[str, int], modified: float) -> Entry:
        checked_path(link.path)
        encode_metadata(link.metadata)
        if link.checksum and not links.is_sha256(link.checksum):
            raise Invalid(f"'{link.checksum}' is no checksum", hint="64 hex digits of SHA-256, or nothing")
        size = self._external_size(link) if _is_external(link.address) else self._own_size(link, settled)
        return Entry(
            path=link.path,
            address=link.address,
            size=size,
            checksum=link.checksum.lower(),
            etag=link.etag,
            modified=modified,
            content_type=link.content_type,
            metadata=dict(link.metadata) if link.metadata else {},
        )

    def _external_size(self, link: Link) -> int:
        if not link.address.startswith(self._external or "\0"):
            raise Invalid(
                f"'{link.address}' is outside of the lake, and no allowed place begins like it",
                hint="put the data into the lake, or open the lake with that place as external",
            )
        return stat_external(link.address) if link.size is None else link.size

    def _own_size(self, link: Link, settled: dict[str, int]) -> int:
        if link.address not in settled:
            if not _DATA.match(link.address):
                raise Invalid(
                    f"'{link.address}' is no address of data", hint="use one that `new_data_path` gave"
                )
            settled[link.address] = self._blobs.stat(self.blob(link.address), settle=True).size
        size = settled[link.address]
        if link.size is not None and link.size != size:
            raise Invalid(f"'{link.address}' has {size} bytes, but {link.size} were stated for '{link.path}'")
        return size

    # ── staging ──────────────────────────────────────────────────────────────────────────────────────────

    def stage(self, branch: str, entries: Sequence[Entry], *, if_absent: bool = False) -> None:
        """Stage entries on a branch, all of them or none; durable when this returns.

        With `if_absent`, AlreadyExists when something is at the first entry's path.
        """
        self.stage_rows(branch, [row_of(entry) for entry in entries], if_absent=if_absent)

    def stage_rows(self, branch: str, rows: Sequence[Row], *, if_absent: bool = False) -> None:
        """Stage entries and tombstones on a branch. Of rows with the same path the last one counts."""
        if len(rows) >= staging.LARGE_BATCH:
            newest = {row[0]: row for row in rows}
            run = self._reader.runs.write(Range.of([newest[path] for path in sorted(newest)]))
            self._group.run(lambda cx: staging.stage_run(cx, self._id, branch, run))
            return

        def work(cx: Connection) -> None:
            if if_absent and not self._is_absent(cx, branch, rows[0][0]):
                raise AlreadyExists(f"'{rows[0][0].decode()}' exists on branch '{branch}'")
            staging.stage_rows(cx, self._id, branch, rows)

        if rows:
            self._group.run(work)

    def _is_absent(self, cx: Connection, branch: str, path: bytes) -> bool:
        state = refs.get_branch(cx, self._id, branch, lock="update")
        for run in staging.open_items(cx, self._reader.runs, state.staged):
            if (row := run.find(path)) is not None:
                return row[-1]
        return self._reader.content_in(cx, state.commit_id).view.find(path) is None


def _is_external(address: str) -> bool:
    return "://" in address


def _microseconds(seconds: float) -> float:
    return round(seconds * 1_000_000) / 1_000_000


def _chunks(data: Data) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
    elif isinstance(data, Path):
        try:
            with data.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise NotFound(f"there is no file {data}") from None
    else:
        yield from data
