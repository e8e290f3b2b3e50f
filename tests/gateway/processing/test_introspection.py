"""Opaque tokens through the real Envoy: their issuer is asked, and where it cannot be nobody is let in."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest
from tests.gateway.conftest import API, SECRETS, Reply, as_client, check_error
from tests.gateway.processing.conftest import Processed
from tests.gateway.tokens import ISSUER, Issuer, bearer

from tulle.errors import Broken, Invalid
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.processing import handed
from tulle.gateway.processing.attempts import MOST_OF_ADDRESS, WINDOW
from tulle.gateway.processing.handed import Handed, HandedConnection, Hands
from tulle.gateway.processing.introspection import _CLOSING, introspection
from tulle.serving.access import Access, Public
from tulle.state.secrets import open_secrets

pytestmark = pytest.mark.system
GOOD: dict[str, Any] = {"active": True, "client_id": "till", "scope": "read write", "aud": ["orders", "x"]}
REDACTING = Policy("redaction", {"fields": [{"path": "$.ssn", "except": {"claims": {"role": ["hr"]}}}]})


@dataclass
class Asked:
    """An issuer's endpoint: what it says of each token, what it was asked, and how long it takes."""

    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    seconds: float = 0.0
    status: int = 200
    body: bytes | None = None
    url: str = ""

    def count(self, token: str) -> int:
        return sum(one == token for one, _ in self.seen)


