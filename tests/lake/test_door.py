"""The bridge between an asynchronous server and a handler in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from tulle.lake import door
from tulle.lake.door import Application, Incoming, Message, Outgoing, application

SCOPE = {"type": "http", "method": "PUT", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": []}


def echo(incoming: Incoming) -> Outgoing:
    """Tells the sizes of the pieces it got."""
    return Outgoing(200, b",".join(str(len(piece)).encode() for piece in incoming.chunks))


def call(app: Application, messages: Iterable[Message], *, silent_after: bool = False) -> tuple[int, bytes]:
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

        await app(SCOPE, receive, send)
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
    assert call(app, pieces(*[65_536] * 10, 7)) == (200, b"262144,262144,131079")


def test_who_dawdles_holds_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "FIRST_SECONDS", 0.05)
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
