"""One request to a composition: what its steps know of it, and what they tell of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from tulle.serving.endpoint import Header
from tulle.serving.request import RequestError
from tulle.serving.step_form import PATIENT, Said, within

MOST_RECEIVED = 128 << 20  # bytes of answers, of all steps of one request
MOST_ENTRIES = 10_000  # of lists that the steps of one request are carried out for, together
MOST_CALLS = 64  # of one request that are under way at a time
TOTAL = b"total"  # the member of `timing` that is the whole composition's: no step's
Told = tuple[bytes, int, dict[str, Any] | None]  # a step, nanoseconds, and what is not usual


class Asked:
    """What the steps of one request know of it, and what they tell of themselves."""

    __slots__ = ("entries", "failed", "headers", "id", "received", "replaced", "told", "turn")

    def __init__(
        self, request_id: str, headers: Sequence[Header], turn: asyncio.Semaphore | None = None
    ) -> None:
        """`turn`: what calls wait for, where there may be more of them at a time than are made."""
        self.id = request_id
        self.headers = headers
        self.told: list[Told] = []
        self.failed: list[dict[str, Any]] = []
        self.received = self.entries = self.replaced = 0  # replaced: failures that something stood in for
        self.turn = turn

    def receive(self, answer: bytes) -> bytes:
        """Take an answer in. RequestError when those of one request are too large together, as of a `map` over many."""
        self.received += len(answer)
        if self.received > MOST_RECEIVED:
            message = f"the answers of its steps have more than {MOST_RECEIVED >> 20} MB together"
            raise RequestError(502, "AnswerTooLarge", message, "Ask for less at once")
        return answer

    def enter(self, count: int) -> None:
        """Begin with the entries of a list. RequestError when those of all lists are too many, as of lists in lists."""
        self.entries += count
        if self.entries > MOST_ENTRIES:
            message = f"its steps are carried out for more than {MOST_ENTRIES:,} entries of lists"
            raise RequestError(422, "TooMany", message, "Send less at once")

    def timing(self, *, by_name: bool = False) -> bytes:
        """The members of `timing`: microseconds by step; `by_name`: where a name may be told of several times."""
        if not by_name:
            return b"".join([b'"%b":%d,' % (one[0], one[1] // 1000) for one in self.told])
        spent: dict[bytes, int] = {}
        for word, nanoseconds, _ in self.told:
            spent[word] = spent.get(word, 0) + nanoseconds
        spent.pop(TOTAL, None)
        return b"".join([b'"%b":%d,' % (word, number // 1000) for word, number in spent.items()])

    def steps(self) -> list[dict[str, Any]]:
        """Of every call: its step, status, microseconds, and what else there is to tell."""
        return [
            {"name": name.decode(), "status": 200, "microseconds": spent // 1000, **(more or {})}
            for name, spent, more in self.told
        ]


def is_told_once(steps: Sequence[Said]) -> bool:
    """Whether each name is told of once at most, and none is the whole's."""
    names = list(_told(steps, ""))
    return None not in names and TOTAL.decode() not in names and len(set(names)) == len(names)


def _told(steps: Sequence[Said], before: str) -> Iterator[str | None]:
    """What steps are called where they are told of; None for one that may be several times."""
    for step in steps:
        word = before + step["name"]
        if "call" in step or "http" in step or is_one(step):
            yield None if "map" in step else word
        inside = inside_of(step, before)
        for _, inner in within(step):
            if "map" in step or "retry" in step:
                yield None
            yield from _told(inner, inside)


def is_one(step: Said) -> bool:
    """Whether steps within one are carried out as one: all of them in time, again, kept, for each entry of a list."""
    return any(name in step for name in PATIENT) and any(
        way in step for way in ("steps", "parallel", "switch")
    )


def inside_of(step: Said, before: str) -> str:
    """What the words of steps within one begin with: names in a group are known in it alone."""
    return f"{before}{step['name']}." if "steps" in step else before
