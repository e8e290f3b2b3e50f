"""Rows of a database: which statement asks for them, and which driver takes it.

Every kind of database gives the columns of a statement and its rows; what is asked for and what is compared with
what was read before is the same for all. A source only reads: sessions are read-only where the database knows that.
"""

# ruff: noqa: S608  composing SQL is this module's work; names and values are quoted as the database does it
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tulle.errors import Denied, Invalid, Problem, TulleError, Unavailable, did_you_mean
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.fitting import Fitting
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.reading import Ask, Reading
from tulle.spec.source import Source, SourceColumn
from tulle.state.connections import Connection


@dataclass(frozen=True, slots=True)
class About:
    """What a database keeps of a table beside the types of its columns."""

    comment: str = ""
    key: tuple[str, ...] = ()
    physical: Mapping[str, str] = field(default_factory=dict)  # its own words for the types
    filled: frozenset[str] = frozenset()  # the columns that always have a value
    comments: Mapping[str, str] = field(default_factory=dict)


def about(comment: object, rows: Iterable[Sequence[Any]], key: Iterable[Any]) -> About:
    """What was found; `rows` are name, type, whether there is always a value, and comment of each column."""
    found = [(str(n), str(t or ""), bool(filled), str(said or "").strip()) for n, t, filled, said in rows]
    return About(
        str(comment or "").strip(),
        tuple(map(str, key)),
        {name: kind for name, kind, _, _ in found},
        frozenset(name for name, _, filled, _ in found if filled),
        {name: said for name, _, _, said in found if said},
    )


class Session(Protocol):
    """One reading session of a database."""

    def columns(self, statement: str) -> tuple[SourceColumn, ...]:
        """The columns of a statement; the type is "" where the database leaves it open."""

    def batches(self, statement: str, fitting: Fitting) -> Iterator[pa.RecordBatch]:
        """The rows of a statement, in the types of `fitting`."""

    def ping(self) -> str:
        """What answers."""

    def quoted(self, name: str) -> str:
        """A name as the database's SQL writes it."""

    def about(self, names: Sequence[str]) -> About:
        """What the database says of a table; `names` are those it is written with."""

    def from_there_on(self, cursor: Cursor) -> str:
        """The condition of rows whose cursor has at least that value, as exact as the database can say it."""


def session_of(connection: Connection) -> AbstractContextManager[Session]:
    """A session of the database a connection leads to. Unavailable when it does not answer, Denied, Invalid."""
    return _opener(connection)(connection)


def _opener(connection: Connection) -> Callable[[Connection], AbstractContextManager[Session]]:
    # Drivers are extras, so their modules are imported when a connection asks for them.
    match connection.address.partition(":")[0]:
        case "postgresql":
            from tulle.pipeline.sources import postgres  # noqa: PLC0415

            return postgres.session
        case "sqlite":
            from tulle.pipeline.sources import sqlite  # noqa: PLC0415

            return sqlite.session
        case "mysql" | "mariadb":
            from tulle.pipeline.sources import mysql  # noqa: PLC0415

            return mysql.session
        case "jdbc":
            from tulle.pipeline.sources import jdbc  # noqa: PLC0415

            return jdbc.session
        case "redis" | "rediss":
            message = f"connection '{connection.name}' leads to a Redis, which no source reads"
            raise Invalid(message, hint="only look-ups of services ask there")
    raise Invalid(f"no driver for '{connection.address.partition(':')[0]}'")


def missing_driver(what: str, extra: str) -> Invalid:
    """The driver of a database is not installed."""
    return Invalid(f"the driver for {what} is not installed", hint=f"pip install 'tulle[{extra}]'")


def signed_out(connection: Connection, said: str) -> Denied:
    """The database does not let the connection in."""
    said = without_secrets(connection, said)
    hint = f"`tulle connection set {connection.name} …`"
    return Denied(f"the database refuses to sign in: {said}", hint=hint)


