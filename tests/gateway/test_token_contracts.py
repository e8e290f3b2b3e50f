"""Tokens that name applications with a contract, through the real Envoy: who is let in, as whom, and how often."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.conftest import (
    API,
    PLENTY,
    SECRETS,
    WORKERS,
    Mesh,
    Reply,
    as_client,
    check_error,
    policy,
    wait_until,
)
from tests.gateway.tokens import ISSUER, Issuer, bearer

from tulle.errors import Invalid
from tulle.gateway.envoy_files import limits
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.policy import Contract, GatewayPolicy, RateLimit
from tulle.gateway.trust.identity import Identity
from tulle.serving.access import Access, Keys, Public, Tokens, parse_access

pytestmark = pytest.mark.system
NARROW = RateLimit.parse("3/1h")


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def tokens(issuer: Issuer, *, contract: bool = True, **more: Any) -> Tokens:
    plain = {"issuer": ISSUER, "jwks": issuer.public_keys(), "contract": contract, **more}
    found = parse_access(json.dumps({"jwt": plain})).jwt
    assert found is not None
    return found


def opened(
    jwt: Tokens,
    *held: Contract,
    gone: Collection[str] = (),
    second: Tokens | None = None,
    **more: Any,
) -> GatewayPolicy:
    """`first` takes these tokens, and `second` those, with these contracts; applications that are `gone` are not known."""
    usual = policy(WORKERS, {})
    ways = {"first": Access(**{"contracts": False, "jwt": jwt, **more})}
    if second is not None:
        ways["second"] = Access(contracts=False, jwt=second)
    return GatewayPolicy.of(
        services=[replace(one, access=ways.get(one.name, one.access)) for one in usual.services],
        clients=[one for one in usual.clients if one.client_id not in gone],
        contracts=held or [Contract("app-a", "first", PLENTY)],
    )


def ask(mesh: Mesh, token: str, service: str = "first", **headers: str) -> Reply:
    return mesh.ask(f"{API}{service}/x/predict", bearer(token) | headers, method="POST", body=b"{}")


def caller(reply: Reply) -> str:
    assert reply.status == 200, reply
    assert "authorization" not in reply.json()["headers"]
    return str(reply.json()["headers"]["x-tulle-client"])


def test_a_token_of_an_application_with_a_contract_lets_in_as_that_application(
    mesh: Mesh, issuer: Issuer
) -> None:
    mesh.gateway.publish(opened(tokens(issuer, scopes=["predict"], client_claim="who.app")))
    reply = ask(mesh, issuer.token(who={"app": "app-a"}))
    assert caller(reply) == "app-a"
    about = reply.headers["x-request-id"]
    wait_until(lambda: any(one["request_id"] == about for one in mesh.log_lines()), "the access log")
    line = next(one for one in mesh.log_lines() if one["request_id"] == about)
    assert (line["access"], line["client"]) == ("contract", "app-a")
    # known, without a contract; of no application; with what our own names of secrets end in; not quite its name
    for name in ("app-b", "warehouse-app", "app-a~2", "App-a", "app-a,app-b", "*"):
        check_error(ask(mesh, issuer.token(who={"app": name})), 403, "NoContract")
    for claims in (
        {"who": {"app": "app-a"}, "scope": "read"},
        {"who": {"app": None}},
        {"who": {"app": ["app-a"]}},
    ):
        refused = ask(mesh, issuer.token(client_id="app-a", **claims))
        check_error(refused, 403, "InsufficientScope")
        assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    check_error(mesh.ask(API + "first/x", as_client("app-a")), 401, "MissingToken")


def test_what_a_caller_says_of_itself_is_nothing(mesh: Mesh, issuer: Issuer) -> None:
    """Forged tokens, those of others, and our own headers."""
    other = Issuer()
    mesh.gateway.publish(
        opened(tokens(issuer), second=tokens(other, contract=False, client_claim="sub", limit="1000/1s"))
    )
    own = {
        "x-tulle-client": "app-a",
        "x-tulle-way": "contract",
        "x_tulle_client": "app-a",
        "client_id": "app-a",
    }
    check_error(ask(mesh, issuer.token(client_id="app-b"), **own), 403, "NoContract")
    check_error(ask(mesh, issuer.token(client_id=None), **own), 403, "InsufficientScope")
    for token in (
        other.token(client_id="app-a"),
        issuer.token("none", client_id="app-a"),
        issuer.token("HS256", client_id="app-a"),
        issuer.token(client_id="app-a", exp=1),
        issuer.token(client_id="app-a", iss="https://other.example/"),
    ):
        check_error(ask(mesh, token, **own), 401, "InvalidToken")
    # where no contract is asked for, the name is the issuer's alone, and so it is logged
    reply = ask(mesh, other.token(sub="app-a"), "second")
    assert reply.status == 200
    about = reply.headers["x-request-id"]
    wait_until(lambda: any(one["request_id"] == about for one in mesh.log_lines()), "the access log")
    assert next(one["access"] for one in mesh.log_lines() if one["request_id"] == about) == "token"


def test_a_contract_or_an_application_that_is_revoked_closes_at_once(mesh: Mesh, issuer: Issuer) -> None:
    both = [Contract(name, "first", PLENTY) for name in ("app-a", "app-b")]
    mesh.gateway.publish(opened(tokens(issuer), *both))
    a, b = issuer.token(client_id="app-a"), issuer.token(client_id="app-b")
    assert (caller(ask(mesh, a)), caller(ask(mesh, b))) == ("app-a", "app-b")
    mesh.gateway.publish(opened(tokens(issuer), both[1]))
    check_error(ask(mesh, a), 403, "NoContract")
    assert caller(ask(mesh, b)) == "app-b"
    mesh.gateway.publish(opened(tokens(issuer), both[0], gone=["app-b"]))
    check_error(ask(mesh, b), 403, "NoContract")
    assert caller(ask(mesh, a)) == "app-a"


def test_a_contract_of_another_place_or_kind_opens_nothing(mesh: Mesh, issuer: Issuer) -> None:
    held = [
        Contract("app-a", "second", PLENTY),
        Contract("app-a", "first", PLENTY, environment="test"),
        Contract("app-b", "first", PLENTY, "api_keys"),  # a key of the service
        Contract("app-c", "first", PLENTY, "always"),  # the portal
    ]
    mesh.gateway.publish(opened(tokens(issuer), *held, contracts=True, api_keys=Keys()))
    for name in SECRETS:
        check_error(ask(mesh, issuer.token(client_id=name)), 403, "NoContract")
    for name in ("app-b", "app-c"):
        assert mesh.ask(API + "first/x", as_client(name)).status == 200


def test_a_token_does_not_stand_for_a_service_of_the_mesh(mesh: Mesh, issuer: Issuer) -> None:
    """Its credentials hold together with its certificate alone, which nobody who comes from outside has."""
    usual = opened(tokens(issuer), *(Contract(name, "first", PLENTY) for name in ("app-a", "app-b")))
    mesh.gateway.publish(replace(usual, holders=(("app-b", Identity("first").uri),)))
    check_error(ask(mesh, issuer.token(client_id="app-b")), 403, "WrongIdentity")
    assert caller(ask(mesh, issuer.token(client_id="app-a"))) == "app-a"


def test_the_limits_of_the_tier_hold_for_token_and_secret_together(mesh: Mesh, issuer: Issuer) -> None:
    held = Contract("app-a", "first", RateLimit.parse("100/1s"), more=(NARROW,), tier="bronze")
    other = Contract("app-b", "first", PLENTY, tier="gold")
    mesh.gateway.publish(opened(tokens(issuer), held, other, contracts=True, public=Public("1000/1s")))
    token = issuer.token(client_id="app-a")
    assert [ask(mesh, token).status for _ in range(2)] == [200, 200]
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    refused = ask(mesh, token)
    check_error(refused, 429, "TooManyRequests")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["x-ratelimit-limit"].startswith("3")
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 429
    assert caller(ask(mesh, issuer.token(client_id="app-b"))) == "app-b"


def test_there_are_no_buckets_that_nobody_uses(issuer: Issuer) -> None:
    told = json.dumps(limits(opened(tokens(issuer))))
    assert "tokens_of" not in told
    assert "tokens_of" in json.dumps(limits(opened(tokens(issuer, contract=False))))


@pytest.mark.parametrize(
    "said",
    [
        "policy: jwt\n  issuer: https://a/\n  jwks_uri: https://a/keys",
        "policy: oauth2-introspection\n  connection: login",
    ],
)
def test_a_limit_beside_that_of_the_contract_is_refused(said: str) -> None:
    (made,) = (one.policy for one in parse_policies(f"- {said}\n  contract: true\n"))
    assert made.settings["contract"] is True
    with pytest.raises(Invalid) as raised:
        parse_policies(f"- {said}\n  contract: true\n  limit: 5/1s\n")
    assert "limits of their contracts" in str(raised.value.problems[0])
    with pytest.raises(Invalid):
        parse_policies(f"- {said}\n  contract: yes please\n")
