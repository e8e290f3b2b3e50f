"""A read-only index from key to row, in one memory-mapped file: what lookups and enrichment read.

Values are rendered when the index is built: a JSON object for a lookup (it is sent as it is), a JSON array
for enrichment. Types keep their meaning: integers and decimals are numbers with all their digits, dates are
"1998-06-30", times are UTC "1998-06-30T12:00:00Z", binary is base64, a double that is no number is null.

Built in key order in one transaction, so equal rows give an equal file. Several processes share the pages of
one file. Knows nothing of services.
"""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import blake3
import lmdb
import msgspec

from tulle.errors import Broken, Invalid, Problem

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_KEY = 511  # bytes; of the file format
KEY_TYPES = ("string", "integer", "boolean", "date", "timestamp", "decimal")
SHOWN_KEYS = 3
_BATCH = 10_000
_encoder = msgspec.json.Encoder(decimal_format="number")
Form = Literal["object", "array"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an index with its mesh type."""

    name: str
    type: str


def key_of(values: Sequence[Any]) -> bytes:
    """The bytes under which the row of a key is stored; values must be normalised (`normal_key`)."""
    key = _encoder.encode(values)
    return key if len(key) <= LONGEST_KEY else b"\0" + blake3.blake3(key).digest()


def needs_normalising(types: Sequence[str]) -> bool:
    """Whether equal values of these types may be written in several ways."""
    return any(kind == "timestamp" or kind.startswith("decimal") for kind in types)


def normal_key(values: Sequence[Any], types: Sequence[str]) -> tuple[Any, ...]:
    """The values of a key in the one form they are stored in: decimals to scale, times in UTC."""
    return tuple(_normal(value, kind) for value, kind in zip(values, types, strict=True))


def build_index(
    path: Path, table: pa.Table, key: Sequence[Column], columns: Sequence[Column], form: Form, *, what: str
) -> int:
    """Write the index of `table` to `path` and return its number of rows.

    `what` names the data set in errors. Raises Invalid, naming keys and counts, when a key is null or not
    unique.
    """
    entries = sorted(_entries(table, key, columns, form, what))
    _check_unique(entries, key, what)
    size = sum(len(k) + len(v) for k, v in entries)
    # Room for page headers, half-full pages and values on pages of their own; the file grows only as needed.
    room = 8 * (size + 64 * len(entries)) + (1 << 22)
    environment = lmdb.open(
        str(path), subdir=False, map_size=room - room % 4096, lock=False, sync=False, metasync=False
    )
    try:
        with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(entries, append=True)
        environment.sync(True)
    finally:
        environment.close()
    return len(entries)


class Index:
    """An opened index; `open_index` opens one."""

    def __init__(self, path: Path) -> None:
        try:
            self._environment = lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, create=False, readahead=False
            )
            # The file never changes, so one transaction serves for the life of the process.
            self._transaction = self._environment.begin()
        except lmdb.Error as exc:
            raise Broken(
                f"the index {path.name} cannot be opened: {exc}", hint="unpack the package again"
            ) from exc
        self.get = self._transaction.get

    def first(self) -> tuple[bytes, bytes] | None:
        """The first key and row, or None when the index is empty."""
        with self._transaction.cursor() as cursor:
            return cursor.item() if cursor.first() else None


# A process may map a file only once, and two endpoints may read the same index.
_opened: weakref.WeakValueDictionary[tuple[int, int], Index] = weakref.WeakValueDictionary()


def open_index(path: Path) -> Index:
    """The index in a file, shared with whoever has it open in this process; Broken when it is none."""
    try:
        status = path.stat()
    except OSError as exc:
        raise Broken(f"the index {path.name} is gone", hint="unpack the package again") from exc
    index = _opened.get((status.st_dev, status.st_ino))
    if index is None:
        index = _opened[status.st_dev, status.st_ino] = Index(path)
    return index


def _entries(
    table: pa.Table, key: Sequence[Column], columns: Sequence[Column], form: Form, what: str
) -> Iterator[tuple[bytes, bytes]]:
    names = list(dict.fromkeys([c.name for c in (*key, *columns)]))
    types = [column.type for column in key]
    times = [column.name for column in columns if column.type == "timestamp"]
    missing = 0
    for batch in table.select(names).to_batches(max_chunksize=_BATCH):
        for row in batch.to_pylist():
            values = [row[column.name] for column in key]
            if None in values:
                missing += 1
                continue
            for name in times:
                row[name] = _normal(row[name], "timestamp")
            content: Any = [row[column.name] for column in columns]
            if form == "object":
                content = {column.name: value for column, value in zip(columns, content, strict=True)}
            yield key_of(normal_key(values, types)), _encoder.encode(content)
    if missing:
        word = "row has" if missing == 1 else "rows have"
        names_of_key = ", ".join(column.name for column in key)
        raise Invalid(
            f"{what}: {missing} {word} no value in the key ({names_of_key})",
            hint="leave such rows out, and check it: {type: not_null}",
        )


def _check_unique(entries: Sequence[tuple[bytes, bytes]], key: Sequence[Column], what: str) -> None:
    counts: dict[bytes, int] = {}
    for (one, _), (other, _) in itertools.pairwise(entries):
        if one == other:
            counts[one] = counts.get(one, 1) + 1
    if not counts:
        return
    names = ", ".join(column.name for column in key)
    examples = ", ".join(f"{_readable(k)} ({n} rows)" for k, n in list(counts.items())[:SHOWN_KEYS])
    more = f" and {len(counts) - SHOWN_KEYS} more" if len(counts) > SHOWN_KEYS else ""
    message = f"{what}: the key ({names}) is not unique: {examples}{more}"
    raise Invalid(
        message,
        problems=[Problem(message)],
        hint="name more key columns, or make one row a key and check it: {type: unique}",
    )


def _readable(key: bytes) -> str:
    if key.startswith(b"\0"):
        return "a long key"
    values = msgspec.json.decode(key)
    return ", ".join(repr(value) for value in values)


def _normal(value: Any, kind: str) -> Any:
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    if kind.startswith("decimal"):
        value = decimal.Decimal(repr(value)) if isinstance(value, float) else decimal.Decimal(value)
        scale = int(kind.rstrip(")").partition(",")[2] or 0)
        try:
            exact = value.quantize(decimal.Decimal(1).scaleb(-scale))
        except decimal.InvalidOperation:
            return value
        return exact if exact == value else value
    return value
