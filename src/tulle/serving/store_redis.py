"""Rows of a key from a Redis, as they are when a request comes, in the form that an index stores them in.

A key holds JSON, an object or a list of them, or a hash. Redis knows no types, so they are declared; what is not of
them is told, as a table is that has changed. Knows nothing of endpoints.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from tulle.serving.fill_marker import GONE, Marker, marker_key, of_value, side_key
from tulle.serving.finder import FinderEntry, Stored
from tulle.serving.index import normal_key
from tulle.serving.index_build import Wish
from tulle.serving.key_form import KeyForm, key_form
from tulle.serving.keyed_rows import HASH, Store
from tulle.serving.request import INT64
from tulle.serving.store import NOT_FILLED
from tulle.serving.store_connections import StoreConnections
from tulle.serving.store_rows import MOST_FETCHED, Looked, faulty, stored_row, stored_rows

if TYPE_CHECKING:
    from tulle.state.connections import Connection

_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": INT64,
    "double": float,
    "decimal": Decimal,
    "boolean": bool,
    "date": dt.date,
    "timestamp": dt.datetime,
    "binary": str,  # base64, as in answers
}


class _Unlike(Exception):
    """What a key holds is not what is declared; the message says how, without any value."""


class RedisStore:
    """The keys behind one look-up. For one loop; `details` is asked for address and secrets at each connecting."""

    def __init__(self, entry: FinderEntry, details: Callable[[], Connection]) -> None:
        assert entry.store is not None
        assert entry.wish is not None
        self._entry, self._said, self._details = entry, entry.store, details
        self._rows = _Rows(entry, entry.wish, entry.store)
        self._form = form_of(entry.store, entry.wish)
        self._connections = StoreConnections(
            f"what is looked up in '{entry.data_set}'",
            entry.store.connection,
            self,
            connections=entry.store.connections,
            seconds=entry.store.seconds,
        )

    async def stored(self, keys: Sequence[Sequence[Any]]) -> Looked:
        """What an index would hold for each key. RequestError 503 when Redis does not answer in time."""
        import redis  # noqa: PLC0415  an extra, which opening asked for

        texts = [self._form.text(key) for key in keys]
        if not self._said.fill and not any(text is not None for text in texts):
            return Looked([None] * len(keys))
        try:
            return await self._connections.asked(lambda connection: self._fetched(connection, keys, texts))
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            raise self._connections.unavailable("it refuses us") from None
        except redis.RedisError:
            raise self._connections.unavailable("it cannot be reached") from None

    def abandon(self) -> None:
        """Let go of the connections, at the end of the process."""
        self._connections.taken()

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What is raised when a connection is gone."""
        import redis  # noqa: PLC0415

        return (redis.ConnectionError, redis.TimeoutError)

    async def connect(self) -> Any:
        """A new connection."""
        from redis.asyncio.connection import Connection as Plain  # noqa: PLC0415
        from redis.asyncio.connection import SSLConnection as Encrypted  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        from tulle.pipeline.sources.redis_server import is_encrypted, parameters_of  # noqa: PLC0415

        details = self._details()
        made: Any = (Encrypted if is_encrypted(details) else Plain)(
            **parameters_of(details),
            socket_timeout=self._said.seconds,
            socket_connect_timeout=self._said.seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        await made.connect()
        return made

    async def drop(self, connection: Any) -> None:
        """Let go of a connection."""
        with contextlib.suppress(RuntimeError):  # its loop has ended, and the connection with it
            await connection.disconnect(nowait=True)

    async def _fetched(
        self, connection: Any, keys: Sequence[Sequence[Any]], texts: Sequence[str | None]
    ) -> Looked:
        asked = [text for text in texts if text is not None]
        if self._said.fill:
            marker, answers = await self._of_the_lake(connection, asked)
        else:
            word = "HGETALL" if self._said.form == HASH else "GET"
            marker, answers = None, await _answers(connection, [(word, text) for text in asked])
        given = iter(answers)
        rows = [
            None if text is None else self._row(key, next(given))
            for key, text in zip(keys, texts, strict=True)
        ]
        return Looked(rows, marker.commit if marker is not None else "")

    async def _of_the_lake(self, connection: Any, texts: Sequence[str]) -> tuple[Marker, list[Any]]:
        """What lies under keys that the lake fills, all of one commit, which the marker names."""
        name = marker_key(self._said.keys)
        sides = [side_key(self._said.keys, text) for text in texts]
        if self._said.form == HASH:
            reads = [("HGETALL", key) for pair in zip(texts, sides, strict=True) for key in pair]
            *_, (value, *found) = await _answers(connection, [("MULTI",), ("GET", name), *reads, ("EXEC",)])
        else:
            places = [key for pair in zip(texts, sides, strict=True) for key in pair]
            ((value, *found),) = await _answers(connection, [("MGET", name, *places)])
        marker = of_value(value if isinstance(value, bytes) else None)
        if marker is None:
            raise self._connections.unavailable(NOT_FILLED)
        pairs = zip(found[::2], found[1::2], strict=True)
        return marker, [_that_counts(place, side, marker) for place, side in pairs]

    def _row(self, key: Sequence[Any], answer: Any) -> Stored:
        try:
            return self._rows.stored(key, answer)
        except _Unlike as exc:
            why = f"what lies under '{self._said.keys}' is not as it was packaged: {exc}"
            return faulty(self._entry, why)


async def _answers(connection: Any, commands: Sequence[Sequence[str]]) -> list[Any]:
    """What is answered to commands that are sent together; one that does not fit what lies there is an answer too."""
    import redis  # noqa: PLC0415

    await connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response(disable_decoding=True))
        except redis.ResponseError as exc:
            if not str(exc).startswith("WRONGTYPE"):
                raise
            answers.append(exc)
    return answers


