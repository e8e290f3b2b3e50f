"""Counts of requests in windows of time, by key: how many there were, and whether one more is let on.

A request is let on only when every window has room for it, and then it counts in all of them: one that is refused uses
up nothing. Counting waits for nothing; `window_file` writes down what was counted, so that it survives a restart.
Times in seconds since the epoch. Knows nothing of requests, and not what a key stands for.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from tulle.spec.rate_limit import RateLimit

Kind = Literal["fixed", "sliding"]
MOST_KEYS: Final = 100_000  # of one policy; the one that asked longest ago is forgotten first
SLOTS: Final = 20  # into which a sliding window is cut
_KEPT: Final = SLOTS + 1  # so many are counted that they cover a whole period at any moment


class Count(msgspec.Struct, array_like=True):
    """What was counted in one window of one key.

    Of a fixed one: when it began, and how many. Of a sliding one: the number of its newest slot, and how many in each
    of the last slots, the newest last.
    """

    begin: float
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is let on, and the window with the least room: its limit, what is left, seconds until more."""

    is_let_on: bool
    limit: int
    remaining: int
    seconds: float


class Window:
    """One limit: so many requests in so much time."""

    __slots__ = ("kind", "limit", "period", "slot")

    def __init__(self, limit: RateLimit, kind: Kind) -> None:
        self.kind = kind
        self.limit = limit.requests
        self.period = limit.period_ms / 1000
        self.slot = self.period / SLOTS

    def fresh(self, at: float) -> Count:
        """Nothing counted yet."""
        if self.kind == "fixed":
            return Count(at, [0])
        return Count(at // self.slot, [0] * _KEPT)

    def used(self, count: Count, at: float) -> int:
        """How many count now; what is over is taken out of `count`."""
        if self.kind == "fixed":
            # A clock that was set back makes no window longer than it is.
            if not 0 <= at - count.begin < self.period:
                count.begin, count.counts[0] = at, 0
            return count.counts[0]
        number = at // self.slot
        gone = int(min(max(number - count.begin, 0), _KEPT))
        if gone:
            count.counts = count.counts[gone:] + [0] * gone
            count.begin = number
        elif count.begin - number > _KEPT:  # the clock was set back by more than a window
            count.begin, count.counts = number, [0] * _KEPT
        return sum(count.counts)

    def seconds_until_more(self, count: Count, at: float) -> float:
        """How long until something of it is free again; zero where nothing was counted."""
        if self.kind == "fixed":
            return max(count.begin + self.period - at, 0.0) if count.counts[0] else 0.0
        for place, counted in enumerate(count.counts):
            if counted:
                # it is counted no more when as many newer slots have begun as are kept
                return max((count.begin + 1 + place) * self.slot - at, 0.0)
        return 0.0


class Windows:
    """The windows of one policy. For one thread."""

    def __init__(self, *, most_keys: int = MOST_KEYS) -> None:
        self._counts: OrderedDict[str, list[Count]] = OrderedDict()
        self._most = most_keys
        self.changed: set[str] = set()  # keys, since somebody looked last

    def take(self, key: str, windows: Sequence[Window], at: float) -> Verdict:
        """Count a request of `key`, if every one of its windows has room."""
        counts = self._counts.get(key)
        if counts is None or not _fits(counts, windows):
            counts = self._counts[key] = [window.fresh(at) for window in windows]
            if len(self._counts) > self._most:
                forgotten, _ = self._counts.popitem(last=False)
                self.changed.add(forgotten)
        self._counts.move_to_end(key)
        used = [window.used(count, at) for window, count in zip(windows, counts, strict=True)]
        full = [i for i, window in enumerate(windows) if used[i] >= window.limit]
        if full:
            # after the one that is full for longest
            seconds = max(windows[i].seconds_until_more(counts[i], at) for i in full)
            return Verdict(False, min(windows[i].limit for i in full), 0, seconds)
        for count in counts:
            count.counts[-1] += 1
        self.changed.add(key)
        left = [window.limit - used[i] - 1 for i, window in enumerate(windows)]
        tightest = min(range(len(windows)), key=lambda i: left[i])
        return Verdict(
            True,
            windows[tightest].limit,
            left[tightest],
            windows[tightest].seconds_until_more(counts[tightest], at),
        )

    def counted(self, keys: Iterable[str]) -> dict[str, list[Count] | None]:
        """What is counted of these keys, None where one was forgotten; to be written down."""
        return {
            key: [Count(one.begin, list(one.counts)) for one in found] if found is not None else None
            for key in keys
            for found in (self._counts.get(key),)
        }

    def put_back(self, counts: Iterable[tuple[str, list[Count]]]) -> None:
        """Go on from what was written down, the key that asked longest ago first."""
        for key, found in counts:
            self._counts[key] = found
        while len(self._counts) > self._most:
            self._counts.popitem(last=False)

    def __len__(self) -> int:
        """How many keys are known."""
        return len(self._counts)


def _fits(counts: Sequence[Count], windows: Sequence[Window]) -> bool:
    """Whether counts are of windows of this form; the limits may be others by now."""
    return len(counts) == len(windows) and all(
        len(count.counts) == (1 if window.kind == "fixed" else _KEPT)
        for count, window in zip(counts, windows, strict=True)
    )


def whole_seconds(seconds: float) -> int:
    """Seconds as headers tell them: who waits so long does not come too early."""
    return max(math.ceil(seconds), 0)
