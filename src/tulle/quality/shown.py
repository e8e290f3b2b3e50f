"""Rows and messages of the engine's, such that they can be shown: whatever they hold, and no more than may be told."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_MESSAGE_CHARACTERS = 500
_CONVERTED = re.compile(
    r"((?:convert|cast|parse)\w* (?:string |value |field )?)(['\"]).*\2", re.DOTALL | re.IGNORECASE
)


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table; moments that Python does not know (after the year 9999, infinity) as text."""
    try:
        return list(table.to_pylist())
    except (OverflowError, ValueError):
        columns = [_cells(column) for column in table.columns]
        return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _cells(column: pa.ChunkedArray) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415  heavy

    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        if not (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)):
            return ["a value that cannot be shown"] * len(column)
    moments = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return [None if moment is None else _beyond(moment) for moment in moments.to_pylist()]


def _beyond(microseconds: int) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()
    except OverflowError:
        return "a time beyond the year 9999" if microseconds > 0 else "a time before the year 1"


def without_values(message: str) -> str:
    """A message of the engine's, cut, and without the value it could not convert: pages mask rows, not messages."""
    message = _CONVERTED.sub(r"\1'…'", message)
    return message if len(message) <= _MESSAGE_CHARACTERS else message[:_MESSAGE_CHARACTERS] + "…"
