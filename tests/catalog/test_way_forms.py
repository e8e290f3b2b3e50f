"""What a form asks for follows the ways in that are in force; what is sent is where the gateway looks for it."""

from __future__ import annotations

import base64

import pytest

from tulle.catalog.way_forms import forms_of, sent_of
from tulle.errors import Invalid
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.opening import ways_in
from tulle.serving.access import Access, Keys, Public
from tulle.serving.ways_in import WayIn, ways_of


def opened_by(kind: str, **settings: object) -> tuple[WayIn, ...]:
    assert kind in known_kinds()
    return ways_in((Policy(kind, settings),), Access()).usual


KEYS = opened_by("api-key", header="x-shop-key", query="shop key&")
CLIENTS = opened_by("client-id", query=True)
GIVEN = {
    "API_KEY": " k&1 ",
    "CLIENT_ID": "me",
    "CLIENT_SECRET": "s s",
    "USER_NAME": "ann",
    "PASSWORD": " p:w ",
}


def ids(ways: tuple[WayIn, ...]) -> list[str]:
    return [one.id for one in forms_of(ways)]


def test_every_way_in_is_offered_and_the_easiest_first() -> None:
    assert [(one.id, one.told) for one in forms_of(KEYS)] == [
        ("apiKey", "an API key"),
        ("apiKeyInHeader", "an API key, in the header x-shop-key"),
        ("apiKeyInQuery", "an API key, in the query as shop key&"),
        ("none", "nobody"),
    ]
    assert ids(CLIENTS) == [
        "clientId+clientSecret",
        "apiKey",
        "basic",
        "clientIdInQuery+clientSecretInQuery",
        "none",
    ]
    assert ids(opened_by("basic-auth")) == ["user", "none"]
    assert ids(ways_of(Access(contracts=False, public=Public("1/1s")))) == ["none"]
    assert ids(ways_of(Access(public=Public("1/1s"))))[0] == "none"
    assert ids(ways_of(Access(api_keys=Keys())))[0] == "apiKey"
    assert ids(()) == ["none"]


def test_what_is_asked_for_is_hidden_where_it_is_a_secret() -> None:
    asked = {one.label: one.is_secret for form in forms_of((*KEYS, *CLIENTS)) for one in form.asks}
    assert asked == {"API key": True, "Client id": False, "Client secret": True}
    (user, _) = forms_of(opened_by("basic-auth"))
    assert [(one.name, one.label, one.is_secret) for one in user.asks] == [
        ("USER_NAME", "Name", False),
        ("PASSWORD", "Password", True),
    ]


def test_credentials_are_sent_where_the_policy_takes_them_from() -> None:
    def sent(ways: tuple[WayIn, ...], way: str) -> tuple[dict[str, str], str]:
        found = sent_of(ways, way, GIVEN)
        assert "k&1" not in repr(found)
        return dict(found.headers), found.query

    assert sent(KEYS, "apiKey") == ({"authorization": "Bearer k&1"}, "")
    assert sent(KEYS, "apiKeyInHeader") == ({"x-shop-key": "k&1"}, "")
    assert sent(KEYS, "apiKeyInQuery") == ({}, "shop%20key%26=k%261")
    assert sent(CLIENTS, "clientId+clientSecret") == ({"client_id": "me", "client_secret": "s s"}, "")
    assert sent(CLIENTS, "clientIdInQuery+clientSecretInQuery") == ({}, "client_id=me&client_secret=s%20s")
    basic = sent(opened_by("basic-auth"), "user")[0]["authorization"]
    assert basic == "Basic " + base64.b64encode(b"ann: p:w ").decode()  # blanks of a password are part of it
    assert sent(KEYS, "none") == ({}, "")


@pytest.mark.parametrize(
    ("way", "given", "told"),
    [
        ("token", {}, "it is not called by 'token'"),
        ("apiKeyInHeader", {}, "a part of the credentials is missing"),
        ("apiKeyInHeader", {"API_KEY": "  "}, "a part of the credentials is missing"),
        ("apiKeyInHeader", {"API_KEY": "geheim" * 5000}, "'API key' is too long"),
    ],
)
def test_what_cannot_be_sent_is_told_without_the_secret(way: str, given: dict[str, str], told: str) -> None:
    with pytest.raises(Invalid, match=told) as found:
        sent_of(KEYS, way, given)
    assert "geheim" not in f"{found.value} {found.value.hint}"


def test_a_name_with_a_colon_is_not_sent() -> None:
    with pytest.raises(Invalid, match="a name has no colon") as found:
        sent_of(opened_by("basic-auth"), "user", {"USER_NAME": "an:n", "PASSWORD": "geheim"})
    assert "geheim" not in str(found.value)
