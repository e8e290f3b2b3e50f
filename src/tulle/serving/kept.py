"""Answers that a step of a composition keeps for a while: bounded in number and in size, the oldest go first.

Knows nothing of steps.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import msgspec
from msgspec import UNSET

from tulle.serving.request import UNWRITABLE

MOST_ANSWERS = 10_000
MOST_BYTES = 64 << 20  # as JSON, with what was asked
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Kept:
    """Answers by what was asked. For one thread."""

    def __init__(self, seconds: float, *, most_bytes: int = MOST_BYTES) -> None:
        """`seconds` is how long an answer is taken again; 0 keeps none."""
        self.seconds = seconds
        self._most_bytes = most_bytes
        self._bytes = 0
        self._answers: OrderedDict[bytes, tuple[float, int, Any]] = OrderedDict()

    def get(self, key: bytes) -> Any:
        """The answer; UNSET where there is none, or none any more."""
        until, _, value = self._answers.get(key, (0.0, 0, UNSET))
        return value if until > time.monotonic() else UNSET

    def put(self, key: bytes, value: Any) -> None:
        """Keep an answer, unless it is larger than all that is kept may be."""
        if not self.seconds:
            return
        try:
            size = len(key) + len(_encode(value))
        except UNWRITABLE:
            return
        self._forget(key)
        if size > self._most_bytes:
            return
        self._answers[key] = (time.monotonic() + self.seconds, size, value)
        self._bytes += size
        while self._bytes > self._most_bytes or len(self._answers) > MOST_ANSWERS:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: bytes) -> None:
        _, size, _ = self._answers.pop(key, (0.0, 0, None))
        self._bytes -= size
