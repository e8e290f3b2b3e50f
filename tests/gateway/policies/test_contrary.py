"""Policies that are right each by itself and cannot be meant together."""

from __future__ import annotations

import pytest

from tulle.gateway.policies.contrary import contrary
from tulle.gateway.policies.listed import parse_policies

ALLOW, DENY = "{policy: ip-allow, addresses: [%s]%s}", "{policy: ip-deny, addresses: [%s]%s}"
QUOTA = "{policy: quota, limits: 5/1d}"
AT_A, AT_B = ", operations: [{path: /a}]", ", operations: [{path: /b}]"
IN_DEV, IN_PROD = ", environments: [dev]", ", environments: [prod]"
NONE_IN_BOTH = "nobody passes: no address is let in by every 'ip-allow' that holds here"
ALL_SHUT_OUT = "nobody passes: every address that is let in here is shut out by 'ip-deny'"


def told(*listed: str) -> list[tuple[tuple[str | int, ...], str]]:
    return [(one.steps, one.message) for one in contrary(parse_policies(f"[{', '.join(listed)}]"))]


@pytest.mark.parametrize(
    ("listed", "steps", "message"),
    [
        ([ALLOW % ("10.0.0.1", ""), ALLOW % ("10.0.0.2", "")], (1, "addresses"), NONE_IN_BOTH),
        ([ALLOW % ("10.0.0.0/8", ""), ALLOW % ("'2001:db8::/32'", "")], (1, "addresses"), NONE_IN_BOTH),
        ([ALLOW % ("10.0.0.0/8", AT_A), ALLOW % ("11.0.0.0/8", "")], (1, "addresses"), NONE_IN_BOTH),
        ([ALLOW % ("10.0.0.1", ""), DENY % ("10.0.0.0/8", "")], (0, "addresses"), ALL_SHUT_OUT),
        ([DENY % ("0.0.0.0/0", ""), ALLOW % ("10.0.0.1, 10.0.0.2", "")], (1, "addresses"), ALL_SHUT_OUT),
        (
            ["{policy: timeout, seconds: 1}", "{policy: retry, seconds_each: 5}"],
            (1, "seconds_each"),
            "a try of 5 s is not over before the 'timeout' of 1 s ends all of them",
        ),
        (
            ["{policy: timeout, seconds: 1}", QUOTA, QUOTA],
            (2, "policy"),
            "the same 'quota' is listed twice, here and as number 2",
        ),
        (
            ["{policy: rate-limit, limits: 5/1s}", "{policy: rate-limit, limits: 5/1s}"],
            (1, "policy"),
            "the same 'rate-limit' is listed twice, here and as number 1",
        ),
    ],
)
def test_it_is_told_where_and_why(listed: list[str], steps: tuple[str | int, ...], message: str) -> None:
    assert told(*listed) == [(steps, message)]


@pytest.mark.parametrize(
    "listed",
    [
        [ALLOW % ("10.0.0.0/8", ""), ALLOW % ("10.1.0.0/16", "")],
        [ALLOW % ("10.0.0.0/8", ""), DENY % ("10.0.0.1", "")],
        [ALLOW % ("10.0.0.1, 11.0.0.1", ""), DENY % ("10.0.0.0/8", "")],
        [ALLOW % ("10.0.0.1", AT_A), ALLOW % ("10.0.0.2", AT_B)],
        [ALLOW % ("10.0.0.1", IN_DEV), ALLOW % ("10.0.0.2", IN_PROD)],
        ["{policy: timeout, seconds: 5}", "{policy: retry, seconds_each: 1}"],
        ["{policy: rate-limit, limits: 5/1s}", "{policy: rate-limit, limits: 5/1s, by: address}"],
    ],
)
def test_what_can_be_meant_is_not_told(listed: list[str]) -> None:
    assert told(*listed) == []


def test_each_environment_is_looked_at() -> None:
    assert told(ALLOW % ("10.0.0.1", ""), ALLOW % ("10.0.0.2", IN_DEV)) == [((1, "addresses"), NONE_IN_BOTH)]
