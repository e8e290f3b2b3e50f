"""Calls that a real server does not answer: whether they can have done anything is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tulle.errors import Unavailable
from tulle.sdk.client import Client
from tulle.sdk.lake import LakeClient

UNKNOWN = "whether it did what it was asked is not known"


@pytest.fixture(scope="module")
def leaving() -> Iterator[str]:
    """A server that takes each request and ends without a word, as one that is killed meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("method", "is_told"), [("GET", False), ("POST", True), ("DELETE", True), ("PUT", True)]
)
def test_a_change_that_was_sent_may_have_been_made(leaving: str, method: str, is_told: bool) -> None:
    with httpx.Client(base_url=leaving) as http, pytest.raises(Unavailable) as told:
        Client(http).call(method, "/anything")
    assert (UNKNOWN in told.value.message) == is_told
    assert ("before you ask again" in str(told.value.hint)) == is_told
    assert "`tulle status`" in str(told.value.hint)


def test_of_the_lake_too(leaving: str) -> None:
    def ask(base: str, act: Any) -> str:
        with httpx.Client(base_url=base) as http, pytest.raises(Unavailable) as told:
            act(LakeClient(http))
        return told.value.message

    assert UNKNOWN in ask(leaving, lambda lake: lake._call("POST", "/repositories"))
    assert UNKNOWN not in ask(leaving, lambda lake: b"".join(lake.read("a", "main", "x")))
    assert UNKNOWN not in ask("http://127.0.0.1:9", lambda lake: lake._call("POST", "/repositories"))
