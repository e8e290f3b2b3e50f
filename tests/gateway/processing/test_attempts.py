"""Who tries credentials that are wrong: what is counted, for whom, and until when."""

from __future__ import annotations

import pytest

from tulle.gateway.processing.attempts import (
    MOST_OF_ADDRESS,
    MOST_OF_NAME,
    MOST_UNDER_WAY,
    WINDOW,
    Attempts,
)
from tulle.gateway.processing.exchange import Refusal


def refused(attempts: Attempts, address: str, name: str) -> Refusal:
    with pytest.raises(Refusal) as raised:
        attempts.begin(address, name)
    return raised.value


def attempt(attempts: Attempts, address: str, name: str, *, wrong: bool) -> None:
    attempts.begin(address, name)
    attempts.end(address, name, wrong=wrong)


def test_attempts_are_counted_by_address_and_name() -> None:
    at = [0.0]
    attempts = Attempts(clock=lambda: at[0])
    for _ in range(MOST_OF_NAME):
        attempt(attempts, "1", "ann", wrong=True)
    refusal = refused(attempts, "1", "ann")
    assert (refusal.status, dict(refusal.headers)[b"retry-after"]) == (429, b"60")
    attempt(attempts, "1", "bob", wrong=False)
    attempt(attempts, "2", "ann", wrong=False)
    at[0] = WINDOW
    attempt(attempts, "1", "ann", wrong=False)


def test_whoever_is_right_is_not_counted() -> None:
    attempts = Attempts(clock=lambda: 0.0)
    for _ in range(MOST_OF_ADDRESS + 1):
        attempt(attempts, "1", "ann", wrong=False)
    assert attempts.under_way("1") == 0


def test_what_is_under_way_counts_until_it_is_known() -> None:
    attempts = Attempts(clock=lambda: 0.0)
    for _ in range(MOST_OF_NAME):
        attempts.begin("1", "ann")
    refusal = refused(attempts, "1", "ann")  # none of them was wrong yet
    assert (refusal.status, dict(refusal.headers)[b"retry-after"]) == (503, b"1")
    attempts.end("1", "ann", wrong=False)
    attempts.begin("1", "ann")
    for _ in range(MOST_OF_NAME):
        attempts.end("1", "ann", wrong=True)
    assert refused(attempts, "1", "ann").status == 429


def test_an_address_has_some_under_way_whatever_names_it_claims() -> None:
    attempts = Attempts(clock=lambda: 0.0)
    for number in range(MOST_UNDER_WAY):
        attempts.begin("1", f"user{number}")
    assert refused(attempts, "1", "another").status == 503
    assert refused(attempts, "1", "").status == 503
    attempts.begin("2", "another")
    for number in range(MOST_UNDER_WAY):
        attempts.end("1", f"user{number}", wrong=True)
        attempt(attempts, "1", f"more{number}", wrong=True)
    assert refused(attempts, "1", "another").status == 429
