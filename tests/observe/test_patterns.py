"""Patterns and forecasts: what is usual is found, and how far off a forecast was is told honestly."""

from __future__ import annotations

import math
import random

import pytest

from tulle.observe.patterns import HOUR, WEEK_HOURS, Forecast, capacity, patterns, rate_in_words

MONDAY = 1_799_625_600  # 2027-01-11 00:00 UTC


def weekly(weeks: int, *, noise: float = 0.0, growth: float = 1.0) -> dict[int, int]:
    """Busy by day, quiet by night and at weekends."""
    drawn = random.Random(5)
    found = {}
    for number in range(weeks * WEEK_HOURS):
        day, hour = number // 24 % 7, number % 24
        base = 1000 * (1 + math.sin((hour - 6) / 24 * 2 * math.pi)) * (0.3 if day > 4 else 1.0) + 50
        level = growth ** (number / WEEK_HOURS)
        found[MONDAY + number * HOUR] = round(base * level * drawn.uniform(1 - noise, 1 + noise))
    return found


def test_the_usual_week_is_found_and_forecast() -> None:
    counts = weekly(4, noise=0.1)
    until = MONDAY + 4 * WEEK_HOURS * HOUR
    found = patterns(counts, MONDAY, until)
    assert found.busiest_hour in {11, 12, 13}
    assert found.hours_known == 4 * WEEK_HOURS
    assert found.by_day[5] is not None
    assert found.by_day[0] is not None
    assert found.by_day[5] < 0.5 * found.by_day[0]
    told = found.forecast
    assert told is not None
    assert told.method == "usual hours of the week"  # better than repeating the last one, noise and all
    assert told.error < 0.1
    assert told.tried_hours == WEEK_HOURS
    assert min(told.errors.values()) == told.error
    real = weekly(5, noise=0.1)
    after = [real[until + n * HOUR] for n in range(WEEK_HOURS)]
    off = sum(abs(one - other) for one, other in zip(told.requests, after, strict=True)) / sum(after)
    assert off < 0.1
    inside = sum(low <= one <= high for low, one, high in zip(told.low, after, told.high, strict=True))
    assert inside / WEEK_HOURS > 0.6


def test_growth_goes_on() -> None:
    counts = weekly(4, growth=1.2)
    told = patterns(counts, MONDAY, MONDAY + 4 * WEEK_HOURS * HOUR).forecast
    assert told is not None
    last = sum(counts[MONDAY + (3 * WEEK_HOURS + n) * HOUR] for n in range(WEEK_HOURS))
    assert 1.02 * last < sum(told.requests) < 1.3 * last


@pytest.mark.parametrize(("began", "hours", "times"), [(72, 4, 20.0), (72, 24, 0.0), (216, 24, 0.0)])
def test_a_burst_or_an_outage_of_some_hours_is_no_growth(began: int, hours: int, times: float) -> None:
    until = MONDAY + 4 * WEEK_HOURS * HOUR
    counts = weekly(4, noise=0.1)
    for number in range(hours):  # so many hours before the end of what is known
        at = until - (began - number) * HOUR
        counts[at] = round(counts[at] * times)
    told = patterns(counts, MONDAY, until).forecast
    assert told is not None
    after = list(weekly(5, noise=0.1).values())[-WEEK_HOURS:]
    off = sum(abs(one - other) for one, other in zip(told.requests, after, strict=True)) / sum(after)
    assert off < 0.1
    assert max(told.high) < 1.5 * max(after)
    assert told.method == "usual hours of the week"  # what repeats the last week repeats what happened in it


@pytest.mark.parametrize("hours", [71, 0])
def test_little_is_known_of_little(hours: int) -> None:
    counts = dict(list(weekly(1).items())[:hours])
    found = patterns(counts, MONDAY, MONDAY + hours * HOUR)
    assert found.forecast is None
    assert found.why_not == f"{hours} hours are known, and 72 are needed"
    assert found.busiest_day is None


def test_nothing_asked_is_no_forecast_of_nothing() -> None:
    found = patterns({MONDAY: 0}, MONDAY, MONDAY + 100 * HOUR)
    assert (found.forecast, found.why_not, found.busiest_hour) == (None, "nothing was asked", None)


def test_what_never_repeats_has_a_large_error() -> None:
    drawn = random.Random(1)
    counts = {MONDAY + n * HOUR: drawn.choice([0, 0, 0, 5000]) for n in range(4 * WEEK_HOURS)}
    told = patterns(counts, MONDAY, MONDAY + 4 * WEEK_HOURS * HOUR).forecast
    assert told is not None
    assert told.error > 0.5


def test_days_without_counts_before_the_first_are_not_taken_for_silence() -> None:
    counts = {at + 3 * WEEK_HOURS * HOUR: number for at, number in weekly(1).items()}
    found = patterns(counts, MONDAY, MONDAY + 4 * WEEK_HOURS * HOUR)
    assert found.hours_known == WEEK_HOURS


def test_capacity_is_for_the_busiest_minute_of_the_busiest_hour_to_come() -> None:
    hours = (3600.0, 360_000.0, 3600.0)
    told = Forecast(MONDAY, hours, hours, tuple(one * 1.5 for one in hours), "m", 0.1, {}, 24)
    found = capacity(told, rate_per_worker=100.0, burst=2.0, now=1)
    assert (found.workers, found.peak_at, found.peak_rate) == (3, MONDAY + HOUR, 300.0)
    assert found.words.startswith("3 workers instead of 1: the busiest hour")
    busy = capacity(told, rate_per_worker=353.0, burst=23.4, now=1)
    assert busy.words.endswith("asks for 3,510 requests a second, a worker is given 353")
    assert capacity(told, rate_per_worker=1000.0, burst=0.5, now=4).words.startswith(
        "1 of 4 workers would do"
    )
    assert capacity(told, rate_per_worker=1000.0, burst=1.0, now=1).words.startswith("1 worker is right")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.1234, "0.123"), (12.34, "12.3"), (999.4, "999"), (999.6, "1,000"), (3512.2, "3,512")],
)
def test_a_rate_has_three_digits_or_all_of_a_large_one(value: float, words: str) -> None:
    assert rate_in_words(value) == words
