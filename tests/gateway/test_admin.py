"""Asking Envoy when there is none, or something else; the real one answers in test_envoy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tulle.errors import Unavailable
from tulle.gateway.admin import Admin, Taken


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A socket that answers one request with these bytes; yields what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            wire, _ = listening.accept()
            with wire:
                asked.append(wire.recv(10_000))
                wire.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            thread.join()


def http(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


def test_no_socket_or_nobody_behind_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        Admin(tmp_path, "admin.sock").get("/ready")
    with pytest.raises(Unavailable):
        Admin(tmp_path / ("x" * 90), "admin.sock").get("/ready")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "admin.sock"))
    with pytest.raises(Unavailable, match="does not answer"):
        Admin(tmp_path, "admin.sock").get("/ready")


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", http("not now", "503 Service Unavailable")])
def test_an_answer_that_is_none_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "a.sock", answer), pytest.raises(Unavailable):
        Admin(tmp_path, "a.sock").get("/ready")


def test_statistics_are_read_by_name(tmp_path: Path, free_port: Callable[[], int]) -> None:
    text = 'a.version_text: "abc"\na.update_rejected: 1\na.update_failure: 2\nb.version_text: ""\nnoise\n'
    with answering(tmp_path / "a.sock", http(text)) as asked:
        taken = Admin(tmp_path, "a.sock").taken({"one": "a", "two": "b"})
    assert taken == {"one": Taken("abc", 3), "two": Taken("", 0)}
    assert b"GET /stats?filter=%5E%28a%7Cb%29" in asked[0]