def not_granted(connection: Connection, said: str) -> Denied:
    """Its user may not read that."""
    said = without_secrets(connection, said)
    return Denied(f"the database refuses: {said}", hint="grant its user SELECT on the table")


def unreachable(connection: Connection, said: str, *, hint: str | None = None) -> Unavailable:
    """The database is away, or went away."""
    said = without_secrets(connection, said)
    message = f"the database of connection '{connection.name}' does not answer: {said}"
    return Unavailable(message, hint=hint or f"`tulle connection test {connection.name}` tries it again")


@contextmanager
def opened(ask: Ask) -> Iterator[Reading]:
    """The rows a sql source gives."""
    connection = ask.connected()
    try:
        with session_of(connection) as session:
            yield _Reading(ask, session)
    except TulleError as exc:
        if exc.problems:
            raise
        raise _placed(exc, ask, label_of(ask)) from exc


def label_of(ask: Ask) -> str:
    """What messages call the rows."""
    return ask.source.table or f"the query of input port '{ask.port.title}'"


class _Reading:
    def __init__(self, ask: Ask, session: Session) -> None:
        self._ask, self._session = ask, session
        self.label = label_of(ask)

    @property
    def remembered(self) -> dict[str, Any]:
        return {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        source, session = self._ask.source, self._session
        base = _base(source, session)
        columns = self._columns(session.columns(f"SELECT * FROM {base}"))
        names = ", ".join(session.quoted(column.name) for column in columns)
        statement = f"SELECT {names} FROM {base}"
        if source.cursor and self._ask.since is not None:
            # A row without a value is newer than none, so it would be passed over unseen: it is asked for, and refused.
            name = session.quoted(source.cursor)
            statement += f" WHERE ({session.from_there_on(self._ask.since)} OR {name} IS NULL)"
        fitting = Fitting(columns, self.label, self._ask.rejects)
        yield from session.batches(statement, fitting)

    def _columns(self, found: Sequence[SourceColumn]) -> tuple[SourceColumn, ...]:
        """The columns to read: the declared ones, else all there are."""
        source, place = self._ask.source, self._ask.source.place
        there = {column.name: column for column in found}
        problems = []
        if source.columns:
            for column in source.columns:
                if column.name not in there:
                    hint = did_you_mean(column.name, there)
                    where = column.place or place
                    problems.append(
                        Problem(f"column '{column.name}' is missing in {self.label}", where, hint)
                    )
        columns = tuple(source.columns or found)
        names = {column.name for column in columns}
        for what, name in [("cursor", source.cursor), *(("key", name) for name in source.key)]:
            if name and name not in names:
                message = f"the {what} '{name}' is no column of {self.label}"
                problems.append(Problem(message, place, did_you_mean(name, names)))
        for column in columns:
            if not column.type:
                hint = f"declare columns: [{{name: {column.name}, type: 'decimal(18,4)'}}, …], or CAST it in a query"
                message = f"the database does not say how exact column '{column.name}' of {self.label} is"
                problems.append(Problem(message, place, hint))
        if len({name.lower() for name in there}) < len(found):
            problems.append(
                Problem(f"two columns of {self.label} have the same name", place, "name them apart")
            )
        if problems:
            hint = problems[0].hint
            raise Invalid(f"{self.label} cannot be read as declared", hint=hint, problems=problems)
        return columns


def _base(source: Source, session: Session) -> str:
    if source.query:
        return f"({source.query}\n) q"
    return quoted_table(source.table, session)


def table_names(table: str) -> tuple[str, ...]:
    """The names a table is written with, the table's own the last."""
    return tuple(table[1:-1].split('"."') if table.startswith('"') else table.split("."))


def quoted_table(table: str, session: Session) -> str:
    """A table as the database's SQL writes it."""
    return ".".join(session.quoted(name) for name in table_names(table))


def _placed(exc: TulleError, ask: Ask, label: str) -> TulleError:
    problem = Problem(exc.message, ask.source.place, exc.hint)
    return type(exc)(f"{label} cannot be read: {exc.message}", hint=exc.hint, problems=[problem])
