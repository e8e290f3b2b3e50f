"""Rows of a source put into the types of their columns; a row that does not fit is refused or put aside.

Whole columns are converted at once; only when one does not fit, its values are looked at one by one. Knows nothing
of where rows come from: a place is whatever the source calls it.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tulle.errors import Invalid, LimitExceeded, Place, Problem
from tulle.pipeline.convert import Misfit, arrow_type, convert, expected, parse, parse_json, schema_of
from tulle.spec.source import SourceColumn

SHOWN = 20
MOST_REJECTED = 1_000_000  # of one reading; a source of which so much does not fit is not what was declared
_KEPT_AT_ONCE = 10_000
_SHOWN_CHARACTERS = 60
_DIGITS = 36  # Arrow reads a longer number as another number, without an error
REJECTED = pa.schema(
    [
        ("reason", pa.string()),
        ("place", pa.string()),
        ("row", pa.string()),
        ("run", pa.string()),
        ("at", pa.timestamp("us")),
    ]
)


class Rejects:
    """Rows that do not fit: each is put aside with its reason, or all of them stop the reading at its end."""

    def __init__(self, *, keep: bool, run: str, target: Any) -> None:
        self.count = 0
        self.keeps = keep
        self._keep, self._run, self._target = keep, run, target
        self._problems: list[Problem] = []
        self._waiting: list[tuple[str, str, str]] = []
        self._writer: pq.ParquetWriter | None = None
        self._at = dt.datetime.now(dt.UTC).replace(tzinfo=None)

    def add(self, reasons: Sequence[str], place: Place, row: dict[str, Any]) -> None:
        """A row that does not fit, with all that is wrong with it. LimitExceeded when there are too many."""
        self.count += 1
        if not self._keep:
            if len(self._problems) < SHOWN:
                self._problems.append(Problem("; ".join(reasons), place))
            return
        text = json.dumps(row, default=_plain, ensure_ascii=False)
        if self.count > MOST_REJECTED:
            hint = f"correct the source's columns, or the source; the last: {reasons[0]}"
            raise LimitExceeded(f"more than {MOST_REJECTED:,} rows do not fit", hint=hint)
        self._waiting.append(("; ".join(reasons), str(place), text))
        if len(self._waiting) >= _KEPT_AT_ONCE:
            self._write()

    def end(self, label: str) -> None:
        """The reading has ended. Invalid, with the first problems and the count of all, when rows are refused."""
        if self._waiting:
            self._write()
        self.close()
        if self.count and not self._keep:
            rows = "1 row does" if self.count == 1 else f"{self.count:,} rows do"
            more = f"; the first {SHOWN} are shown" if self.count > SHOWN else ""
            hint = "correct the rows, or the source's columns, or write on_bad_rows: quarantine"
            raise Invalid(
                f"{label}: {rows} not fit{more}; nothing was published", hint=hint, problems=self._problems
            )

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._target, REJECTED, compression="zstd")
        reasons, places, rows = zip(*self._waiting, strict=True)
        count = len(reasons)
        columns = [reasons, places, rows, [self._run] * count, [self._at] * count]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, REJECTED, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=REJECTED))
        self._waiting.clear()


def _plain(value: object) -> object:
    if isinstance(value, bytes | memoryview | bytearray):
        return base64.b64encode(bytes(value)).decode()
    return str(value)


class Fitting:
    """Puts rows of one source into the types of `columns`, in order."""

    def __init__(self, columns: Sequence[SourceColumn], label: str, rejects: Rejects) -> None:
        self.columns = tuple(columns)
        self.schema = schema_of(columns)
        self._label, self._rejects = label, rejects
        self._rows = 0

    def texts(
        self, batch: pa.RecordBatch, quick: Callable[[pa.Array, SourceColumn], pa.Array] = convert
    ) -> pa.RecordBatch:
        """Columns of text, null where there was none; `quick` converts a whole column, raising Misfit."""
        try:
            arrays = [quick(batch.column(i), column) for i, column in enumerate(self.columns)]
            self._rows += batch.num_rows
            return pa.record_batch(arrays, schema=self.schema)
        except (Misfit, pa.ArrowInvalid):
            rows = zip(*(c.to_pylist() for c in batch.columns), strict=True)

            def one(value: Any, column: SourceColumn) -> Any:
                if value is None:
                    return None
                try:
                    return quick(pa.array([value], pa.string()), column)[0].as_py()
                except (Misfit, pa.ArrowInvalid):
                    return parse(value, column)  # says no with a ValueError

            return self._each(rows, one)

    def ready(self, arrays: Sequence[pa.Array]) -> pa.RecordBatch:
        """Columns that are in their types already."""
        batch = pa.record_batch(list(arrays), schema=self.schema)
        self._rows += batch.num_rows
        return batch

    def values(self, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        """Rows of Python values."""
        try:
            found = zip(*rows, strict=True) if rows else ([] for _ in self.columns)
            arrays = [_array(values, column) for values, column in zip(found, self.columns, strict=True)]
            self._rows += len(rows)
            return pa.record_batch(arrays, schema=self.schema)
        except (Misfit, ValueError, TypeError, OverflowError, pa.ArrowException):
            return self._each(rows, value_as)

    def _each(self, rows: Iterable[Sequence[Any]], one: Callable[[Any, SourceColumn], Any]) -> pa.RecordBatch:
        kept: list[list[Any]] = [[] for _ in self.columns]
        for row in rows:
            self._rows += 1
            fitted, reasons = [], []
            for value, column in zip(row, self.columns, strict=True):
                try:
                    fitted.append(one(value, column))
                except (ValueError, TypeError, OverflowError, ArithmeticError, pa.ArrowException):
                    shown = str(value)[:_SHOWN_CHARACTERS]
                    reasons.append(f"column '{column.name}' is '{shown}', expected {expected(column)}")
            if reasons:
                named = {column.name: value for column, value in zip(self.columns, row, strict=True)}
                self._rejects.add(reasons, Place(f"{self._label} row {self._rows:,}"), named)
            else:
                for cells, value in zip(kept, fitted, strict=True):
                    cells.append(value)
        arrays = [pa.array(cells, f.type) for cells, f in zip(kept, self.schema, strict=True)]
        return pa.record_batch(arrays, schema=self.schema)


def _array(values: Iterable[Any], column: SourceColumn) -> pa.Array:
    """Values of the kind the column's type is made of, quickly; ValueError and the like for anything else."""
    cells = list(values)
    kinds = {type(value) for value in cells} - {type(None)}
    quick: dict[str, set[type]] = {
        "integer": {int},
        "double": {float},
        "string": {str},
        "boolean": {bool},
        "binary": {bytes},
    }
    if kinds <= quick.get(column.type, set()):
        return pa.array(cells, arrow_type(column.type))
    if kinds <= {str}:
        return convert(pa.array(cells, pa.string()), column)
    return pa.array([value_as(value, column) for value in cells], arrow_type(column.type))


