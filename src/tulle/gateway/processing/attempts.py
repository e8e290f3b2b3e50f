"""Who tries credentials that are wrong: how often they are looked at is limited, and it is written down.

Counted for each address with each name that is claimed, and for each address with all names; a name alone is not
counted, or anybody could lock out anybody. What is under way counts as if it were wrong until it is known, so nobody
tries more by sending all at once. In memory, bounded. Knows nothing of what the credentials are.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tulle.gateway.processing.exchange import Refusal

MOST_OF_NAME: Final = 10  # wrong ones in a window, of one address for one name
MOST_OF_ADDRESS: Final = 100  # and for all names together
MOST_UNDER_WAY: Final = 50  # of an address that are looked at, or wait for it
WINDOW: Final = 60.0  # seconds
MOST_KNOWN: Final = 20_000
_log = logging.getLogger("tulle.processing")


class Attempts:
    """The wrong credentials that one policy has seen, and those it looks at. For one thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._under_way: dict[tuple[str, str], int] = {}

    def begin(self, address: str, name: str, *, is_known: bool = False) -> None:
        """Count one that is to be looked at; `end` follows. Refusal where there were too many.

        429 where they were wrong, 503 where they might be, for many are under way. `is_known`: these were right before,
        so what others try at that address does not keep them out.
        """
        now = self._clock()
        for key, most in _counted(address, name):
            since, count = self._wrong.get(key, (now, 0))
            if now - since >= WINDOW:
                count = 0
            if count >= most and not is_known:
                later = b"%d" % max(1, round(WINDOW - (now - since)))
                raise Refusal(
                    429,
                    "TooManyGuesses",
                    "Too many wrong credentials were sent from this address",
                    "Try again after the seconds in retry-after",
                    [(b"retry-after", later)],
                )
            is_full = count + self._under_way.get(key, 0) >= most and not is_known
            if is_full or self.under_way(address) >= MOST_UNDER_WAY:
                raise Refusal(
                    503,
                    "IdentityUnavailable",
                    "Many callers of this address are being looked for",
                    "Try again",
                    [(b"retry-after", b"1")],
                )
        for key, _ in _counted(address, name):
            self._under_way[key] = self._under_way.get(key, 0) + 1

    def end(self, address: str, name: str, *, wrong: bool) -> None:
        """What was begun is known: it stays counted where it was wrong, and is taken back where not."""
        for key, _ in _counted(address, name):
            left = self._under_way.pop(key) - 1
            if left:
                self._under_way[key] = left
        if wrong:
            self.wrong(address, name)

    def under_way(self, address: str) -> int:
        """How many of an address were begun and have not ended."""
        return self._under_way.get((address, ""), 0)

    def wrong(self, address: str, name: str) -> None:
        """They were wrong."""
        now = self._clock()
        for key, most in _counted(address, name):
            since, count = self._wrong.pop(key, (now, 0))
            if now - since >= WINDOW:
                since, count = now, 0
            self._wrong[key] = (since, count + 1)
            if count + 1 == most:
                _log.warning("too many wrong credentials from %s for %r", address, key[1][:60] or "several")
        while len(self._wrong) > MOST_KNOWN:
            self._wrong.popitem(last=False)


def _counted(address: str, name: str) -> list[tuple[tuple[str, str], int]]:
    of_name = [((address, name), MOST_OF_NAME)] if name else []
    return [*of_name, ((address, ""), MOST_OF_ADDRESS)]
