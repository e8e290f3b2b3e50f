"""Quotas through the real Envoy: who has how many, through restarts of what counts."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace

import pytest
from tests.gateway.conftest import SECRETS, check_error, wait_until
from tests.gateway.processing.conftest import SOCKET, Processed

from tulle.errors import Broken
from tulle.gateway.envoy import Gateway
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.processing.exchange import Call, Refusal
from tulle.gateway.processing.quota import key_part, quota
from tulle.gateway.processing.windows import Windows
from tulle.gateway.secret import hash_secret

pytestmark = pytest.mark.system


def fresh(**settings: object) -> Policy:
    """A quota that has counted nothing: its windows are of another length each time."""
    return Policy("quota", {"limits": [f"3/{fresh_seconds()}s", "100000/1d"], **settings})


_SECONDS = [1000]


def fresh_seconds() -> int:
    _SECONDS[0] += 1
    return _SECONDS[0]


def test_so_many_pass_of_each_client(processed: Processed) -> None:
    processed.put(fresh())
    replies = [processed.ask("/x/echo", b"{}") for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["2", "1", "0", "0", "0"]
    assert {reply.headers["x-ratelimit-limit"] for reply in replies} == {"3"}
    check_error(replies[3], 429, "QuotaExceeded")
    assert 900 < int(replies[3].headers["retry-after"]) <= _SECONDS[0]
    assert processed.ask("/x/echo", b"{}", client="app-b").status == 200


def test_an_address_is_that_of_a_trusted_proxys_caller(
    processed: Processed, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = processed.mesh.gateway
    trusting = Gateway(replace(processed.mesh.settings, trusted_proxies=("127.0.0.1/32",)))
    monkeypatch.setattr(processed.mesh, "gateway", trusting)
    processed.put(fresh(key=["address"]))
    ways = [f"192.0.2.{number}, 203.0.113.7" for number in range(4)]
    replies = [processed.ask("/x/echo", b"{}", x_forwarded_for=way) for way in ways]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert processed.ask("/x/echo", b"{}", x_forwarded_for="203.0.113.8").status == 200
    monkeypatch.setattr(processed.mesh, "gateway", usual)
    processed.put()  # as others find it
    assert processed.ask("/x/echo", b"{}").status == 200


def test_what_is_refused_costs_nothing_and_reaches_no_target(processed: Processed) -> None:
    processed.put(Policy("quota", {"limits": ["2/1s", f"4/{fresh_seconds()}s"]}))
    before = processed.ask("/x/said", b"{}", api="plain").json()["count"]

    def burst() -> int:
        return sum(processed.ask("/x/said", b"{}").status == 200 for _ in range(6))

    passed = burst()
    time.sleep(1.1)
    passed += burst()
    assert passed == 4
    assert processed.ask("/x/said", b"{}", api="plain").json()["count"] == before + 5


def test_counts_survive_a_restart_and_a_kill(processed: Processed) -> None:
    policy = fresh()
    processed.put(policy)
    assert processed.ask("/x/echo", b"{}").status == 200
    processed.stop()
    processed.start()
    assert processed.ask("/x/echo", b"{}").headers["x-ratelimit-remaining"] == "1"
    time.sleep(1.2)  # twice what may be lost
    processed.stop(hard=True)
    processed.start()
    assert processed.ask("/x/echo", b"{}").headers["x-ratelimit-remaining"] == "0"
    assert processed.ask("/x/echo", b"{}").status == 429


def test_counts_stay_when_other_policies_change(processed: Processed) -> None:
    policy = fresh()
    processed.put(policy)
    for _ in range(3):
        processed.ask("/x/echo", b"{}")
    processed.put(policy, Policy("redaction", {"fields": [{"path": "$.a"}]}))
    wait_until(lambda: processed.ask("/x/echo", b'{"a": 1}').status == 429, "still used up")


def test_a_tier_of_a_contract_has_limits_of_its_own(processed: Processed) -> None:
    processed.put(fresh(tiers={"gold": [f"5/{fresh_seconds()}s"]}))
    for client, most in (("app-a", 3), ("app-b", 5)):
        passed = sum(processed.ask("/x/echo", b"{}", client=client).status == 200 for _ in range(7))
        assert passed == most


@pytest.mark.parametrize(
    ("written", "others"),
    [
        ("1", ["1.0", "1e0", "10e-1", "1.00000000000000000001"]),
        ("0.5", ["5e-1", "0.50"]),
        ("-0.0", ["0", "0e9"]),
        ("9007199254740993", ["9007199254740993.0", "900719925474099.3e1"]),
        ('{"b": 1.0, "a": [2]}', ['{"a": [2e0], "b": 1}']),
    ],
)
def test_numbers_of_equal_value_are_one_key(written: str, others: list[str]) -> None:
    def key(value: str) -> str:
        body = b'{"user": {"id": %b}}' % value.encode()
        return key_part("body:$.user.id")(Call("POST", b"/", [], body, {}))

    assert {key(one) for one in others} == {key(written)}
    assert key("9007199254740992") not in {key(written), key("9007199254740994"), key('"9007199254740992"')}


def test_a_body_that_readers_take_otherwise_is_not_counted_under_a_name_of_its_own(
    processed: Processed,
) -> None:
    processed.put(fresh(key=["body:$.user.id"]))
    for written in (b"1", b"1.0", b"1e0"):
        assert processed.ask("/x/echo", b'{"user": {"id": %b}}' % written).status == 200
    check_error(processed.ask("/x/echo", b'{"user": {"id": 10e-1}}'), 429, "QuotaExceeded")
    for twice in (b'{"user": {"id": 1}, "user": {"id": 9}}', b'{"user": {"id": 1, "\\u0069d": 9}}'):
        said = check_error(processed.ask("/x/echo", twice), 400, "InvalidRequest")
        assert "twice" in said["detailedMessage"]
    odd = {"content_type": "application/json; charset=utf-7"}
    check_error(processed.ask("/x/echo", b'{"user": {"id": "+ADE-"}}', **odd), 415, "UnsupportedContent")
    check_error(processed.ask("/x/echo", b"{}", content_encoding="br"), 415, "UnsupportedEncoding")
    deep = b'{"user": {"id": ' + b"[" * 600 + b"1.5" + b"]" * 600 + b"}}"
    check_error(processed.ask("/x/echo", deep), 400, "InvalidRequest")


def held(processed: Processed, contracts: dict[str, list[str]], **settings: object) -> None:
    """Publish `api` with a quota of contracts, and clients with contracts of these limits."""
    own = {
        name: Contract(name, "api", limits[0], more=tuple(limits[1:]), tier="gold")
        for name, limits in ((name, [*map(RateLimit.parse, said)]) for name, said in contracts.items())
    }
    processed.mesh.gateway.publish(
        GatewayPolicy.of(
            services=[
                ManagedService(
                    "api", (SOCKET,), 1 << 20, policies=(Policy("quota", {"contract": True, **settings}),)
                )
            ],
            clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
            contracts=own.values(),
        )
    )


def test_the_long_windows_of_a_contract_survive_restarts_and_follow_it(processed: Processed) -> None:
    hour = fresh_seconds() * 60
    held(processed, {"app-a": ["1000/1s", f"3/{hour}s"], "app-b": ["1000/1s"]})
    for left in ("2", "1"):
        reply = processed.ask("/x/echo", b"{}")
        assert (reply.status, reply.headers["x-ratelimit-remaining"]) == (200, left)
    # what was used so far counts against other limits, too
    held(processed, {"app-a": ["1000/1s", f"4/{hour}s"], "app-b": ["1000/1s"]})
    wait_until(
        lambda: processed.ask("/x/echo", b"{}").headers["x-ratelimit-limit"] == "4", "the limits of the plan"
    )
    time.sleep(1.2)  # twice what may be lost
    processed.stop(hard=True)
    processed.mesh.stop(hard=True)  # which would fill the gateway's buckets
    processed.start()
    processed.mesh.start()
    assert [processed.ask("/x/echo", b"{}").status for _ in range(3)][-1] == 429
    check_error(processed.ask("/x/echo", b"{}"), 429, "QuotaExceeded")
    others = [processed.ask("/x/echo", b"{}", client="app-b") for _ in range(6)]
    assert {one.status for one in others} == {200}  # nothing of it is as long


def test_a_sliding_window(processed: Processed) -> None:
    processed.put(fresh(window="sliding"))
    assert [processed.ask("/x/echo", b"{}").status for _ in range(4)] == [200, 200, 200, 429]


def test_the_headers_may_be_kept_back(processed: Processed) -> None:
    processed.put(fresh(expose_headers=False))
    replies = [processed.ask("/x/echo", b"{}") for _ in range(4)]
    assert replies[3].status == 429
    assert "retry-after" in replies[3].headers
    # those of the contract's own limit are the gateway's
    assert replies[0].headers.get("x-ratelimit-limit") != "3"


def test_it_is_counted_by_parts_of_a_request(processed: Processed) -> None:
    processed.put(fresh(key=["header:x-team", "body:$.customer"]))
    one = [processed.ask("/x/echo", b'{"customer": 1}', x_team="a").status for _ in range(4)]
    assert one == [200, 200, 200, 429]
    assert processed.ask("/x/echo", b'{"customer": 1}', x_team="b").status == 200
    assert processed.ask("/x/echo", b'{"customer": 2}', x_team="a").status == 200
    assert processed.ask("/x/echo", b'{ "customer":1 }', x_team="a", client="app-b").status == 429
    check_error(processed.ask("/x/echo", b"{", x_team="a"), 400, "InvalidRequest")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "neither 'limits' nor 'tiers'"),
        ({"limits": ["many"]}, "rate limit 'many'"),
        ({"limits": ["1/1d"], "key": ["cleint"]}, "key part 'cleint'"),
        ({"limits": ["1/1d"], "key": ["body:a"]}, "no JSON path"),
        ({"limits": ["1/1d"], "key": ["cookie:a"]}, "key part 'cookie:a'"),
        ({"limits": ["1/1d"], "window": "round"}, "'window' is 'round'"),
        ({"contract": False}, "neither 'limits' nor 'tiers'"),
        ({"contract": True, "tiers": {"gold": ["1/1d"]}}, "and 'contract'"),
    ],
)
def test_what_nobody_can_mean_is_refused(
    processed: Processed, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(Broken, match=told):
        processed.put(Policy("quota", settings))


# ── without Envoy ────────────────────────────────────────────────────────────────────────────────────────


def call(tiers: dict[str, str] | None = None, target: bytes = b"/a?x=1&x=2", **headers: str) -> Call:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Call("GET", target, named, b"", tiers or {})


def test_each_tier_has_its_limits() -> None:
    step = quota({"tiers": {"gold": ["2/1d"], "free": "1/1d"}}, Windows())
    step.number = 0
    tiers = {"a": "gold", "b": "free"}
    for client, most in (("a", 2), ("b", 1)):
        for _ in range(most):
            step.request(call(tiers, x_tulle_client=client, x_tulle_way="contract"))
        with pytest.raises(Refusal) as raised:
            step.request(call(tiers, x_tulle_client=client, x_tulle_way="contract"))
        assert raised.value.status == 429
    with pytest.raises(Refusal) as raised:
        step.request(call(tiers, x_tulle_client="c", x_tulle_way="contract"))
    assert (raised.value.status, raised.value.error_type) == (403, "NoQuota")


def test_each_contract_has_its_own_windows() -> None:
    def asked(client: str, way: str = "contract") -> int:
        one = call(x_tulle_client=client, x_tulle_way=way)
        one.windows = {"a": ("2/1d",), "b": ()}
        try:
            step.request(one)
        except Refusal as refused:
            return refused.status
        return 200

    step = quota({"contract": True}, Windows())
    step.number = 0
    assert [asked("a") for _ in range(3)] == [200, 200, 429]
    assert [asked("b") for _ in range(3)] == [200, 200, 200]
    assert asked("c") == 403
    assert asked("a", "token") == 403  # of an issuer, which is nobody's contract
    step = quota({"contract": True, "limits": ["1/1d"]}, Windows())
    step.number = 0
    assert [asked("c") for _ in range(2)] == [200, 429]
    assert [asked("b") for _ in range(2)] == [200, 200]


def test_parts_of_a_key_tell_requests_apart() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"org": {"id": 7}, "roles": ["b", "a"]}).encode()).decode()
    asked = call(
        {"a": "gold"},
        x_tulle_client="a",
        x_tulle_way="contract",
        x_tulle_address="10.0.0.1",
        x_tulle_claims=claims,
        x_team="t",
    )
    found = {
        text: key_part(text)(asked)
        for text in (
            "client",
            "tier",
            "address",
            "path",
            "method",
            "header:X-Team",
            "query:x",
            "claim:org.id",
        )
    }
    assert found == {
        "client": "a",
        "tier": "gold",
        "address": "10.0.0.1",
        "path": "/a",
        "method": "GET",
        "header:X-Team": "t",
        "query:x": "1\x1e2",
        "claim:org.id": "7",
    }
    assert key_part("claim:roles")(asked) == "a\x1eb"
    assert key_part("claim:nothing")(asked) == ""
    assert key_part("body:$.a")(asked) == ""


def test_a_long_key_is_told_by_its_digest() -> None:
    windows = Windows()
    step = quota({"limits": ["1/1d"], "key": ["header:k"]}, windows)
    for value in ("x" * 5000, "x" * 5001):
        step.request(call(k=value))
        with pytest.raises(Refusal):
            step.request(call(k=value))
    assert all(len(key) < 100 for key in windows.changed)
