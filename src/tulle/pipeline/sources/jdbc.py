"""Rows of any database that has a JDBC driver, through a Java machine in this process.

The driver is loaded from the jar its connection names, beside others, so two connections may have two versions. The
machine's clock is in UTC, so a time with a zone and one without both read as what they are.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tulle.engine.engine import literal
from tulle.errors import Invalid, NotFound, TulleError
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
_SIGN_IN_SECONDS = "15"
_HEAP = "-Xmx512m"
# By the numbers of java.sql.Types.
_TYPES = {
    -7: "boolean",
    16: "boolean",
    -6: "integer",
    5: "integer",
    4: "integer",
    -5: "integer",
    6: "double",
    7: "double",
    8: "double",
    91: "date",
    93: "timestamp",
    2014: "timestamp",
    -2: "binary",
    -3: "binary",
    -4: "binary",
    2004: "binary",
}
_EXACT = {2, 3}
_STARTING = threading.Lock()


@contextmanager
def session(connection: Connection) -> Iterator[Session]:
    """A session, read-only where the driver knows that."""
    jpype = _machine()
    opened = None
    try:
        opened = _connected(jpype, connection)
        opened.setAutoCommit(False)
        opened.setReadOnly(True)
        yield _Session(jpype, opened)
    except jpype.JClass("java.sql.SQLException") as exc:
        raise _told(exc, connection) from None
    except jpype.JException as exc:  # a driver may throw anything, and its words may hold what it was given
        said = without_secrets(connection, str(exc).strip().partition("\n")[0])[:300]
        hint = "see the driver's documentation; its jar may need others beside it"
        raise Invalid(f"the driver of connection '{connection.name}' fails: {said}", hint=hint) from None
    finally:
        if opened is not None:
            _close(jpype, opened)


def _machine() -> Any:
    try:
        import jpype  # noqa: PLC0415  an extra
    except ImportError:
        raise missing_driver("JDBC", "jdbc") from None
    with _STARTING:
        if not jpype.isJVMStarted():
            options = [_HEAP, "-XX:+UseSerialGC", "-Xrs", "-Duser.timezone=UTC", "-Djava.awt.headless=true"]
            try:
                jpype.startJVM(*options, convertStrings=False)
            except (jpype.JVMNotFoundException, OSError) as exc:
                hint = "install a Java runtime, such as Debian's default-jre-headless"
                raise Invalid(f"Java cannot be started: {exc}", hint=hint) from None
    return jpype


def _connected(jpype: Any, connection: Connection) -> Any:
    jars = [Path(jar) for jar in connection.options["jar"].split(":")]
    for jar in jars:
        if not jar.is_file():
            raise NotFound(f"there is no driver at {jar}", hint=f"`tulle connection set {connection.name} …`")
    java = jpype.JPackage("java")
    urls = [java.io.File(str(jar)).toURI().toURL() for jar in jars]
    loader = java.net.URLClassLoader(jpype.JArray(java.net.URL)(urls))
    properties = java.util.Properties()
    if user := connection.options.get("user"):
        properties.setProperty("user", user)
    properties.setProperty("loginTimeout", _SIGN_IN_SECONDS)
    for name, secret in connection.secrets.items():
        properties.setProperty(name, secret)
    for driver in _drivers(jpype, loader, connection.options.get("driver", "")):
        if driver.acceptsURL(connection.address) and (
            opened := driver.connect(connection.address, properties)
        ):
            return opened
    message = f"no driver in {', '.join(map(str, jars))} knows the address of connection '{connection.name}'"
    raise Invalid(message, hint="see the driver's documentation, or name its class: --option driver=…")


def _drivers(jpype: Any, loader: Any, name: str) -> list[Any]:
    java = jpype.JPackage("java")
    if not name:
        return list(java.util.ServiceLoader.load(java.sql.Driver.class_, loader))
    try:
        found = loader.loadClass(name).getDeclaredConstructor().newInstance()
    except jpype.JClass("java.lang.ReflectiveOperationException"):
        found = None
    if not isinstance(found, java.sql.Driver):
        raise Invalid(f"the jar has no driver '{name[:100]}'", hint="leave it out: its jar usually says")
    return [found]


def _close(jpype: Any, opened: Any) -> None:
    try:
        opened.rollback()
        opened.close()
    except jpype.JClass("java.sql.SQLException"):
        pass  # it is gone already


def _told(exc: Any, connection: Connection) -> TulleError:
    said = str(exc.getMessage() or exc).strip().splitlines()[0]
    said = without_secrets(connection, said)
    state = str(exc.getSQLState() or "")
    if state.startswith("28"):
        return signed_out(connection, said)
    if state == "42501":
        return not_granted(connection, said)
    if state.startswith(("42", "22", "25", "3D", "3F")):
        return Invalid(f"the database says: {said}")
    return unreachable(connection, said)


class _Session:
    def __init__(self, jpype: Any, opened: Any) -> None:
        self._jpype, self._opened = jpype, opened
        self._quote = str(opened.getMetaData().getIdentifierQuoteString() or "").strip()

    def ping(self) -> str:
        meta = self._opened.getMetaData()
        return (
            f"{meta.getDatabaseProductName()} {meta.getDatabaseProductVersion()}, by {meta.getDriverName()}"
        )

    def columns(self, statement: str) -> tuple[SourceColumn, ...]:
        prepared = self._opened.prepareStatement(statement)
        try:
            about = prepared.getMetaData()
            if about is None:  # a driver that only knows once it has rows
                prepared.setMaxRows(1)
                about = prepared.executeQuery().getMetaData()
            numbers = range(1, about.getColumnCount() + 1)
            return tuple(SourceColumn(str(about.getColumnLabel(n)), _type(about, n)) for n in numbers)
        finally:
            prepared.close()

    def batches(self, statement: str, fitting: Fitting) -> Iterator[pa.RecordBatch]:
        asked = self._opened.createStatement()
        try:
            asked.setFetchSize(_ROWS)
            rows = asked.executeQuery(statement)
            about = rows.getMetaData()
            readers = [
                _reader(rows, int(about.getColumnType(n + 1)), n + 1) for n in range(len(fitting.columns))
            ]
            found = []
            while rows.next():
                found.append([read() for read in readers])
                if len(found) == _ROWS:
                    yield fitting.values(found)
                    found = []
            yield fitting.values(found)
        finally:
            asked.close()

    def about(self, names: Sequence[str]) -> About:
        meta = self._opened.getMetaData()
        schema = names[-2] if len(names) > 1 else self._opened.getSchema()
        catalog = names[0] if len(names) > 2 else self._opened.getCatalog()
        rows = [
            (
                r.getString("COLUMN_NAME"),
                r.getString("TYPE_NAME"),
                r.getInt("NULLABLE") == 0,
                r.getString("REMARKS"),
            )
            for r in _rows(meta.getColumns(catalog, _exactly(meta, schema), _exactly(meta, names[-1]), None))
        ]
        keys = [
            (int(r.getShort("KEY_SEQ")), str(r.getString("COLUMN_NAME")))
            for r in _rows(meta.getPrimaryKeys(catalog, schema, names[-1]))
        ]
        tables = _rows(meta.getTables(catalog, _exactly(meta, schema), _exactly(meta, names[-1]), None))
        comment = next((r.getString("REMARKS") for r in tables), "")
        return about(comment, rows, (name for _, name in sorted(keys)))

    def quoted(self, name: str) -> str:
        mark = self._quote
        if mark:
            return f"{mark}{name.replace(mark, mark * 2)}{mark}"
        if not re.fullmatch(r"[^\W\d]\w*", name):
            raise Invalid(
                f"the database cannot quote the name '{name[:100]}'", hint="write a query that renames it"
            )
        return name

    def from_there_on(self, cursor: Cursor) -> str:
        column = self.quoted(cursor.column)
        match cursor.type.partition("(")[0]:
            case "timestamp":
                return f"{column} >= {{ts {literal(cursor.text)}}}"
            case "date":
                return f"{column} >= {{d {literal(cursor.text)}}}"
            case "string":
                message = f"the cursor '{cursor.column}' is text, which every database orders its own way"
                raise Invalid(message, hint="name a number or a time")
        return f"{column} >= {cursor.text}"


def _rows(found: Any) -> Iterator[Any]:
    """The rows of a result; what is yielded is the result itself, at its next row."""
    while found.next():
        yield found
    found.close()


def _exactly(meta: Any, name: Any) -> Any:
    """A name as a pattern that fits it alone."""
    escape = str(meta.getSearchStringEscape() or "")
    return name if name is None else re.sub(r"([_%])", lambda m: escape + m[1], str(name))


def _type(about: Any, number: int) -> str:
    kind = int(about.getColumnType(number))
    if kind in _EXACT:
        precision, scale = int(about.getPrecision(number)), int(about.getScale(number))
        return f"decimal({precision},{scale})" if 0 < precision <= 38 and 0 <= scale <= precision else ""
    return _TYPES.get(kind, "string")


def _reader(rows: Any, kind: int, number: int) -> Any:
    """What gives the value of a column in the present row: text, bytes or None."""
    word = _TYPES.get(kind, "")

    def text() -> str | None:
        value = rows.getString(number)
        return None if value is None else str(value)

    def time() -> str | None:
        value = rows.getTimestamp(number)
        return None if value is None else str(value.toString())

    def octets() -> bytes | None:
        value = rows.getBytes(number)
        return None if value is None else bytes(value)

    return {"timestamp": time, "binary": octets}.get(word, text)
