"""Rows of PostgreSQL, by its own COPY, read while they come.

One statement in one read-only transaction, so what is read is one moment's. Values of types without a counterpart
(uuid, json, arrays, intervals …) come in as the text PostgreSQL writes for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from tulle.engine.engine import literal, quoted
from tulle.errors import Invalid, NotFound, TulleError
from tulle.pipeline.convert import Misfit
from tulle.pipeline.sources.ahead import ahead
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.fitting import Fitting
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.postgres_binary import Columns, chunks, reader, sent
from tulle.pipeline.sources.sql import (
    About,
    Session,
    about,
    missing_driver,
    not_granted,
    signed_out,
    unreachable,
)
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
        with psycopg.connect(**parameters_of(connection)) as opened:
            opened.execute(_SESSION)
            opened.commit()
            opened.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            opened.read_only = True
            yield _Session(opened)
            opened.rollback()
    except psycopg.Error as exc:
        raise _told(exc, connection) from None


@contextmanager
def reading(connection: Connection) -> Iterator[Any]:
    """The driver's own connection, in a session as `session` has it; its errors in our own kinds."""
    with session(connection) as opened:
        assert isinstance(opened, _Session)
        yield opened.driver


def quoted_column(name: str) -> str:
    """A name in a statement that the driver gives values to."""
    return quoted(name).replace("%", "%%")


def parameters_of(connection: Connection) -> dict[str, Any]:
    """What the driver is told: address, name, password."""
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
    said = without_secrets(connection, said)
    hint = exc.diag.message_hint
    state = exc.sqlstate or ""
    if state.startswith("28"):
        return signed_out(connection, said)
    if state == "42501":
        return not_granted(connection, said)
    if state in {"42P01", "3D000", "3F000"}:
        return NotFound(f"the database says: {said}", hint=hint)
    if state == "22021":  # of a database without an encoding, which keeps whatever bytes it was given
        hint = "write a query with convert_from(column::bytea, 'LATIN1'), or whatever encoding it is in"
    if state.startswith(("42", "22")):
        return Invalid(f"the database says: {said}", hint=hint)
    return unreachable(connection, said, hint=hint)


class _Session:
    def __init__(self, opened: Any) -> None:
        self.driver = self._opened = opened

    def ping(self) -> str:
        row = self._opened.execute("SELECT version(), current_database()").fetchone()
        return f"{str(row[0]).split(' on ')[0]}, database {row[1]}"

    def columns(self, statement: str) -> tuple[SourceColumn, ...]:
        return tuple(SourceColumn(column.name, type_of(column)) for column in self._described(statement))

    def batches(self, statement: str, fitting: Fitting) -> Iterator[pa.RecordBatch]:
        described = self._described(statement)
        kinds = tuple(
            sent(column, there.type_code, type_of(there))
            for column, there in zip(fitting.columns, described, strict=True)
        )
        asked = ", ".join(
            kind.asked(quoted(there.name)) for kind, there in zip(kinds, described, strict=True)
        )
        some = False
        rows = f"SELECT {asked} FROM ({statement}) q"  # noqa: S608  names are quoted
        with self._opened.cursor().copy(f"COPY ({rows}) TO STDOUT (FORMAT binary)") as copy:
            for chunk in ahead(chunks(copy), self._opened.cancel_safe):
                some = True
                columns = Columns(chunk, kinds)
                try:
                    yield fitting.ready(columns.arrays())
                except (Misfit, pa.ArrowInvalid):
                    yield fitting.texts(columns.texts(), reader(kinds))
        if not some:
            yield fitting.values([])

    def _described(self, statement: str) -> Sequence[Any]:
        return self._opened.execute(f"{statement} LIMIT 0").description or ()

    def quoted(self, name: str) -> str:
        return quoted(name)

    def about(self, names: Sequence[str]) -> About:
        table = ".".join(quoted(name) for name in names)
        (comment,) = self._opened.execute("SELECT obj_description(%s::regclass)", [table]).fetchone()
        rows = self._opened.execute(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum) "
            "FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [table],
        ).fetchall()
        key = self._opened.execute(
            "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(attnum, n) "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
            "WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY k.n",
            [table],
        ).fetchall()
        return about(comment, rows, (name for (name,) in key))

    def from_there_on(self, cursor: Cursor) -> str:
        column = quoted(cursor.column)
        if cursor.type == "string":
            return f'{column} COLLATE "C" >= {literal(cursor.text)}'
        is_number = cursor.type == "integer" or cursor.type.startswith("decimal")
        return f"{column} >= {cursor.text if is_number else literal(cursor.text)}"


def type_of(column: Any) -> str:
    """Our type of a described column: empty for a decimal without bounds, text for what we have no counterpart of."""
    if column.type_code == _NUMERIC:
        if column.precision is None or column.precision > 38 or not 0 <= column.scale <= column.precision:
            return ""
        return f"decimal({column.precision},{column.scale})"
    return _TYPES.get(column.type_code, "string")
