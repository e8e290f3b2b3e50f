"""How often somebody may do what others are told of, or what costs them something: so many times in an hour.

In memory alone, for a process; bounded. Knows nothing of what is done.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from tulle.errors import LimitExceeded

HOUR: Final = 3600.0
_MOST_KNOWN: Final = 20_000  # who are counted; the one that did something longest ago is forgotten


class Pace:
    """Of one kind of deed, for each who does it. Safe to share between threads."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` times in an hour."""
        self.most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._done: OrderedDict[str, deque[float]] = OrderedDict()

    def takes(self, who: str) -> bool:
        """Count it; False, and not counted, where there were too many within the last hour."""
        at = self._clock()
        with self._lock:
            done = self._done.setdefault(who, deque(maxlen=self.most))
            self._done.move_to_end(who)
            if len(done) == self.most and at - done[0] < HOUR:
                return False
            done.append(at)
            while len(self._done) > _MOST_KNOWN:
                self._done.popitem(last=False)
            return True

    def demand(self, user: str | None, what: str) -> None:
        """Count what a person does; the mesh's token is nobody's, and not counted. LimitExceeded."""
        if user is not None and not self.takes(user):
            raise LimitExceeded(
                f"user '{user}' {what} {self.most} times within the last hour", hint="try again later"
            )
