"""What is shown of policies has no secrets, and all else as it is written."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.policies.kind import Kind, Parts, built_in_kinds
from tulle.gateway.policies.showing import entry_shown, has_hidden, policy_shown
from tulle.gateway.processing.secret_names import HIDDEN


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"request": {"x-api-key": "hush"}}, {"request": {"x-api-key": HIDDEN}}),
        (
            {"request": {"X-Auth-Token": "hush", "x-team": "a"}},
            {"request": {"X-Auth-Token": HIDDEN, "x-team": "a"}},
        ),
        ({"request": {"x-team": "Bearer hush"}}, {"request": {"x-team": HIDDEN}}),
        ({"response": {"set-cookie": "hush"}}, {"response": {"set-cookie": HIDDEN}}),
    ],
)
def test_headers_that_are_credentials_are_hidden(settings: dict[str, Any], shown: dict[str, Any]) -> None:
    policy = Policy("header-injection", settings, (Operation("GET", "/a"),))
    found = policy_shown(policy)
    assert found == {"policy": "header-injection", **shown, "operations": [{"method": "GET", "path": "/a"}]}
    assert has_hidden(found)
    assert not has_hidden(settings)
    assert policy.settings == settings  # what is carried out has them


@pytest.mark.parametrize(
    "entry",
    [
        {"policy": "quota", "limits": ["5/1d"], "key": ["client"]},
        {"policy": "cors", "origins": ["https://a.example"], "credentials": True},
        {
            "policy": "jwt",
            "issuer": "https://a.example",
            "jwks_uri": "https://a.example/keys",
            "scopes": ["a"],
        },
        {"policy": "api-key", "header": "x-api-key", "query": "key"},
        {"policy": "header-removal", "response": ["set-cookie", "x-api-key"]},
    ],
)
def test_the_words_of_a_kind_are_no_secrets(entry: dict[str, Any]) -> None:
    assert entry_shown(entry) == entry


def test_a_kind_says_which_of_its_settings_are_secret() -> None:
    kinds = built_in_kinds()
    said = {"seal": {"type": "string", "writeOnly": True}, "where": {"type": "string"}}
    kinds.add(Kind("acme-seal", "Seals.", said, "after", dict, render=lambda _value, _spot: Parts()))
    entry = {"policy": "acme-seal", "seal": "hush", "where": "here"}
    assert entry_shown(entry, kinds) == {**entry, "seal": HIDDEN}


def test_of_a_kind_that_is_gone_names_decide() -> None:
    entry = {"policy": "acme-seal", "api_key": "hush", "where": {"token": "hush", "at": 1}}
    assert entry_shown(entry) == {
        "policy": "acme-seal",
        "api_key": HIDDEN,
        "where": {"token": HIDDEN, "at": 1},
    }
