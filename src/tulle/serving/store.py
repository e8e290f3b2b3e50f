"""Rows of a key from a table of PostgreSQL, as they are when a request comes, in the form that an index stores them in.

The same bytes as in an index, so that policies, types and answers are decided by the same code. A few connections a
worker, opened when they are needed and again when they are lost; whoever waits longer than is declared is told so. All
of it waits in the loop, so no other request stands in line behind a database. Knows nothing of endpoints.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name is quoted, every value a parameter
from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import math
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from tulle.serving.finder import FinderEntry
from tulle.serving.index import several_of
from tulle.serving.index_build import Wish
from tulle.serving.keyed_rows import ALL
from tulle.serving.request import RequestError

if TYPE_CHECKING:
    from tulle.state.connections import (
        Connection,  # brings the state's database, which most workers have no use for
    )

MOST_FETCHED = 1000  # rows of one key; how many there are is counted by the database
_WAITING = 256  # requests of a worker that may wait for its connections
_encoder = msgspec.json.Encoder(decimal_format="number")


class PostgresStore:
    """The table behind one look-up. For one loop; `details` is asked for address and secrets at each connecting."""

    def __init__(self, entry: FinderEntry, details: Callable[[], Connection]) -> None:
        assert entry.store is not None
        assert entry.wish is not None
        self._entry, self._said, self._wish = entry, entry.store, entry.wish
        self._details = details
        self._statement = _statement(entry, entry.wish)
        self._turns = asyncio.Semaphore(self._said.connections)
        self._idle: list[Any] = []
        self._waiting = 0

    async def stored(self, keys: Sequence[Sequence[Any]]) -> list[bytes | None]:
        """What an index would hold for each key. RequestError 503 when the database does not answer in time."""
        import psycopg  # noqa: PLC0415  an extra, which opening asked for

        if self._waiting >= _WAITING:
            raise self._unavailable(f"{self._waiting} requests wait for it already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._said.seconds):
                found: list[bytes | None] = await self._with(lambda cx: self._fetched(cx, keys))
                return found
        except TimeoutError:
            raise self._unavailable(f"it did not answer within {self._said.seconds:g} s") from None
        except psycopg.Error as exc:
            state = exc.sqlstate or ""
            if state.startswith(("42", "3D", "3F")):
                raise self._unavailable(f"its table '{self._said.table}' is not as it was packaged") from None
            raise self._unavailable(
                "it cannot be reached" if not state.startswith("28") else "it refuses us"
            ) from None
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Give the connections back."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    def abandon(self) -> None:
        """Let go of the connections, at the end of the process."""
        for connection in self._idle:
            connection.pgconn.finish()
        self._idle = []

    async def _with(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do work on a connection; one that was lost while it was idle is replaced, once."""
        import psycopg  # noqa: PLC0415

        async with self._turns:
            while True:
                was_idle = bool(self._idle)
                connection = self._idle.pop() if was_idle else await self._connected()
                try:
                    result = await work(connection)
                except psycopg.OperationalError:
                    connection.pgconn.finish()
                    if not was_idle:
                        raise
                except BaseException:  # also when nobody waits any more: nobody knows what it is at
                    connection.pgconn.finish()
                    raise
                else:
                    self._idle.append(connection)
                    return result

    async def _connected(self) -> Any:
        import psycopg  # noqa: PLC0415

        from tulle.pipeline.sources.postgres import parameters_of  # noqa: PLC0415

        details = {**parameters_of(self._details()), "connect_timeout": max(2, math.ceil(self._said.seconds))}
        millis = int(self._said.seconds * 1000)
        options = f"-c statement_timeout={millis} -c default_transaction_read_only=on -c TimeZone=UTC"
        return await psycopg.AsyncConnection.connect(**details, autocommit=True, options=options)

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
        if not rows:
            return None
        number = rows[0][0]
        made = sorted((row[1], self._row(row[2], row[3:])) for row in rows)
        most = self._wish.most_rows if self._wish.several == ALL else 1
        return made[0][1] if number == 1 else several_of([row for _, row in made[:most]], number)

    def _row(self, since: dt.date | None, values: Sequence[Any]) -> bytes:
        plain = {}
        for column, value in zip(self._entry.columns, values, strict=True):
            known = _plain(value)
            plain[column.name] = self._entry.defaults.get(column.name) if known is None else known
        row = _encoder.encode(plain if self._wish.form == "object" else list(plain.values()))
        if not self._wish.event_time:
            return row
        return (b"" if since is None else b"%d" % _micros(since)) + b"|" + row

    def _unavailable(self, why: str) -> RequestError:
        message = f"what is looked up in '{self._entry.data_set}' cannot be asked for now"
        detail = f"Connection '{self._said.connection}': {why}. It is tried again with every request"
        return RequestError(503, "StoreUnavailable", message, detail)


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


def _plain(value: Any) -> Any:
    """A value as an index would have rendered it."""
    match value:
        case float() | Decimal() if not math.isfinite(value):
            return None
        case dt.datetime():
            return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        case bytes() | memoryview():
            return base64.b64encode(value).decode()
    return value


def _micros(since: dt.date) -> int:
    """Microseconds since 1970."""
    if not isinstance(since, dt.datetime):
        since = dt.datetime(since.year, since.month, since.day, tzinfo=dt.UTC)
    at = _plain(since)
    passed: dt.timedelta = at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return passed // dt.timedelta(microseconds=1)


def demand_driver() -> None:
    """Refuse to go on without the driver; Invalid tells how to install it."""
    from tulle.pipeline.sources.sql import missing_driver  # noqa: PLC0415

    with contextlib.suppress(ImportError):
        import psycopg  # noqa: F401, PLC0415

        return
    raise missing_driver("PostgreSQL", "postgres")
