"""Daily and weekly patterns of what a service is asked, and a forecast that says how many workers it will need.

The method is plain: the middle of the same hours of the weeks before, moved by how the last week compares with the one
before. It is tried on the last days that are known before it is believed, beside repeating the last week or day as it
was, and what is nearer is taken; how far off it was is told with it. Pure: counts by hour in, values out.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HOUR: Final = 3600
DAY_HOURS, WEEK_HOURS = 24, 168
LEAST_HOURS: Final = 3 * DAY_HOURS  # of counts, before anything is said of the future
WEEKS: Final = 4  # that are looked at
MOST_TREND: Final = 2.0  # a week that has twice what the one before had, is a jump and no trend
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Counts = Sequence[float]
_USUAL: Final = "usual hours"
# A method of several periods is taken unless another is nearer by more than this: repeating the last period repeats
# whatever happened once in it.
_PREFERRED: Final = 0.9
Method = Callable[[Counts, int], list[float]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Requests by hour from `since` on. `error` is how far off the method was when it was tried: the share of all
    requests by which its hours were wrong, over `tried_hours`; `low` and `high` hold four of five hours then.
    """

    since: int
    requests: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    method: str
    error: float
    errors: Mapping[str, float]  # of each method that was tried
    tried_hours: int


@dataclass(frozen=True, slots=True)
class Patterns:
    """What is usual: requests an hour by hour of the day and by day of the week (UTC), and what may come."""

    hours_known: int
    by_hour: tuple[float, ...]
    by_day: tuple[float | None, ...]  # Monday first; None for a day that was not seen
    busiest_hour: int | None
    busiest_day: str | None
    forecast: Forecast | None
    why_not: str  # why there is no forecast


@dataclass(frozen=True, slots=True)
class Capacity:
    """The workers that the busiest hour to come asks for."""

    workers: int
    now: int
    peak_at: int  # the hour
    peak_rate: float  # requests a second at its busiest
    rate_per_worker: float  # that one is given to do
    burst: float  # how much busier the busiest minute is than its hour
    error: float  # of the forecast behind it
    words: str


def patterns(counts: Mapping[int, int], since: int, until: int, horizon: int = WEEK_HOURS) -> Patterns:
    """Patterns of counts by hour from `since` to `until` (beginnings of hours; the last is not in it).

    An hour without a count is one in which nothing was asked.
    """
    begin = max(since, min(counts, default=until))
    series = [float(counts.get(at, 0)) for at in range(begin, until, HOUR)]
    hours: list[list[float]] = [[] for _ in range(DAY_HOURS)]
    days: list[list[float]] = [[] for _ in DAYS]
    for number, value in enumerate(series):
        moment = dt.datetime.fromtimestamp(begin + number * HOUR, dt.UTC)
        hours[moment.hour].append(value)
        days[moment.weekday()].append(value)
    by_hour = tuple(statistics.fmean(one) if one else 0.0 for one in hours)
    by_day = tuple(statistics.fmean(one) if one else None for one in days)
    known = [(value, name) for value, name in zip(by_day, DAYS, strict=True) if value is not None]
    forecast, why_not = None, ""
    if len(series) < LEAST_HOURS:
        why_not = f"{len(series)} hours are known, and {LEAST_HOURS} are needed"
    elif not any(series):
        why_not = "nothing was asked"
    else:
        forecast = _forecast(series, until, horizon)
    return Patterns(
        len(series),
        by_hour,
        by_day,
        max(range(DAY_HOURS), key=lambda hour: by_hour[hour]) if any(by_hour) else None,
        max(known)[1] if known and len(series) >= WEEK_HOURS and any(series) else None,
        forecast,
        why_not,
    )


def _forecast(series: Counts, since: int, horizon: int) -> Forecast:
    tried = _tried_hours(len(series))
    before, after = series[:-tried], series[-tried:]
    errors = {name: _error(method(before, tried), after) for name, method in _methods(len(before)).items()}
    best = min(errors, key=lambda name: errors[name] * (_PREFERRED if name.startswith(_USUAL) else 1.0))
    method = _methods(len(series))[best]
    trial = method(before, tried)
    # How many times the forecast what came was: the span that four of five hours were in.
    ratios = sorted(real / told for real, told in zip(after, trial, strict=True) if told > 0) or [1.0]
    low, high = _share(ratios, 0.1), _share(ratios, 0.9)
    found = method(series, horizon)
    return Forecast(
        since,
        tuple(round(value, 1) for value in found),
        tuple(round(value * min(low, 1.0), 1) for value in found),
        tuple(round(value * max(high, 1.0), 1) for value in found),
        best,
        round(errors[best], 4),
        {name: round(value, 4) for name, value in errors.items()},
        tried,
    )


