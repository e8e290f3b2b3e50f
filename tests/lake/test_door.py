"""The bridge between an asynchronous server and a handler in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import pytest

from tulle.lake import door
from tulle.lake.door import Application, Incoming, Message, Outgoing, application

SCOPE = {"type": "http", "method": "PUT", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": []}


def echo(incoming: Incoming) -> Outgoing:
    """Tells the sizes of the pieces it got."""
    return Outgoing(200, b",".join(str(len(piece)).encode() for piece in incoming.chunks))


def call(
    app: Application,
    messages: Iterable[Message],
    *,
    silent_after: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, bytes]:
    """The status and body of the answer to a request with these messages."""

    async def run() -> tuple[int, bytes]:
        sent: list[Message] = []
        waiting: Iterator[Message] = iter(messages)

        async def receive() -> Message:
            for message in waiting:
                return message
            if silent_after:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await app({**SCOPE, "headers": headers}, receive, send)
        status = next((m["status"] for m in sent if m["type"] == "http.response.start"), 0)
        return status, b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")

    return asyncio.run(run())


def pieces(*sizes: int) -> list[Message]:
    last = len(sizes) - 1
    return [
        {"type": "http.request", "body": b"x" * size, "more_body": at < last} for at, size in enumerate(sizes)
    ]


def test_a_body_comes_in_large_pieces() -> None:
    app = application(echo, threads=1)
    assert call(app, pieces(5)) == (200, b"5")
    assert call(app, pieces(0)) == (200, b"")
    assert call(app, pieces(*[65_536] * 32, 7)) == (200, b"65536,1048576,983047")


def test_what_is_quick_needs_no_thread_unless_its_body_is_long() -> None:
    where: list[str] = []

    def note(incoming: Incoming) -> Outgoing:
        where.append(threading.current_thread().name)
        return echo(incoming)

    app = application(note, threads=1, name="slow", is_quick=lambda incoming: incoming.method == "PUT")
    assert call(app, pieces(5)) == (200, b"5")
    assert call(app, pieces(*[65_536] * 6)) == (200, b"65536,327680")
    assert [name.partition("_")[0] for name in where] == [threading.main_thread().name, "slow"]


def test_what_is_not_quick_after_all_is_done_in_a_thread() -> None:
    where: list[str] = []

    def read(incoming: Incoming) -> Outgoing:
        where.append(threading.current_thread().name.partition("_")[0])
        incoming.take_time(int(incoming.header("x-size")))
        return Outgoing(200, b"read")

    app = application(read, threads=1, name="slow", is_quick=lambda _: True)
    for size, threads in ((10, ["MainThread"]), (10_000_000, ["MainThread", "slow"])):
        where.clear()
        assert call(app, pieces(0), headers=[(b"x-size", str(size).encode())]) == (200, b"read")
        assert where == threads


async def together(app: Application, paths: Sequence[str]) -> list[bytes]:
    """The bodies of the answers to requests that come at the same time."""

    async def one(path: str) -> bytes:
        got: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            got.append(message.get("body", b""))

        await app({**SCOPE, "path": path, "raw_path": path.encode()}, receive, send)
        return b"".join(got)

    return await asyncio.gather(*map(one, paths))


def test_what_computes_all_the_time_is_done_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LONG_SECONDS", 3600.0)
    inside, most = 0, 0

    def count(incoming: Incoming) -> Outgoing:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1
        return Outgoing(200, incoming.raw_path)

    app = application(count, threads=8, is_busy=lambda _: True)
    paths = [f"/{number}" for number in range(20)]
    assert asyncio.run(together(app, paths)) == [path.encode() for path in paths]
    assert most == 1


def test_others_do_not_wait_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LONG_SECONDS", 0.01)
    another = threading.Event()

    def handler(incoming: Incoming) -> Outgoing:
        if incoming.path == "/long":
            assert another.wait(30), "nobody else was let in"
        else:
            another.set()
        return Outgoing(200, incoming.raw_path)

    app = application(handler, threads=2, is_busy=lambda _: True)
    assert asyncio.run(together(app, ["/long", "/short"])) == [b"/long", b"/short"]
    assert asyncio.run(together(app, ["/short"])) == [b"/short"]


def test_the_next_piece_is_made_while_one_is_sent() -> None:
    made: list[int] = []
    closed = threading.Event()

    def content() -> Iterator[bytes]:
        try:
            for number in range(5):
                made.append(number)
                yield bytes([number])
        finally:
            closed.set()

    app = application(lambda _: Outgoing(200, content()), threads=1)
    ahead: list[int] = []

    async def run() -> bytes:
        got: list[bytes] = []
        asked = iter([{"type": "http.request"}])

        async def receive() -> Message:
            for message in asked:
                return message
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message.get("body"):
                got.append(message["body"])
                while len(made) < min(5, len(got) + 1):  # noqa: ASYNC110  made in a thread
                    await asyncio.sleep(0.001)
                ahead.append(len(made) - len(got))

        await app({**SCOPE}, receive, send)
        return b"".join(got)

    assert asyncio.run(run()) == bytes(range(5))
    assert ahead == [1, 1, 1, 1, 0]
    assert closed.is_set()


def test_headers_that_come_twice_are_a_list() -> None:
    seen: list[str] = []

    def note(incoming: Incoming) -> Outgoing:
        seen.append(incoming.header("if-match"))
        return Outgoing(204)

    pairs = [(b"if-match", b'"x"'), (b"host", b"h"), (b"if-match", b"*")]
    assert call(application(note, threads=1), pieces(0), headers=pairs) == (204, b"")
    assert seen == ['"x",*']


def test_who_dawdles_holds_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SILENT_SECONDS", 0.05)
    called: list[Incoming] = []

    def note(incoming: Incoming) -> Outgoing:
        called.append(incoming)
        return echo(incoming)

    app = application(note, threads=1)
    assert call(app, pieces(5, 1)[:1], silent_after=True)[0] == 408
    assert not called
    assert call(app, pieces(3)) == (200, b"3")


def test_who_leaves_gets_nothing() -> None:
    app = application(echo, threads=1)
    assert call(app, pieces(5, 1)[:1]) == (0, b"")
    assert call(app, pieces(300_000, 1)[:1]) == (0, b"")


def test_nothing_more_is_read_for_who_is_gone() -> None:
    read: list[int] = []

    def stream(_incoming: Incoming) -> Outgoing:
        def body() -> Iterator[bytes]:
            for number in range(1000):
                read.append(number)
                yield b"x" * 10

        return Outgoing(200, body())

    assert call(application(stream, threads=1), pieces(0))[0] == 200
    assert len(read) < 10


def test_who_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SILENT_SECONDS", 0.05)
    closed: list[bool] = []

    def stream(_incoming: Incoming) -> Outgoing:
        def body() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x"
            finally:
                closed.append(True)

        return Outgoing(200, body())

    async def run() -> None:
        messages = iter(pieces(0))

        async def receive() -> Message:
            for message in messages:
                return message
            return await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        await application(stream, threads=1)(SCOPE, receive, send)

    asyncio.run(run())
    assert closed == [True]
