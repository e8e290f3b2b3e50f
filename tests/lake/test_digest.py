"""Digests of pieces as they pass."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator

import pytest

from tulle.lake.digest import LARGE, Digests


@pytest.mark.parametrize(
    "sizes", [(), (0,), (5,), (LARGE,), (3, LARGE + 1, LARGE - 1, 2 * LARGE, 7), (LARGE,) * 9]
)
def test_digests_are_those_of_the_whole(sizes: tuple[int, ...]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    digests = Digests()
    assert list(digests.passing(pieces)) == pieces
    whole = b"".join(pieces)
    assert digests.sha256 == hashlib.sha256(whole).hexdigest()
    assert digests.md5 == hashlib.md5(whole, usedforsecurity=False).hexdigest()


def test_a_large_piece_is_taken_in_beside_and_before_the_next_one_is_asked_for() -> None:
    digests = Digests()
    begun, may_go_on = threading.Event(), threading.Event()
    taken: list[str] = []

    class Slow(Digests):
        def update(self, piece: bytes) -> None:
            begun.set()
            assert may_go_on.wait(30)
            taken.append(threading.current_thread().name)
            super().update(piece)

    slow = Slow()
    passing = slow.passing([b"a" * LARGE, b"b" * LARGE])
    assert next(passing) == b"a" * LARGE
    assert begun.wait(30)
    assert taken == []
    may_go_on.set()
    assert next(passing) == b"b" * LARGE
    assert len(taken) >= 1
    assert list(passing) == []
    digests.update(b"a" * LARGE + b"b" * LARGE)
    assert slow.sha256 == digests.sha256
    assert all(name.startswith("lake-digest") for name in taken)


def test_who_stops_half_way_leaves_no_thread() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * LARGE
        raise OSError("the sender is gone")

    passing = Digests().passing(pieces())
    next(passing)
    with pytest.raises(OSError, match="the sender is gone"):
        next(passing)
    given_up = Digests().passing([b"x" * LARGE] * 2)
    next(given_up)
    given_up.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lake-digest")]
