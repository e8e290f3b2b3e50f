"""Rows as PostgreSQL's binary COPY sends them, read column by column by NumPy and Arrow, nothing by Python itself.

Only types whose binary form is read exactly are asked for in it; all others, and columns that shall become something
else than they are, come as the text their own output function writes. What has no counterpart (infinite dates, years
beyond 9999, NaN in a decimal) is left to the one who reads values one by one: for him every column is text too. Knows
nothing of connections.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from tulle.errors import Unavailable
from tulle.pipeline.convert import Misfit, arrow_type, convert
from tulle.pipeline.sources.fitting import canonical
from tulle.spec.columns import parse_type
from tulle.spec.source import SourceColumn

ROWS_AT_ONCE = 100_000
BYTES_AT_ONCE = 32 << 20
MOST_DIGITS = 18  # of a decimal that is put together from machine numbers
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_PADDING = bytes(64)  # so that a look behind the last value stays within the buffer
_INT2, _INT4, _INT8, _FLOAT8 = 21, 23, 20, 701
_BOOL, _DATE, _TIMESTAMP, _TIMESTAMPTZ, _BYTES, _NUMERIC = 16, 1082, 1114, 1184, 17, 1700
_TEXTS = {19, 25, 114, 1042, 1043}  # name, text, json, char(n), varchar: sent as they are
_NATURAL = {
    _INT2: "integer",
    _INT4: "integer",
    _INT8: "integer",
    _FLOAT8: "double",
    _BOOL: "boolean",
    _DATE: "date",
    _TIMESTAMP: "timestamp",
    _TIMESTAMPTZ: "timestamp",
    _BYTES: "binary",
}
_WIDTHS = {_INT2: 2, _INT4: 4, _INT8: 8, _FLOAT8: 8, _BOOL: 1, _DATE: 4, _TIMESTAMP: 8, _TIMESTAMPTZ: 8}
_NUMBERS = {_INT2: ">i2", _INT4: ">i4", _INT8: ">i8", _FLOAT8: ">f8", _BOOL: "u1"}
_EPOCH_DAYS, _EPOCH_MICROSECONDS = 10_957, 946_684_800_000_000  # 1 January 2000, from 1970
_DAYS = (-719_162, 2_932_896)  # 0001-01-01 and 9999-12-31, from 1970
_DAY_MICROSECONDS = 86_400_000_000
_CYCLE_DAYS = 146_097  # of 400 years, after which the calendar is the same again
_NAN = 0xC000
_BINARY = pa.binary()


@dataclass(frozen=True, slots=True)
class Sent:
    """How one column comes: in the binary form of type `oid`, or, 0, as text."""

    column: SourceColumn
    oid: int

    def asked(self, quoted: str) -> str:
        """What asks for it."""
        # `concat` writes as the type's own output function does; a cast to text does not for every type.
        return quoted if self.oid else f"CASE WHEN {quoted} IS DISTINCT FROM NULL THEN concat({quoted}) END"


def sent(column: SourceColumn, oid: int, natural: str) -> Sent:
    """How a column comes whose type in the database is `oid`, which is `natural` in the mesh's words."""
    if oid in _TEXTS:
        return Sent(column, oid)
    same = column.type == natural
    if oid == _NUMERIC and same and (kind := parse_type(natural)) and kind.name == "decimal":
        return Sent(column, oid if kind.precision <= MOST_DIGITS else 0)
    return Sent(column, oid if same and _NATURAL.get(oid) == natural else 0)


def reader(kinds: Iterable[Sent]) -> Callable[[pa.Array, SourceColumn], pa.Array]:
    """What puts whole columns of text into their types."""
    said = {kind.column.name for kind in kinds if kind.oid in _TEXTS}
    return lambda texts, column: (convert if column.name in said else canonical)(texts, column)


# ── rows out of what COPY sends ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows: their bytes and where each begins; the last number is where they end."""

    data: bytearray
    starts: np.ndarray[Any, Any]


