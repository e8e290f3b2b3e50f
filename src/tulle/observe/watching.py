"""Judging a watch: what was measured in each period in, whether it is broken out.

No data is not zero: a period of which nothing is known, or in which too little was asked to say something of a share or
a latency, leaves everything as it was. Pure; knows no store, no clock and nobody who is told.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Final

import msgspec

from tulle.config import Watch
from tulle.observe.insight import Point

_CAME_LATER: Final = frozenset({"version", "generation"})
_UNITS: Final = {
    "rate": " requests a second",
    "violations": " refused requests",
    "p50": " ms",
    "p95": " ms",
    "p99": " ms",
}
_WORDS: Final = {
    "rate": "rate",
    "errors": "share of errors",
    "wrong": "share of 4xx",
    "violations": "violations",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """How a watch on one service stands: up to when it is judged, and since when it is broken, if it is.

    Times are seconds since the epoch. `unknown` periods have passed since `value` was measured.
    """

    until: float
    streak: int = 0
    broken_at: float | None = None
    told_at: float | None = None
    value: float | None = None
    unknown: int = 0


def digest_of(watch: Watch) -> str:
    """Equal for equal watches."""
    # What came later is left out where nothing is said: a watch of before is the same one.
    said = {name: value for name, value in asdict(watch).items() if value or name not in _CAME_LATER}
    return hashlib.blake2b(msgspec.json.encode(said), digest_size=16).hexdigest()


def measured(watch: Watch, point: Point | None, *, is_known: bool) -> float | None:
    """The watch's measure of a period, None where it says nothing. `point` is None where nothing was asked."""
    if not is_known:
        return None
    seconds = watch.minutes * 60
    if watch.measure in {"rate", "violations"}:
        asked, refused = (0, 0) if point is None else (point.requests, point.refused)
        return asked / seconds if watch.measure == "rate" else float(refused)
    if point is None or point.requests < watch.least:
        return None
    if watch.measure in {"errors", "wrong"}:
        return (point.failed if watch.measure == "errors" else point.wrong) / point.requests
    micros: int | None = getattr(point, watch.measure)
    return None if micros is None else micros / 1000


def judged(watch: Watch, before: Judged, value: float | None) -> Judged:
    """After one more period."""
    until = before.until + watch.minutes * 60
    if value is None:
        return replace(before, until=until, unknown=before.unknown + 1)
    if _breaks(watch, value):
        streak = before.streak + 1
        broken_at = before.broken_at
        if broken_at is None and streak >= watch.periods:
            broken_at = until
        return replace(before, until=until, streak=streak, broken_at=broken_at, value=value, unknown=0)
    return replace(before, until=until, streak=0, broken_at=None, value=value, unknown=0)


def _breaks(watch: Watch, value: float) -> bool:
    return value > watch.above if watch.above is not None else value < (watch.below or 0.0)


def words(watch: Watch, service: str, value: float | None) -> str:
    """What is told of a broken watch."""
    bound = (
        f"above {_amount(watch, watch.above)}"
        if watch.above is not None
        else f"below {_amount(watch, watch.below)}"
    )
    which = " ".join(one for one in (service, watch.version, watch.generation) if one)
    of = f"{which}, {watch.operation}" if watch.operation else which
    lasted = f"for {watch.periods} × {watch.minutes} min" if watch.periods > 1 else f"for {watch.minutes} min"
    what = _WORDS.get(watch.measure, watch.measure)
    return f"{of}: {what} is {_amount(watch, value)}, {bound} {lasted}"


def _amount(watch: Watch, value: float | None) -> str:
    if value is None:
        return "unknown"
    if watch.measure in {"errors", "wrong"}:
        return f"{value:.2%}"
    shown = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{shown}{_UNITS[watch.measure]}"
