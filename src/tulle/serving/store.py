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

from tulle.serving.finder import FinderEntry
from tulle.serving.index_build import Wish
from tulle.serving.store_connections import StoreConnections
from tulle.serving.store_rows import MOST_FETCHED, stored_row, stored_rows

if TYPE_CHECKING:
    from tulle.state.connections import (
        Connection,  # brings the state's database, which most workers have no use for
    )


class PostgresStore:
    """The table behind one look-up. For one loop; `details` is asked for address and secrets at each connecting."""

    def __init__(self, entry: FinderEntry, details: Callable[[], Connection]) -> None:
        assert entry.store is not None
        assert entry.wish is not None
        self._entry, self._said, self._wish = entry, entry.store, entry.wish
        self._details = details
        self._statement = _statement(entry, entry.wish)
        self._connections = StoreConnections(entry, entry.store, self)

    async def stored(self, keys: Sequence[Sequence[Any]]) -> list[bytes | None]:
        """What an index would hold for each key. RequestError 503 when the database does not answer in time."""
        import psycopg  # noqa: PLC0415  an extra, which opening asked for

        try:
            return await self._connections.asked(lambda connection: self._fetched(connection, keys))
        except psycopg.Error as exc:
            state = exc.sqlstate or ""
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
        """A new connection, which only reads."""
        import psycopg  # noqa: PLC0415

        from tulle.pipeline.sources.postgres import parameters_of  # noqa: PLC0415

        details = {**parameters_of(self._details()), "connect_timeout": max(2, math.ceil(self._said.seconds))}
        millis = int(self._said.seconds * 1000)
        options = f"-c statement_timeout={millis} -c default_transaction_read_only=on -c TimeZone=UTC"
        return await psycopg.AsyncConnection.connect(**details, autocommit=True, options=options)

    async def drop(self, connection: Any) -> None:
        """Let go of a connection."""
        connection.pgconn.finish()

    async def _fetched(self, connection: Any, keys: Sequence[Sequence[Any]]) -> list[bytes | None]:
        import psycopg  # noqa: PLC0415

        found = []
        for key in keys:
            try:
                cursor = await connection.execute(self._statement, list(key))
                found.append(self._rendered(await cursor.fetchall()))
            except psycopg.DataError:  # a value that no row of the table can have
                found.append(None)
        return found

    def _rendered(self, rows: Sequence[Sequence[Any]]) -> bytes | None:
        """The rows of a key as an index stores them: in order, and those of equal rank as they are written."""
        made = sorted((row[1], stored_row(self._entry, self._wish, row[2], row[3:])) for row in rows)
        return stored_rows(self._wish, [row for _, row in made], rows[0][0] if rows else 0)


def _statement(entry: FinderEntry, wish: Wish) -> str:
    """How many rows a key has, and each with its rank, since when it holds, and its columns."""
    from tulle.pipeline.sources.sql import table_names  # noqa: PLC0415

    order = ", ".join(
        f"{_quoted(name.removeprefix('-'))} {'DESC' if name.startswith('-') else 'ASC'} NULLS LAST"
        for name in wish.order_by
    )
    rank = f"dense_rank() OVER (ORDER BY {order})" if order else "0"
    since = _quoted(wish.event_time) if wish.event_time else "NULL"
    # Whatever the database has no counterpart for is text here, as it is where sources are read.
    columns = [
        f"{_quoted(wish.source(c.name))}{'::text' if c.type == 'string' else ''}" for c in entry.columns
    ]
    where = " AND ".join(f"{_quoted(name)} = %s" for name in wish.key_columns)
    table = ".".join(_quoted(part) for part in table_names(entry.store.table if entry.store else ""))
    return (
        f"SELECT count(*) OVER (), {rank} AS tulle_rank, {since}, {', '.join(columns)} FROM {table} "
        f"WHERE {where} ORDER BY tulle_rank LIMIT {MOST_FETCHED}"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def demand_driver() -> None:
    """Refuse to go on without the driver; Invalid tells how to install it."""
    from tulle.pipeline.sources.sql import missing_driver  # noqa: PLC0415

    with contextlib.suppress(ImportError):
        import psycopg  # noqa: F401, PLC0415

        return
    raise missing_driver("PostgreSQL", "postgres")