@pytest.fixture(scope="module")
def _asked() -> Iterator[Asked]:
    asked = Asked()

    class Answering(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            token = form["token"][0]
            asked.seen.append((token, {k.lower(): v for k, v in self.headers.items()}))
            time.sleep(asked.seconds)
            body = json.dumps(asked.tokens.get(token, {"active": False})).encode()
            body = body if asked.body is None else asked.body
            self.send_response(asked.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    asked.url = f"http://127.0.0.1:{server.server_address[1]}/introspect"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def asked(_asked: Asked, processed: Processed) -> Asked:
    _asked.tokens, _asked.seconds, _asked.status, _asked.body = {}, 0.0, 200, None
    _asked.seen.clear()
    hand(processed, {"prod login": HandedConnection(_asked.url, {"authorization": "Basic bWVzaDpzM2NyZXQ="})})
    return _asked


def hand(processed: Processed, connections: dict[str, HandedConnection]) -> None:
    folder = processed.mesh.settings.state_folder
    secrets = open_secrets(folder / handed.KEY_FILE)
    handed.write(folder / handed.FILE, Handed(connections), secrets)


_OWN = [1000]


def policy(**settings: Any) -> Policy:
    """A policy that remembers nobody: each is another one."""
    _OWN[0] += 1
    return Policy(
        "oauth2-introspection",
        {"connection": "login", "limit": "10000/1s", "cache": _OWN[0] / 100, "timeout": 1, **settings},
    )


def ask(processed: Processed, token: str | None, path: str = "/x/said", **headers: str) -> Reply:
    sent = {**headers, **({"authorization": f"Bearer {token}"} if token is not None else {})}
    return processed.mesh.ask(f"{API}api{path}", sent, method="POST", body=b'{"ssn": 1}')


def headers_of(reply: Reply) -> dict[str, str]:
    assert reply.status == 200, reply
    return dict(reply.json()["headers"])


def test_a_token_that_the_issuer_says_is_good_lets_in(processed: Processed, asked: Asked) -> None:
    asked.tokens["t1"] = GOOD
    processed.put(policy(scopes=["read"], audience="orders"))
    seen = headers_of(ask(processed, "t1"))
    assert (seen["x-tulle-client"], seen["x-tulle-way"]) == ("till", "introspection")
    assert not {"authorization", "x-tulle-claims", "x-tulle-process"} & set(seen)
    ((token, headers),) = asked.seen
    assert (token, headers["authorization"]) == ("t1", "Basic bWVzaDpzM2NyZXQ=")
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers_of(ask(processed, "t1"))["x-tulle-client"] == "till"
    assert len(asked.seen) == 1  # what it said holds for a while
    line = processed.mesh.log_lines  # who it was is told
    deadline = time.monotonic() + 5
    while not any(one.get("access") == "introspection" and one.get("client") == "till" for one in line()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("told", "status", "error", "challenge"),
    [
        ({"active": False}, 401, "InvalidToken", "invalid_token"),
        ({**GOOD, "exp": 1}, 401, "InvalidToken", "invalid_token"),
        ({**GOOD, "exp": "tomorrow"}, 401, "InvalidToken", "invalid_token"),
        ({**GOOD, "nbf": 1 << 40}, 401, "InvalidToken", "invalid_token"),
        ({**GOOD, "aud": "others"}, 401, "InvalidToken", "invalid_token"),
        ({**GOOD, "iss": "https://other.example"}, 401, "InvalidToken", "invalid_token"),
        ({**GOOD, "scope": "reader write"}, 403, "InsufficientScope", 'scope="read"'),
        ({**GOOD, "client_id": None}, 403, "InsufficientScope", "insufficient_scope"),
        ({**GOOD, "client_id": "a b\r\nx: y"}, 403, "InsufficientScope", "insufficient_scope"),
        ({**GOOD, "tenant": "east"}, 403, "InsufficientScope", "insufficient_scope"),
    ],
)
def test_a_token_that_does_not_fit_is_refused(
    processed: Processed, asked: Asked, told: dict[str, Any], status: int, error: str, challenge: str
) -> None:
    asked.tokens["t2"] = {"iss": ISSUER, "tenant": "north", **told}
    processed.put(policy(scopes=["read"], audience="orders", issuer=ISSUER, claims={"tenant": ["north"]}))
    reply = ask(processed, "t2")
    check_error(reply, status, error)
    assert challenge in reply.headers["www-authenticate"]
    asked.tokens["t3"] = {**GOOD, "iss": ISSUER, "tenant": "north"}
    assert headers_of(ask(processed, "t3"))["x-tulle-client"] == "till"


def test_who_shows_no_token_is_told_to(processed: Processed, asked: Asked) -> None:
    processed.put(policy())
    for reply in (
        ask(processed, None),
        processed.mesh.ask(f"{API}api/x", as_client("app-a")),
        ask(processed, None, **{"x-tulle-client": "till", "x-tulle-way": "contract"}),
    ):
        check_error(reply, 401, "MissingToken")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert not asked.seen


@pytest.mark.parametrize("body", [b"", b"[]", b'{"active": "true"}', b"{" * 70_000, b'{"active": true} '])
def test_an_issuer_that_does_not_answer_well_lets_nobody_in(
    processed: Processed, asked: Asked, body: bytes
) -> None:
    processed.put(policy())
    asked.body = body
    if body.startswith(b'{"active": true}'):
        asked.status = 500
    reply = ask(processed, "t4")
    check_error(reply, 503, "IdentityUnavailable")
    assert reply.headers["retry-after"] == "1"
    asked.body, asked.status, asked.tokens["t4"] = None, 200, GOOD
    assert ask(processed, "t4").status == 200  # it is not remembered


def test_an_issuer_that_is_slow_or_gone_lets_nobody_in_and_holds_up_nobody_else(
    processed: Processed, asked: Asked
) -> None:
    asked.tokens |= {"slow": GOOD, "known": GOOD}
    processed.put(policy(timeout=0.3))
    assert ask(processed, "known").status == 200
    asked.seconds = 1.0
    began = time.monotonic()
    found: list[Reply] = []
    callers = [threading.Thread(target=lambda: found.append(ask(processed, "slow"))) for _ in range(5)]
    for caller in callers:
        caller.start()
    assert ask(processed, "known").status == 200
    assert time.monotonic() - began < 0.9
    for caller in callers:
        caller.join()
    assert len(found) == 5
    for reply in found:
        check_error(reply, 503, "IdentityUnavailable")
    assert asked.count("slow") == 1  # they waited for one answer
    for connections in ({"prod login": HandedConnection("http://127.0.0.1:9/")}, {}):
        hand(processed, connections)
        assert ask(processed, "other").status == 503
        assert ask(processed, "known").status == 200


def test_an_issuer_may_take_its_time(processed: Processed, asked: Asked) -> None:
    asked.tokens["t7"] = GOOD
    processed.put(policy(timeout=5))
    asked.seconds = 0.6
    assert ask(processed, "t7").status == 200


def test_what_it_said_does_not_outlive_the_token(processed: Processed, asked: Asked) -> None:
    asked.tokens["t5"] = {**GOOD, "exp": time.time() + 1}
    processed.put(policy(cache=60))
    assert ask(processed, "t5").status == 200
    time.sleep(1.1)
    check_error(ask(processed, "t5"), 401, "InvalidToken")
    assert asked.count("t5") == 2


def test_claims_go_to_the_steps_and_names_are_those_of_the_way(processed: Processed, asked: Asked) -> None:
    asked.tokens |= {"hr": {**GOOD, "role": "hr"}, "app": {**GOOD, "client_id": "app-b"}}
    by_name = Policy("redaction", {"fields": [{"path": "$.ssn", "except": {"clients": ["app-b"]}}]})
    processed.put(policy(), REDACTING)
    assert ask(processed, "hr", "/x/echo").json() == {"ssn": 1}
    assert ask(processed, "app", "/x/echo").json() == {}
    processed.put(policy(), by_name)
    assert ask(processed, "app", "/x/echo").json() == {}


def test_each_client_has_its_limit(processed: Processed, asked: Asked) -> None:
    asked.tokens |= {"a": {**GOOD, "client_id": "a"}, "b": {**GOOD, "client_id": "b"}}
    processed.put(policy(limit="2/1h"), Policy("rate-limit", {"limits": "5/1h", "by": "all"}))
    assert [ask(processed, "a").status for _ in range(3)] == [200, 200, 429]
    assert ask(processed, "b").status == 200


def test_whom_it_names_may_have_to_be_an_application_with_a_contract(
    processed: Processed, asked: Asked
) -> None:
    for name in ("app-b", "till", "app-a~2"):
        asked.tokens[name] = {**GOOD, "client_id": name}
    gold = Policy("redaction", {"fields": [{"path": "$.ssn", "except": {"tiers": ["gold"]}}]})
    named = {key: value for key, value in policy(contract=True).settings.items() if key != "limit"}
    processed.put(Policy("oauth2-introspection", named), gold)
    assert ask(processed, "app-b", "/x/echo").json() == {"ssn": 1}  # it is that application, with its tier
    for name in ("till", "app-a~2"):
        check_error(ask(processed, name), 403, "NoContract")
    check_error(ask(processed, "wrong"), 401, "InvalidToken")


def test_beside_other_ways(processed: Processed, asked: Asked) -> None:
    asked.tokens |= {"opaque": GOOD, "a.b": GOOD}
    issuer = Issuer()
    jwt = Policy("jwt", {"issuer": ISSUER, "jwks": issuer.public_keys(), "limit": "1000/1s"})
    processed.put(policy(), jwt, Policy("client-id"), Policy("public", {"limit": "1000/1s"}))
    assert "x-tulle-client" not in headers_of(ask(processed, None))
    for token in ("opaque", "a.b"):
        assert headers_of(ask(processed, token))["x-tulle-client"] == "till"
    signed = processed.mesh.ask(f"{API}api/x", bearer(issuer.token()))
    assert headers_of(signed)["x-tulle-client"] == "warehouse-app"
    assert headers_of(ask(processed, f"app-a.{SECRETS['app-a']}"))["x-tulle-client"] == "app-a"
    assert headers_of(processed.mesh.ask(f"{API}api/x", as_client("app-a")))["x-tulle-client"] == "app-a"
    assert [token for token, _ in asked.seen] == ["opaque", "a.b"]
    check_error(ask(processed, "wrong"), 401, "InvalidToken")


def test_without_the_processor_nobody_comes_in(processed: Processed, asked: Asked) -> None:
    asked.tokens["t6"] = GOOD
    processed.put(policy(), access=Access(contracts=False, public=Public("1000/1s")))
    processed.stop()
    try:
        check_error(ask(processed, "t6"), 503, "IdentityUnavailable")
        assert processed.ask("/x/said", b"{}", api="plain").status == 200
    finally:
        processed.start()
    assert ask(processed, "t6").status == 200


def test_a_policy_that_is_over_leaves_no_connections(asked: Asked) -> None:
    asked.tokens["right"] = GOOD

    async def run() -> None:
        connection = HandedConnection(asked.url)
        step = introspection({"connection": "login"}, b"k", lambda: connection, "")
        assert (await step.find(b"right")).name == GOOD["client_id"]
        client = step._client
        assert client is not None
        step.close()
        await asyncio.gather(*_CLOSING)
        assert client.is_closed

    asyncio.run(run())


def test_whoever_tries_many_is_held_up(processed: Processed, asked: Asked) -> None:
    asked.tokens["right"] = GOOD
    processed.put(policy())
    assert ask(processed, "right").status == 200
    found = [ask(processed, f"guess-{number}") for number in range(MOST_OF_ADDRESS + 1)]
    assert {reply.status for reply in found[:-1]} == {401}
    check_error(found[-1], 429, "TooManyGuesses")
    assert 1 <= int(found[-1].headers["retry-after"]) <= WINDOW
    assert len(asked.seen) == MOST_OF_ADDRESS + 1
    assert ask(processed, "right").status == 200  # who is known is let in whatever others try
    assert "too many wrong credentials from 127.0.0.1" in processed.log()


def test_what_nobody_can_mean_is_refused(processed: Processed) -> None:
    for text, told in (
        ("{policy: oauth2-introspection}", "connection"),
        ("{policy: oauth2-introspection, connection: 'A B'}", "connection"),
        ("{policy: oauth2-introspection, connection: a, scopes: ['a\"b']}", "scope"),
        ("{policy: oauth2-introspection, connection: a, limit: many}", "many"),
    ):
        with pytest.raises(Invalid) as raised:
            parse_policies(f"- {text}")
        assert told in str(raised.value.problems[0])
    with pytest.raises(Broken, match="connection"):
        processed.put(Policy("oauth2-introspection"))


# ── without Envoy ────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_handed_over_is_sealed_and_read_when_it_changes(tmp_path: Any) -> None:
    secrets = open_secrets(tmp_path / "key")
    file = tmp_path / "gateway/handed"
    hands = Hands(file, secrets)
    assert hands.now() == Handed()
    first = Handed({"prod login": HandedConnection("https://a", {"authorization": "s3cret"})})
    handed.write(file, first, secrets)
    assert hands.now() == first
    assert b"s3cret" not in file.read_bytes()
    assert "s3cret" not in repr(first)
    assert file.stat().st_mode & 0o777 == 0o600
    turn, before = hands.turn, file.stat().st_ino
    handed.write(file, first, secrets)
    assert file.stat().st_ino == before  # it is so already
    handed.write(file, Handed(), secrets)
    assert hands.now() == Handed()
    assert hands.turn > turn
    file.write_bytes(b"damaged")
    with pytest.raises(Broken):
        hands.now()
