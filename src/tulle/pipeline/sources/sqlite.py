"""Rows of an SQLite file, opened for reading only.

SQLite lets every value have a type of its own, so each is held to the column's: as the table declares it, or, for a
query, as all its values are.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from tulle.engine.engine import literal, quoted
from tulle.errors import Denied, Invalid, NotFound, TulleError, Unavailable
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.fitting import Fitting
from tulle.pipeline.sources.sql import About, Session, about
from tulle.spec.source import SourceColumn
from tulle.state.connections import Connection

_ROWS = 50_000
_WAIT_SECONDS = 30.0
_DECLARED = (
    (r"bool", "boolean"),
    (r"int", "integer"),
    (r"timestamp|datetime", "timestamp"),
    (r"date", "date"),
    (r"char|clob|text|json|uuid", "string"),
    (r"blob|binary", "binary"),
    (r"real|floa|doub", "double"),
)
_FOUND = {
    frozenset({"integer"}): "integer",
    frozenset({"real"}): "double",
    frozenset({"integer", "real"}): "double",
    frozenset({"blob"}): "binary",
}


@contextmanager
def session(connection: Connection) -> Iterator[Session]:
    """A read-only session."""
    file = Path(unquote(connection.address.removeprefix("sqlite:///").partition("?")[0]))
    if not file.is_file():
        raise NotFound(f"there is no file {file}", hint=f"`tulle connection set {connection.name} …`")
    try:
        opened = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)
        with closing(opened):
            opened.execute("PRAGMA query_only = 1")
            opened.execute("PRAGMA trusted_schema = 0")
            opened.execute("BEGIN")
            yield _Session(opened)
    except sqlite3.Error as exc:
        raise _told(exc, connection, file) from None


def _told(exc: sqlite3.Error, connection: Connection, file: Path) -> TulleError:
    said = str(exc)
    if "no such" in said:
        return NotFound(f"the database says: {said}")
    if "readonly" in said or "not authorized" in said:
        return Denied(f"the database refuses: {said}")
    if isinstance(exc, sqlite3.DatabaseError) and "not a database" in said:
        return Invalid(f"{file} is no SQLite database", hint=f"`tulle connection set {connection.name} …`")
    if isinstance(exc, sqlite3.OperationalError) and ("locked" in said or "unable" in said):
        return Unavailable(f"the database of connection '{connection.name}' does not answer: {said}")
    return Invalid(f"the database says: {said}")


class _Session:
    def __init__(self, opened: sqlite3.Connection) -> None:
        self._opened = opened

    def ping(self) -> str:
        tables = self._opened.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
        return f"SQLite {sqlite3.sqlite_version}, {tables} tables"

    def columns(self, statement: str) -> tuple[SourceColumn, ...]:
        names = [column[0] for column in self._opened.execute(f"{statement} LIMIT 0").description]
        declared = self._declared(statement)
        unknown = [name for name in names if name not in declared]
        found = self._found(statement, unknown) if unknown else {}
        return tuple(SourceColumn(name, {**found, **declared}[name]) for name in names)

    def _declared(self, statement: str) -> dict[str, str]:
        """The types of a table's columns, as far as they say something."""
        match = re.fullmatch(r'SELECT \* FROM (?:"(?:[^"]|"")+"\.)?"((?:[^"]|"")+)"', statement)
        if not match:
            return {}
        rows = self._opened.execute(
            "SELECT name, type FROM pragma_table_xinfo(?)", [match[1].replace('""', '"')]
        )
        types = {name: _type(said or "") for name, said in rows}
        return {name: kind for name, kind in types.items() if kind}

    def _found(self, statement: str, names: Sequence[str]) -> dict[str, str]:
        """The types that fit every value there is."""
        asked = ", ".join(f"group_concat(DISTINCT typeof({quoted(name)}))" for name in names)
        row = self._opened.execute(f"SELECT {asked} FROM ({statement})").fetchone()  # noqa: S608
        kinds = [frozenset((text or "").split(",")) - {"null", ""} for text in row]
        return {name: _FOUND.get(kind, "string") for name, kind in zip(names, kinds, strict=True)}

    def batches(self, statement: str, fitting: Fitting) -> Iterator[pa.RecordBatch]:
        rows = self._opened.execute(statement)
        flags = [i for i, column in enumerate(fitting.columns) if column.type == "boolean"]
        while found := rows.fetchmany(_ROWS):
            yield fitting.values(_with_flags(found, flags) if flags else found)
        yield fitting.values([])

    def about(self, names: Sequence[str]) -> About:
        rows = self._opened.execute(
            'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) ORDER BY cid', [names[-1]]
        ).fetchall()
        key = sorted((place, name) for name, _, _, place in rows if place)
        return about("", [(name, kind, filled, "") for name, kind, filled, _ in rows], (n for _, n in key))

    def quoted(self, name: str) -> str:
        return quoted(name)

    def from_there_on(self, cursor: Cursor) -> str:
        column = quoted(cursor.column)
        if cursor.type in {"integer", "double"} or cursor.type.startswith("decimal"):
            return f"{column} >= {cursor.text}"
        # Times are text here, and may be written with a T or without seconds: what is not needed is left out later.
        return f"{column} >= {literal(cursor.text[:10] if cursor.type == 'timestamp' else cursor.text)}"


def _with_flags(rows: Sequence[Sequence[Any]], flags: Sequence[int]) -> list[list[Any]]:
    """Rows whose columns at `flags` are true or false, which SQLite knows as 1 and 0 only."""
    made = [list(row) for row in rows]
    for row in made:
        for i in flags:
            if type(row[i]) is int and row[i] in {0, 1}:
                row[i] = bool(row[i])
    return made


def _type(said: str) -> str:
    number = re.search(r"(?:decimal|numeric)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", said, re.IGNORECASE)
    if number and int(number[2] or 0) <= int(number[1]) <= 38:
        return f"decimal({number[1]},{number[2] or 0})"
    return next((kind for pattern, kind in _DECLARED if re.search(pattern, said, re.IGNORECASE)), "")
