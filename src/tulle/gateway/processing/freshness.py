"""How old an answer is, and for how long it may be given again, by what its headers say (RFC 9111, 4.2).

Knows nothing of what is kept, and of what a policy says of it.
"""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from tulle.gateway.processing.exchange import Answer

LONGEST: Final = 2.0**31  # seconds; more is as much
_AGES: Final = re.compile(r"(?:^|,)\s*(s-maxage|max-age)\s*(?:=\s*\"?([^\s,\"]*)|(?=,|$))")


def lifetime(answer: Answer, *, is_shared: bool) -> float | None:
    """Seconds from when an answer was made until it is stale; 0: it may not be kept, None: it says nothing of it."""
    said = (
        b",".join(value for name, value in answer.headers if name == b"cache-control")
        .decode("latin-1")
        .lower()
    )
    if "no-store" in said or "no-cache" in said or (is_shared and "private" in said):
        return 0
    ages: dict[str, float] = {}
    for name, text in _AGES.findall(said):
        ages[name] = min(_seconds(text) or 0.0, ages.get(name, LONGEST))
    for name in ("s-maxage", "max-age"):
        if name in ages:
            return ages[name]
    over = [value for name, value in answer.headers if name == b"expires"]
    if not over:
        return None
    end, made = _moment(over[0]), _moment(answer.header(b"date") or b"")
    # Several of them, or what is no date such as `0`: it is over.
    return 0 if end is None or len(over) > 1 else max(0.0, end - (time.time() if made is None else made))


def age(answer: Answer) -> float:
    """Seconds that an answer had been kept elsewhere before it came here."""
    return _seconds((answer.header(b"age") or b"").partition(b",")[0].strip().decode("latin-1")) or 0.0


def _seconds(text: str) -> float | None:
    if not text.isascii() or not text.isdigit():
        return None
    return LONGEST if len(text) > len("2147483648") else min(float(text), LONGEST)


def _moment(said: bytes) -> float | None:
    """Seconds since 1970 of a date as HTTP writes it, in any of its three forms; None where it is none."""
    try:
        found = parsedate_to_datetime(said[:100].decode("latin-1"))
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