def _that_counts(place: Any, side: Any, marker: Marker) -> Any:
    """What of a key counts: the row that lies beside, where rows are about to take their places."""
    if not marker.is_turning or side is None or side == []:
        return place
    is_gone = GONE in side[::2] if isinstance(side, list) else side == b""
    return None if is_gone else side


class _Rows:
    """Reads what keys hold."""

    def __init__(self, entry: FinderEntry, wish: Wish, said: Store) -> None:
        self._entry, self._wish, self._said = entry, wish, said
        self._types = [column.type for column in wish.key]
        self._columns = list(said.types)
        self._shape = msgspec.defstruct(
            "Row",
            [
                (f"f{i}", _TYPES[kind.partition("(")[0]] | None, None)
                for i, kind in enumerate(said.types.values())
            ],
            rename={f"f{i}": name for i, name in enumerate(said.types)},
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(self._shape | list[self._shape])  # type: ignore[name-defined]
        self._is_text = {name.encode(): kind in {"string", "binary"} for name, kind in said.types.items()}

    def stored(self, key: Sequence[Any], answer: Any) -> bytes | None:
        """The rows of a key as an index stores them: in order, and those of equal rank as they are written."""
        if answer is None or answer == []:
            return None
        of_key = dict(zip(self._wish.key_columns, normal_key(key, self._types), strict=True))
        rows = [self._values(row) | of_key for row in self._read(answer)]
        made = [(row, self._row(row)) for row in rows]
        made.sort(key=lambda one: one[1])
        for name in reversed(self._wish.order_by):
            column, last = name.removeprefix("-"), name.startswith("-")
            made.sort(key=lambda one: _rank(one[0].get(column), last=last), reverse=last)
        return stored_rows(self._wish, [row for _, row in made[:MOST_FETCHED]], len(made))

    def _read(self, answer: Any) -> Sequence[Any]:
        if isinstance(answer, Exception):
            raise _Unlike("a key holds " + ("no hash" if self._said.form == HASH else "no text"))
        try:
            if self._said.form == HASH:
                pairs = zip(answer[::2], answer[1::2], strict=True)
                given = {
                    name.decode(): text.decode()
                    for name, text in pairs
                    if name in self._is_text and (text or self._is_text[name])  # an empty text is no number
                }
                return [msgspec.convert(given, self._shape, strict=False)]
            found = self._decoder.decode(answer)
            return found if isinstance(found, list) else [found]
        except RecursionError:
            raise _Unlike("JSON is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            said = exc.reason if isinstance(exc, UnicodeDecodeError) else str(exc)
            raise _Unlike(said) from None

    def _values(self, row: Any) -> dict[str, Any]:
        """A row's values by column, decimals with their digits and times in UTC."""
        values = dict(zip(self._columns, msgspec.structs.astuple(row), strict=True))
        for name, value in values.items():
            if isinstance(value, float | Decimal) and not math.isfinite(value):
                values[name] = None
            elif isinstance(value, dt.datetime | Decimal):
                (values[name],) = normal_key([value], [self._said.types[name]])
        return values

    def _row(self, values: Mapping[str, Any]) -> bytes:
        since = values.get(self._wish.event_time)
        wanted = [values[self._wish.source(column.name)] for column in self._entry.columns]
        return stored_row(self._entry, self._wish, since, wanted)


def form_of(said: Store, wish: Wish) -> KeyForm:
    """The keys of a look-up. Invalid when they are not made of its key's columns."""
    return key_form(said.keys, dict(zip(wish.key_columns, (c.type for c in wish.key), strict=True)))


def _rank(value: Any, *, last: bool) -> tuple[bool, Any]:
    """Where a value stands: those that are none come last, whichever way it goes."""
    return (not last, 0) if value is None else (last, value)
