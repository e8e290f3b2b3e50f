"""HTTP/1.1 as bytes on a real socket: what a caller sends, in whatever pieces, and what it gets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from tulle.serving.connection import MOST_HEAD_BYTES, Callers, Head, Reply, Request

HEAD = Head([(b"content-type", b"text/plain"), (b"x-bad", b"a\r\nb: c"), (b"x-good", b"1")])
LARGEST = 100_000


class Service:
    """Answers what it was asked; paths that begin with `/wait` only when `go` is set."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.go = asyncio.Event()
        self.callers = Callers(self.answer, max_request_bytes=LARGEST)

    def answer(self, request: Request) -> Reply | Awaitable[Reply]:
        self.asked.append(request)
        if request.path == "/fails":
            raise RuntimeError("a fault of the service")
        return self.later(request) if request.path.startswith("/wait") else self.told(request)

    def told(self, request: Request) -> Reply:
        length = "-" if request.content is None else len(request.content)
        status = 413 if request.content is None else 299 if request.path == "/odd" else 200
        body = b"x" * 300_000 if request.path == "/big" else f"{request.path} {length}".encode()
        return Reply(HEAD, body, "r1", status)

    async def later(self, request: Request) -> Reply:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            return Reply(HEAD, b"stopped", "r1", 503)
        return self.told(request)


