"""The write side of one repository: storing data objects and staging entries on branches.

A write is acknowledged only when it is durable: first the bytes in the store, then the staged row. Knows
nothing of commits.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace
from sqlalchemy import Connection

from tulle.errors import AlreadyExists, Broken, Invalid, NotFound, PreconditionFailed, TulleError
from tulle.lake import addresses, links, quarantine, refs, staging
from tulle.lake.blobs import CHUNK_BYTES, Blobs, is_local, read_chunks
from tulle.lake.digest import Digests
from tulle.lake.entry import Entry, checked_path, checked_text, encode_metadata
from tulle.lake.grouping import GroupCommit, Joint, Work
from tulle.lake.links import Link
from tulle.lake.ranges import MAX_ROWS, Range, Row, entry_of, row_of
from tulle.lake.reading import Reader
from tulle.lake.stores import Stores
from tulle.state.db import now

_DATA = re.compile(r"(lake:[a-z0-9-]+/)?data/")  # what follows is checked by the store

YOUNG_SECONDS = 3600.0  # data younger than this is no candidate of any collection
MAX_OBJECT_BYTES = 5 * 1024**4
FOLDER_OBJECTS = 10_000  # in one folder of data, so that none grows without end

Data = bytes | Iterable[bytes] | Path


class Mismatch(Invalid):
    """Data is not what was stated of it: its `algorithm` (MD5 or SHA-256) gives `found` and not `stated`, in hex."""

    def __init__(self, path: str, algorithm: str, found: str, stated: str) -> None:
        super().__init__(f"the data for '{path}' has {algorithm} {found}, {stated} was stated")
        self.algorithm, self.found, self.stated = algorithm, found, stated


@dataclass(frozen=True, slots=True)
class DataPath:
    """A place for a new data object: its `address` for `link`, and where an engine writes it.

    `path` is the local file, or None when the store is not on this machine; `url` works either way.
    """

    address: str
    path: Path | None
    url: str


@dataclass(frozen=True, slots=True)
class Permit:
    """What is asked in the transaction of a write before anything is staged; those with the same key ask the same.

    `ask` raises where nothing may be written, and tells whether what is written counts for a quota.
    """

    key: Hashable
    ask: Callable[[Connection], bool]


class NothingThereError(PreconditionFailed):
    """Something was to be replaced where nothing is."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold at a path for a write to happen: nothing is there, or what is there has this etag."""

    absent: bool = False
    etag: str | None = None

    @classmethod
    def of(cls, if_absent: bool, if_match: str | None) -> Condition | None:
        """The condition of two keywords, or None."""
        return cls(if_absent, if_match) if if_absent or if_match is not None else None

    def check(self, current: Entry | None, path: str, branch: str) -> None:
        """AlreadyExists or PreconditionFailed."""
        if self.absent and current is not None:
            raise AlreadyExists(f"'{path}' exists on branch '{branch}'")
        wanted = None if self.etag is None else self.etag.strip('"')
        if wanted is not None and (
            current is None or wanted not in {current.tag, current.etag or current.checksum}
        ):
            said = f"'{path}' on branch '{branch}': {wanted} was expected"
            if current is None:
                raise NothingThereError(f"{said}, there is nothing")
            raise PreconditionFailed(f"{said}, its etag is {current.tag}")


