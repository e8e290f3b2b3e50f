"""Spans of time as documents write them."""

from __future__ import annotations

import pytest

from tulle.spec.period import days_of, minutes_of


@pytest.mark.parametrize(
    ("period", "days"),
    [
        ("3 months", 93),
        ("2 weeks", 14),
        ("1 year", 366),
        ("12 hours", 1),
        ("25h", 2),
        ("30 min", 1),
        ("30d", 30),
        ("soon", 0),
        ("", 0),
        ("999999 years", 366_000),
    ],
)
def test_a_notice_is_rounded_up(period: str, days: int) -> None:
    assert days_of(period) == days


def test_parts_of_a_day_are_told_apart() -> None:
    assert minutes_of("2 hours") == 120 > minutes_of("90 minutes") == 90 > minutes_of("1 min")
