"""Connections to a worker: HTTP/1.1 in, answers out, on one thread (RFC 9112; httptools reads it).

A server for any application makes a task, an event and a dictionary for every request, which costs more than a model's
answer does (docs/decisions/serving-package.md). Here what is answered at once is written before the call that brought
the request returns; only what takes a while has a task. A connection has one request at a time: what is sent ahead
waits. Who may connect, for how long and how often is the gateway's business. Knows nothing of paths and services.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
import msgspec

from tulle.serving.endpoint import Header, error_body
from tulle.serving.request import RequestError

MOST_HEAD_BYTES: Final = 256 * 1024  # of a request line with all headers; the gateway lets far less through
_log = logging.getLogger("tulle.serving")
_BREAKS: Final = re.compile(rb"[\r\n\0]")
_STATUS: Final = {int(one): f"HTTP/1.1 {int(one)} {one.phrase}\r\n".encode() for one in HTTPStatus}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Head:
    """The headers of many answers, rendered once."""

    __slots__ = ("_fine", "headers")

    def __init__(self, headers: Sequence[Header]) -> None:
        self.headers = tuple(headers)
        self._fine = _STATUS[200] + _rendered(self.headers) + b"content-length: "

    def begin(self, status: int) -> bytes:
        """All before the length of the body."""
        if status == 200:
            return self._fine
        line = _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status
        return line + _rendered(self.headers) + b"content-length: "


def _rendered(headers: Sequence[Header]) -> bytes:
    """Lines of headers; what would break out of its line is left out."""
    return b"".join(
        b"%b: %b\r\n" % one for one in headers if not (_BREAKS.search(one[0]) or _BREAKS.search(one[1]))
    )


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What is sent for one request."""

    head: Head
    body: bytes
    request_id: str
    status: int = 200


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request, whole. `content` is None when its body is larger than is read."""

    method: str
    path: str  # decoded, from the first slash
    query: bytes  # as it was sent
    headers: Sequence[Header]  # names in small letters
    content: bytes | None


# What is answered at once is a Reply. Neither may raise, but for being cancelled after the caller is told.
Answering = Callable[[Request], Reply | Awaitable[Reply]]


class Callers:
    """All connections of a process."""

    def __init__(self, answer: Answering, *, max_request_bytes: int) -> None:
        self.answer = answer
        self.max_request_bytes = max_request_bytes
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_ending = False
        self._date, self._until = b"", 0.0
        self._all_left = asyncio.Event()

    def connection(self) -> Connection:
        """A new one, for the event loop."""
        return Connection(self)

    def left(self, connection: Connection) -> None:
        """It is closed."""
        self.connections.discard(connection)
        self._end_if_all_left()

    def _end_if_all_left(self) -> None:
        if self.is_ending and not self.connections:
            self._all_left.set()

    def date(self) -> bytes:
        """The time, as answers tell it."""
        now = time.monotonic()
        if now >= self._until:
            self._date, self._until = formatdate(usegmt=True).encode(), now + 1
        return self._date

    async def end(self, seconds: float) -> None:
        """Close idle connections, wait for the others so long, then have what is still awaited told of the end."""
        self.is_ending = True
        for connection in list(self.connections):
            connection.end()
        self._end_if_all_left()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_left.wait(), seconds)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what they wrote goes out
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One caller's connection."""

    __slots__ = (
        "_all",
        "_head_bytes",
        "_headers",
        "_is_answering",
        "_is_ending",
        "_is_expecting",
        "_is_held",
        "_is_reading",
        "_is_too_large",
        "_parser",
        "_pieces",
        "_size",
        "_transport",
        "_url",
        "_waiting",
    )

    def __init__(self, callers: Callers) -> None:
        self._all = callers
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._is_answering = False  # something that takes a while
        self._is_held = False  # the caller does not read what is written
        self._is_ending = False  # nothing more is read
        self._is_reading = False  # a request has begun and is not whole
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[Header] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._is_too_large = False
        self._is_expecting = False

    # ── what the event loop tells ────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._all.connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._is_ending = True
        self._waiting.clear()
        self._all.left(self)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last()  # the request was answered; nothing else is spoken here
        except httptools.HttpParserCallbackError as exc:
            _log.error("a request could not be answered", exc_info=exc.__context__)
            self._refuse(500, "EvaluationFailed", "the service failed on this request")
        except httptools.HttpParserError:
            self._refuse(400, "InvalidRequest", "this is not understood as HTTP/1.1")
        else:
            if self._is_reading and not self._pieces:
                self._head_bytes += len(data)
                if self._head_bytes > MOST_HEAD_BYTES:
                    self._refuse(
                        431, "HeadersTooLarge", f"the headers are larger than {MOST_HEAD_BYTES} bytes"
                    )

    def eof_received(self) -> bool:
        self._is_ending = True
        return self._is_answering or bool(self._waiting)  # who still waits for an answer gets it

    def pause_writing(self) -> None:
        self._is_held = True
        self._read(False)

    def resume_writing(self) -> None:
        self._is_held = False
        self._go_on()

    # ── what the parser tells ────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._begin()
        self._is_reading = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name == b"content-length":
            self._is_too_large = int(value) > self._all.max_request_bytes
        elif name == b"expect":
            self._is_expecting = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._is_too_large:
            self._whole(None)
        elif self._is_expecting and self._transport is not None:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        if self._is_too_large:
            return
        self._pieces.append(body)
        self._size += len(body)
        if self._size > self._all.max_request_bytes:
            self._is_too_large = True
            self._whole(None)

    def on_message_complete(self) -> None:
        if self._is_too_large:
            return
        pieces = self._pieces
        self._whole(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    # ── requests and answers ─────────────────────────────────────────────────────────────────────────────

    def _whole(self, content: bytes | None) -> None:
        """A request is read, or of one that is too large as much as will be."""
        self._is_reading = False
        if self._is_ending:
            return
        parser = self._parser
        path, _, query = self._url.partition(b"?")
        if path[:1] != b"/":
            path, query = _absolute(self._url)
        text = path.decode("latin-1")
        request = Request(
            parser.get_method().decode("latin-1"),
            unquote(text) if "%" in text else text,
            query,
            self._headers,
            content,
        )
        stays = (
            content is not None
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
        )
        if content is None:
            self._is_ending = True  # the rest of the body is not read
        if self._is_answering or self._is_held or self._waiting:
            self._waiting.append((request, stays))
            self._read(False)
        else:
            self._answer(request, stays)

    def _answer(self, request: Request, stays: bool) -> None:
        reply = self._all.answer(request)
        if type(reply) is Reply:
            self._send(reply, request.method, stays)
            return
        self._is_answering = True
        waited = cast("Awaitable[Reply]", reply)
        task = asyncio.get_running_loop().create_task(self._later(waited, request.method, stays))
        self._all.tasks.add(task)
        task.add_done_callback(self._all.tasks.discard)

    async def _later(self, waited: Awaitable[Reply], method: str, stays: bool) -> None:
        reply = await waited
        self._is_answering = False
        self._send(reply, method, stays)
        self._go_on()

    def _go_on(self) -> None:
        """Answer what was sent ahead, then read again."""
        while self._waiting and not (self._is_answering or self._is_held):
            self._answer(*self._waiting.popleft())
        if not (self._is_answering or self._is_held):
            self._read(True)

    def _send(self, reply: Reply, method: str, stays: bool) -> None:
        transport = self._transport
        if transport is None:
            return  # the caller hung up
        body = reply.body
        ends = not stays or ((self._is_ending or self._all.is_ending) and not self._waiting)
        transport.write(
            b"%b%d\r\nx-request-id: %b\r\ndate: %b\r\n%b\r\n%b"
            % (
                reply.head.begin(reply.status),
                len(body),
                reply.request_id.encode(),
                self._all.date(),
                b"connection: close\r\n" if ends else b"",
                b"" if method == "HEAD" else body,
            )
        )
        if ends:
            self._last()

    def _refuse(self, status: int, error_type: str, message: str) -> None:
        """Of what is no request nothing more is read."""
        if self._is_ending:
            return
        self._is_ending = True
        if self._is_answering or self._waiting:
            return  # an answer before that to an earlier request would be taken for it
        error = RequestError(status, error_type, message)
        self._send(Reply(_PLAIN, error_body(error, ""), "", status), "", stays=False)

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────

    def _last(self) -> None:
        """Close it when everything is answered."""
        self._is_ending = True
        if self._transport is not None and not (self._is_answering or self._waiting):
            self._transport.close()

    def end(self) -> None:
        """Close it now, or after the request that is on it."""
        if not (self._is_reading or self._is_answering or self._waiting):
            self._last()

    def abort(self) -> None:
        """Close it whatever is on it."""
        if self._transport is not None:
            self._transport.abort()

    def _read(self, on: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()


_PLAIN: Final = Head([(b"content-type", b"application/json")])


def _absolute(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of `http://host/path?query`, or of something that is no path at all."""
    try:
        parsed: Any = httptools.parse_url(url)
    except httptools.HttpParserError:
        return url, b""
    return parsed.path or b"/", parsed.query or b""
