"""A read-only index from key to row, in one memory-mapped file: what lookups and enrichment read.

Values are rendered when the index is built: a JSON object for a lookup (it is sent as it is), a JSON array
for enrichment. Types keep their meaning: integers and decimals are numbers with all their digits, dates are
"1998-06-30", times are UTC "1998-06-30T12:00:00Z", binary is base64, a double that is no number is null.

Built in key order in one transaction (`index_build`), so equal rows give an equal file. Several processes share the
pages of one file. Knows nothing of services.
"""

from __future__ import annotations

import datetime as dt
import decimal
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import blake3
import lmdb
import msgspec

from tulle.errors import Broken

LONGEST_KEY = 511  # bytes; of the file format
KEY_TYPES = ("string", "integer", "boolean", "date", "timestamp", "decimal")
SEVERAL = b"*"  # what a key with several rows begins with: no JSON does
_encoder = msgspec.json.Encoder(decimal_format="number")
_EXACT = decimal.Context(prec=100)  # more digits than any decimal of a data set has
Form = Literal["object", "array"]


class Damaged(Exception):
    """What an endpoint reads is not as it was packaged."""


READ_ERRORS = (lmdb.Error, Damaged)  # what reading raises from an index, or from files, that are damaged


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


def several_of(rows: Sequence[bytes], number: int) -> bytes:
    """What is stored for a key that has several rows: how many there are, and those that are kept."""
    return SEVERAL + b"%d\n" % number + b"\n".join(rows)


def rows_of(stored: bytes) -> tuple[int, list[bytes]]:
    """How many rows a key has, and those that are kept. JSON as it is stored holds no line break."""
    if not stored.startswith(SEVERAL):
        return 1, [stored]
    number, *rows = stored[1:].split(b"\n")
    return int(number), rows


def timed(row: bytes) -> tuple[int | None, bytes]:
    """Since when a row holds, in microseconds since 1970, and the row, where the index keeps that."""
    micros, _, rest = row.partition(b"|")
    return int(micros) if micros else None, rest


def kept_of(rows: Sequence[bytes], most: int, at: int | None) -> list[bytes]:
    """Of a key's rows, in their order, those that are to be stored: so many of those that hold by now.

    Where rows tell since when they hold, also all that are still to come `at` that time, in microseconds since 1970:
    they will be asked for when theirs has come.
    """
    if at is None:
        return list(rows[:most])
    kept = []
    for row in rows:
        if (micros := timed(row)[0]) is None or micros <= at:
            if most == 0:
                continue
            most -= 1
        kept.append(row)
    return kept


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
        # Reading a page that is not in the file would end the process, without a word.
        whole = (self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"]
        if (size := path.stat().st_size) < whole:
            raise Broken(
                f"the index {path.name} is cut short: it has {size:,} of {whole:,} bytes",
                hint="unpack the package again",
            )
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


def _normal(value: Any, kind: str) -> Any:
    if isinstance(value, dt.datetime):
        try:
            return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        except OverflowError:  # before the year 1 or after 9999 there: no row has it
            return value
    if kind.startswith("decimal"):
        value = decimal.Decimal(repr(value)) if isinstance(value, float) else decimal.Decimal(value)
        scale = int(kind.rstrip(")").partition(",")[2] or 0)
        try:
            exact = value.quantize(decimal.Decimal(1).scaleb(-scale), context=_EXACT)
        except decimal.InvalidOperation:
            return value
        if exact != value:
            return value
        return exact or abs(exact)  # there is but one zero
    return value
