"""Keeps answers and gives them again: by method, path and chosen parts of a request, also of a POST.

Never across callers, unless the policy says so. Equal requests that come while the first is under way wait for its
answer. Kept in memory, within entries and bytes, those asked for longest ago go first. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final
from weakref import WeakSet

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.exchange import Answer, Call, Header
from tulle.gateway.processing.freshness import age, lifetime
from tulle.gateway.processing.json_paths import Path, json_path
from tulle.gateway.processing.step import Outcome, Step

CACHE_HEADER: Final = b"x-tulle-cache"  # hit or miss
MOST_KEPT: Final = 512 << 20  # bytes, of all policies of a processor together
OF_ENTRY: Final = 256  # bytes that an entry needs beside its headers and body
_ALWAYS: Final = (
    b"host",
    b"accept",
    b"content-type",
    b"forced-generation",
    b"dispatch-key",
)  # answers differ by these
_NOT_KEPT: Final = frozenset({b"age", b"x-request-id", b"retry-after", CACHE_HEADER})
# Headers and parameters that may say who calls, to a service that reads them itself.
_TELLS_WHO: Final = re.compile(
    r"auth|cookie|secret|passw|token|key|credential|session|sign|jwt|assertion|bearer|ticket|code|sid$"
    r"|user|account|tenant|subject|principal|identity|behalf|client|customer|member|org|role|group|cert|forwarded"
)
# Headers that say nothing of whoever sends them, or are not sent on.
_OF_NOBODY: Final = frozenset(
    {
        *(b"accept-encoding", b"cache-control", b"connection", b"content-length", b"date", b"dnt", b"expect"),
        *(b"host", b"keep-alive", b"pragma", b"priority", b"te", b"transfer-encoding", b"upgrade"),
        *(
            b"upgrade-insecure-requests",
            b"via",
            b"x-request-id",
            b"x-forwarded-proto",
            b"traceparent",
            b"tracestate",
        ),
        *(b"if-none-match", b"if-modified-since"),
    }
)


@dataclass(frozen=True, slots=True)
class _Entry:
    status: int
    headers: Sequence[Header]
    body: bytes
    made_at: float  # before it came here, where it was kept elsewhere
    until: float
    size: int


class Room:
    """Bytes for the answers of all policies together."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.most = most
        self.used = 0
        self.all: WeakSet[Kept] = WeakSet()

    def make(self) -> None:
        """Where it is too little, whoever keeps the most lets go of what was asked for longest ago."""
        while self.used > self.most:
            max(self.all, key=lambda kept: kept.bytes).forget_oldest()


