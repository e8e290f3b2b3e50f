"""The ways into a service through the real Envoy: keys, tokens of an issuer, and nothing at all."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    SECRETS,
    WORKERS,
    Mesh,
    Reply,
    as_client,
    basic,
    check_error,
    policy,
    wait_until,
)
from tests.gateway.tokens import ISSUER, Issuer, bearer, encoded

from tulle.gateway import envoy_files, envoy_routes
from tulle.gateway.policy import Backend, GatewayPolicy, ManagedService
from tulle.serving.access import Access, Keys, Public, Tokens, parse_access
from tulle.serving.traffic import split

pytestmark = pytest.mark.system
HERE = Public("1000/1s")


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


def tokens(issuer: Issuer, **more: Any) -> Tokens:
    plain = {"issuer": ISSUER, "jwks": issuer.public_keys(), "limit": "1000/1s"} | more
    found = parse_access(json.dumps({"jwt": plain})).jwt
    assert found is not None
    return found


def opened(access: Access, **contracts: Any) -> GatewayPolicy:
    """The usual policy, in which `first` is called by these ways."""
    usual = policy(WORKERS, {**CONTRACTS, **contracts})
    services = [replace(s, access=access) if s.name == "first" else s for s in usual.services]
    return GatewayPolicy.of(services=services, clients=usual.clients, contracts=usual.contracts)


def ask(mesh: Mesh, headers: dict[str, str] | None = None, path: str = "first/x/predict") -> Reply:
    return mesh.ask(API + path, headers, method="POST", body=b"{}")


def caller(reply: Reply, way: str = "") -> str | None:
    """Who the worker was told called, by this way."""
    assert reply.status == 200, reply.body
    headers = reply.json()["headers"]
    assert headers["x-tulle-way"] == (way or headers["x-tulle-way"])
    assert not {"authorization", "client_id", "client_secret"} & set(headers)
    found = headers.get("x-tulle-client")
    return None if found is None else str(found)


# ── public ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_public_service_needs_no_credentials_and_is_told_none(mesh: Mesh) -> None:
    mesh.gateway.publish(opened(Access(contracts=False, public=HERE)))
    for sent in ({}, as_client("app-a"), {"authorization": "Bearer x.y.z"}, {"x-tulle-client": "app-a"}):
        assert caller(ask(mesh, {**sent, "x-tulle-way": "contract"}), "public") is None
    check_error(ask(mesh, path="second/x"), 401, "InvalidClient")
    check_error(ask(mesh, path="nowhere/x"), 401, "InvalidClient")


def test_who_shows_credentials_to_a_public_service_that_knows_contracts_must_have_right_ones(
    mesh: Mesh,
) -> None:
    mesh.gateway.publish(opened(Access(contracts=True, public=HERE)))
    assert caller(ask(mesh), "public") is None
    assert caller(ask(mesh, as_client("app-a")), "contract") == "app-a"
    check_error(ask(mesh, basic("app-a", "wrong")), 401, "InvalidClient")
    check_error(ask(mesh, {"client_id": "app-a"}), 401, "InvalidClient")
    check_error(ask(mesh, as_client("app-c")), 403, "NoContract")


@pytest.mark.parametrize("by", ["all", "address"])
def test_what_is_public_has_a_limit(mesh: Mesh, by: Any) -> None:
    mesh.gateway.publish(opened(Access(public=Public("3/1h", by))))
    assert [ask(mesh).status for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = ask(mesh)
    check_error(refused, 429, "TooManyRequests")
    assert refused.headers["x-ratelimit-limit"] == "3"
    assert int(refused.headers["retry-after"]) > 0
    assert caller(ask(mesh, as_client("app-a"))) == "app-a"  # has a limit of its own
    elsewhere = ask_from(mesh, "127.0.0.2")
    assert elsewhere.status == (429 if by == "all" else 200)


def ask_from(mesh: Mesh, address: str) -> Reply:
    connection = http.client.HTTPConnection(
        "127.0.0.1", mesh.settings.gateway_port, timeout=10, source_address=(address, 0)
    )
    try:
        connection.request("POST", API + "first/x/predict", b"{}")
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def by_token(mesh: Mesh, issuer: Issuer) -> Mesh:
    """`first` takes tokens and nothing else."""
    jwt = tokens(issuer, audience=["services", "others"], scopes=["predict"])
    mesh.gateway.publish(opened(Access(contracts=False, jwt=jwt)))
    return mesh


def test_a_token_lets_in_and_its_claim_is_the_caller(by_token: Mesh, issuer: Issuer) -> None:
    for token in (
        issuer.token(),
        *(issuer.token(alg) for alg in ("ES256", "ES384", "EdDSA", "PS256", "RS512")),
        issuer.token(scope=["write", "predict"]),
        issuer.token(aud=["x", "others"]),
        issuer.token(scope="predict"),
    ):
        assert caller(ask(by_token, bearer(token))) == "warehouse-app"
    small = {"authorization": f"bearer {issuer.token()}", "x-tulle-client": "somebody"}
    assert caller(ask(by_token, small)) == "warehouse-app"
    # no other service takes it
    check_error(ask(by_token, bearer(issuer.token()), "second/x"), 401, "InvalidClient")


def test_a_token_that_is_not_right_is_401_and_the_challenge_says_bearer(
    by_token: Mesh, issuer: Issuer
) -> None:
    good = issuer.token()
    head, payload, signature = good.split(".")
    forged = encoded({"iss": ISSUER, "aud": "services", "exp": 9_999_999_999, "client_id": "me"})
    for token in (
        issuer.token(exp=1_600_000_000),
        issuer.token(exp=None),
        issuer.token(nbf=9_999_999_999),
        issuer.token(aud="elsewhere"),
        issuer.token(aud=None),
        issuer.token(iss="https://other.example/"),
        issuer.token(iss=None),
        issuer.token("none"),
        issuer.token("HS256"),
        Issuer().token(),
        f"{head}.{forged}.{signature}",
        f"{head}.{payload}.{signature[:-8]}",
        f"{head}.{payload}.",
        "a.b.c",
        "x" * 6000 + ".y.z",
    ):
        reply = ask(by_token, bearer(token))
        error = check_error(reply, 401, "InvalidToken" if not token.endswith(".") else _either(reply))
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert "wt" not in error["detailedMessage"]  # nothing of the filter's own words
    for nothing in ({}, as_client("app-a"), {"authorization": "Basic x"}, bearer("")):
        reply = ask(by_token, nothing)
        check_error(reply, 401, _either(reply))
        assert reply.headers["www-authenticate"].startswith("Bearer")
    twice = f"authorization: Bearer {good}\r\n" * 2
    assert (
        by_token.say(f"GET {API}first/x HTTP/1.1\r\nhost: g\r\n{twice}\r\n".encode()).status == 401
    )  # whose is it?


def test_a_token_names_no_key_of_its_own(by_token: Mesh, issuer: Issuer) -> None:
    """Whoever signs with a key of theirs, and says where it is, or what it is; and names of keys that are none."""
    other = Issuer()
    own = other.public_keys()["keys"][0]
    for head in (
        {"jwk": own},
        {"jku": "http://127.0.0.1:1/keys", "kid": "r"},
        {"x5u": "http://127.0.0.1:1/chain.pem"},
        {"kid": "r", "jwk": own, "crit": ["jwk"]},
        {"kid": "../../../../../../etc/passwd"},
        {"kid": "/dev/null"},
        {"kid": "r' OR '1'='1"},
        {"kid": "r\x00"},
        {"kid": ["r"]},
        {"kid": {"$ne": ""}},
        {"kid": "x" * 4000},
        {"kid": ""},
    ):
        check_error(ask(by_token, bearer(other.token(header=head))), 401, "InvalidToken")
    # a good signature by a key that the token names otherwise, or by another algorithm than the key's
    for head in ({"kid": "../r"}, {"kid": "e"}, {"alg": "nOnE"}, {"alg": "HS512"}, {"alg": ["RS256"]}):
        check_error(ask(by_token, bearer(issuer.token(header=head))), 401, "InvalidToken")
    assert caller(ask(by_token, bearer(issuer.token()))) == "warehouse-app"


def test_a_token_of_one_service_opens_no_other_one(mesh: Mesh, issuer: Issuer) -> None:
    """Replayed elsewhere: each service asks for its own audience."""
    usual = policy(WORKERS, CONTRACTS)
    ways = {
        name: Access(contracts=False, jwt=tokens(issuer, audience=[name])) for name in ("first", "second")
    }
    services = [replace(s, access=ways.get(s.name, s.access)) for s in usual.services]
    mesh.gateway.publish(
        GatewayPolicy.of(services=services, clients=usual.clients, contracts=usual.contracts)
    )
    token = bearer(issuer.token(aud="first"))
    assert caller(ask(mesh, token)) == "warehouse-app"
    check_error(ask(mesh, token, "second/x/predict"), 401, "InvalidToken")


def test_clocks_may_differ_by_a_minute(by_token: Mesh, issuer: Issuer) -> None:
    at = int(time.time())
    for claims in ({"exp": at - 30}, {"nbf": at + 30}):
        assert caller(ask(by_token, bearer(issuer.token(**claims)))) == "warehouse-app"
    for claims in ({"exp": at - 90}, {"nbf": at + 90}):
        check_error(ask(by_token, bearer(issuer.token(**claims))), 401, "InvalidToken")


def _either(reply: Reply) -> str:
    found = str(reply.json()["errorType"])
    assert found in {"MissingToken", "InvalidToken"}
    return found


def test_a_token_is_good_for_so_long_after_it_was_signed_and_not_longer(mesh: Mesh, issuer: Issuer) -> None:
    now, ends = int(time.time()), int(time.time()) + 100_000
    captured = issuer.token(iat=now - 400, exp=ends)
    mesh.gateway.publish(opened(Access(contracts=False, jwt=tokens(issuer))))
    assert ask(mesh, bearer(captured)).status == 200  # until its `exp`, where nothing is said
    for ways in (
        Access(contracts=False, jwt=tokens(issuer, max_age=300)),
        Access(contracts=True, jwt=replace(tokens(issuer, max_age=300), limit="", contract=True)),
    ):
        mesh.gateway.publish(opened(ways))
        for signed in (now, now - 250, now + 30, now + 0.5):
            good = ask(mesh, bearer(issuer.token(iat=signed, exp=ends, client_id="app-a")))
            assert caller(good) == "app-a", signed
        for signed in (now - 400, now + 400, 0, -1, 1e300, None, "x", True, [now], {"a": now}):
            reply = ask(mesh, bearer(issuer.token(iat=signed, exp=ends, client_id="app-a")))
            told = check_error(reply, 401, "InvalidToken")
            if signed in (now - 400, now + 400, None):  # others are no tokens at all to Envoy
                assert "signed too long ago" in told["detailedMessage"]
            assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    check_error(ask(mesh, bearer(issuer.token(iat=now, client_id="nobody"))), 403, "NoContract")


def test_a_token_whose_head_asks_for_what_is_not_done_here_is_none(mesh: Mesh, issuer: Issuer) -> None:
    """RFC 7515, 4.1.11: whoever does not understand what is critical must refuse. RFC 8725, 3.11: other kinds."""
    critical: tuple[dict[str, Any], ...] = (
        {"crit": ["foo"], "foo": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"], "exp": 1},  # whatever it is, nothing here does it
        {"crit": []},
        {"crit": {}},
        {"crit": [["foo"]]},
        {"crit": "foo"},
        {"crit": None},
        {"crit": False},
    )
    other_kinds = ("logout+jwt", "application/secevent+jwt", "Token-Introspection+JWT", "statuslist+jwt")
    for ways in (
        Access(contracts=False, jwt=tokens(issuer)),
        Access(contracts=False, jwt=tokens(issuer, max_age=300)),
        Access(contracts=True, jwt=replace(tokens(issuer), limit="", contract=True)),
    ):
        mesh.gateway.publish(opened(ways))
        for head in (*critical, *({"typ": kind} for kind in other_kinds)):
            token = bearer(issuer.token(header=head, client_id="app-a", iat=int(time.time())))
            for _ in range(2):  # as a token that was found good once is remembered
                reply = ask(mesh, token)
                told = check_error(reply, 401, "InvalidToken")
                assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'
                assert "crit" in told["detailedMessage"]
        for head in ({"typ": "at+jwt"}, {"typ": "application/at+jwt"}, {"typ": "JWT"}, {"x-critical": ["a"]}):
            good = bearer(issuer.token(header=head, client_id="app-a", iat=int(time.time()), crit=["foo"]))
            assert caller(ask(mesh, good)) == "app-a"  # what the claims say is no head


def test_a_token_within_a_token_or_a_sealed_one_is_none(by_token: Mesh, issuer: Issuer) -> None:
    inner = issuer.token().encode()
    head = encoded({"alg": "RS256", "kid": "r", "typ": "JWT", "cty": "JWT"})
    text = f"{head}.{encoded(inner)}"
    nested = f"{text}.{encoded(issuer._signature('RS256', text.encode()))}"
    check_error(ask(by_token, bearer(nested)), 401, "InvalidToken")
    sealed = ".".join([encoded({"alg": "dir", "enc": "A256GCM", "cty": "JWT"}), "", "a", "b", "c"])
    check_error(ask(by_token, bearer(sealed)), 401, _either(ask(by_token, bearer(sealed))))


def test_a_token_without_the_scope_or_a_client_is_403(by_token: Mesh, issuer: Issuer) -> None:
    for claims in (
        {"scope": "predictor"},
        {"scope": None},
        {"scope": ["read"]},
        {"scope": {"predict": True}},
        {"client_id": None},
        {"client_id": 7},
        {"client_id": ""},
        {"client_id": "a b"},
        {"client_id": "app\r\nx-tulle-client: app-a"},
        {"client_id": "café"},
    ):
        reply = ask(by_token, bearer(issuer.token(**claims)))
        check_error(reply, 403, "InsufficientScope")
        assert reply.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


def test_claims_may_be_inside_others(mesh: Mesh, issuer: Issuer) -> None:
    jwt = tokens(issuer, scopes=["b"], scope_claim="realm_access.roles", client_claim="who.app")
    mesh.gateway.publish(opened(Access(contracts=False, jwt=jwt)))
    said = {"realm_access": {"roles": ["a", "b"]}, "who": {"app": "shop"}}
    assert caller(ask(mesh, bearer(issuer.token(**said)))) == "shop"
    for wrong in ({"realm_access": {"roles": ["a"]}}, {"who": {"app": None}}, {"who": "shop"}):
        check_error(ask(mesh, bearer(issuer.token(**said | wrong))), 403, "InsufficientScope")


def test_tokens_and_keys_and_the_public_at_one_service(mesh: Mesh, issuer: Issuer) -> None:
    every = Access(contracts=True, api_keys=Keys(), public=HERE, jwt=tokens(issuer))
    mesh.gateway.publish(opened(every))
    key = f"app-a.{SECRETS['app-a']}"
    for sent, expected in (
        ({}, None),
        (bearer(issuer.token()), "warehouse-app"),
        (bearer(key), "app-a"),
        (basic(key, ""), "app-a"),
        (basic("app-a", SECRETS["app-a"]), "app-a"),
        ({"client_id": "app-a", "client_secret": SECRETS["app-a"]}, "app-a"),
    ):
        assert caller(ask(mesh, sent)) == expected
    check_error(ask(mesh, bearer(issuer.token(exp=1))), 401, "InvalidToken")
    check_error(ask(mesh, bearer("app-a.wrong")), 401, "InvalidClient")
    seen = {line["access"] for line in _logged(mesh)}
    assert {"contract", "token", "public"} <= seen


def _logged(mesh: Mesh) -> list[dict[str, Any]]:
    wait_until(lambda: any(line["access"] == "token" for line in mesh.log_lines()), "the access log")
    return mesh.log_lines()


def test_each_client_of_tokens_has_a_limit_of_its_own(mesh: Mesh, issuer: Issuer) -> None:
    access = Access(contracts=True, jwt=tokens(issuer, limit="2/1h"))
    mesh.gateway.publish(opened(access))
    for client in ("one", "two", "app-a"):
        token = bearer(issuer.token(client_id=client))
        assert [ask(mesh, token).status for _ in range(4)] == [200, 200, 429, 429], client
    # a token cannot use up what an application of the same name has
    assert caller(ask(mesh, as_client("app-a"))) == "app-a"


def test_a_service_that_takes_tokens_alone_can_still_be_tried_by_the_portal(
    mesh: Mesh, issuer: Issuer
) -> None:
    access = Access(contracts=False, jwt=tokens(issuer))
    usual = policy(WORKERS, {("app-c", "first"): PLENTY})
    services = [replace(s, access=access) if s.name == "first" else s for s in usual.services]
    contracts = [replace(c, way="always") for c in usual.contracts]
    made = GatewayPolicy.of(services=services, clients=usual.clients, contracts=contracts)
    mesh.gateway.publish(made)
    portal = {"client_id": "app-c", "client_secret": SECRETS["app-c"]}
    assert caller(ask(mesh, portal)) == "app-c"
    check_error(ask(mesh, portal | {"client_secret": "wrong"}), 401, "InvalidClient")
    check_error(ask(mesh, {"client_id": "app-cc", "client_secret": SECRETS["app-c"]}), 401, "MissingToken")


@pytest.fixture
def served(issuer: Issuer) -> list[Issuer]:
    """Whose keys are given where public keys are fetched."""
    return [issuer]


@pytest.fixture
def keys_server(served: list[Issuer]) -> Iterator[tuple[int, list[int], Callable[[int], None]]]:
    """Where public keys are fetched: its port, the answers it gave, and what lets it fail."""
    given: list[int] = []
    status = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(served[0].public_keys()).encode()
            self.send_response(status[0])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            given.append(status[0])

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], given, lambda new: status.__setitem__(0, new)
    server.shutdown()
    thread.join()
    server.server_close()


def test_public_keys_are_fetched_before_they_are_needed(
    mesh: Mesh, issuer: Issuer, keys_server: tuple[int, list[int], Callable[[int], None]]
) -> None:
    port, given, answer_with = keys_server
    answer_with(500)
    fetched = Tokens(ISSUER, jwks_uri=f"http://localhost:{port}/keys", limit="1000/1s")
    mesh.gateway.publish(opened(Access(contracts=False, jwt=fetched)))
    wait_until(lambda: 500 in given, "the first fetch")
    check_error(ask(mesh, bearer(issuer.token())), 503, "KeysUnavailable")
    answer_with(200)
    token = bearer(issuer.token())
    # each thread of the gateway comes to know them by itself
    wait_until(lambda: {ask(mesh, token).status for _ in range(20)} == {200}, "fetching again")
    count = len(given)
    assert all(caller(ask(mesh, token)) == "warehouse-app" for _ in range(20))
    assert len(given) <= count + 2  # and not at every call; what was asked for after a failure may still come


def test_a_key_that_the_issuer_withdraws_opens_nothing_any_more(
    mesh: Mesh,
    issuer: Issuer,
    served: list[Issuer],
    keys_server: tuple[int, list[int], Callable[[int], None]],
) -> None:
    # they are fetched anew five seconds before they are too old
    fetched = Tokens(ISSUER, jwks_uri=f"http://localhost:{keys_server[0]}/keys", refresh=5.3, limit="1000/1s")
    mesh.gateway.publish(opened(Access(contracts=False, jwt=fetched)))
    before, later = bearer(issuer.token()), Issuer()
    wait_until(lambda: ask(mesh, before).status == 200, "fetching")
    served[0] = later
    wait_until(lambda: ask(mesh, bearer(later.token())).status == 200, "fetching the new keys")
    # each thread of the gateway is told the new keys by itself
    wait_until(
        lambda: {ask(mesh, before).status for _ in range(20)} == {401}, "refusing what was let in before"
    )
    check_error(ask(mesh, before), 401, "InvalidToken")
    keys_server[2](500)  # who gives the keys is away: those that are known go on
    wait_until(lambda: 500 in keys_server[1], "asking in vain")
    assert ask(mesh, bearer(later.token())).status == 200


def test_an_issuer_that_serves_too_much_is_as_one_that_cannot_be_asked(mesh: Mesh, issuer: Issuer) -> None:
    sent: dict[str, int] = {}
    how = ["100 MB"]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            now = how[0]
            sent[now] = 0
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(OSError):  # it is not read any more
                for part in parts[now]:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                    sent[now] += len(part)
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    right = issuer.public_keys()["keys"]
    more = [{**right[1], "kid": f"k{n}"} for n in range(101 - len(right))]
    hidden = json.dumps({"keys": [*more, *right]}).replace("kty", "k\\u0074y").encode()
    parts = {
        "100 MB": [b'{"keys":[', *[b" " * 1_000_000] * 100, b"]}"],
        "101 keys": [hidden[:5000], hidden[5000:]],
        "100 keys": [json.dumps({"keys": [*more[1:], *right]}).encode()],
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        url = f"http://localhost:{server.server_address[1]}/keys"
        mesh.gateway.publish(
            opened(Access(contracts=False, jwt=Tokens(ISSUER, jwks_uri=url, limit="1000/1s")))
        )
        for now in parts:
            how[0] = now
            wait_until(lambda now=now: now in sent, f"fetching {now}")  # type: ignore[misc]
            if now != "100 keys":
                check_error(ask(mesh, bearer(issuer.token())), 503, "KeysUnavailable")
        assert sent["100 MB"] < 25_000_000  # what the kernel holds on its way is some of it
        wait_until(lambda: ask(mesh, bearer(issuer.token())).status == 200, "fetching the keys")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("how", ["slow", "deep", "none"])
def test_keys_that_are_late_or_none_open_nothing_and_hold_up_nobody(
    mesh: Mesh, issuer: Issuer, how: str
) -> None:
    asked: list[int] = []
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(1)
            body = json.dumps(issuer.public_keys()).encode()
            if how == "deep":
                body = b'{"keys":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
            elif how == "none":
                body = b'{"keys":[{"kty":"oct","kid":"r","k":"c2VjcmV0"}]}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # nobody waits for it any more
                if how == "slow":
                    self.wfile.write(body[:100])
                    self.wfile.flush()
                    ended.wait(20)
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        url = f"http://localhost:{server.server_address[1]}/keys"
        fetched = Tokens(ISSUER, jwks_uri=url, timeout=0.3, limit="1000/1s")
        mesh.gateway.publish(opened(Access(contracts=False, jwt=fetched)))
        wait_until(lambda: bool(asked), "fetching")
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            reply = ask(mesh, bearer(issuer.token()))
            assert (reply.status, reply.json()["errorType"]) in {
                (503, "KeysUnavailable"),
                (401, "InvalidToken"),
            }
            assert ask(mesh, as_client("app-b"), "second/x").status == 200
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def test_keys_that_nobody_serves_hold_up_no_other_service(mesh: Mesh) -> None:
    gone = Tokens(ISSUER, jwks_uri="https://nobody.invalid/keys")
    result = mesh.gateway.publish(opened(Access(contracts=True, jwt=gone)))
    assert result.confirmed
    assert caller(ask(mesh, as_client("app-a"))) == "app-a"
    assert ask(mesh, as_client("app-b"), "second/x").status == 200


def test_a_service_without_tokens_has_the_routes_and_limits_it_always_had() -> None:
    rendered = policy(WORKERS, CONTRACTS)
    routes = envoy_routes.routes(rendered)["virtual_hosts"][0]["routes"]
    assert len(routes) == len(WORKERS) + 2  # what is alive, and what is nowhere
    assert not any(
        ("headers" in r["match"] and "path" not in r["match"]) or "jwt" in r["typed_per_filter_config"]
        for r in routes
    )
    assert len(envoy_files.limits(rendered)["rate_limits"]) == 1


def test_a_generation_may_be_asked_for_by_every_way(mesh: Mesh, issuer: Issuer) -> None:
    every = Access(contracts=True, api_keys=Keys(), public=HERE, jwt=tokens(issuer))
    traffic = split({"v1": 1.0, "v2": 0.0})
    sockets = WORKERS["first"]
    first = ManagedService(
        "first",
        (),
        10_000,
        access=every,
        traffic=traffic,
        backends=(Backend("v1", (sockets[0],)), Backend("v2", (sockets[1],))),
    )
    elsewhere = replace(first, environment="test", access=Access(contracts=False, jwt=tokens(issuer)))
    usual = policy(WORKERS, CONTRACTS)
    services = [first, elsewhere, *(s for s in usual.services if s.name != "first")]
    contracts = [c for c in usual.contracts if c.service != "first" or c.client_id == "app-a"]
    mesh.gateway.publish(GatewayPolicy.of(services=services, clients=usual.clients, contracts=contracts))

    def asked(headers: dict[str, str], generation: str, address: str = API) -> Reply:
        body = json.dumps({"features": {}, "dispatch": {"forcedGeneration": generation}}).encode()
        return mesh.ask(address + "first/x/predict", headers, method="POST", body=body)

    key = {"authorization": f"Bearer app-a.{SECRETS['app-a']}"}
    for sent, expected in (({}, None), (bearer(issuer.token()), "warehouse-app"), (key, "app-a")):
        for generation, worker in (("v1", "first-1"), ("v2", "first-2")):
            reply = asked(sent, generation)
            assert caller(reply) == expected
            assert reply.json()["worker"].startswith(worker)
        check_error(asked(sent, "v9"), 404, "UnknownGeneration")
    # each environment has its own ways, and its own path
    assert caller(asked(bearer(issuer.token()), "v2", "/test" + API)) == "warehouse-app"
    check_error(asked({}, "v2", "/test" + API), 401, "MissingToken")
    check_error(asked(key, "v2", "/test" + API), 401, "InvalidToken")  # a key is none
    check_error(asked(bearer(issuer.token(exp=1)), "v2"), 401, "InvalidToken")