class Writer:
    """Writes to one repository. Safe to share between threads."""

    def __init__(self, reader: Reader, group: GroupCommit, stores: Stores) -> None:
        self._reader = reader
        self._stores = stores
        self._group = group
        self._id = reader.id
        self._blobs = reader.blobs
        self._storage = reader.record.storage
        self._numbers = itertools.count()
        self._session = ""
        self._own = ""

    # ── data objects ─────────────────────────────────────────────────────────────────────────────────────

    def new_data_path(self, suffix: str) -> DataPath:
        """A place nothing was written to yet."""
        address = self._new_address(suffix)
        url = self._blobs.url(self.blob(address), for_writing=True)
        return DataPath(address, Path(url) if url.startswith("/") else None, url)

    def store(
        self,
        path: str,
        data: Data,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        md5: str | None = None,
        sha256: str | None = None,
        etag: str | None = None,
    ) -> Entry:
        """Keep data durably and return the entry to stage for it.

        `md5` and `sha256` (hex) are what the data must have, else Invalid and nothing is kept; `etag` is recorded
        in place of the MD5.
        """
        checked_path(path)
        checked_text(content_type, "the content type")
        encode_metadata(metadata)
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        address = self._new_address("")
        digests = Digests()

        def check() -> None:
            for stated, found, name in ((md5, digests.md5, "MD5"), (sha256, digests.sha256, "SHA-256")):
                if stated is not None and stated.lower() != found:
                    raise Mismatch(path, name, found, stated)

        def hashed() -> Iterator[bytes]:
            yield from digests.passing(_chunks(data))
            check()  # before the store has heard of the end, so that nothing is kept

        if isinstance(data, bytes):
            digests.update(data)
            check()
            size = self._blobs.put(self.blob(address), data)
        else:
            size = self._blobs.put(self.blob(address), hashed())
        return Entry(
            path=path,
            address=address,
            size=size,
            checksum=digests.sha256,
            etag=etag or digests.md5,
            modified=_microseconds(now()),
            content_type=content_type,
            metadata=dict(metadata or {}),
        )

    def described(self, found: Entry, metadata: Mapping[str, str]) -> Entry:
        """The entry with other metadata, changed now."""
        return replace(found, metadata=dict(metadata), modified=_microseconds(now()))

    def discard(self, entry: Entry) -> None:
        """Remove the data of an entry that was never staged, if that can be done."""
        with contextlib.suppress(TulleError):
            self._blobs.delete(self.blob(entry.address))

    def linked(self, wanted: Iterable[Link]) -> list[Entry]:
        """The entries to stage for data that is in place already.

        An address in this lake must exist; it is made durable, and its true size is recorded (Invalid when
        another was stated). An address outside must begin with an allowed prefix, and is believed when its
        size is stated.
        """
        settled: dict[str, int] = {}
        time_of_linking = _microseconds(now())
        return [self._linked(link, settled, time_of_linking) for link in wanted]

    def refresh(self, rows: Iterable[Row]) -> None:
        """Make data young again that was put or linked long ago and is to be committed only now. NotFound, Gone."""
        long_ago = now() - YOUNG_SECONDS
        entries = [entry_of(row) for row in rows if not row[-1]]
        settled: dict[str, int] = {}
        for entry in entries:
            if entry.modified < long_ago and not _is_external(entry.address):
                self._own_size(Link(entry.path, entry.address, entry.size), settled)

    def linked_table(self, table: pa.Table) -> Iterator[Range]:
        """The sorted rows to stage for a table of links, checked like `linked`, without an object per row."""
        table = links.sorted_table(table)
        allowed = pa.array(np.zeros(len(table), dtype=bool))
        for prefix in self._stores.linkable:
            if not is_local(prefix):
                allowed = pc.or_(allowed, pc.starts_with(table.column("address"), prefix))
        allowed = pc.and_(allowed, pc.invert(pc.match_substring(table.column("address"), "/..")))
        settled: dict[str, int] = {}
        modified = _microseconds(now())
        others = [
            self._linked(Link(row["path"].decode(), row["address"], row["size"]), settled, modified).address
            for row in table.filter(pc.invert(allowed)).select(["path", "address", "size"]).to_pylist()
        ]
        if others:
            column = table.column("address").combine_chunks()
            mask = pc.invert(allowed)
            mask = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
            plain = pc.replace_with_mask(column, mask, pa.array(others, column.type))
            table = table.set_column(table.schema.get_field_index("address"), "address", plain)
        for batch in table.to_batches(max_chunksize=MAX_ROWS):
            yield links.rows_of(batch, modified)

    def stage_table(self, branch: str, table: pa.Table) -> int:
        """Stage a table of links on a branch, all of it or none, and return how many paths that were."""
        run = self._reader.runs.write_chunks(self.linked_table(table))
        if run.rows:
            self._group.run(lambda cx: staging.stage_run(cx, self._id, branch, run), (self._id, branch))
        return run.rows

    def issue(self, branch: str, path: str, suffix: str, seconds: float) -> DataPath:
        """A place for a writer that writes straight to the store and links what it wrote within some time."""
        checked_path(path)
        place = self.new_data_path(suffix)
        with self._reader.database.write() as cx:
            addresses.add(cx, self._id, place.address, branch, path, now() + seconds)
        return place

    def stage_issued(
        self, branch: str, link: Link, condition: Condition | None = None, *, charge: bool = False
    ) -> Entry:
        """Stage what a writer wrote to an issued place, which is used up by that. NotFound, Invalid."""
        entry = self.linked([link])[0]

        def work(cx: Connection) -> None:
            if condition is not None:
                condition.check(self._current(cx, branch, entry.path), entry.path, branch)
            addresses.take(cx, self._id, link.address)
            staging.stage_rows(cx, self._id, branch, [row_of(entry)])
            if charge:
                refs.charge(cx, self._id, entry.size, 1)

        self._group.run(work, (self._id, branch))
        return entry

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
            return self._stores.read(entry.address, entry.size, start, end)
        blobs, name = self.place(entry.address)
        pieces = read_chunks(blobs, name, entry.size, start, end)
        is_whole = start == 0 and (end is None or end >= entry.size)
        return _verified(pieces, entry, name) if is_whole and entry.checksum else pieces

    def location(self, entry: Entry) -> str:
        """Where the data of an entry is: a local file name or a URL an engine can open."""
        if _is_external(entry.address):
            return entry.address.removeprefix("local://").removeprefix("file://")
        blobs, name = self.place(entry.address)
        return blobs.url(name)

    def signed_url(self, address: str, method: str, seconds: float) -> str | None:
        """A URL of the store itself that works for a while without other credentials; None where it has none."""
        if _is_external(address):
            return self._stores.signed_url(address, method, seconds)
        blobs, name = self.place(address)
        return blobs.signed_url(name, method, seconds)

    def place(self, address: str) -> tuple[Blobs, str]:
        """The store an address inside the lake is in, and the name there."""
        if not address.startswith("lake:"):
            return self._blobs, f"{self._storage}/{address}"
        name = address.removeprefix("lake:")
        return self._stores.of_storage(name.partition("/")[0]), name

    def blob(self, address: str) -> str:
        """The name in the store of an address inside the lake."""
        if address.startswith("lake:"):
            return address.removeprefix("lake:")
        return f"{self._storage}/{address}"

    def _new_address(self, suffix: str) -> str:
        # Consecutive names compress well in ranges; the day lets a collector skip what is too young.
        number = next(self._numbers)
        day = time.strftime("%Y%m%d", time.gmtime(now()))
        session = self._session
        if number % FOLDER_OBJECTS == 0 or not session.startswith(day):
            session = self._session = f"{day}-{secrets.token_hex(6)}"
        return f"data/{session}/{number:06d}{suffix}"

    def _linked(self, link: Link, settled: dict[str, int], modified: float) -> Entry:
        checked_path(link.path)
        checked_text(link.content_type, "the content type")
        checked_text(link.etag, "the etag")
        encode_metadata(link.metadata)
        if link.checksum and not links.is_sha256(link.checksum):
            raise Invalid(f"'{link.checksum}' is no checksum", hint="64 hex digits of SHA-256, or nothing")
        if _is_external(link.address):
            address, size = self._outside(link)
        else:
            address, size = link.address, self._own_size(link, settled)
        return Entry(
            path=link.path,
            address=address,
            size=size,
            checksum=link.checksum.lower(),
            etag=link.etag,
            modified=modified,
            content_type=link.content_type,
            metadata=dict(link.metadata) if link.metadata else {},
        )

    def _outside(self, link: Link) -> tuple[str, int]:
        """The URL and the size of data outside of the lake."""
        url = self._stores.demand_object(link.address)
        if url.startswith(self._own_urls()):
            raise Invalid(
                f"'{link.address}' is data of the repository itself",
                hint="write to an address the server gives, and link it, or copy the object",
            )
        if link.size is not None and not 0 <= link.size <= MAX_OBJECT_BYTES:
            raise Invalid(f"'{link.path}' cannot have {link.size} bytes", hint=f"0 to {MAX_OBJECT_BYTES}")
        if is_local(url):  # what is on this disk is looked at
            size = self._stores.stat(url)
            if link.size not in {None, size}:
                raise Invalid(f"'{link.address}' has {size} bytes, but {link.size} were stated")
            return url, size
        return url, self._stores.stat(url) if link.size is None else link.size

    def _own_urls(self) -> str:
        """How the URL begins by which what is the repository's own could be linked as if it were outside."""
        if not self._own:
            own = self._blobs.url(self.blob("data/_"))[:-1]
            self._own = f"local://{os.path.realpath(own)}/" if own.startswith("/") else own
        return self._own

    def _own_size(self, link: Link, settled: dict[str, int]) -> int:
        if link.address not in settled:
            if not _DATA.match(link.address):
                raise Invalid(
                    f"'{link.address}' is no address of data", hint="use one that `new_data_path` gave"
                )
            blobs, name = self.place(link.address)
            found = blobs.stat(name)
            if found.modified < now() - YOUNG_SECONDS:
                storage, _, rest = name.partition("/")
                quarantine.demand_free(self._reader.database, blobs, storage, rest)
            settled[link.address] = blobs.stat(name, settle=True).size
        size = settled[link.address]
        if link.size is not None and link.size != size:
            raise Invalid(f"'{link.address}' has {size} bytes, but {link.size} were stated for '{link.path}'")
        return size

    # ── staging ──────────────────────────────────────────────────────────────────────────────────────────

    def stage(
        self,
        branch: str,
        entries: Sequence[Entry],
        condition: Condition | None = None,
        *,
        charge: bool = False,
        also: Work | None = None,
        permit: Permit | None = None,
    ) -> None:
        """Stage entries on a branch, all of them or none; durable when this returns.

        A `condition` must hold at the first entry's path. With `charge` their data counts for the quota. `also`
        is done in the same transaction, maybe more than once, and undoes it by raising. `permit` is asked in it.
        """
        rows = [row_of(entry) for entry in entries]
        self.stage_rows(branch, rows, condition, charge=charge, also=also, permit=permit)

    def stage_rows(
        self,
        branch: str,
        rows: Sequence[Row],
        condition: Condition | None = None,
        *,
        charge: bool = False,
        also: Work | None = None,
        permit: Permit | None = None,
    ) -> None:
        """Stage entries and tombstones on a branch. Of rows with the same path the last one counts."""
        if not rows:
            return
        place = self._id, branch
        if condition is None and also is None and permit is not None and len(rows) < staging.LARGE_BATCH:
            # What comes at the same time for one branch is staged at once.
            self._group.run(Joint((*place, permit.key), rows, self._staged(branch, permit)), place)
            return
        run = None
        if len(rows) >= staging.LARGE_BATCH:
            newest = {row[0]: row for row in rows}
            run = self._reader.runs.write(Range.of([newest[path] for path in sorted(newest)]))

        def work(cx: Connection) -> None:
            charged = permit.ask(cx) if permit is not None else charge
            if condition is not None:
                path = rows[0][0]
                condition.check(self._current(cx, branch, path.decode()), path.decode(), branch)
            if run is not None:
                staging.stage_run(cx, self._id, branch, run)
            else:
                staging.stage_rows(cx, self._id, branch, rows)
            if charged:  # after the branch, as everybody does: two who wait for one another get nowhere
                refs.charge(cx, self._id, sum(row[2] for row in rows), len(rows))
            if also is not None:
                also(cx)

        self._group.run(work, place)

    def _staged(self, branch: str, permit: Permit) -> Callable[[Connection, Sequence[Sequence[Row]]], None]:
        def work(cx: Connection, several: Sequence[Sequence[Row]]) -> None:
            charged = permit.ask(cx)
            rows = [row for each in several for row in each]
            staging.stage_rows(cx, self._id, branch, rows)
            if charged:
                refs.charge(cx, self._id, sum(row[2] for row in rows), len(rows))

        return work

    def stage_move(
        self, branch: str, rows: Sequence[Row], source: Entry, condition: Condition | None
    ) -> bool:
        """Stage rows that hold the removal of `source`, if it is what it was; whether it was.

        A `condition` must hold at the first row's path.
        """
        moved = False

        def work(cx: Connection) -> None:
            nonlocal moved
            current = self._current(cx, branch, source.path)
            moved = current == source
            if moved:
                if condition is not None:
                    path = rows[0][0].decode()
                    condition.check(self._current(cx, branch, path), path, branch)
                staging.stage_rows(cx, self._id, branch, rows)

        self._group.run(work, (self._id, branch))
        return moved

    def _current(self, cx: Connection, branch: str, path: str) -> Entry | None:
        """What a path holds, nobody else changing the branch until the transaction ends."""
        state = refs.get_branch(cx, self._id, branch, lock="update")
        encoded = path.encode()
        for run in staging.open_items(cx, self._reader.runs, state.staged):
            if (row := run.find(encoded)) is not None:
                return None if row[-1] else entry_of(row)
        return self._reader.content_in(cx, state.commit_id).view.find(encoded)


def _is_external(address: str) -> bool:
    return "://" in address


def _verified(pieces: Iterator[bytes], entry: Entry, name: str) -> Iterator[bytes]:
    """The pieces, the last one only when all of them have the checksum that was recorded. Broken."""
    sha = hashlib.sha256()
    left = entry.size
    for piece in pieces:
        sha.update(piece)
        left -= len(piece)
        if left <= 0 and sha.hexdigest() != entry.checksum:
            raise Broken(
                f"the data of '{entry.path}' is damaged: {name} holds something else than when it was written",
                hint="restore that object of the store from a copy; other objects are not affected",
            )
        yield piece


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
