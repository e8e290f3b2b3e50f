"""A captured token through the real Envoy: it opens once, and after a kill of the processor no more either."""

from __future__ import annotations

import base64
import json
import time
from itertools import count
from typing import Any

import pytest
from tests.gateway.conftest import API, Reply, as_client, check_error
from tests.gateway.processing.conftest import Processed
from tests.gateway.tokens import ISSUER, Issuer, bearer

from tulle.errors import Invalid, LimitExceeded, Unavailable
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.processing.exchange import Call, Refusal
from tulle.gateway.processing.token_once import TokenOnce, token_once

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


_NUMBERS = count()


def fresh() -> str:
    return f"{time.time_ns()}-{next(_NUMBERS)}"


def put(processed: Processed, issuer: Issuer, *policies: Policy, **settings: Any) -> None:
    jwt = {"issuer": ISSUER, "jwks": issuer.public_keys(), "limit": "1000/1s", **settings}
    processed.put(Policy("jwt", jwt), *policies)


def ask(processed: Processed, token: str, method: str = "POST") -> Reply:
    body = b"{}" if method == "POST" else None
    return processed.mesh.ask(f"{API}api/x/said", bearer(token), method=method, body=body)


def check_used(reply: Reply) -> None:
    told = check_error(reply, 401, "InvalidToken")
    assert "has been used" in told["detailedMessage"]
    assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_opens_once_and_no_more_after_a_kill(processed: Processed, issuer: Issuer) -> None:
    put(processed, issuer)
    token = issuer.token(jti=fresh())
    assert [ask(processed, token).status for _ in range(3)] == [200] * 3  # nothing is asked for: as ever
    put(processed, issuer, Policy("token-once", {}))
    before = ask(processed, token)
    assert before.status == 200
    check_used(ask(processed, token))
    assert ask(processed, issuer.token(jti=fresh())).status == 200
    processed.stop(hard=True)  # at once: nothing that was used is lost
    processed.start()
    check_used(ask(processed, token))
    last = ask(processed, issuer.token(jti=fresh())).json()
    assert last["count"] == before.json()["count"] + 2  # what was refused reached nobody


def test_a_token_that_cannot_be_told_apart_is_refused(processed: Processed, issuer: Issuer) -> None:
    put(processed, issuer, Policy("token-once", {"longest": 300}))
    for claims in ({}, {"jti": ""}, {"jti": 7}, {"jti": fresh(), "exp": int(time.time()) + 400}):
        check_error(ask(processed, issuer.token(**claims)), 401, "InvalidToken")
    assert ask(processed, issuer.token(jti=fresh())).status == 200


def test_what_is_refused_before_uses_up_no_token(processed: Processed, issuer: Issuer) -> None:
    put(processed, issuer, Policy("token-once", {}), scopes=["admin"])
    name = fresh()
    check_error(ask(processed, issuer.token(jti=name)), 403, "InsufficientScope")
    assert ask(processed, issuer.token(jti=name, scope="admin")).status == 200
    check_used(ask(processed, issuer.token(jti=name, scope="admin")))


def test_only_the_operations_that_it_is_for(processed: Processed, issuer: Issuer) -> None:
    (once,) = parse_policies("- policy: token-once\n  operations: [{method: POST}]")
    put(processed, issuer, once.policy)
    token = issuer.token(jti=fresh())
    assert ask(processed, token).status == 200
    check_used(ask(processed, token))
    assert [ask(processed, token, "GET").status for _ in range(2)] == [200, 200]


def test_an_application_of_a_contract_that_a_token_names_is_no_exception(
    processed: Processed, issuer: Issuer
) -> None:
    jwt = {"issuer": ISSUER, "jwks": issuer.public_keys(), "contract": True}
    processed.put(Policy("jwt", jwt), Policy("client-id", {}), Policy("token-once", {}))
    token = issuer.token(jti=fresh(), client_id="app-a")
    assert ask(processed, token).status == 200
    check_used(ask(processed, token))
    for _ in range(2):  # who shows no token has none that could be used
        sent = processed.mesh.ask(f"{API}api/x/said", as_client("app-a"), method="POST", body=b"{}")
        assert sent.status == 200
    spoofed = bearer(token) | {"x-tulle-way": "public", "x-tulle-claims": "e30"}
    check_used(processed.mesh.ask(f"{API}api/x/said", spoofed, method="POST", body=b"{}"))


def test_it_comes_before_what_was_kept_is_answered() -> None:
    with pytest.raises(Invalid) as refused:
        parse_policies("- {policy: caching, ttl: 60}\n- policy: token-once")
    assert any("token-once" in one.message and "caching" in one.message for one in refused.value.problems)


# ── the step alone ───────────────────────────────────────────────────────────────────────────────────────

NOW = 1_000_000.0


def call(claims: Any, way: str = "token") -> Call:
    packed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    headers = [(b"x-tulle-way", way.encode()), (b"x-tulle-claims", packed)]
    return Call("POST", b"/a", headers, b"", {})


@pytest.fixture
def seen() -> dict[str, float]:
    return {}


def step(seen: dict[str, float]) -> TokenOnce:
    def use(token: str, until: float) -> bool:
        if token in seen:
            return False
        seen[token] = until
        return True

    return TokenOnce(use, 300, clock=lambda: NOW)


@pytest.mark.parametrize("way", ["token", "introspection", "contract", "of somebody's own", ""])
def test_whatever_the_way_a_token_is_used_once(seen: dict[str, float], way: str) -> None:
    said = {"iss": "i", "jti": "1", "exp": NOW + 60}
    step(seen).request(call(said, way))
    with pytest.raises(Refusal) as refused:
        step(seen).request(call(said, way))
    assert refused.value.status == 401
    step(seen).request(call({**said, "iss": "j"}, way))  # another issuer's
    assert seen["i\0001"] > NOW + 60 + 60  # Envoy takes it for a minute beyond its end


@pytest.mark.parametrize("way", ["public", "user", "ldap"])
def test_who_shows_no_token_passes(seen: dict[str, float], way: str) -> None:
    step(seen).request(call({"sub": "ann"}, way))
    assert not seen


@pytest.mark.parametrize("way", ["token", "introspection", "of somebody's own", ""])
@pytest.mark.parametrize(
    "said",
    [{}, {"jti": "1"}, {"jti": "1", "exp": True}, {"jti": "1", "exp": "9"}, {"jti": "1", "exp": NOW + 301}],
)
def test_what_says_too_little_is_refused(seen: dict[str, float], way: str, said: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        step(seen).request(call(said, way))
    assert (refused.value.status, refused.value.error_type) == (401, "InvalidToken")
    assert not seen


@pytest.mark.parametrize("error", [LimitExceeded("full"), Unavailable("no disk")])
def test_what_cannot_be_noted_is_not_let_on(error: Exception) -> None:
    def use(_token: str, _until: float) -> bool:
        raise error

    with pytest.raises(Refusal) as refused:
        token_once({}, use).request(call({"jti": "1", "exp": time.time() + 60}))
    assert (refused.value.status, refused.value.error_type) == (503, "PolicyUnavailable")