class Caller:
    """One connection, and what comes back on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def one(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        content = await self.reader.readexactly(int(headers.get("content-length", 0))) if body else b""
        return int(first.split()[1]), headers, content

    async def is_closed(self) -> bool:
        return await self.reader.read(1) == b""


def run(work: Callable[[Service, Caller], Coroutine[Any, Any, None]]) -> None:
    """`work` with a service and a caller that is connected to it."""

    async def inside() -> None:
        service = Service()
        server = await asyncio.get_running_loop().create_server(service.callers.connection, "127.0.0.1", 0)
        where = server.sockets[0].getsockname()
        caller = Caller(*await asyncio.open_connection(*where))
        try:
            async with asyncio.timeout(20):
                await work(service, caller)
        finally:
            caller.writer.close()
            server.close()
            await service.callers.end(0)
            assert not service.callers.connections
            assert not service.callers.tasks

    uvloop.run(inside())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  nothing tells it
        await asyncio.sleep(0.01)


def post(path: str, body: bytes = b"{}", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


CHUNKED = (
    b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
)


def test_requests_are_answered_one_after_the_other() -> None:
    async def work(service: Service, caller: Caller) -> None:
        for path in ("/a", "/b"):
            await caller.send(post(path, b"12345", "X-Mixed: Case"))
            status, headers, body = await caller.one()
            assert (status, body) == (200, f"{path} 5".encode())
            assert headers["content-type"] == "text/plain"
            assert headers["x-good"] == headers["x-request-id"].removeprefix("r") == "1"
            assert headers["date"].endswith("GMT")
            assert not {"x-bad", "b", "connection"} & set(headers)
        assert (b"x-mixed", b"Case") in service.asked[0].headers
        await caller.send(b"GET /odd?a=b%20c HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await caller.one())[0] == 299
        assert (service.asked[-1].method, service.asked[-1].query) == ("GET", b"a=b%20c")

    run(work)


@pytest.mark.parametrize("size", [1, 2, 7, 50])
@pytest.mark.parametrize("sent", [post("/a", b"abcdefg"), CHUNKED])
def test_a_request_may_come_in_any_pieces(sent: bytes, size: int) -> None:
    async def work(service: Service, caller: Caller) -> None:
        for at in range(0, len(sent), size):
            await caller.send(sent[at : at + size])
            await asyncio.sleep(0)
        assert (await caller.one())[2] == b"/a 7"
        assert service.asked[0].content == b"abcdefg"

    run(work)


def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(post("/a") + post("/wait") + post("/b") + post("/wait2") + post("/c"))
        assert (await caller.one())[2] == b"/a 2"
        await asyncio.sleep(0.05)
        assert [one.path for one in service.asked] == ["/a", "/wait"]
        service.go.set()
        assert [(await caller.one())[2] for _ in range(4)] == [b"/wait 2", b"/b 2", b"/wait2 2", b"/c 2"]
        await caller.send(post("/d"))
        assert (await caller.one())[2] == b"/d 2"

    run(work)


def test_who_does_not_read_is_not_answered_without_end() -> None:
    async def work(service: Service, caller: Caller) -> None:
        sending = asyncio.create_task(caller.send(post("/big") * 1000))
        await asyncio.sleep(0.3)
        assert len(service.asked) < 200
        for _ in range(1000):
            assert len((await caller.one())[2]) == 300_000
        await sending
        assert len(service.asked) == 1000

    run(work)


@pytest.mark.parametrize(
    "sent",
    [
        post("/a", b"", "Connection: close"),
        b"POST /a HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
        b"POST /a HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
        post("/a", b"", "Connection: upgrade", "Upgrade: h2c"),
        post("/a", b"", "Connection: close") + post("/never"),
        post("/a", b"") + b"\x16\x03\x01 this is no request",
    ],
    ids=["close", "1.0", "1.0 that stays", "upgrade", "more after the last", "garbage after it"],
)
def test_the_connection_ends_after_the_answer(sent: bytes) -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(sent)
        assert (await caller.one())[2] == b"/a 0"
        rest = await caller.reader.read()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400 Bad Request")
        assert [one.path for one in service.asked] == ["/a"]

    run(work)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST /a HTTP/9.9\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        (b"POST /a HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /a HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\na: b\rc: d\r\n\r\n", 400),
        (b"POST /\xff\xfe HTTP/1.1\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\n" + b"x: y\r\n" * (MOST_HEAD_BYTES // 5), 431),
        (b"POST /" + b"a" * (MOST_HEAD_BYTES + 1), 431),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(sent: bytes, status: int) -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(sent)
        given, headers, body = await caller.one()
        assert (given, headers["connection"]) == (status, "close")
        assert set(json.loads(body)) == {"errorType", "message", "detailedMessage", "requestId"}
        assert await caller.is_closed()
        assert service.asked == []

    run(work)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /a HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (LARGEST + 1),
        b"POST /a HTTP/1.1\r\ncontent-length: %d\r\nexpect: 100-continue\r\n\r\n" % (LARGEST + 1),
        b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        + (b"2710\r\n" + b" " * 10_000 + b"\r\n") * 11,
    ],
    ids=["told", "asked", "in chunks"],
)
def test_what_is_too_large_is_not_read(sent: bytes) -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(sent)
        status, headers, body = await caller.one()
        assert (status, headers["connection"], body) == (413, "close", b"/a -")
        assert await caller.is_closed()
        assert [one.content for one in service.asked] == [None]

    run(work)


def test_a_body_as_large_as_may_be_is_read() -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(post("/a", b" " * LARGEST))
        assert (await caller.one())[2] == f"/a {LARGEST}".encode()

    run(work)


def test_who_asks_before_sending_a_body_is_told_to_go_on() -> None:
    async def work(service: Service, caller: Caller) -> None:
        whole = post("/a", b"abc", "Expect: 100-Continue")
        await caller.send(whole[:-3])
        assert (await caller.one())[0] == 100
        await caller.send(whole[-3:])
        assert (await caller.one())[2] == b"/a 3"

    run(work)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a%20b/%C3%A9", "/a b/é"),
        ("/%ff", "/\ufffd"),
        ("http://somewhere:1/x?y=1", "/x"),
        ("http://somewhere", "/"),
        ("//a", "//a"),
    ],
)
def test_paths_are_decoded(url: str, path: str) -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(f"GET {url} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        await caller.one()
        assert service.asked[0].path == path

    run(work)


def test_the_answer_to_head_has_no_body() -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(b"HEAD /abc HTTP/1.1\r\nhost: a\r\n\r\n" + post("/b"))
        assert (await caller.one(body=False))[1]["content-length"] == "6"
        assert (await caller.one())[2] == b"/b 2"

    run(work)


def test_a_fault_of_the_service_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(post("/fails"))
        status, _, body = await caller.one()
        assert status == 500
        assert b"fault" not in body
        assert await caller.is_closed()

    run(work)
    assert "a fault of the service" in caplog.text


def test_who_hangs_up_gets_no_answer_and_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(post("/wait"))
        await until(lambda: bool(service.asked))
        caller.writer.transport.abort()
        service.go.set()
        await until(lambda: not (service.callers.connections or service.callers.tasks))
        assert [one.path for one in service.asked] == ["/wait"]

    run(work)
    assert caplog.text == ""


def test_who_has_said_all_still_gets_the_answers() -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(post("/wait") + post("/b"))
        caller.writer.write_eof()
        await asyncio.sleep(0.05)
        service.go.set()
        assert [(await caller.one())[2] for _ in range(2)] == [b"/wait 2", b"/b 2"]
        assert await caller.is_closed()

    run(work)


def test_the_end_closes_what_is_idle_and_waits_for_the_rest() -> None:
    async def work(service: Service, caller: Caller) -> None:
        where = caller.writer.get_extra_info("peername")
        idle = Caller(*await asyncio.open_connection(*where))
        half = Caller(*await asyncio.open_connection(*where))
        await idle.send(post("/a"))
        assert "connection" not in (await idle.one())[1]
        await half.send(post("/b")[:-1])
        await caller.send(post("/wait"))
        await until(lambda: len(service.asked) >= 2)
        ending = asyncio.create_task(service.callers.end(20))
        assert await idle.is_closed()
        await half.send(post("/b")[-1:])
        service.go.set()
        for one, body in ((half, b"/b 2"), (caller, b"/wait 2")):
            _, headers, content = await one.one()
            assert (headers["connection"], content) == ("close", body)
            assert await one.is_closed()
        await ending
        idle.writer.close()
        half.writer.close()

    run(work)


def test_what_takes_longer_than_the_end_waits_is_told_so() -> None:
    async def work(service: Service, caller: Caller) -> None:
        await caller.send(post("/wait"))
        await until(lambda: bool(service.asked))
        await service.callers.end(0.1)
        assert (await caller.one())[::2] == (503, b"stopped")
        assert await caller.is_closed()

    run(work)


def test_it_answers_on_a_unix_socket_as_well() -> None:
    async def work() -> None:
        service = Service()
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(service.callers.connection, sock=ours)
        caller = Caller(*await asyncio.open_unix_connection(sock=theirs))
        await caller.send(post("/a"))
        assert (await caller.one())[2] == b"/a 2"
        caller.writer.close()

    uvloop.run(work())
