"""Rows of a key from a table of PostgreSQL, as they are when a request comes, in the form that an index stores them in.

The same bytes as in an index, so that policies, types and answers are decided by the same code. Knows nothing of
endpoints.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name is quoted, every value a parameter
from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tulle.engine.engine import literal
from tulle.errors import Invalid
from tulle.serving.fill_marker import of_comment
from tulle.serving.finder import FinderEntry, Stored
from tulle.serving.index_build import Wish
from tulle.serving.store_connections import StoreConnections
from tulle.serving.store_rows import MOST_FETCHED, Looked, faulty, stored_row, stored_rows

if TYPE_CHECKING:
    from tulle.state.connections import (
        Connection,  # brings the state's database, which most workers have no use for
    )

# What the database says of a key that no row can have: text, numbers and times that its column's type does not hold.
_NO_SUCH_VALUE = {None, "22P02", "22003", "22007", "22008", "22021", "22P05"}
NOT_FILLED = "it has not been filled from the lake yet"


class PostgresStore:
    """The table behind one look-up. For one loop; `details` is asked for address and secrets at each connecting."""

    def __init__(self, entry: FinderEntry, details: Callable[[], Connection]) -> None:
        assert entry.store is not None
        assert entry.wish is not None
        self._entry, self._said, self._wish = entry, entry.store, entry.wish
        self._details = details
        self._statement = _statement(entry, entry.wish)
        self._connections = StoreConnections(
            f"what is looked up in '{entry.data_set}'",
            entry.store.connection,
            self,
            connections=entry.store.connections,
            seconds=entry.store.seconds,
        )
        self._marker: tuple[str | None, str | None] = (None, None)  # the last one, and the commit it names

    async def stored(self, keys: Sequence[Sequence[Any]]) -> Looked:
        """What an index would hold for each key. RequestError 503 when the database does not answer in time."""
        import psycopg  # noqa: PLC0415  an extra, which opening asked for

        try:
            return await self._connections.asked(lambda connection: self._fetched(connection, keys))
        except psycopg.Error as exc:
            state = exc.sqlstate or ""
            if state == "42P01" and self._said.fill:
                raise self._connections.unavailable(NOT_FILLED) from None
            if state.startswith(("42", "3D", "3F")):
                why = f"its table '{self._said.table}' is not as it was packaged"
                raise self._connections.unavailable(why) from None
            raise self._connections.unavailable(
                "it cannot be reached" if not state.startswith("28") else "it refuses us"
            ) from None

    def abandon(self) -> None:
        """Let go of the connections, at the end of the process."""
        for connection in self._connections.taken():
            connection.pgconn.finish()

    @property
    def lost(self) -> type[Exception]:
        """What is raised when a connection is gone."""
        import psycopg  # noqa: PLC0415

        return psycopg.OperationalError

    async def connect(self) -> Any:
        """A new connection, which only reads. Invalid when it leads to another kind of database by now."""
        return await connected(self._details(), self._said.seconds)

    async def drop(self, connection: Any) -> None:
        """Let go of a connection."""
        connection.pgconn.finish()

    async def _fetched(self, connection: Any, keys: Sequence[Sequence[Any]]) -> Looked:
        import psycopg  # noqa: PLC0415

        found: list[Stored] = []
        commits: dict[str, None] = {}
        for key in keys:
            try:
                cursor = await connection.execute(self._statement, list(key))
            except psycopg.DataError as exc:
                if exc.sqlstate in _NO_SUCH_VALUE:
                    found.append(None)
                else:
                    found.append(faulty(self._entry, f"its table cannot be read there: {exc.sqlstate}"))
                continue
            try:
                rows = await cursor.fetchall()
            except psycopg.DataError:  # such as a time that is infinite
                found.append(faulty(self._entry, "a row has a value that no answer can have"))
                continue
            if self._said.fill:
                commits[self._commit(rows[0][0])] = None
                rows = [row[1:] for row in rows if row[1] is not None]
            found.append(self._rendered(rows))
        return Looked(found, "+".join(commits))  # they may have been read before and after a newer one came

    def _commit(self, comment: str | None) -> str:
        """The commit that a table's comment names. RequestError where it names none."""
        if comment != self._marker[0]:
            marker = of_comment(comment)
            self._marker = (comment, marker.commit if marker is not None else None)
        if self._marker[1] is None:
            raise self._connections.unavailable(NOT_FILLED)
        return self._marker[1]

    def _rendered(self, rows: Sequence[Sequence[Any]]) -> bytes | None:
        """The rows of a key as an index stores them: in order, and those of equal rank as they are written."""
        made = sorted((row[1], stored_row(self._entry, self._wish, row[2], row[3:])) for row in rows)
        return stored_rows(self._wish, [row for _, row in made], rows[0][0] if rows else 0)