def chunks(messages: Iterable[Any]) -> Iterator[Chunk]:
    """The rows of a COPY, of which every message is one row; the first has the header before it."""
    data, starts, header = bytearray(), [0], True
    for message in messages:
        if len(starts) > ROWS_AT_ONCE or len(data) > BYTES_AT_ONCE:
            yield Chunk(data, np.array(starts, np.int64))
            data, starts = bytearray(), [0]
        # Each is freed before the next is asked for: keeping thousands of them takes five times as long.
        data += message
        if header and len(data) >= 19:
            if not data.startswith(_SIGNATURE):
                raise _strange()
            del data[: 19 + int.from_bytes(data[15:19], "big")]
            header = False
        if not header and len(data) > starts[-1]:
            starts.append(len(data))
    if len(starts) > 1 and data[starts[-2] : starts[-2] + 2] == b"\xff\xff":
        starts.pop()  # what says that it ends
    elif header:
        raise _strange()
    if len(starts) > 1:
        yield Chunk(data, np.array(starts, np.int64))


def _strange() -> Unavailable:
    hint = "is there a proxy between, or a database that only speaks like it? Try its JDBC driver"
    return Unavailable("the server does not send rows as PostgreSQL does", hint=hint)


class Columns:
    """The columns of one chunk of rows."""

    def __init__(self, chunk: Chunk, kinds: tuple[Sent, ...]) -> None:
        self._kinds = kinds
        self._rows = len(chunk.starts) - 1
        chunk.data.extend(_PADDING)
        self._data = chunk.data
        self._cells = list(self._found(chunk.starts))

    def arrays(self) -> list[pa.Array]:
        """Every column in its type. Raises Misfit."""
        return [
            _READERS.get(kind.oid, _text)(self, cells, kind.column)
            for kind, cells in zip(self._kinds, self._cells, strict=True)
        ]

    def texts(self) -> pa.RecordBatch:
        """Every column as text, as PostgreSQL would write it."""
        arrays = []
        for kind, cells in zip(self._kinds, self._cells, strict=True):
            if kind.oid == 0 or kind.oid in _TEXTS:
                arrays.append(self.octets(cells, pa.string()))
            else:
                raw = self.octets(cells).to_pylist()
                found = [None if value is None else written(value, kind) for value in raw]
                arrays.append(pa.array(found, pa.string()))
        return pa.record_batch(arrays, names=[str(i) for i in range(len(arrays))])

    # ── cells ────────────────────────────────────────────────────────────────────────────────────────────

    def view(self, dtype: str) -> np.ndarray[Any, Any]:
        """What is at each byte, read as a number."""
        size = np.dtype(dtype).itemsize
        return np.ndarray((len(self._data) - size + 1,), dtype, self._data, strides=(1,))

    def _found(self, starts: np.ndarray[Any, Any]) -> Iterator[_Cells]:
        """Where the values of each column are. Unavailable when the rows are not made as they should be."""
        begins, ends = starts[:-1], starts[1:]
        if not (self.view(">i2")[begins] == len(self._kinds)).all():
            raise _strange()
        lengths, at = self.view(">i4"), begins + 2
        for kind in self._kinds:
            if not (at + 4 <= ends).all():
                raise _strange()
            length = lengths[at].astype(np.int64)
            nulls = length < 0
            length[nulls] = 0
            width = _WIDTHS.get(kind.oid)
            if width is not None and not (nulls | (length == width)).all():
                raise _strange()
            at = at + 4
            yield _Cells(at, length, nulls if nulls.any() else None)
            at = at + length
        if not (at == ends).all():
            raise _strange()

    def octets(self, cells: _Cells, kind: pa.DataType = _BINARY) -> pa.Array:
        """Values of any length: Arrow is shown them and what is between as one array, and takes every second."""
        offsets = np.empty(2 * self._rows + 1, np.int32)
        offsets[0:-1:2] = cells.at
        offsets[1::2] = cells.at + cells.length
        offsets[-1] = offsets[-2]
        both = pa.Array.from_buffers(
            kind, 2 * self._rows, [None, pa.py_buffer(offsets), pa.py_buffer(self._data)]
        )
        wanted = np.arange(0, 2 * self._rows, 2, dtype=np.int32)
        return both.take(pa.array(wanted, mask=cells.nulls))

    def numbers(self, cells: _Cells, dtype: str) -> np.ndarray[Any, Any]:
        """Values of one width, in the machine's order."""
        found: np.ndarray[Any, Any] = self.view(dtype)[cells.at]
        found = found.astype(found.dtype.newbyteorder("="))
        if cells.nulls is not None:
            found[cells.nulls] = 0
        return found


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where the values of one column are, how long, and which are null (None: none is)."""

    at: np.ndarray[Any, Any]
    length: np.ndarray[Any, Any]
    nulls: np.ndarray[Any, Any] | None


# ── one reader a type ────────────────────────────────────────────────────────────────────────────────────


def _text(columns: Columns, cells: _Cells, column: SourceColumn) -> pa.Array:
    found = columns.octets(cells, pa.string())
    return found if column.type == "string" else canonical(found, column)


def _said(columns: Columns, cells: _Cells, column: SourceColumn) -> pa.Array:
    """What somebody wrote, in whatever way: no output function of a type did."""
    found = columns.octets(cells, pa.string())
    return found if column.type == "string" else convert(found, column)


def _bytes(columns: Columns, cells: _Cells, _column: SourceColumn) -> pa.Array:
    return columns.octets(cells)


def _number(dtype: str) -> Callable[[Columns, _Cells, SourceColumn], pa.Array]:
    def read(columns: Columns, cells: _Cells, column: SourceColumn) -> pa.Array:
        found = columns.numbers(cells, dtype)
        if column.type == "boolean":
            found = found.astype(bool)
        return pa.array(found, mask=cells.nulls).cast(arrow_type(column.type))

    return read


def _date(columns: Columns, cells: _Cells, _column: SourceColumn) -> pa.Array:
    days = columns.numbers(cells, ">i4").astype(np.int64) + _EPOCH_DAYS
    if len(days) and (days.min() < _DAYS[0] or days.max() > _DAYS[1]):
        raise Misfit
    return pa.array(days.astype(np.int32), pa.int32(), mask=cells.nulls).cast(pa.date32())


def _timestamp(columns: Columns, cells: _Cells, _column: SourceColumn) -> pa.Array:
    found = columns.numbers(cells, ">i8")
    least = _DAYS[0] * _DAY_MICROSECONDS - _EPOCH_MICROSECONDS
    most = (_DAYS[1] + 1) * _DAY_MICROSECONDS - 1 - _EPOCH_MICROSECONDS
    if len(found) and (found.min() < least or found.max() > most):
        raise Misfit
    return pa.array(found + _EPOCH_MICROSECONDS, pa.int64(), mask=cells.nulls).cast(pa.timestamp("us"))


def _decimal(columns: Columns, cells: _Cells, column: SourceColumn) -> pa.Array:
    """Digits to the base of 10,000 into one whole number of the column's last place."""
    kind = parse_type(column.type)
    assert kind is not None
    head = [columns.numbers(_Cells(cells.at + 2 * i, cells.length, cells.nulls), ">i2") for i in range(3)]
    count, weight, sign = head[0], head[1].astype(np.int64), head[2].view(np.uint16)
    if np.isin(sign, (0, 0x4000), invert=True).any() or (count < 0).any():
        raise Misfit  # not a number, or infinite
    if not ((cells.length == 8 + 2 * count) | (cells.length == 0)).all():
        raise _strange()
    total = np.zeros(len(count), np.int64)
    for position in range(int(count.max(initial=0))):
        here = np.flatnonzero(count > position)
        digit = columns.view(">i2")[cells.at[here] + 8 + 2 * position].astype(np.int64)
        places = 4 * (weight[here] - position) + kind.scale
        if (places < -3).any() or (places > MOST_DIGITS - 1).any():
            raise Misfit
        below = 10 ** np.maximum(-places, 0)
        if (digit % below).any():
            raise Misfit
        total[here] += digit // below * 10 ** np.maximum(places, 0)
    if (total >= 10**kind.precision).any() or (total < 0).any():
        raise Misfit
    wide = np.empty((len(total), 2), "<i8")
    wide[:, 0] = np.where(sign == 0, total, -total)
    wide[:, 1] = wide[:, 0] >> 63
    there = None if cells.nulls is None else pa.array(~cells.nulls).buffers()[1]
    return pa.Array.from_buffers(arrow_type(column.type), len(total), [there, pa.py_buffer(wide)])


