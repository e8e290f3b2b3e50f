"""Rows of MySQL and MariaDB, fetched row by row while they come, so that a table may be larger than memory.

One statement in one read-only transaction in UTC. Every value comes as the text the server writes, which is exact but
for two types that are asked for as what they are: FLOAT, whose text is cut, and BIT, which is bytes.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from tulle.engine.engine import literal
from tulle.errors import Invalid, NotFound, TulleError, Unavailable
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.fitting import Fitting
from tulle.pipeline.sources.hidden import without_secrets
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

_ROWS = 10_000
_CONNECT_SECONDS = 15
_SLOW_SECONDS = 3600  # how long the server waits while we are at work on what it sent
_BINARY = 63  # the number of the character set that is none
_UNSIGNED = 32
_TINY, _SHORT, _LONG, _LONGLONG, _INT24, _YEAR = 1, 2, 3, 8, 9, 13
_FLOAT, _DOUBLE, _BIT = 4, 5, 16
_DATE, _NEWDATE, _TIMESTAMP, _DATETIME = 10, 14, 7, 12
_TYPES = {
    **dict.fromkeys((_TINY, _SHORT, _LONG, _LONGLONG, _INT24, _YEAR), "integer"),
    **dict.fromkeys((_FLOAT, _DOUBLE), "double"),
    **dict.fromkeys((_DATE, _NEWDATE), "date"),
    **dict.fromkeys((_TIMESTAMP, _DATETIME), "timestamp"),
    255: "binary",  # geometry
}
_OCTETS = {15, 249, 250, 251, 252, 253, 254}  # texts or bytes, by their character set
_SIGN_IN, _MAY_NOT = {1045, 1698, 1044, 1251, 1862}, {1142, 1143, 1227, 1370}
_NOT_THERE = {1049, 1051, 1146, 1109}
_PASSING = {1040, 1053, 1129, 1203, 1205, 1213, 1226, 1317, 1927, 1969, 3024}


@contextmanager
def session(connection: Connection) -> Iterator[Session]:
    """A read-only session."""
    try:
        import pymysql  # noqa: PLC0415  an extra
    except ImportError:
        raise missing_driver("MySQL", "mysql") from None
    asking = _Asking(connection, pymysql)
    with asking.told():
        opened = pymysql.connect(**_parameters(connection), conv=dict(pymysql.converters.encoders))
    try:
        with asking.told(), opened.cursor() as cursor:
            cursor.execute(f"SET SESSION time_zone = '+00:00', net_write_timeout = {_SLOW_SECONDS}")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield _Session(asking, opened)
    finally:
        if opened.open:
            opened.close()  # which ends the transaction


def _parameters(connection: Connection) -> dict[str, Any]:
    parts = urlsplit(connection.address)
    says = dict(parse_qsl(parts.query))
    return {
        "host": parts.hostname,
        "port": parts.port or 0,
        "unix_socket": says.get("unix_socket"),
        "database": unquote(parts.path.lstrip("/")) or None,
        "user": connection.options.get("user"),
        "password": connection.secrets.get("password", "").encode(),
        "charset": "utf8mb4",
        "connect_timeout": _CONNECT_SECONDS,
        "program_name": "tulle",
        **_ssl(connection.options.get("sslmode", "prefer"), says.get("ssl_ca")),
    }


def _ssl(mode: str, authority: str | None) -> dict[str, Any]:
    if mode in {"prefer", "disable"}:
        return {"ssl_disabled": mode == "disable"}
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


class _Asking:
    """What the driver raises, in our own kinds."""

    def __init__(self, connection: Connection, driver: Any) -> None:
        self._connection, self._driver = connection, driver
        self.streaming = driver.cursors.SSCursor

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as exc:
            raise self._told(exc) from None
        except (AssertionError, IndexError, RuntimeError, ValueError, struct.error, OSError) as exc:
            # What a server sends that does not speak as it should, or speaks of our files.
            said = self._plain(str(exc) or type(exc).__name__)
            name = self._connection.name
            message = f"the database of connection '{name}' does not answer as MySQL does: {said}"
            raise Unavailable(message, hint="is it the right address?") from None

    def _plain(self, text: str) -> str:
        said = text.strip().splitlines()[0] if text.strip() else "no reason is given"
        return without_secrets(self._connection, said)[:300]

    def _told(self, exc: Exception) -> TulleError:
        code, text = (*exc.args, "", "")[:2] if exc.args else (0, "")
        said = self._plain(str(text or code))
        if code in _SIGN_IN:
            return signed_out(self._connection, said)
        if code in _MAY_NOT:
            return not_granted(self._connection, said)
        if code in _NOT_THERE:
            return NotFound(f"the database says: {said}")
        if isinstance(code, int) and 1000 <= code < 2000 and code not in _PASSING:
            return Invalid(f"the database says: {said}")
        return unreachable(self._connection, said)


class _Session:
    def __init__(self, asking: _Asking, opened: Any) -> None:
        self._asking, self._opened = asking, opened

    def ping(self) -> str:
        with self._asking.told(), self._opened.cursor() as cursor:
            cursor.execute("SELECT version(), database(), @@version_comment")
            version, database, comment = cursor.fetchone()
        kind = "MariaDB" if "mariadb" in f"{version} {comment}".lower() else "MySQL"
        return f"{kind} {version}, " + (f"database {database}" if database else "no database chosen")

    def columns(self, statement: str) -> tuple[SourceColumn, ...]:
        return tuple(SourceColumn(field.name, _type(field)) for field in self._fields(statement))

    def _fields(self, statement: str) -> list[Any]:
        with self._asking.told(), self._opened.cursor() as cursor:
            cursor.execute(f"{statement} LIMIT 0")
            # Its public description does not say which numbers have no sign.
            return list(cursor._result.fields)  # noqa: SLF001

    def batches(self, statement: str, fitting: Fitting) -> Iterator[pa.RecordBatch]:
        fields = self._fields(statement)
        if any(field.type_code in {_FLOAT, _BIT} for field in fields):
            asked = ", ".join(self._asked(field) for field in fields)
            statement = f"SELECT {asked} FROM ({statement}) q"  # noqa: S608  names are quoted
        cursor = self._opened.cursor(self._asking.streaming)
        ended = False
        try:
            with self._asking.told():
                cursor.execute(statement)
            while True:
                with self._asking.told():
                    rows = cursor.fetchmany(_ROWS)
                if not rows:
                    break
                yield fitting.values(rows)
            ended = True
            yield fitting.values([])
        finally:
            if not ended and cursor._result is not None:  # noqa: SLF001
                # Closing would read all that is left, however much that is: the connection is dropped instead.
                cursor._result.unbuffered_active = False  # noqa: SLF001
                self._opened.close()
            else:
                cursor.close()

    def _asked(self, field: Any) -> str:
        name = self.quoted(field.name)
        return {_FLOAT: f"{name} + 0E0", _BIT: f"{name} + 0"}.get(field.type_code, name)

    def about(self, names: Sequence[str]) -> About:
        table = names[-1]
        with self._asking.told(), self._opened.cursor() as cursor:
            cursor.execute("SELECT database()")
            schema = names[-2] if len(names) > 1 else cursor.fetchone()[0]
            at = "WHERE table_schema = %s AND table_name = %s"
            cursor.execute(f"SELECT table_comment FROM information_schema.tables {at}", [schema, table])  # noqa: S608
            (comment,) = cursor.fetchone() or ("",)
            cursor.execute(
                "SELECT column_name, column_type, is_nullable = 'NO', column_comment "  # noqa: S608
                f"FROM information_schema.columns {at} ORDER BY ordinal_position",
                [schema, table],
            )
            rows = [(name, kind, str(filled) == "1", said) for name, kind, filled, said in cursor.fetchall()]
            cursor.execute(
                f"SELECT column_name FROM information_schema.statistics {at} "  # noqa: S608
                "AND index_name = 'PRIMARY' ORDER BY seq_in_index",
                [schema, table],
            )
            return about("" if comment == "VIEW" else comment, rows, (name for (name,) in cursor.fetchall()))

    def quoted(self, name: str) -> str:
        return f"`{name.replace('`', '``')}`"

    def from_there_on(self, cursor: Cursor) -> str:
        column = self.quoted(cursor.column)
        match cursor.type.partition("(")[0]:
            case "timestamp":
                return f"{column} >= TIMESTAMP{literal(cursor.text)}"
            case "date":
                return f"{column} >= DATE{literal(cursor.text)}"
            case "string":
                # By its bytes, as texts are ordered here; every collation has an order of its own.
                return f"CAST(CONVERT({column} USING utf8mb4) AS BINARY) >= X'{cursor.text.encode().hex()}'"
        return f"{column} >= {cursor.text}"


def _type(field: Any) -> str:
    unsigned = bool(field.flags & _UNSIGNED)
    match field.type_code:
        case 0 | 246:  # old and new decimals; the length counts sign and point
            precision = field.length - (not unsigned) - (field.scale > 0)
            return f"decimal({precision},{field.scale})" if 0 < precision <= 38 else ""
        case 8 if unsigned:
            return "decimal(20,0)"
        case 16:
            return "boolean" if field.length == 1 else "integer" if field.length < 64 else "decimal(20,0)"
    if field.type_code in _OCTETS:
        return "binary" if field.charsetnr == _BINARY else "string"
    return _TYPES.get(field.type_code, "string")
