"""What is new since the last reading, told by a column that grows.

The last value read is remembered with a digest of every row that has it: rows of the same value that come later are
taken, the ones already taken are not. A row is thus read once, whenever its transaction ended, as long as the column
does not shrink. The digest is of the columns there were when the value was first read: a source that widens does not
make other rows of those that were taken.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tulle.errors import Invalid, LimitExceeded, Problem, did_you_mean
from tulle.pipeline.convert import arrow_type, mesh_type, parse
from tulle.spec.columns import parse_type
from tulle.spec.source import Source, SourceColumn

MOST_AT_THE_END = 100_000
TYPES = ("integer", "double", "decimal", "date", "timestamp", "string")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The greatest value read so far."""

    column: str
    type: str
    text: str
    rows: tuple[str, ...] = ()  # digests of the rows that have it
    columns: tuple[tuple[str, str], ...] = ()  # name and type of those in the digests; empty: all there are

    @property
    def value(self) -> Any:
        """The value itself."""
        return parse(self.text, SourceColumn(self.column, self.type))

    def as_dict(self) -> dict[str, Any]:
        """As it is remembered."""
        return {
            "column": self.column,
            "type": self.type,
            "text": self.text,
            "rows": list(self.rows),
            "columns": [list(one) for one in self.columns],
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Cursor | None:
        """What was remembered; None when it is nothing of ours."""
        try:
            columns = tuple((str(name), str(kind)) for name, kind in value.get("columns") or ())
            rows = tuple(value["rows"])
            return cls(str(value["column"]), str(value["type"]), str(value["text"]), rows, columns)
        except (KeyError, TypeError, ValueError):
            return None


class Fresh:
    """Lets through what is new since `since`, and knows what to remember next."""

    def __init__(self, source: Source, since: Cursor | None) -> None:
        self._source, self._since = source, since
        self._left = Counter(since.rows if since else ())
        self._type = since.type if since else ""
        self._most: Any = since.value if since else None
        self._last: list[str] = list(since.rows) if since else []
        self._columns = since.columns if since else ()

    def filter(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The new rows of a batch. Invalid when there is no such column, or a row has no value in it."""
        name = self._source.cursor
        if name not in batch.schema.names:
            hint = did_you_mean(name, batch.schema.names)
            problem = Problem(f"there is no column '{name}' to tell new rows by", self._source.place, hint)
            raise Invalid(f"the cursor '{name}' is no column of the source", hint=hint, problems=[problem])
        kind = mesh_type(batch.schema.field(name).type) or ""
        if kind.partition("(")[0] not in TYPES:
            raise Invalid(
                f"the cursor '{name}' is {kind}, which has no order", hint="name a number, a time or a text"
            )
        if self._since is not None and self._since.type != kind:
            hint = "run with --full once, which reads everything again"
            raise Invalid(f"the cursor '{name}' was {self._since.type} and is {kind} now", hint=hint)
        self._type = kind
        if batch.column(name).null_count:
            hint = "write a query that leaves such rows out, or name another cursor"
            raise Invalid(
                f"rows have no value in the cursor '{name}': nobody can tell whether they are new",
                hint=hint,
            )
        if self._since is not None:
            batch = self._new(batch, name)
        if batch.num_rows:
            self._remember(batch, name)
        return batch

    def _new(self, batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
        assert self._since is not None
        least = pa.scalar(self._since.value, arrow_type(self._type))
        batch = batch.filter(pc.greater_equal(batch.column(name), least))
        same = pc.equal(batch.column(name), least)
        if not pc.any(same, min_count=0).as_py():
            return batch
        keep = []
        for position, is_same in enumerate(same.to_pylist()):
            digest = row_digest(batch.slice(position, 1), self._since.columns) if is_same else ""
            seen = is_same and self._left[digest] > 0
            if seen:
                self._left[digest] -= 1
            keep.append(not seen)
        return batch.filter(pa.array(keep, pa.bool_()))

    def _remember(self, batch: pa.RecordBatch, name: str) -> None:
        column = batch.column(name)
        most = pc.max(column).as_py()
        if self._most is not None and most < self._most:
            return
        if self._most is None or most > self._most:
            self._most, self._last = most, []
            self._columns = tuple((field.name, mesh_type(field.type) or "") for field in batch.schema)
        at_end = batch.filter(pc.equal(column, pa.scalar(most, column.type)))
        if len(self._last) + at_end.num_rows > MOST_AT_THE_END:
            hint = "name a cursor whose values differ more, such as a time of change or a number"
            raise LimitExceeded(
                f"more than {MOST_AT_THE_END:,} rows have the same value in '{name}'", hint=hint
            )
        self._last += [row_digest(at_end.slice(i, 1), self._columns) for i in range(at_end.num_rows)]

    @property
    def cursor(self) -> Cursor | None:
        """What to remember, None when nothing was read yet."""
        if self._most is None:
            return None
        return Cursor(self._source.cursor, self._type, text_of(self._most), tuple(self._last), self._columns)


def row_digest(row: pa.RecordBatch, columns: Sequence[tuple[str, str]] = ()) -> str:
    """What tells one row from others, by these columns in these types, or by all as they are."""
    known = columns or tuple((field.name, "") for field in row.schema)
    there = set(row.schema.names)
    cells = [(row.column(name)[0].as_py() if name in there else None, kind) for name, kind in known]
    values = [None if value is None else text_of(_narrowed(value, kind)) for value, kind in cells]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:24]


def _narrowed(value: Any, kind: str) -> Any:
    """A value of a type that became wider as it was in the one before, where it is the same there."""
    match value:
        case float() | Decimal() if kind == "integer" and value == value // 1:
            return int(value)
        case Decimal() if wanted := parse_type(kind):
            return rounded if (rounded := round(value, wanted.scale)) == value else value
        case dt.datetime() if kind == "date" and value.time() == dt.time():
            return value.date()
    return value


def text_of(value: Any) -> str:
    """A value as text that reads back as the same value."""
    match value:
        case dt.datetime():
            return value.isoformat(" ")
        case dt.date():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case float():
            return repr(value)
        case bytes():
            return value.hex()
    return str(value)
