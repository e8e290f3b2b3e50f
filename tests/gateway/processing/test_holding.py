"""What is held is counted, over all connections."""

from __future__ import annotations

from tulle.gateway.processing.holding import Hold, Holding


def test_no_more_is_held_than_may_be() -> None:
    holding = Holding(10)
    one, other = Hold(holding), Hold(holding)
    assert one.take(7)
    assert not other.take(4)
    assert other.take(3)
    assert (holding.now, one.bytes, other.bytes) == (10, 7, 3)


def test_what_is_not_taken_is_held_after_its_request() -> None:
    holding = Holding(10)
    hold = Hold(holding)
    assert hold.take(7)
    hold.over(5)
    assert (holding.now, hold.bytes) == (5, 0)
    assert not hold.take(6)
    hold.sent()
    assert holding.now == 0
    assert hold.take(10)
