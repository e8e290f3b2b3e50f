"""How often a service may be called: requests in a period, as `50/1s`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tulle.errors import Invalid

SHORTEST_PERIOD_MS: Final = 50  # the gateway refills no bucket more often
LONGEST_PERIOD_MS: Final = 7 * 24 * 3600 * 1000
# One limit as a schema says it; quotes around a number alone would be no better.
RATE_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "string",
    "x-expected": "requests/period, such as 100/1s",
    "x-example": "100/1s",
}
MOST_REQUESTS: Final = 1_000_000_000

_LONGEST: Final = 100  # characters of one that is read
_RATE: Final = re.compile(r"\s*(\d+)\s*/\s*(\d*)\s*(ms|s|m|h|d)\s*")
_UNIT_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often a caller may call a service: a bucket of `requests` tokens, refilled evenly in `period_ms`.

    A full bucket allows a burst of `requests`; after it one request passes every `period_ms / requests`.
    """

    requests: int
    period_ms: int

    def __post_init__(self) -> None:
        """Refuse what the gateway cannot enforce."""
        if not 1 <= self.requests <= MOST_REQUESTS:
            hint = "to forbid a service, withdraw it from the application"
            if self.requests > 0:
                hint = "leave the limit out where there is to be none"
            raise Invalid(
                f"rate limit of {_shown(self.requests)} requests: expected 1 to {MOST_REQUESTS}", hint=hint
            )
        if not SHORTEST_PERIOD_MS <= self.period_ms <= LONGEST_PERIOD_MS:
            raise Invalid(
                f"rate limit period of {_shown(self.period_ms)} ms: expected 50 ms to 7 days",
                hint="write a longer one, for example 10/1s, or a shorter one, for example 10000/7d",
            )
        if self.period_ms % SHORTEST_PERIOD_MS:
            raise Invalid(
                f"rate limit period of {self.period_ms} ms: expected a multiple of 50 ms",
                hint=f"for example {self.requests}/{-(-self.period_ms // SHORTEST_PERIOD_MS) * SHORTEST_PERIOD_MS}ms",
            )

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """Read `requests/period`, for example `50/1s`, `1000/1m`, `10/500ms`, `5/h`; Invalid when it is not that."""
        match = _RATE.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise Invalid(
                f"rate limit '{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}' is not understood",
                hint="write requests/period, for example 50/1s, 1000/1m or 10/500ms",
            )
        requests, count, unit = match.groups()
        return cls(int(requests), int(count or 1) * _UNIT_MS[unit])

    def __str__(self) -> str:
        """The form `parse` reads, in the largest unit that divides the period."""
        unit = next(u for u, size in _UNIT_MS.items() if self.period_ms % size == 0)
        return f"{self.requests}/{self.period_ms // _UNIT_MS[unit]}{unit}"


def _shown(number: int) -> str:
    """A number in a message, which may have thousands of digits."""
    return str(number) if abs(number) < 10**20 else "more than 10^20"
