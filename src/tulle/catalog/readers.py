"""Who reads the portal's pages: whoever signed in with an access key of their own, else nobody in particular.

Being signed in opens pages to read and nothing else: what a page changes is asked with the key itself. Kept in memory
alone, so that it ends with the process; an end of the key ends it too.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tulle.errors import Denied, LimitExceeded
from tulle.gateway.apis.sight import NOBODY
from tulle.lake.access import Access

LASTS: Final = 12 * 3600  # seconds
_MOST: Final = 10_000  # signed in at a time
_MOST_WRONG: Final = 30  # wrong secrets in a minute, of one key
_MOST_WRONG_OF_ALL: Final = 3000  # and of all together, which no person sends
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class _SignedIn:
    user: str
    key: str
    until: float


class Readers:
    """Who is signed in to one mesh's pages. Safe to share between threads."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _SignedIn] = {}
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._wrong_of_all: deque[float] = deque(maxlen=_MOST_WRONG_OF_ALL)

    def sign_in(self, key: str, secret: str) -> str:
        """What stands for whoever has this access key, to be kept by their browser. Denied, LimitExceeded."""
        at, of = self._clock(), _digest(key)
        with self._lock:
            wrong = self._wrong.get(of) or deque[float]()
            for times, most in ((wrong, _MOST_WRONG), (self._wrong_of_all, _MOST_WRONG_OF_ALL)):
                if len(times) == most and at - times[0] < _MINUTE:
                    raise LimitExceeded("many wrong keys were sent just now", hint="try again in a minute")
        try:
            user = self._access.sign_in(key, secret)
        except Denied:
            self._note_wrong(of, at)
            raise
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._known = {name: one for name, one in self._known.items() if one.until > at}
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[_digest(token)] = _SignedIn(user, key, at + LASTS)
        return token

    def _note_wrong(self, of: str, at: float) -> None:
        with self._lock:
            self._wrong_of_all.append(at)
            self._wrong.setdefault(of, deque(maxlen=_MOST_WRONG)).append(at)
            self._wrong.move_to_end(of)
            while len(self._wrong) > _MOST_WRONG_OF_ALL:  # more are refused within a minute
                self._wrong.popitem(last=False)

    def user_of(self, token: str) -> str:
        """Who reads; `NOBODY` where nobody signed in, or it has ended."""
        found = self._known.get(_digest(token)) if token else None
        if found is None or found.until <= self._clock():
            return NOBODY
        key = self._access.key(found.key)
        return found.user if key is not None and key.user == found.user else NOBODY

    def sign_out(self, token: str) -> None:
        """End it."""
        with self._lock:
            self._known.pop(_digest(token), None)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
