"""By which ways the parts of a service may be called."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.policies.kind import Kind, Parts, Registry, built_in_kinds
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policies.opening import WaysIn, access_where, accesses, ways_in
from tulle.serving.access import Access, Keys, Public
from tulle.serving.ways_in import Credential, WayIn, ways_of

LIST = policies_in(
    parse_policies("""
- policy: client-id
- {policy: api-key, limit: 3/1s, operations: [{path: /a}]}
- {policy: public, limit: 5/1s, operations: [{path: /b}]}
- {policy: cors, origins: ['*']}
"""),
    "",
)
USUAL = Access(public=Public("1/1s"))


def test_without_a_word_it_is_as_the_service_says() -> None:
    assert access_where(LIST, (3,), USUAL) is USUAL
    assert accesses((), USUAL) == [USUAL]


def test_any_one_of_the_ways_is_enough() -> None:
    assert access_where(LIST, (0, 1), USUAL) == Access(api_keys=Keys("3/1s"))
    assert access_where(LIST, (2,), USUAL) == Access(contracts=False, public=Public("5/1s"))
    assert accesses(LIST, USUAL) == [Access(api_keys=Keys("3/1s")), Access(public=Public("5/1s")), Access()]


# ── what callers send ────────────────────────────────────────────────────────────────────────────────────


def of(text: str) -> WaysIn:
    return ways_in(policies_in(parse_policies(text), ""), USUAL)


def sent(ways: tuple[WayIn, ...]) -> list[list[str]]:
    return [[f"{one.scheme}: {one.place} {one.name}".strip() for one in way] for way in ways]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "{policy: client-id, query: true}",
            [
                ["clientId: header client_id", "clientSecret: header client_secret"],
                ["apiKey: bearer"],
                ["basic: basic"],
                ["clientIdInQuery: query client_id", "clientSecretInQuery: query client_secret"],
            ],
        ),
        (
            "{policy: api-key, header: x-api-key, query: key}",
            [
                ["apiKey: bearer"],
                ["basic: basic"],
                ["apiKeyInHeader: header x-api-key"],
                ["apiKeyInQuery: query key"],
            ],
        ),
        ("{policy: jwt, issuer: 'https://i.example', jwks_uri: 'https://i.example/k'}", [["token: bearer"]]),
        ("{policy: public, limit: 1/1s}", [[]]),
        ("{policy: basic-auth}", [["user: basic"]]),
        ("{policy: ldap, connection: staff, base: dc=a}", [["ldap: basic"]]),
        ("{policy: oauth2-introspection, connection: login}", [["introspection: bearer"]]),
    ],
)
def test_each_kind_tells_what_its_callers_send(entry: str, expected: list[list[str]]) -> None:
    assert sent(of(f"- {entry}").usual) == expected


def test_where_no_policy_says_who_may_call_the_service_does() -> None:
    assert of("- {policy: cors, origins: ['*']}").usual == ways_of(USUAL) == ways_in((), USUAL).usual


def test_tokens_tell_their_scopes_and_whose_they_are() -> None:
    ((token,),) = of(
        "- {policy: oauth2-introspection, connection: login, issuer: 'https://i', scopes: [a, b], contract: true}"
    ).usual
    assert token.scopes == ("a", "b")
    assert token.description == (
        "an opaque token of https://i, that names an application with a contract, with the scopes a b"
    )


def test_operations_have_their_own() -> None:
    found = ways_in(LIST, USUAL)
    assert found.usual == ways_of(Access())
    assert found.at("POST", "/a") == ways_of(Access()) + ways_of(Access(False, Keys()))
    assert () in found.at("GET", "/b")
    assert found.at("GET", "/orders/v1/b", "/orders/v1") == found.at("GET", "/b") != found.usual
    # what no policy can name is what all is
    for path in ("/{id}.json", "/c d", "/x/../b", "b", "/" + "a/" * 40):
        assert found.at("TRACE", path) == found.usual
    assert set(found.all()) == {*found.usual, *found.at("GET", "/a"), ()}


def test_a_path_that_a_policy_names_by_a_parameter_is_of_it() -> None:
    found = of(
        "- {policy: basic-auth}\n- {policy: public, limit: 1/1s, operations: [{method: GET, path: '/f/{x}'}]}"
    )
    assert () in found.at("HEAD", "/f/{name}.json")
    assert () not in found.at("POST", "/f/{name}.json")


def _kinds(**more: Any) -> Registry:
    kinds = built_in_kinds()
    opens = Access(contracts=False)
    kinds.add(
        Kind(
            "acme-seal",
            "Whoever has a seal.",
            {},
            "credentials",
            dict,
            render=lambda _value, _spot: Parts(),
            opens=lambda _: opens,
            **more,
        )
    )
    return kinds


def test_a_kind_of_somebody_elses_tells_its_own() -> None:
    seal = (Credential("seal", "header", ("SEAL",), "x-seal", "a seal of Acme's"),)
    listed = (Policy("acme-seal", {}, (Operation("GET", "/a"),)),)
    found = ways_in(listed, Access(), _kinds(ways=lambda _: [seal]))
    assert found.at("GET", "/a") == (seal,)
    assert found.usual == ways_of(Access())


@pytest.mark.parametrize(
    ("shown_as", "expected"), [("basic", "basic"), ("bearer", "bearer"), ("", "header authorization")]
)
def test_a_kind_that_does_not_is_told_by_what_it_reads(shown_as: str, expected: str) -> None:
    ((one,),) = ways_in((Policy("acme-seal"),), Access(), _kinds(shown_as=shown_as)).usual
    assert f"{one.place} {one.name}".strip() == expected
    assert (one.scheme, one.description) == ("acme-seal", "Whoever has a seal.")
