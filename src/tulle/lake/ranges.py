"""A range: rows sorted by path, immutable, named by what it says.

One row is one path with its entry, or a tombstone that says the path is gone. The file form is one Arrow IPC
file with one record batch, zstd level 1; the name is the blake3 hash of the columns' logical content, so equal
rows have equal names whatever wrote them. Sorted rows are cut into ranges by a rule that looks at paths alone:
an edit changes the range it falls into, not its neighbours, and equal content is cut alike whatever its
history. Knows nothing of stores, layers or commits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3
from xxhash import xxh64_intdigest

from tulle.errors import Broken
from tulle.lake.entry import Entry, decode_metadata, encode_metadata

CUT_EVERY = 8192  # rows in a range on average
MIN_ROWS = 1024
MAX_ROWS = 32768
KNOWN_ROWS = 2048  # ranges of no more rows learn their paths by heart
LEARN_AFTER = 16  # look-ups

SCHEMA = pa.schema(
    [
        pa.field("path", pa.binary(), nullable=False),
        pa.field("address", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("checksum", pa.binary(), nullable=False),  # SHA-256, or empty when unknown
        pa.field("etag", pa.string(), nullable=False),
        pa.field("modified", pa.int64(), nullable=False),  # microseconds since the epoch
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),  # JSON with sorted keys, or empty
        pa.field("deleted", pa.bool_(), nullable=False),  # in files only where some row is a tombstone
    ]
)
_WITHOUT_DELETED = pa.schema(list(SCHEMA)[:-1])
_DELETED = len(SCHEMA) - 1

Row = tuple[bytes, str, int, bytes, str, int, str, str, bool]  # in the order of SCHEMA


def row_of(entry: Entry) -> Row:
    """An entry as a row."""
    return (
        entry.path.encode(),
        entry.address,
        entry.size,
        bytes.fromhex(entry.checksum),
        entry.etag,
        round(entry.modified * 1_000_000),
        entry.content_type,
        encode_metadata(entry.metadata),
        False,
    )


def tombstone(path: bytes) -> Row:
    """The row that says `path` is gone."""
    return (path, "", 0, b"", "", 0, "", "", True)


def entry_of(row: Row) -> Entry:
    """A row as an entry."""
    path, address, size, checksum, etag, modified, content_type, metadata, _ = row
    return Entry(
        path.decode(),
        address,
        size,
        checksum.hex(),
        etag,
        modified / 1_000_000,
        content_type,
        decode_metadata(metadata),
    )


class Range:
    """Sorted rows in memory. Positions count from 0; no two rows have the same path."""

    __slots__ = ("_columns", "_data", "_first", "_known", "_looked", "_offsets", "batch", "rows")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self.rows: int = batch.num_rows
        # Where each path begins in the bytes of all of them: views of the batch, shared by its slices.
        self._offsets: memoryview | None = None
        self._data = memoryview(b"")
        self._columns: list[pa.Array] | None = None  # asking the batch anew costs as much as reading a row
        self._first = 0  # where our first row is in `_offsets`
        self._known: dict[bytes, int] | None = None  # positions by path
        self._looked = 0

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Range:
        """The range of rows that are sorted already."""
        if not rows:
            return EMPTY
        columns = [
            pa.array(values, field.type)
            for field, values in zip(SCHEMA, zip(*rows, strict=True), strict=True)
        ]
        return cls(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))

    def path(self, position: int) -> bytes:
        """The path of one row."""
        offsets, data = self._index()
        position += self._first
        return bytes(data[offsets[position] : offsets[position + 1]])

    def seek(self, path: bytes, low: int = 0) -> int:
        """The position of the first row at or after `path`, no lower than `low`."""
        offsets, data = self._index()
        low += self._first
        high = self._first + self.rows
        while low < high:
            middle = (low + high) // 2
            if bytes(data[offsets[middle] : offsets[middle + 1]]) < path:
                low = middle + 1
            else:
                high = middle
        return low - self._first

    def find(self, path: bytes) -> Row | None:
        """The row at exactly `path`."""
        known = self._known
        if known is not None:
            at = known.get(path)
            return None if at is None else self.row(at)
        if self.rows <= KNOWN_ROWS:
            # A look-up goes through the small ranges of several commits, and most of them do not name its path.
            self._looked += 1
            if self._looked > LEARN_AFTER:
                self._known = {self.path(position): position for position in range(self.rows)}
        position = self.seek(path)
        if position == self.rows or self.path(position) != path:
            return None
        return self.row(position)

    def row(self, position: int) -> Row:
        """One row."""
        if self._columns is None:
            self._columns = self.batch.columns
        return tuple(column[position].as_py() for column in self._columns)

    def all_rows(self) -> Iterator[Row]:
        """Every row in order."""
        return zip(*(column.to_pylist() for column in self.batch.columns), strict=True)

    def slice(self, start: int, stop: int) -> Range:
        """Rows `start` up to (without) `stop`; shares memory."""
        if start == 0 and stop == self.rows:
            return self
        part = Range(self.batch.slice(start, max(0, stop - start)))
        part._offsets, part._data = self._index()
        part._first = self._first + start
        return part

    @property
    def deleted(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each row whether it is a tombstone."""
        values: np.ndarray[Any, np.dtype[np.bool_]] = self.batch.column(_DELETED).to_numpy(
            zero_copy_only=False
        )
        return values

    def live(self) -> Range:
        """The rows that are no tombstones."""
        deleted = self.deleted
        return Range(self.batch.filter(pa.array(~deleted))) if deleted.any() else self

    def _index(self) -> tuple[memoryview, memoryview]:
        if self._offsets is None:
            offsets, self._data = _buffers(self.batch.column(0))
            self._offsets = offsets.data
        return self._offsets, self._data


