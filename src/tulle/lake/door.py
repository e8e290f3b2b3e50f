"""What the lake's HTTP doors share: an ASGI application around a plain function from request to answer.

The lake is synchronous, so the function runs in a thread; bodies stream both ways in bounded memory. Knows no
protocol: `lake.rest` and `lake.s3` are the functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from tulle.errors import Invalid, LimitExceeded

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

THREADS = 32
FIRST_BYTES = 64 * 1024  # of a body, before a thread is taken for it
LONG_SECONDS = 0.05  # for which others wait that are answered one after another
QUICK_BYTES = 256 * 1024  # of data that is read while all others wait
PIECE_BYTES = 1024 * 1024  # at a time after that
SILENT_SECONDS = 30.0  # without a byte of a body, or of an answer taken, and the caller is gone

log = logging.getLogger(__name__)


class Disconnected(Exception):
    """The caller went away while its body was being read."""


class NotQuickError(Exception):
    """What was thought quick is not: it is to be handled again, in a thread. Handlers pass it on."""


@dataclass(slots=True)
class Incoming:
    """A request. `path` is decoded, `raw_path` and `raw_query` are as they came; header names are lower-case.

    The body can be read once, as a whole or in pieces. `is_hurried`: all others wait until this is answered.
    """

    method: str
    path: str
    raw_path: bytes
    raw_query: bytes
    headers: Mapping[str, str]
    client: str
    chunks: Iterator[bytes]
    scheme: str = "http"
    is_hurried: bool = False
    _query: dict[str, list[str]] | None = field(default=None, repr=False)

    @property
    def query(self) -> Mapping[str, list[str]]:
        """The query's parameters, in the order they came; `+` is a blank."""
        if self._query is None:
            found: dict[str, list[str]] = {}
            for name, value in parse_qsl(self.raw_query.decode("latin-1"), keep_blank_values=True):
                found.setdefault(name, []).append(value)
            self._query = found
        return self._query

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    def header(self, name: str, default: str = "") -> str:
        """A header by its lower-case name."""
        return self.headers.get(name, default)

    def take_time(self, size: int = QUICK_BYTES + 1) -> None:
        """Said before so many bytes of data are read, or something is written: NotQuickError where others wait."""
        if self.is_hurried and size > QUICK_BYTES:
            raise NotQuickError

    def body(self, limit: int) -> bytes:
        """The whole body. LimitExceeded when it has more than `limit` bytes."""
        parts, size = [], 0
        for chunk in self.chunks:
            size += len(chunk)
            if size > limit:
                raise LimitExceeded(f"the body has more than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)


@dataclass(slots=True)
class Outgoing:
    """An answer. A body in pieces needs `length` (bytes) where it is known; without it goes out chunked."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Sequence[tuple[str, str]] = ()
    length: int | None = None

    @property
    def is_long(self) -> bool:
        """Whether the body is made while it is sent."""
        return not isinstance(self.body, bytes)


Handler = Callable[[Incoming], Outgoing]


def application(
    handler: Handler,
    *,
    threads: int = THREADS,
    name: str = "door",
    is_quick: Callable[[Incoming], bool] = lambda _: False,
    is_busy: Callable[[Incoming], bool] = lambda _: False,
) -> Application:
    """The ASGI application whose every request is answered by `handler`, in one of `threads` threads.

    `handler` turns every failure it knows into an answer; what it lets through is answered 500 and logged. What
    `is_quick` says of waits for nothing, and is answered at once: handing it to a thread would cost more than
    answering it, and several times as much where many threads want to run. What `is_busy` says of computes all
    the time: it is answered one after another, since together they would take three times as long.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    line = _Line()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise Invalid("only HTTP is spoken here")
        loop = asyncio.get_running_loop()
        body = _Body(loop, receive)
        incoming = _incoming(scope, body)
        try:
            if not await body.begins():
                outgoing = Outgoing(408, headers=(("connection", "close"),))
            elif body.is_here and is_busy(incoming):
                async with line.turn():
                    outgoing = await loop.run_in_executor(pool, handler, incoming)
            elif not body.is_here or not is_quick(incoming):
                outgoing = await loop.run_in_executor(pool, handler, incoming)
            else:
                incoming.is_hurried = True
                try:
                    outgoing = handler(incoming)
                except NotQuickError:
                    incoming.is_hurried = False
                    outgoing = await loop.run_in_executor(pool, handler, incoming)
        except Disconnected:
            return
        except Exception:
            log.exception("%s %s", incoming.method, incoming.path)
            outgoing = Outgoing(500)
        gone = asyncio.Event()
        watcher = asyncio.ensure_future(_watch(receive, gone)) if body.is_here and outgoing.is_long else None
        try:
            await _answer(send, loop, pool, outgoing, gone, head=incoming.method == "HEAD")
        except TimeoutError:
            log.info("%s %s: the caller takes nothing", incoming.method, incoming.path)
        finally:
            if watcher is not None:
                watcher.cancel()

    return app


class _Line:
    """Whoever is in it goes one after another, but for those who take long: the next one goes beside them."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, and have it."""
        await self._free.acquire()
        has_it = True

        def let_go() -> None:
            nonlocal has_it
            if has_it:
                has_it = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(LONG_SECONDS, let_go)
        try:
            yield
        finally:
            timer.cancel()
            let_go()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _incoming(scope: Scope, body: _Body) -> Incoming:
    raw_path = scope.get("raw_path") or scope["path"].encode()
    client = scope.get("client")
    return Incoming(
        method=scope["method"],
        path=unquote_to_bytes(raw_path.partition(b"?")[0]).decode("utf-8", "surrogateescape"),
        raw_path=raw_path,
        raw_query=scope.get("query_string", b""),
        headers=_headers(scope["headers"]),
        client=client[0] if client else "",
        chunks=iter(body),
        scheme=scope.get("scheme", "http"),
    )


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    # Of what comes twice nothing is passed over: it counts as a list, as RFC 9110 (5.3) has it.
    headers: dict[str, str] = {}
    for raw, value in pairs:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers


class _Body:
    """A request's body, pulled by a handler's thread as it needs it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive) -> None:
        self._loop = loop
        self._receive = receive
        self._chunk = b""
        self._more = True

    async def begins(self) -> bool:
        """Take what fits at a time while we are in the event loop anyway: most bodies have no more.

        Whether it came soon enough.
        """
        try:
            await self._pull(FIRST_BYTES)
        except TimeoutError:
            return False
        return True

    @property
    def is_here(self) -> bool:
        """Whether all of it was taken."""
        return not self._more

    def __iter__(self) -> Iterator[bytes]:
        while True:
            chunk, self._chunk = self._chunk, b""
            if not self._more:
                if chunk:
                    yield chunk
                return
            # The next piece comes while this one is used.
            coming = asyncio.run_coroutine_threadsafe(self._pull(PIECE_BYTES), self._loop)
            try:
                if chunk:
                    yield chunk
                coming.result()
            except TimeoutError:
                raise Disconnected from None
            finally:
                coming.cancel()

    async def _pull(self, most: int) -> None:
        parts: list[bytes] = []
        size = 0
        while size < most:
            async with asyncio.timeout(SILENT_SECONDS):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                self._more = False
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._more = message.get("more_body", False)
            if not self._more:
                break
        self._chunk = parts[0] if len(parts) == 1 else b"".join(parts)


async def _answer(
    send: Send,
    loop: asyncio.AbstractEventLoop,
    pool: ThreadPoolExecutor,
    outgoing: Outgoing,
    gone: asyncio.Event,
    *,
    head: bool,
) -> None:
    body, length = outgoing.body, outgoing.length
    if isinstance(body, bytes) and length is None:
        length = len(body)
    headers = [(name.lower().encode("latin-1"), _header(value)) for name, value in outgoing.headers]
    if length is not None and outgoing.status not in {204, 304}:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": outgoing.status, "headers": headers})
    if head or isinstance(body, bytes):
        await send(
            {"type": "http.response.body", "body": b"" if head or not isinstance(body, bytes) else body}
        )
        return
    pieces = iter(body)
    coming = loop.run_in_executor(pool, next, pieces, None)
    try:
        while not gone.is_set() and (piece := await coming) is not None:
            coming = loop.run_in_executor(pool, next, pieces, None)  # made while this one is sent
            for part in _parts(piece):
                async with asyncio.timeout(SILENT_SECONDS):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
    finally:
        with contextlib.suppress(Exception):
            await coming
        close = getattr(pieces, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):
                close()
    await send({"type": "http.response.body", "body": b""})


def _parts(piece: bytes) -> Iterator[bytes]:
    # Each is taken by the caller before the next one is given to the server, which keeps what is not.
    if len(piece) <= PIECE_BYTES:
        yield piece
        return
    view = memoryview(piece)
    for start in range(0, len(piece), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


async def _watch(receive: Receive, gone: asyncio.Event) -> None:
    """Note when the caller goes away, so that nothing more is read for it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _header(value: str) -> bytes:
    # A newline in a header would begin another one.
    return value.replace("\r", " ").replace("\n", " ").encode("utf-8")