def value_as(value: Any, column: SourceColumn) -> Any:  # noqa: PLR0911  one line a kind
    """One Python value as a value of the column's type. Raises ValueError."""
    match value:
        case None:
            return None
        case str() | bool() | int() | float():
            return parse_json(value, column)
        case bytes() | bytearray() | memoryview():
            return bytes(value) if column.type == "binary" else parse(bytes(value).decode(), column)
        case Decimal():
            return parse(format(value, "f"), column)
        case dt.datetime():
            if column.type != "date":
                return parse(value.isoformat(" "), column)
            if value.time() != dt.time():
                raise ValueError(value)
            return value.date()
        case dt.date():
            return value if column.type == "date" else parse(value.isoformat(), column)
        case dt.time() | dt.timedelta():
            return parse(str(value), column)
    raise ValueError(value)


def canonical(texts: pa.Array, column: SourceColumn) -> pa.Array:
    """`convert` for texts of a database, which are written one way only: much less to look at."""
    match column.type:
        case "integer" | "double" | "date":
            return pc.cast(texts, arrow_type(column.type))
        case "boolean":
            known = pc.is_in(texts, value_set=pa.array(["t", "f", None]))
            if not pc.all(known, min_count=0).as_py():
                raise Misfit
            return pc.equal(texts, "t")
        case "timestamp":
            return _canonical_times(texts)
        case "binary":
            return pa.array(
                [None if text is None else _octets(text) for text in texts.to_pylist()], pa.binary()
            )
    if column.type.startswith("decimal(") and (pc.max(pc.binary_length(texts)).as_py() or 0) <= _DIGITS:
        return pc.cast(texts, arrow_type(column.type))
    return convert(texts, column)


def _octets(text: str) -> bytes:
    """Bytes as a database writes them; of a type that is no bytes its text."""
    try:
        return bytes.fromhex(text[2:]) if text.startswith("\\x") else text.encode()
    except ValueError as exc:
        raise Misfit from exc


def _canonical_times(texts: pa.Array) -> pa.Array:
    """Times as a database in UTC writes them: all with the zone +00, or all without one."""
    some = pc.drop_null(texts.slice(0, 1000)).slice(0, 1)
    if len(some) and not some[0].as_py().endswith("+00"):
        return pc.cast(texts, arrow_type("timestamp"))
    return pc.cast(pc.cast(texts, pa.timestamp("us", "UTC")), arrow_type("timestamp"))
