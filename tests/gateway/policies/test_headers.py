"""`header-injection` and `header-removal` on the real Envoy."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import API, as_client
from tests.gateway.policies.conftest import Put

from tulle.config import PolicySet
from tulle.errors import Invalid
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import parse_policies


@pytest.mark.system
def test_headers_are_set_for_the_service_and_for_the_caller(put: Put) -> None:
    mesh = put("""
- policy: header-injection
  request: {X-Team: 'risk 100% ${client}', x-from: '${address}'}
  response: {x-served-by: '${service} ${request_id}'}
""")
    reply = mesh.ask(f"{API}first/x", {"x-team": "mine", **as_client("app-a")})
    seen = reply.json()["headers"]
    assert seen["x-team"] == "risk 100% app-a"
    assert seen["x-from"] == "127.0.0.1"
    assert reply.headers["x-served-by"] == f"first {reply.headers['x-request-id']}"


@pytest.mark.system
def test_headers_are_taken_away_in_the_order_of_the_list(put: Put) -> None:
    sent = {"x-debug-1": "a", "x-debug-2": "b", "x-keep": "c", **as_client("app-a")}
    taken = "{policy: header-removal, request: ['x-debug-*'], response: [content-type]}"
    set_ = "{policy: header-injection, request: {x-debug-3: d}}"
    reply = put(f"- {taken}\n- {set_}").ask(f"{API}first/x", sent)
    seen = reply.json()["headers"]
    assert (seen.get("x-debug-1"), seen.get("x-debug-2"), seen["x-keep"]) == (None, None, "c")
    assert seen["x-debug-3"] == "d"
    assert "content-type" not in reply.headers
    seen = put(f"- {set_}\n- {taken}").ask(f"{API}first/x", sent).json()["headers"]
    assert "x-debug-3" not in seen


@pytest.mark.system
def test_no_other_spelling_stands_beside_what_is_set_or_taken_away(put: Put) -> None:
    """Many servers make one variable of `x-team` and `x_team`."""
    sent = {"risk_team": "mine", "Risk-Team": "mine", "a-b_c": "mine", "a_b-c": "mine", "ab_c": "kept"}
    gone = {"my_debug": "1", "my_debug_2": "1", "my-debug_3": "1", "mydebug_4": "kept", "client-name": "kept"}
    seen = put("""
- {policy: header-injection, request: {risk-team: ours, a-b-c: ours}}
- {policy: header-removal, request: ['my-debug*', 'x_r*', 'content_*']}
""").ask(f"{API}first/x", {**sent, **gone, **as_client("app-a")})
    own = {"risk-team": "ours", "a-b-c": "ours", "ab_c": "kept", "mydebug_4": "kept", "client-name": "kept"}
    names = {"risk", "a-b", "a_b", "ab_", "my-", "my_", "myd"}
    found = seen.json()["headers"].items()
    assert seen.json()["headers"]["x-request-id"] == seen.headers["x-request-id"]
    assert {k: v for k, v in found if k.startswith(tuple(names)) or k == "client-name"} == own


@pytest.mark.system
def test_what_could_be_said_once_is_in_force_where_it_is_recorded(put: Put) -> None:
    taken = {"policy": "header-removal", "response": ["server", "content-type", "date*"]}
    own = Policy("header-injection", {"response": {"date": "now", "x-own": "a"}})
    of_mesh = MeshPolicies({"usual": PolicySet((taken,))})
    headers = (
        put("[]", policies=of_mesh.joined(Target("first", "prod"), (own,)))
        .ask(f"{API}first/x", as_client("app-a"))
        .headers
    )
    assert (headers["x-own"], headers.get("content-type")) == ("a", None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("policy: header-injection", "policy 'header-injection' says nothing"),
        ("{policy: header-injection, request: {x-tulle-client: app-b}}", "the gateway's own"),
        ("{policy: header-injection, request: {Content-Length: '0'}}", "the gateway's own"),
        ("{policy: header-injection, request: {Authorization: Bearer x}}", "ends at the gateway"),
        ("{policy: header-injection, request: {'x y': a}}", "no name of a header"),
        ('{policy: header-injection, request: {x-a: "a\\nb: c"}}', "one line"),
        ("{policy: header-injection, request: {x-a: '${clinet}'}}", "nothing is known as ${clinet}"),
        ("{policy: header-removal, request: ['*']}", "'*' is no name of a header"),
        ("{policy: header-removal, response: [x-a, 'date*']}", "every answer has the gateway's own 'date*'"),
        ("{policy: header-removal, response: [Server]}", "every answer has the gateway's own 'Server'"),
        ("{policy: header-injection, response: {date: now}}", "every answer has the gateway's own 'date'"),
        ("{policy: header-removal, request: ['con*']}", "that a request needs"),
        ("{policy: header-removal, request: [host]}", "the gateway's own"),
    ],
)
def test_what_a_policy_may_not_change_is_refused(settings: str, said: str) -> None:
    with pytest.raises(Invalid) as told:
        parse_policies(f"- {settings}")
    assert said in str(told.value.problems[0])
