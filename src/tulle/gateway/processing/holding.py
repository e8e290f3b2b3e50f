"""How many bytes of bodies a processor holds: counted over all connections, so that many small parts are no flood.

What is written and not yet taken by its reader is held as well. Knows nothing of requests and of connections.
"""

from __future__ import annotations

from typing import Final

MOST_HELD: Final = 256 << 20  # bytes that are held at a time, of all requests together


class Holding:
    """All of a processor. For one thread."""

    __slots__ = ("most", "now")

    def __init__(self, most: int = MOST_HELD) -> None:
        self.most = most
        self.now = 0


class Hold:
    """The part of one connection: of the request that is on it, and of an answer that its reader does not take."""

    __slots__ = ("_all", "_unsent", "bytes")

    def __init__(self, holding: Holding) -> None:
        self._all = holding
        self._unsent = 0
        self.bytes = 0  # of the request that is on it

    def take(self, more: int) -> bool:
        """Count so many more; False, and nothing is counted, when it would be too many."""
        if self._all.now + more > self._all.most:
            return False
        self._all.now += more
        self.bytes += more
        return True

    def over(self, unsent: int) -> None:
        """The request is over; so many bytes of its answer are still to be taken."""
        self._all.now += unsent - self.bytes
        self.bytes = 0
        self._unsent += unsent

    def sent(self) -> None:
        """What was written is taken."""
        self._all.now -= self._unsent
        self._unsent = 0
