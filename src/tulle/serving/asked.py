"""One request to a composition: what its steps know of it, and what they tell of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulle.serving.endpoint import Header
from tulle.serving.request import RequestError

MOST_RECEIVED = 128 << 20  # bytes of answers, of all steps of one request
TOTAL = b"total"  # the member of `timing` that is the whole composition's: no step's
Told = tuple[bytes, int, dict[str, Any] | None]  # a step, nanoseconds, and what is not usual


class Asked:
    """What the steps of one request know of it, and what they tell of themselves."""

    __slots__ = ("failed", "headers", "id", "received", "told")

    def __init__(self, request_id: str, headers: Sequence[Header]) -> None:
        self.id = request_id
        self.headers = headers
        self.told: list[Told] = []
        self.failed: list[dict[str, Any]] = []
        self.received = 0

    def receive(self, answer: bytes) -> bytes:
        """Take an answer in. RequestError when those of one request are too large together, as of a `map` over many."""
        self.received += len(answer)
        if self.received > MOST_RECEIVED:
            message = f"the answers of its steps have more than {MOST_RECEIVED >> 20} MB together"
            raise RequestError(502, "AnswerTooLarge", message, "Ask for less at once")
        return answer

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


def is_told_once(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each name is told of once at most, and none is the whole's."""
    names = list(_called(steps))
    return None not in names and TOTAL.decode() not in names and len(set(names)) == len(names)


def _called(steps: Sequence[Mapping[str, Any]]) -> Iterator[str | None]:
    """The names of steps that call something; None for one that may do so several times."""
    for step in steps:
        if "call" in step or "http" in step:
            yield None if "map" in step else step["name"]
        yield from _called(step.get("parallel", ()))
        for branch in step.get("switch", ()):
            yield from _called(branch["steps"])