def _tried_hours(known: int) -> int:
    """The last week is kept for the trial where there are two before it, else the last day."""
    return WEEK_HOURS if known >= 3 * WEEK_HOURS else DAY_HOURS


def _methods(known: int) -> dict[str, Method]:
    """Those that so many hours are enough for."""
    found: dict[str, Method] = {
        "the last day again": lambda series, horizon: _again(series, DAY_HOURS, horizon),
        f"{_USUAL} of the day": lambda series, horizon: _usual(series, DAY_HOURS, 7, horizon),
    }
    if known >= WEEK_HOURS:
        found["the last week again"] = lambda series, horizon: _again(series, WEEK_HOURS, horizon)
    if known >= 2 * WEEK_HOURS:
        found[f"{_USUAL} of the week"] = lambda series, horizon: _usual(series, WEEK_HOURS, WEEKS, horizon)
    return found


def _again(series: Counts, period: int, horizon: int) -> list[float]:
    last = series[-period:]
    return [last[number % period] for number in range(horizon)]


def _usual(series: Counts, period: int, periods: int, horizon: int) -> list[float]:
    """The middle of the same hour of the last periods, each first brought to the level of the last one."""
    whole = [series[len(series) - (n + 1) * period : len(series) - n * period] for n in range(periods)]
    whole = [one for one in whole if len(one) == period]
    if not whole or not any(whole[0]):
        return _again(series, period, horizon)
    grown = [_grown(one, whole[0]) for one in whole if any(one)]
    scaled = [[value * more for value in one] for one, more in zip(filter(any, whole), grown, strict=True)]
    usual = [statistics.median(values) for values in zip(*scaled, strict=True)]
    trend = 1.0
    if len(whole) > 1 and any(whole[1]):
        more = grown[1]
        trend = min(MOST_TREND, max(1 / MOST_TREND, more)) ** 0.5  # half of it, as most do not last
    return [usual[number % period] * trend ** (number // period + 1) for number in range(horizon)]


def _grown(before: Counts, after: Counts) -> float:
    """How many times as much an hour of one period is as that of another, in the middle.

    By their sums a burst of some hours, or an outage, would make all hours larger or smaller; of periods in which
    most hours are empty there is nothing else.
    """
    ratios = [new / old for old, new in zip(before, after, strict=True) if old and new]
    return statistics.median(ratios) if 2 * len(ratios) > len(after) else sum(after) / sum(before)


def _error(told: Counts, real: Counts) -> float:
    """The share of all requests by which hours were wrong."""
    off = sum(abs(one - other) for one, other in zip(told, real, strict=True))
    return off / sum(real) if sum(real) else (0.0 if not off else math.inf)


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rate_in_words(value: float) -> str:
    """So many a second for readers: three digits, or all of a large one."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def capacity(forecast: Forecast, *, rate_per_worker: float, burst: float, now: int) -> Capacity:
    """The workers for the busiest hour to come, on its high side; `burst` is its busiest minute over its mean."""
    place = max(range(len(forecast.high)), key=lambda number: forecast.high[number])
    peak = forecast.high[place] / HOUR * max(1.0, burst)
    workers = max(1, math.ceil(peak / rate_per_worker)) if rate_per_worker > 0 else now
    asked, given = rate_in_words(peak), rate_in_words(rate_per_worker)
    told = f"the busiest hour to come asks for {asked} requests a second, a worker is given {given}"
    if workers > now:
        words = f"{workers} workers instead of {now}: {told}"
    elif workers < now:
        words = f"{workers} of {now} workers would do: {told}"
    else:
        words = f"{now} {'worker is' if now == 1 else 'workers are'} right: {told}"
    at = forecast.since + place * HOUR
    return Capacity(workers, now, at, peak, rate_per_worker, burst, forecast.error, words)
