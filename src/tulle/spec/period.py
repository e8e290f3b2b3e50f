"""Spans of time as documents write them, such as `3 months`: how long that is, rounded up, and as days. Pure."""

from __future__ import annotations

import re

_PERIOD = re.compile(r"(\d{1,6}) ?(minutes?|min|hours?|h|days?|d|weeks?|w|months?|years?|y)")
_DAY = 24 * 60
# In minutes. A month or a year is the longest there is: a notice is never shorter than promised.
_UNITS = {"m": 1, "h": 60, "d": _DAY, "w": 7 * _DAY, "mo": 31 * _DAY, "y": 366 * _DAY}
_MOST_DAYS = 366_000  # a thousand years: what is longer has no end that a calendar could name


def minutes_of(period: str) -> int:
    """The minutes of a span of time such as `3 months`, rounded up, a thousand years at most; 0 when it is none."""
    match = _PERIOD.fullmatch(period.strip())
    if not match:
        return 0
    unit = "mo" if match[2].startswith("month") else match[2][0]
    return min(_MOST_DAYS * _DAY, int(match[1]) * _UNITS[unit])


def days_of(period: str) -> int:
    """The same in days: a part of a day counts as a whole one."""
    return -(-minutes_of(period) // _DAY)
