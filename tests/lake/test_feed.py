"""Pieces made in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tulle.lake.blobs import open_blobs
from tulle.lake.feed import fed


def test_the_pieces_come_in_order_from_another_thread() -> None:
    makers: set[str] = set()

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            makers.add(threading.current_thread().name)
            yield b"%d" % number

    with fed(pieces()) as taken:
        assert list(taken) == [b"%d" % number for number in range(100)]
    assert makers == {"feed"}


def test_what_the_making_raises_is_raised_where_they_are_taken() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"1"
        raise ValueError("no more")

    taken: list[bytes] = []
    with pytest.raises(ValueError, match="no more"), fed(pieces()) as made:
        taken.extend(made)
    assert taken == [b"1"]


def test_who_stops_taking_ends_the_making() -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x"

    with fed(pieces()) as made:
        assert next(made) == b"x"
    assert "feed" not in {thread.name for thread in threading.enumerate()}


def test_a_store_is_written_from_what_is_read_in_it() -> None:
    blobs = open_blobs("memory:///feed")
    data = bytes(range(256)) * 65_536  # 16 MiB
    blobs.put("a", data)
    size = blobs.put("b", (blobs.get("a", at, at + 1_000_000) for at in range(0, len(data), 1_000_000)))
    assert (size, blobs.get("b") == data) == (len(data), True)

    def torn() -> Iterator[bytes]:
        yield blobs.get("a", 0, 10_000_000)
        raise ValueError("torn")

    with pytest.raises(Exception, match="torn"):
        blobs.put("c", torn())
    assert "c" not in {info.path for info in blobs.list()}
