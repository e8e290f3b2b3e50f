"""Queries that a PostgreSQL of the mesh answers as it is then: parameters in, the rows of one SELECT out.

The statement runs in a transaction that only reads, on one of few connections, and may take so long. Its rows come one
by one, so that an answer that grows too large is given up before it is in memory. Knows nothing of how statements are
made: the package has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import msgspec

from tulle.serving.bounds import MOST_REPLY
from tulle.serving.endpoint import Answer, Trace
from tulle.serving.query import TEXT, QueryEndpoint, QueryEntry, SqlQuery, as_text, values_of
from tulle.serving.request import RequestError, parse_json
from tulle.serving.store import connected
from tulle.serving.store_connections import StoreConnections
from tulle.serving.store_rows import plain_value

if TYPE_CHECKING:
    from tulle.state.connections import Connection

_AT_ONCE = 200  # rows that come together
_LONGER = 1.0  # seconds after which the database should have ended the statement itself
_encoder = msgspec.json.Encoder(decimal_format="number")
_log = logging.getLogger("tulle.serving")


class DatabaseQuery(QueryEndpoint):
    """A query over a connection, whose answers are of no commit. For one loop."""

    def __init__(self, entry: QueryEntry, trace: Trace) -> None:
        super().__init__(entry, trace)
        self._details: Callable[[], Connection] | None = None
        self._connections = StoreConnections(
            f"what query '{entry.name}' reads",
            entry.connection,
            self,
            connections=entry.connections,
            seconds=entry.bounds.seconds + _LONGER,
        )

    def use(self, details: Callable[[], Connection]) -> None:
        """Ask there: `details` is asked for address and secrets at each connecting."""
        self._details = details

    async def ready(self) -> None:
        """It is: the database is asked when a request comes."""

    def close(self) -> None:
        """Let go of the connections."""
        for connection in self._connections.taken():
            connection.pgconn.finish()

    async def _answered(self, body: bytes, request_id: str, form: str) -> Answer:
        start = perf_counter_ns()
        values = values_of(self.entry.parameters, self.record.convert(parse_json(body)))
        if self._details is None:
            raise self._connections.unavailable("this process has no connections")
        import psycopg  # noqa: PLC0415  an extra, which connecting asks for

        try:
            found = await self._connections.asked(lambda one: self._selected(one, values, form))
        except psycopg.Error as exc:
            raise self._told(exc) from None
        if isinstance(found, psycopg.Error):
            raise self._told(found)
        rows, spent = found
        is_cut = len(rows) > self.entry.most_rows
        wait = (perf_counter_ns() - start - spent) // 1000
        cut = b',"truncated":true' if is_cut else b""
        timing = f',"timing":{{"wait":{wait},"query":{spent // 1000}}},{self._context}{request_id}"}}}}'
        listed = b",".join(rows[: self.entry.most_rows])
        return Answer(b'{"columns":' + self._columns + b',"rows":[' + listed + b"]" + cut + timing.encode())

    async def _selected(self, connection: Any, values: Mapping[str, Any], form: str) -> Any:
        """The rows as JSON, and the nanoseconds that took; or the error of a connection that is well all the same."""
        import psycopg  # noqa: PLC0415

        start = perf_counter_ns()
        rows: list[bytes] = []
        size = 0
        try:
            async with connection.transaction(), connection.cursor() as cursor:
                async for row in cursor.stream(self.entry.statement, values, size=_AT_ONCE):
                    known = [plain_value(value) for value in row]
                    rows.append(_encoder.encode([as_text(one) for one in known] if form == TEXT else known))
                    size += len(rows[-1])
                    if size > MOST_REPLY:
                        message = f"the rows are larger than {MOST_REPLY >> 20} MB"
                        raise RequestError(422, "QueryFailed", message, "Ask for fewer of them")
        except psycopg.Error as exc:
            if connection.closed:
                raise
            return exc
        return rows, perf_counter_ns() - start

    def _told(self, exc: Any) -> RequestError:
        """What callers are told; the database's own words stay in the log, as they may quote values of rows."""
        _log.warning("query '%s': %s", self.name, exc)
        state = exc.sqlstate or ""
        if state == "57014":
            message = f"the query took longer than {self.entry.bounds.seconds:g} seconds"
            return RequestError(504, "TookTooLong", message)
        if state == "25006":
            return self._connections.unavailable("the statement would change something")
        if state.startswith(("42", "3D", "3F")):
            return self._connections.unavailable(
                "its tables are not as they were packaged, or not for us to read"
            )
        if state.startswith("28"):
            return self._connections.unavailable("it refuses us")
        if state.startswith(("22", "21", "P0", "23")) or (not state and isinstance(exc, _data_error())):
            message = "the query does not run with these parameters"
            return RequestError(422, "QueryFailed", message, "The service's log says why")
        return self._connections.unavailable("it cannot be reached")

    # ── the driver ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def lost(self) -> type[Exception]:
        """What is raised when a connection is gone."""
        import psycopg  # noqa: PLC0415

        return psycopg.OperationalError

    async def connect(self) -> Any:
        """A new connection, whose transactions only read."""
        assert self._details is not None
        opened = await connected(self._details(), self.entry.bounds.seconds)
        await opened.set_autocommit(False)
        await opened.set_read_only(True)
        return opened

    async def drop(self, connection: Any) -> None:
        """Let go of a connection."""
        connection.pgconn.finish()


def _data_error() -> type[Exception]:
    import psycopg  # noqa: PLC0415

    return psycopg.DataError


def load_query(entry: QueryEntry, folder: Path, trace: Trace) -> SqlQuery | DatabaseQuery:
    """The endpoint, wherever its data is; nothing is started or connected yet."""
    return DatabaseQuery(entry, trace) if entry.connection else SqlQuery(entry, folder, trace)