def _statement(entry: FinderEntry, wish: Wish) -> str:
    """How many rows a key has, and each with its rank, since when it holds, and its columns.

    Of a table that is filled from the lake also its comment, before the rest and where there is no row as well. The
    table is named before it, and so it is held when its comment is read.
    """
    from tulle.pipeline.sources.sql import table_names  # noqa: PLC0415

    order = ", ".join(
        f"{_quoted(name.removeprefix('-'))} {'DESC' if name.startswith('-') else 'ASC'} NULLS LAST"
        for name in wish.order_by
    )
    rank = f"dense_rank() OVER (ORDER BY {order})" if order else "0"
    since = _quoted(wish.event_time) if wish.event_time else "NULL"
    # Whatever the database has no counterpart for is text here, as it is where sources are read.
    columns = [
        f"{_quoted(wish.source(c.name))}{'::text' if c.type == 'string' else ''} AS tulle_{i}"
        for i, c in enumerate(entry.columns)
    ]
    where = " AND ".join(f"{_quoted(name)} = %s" for name in wish.key_columns)
    table = ".".join(_quoted(part) for part in table_names(entry.store.table if entry.store else ""))
    rows = (
        f"SELECT count(*) OVER () AS tulle_rows, {rank} AS tulle_rank, {since} AS tulle_since, "
        f"{', '.join(columns)} FROM {table} WHERE {where} ORDER BY tulle_rank LIMIT {MOST_FETCHED}"
    )
    if entry.store is None or not entry.store.fill:
        return rows
    comment = f"obj_description({literal(table)}::regclass, 'pg_class')"
    return f"SELECT m.tulle_comment, q.* FROM ({rows}) q RIGHT JOIN (SELECT {comment} AS tulle_comment) m ON true"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


async def connected(found: Connection, seconds: float) -> Any:
    """An open connection of the driver, which only reads, each statement for so long at most. Invalid where it leads
    to another kind of database; psycopg.Error.
    """
    import psycopg  # noqa: PLC0415

    from tulle.pipeline.sources.postgres import parameters_of  # noqa: PLC0415

    demand_postgres(found)
    details = {**parameters_of(found), "connect_timeout": max(2, math.ceil(seconds))}
    millis = int(seconds * 1000)
    options = f"-c statement_timeout={millis} -c default_transaction_read_only=on -c TimeZone=UTC"
    return await psycopg.AsyncConnection.connect(**details, autocommit=True, options=options)


def demand_postgres(connection: Connection) -> None:
    """Refuse a connection to anything else. Invalid."""
    if not connection.address.startswith("postgresql:"):
        kind = connection.address.partition(":")[0]
        message = f"connection '{connection.name}' leads to {kind}, in whose tables no row is looked up"
        raise Invalid(message, hint="look-ups ask PostgreSQL and Redis, or the lake: `source: latest`")


def demand_driver() -> None:
    """Refuse to go on without the driver; Invalid tells how to install it."""
    from tulle.pipeline.sources.sql import missing_driver  # noqa: PLC0415

    with contextlib.suppress(ImportError):
        import psycopg  # noqa: F401, PLC0415

        return
    raise missing_driver("PostgreSQL", "postgres")
