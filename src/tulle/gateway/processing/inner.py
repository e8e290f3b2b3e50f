"""Kept connections to Envoy's inner listener: a request out, its answer back in pieces (httptools reads it).

One request at a time on each. Nothing is sent twice: whether a request may be repeated is Envoy's to know, on either
side. Knows nothing of steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Final, Protocol, cast

import httptools

from tulle.gateway.processing.exchange import Header

IDLE_SECONDS: Final = 60.0  # less than Envoy keeps an idle connection open
MOST_HEAD_BYTES: Final = 256 * 1024  # of an answer's headers
_log = logging.getLogger("tulle.processing")


class Asking(Protocol):
    """Whoever has sent a request and is told of the answer, in this order; `lost` may come instead of any."""

    def answer_began(self, status: int, headers: list[Header]) -> None:
        """Status and headers."""

    def answer_piece(self, piece: bytes) -> None:
        """A part of the body."""

    def answer_whole(self) -> None:
        """There is no more of it."""

    def answer_flush(self) -> None:
        """All that has arrived by now was told."""

    def answer_lost(self, why: str) -> None:
        """It does not come, or not the rest of it."""


class Inner(asyncio.Protocol):
    """One connection to the inner listener."""

    __slots__ = (
        "_asking",
        "_head_bytes",
        "_headers",
        "_is_bodyless",
        "_is_reusable",
        "_parser",
        "_pool",
        "_transport",
        "idle_since",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._asking: Asking | None = None
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._is_bodyless = False
        self._is_reusable = False  # the answer is whole, and nothing came after it
        self._parser = httptools.HttpResponseParser(self)
        self.idle_since = 0.0

    # ── what the pool and the caller do ──────────────────────────────────────────────────────────────────

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, asking: Asking, request: Sequence[bytes], *, is_bodyless: bool) -> None:
        """Send a request, in pieces; its answer has no body where `is_bodyless`, whatever its headers say (HEAD)."""
        self._asking = asking
        self._is_bodyless = is_bodyless
        self._head_bytes = 0
        assert self._transport is not None
        for piece in request:
            self._transport.write(piece)

    def read(self, on: bool) -> None:
        """Go on reading, or wait: who asked does not take what there is."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._asking = None
        self.close()

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()

    # ── what the event loop tells ────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._pool.left(self)
        self._lost("the connection ended")

    def data_received(self, data: bytes) -> None:
        if self._asking is None:  # nothing was asked: whatever this is, it is no answer
            self.close()
            return
        asking = self._asking
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as exc:
            _log.error("an answer could not be passed on", exc_info=exc.__context__)
            self._lost("it could not be passed on")
            self.close()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lost("it is not understood as HTTP/1.1")
            self.close()
        else:
            if self._head_bytes > MOST_HEAD_BYTES:
                self._lost("its headers are too large")
                self.close()
                return
            asking.answer_flush()
            if self._is_reusable:
                self._is_reusable = False
                self._pool.give_back(self)

    # ── what the parser tells ────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._headers = []
        if self._asking is None:  # more than one answer to one request: none of it is anybody's
            self._is_reusable = False
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._asking is None:  # 100 Continue: the answer is still to come
            return
        self._head_bytes = -1
        self._asking.answer_began(status, self._headers)
        if self._is_bodyless:
            self._done(reusable=False)  # the parser waits for a body that does not come

    def on_body(self, body: bytes) -> None:
        if self._asking is not None:
            self._asking.answer_piece(body)

    def on_message_complete(self) -> None:
        if self._head_bytes == -1 and self._asking is not None:
            self._done(reusable=self._parser.should_keep_alive())

    def _done(self, *, reusable: bool) -> None:
        asking, self._asking = self._asking, None
        self._is_reusable = reusable and self.is_open
        if not self._is_reusable:
            self.close()
        if asking is not None:
            asking.answer_whole()

    def _lost(self, why: str) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.answer_lost(why)


class Pool:
    """All connections to one unix socket. How many there are at a time is bounded by who asks: Envoy."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[Inner] = []  # the one used last at the end
        self._all: set[Inner] = set()
        self._opening: set[asyncio.Task[None]] = set()

    def ask(self, asking: Asking, request: Sequence[bytes], *, is_bodyless: bool, taken: list[Inner]) -> None:
        """Send a request on a connection, which is put into `taken`; a new one is opened when none is free."""
        while self._idle:
            inner = self._idle.pop()
            if inner.is_open:
                taken.append(inner)
                inner.ask(asking, request, is_bodyless=is_bodyless)
                return
        task = asyncio.get_running_loop().create_task(self._open(asking, request, is_bodyless, taken))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(
        self, asking: Asking, request: Sequence[bytes], is_bodyless: bool, taken: list[Inner]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, inner = await loop.create_unix_connection(lambda: Inner(self), self._path)
        except OSError as exc:
            _log.warning("the gateway's inner listener cannot be reached: %s", exc)
            asking.answer_lost("it cannot be reached")
            return
        self._all.add(inner)
        taken.append(inner)
        inner.ask(asking, request, is_bodyless=is_bodyless)

    def give_back(self, inner: Inner) -> None:
        """It has answered and may be asked again."""
        inner.idle_since = asyncio.get_running_loop().time()
        self._idle.append(inner)

    def left(self, inner: Inner) -> None:
        """It is closed."""
        self._all.discard(inner)
        with contextlib.suppress(ValueError):
            self._idle.remove(inner)

    def tidy(self) -> None:
        """Close those that nobody has needed for a while."""
        limit = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < limit:
            self._idle.pop(0).close()

    def close(self) -> None:
        """End all of them."""
        for task in list(self._opening):
            task.cancel()
        for inner in list(self._all):
            inner.close()
