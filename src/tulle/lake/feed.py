"""Pieces that are made in a thread of their own, a few ahead of whoever takes them.

An object store's client asks for the pieces of an upload from within its own runtime, where nothing may ask the same
client for something else: so what reads from one store to write to another has to read elsewhere. Knows no store.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

AHEAD = 2  # pieces of a few MiB
_LOOK_SECONDS = 0.5


@contextmanager
def fed(pieces: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """The same pieces, made by a thread that ends with the block. What making raises is raised where they are taken."""
    made: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD)
    ended = threading.Event()

    def put(item: bytes | BaseException | None) -> bool:
        while not ended.is_set():
            try:
                made.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for piece in pieces:
                if not put(piece):
                    return
        except BaseException as exc:  # noqa: BLE001  raised where the pieces are taken
            put(exc)
        else:
            put(None)

    def take() -> Iterator[bytes]:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    maker = threading.Thread(target=make, name="feed", daemon=True)
    maker.start()
    try:
        yield take()
    finally:
        ended.set()
        maker.join()
