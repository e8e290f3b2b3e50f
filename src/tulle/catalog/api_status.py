"""How an API is: whether it answers, how it was asked in the last hour and day, and whether it keeps its objectives.

Asks the counts of calls; decides nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from tulle.observe.insight import Insight, Point, Which, span_of

FAILING: Final = 0.1  # the share of the last hour's requests from which on it is said to fail
_MICROSECONDS: Final = 1000  # in a millisecond
_UNITS: Final = {"availability": "%", "p50": "ms", "p95": "ms", "p99": "ms"}


@dataclass(frozen=True, slots=True)
class Objective:
    """What an API promises of the last 30 days, and what is so; `held` None: nothing was asked.

    An `availability` is the percentage of requests that did not fail, the others are milliseconds.
    """

    measure: str
    promised: float
    found: float | None
    held: bool | None

    @property
    def unit(self) -> str:
        """Of both numbers."""
        return _UNITS[self.measure]


@dataclass(frozen=True, slots=True)
class Status:
    """`word` is one of answers, failing, quiet (nobody asked), examples, down; `why` says so in words.

    `hour`, `day` and `month` are what was asked in them; None: nothing.
    """

    word: str
    why: str
    hour: Point | None
    day: Point | None
    month: Point | None
    objectives: tuple[Objective, ...]
    counted_until: float | None

    def as_plain(self) -> dict[str, Any]:
        """As the API tells it; latencies in microseconds."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answering:
    """What is known of what answers, before anybody asks it; `fault` is why nothing does, or not as it should."""

    answers: bool
    is_mock: bool = False
    fault: str = ""


def status_of(
    insight: Insight,
    service: str,
    environment: str,
    answering: Answering,
    objectives: Mapping[str, float],
    version: str = "",
    now: float | None = None,
) -> Status:
    """Of one API in an environment, that of consumers is the empty one, or of one of its versions.

    Answers by examples are none of what it promised.
    """
    which = Which(service, environment, version=version or None)
    found: dict[str, Point | None] = {}
    until = None
    for name in ("hour", "day", "month"):
        told = insight.told("api", span_of(name, now), which, points=False)
        found[name] = told.series[0].whole if told.series else None
        until = told.counted_until
    judged = None
    if objectives and found["month"] is not None:
        real = insight.told("api", span_of("month", now), replace(which, mocks=False), points=False)
        judged = real.series[0].whole if real.series else None
    word, why = _word(answering, found["hour"])
    return Status(
        word,
        why,
        found["hour"],
        found["day"],
        found["month"],
        tuple(_judged(name, value, judged) for name, value in objectives.items()),
        until,
    )


def _word(answering: Answering, hour: Point | None) -> tuple[str, str]:
    if not answering.answers:
        return "down", answering.fault or "nothing answers it now"
    if hour is None or not hour.requests:
        if answering.is_mock:
            return "examples", "the gateway answers by its examples"
        return "quiet", answering.fault or "nobody asked it in the last hour"
    if hour.failed / hour.requests >= FAILING:
        return "failing", f"{hour.failed / hour.requests:.0%} of the requests of the last hour failed"
    if answering.is_mock:
        return "examples", "the gateway answers by its examples"
    return "answers", answering.fault or f"{hour.requests:,} requests in the last hour"


def _judged(measure: str, promised: float, month: Point | None) -> Objective:
    if month is None or not month.requests:
        return Objective(measure, promised, None, None)
    if measure == "availability":
        share = 100.0 * (month.requests - month.failed) / month.requests
        return Objective(measure, promised, share, share >= promised)
    taken = getattr(month, measure)
    found = None if taken is None else taken / _MICROSECONDS
    return Objective(measure, promised, found, None if found is None else found <= promised)
