"""Judging where foreign code connects to, at the moment at which it does.

A library that resolves a name itself may be told another address than we were a moment before. While a block judges,
every name that is looked up in its context, and in threads that carry it, is judged, and only addresses that were
judged are given. Whoever else is at work looks names up as always. Knows nothing of what is sent.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tulle.errors import TulleError
from tulle.lake.hooks.outbound import Outbound


class Judging:
    """What was refused while names were judged: the last one, or None."""

    def __init__(self, outbound: Outbound, deadline: float) -> None:
        self.refused: TulleError | None = None
        self._outbound, self._deadline = outbound, deadline

    def addresses(self, host: Any, port: Any, family: int = 0, *_more: Any, **_named: Any) -> list[Any]:
        """What `socket.getaddrinfo` would give, if all of it may be reached. OSError otherwise."""
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        try:
            number = int(port or 0)
        except ValueError:
            number = socket.getservbyname(port)
        before = _HERE.set(None)
        try:
            found = self._outbound.judged(name, number, self._deadline)
        except TulleError as exc:
            self.refused = exc
            raise socket.gaierror(socket.EAI_FAIL, exc.message) from exc
        finally:
            _HERE.reset(before)
        return [one for one in found if family in {0, one[0]}]


_HERE: ContextVar[Judging | None] = ContextVar("judging", default=None)


@contextmanager
def judging(outbound: Outbound, seconds: float) -> Iterator[Judging]:
    """While the block runs, what is in it reaches only what `outbound` allows."""
    made = Judging(outbound, time.monotonic() + seconds)
    _PLACE.enter()
    before = _HERE.set(made)
    try:
        yield made
    finally:
        _HERE.reset(before)
        _PLACE.leave()


class _Place:
    """The one place where Python's own connections and its libraries' look names up, while anybody judges."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._usual: Any = socket.getaddrinfo

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._usual = socket.getaddrinfo
                socket.getaddrinfo = self.look_up

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                socket.getaddrinfo = self._usual

    def look_up(self, *given: Any, **named: Any) -> Any:
        here = _HERE.get()
        return self._usual(*given, **named) if here is None else here.addresses(*given, **named)


_PLACE = _Place()
