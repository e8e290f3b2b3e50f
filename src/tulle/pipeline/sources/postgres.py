"""Rows of PostgreSQL, by its own COPY: as text, which is exact for every type, and read by Arrow.

One statement in one read-only transaction, so what is read is one moment's. Values of types without a counterpart
(uuid, json, arrays, intervals …) come in as the text PostgreSQL writes for them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.csv as pa_csv

from tulle.engine.engine import literal, quoted
from tulle.errors import Denied, Invalid, NotFound, TulleError, Unavailable
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.fitting import Fitting, canonical
from tulle.pipeline.sources.sql import Session, missing_driver
from tulle.spec.source import SourceColumn
from tulle.state.connections import Connection

_TYPES = {
    16: "boolean",
    17: "binary",
    20: "integer",
    21: "integer",
    23: "integer",
    26: "integer",
    700: "double",
    701: "double",
    1082: "date",
    1114: "timestamp",
    1184: "timestamp",
}
_NUMERIC = 1700
_BLOCK_BYTES = 4 << 20
_ROWS_AT_ONCE = 4096
_CONNECT_SECONDS = 15
_SESSION = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex'; "
    "SET client_encoding = 'UTF8'; SET extra_float_digits = 3; SET standard_conforming_strings = on; "
    "SET idle_in_transaction_session_timeout = 0"
)


@contextmanager
def session(connection: Connection) -> Iterator[Session]:
    """A read-only session."""
    try:
        import psycopg  # noqa: PLC0415  an extra
    except ImportError:
        raise missing_driver("PostgreSQL", "postgres") from None
    try:
        with psycopg.connect(**_parameters(connection)) as opened:
            opened.execute(_SESSION)
            opened.commit()
            opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            opened.read_only = True
            yield _Session(opened)
            opened.rollback()
    except psycopg.Error as exc:
        raise _told(exc, connection) from None


def _parameters(connection: Connection) -> dict[str, Any]:
    parts = urlsplit(connection.address)
    found: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port,
        "dbname": unquote(parts.path.lstrip("/")) or None,
        "user": connection.options.get("user"),
        "password": connection.secrets.get("password"),
        "sslmode": connection.options.get("sslmode"),
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "tulle",
    }
    found.update(parse_qsl(parts.query))
    return {key: value for key, value in found.items() if value is not None}


def _told(exc: Any, connection: Connection) -> TulleError:
    """A failure of the database in our own kinds."""
    said = (exc.diag.message_primary or str(exc)).strip().splitlines()[0]
    said = said.replace(connection.secrets.get("password") or "\0", "…")
    hint = exc.diag.message_hint
    state = exc.sqlstate or ""
    if state.startswith("28"):
        return Denied(
            f"the database refuses to sign in: {said}", hint=f"`tulle connection set {connection.name} …`"
        )
    if state == "42501":
        return Denied(f"the database refuses: {said}", hint="grant its user SELECT on the table")
    if state in {"42P01", "3D000", "3F000"}:
        return NotFound(f"the database says: {said}", hint=hint)
    if state.startswith(("42", "22")):
        return Invalid(f"the database says: {said}", hint=hint)
    hint = hint or f"`tulle connection test {connection.name}` tries it again"
    return Unavailable(f"the database of connection '{connection.name}' does not answer: {said}", hint=hint)


class _Session:
    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def ping(self) -> str:
        row = self._opened.execute("SELECT version(), current_database()").fetchone()
        return f"{str(row[0]).split(' on ')[0]}, database {row[1]}"

    def columns(self, statement: str) -> tuple[SourceColumn, ...]:
        found = self._opened.execute(f"{statement} LIMIT 0").description or ()
        return tuple(SourceColumn(column.name, _type(column)) for column in found)

    def batches(self, statement: str, fitting: Fitting) -> Iterator[pa.RecordBatch]:
        names = [str(position) for position in range(len(fitting.columns))]
        with self._opened.cursor().copy(f"COPY ({statement}) TO STDOUT (FORMAT csv)") as copy:
            stream = _Rows(iter(copy))
            if stream.is_empty():
                yield fitting.values([])
                return
            reader = pa_csv.open_csv(
                pa.PythonFile(stream, mode="r"),
                read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=names),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                convert_options=pa_csv.ConvertOptions(
                    check_utf8=False,  # the server has seen to it
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield fitting.texts(batch, canonical)

    def quoted(self, name: str) -> str:
        return quoted(name)

    def literal(self, cursor: Cursor) -> tuple[str, str]:
        if cursor.type == "string":
            return literal(cursor.text), ' COLLATE "C"'
        if cursor.type == "integer" or cursor.type.startswith("decimal"):
            return cursor.text, ""
        return literal(cursor.text), ""


def _type(column: Any) -> str:
    if column.type_code == _NUMERIC:
        if column.precision is None or column.precision > 38 or not 0 <= column.scale <= column.precision:
            return ""
        return f"decimal({column.precision},{column.scale})"
    return _TYPES.get(column.type_code, "string")


class _Rows(io.RawIOBase):
    """What COPY sends, row by row, as a stream of large pieces."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows, self._left, self._ended = rows, b"", False

    def is_empty(self) -> bool:
        self._left = self._left or self._more(1)
        return not self._left

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0 or len(self._left) < size:
            self._left += self._more(size - len(self._left) if size >= 0 else -1)
        size = len(self._left) if size < 0 else size
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    def _more(self, size: int) -> bytes:
        pieces: list[bytes] = []
        length = 0
        while size < 0 or length < size:
            piece = b"".join(islice(self._rows, _ROWS_AT_ONCE))
            if not piece:
                break
            pieces.append(piece)
            length += len(piece)
        return b"".join(pieces)