class Kept:
    """The answers of one policy, and who waits for one that is under way. For one thread."""

    def __init__(self, most_entries: int, most_bytes: int, room: Room | None = None) -> None:
        self._room = room or Room(most_bytes)
        self._room.all.add(self)
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self.bytes = 0
        self.waiting: dict[bytes, list[asyncio.Future[None]]] = {}

    def __del__(self) -> None:
        """Leave its room to others."""
        self._room.used -= self.bytes

    def get(self, key: bytes, at: float) -> _Entry | None:
        """An answer that is kept and not too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if at >= entry.until:
            self.forget(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, entry: _Entry) -> None:
        """Keep an answer; others go for it."""
        self.forget(key)
        if entry.size > self._most_bytes:
            return
        self._entries[key] = entry
        self._count(entry.size)
        while self.bytes > self._most_bytes or len(self._entries) > self._most_entries:
            self.forget_oldest()
        self._room.make()

    def forget_oldest(self) -> None:
        """Keep the answer that was asked for longest ago no more."""
        self.forget(next(iter(self._entries)))

    def _count(self, size: int) -> None:
        self.bytes += size
        self._room.used += size

    def forget(self, key: bytes) -> None:
        """Keep it no more."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._count(-entry.size)

    def forget_all(self) -> None:
        """Keep none of them."""
        self._entries.clear()
        self._count(-self.bytes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._entries)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept, for how long (seconds), and by which parts of a request; None for a whole query or body."""

    seconds: float
    methods: frozenset[str]
    statuses: frozenset[int]
    headers: tuple[bytes, ...]
    query: frozenset[str] | None
    body: tuple[Path, ...] | None
    is_shared: bool
    invalidation: bytes | None
    may_invalidate: frozenset[str]
    heeds_cache_control: bool


class AnswerCache(Step):
    """The cache of one policy."""

    sees_answers = True
    is_told_of_ends = True

    def __init__(self, rules: Rules, kept: Kept, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._kept = kept
        self._clock = clock

    def request(self, call: Call) -> Outcome | Any:
        rules = self._rules
        if call.method not in rules.methods:
            return None
        if rules.body is not None and call.body and call.name_twice() is not None:
            return None  # who answers may take the other value than the key has
        said = _words(call.header(b"cache-control")) if rules.heeds_cache_control else ""
        key = self._key(call)
        if rules.invalidation is not None and (wish := call.header(rules.invalidation)) is not None:
            self._invalidate(call, wish, key)
        if "no-store" in said:
            return None
        if "no-cache" not in said:
            if (entry := self._kept.get(key, self._clock())) is not None:
                return self._answer(entry)
            if (waiting := self._kept.waiting.get(key)) is not None:
                # From now on: the answer may be there before the task that waits for it has begun.
                turn = asyncio.get_running_loop().create_future()
                waiting.append(turn)
                return self._wait(call, key, turn)
        if key not in self._kept.waiting:
            self._kept.waiting[key] = []
            call.notes[self.number] = (key, True, self._clock())
        else:
            call.notes[self.number] = (key, False, self._clock())
        return None

    async def _wait(self, call: Call, key: bytes, turn: asyncio.Future[None]) -> Answer | None:
        """For the answer that another request of this key is getting; without one it goes on by itself."""
        await turn
        if (entry := self._kept.get(key, self._clock())) is not None:
            return self._answer(entry)
        call.notes[self.number] = (key, False, self._clock())
        return None

    def head(self, call: Call, answer: Answer) -> bool:
        note = call.notes.get(self.number)
        if note is None or answer.is_ours:
            return False
        answer.set_header(CACHE_HEADER, b"miss")
        return (
            answer.status in self._rules.statuses
            and self._seconds(answer, self._clock() - note[2]) > 0
            and self._is_general(answer)
        )

    def body(self, call: Call, answer: Answer) -> None:
        key, _, asked_at = call.notes[self.number]
        at = self._clock()
        waited = at - asked_at
        seconds = self._seconds(answer, waited)
        if (
            answer.status not in self._rules.statuses or seconds <= 0
        ):  # another step made something else of it
            return
        headers = [one for one in answer.headers if one[0] not in _NOT_KEPT]
        size = OF_ENTRY + len(answer.body) + sum(len(name) + len(value) for name, value in headers)
        made_at = at - waited - age(answer)
        self._kept.put(key, _Entry(answer.status, headers, answer.body, made_at, at + seconds, size))

    def ended(self, call: Call) -> None:
        note = call.notes.get(self.number)
        if note is not None and note[1]:
            for turn in self._kept.waiting.pop(note[0], ()):
                if not turn.done():
                    turn.set_result(None)

    def _answer(self, entry: _Entry) -> Answer:
        old = b"%d" % int(self._clock() - entry.made_at)
        return Answer(entry.status, [*entry.headers, (b"age", old), (CACHE_HEADER, b"hit")], entry.body)

    def _invalidate(self, call: Call, wish: bytes, key: bytes) -> None:
        if call.client not in self._rules.may_invalidate:
            return
        if wish.strip().lower() == b"all":
            self._kept.forget_all()
        else:
            self._kept.forget(key)

    def _key(self, call: Call) -> bytes:
        rules = self._rules
        query = [one for one in call.query_as_sent if rules.query is None or one[0] in rules.query]
        if rules.body is None:
            body: Any = call.body
        else:
            body = msgspec.json.encode(
                [call.found(path) for path in rules.body] if call.body else [], order="sorted"
            )
        parts = [
            call.method,
            call.path,
            sorted(query, key=itemgetter(0)),  # those of one name in their order
            [call.all_of(name) for name in (*_ALWAYS, *rules.headers)],
            body,
            () if rules.is_shared else _caller(call),
        ]
        return hashlib.blake2b(msgspec.msgpack.encode(parts, order="sorted"), digest_size=24).digest()

    def _seconds(self, answer: Answer, waited: float) -> float:
        """For how long an answer may be kept from now on, that came so many seconds after it was asked for.

        Zero or less for not at all. RFC 9111, 4.2.3: what it took to come counts as if it had been kept so long.
        """
        rules = self._rules
        if not rules.heeds_cache_control or (said := lifetime(answer, is_shared=rules.is_shared)) is None:
            return rules.seconds
        return min(said - age(answer) - waited, rules.seconds)

    def _is_general(self, answer: Answer) -> bool:
        """Whether an answer is for every request of its key: what it varies by is in there."""
        by = _words(answer.header(b"vary"))
        names = {name.strip().encode() for name in by.split(",")} - {b"", b"accept-encoding", b"origin"}
        return answer.header(b"set-cookie") is None and names <= {*_ALWAYS, *self._rules.headers}


def _caller(call: Call) -> Sequence[Any]:
    """What tells one caller from another, as far as the gateway and the service may know him.

    A service may read credentials of its own, so headers and parameters that may hold any count. Callers whom the
    gateway does not know are told apart by their address and by all headers, but for those that say nothing of them.
    """
    shown = [pair for pair in call.query_as_sent if _may_tell_who(pair[0].lower())]
    if call.client:
        headers = [one for one in call.headers if _may_tell_who(one[0].decode("latin-1"))]
        return (call.client, call.claims, headers, shown)
    return (call.address, [one for one in call.headers if _is_his(one[0])], shown)


@lru_cache(maxsize=4096)
def _may_tell_who(name: str) -> bool:
    return name != "user-agent" and _TELLS_WHO.search(name) is not None and not name.startswith("x-tulle-")


@lru_cache(maxsize=4096)
def _is_his(name: bytes) -> bool:
    return name not in _OF_NOBODY and not name.startswith((b"x-tulle-", b"x-envoy-", b"sec-"))


def caching_rules(settings: Mapping[str, Any]) -> Rules:
    """What a policy's settings say. Invalid when they cannot be meant."""
    key = settings.get("key", {})
    methods = frozenset(settings.get("methods", ["GET"]))
    if strange := methods - {"GET", "POST"}:
        raise Invalid(f"caching: answers to {min(strange)} are not kept", hint="methods: GET, POST or both")
    query, body = key.get("query"), key.get("body")
    invalidation = settings.get("invalidate") or {}
    name = str(invalidation.get("header", "")).strip().lower()
    return Rules(
        seconds=float(settings.get("ttl", 600)),
        methods=methods,
        statuses=frozenset(settings.get("statuses", [200])),
        headers=tuple(sorted(str(one).strip().lower().encode() for one in key.get("headers", []))),
        query=None if query is None else frozenset(query),
        body=None if body is None else tuple(json_path(one) for one in body),
        is_shared=bool(settings.get("shared", False)),
        invalidation=name.encode() or None,
        may_invalidate=frozenset(invalidation.get("clients", ())),
        heeds_cache_control=bool(settings.get("use_cache_control", True)),
    )


def _words(header: bytes | None) -> str:
    return (header or b"").decode("latin-1").lower()
