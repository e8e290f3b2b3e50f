"""Steps that say who calls, for Envoy to ask before it counts: 200 with the caller's name, or why not.

Envoy sends the head of each request here and waits. What was found is remembered for a while under a keyed hash of the
credentials, so that none is kept; equal credentials that come while somebody asks for them wait for that answer.
Whoever tries wrong ones is held up; the same again is no other try, and whoever was right is held up by nobody.
Whatever fails refuses. Knows nothing of tokens and passwords.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from tulle.gateway.processing.attempts import Attempts
from tulle.gateway.processing.exchange import CLAIMS_HEADER, CLIENT_HEADER, Answer, Call, Refusal
from tulle.gateway.processing.step import Step

MOST_KNOWN: Final = 10_000  # callers that are remembered; the one that called longest ago is forgotten
WRONG_SECONDS: Final = 5.0  # for which wrong credentials are known to be wrong
SAME_SECONDS: Final = 60.0  # for which the same wrong ones of an address are counted once
LARGEST_CLAIMS: Final = 16_384  # bytes that are told of a caller
MOST_AT_ONCE: Final = 1000  # different credentials that are asked for at a time
AT_ONCE_OF_ADDRESS: Final = 10  # of them, of one address; others of it wait for their turn
K = TypeVar("K")
V = TypeVar("V")
_LONGEST: Final = 16_384  # bytes of credentials
_FIT: Final = frozenset(range(0x21, 0x7F))


@dataclass(frozen=True, slots=True)
class Found:
    """Who somebody is: the name, what is told of him, and until when it holds (monotonic seconds)."""

    name: str
    claims: Mapping[str, Any] = field(default_factory=dict)
    until: float = float("inf")


class Check(Step, ABC):
    """Finds out who calls by the header `authorization`, in a subclass's way."""

    scheme = b"basic"

    def __init__(
        self,
        key: bytes,
        seconds: float,
        missing: Refusal,
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key` is secret; what was found holds for `seconds` at most; `missing` is said to who shows nothing.

        `patience`: seconds that finding out may take.
        """
        self._key = key
        self._seconds = seconds
        self._missing = missing
        self._patience = patience
        self.clock = clock
        self._known: OrderedDict[bytes, tuple[Found | Refusal, float]] = OrderedDict()
        self._right: OrderedDict[bytes, None] = OrderedDict()  # that were right when they were looked at last
        self._counted: OrderedDict[tuple[bytes, str], float] = (
            OrderedDict()
        )  # wrong ones of an address, since when
        self._asked: dict[bytes, asyncio.Task[Found]] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}
        self.attempts = Attempts(clock=clock)

    @abstractmethod
    async def find(self, credentials: bytes) -> Found:
        """Who has these. Refusal where nobody has, or it cannot be said."""

    def claimed(self, credentials: bytes) -> str:
        """The name that is claimed, for whoever tries many; empty where none is."""
        del credentials
        return ""

    def may(self, found: Found) -> None:
        """Refusal for somebody who is known and may not."""

    def request(self, call: Call) -> Answer | Any:
        credentials = _shown(call, self.scheme)
        if credentials is None:
            raise self._missing
        key = hashlib.blake2b(credentials, key=self._key, digest_size=24).digest()
        known = self._known.get(key)
        if known is not None:
            if self.clock() < known[1]:
                self._known.move_to_end(key)
                return self._answered(known[0])
            del self._known[key]
        return self._ask(key, credentials, call)

    async def _ask(self, key: bytes, credentials: bytes, call: Call) -> Answer:
        task = self._asked.get(key)
        if task is None:
            task = self._begun(key, credentials, call.address)
        try:
            found: Found | Refusal = await asyncio.shield(task)
        except Refusal as refusal:
            found = refusal
        return self._answered(found)

    def _begun(self, key: bytes, credentials: bytes, address: str) -> asyncio.Task[Found]:
        """Look for whoever has these, counted as an attempt of that address. Refusal."""
        name = self.claimed(credentials)
        self.attempts.begin(address, name, is_known=key in self._right)
        if len(self._asked) >= MOST_AT_ONCE:
            self.attempts.end(address, name, wrong=False)
            raise unavailable_now()
        found = self._found(key, credentials, address, name)
        task = self._asked[key] = asyncio.get_running_loop().create_task(found)
        task.add_done_callback(_heard)
        return task

    async def _found(self, key: bytes, credentials: bytes, address: str, name: str) -> Found:
        turn = self._turns.setdefault(address, asyncio.Semaphore(AT_ONCE_OF_ADDRESS))
        is_wrong = False
        try:
            async with asyncio.timeout(self._patience), turn:
                found = await self.find(credentials)
            self._remember(key, found, min(found.until, self.clock() + self._seconds))
            _keep(self._right, key, None)
            return found
        except TimeoutError:
            is_wrong = True  # as far as can be said: who sends much that takes long is held up too
            raise unavailable_now() from None
        except Refusal as refusal:
            is_wrong = refusal.status == 401
            if is_wrong:
                self._right.pop(key, None)
                self._remember(key, refusal, self.clock() + min(WRONG_SECONDS, self._seconds))
            raise
        finally:
            del self._asked[key]
            self.attempts.end(address, name, wrong=is_wrong and self._is_other(key, address))
            if not self.attempts.under_way(address):
                del self._turns[address]

    def _is_other(self, key: bytes, address: str) -> bool:
        """Whether these wrong credentials are others than that address was just counted for: the same are no guess."""
        now, since = self.clock(), self._counted.get((key, address))
        if since is not None and now - since < SAME_SECONDS:
            return False
        _keep(self._counted, (key, address), now)
        return True

    def _remember(self, key: bytes, found: Found | Refusal, until: float) -> None:
        _keep(self._known, key, (found, until))

    def _answered(self, found: Found | Refusal) -> Answer:
        if isinstance(found, Refusal):
            # a fresh one: that which is remembered was raised before, and would gather where it came from
            raise Refusal(found.status, found.error_type, found.message, found.detail, found.headers)
        self.may(found)
        headers = [(CLIENT_HEADER, found.name.encode())]
        if found.claims:
            told = base64.urlsafe_b64encode(msgspec.json.encode(found.claims)).rstrip(b"=")
            if len(told) > LARGEST_CLAIMS:
                raise unavailable_now("What is known of the caller is more than can be told")
            headers.append((CLAIMS_HEADER, told))
        return Answer(200, headers)

    def forget(self) -> None:
        """What was found is asked for again."""
        self._known.clear()

    def close(self) -> None:
        for task in list(self._asked.values()):
            task.cancel()


def _keep(known: OrderedDict[K, V], key: K, value: V) -> None:
    """Remember as the newest, and no more than there may be."""
    known.pop(key, None)
    known[key] = value
    while len(known) > MOST_KNOWN:
        known.popitem(last=False)


def _heard(task: asyncio.Task[Found]) -> None:
    """What came of it was told to whoever still waited."""
    if not task.cancelled():
        task.exception()


def is_name(text: object) -> bool:
    """Whether something may be a caller's name: printable, without spaces, not too long."""
    return isinstance(text, str) and 0 < len(text) <= 200 and all(ord(one) in _FIT for one in text)


def unavailable_now(message: str = "Who calls cannot be found out now") -> Refusal:
    """For whatever keeps somebody from being recognised, though he may be right."""
    return Refusal(503, "IdentityUnavailable", message, "Try again", [(b"retry-after", b"1")])


def _shown(call: Call, scheme: bytes) -> bytes | None:
    """The credentials of this scheme; None where there are none, or not exactly one."""
    values = call.all_of(b"authorization")
    if len(values) != 1 or len(values[0]) > _LONGEST:
        return None
    said, _, credentials = values[0].partition(b" ")
    credentials = credentials.strip()
    return credentials if said.lower() == scheme and credentials else None
