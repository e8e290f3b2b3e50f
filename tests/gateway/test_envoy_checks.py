"""How long Envoy waits for the processor to say who calls."""

from __future__ import annotations

import pytest

from tulle.gateway.envoy_checks import tries_within


@pytest.mark.parametrize(("seconds", "tries"), [(30, 8), (6.4, 8), (5, 7), (0.5, 4), (0.03, 1), (0.001, 1)])
def test_pauses_take_no_longer_than_a_request_may(seconds: float, tries: int) -> None:
    assert tries_within(seconds) == tries
    longest = sum(0.025 * 2**n for n in range(tries))
    assert longest <= max(seconds, 0.025)