def joined(ranges: Iterable[Range]) -> Range:
    """The rows of several ranges that follow on one another, as one."""
    batches = [each.batch for each in ranges if each.rows]
    if not batches:
        return EMPTY
    return Range(batches[0] if len(batches) == 1 else pa.concat_batches(batches))


def encode(content: Range) -> bytes:
    """The file form."""
    batch = content.batch
    if not content.deleted.any():
        batch = pa.RecordBatch.from_arrays(batch.columns[:-1], schema=_WITHOUT_DELETED)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode(data: bytes, name: str) -> Range:
    """Read the file form; `name` (its identity) is for the message when it is damaged."""
    try:
        reader = pa.ipc.open_file(pa.BufferReader(data))
        if reader.num_record_batches == 0:
            return EMPTY
        batch = reader.get_batch(0)
    except pa.ArrowException as exc:
        raise Broken(f"range {name} cannot be read: {exc}", hint="restore the object store's file") from exc
    if batch.num_columns == len(SCHEMA) - 1:
        none = pa.array(np.zeros(batch.num_rows, dtype=bool))
        batch = pa.RecordBatch.from_arrays([*batch.columns, none], schema=SCHEMA)
    return Range(batch)


def identity(content: Range) -> str:
    """blake3 over the logical columns, 64 hex digits."""
    hasher = blake3(b"tulle range 1")
    batch = content.batch
    hasher.update(batch.num_rows.to_bytes(8, "little"))
    for field, column in zip(SCHEMA, batch.columns, strict=True):
        if field.name == "deleted":
            deleted = content.deleted
            if deleted.any():
                hasher.update(b"deleted")
                hasher.update(deleted.astype(np.uint8).tobytes())
        elif pa.types.is_int64(field.type):
            hasher.update(column.to_numpy().astype("<i8", copy=False).tobytes())
        else:
            offsets, data = _buffers(column)
            hasher.update(offsets.astype("<i4", copy=False).tobytes())
            hasher.update(data)
    return str(hasher.hexdigest())


def cuts(content: Range, carried: int = 0) -> list[int]:
    """Where to cut rows that begin at a range's beginning: the position after each complete range.

    Rows after the last position belong to a range that is not complete yet. A range ends after a path whose
    xxh64 is a multiple of 8192, but holds no fewer than 1024 and no more than 32768 rows. `carried` rows of an
    incomplete range came before.
    """
    offsets, data = _buffers(content.batch.column(0))
    where, what = offsets.tolist(), bytes(data)
    hashes = (xxh64_intdigest(what[a:b]) for a, b in itertools.pairwise(where))
    marks = np.fromiter(hashes, dtype=np.uint64, count=content.rows) % np.uint64(CUT_EVERY) == 0
    found: list[int] = []
    start = -carried
    for position in (np.flatnonzero(marks) + 1).tolist():
        while position - start > MAX_ROWS:
            start += MAX_ROWS
            found.append(start)
        if position - start >= MIN_ROWS:
            start = position
            found.append(start)
    while content.rows - start >= MAX_ROWS:
        start += MAX_ROWS
        found.append(start)
    return found


def _buffers(column: pa.Array) -> tuple[np.ndarray[Any, np.dtype[np.int32]], memoryview]:
    # Offsets that begin at 0 and the bytes they point into, also of a slice.
    _, offset_buffer, data_buffer = column.buffers()
    if len(column) == 0 or offset_buffer is None:
        return np.zeros(1, dtype=np.int32), memoryview(b"")
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    data = memoryview(data_buffer)[offsets[0] : offsets[-1]] if data_buffer is not None else memoryview(b"")
    return offsets - offsets[0], data


# Of nulls: an array of Python's values makes Arrow import pandas where it is installed, 0.3 s in every process.
EMPTY = Range(pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in SCHEMA], schema=SCHEMA))