_READERS: dict[int, Callable[[Columns, _Cells, SourceColumn], pa.Array]] = {
    **{oid: _number(dtype) for oid, dtype in _NUMBERS.items()},
    _DATE: _date,
    _TIMESTAMP: _timestamp,
    _TIMESTAMPTZ: _timestamp,
    _BYTES: _bytes,
    _NUMERIC: _decimal,
    **dict.fromkeys(_TEXTS, _said),
}


# ── one value as text ────────────────────────────────────────────────────────────────────────────────────


def written(value: bytes, kind: Sent) -> str:
    """One value as a text that reads back as the same, of what has no counterpart as PostgreSQL writes it."""
    return _WRITERS.get(kind.oid, _written_number)(value)


def _written_number(value: bytes) -> str:
    return str(_whole(value))


def _whole(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _written_decimal(value: bytes) -> str:
    count, weight, sign, scale = struct.unpack(">hhHH", value[:8])
    if sign not in {0, 0x4000}:
        return {_NAN: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign, "?")
    digits = struct.unpack(f">{count}h", value[8:])
    number = sum(
        (Decimal(digit).scaleb(4 * (weight - i)) for i, digit in enumerate(digits)), start=Decimal(0)
    )
    return format(number.quantize(Decimal(1).scaleb(-scale)) * (-1 if sign else 1), "f")


def _written_double(value: bytes) -> str:
    number: float = struct.unpack(">d", value)[0]
    return repr(number).removesuffix(".0")


def _written_date(days: int) -> str:
    if days in {2**31 - 1, -(2**31)}:
        return "infinity" if days > 0 else "-infinity"
    # Years that Python does not know are those of the same place in another 400 years.
    cycles, rest = divmod(days + _EPOCH_DAYS - _DAYS[0], _CYCLE_DAYS)
    day = date(1, 1, 1) + timedelta(rest)
    year = day.year + 400 * cycles
    return f"{year if year > 0 else 1 - year:04d}-{day:%m-%d}" + ("" if year > 0 else " BC")


def _written_time(microseconds: int) -> str:
    if microseconds in {2**63 - 1, -(2**63)}:
        return "infinity" if microseconds > 0 else "-infinity"
    days, rest = divmod(microseconds, _DAY_MICROSECONDS)
    day, _, before = _written_date(days).partition(" ")
    time = (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=rest)).strftime("%H:%M:%S.%f")
    return f"{day} {time.rstrip('0').rstrip('.')}" + (f" {before}" if before else "")


def _written_zoned(value: bytes) -> str:
    time, bc, _ = _written_time(_whole(value)).partition(" BC")
    return time if "infinity" in time else f"{time}+00{bc}"


_WRITERS: dict[int, Callable[[bytes], str]] = {
    _BYTES: lambda value: f"\\x{value.hex()}",
    _BOOL: lambda value: "t" if value != b"\x00" else "f",
    _FLOAT8: _written_double,
    _NUMERIC: _written_decimal,
    _DATE: lambda value: _written_date(_whole(value)),
    _TIMESTAMP: lambda value: _written_time(_whole(value)),
    _TIMESTAMPTZ: _written_zoned,
}
