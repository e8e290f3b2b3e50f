"""Policies that do nothing where they are listed, by who may call there."""

from __future__ import annotations

import pytest

from tulle.gateway.policies.idle import idle, words_of
from tulle.gateway.policies.listed import parse_policies
from tulle.serving.access import Access, Keys, Public, Tokens

JWT = "{policy: jwt, issuer: a, jwks_uri: 'https://a.example/keys'%s}"
OPEN = "{policy: public, limit: 5/1s%s}"
ONCE = "{policy: token-once%s}"
TIERS = "{policy: quota, tiers: {gold: 5/1d}}"
SEEN = "{policy: redaction, fields: [{path: $.a, except: {claims: {role: [hr]}, tiers: [gold]}}]}"
BY_CLAIM = "{policy: rate-limit, limits: 5/1s, by: claim:sub}"
ASKED = "{policy: oauth2-introspection, connection: login%s}"
USERS = "{policy: basic-auth}"
CONTRACTS = Access()


def told(listed: str, usual: Access = CONTRACTS) -> list[str]:
    """What does nothing, each with its position."""
    policies = [one.policy for one in parse_policies(f"[{listed}]")]
    return [f"{n} {need.setting or policies[n].kind}" for n, need in idle(policies, usual)]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (ONCE % "", ["0 token-once"]),
        (f"{JWT % ''}, {ONCE % ''}", []),
        (f"{ASKED % ''}, {ONCE % ''}", []),
        (f"{USERS}, {ONCE % ''}", ["1 token-once"]),
        # where it holds nobody has a token, and where somebody has one it does not hold
        (
            f"{JWT % ', operations: [{path: /a}]'}, {OPEN % ''}, {ONCE % ', operations: [{path: /b}]'}",
            ["2 token-once"],
        ),
        (f"{JWT % ', operations: [{path: /a}]'}, {OPEN % ''}, {ONCE % ''}", []),
        (BY_CLAIM, ["0 claim:sub"]),
        (f"{JWT % ''}, {BY_CLAIM}", []),
        (TIERS, []),
        (f"{OPEN % ''}, {TIERS}", ["1 tiers"]),
        (f"{JWT % ''}, {TIERS}", ["1 tiers"]),
        (f"{JWT % ', contract: true'}, {TIERS}", []),
        (f"{ASKED % ', contract: true'}, {TIERS}", []),
        ("{policy: api-key}, {policy: quota, contract: true}", ["1 contract"]),
        ("{policy: quota, limits: 5/1d, key: [client, tier, 'claim:sub']}", ["0 claim:sub"]),
        (SEEN, ["0 claims"]),
        (f"{USERS}, {SEEN}", ["1 tiers"]),
        (f"{OPEN % ''}, {SEEN}", ["1 tiers", "1 claims"]),
    ],
)
def test_what_nobody_comes_with_is_told(listed: str, expected: list[str]) -> None:
    assert told(listed) == expected


def test_it_goes_by_who_may_call_where_no_policy_says_so() -> None:
    tokens = Access(contracts=False, jwt=Tokens("a"))
    assert told(ONCE % "", tokens) == []
    assert told(TIERS, tokens) == ["0 tiers"]
    assert told(TIERS, Access(contracts=False, jwt=Tokens("a", contract=True))) == []
    assert told(TIERS, Access(contracts=False, api_keys=Keys())) == ["0 tiers"]
    assert told(BY_CLAIM, Access(contracts=False, public=Public("5/1s"))) == ["0 claim:sub"]


def test_it_is_told_why_and_what_to_do() -> None:
    policies = [one.policy for one in parse_policies(f"[{BY_CLAIM}, {ONCE % ''}, {SEEN}]")]
    found = [words_of(policies[n].kind, need) for n, need in idle(policies, CONTRACTS)]
    assert [message for message, _ in found] == [
        "'claim:sub' of 'rate-limit' does nothing here: nobody who may call comes with a token",
        "'token-once' does nothing here: nobody who may call comes with a token",
        "'claims' of 'redaction' does nothing here: nobody who may call comes with claims",
    ]
    assert all(hint.startswith("let ") for _, hint in found)
