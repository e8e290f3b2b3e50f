"""How often somebody may do something in an hour."""

from __future__ import annotations

import pytest

from tulle.control.pace import HOUR, Pace
from tulle.errors import LimitExceeded


def test_each_may_do_it_so_often_in_an_hour() -> None:
    at = [0.0]
    pace = Pace(2, clock=lambda: at[0])
    assert [pace.takes("ann") for _ in range(3)] == [True, True, False]
    assert pace.takes("bob")
    at[0] = HOUR - 1
    assert not pace.takes("ann")
    at[0] = HOUR
    assert [pace.takes("ann") for _ in range(3)] == [True, True, False]  # what was refused was not counted


def test_who_does_too_much_is_told_and_the_meshs_token_is_nobody() -> None:
    pace = Pace(1, clock=lambda: 0.0)
    for _ in range(3):
        pace.demand(None, "did it")
    pace.demand("ann", "did it")
    with pytest.raises(LimitExceeded, match="user 'ann' did it 1 times within the last hour"):
        pace.demand("ann", "did it")
