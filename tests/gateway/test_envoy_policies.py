"""What policies make of routes, limits and clusters; that Envoy does so is in `policies/`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.gateway.conftest import Mesh, wait_until
from tests.gateway.policies.conftest import policy_of
from tests.gateway.test_envoy import Load

from tulle.errors import Broken, Invalid
from tulle.gateway import envoy_files, envoy_routes
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_policies import merged, parts_of
from tulle.gateway.envoy_values import POLICIES, Door, Json
from tulle.gateway.front import Front
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import Kind, built_in_kinds
from tulle.gateway.policy import GatewayPolicy, ManagedService
from tulle.gateway.processing.plan import StepPlan

DOOR = Door(port=8123)
LIST = """
- {policy: cors, origins: ['https://a.example']}
- {policy: header-injection, request: {x-a: b}}
- {policy: rate-limit, limits: [5/1s, 9/1m]}
- {policy: ip-deny, addresses: [192.0.2.7]}
- {policy: body-limit, max_bytes: 10, operations: [{method: POST, path: /a}]}
"""


def changed(before: GatewayPolicy, after: GatewayPolicy) -> set[str]:
    one, other = envoy_files.render(before, DOOR), envoy_files.render(after, DOOR)
    return {name for name in one if one[name] != other[name]}


def first_routes(policy: GatewayPolicy) -> list[dict[str, Any]]:
    (host,) = envoy_routes.routes(policy)["virtual_hosts"]
    about = "/public/api/v1/first"
    return [r for r in host["routes"] if r["match"].get("path_separated_prefix") == about]


def test_a_change_of_policies_touches_routes_alone() -> None:
    plain = policy_of("[]")
    headers = policy_of("- {policy: header-injection, response: {x-a: b}}")
    assert changed(plain, headers) == {"routes"}
    assert changed(headers, policy_of("- {policy: ip-deny, addresses: [192.0.2.7]}")) == {"routes"}
    assert changed(plain, policy_of("- {policy: rate-limit, limits: 5/1s}")) == {"limits", "routes"}
    assert changed(plain, policy_of("- {policy: outlier-ejection}")) == {"clusters"}


def test_each_stands_where_the_list_says() -> None:
    nobody, narrow, alike, wide = first_routes(policy_of(LIST))
    assert (nobody["name"], nobody["direct_response"]) == ("first meant by nobody", {"status": 400})
    assert narrow["name"] == "first POST /a"
    assert (alike["name"], alike["direct_response"]) == ("first like POST /a", {"status": 400})
    assert wide["name"] == "first"
    said = wide["typed_per_filter_config"]
    names = {
        where: [f["name"] for f in said[where]["filter_chain"]["filters"]]
        for where in POLICIES
        if where in said
    }
    assert names == {
        "policies_before": ["0 cors vary", "0 cors"],
        "policies_known": ["1 header-injection"],
        "policies_after": ["3 ip-deny"],
    }
    assert said["0 cors"]["allow_methods"] == "GET, POST"
    counted = {
        k: v for k, v in wide["metadata"]["filter_metadata"]["tulle"].items() if k.startswith("limit_")
    }
    assert counted == {
        "limit_0": "5/1s",
        "limit_0_client": "first#0@contract",
        "limit_1": "9/1m",
        "limit_1_client": "first#1@contract",
    }
    sizes = [r["typed_per_filter_config"]["body"]["buffer"]["max_request_bytes"] for r in (narrow, wide)]
    assert sizes == [10, 10_000]


def test_what_cannot_hold_together_is_refused_where_it_is_rendered() -> None:
    bad = (Policy("rate-limit", {"limits": "1/1s"}), Policy("client-id"))
    with pytest.raises(Invalid, match="service 'first': 'client-id' stands after 'rate-limit'"):
        parts_of(ManagedService("first", (), 100, policies=bad))


def test_settings_meet() -> None:
    one: dict[str, Any] = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert merged(one, {"a": {"c": [2], "e": 3}, "d": 2}) == {"a": {"b": 1, "c": [1, 2], "e": 3}, "d": 2}
    assert one == {"a": {"b": 1, "c": [1]}, "d": 1}


def test_a_policy_outlives_the_file_that_remembers_it() -> None:
    services = policy_of(LIST).services
    read = msgspec.json.decode(msgspec.json.encode(services), type=list[ManagedService])
    assert tuple(read) == services
    assert json.dumps(envoy_routes.routes(GatewayPolicy.of(services=read)))


@pytest.mark.system
def test_policies_change_under_load_and_no_request_is_lost(mesh: Mesh) -> None:
    lists = (
        "[]",
        "- {policy: header-injection, response: {x-turn: a}}\n- {policy: compression}",
        "- {policy: rate-limit, limits: 100000/1s}\n- {policy: ip-deny, addresses: [192.0.2.1]}",
        "- {policy: body-limit, max_bytes: 500, operations: [{path: /x/predict}]}\n- {policy: timeout, seconds: 5}",
    )
    with Load(mesh) as load:
        for text in (*lists, *reversed(lists)):
            seen = len(load.answers)
            assert mesh.gateway.publish(policy_of(text)).confirmed
            wait_until(lambda seen=seen: len(load.answers) > seen + 10, "answers")  # type: ignore[misc]
    assert not load.lost
    assert len(load.answers) > 80


def test_nothing_passes_without_a_step_that_a_policy_needs(
    monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    said: Json = {"kind": "redact", "settings": {"a": 1}}
    registry = built_in_kinds()
    registry.add(Kind("redact", "", {}, "processor", dict, step=lambda _: said))
    monkeypatch.setattr("tulle.gateway.envoy_policies.known_kinds", lambda: registry)
    monkeypatch.setattr("tulle.gateway.policies.opening.known_kinds", lambda: registry)
    service = ManagedService("first", ("run/w/a.sock",), 100, policies=(Policy("redact"), Policy("redact")))
    (part,) = parts_of(service)
    assert list(part.steps) == [StepPlan(name, "redact", {"a": 1}) for name in ("redact", "redact 2")]
    with pytest.raises(Broken, match="first: the processor knows no step 'redact'"):
        gateway.check(GatewayPolicy.of(services=[service]))
    registry.add(Kind("odd", "", {}, "processor", dict, step=lambda _: {"a": 1}))
    with pytest.raises(Invalid, match="'odd' is no step of the processor"):
        parts_of(replace(service, policies=(Policy("odd"),)))


def test_an_api_over_a_service_does_not_bound_its_workers() -> None:
    front = Front("v1", "/orders/v1", serves="first")
    bounds = (Policy("concurrency-limit", {"requests": 5}),)
    with pytest.raises(Invalid, match="'concurrency-limit' is of the workers of 'first'"):
        parts_of(ManagedService("orders", (), 100, front=front, policies=bounds))
    assert parts_of(ManagedService("orders", (), 100, policies=bounds))
