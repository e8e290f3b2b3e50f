"""The files of routes as bytes say what the routes are as values, and what has not changed is not made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.gateway.conftest import CONTRACTS, PLENTY, WORKERS, policy

from tulle.gateway import envoy_files, envoy_route_files
from tulle.gateway.envoy_index import LONGEST_LIST
from tulle.gateway.envoy_route_files import RouteFiles, version_of
from tulle.gateway.envoy_values import Door
from tulle.gateway.envoy_wire import read, written
from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.policy import Contract, GatewayPolicy, ManagedService, RateLimit

RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"
LIST = """
- {policy: ip-allow, addresses: [127.0.0.1]}
- {policy: header-injection, request: {x-from: here}}
- {policy: quota, limits: [10/1d], key: [client]}
"""


def many(**first: Any) -> GatewayPolicy:
    """More services than a list holds, an API, and policies that Envoy and the processor carry out."""
    policies = tuple(one.policy for one in parse_policies(LIST))
    external = External((Upstream("https://orders.example.com"),))
    front = Front("v1", "/orders/v1", external=external, only_declared=True, operations=(("GET", "/a"),))
    services = [ManagedService(f"s-{n}", (f"run/w/{n}.sock",), 100) for n in range(LONGEST_LIST + 1)]
    services[0] = ManagedService("s-0", ("run/w/0.sock",), 100, policies=policies, **first)
    usual = policy(WORKERS, CONTRACTS)
    return GatewayPolicy.of(
        services=[*services, ManagedService("orders", (), 100, front=front)],
        clients=usual.clients,
        contracts=[Contract("app-a", "orders", PLENTY), Contract("app-b", "s-0", PLENTY)],
    )


def resources(document: Mapping[str, Any]) -> Any:
    """The resources of a file of values, as they read when they are written as bytes."""
    return read(RESPONSE, written(RESPONSE, dict(document)))["resources"]


@pytest.mark.parametrize("of", [policy(WORKERS, CONTRACTS), many(), GatewayPolicy()])
def test_bytes_say_what_the_values_say(of: GatewayPolicy) -> None:
    files, said = RouteFiles(1), envoy_files.render(of, Door(), ("routes", "inner"))
    for name, content in (("routes", files.front(of)), ("inner", files.inner(of))):
        found = read(RESPONSE, content)
        assert found["resources"] == resources(said[name]), name
        assert found["version_info"] == version_of(content)


def test_of_what_has_not_changed_nothing_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    usual = envoy_route_files.front_routes

    def noted(service: ManagedService, contracts: Any, processors: int) -> Any:
        made.append(service.name)
        return usual(service, contracts, processors)

    monkeypatch.setattr(envoy_route_files, "front_routes", noted)
    files = RouteFiles(1)
    before = files.front(many())
    assert len(made) == LONGEST_LIST + 2
    made.clear()
    assert files.front(many()) == before
    assert made == []
    after = files.front(many(timeout_seconds=3))
    assert made == ["s-0"]
    assert after == RouteFiles(1).front(many(timeout_seconds=3))  # as if all had been made anew
    assert after != before


def test_what_is_in_force_already_is_made_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    files, whole = RouteFiles(1), many()
    assert not files.warm_up(whole, 0.0)
    assert files.warm_up(whole, 60.0)
    made: list[str] = []
    monkeypatch.setattr(envoy_route_files, "front_routes", lambda one, *_: made.append(one.name) or [])
    monkeypatch.setattr(envoy_route_files, "inner_routes", lambda one: made.append(one.name) or [])
    assert files.warm_up(whole, 0.0)
    ready = (files.front(whole), files.inner(whole))
    assert made == []
    monkeypatch.undo()
    assert ready == (RouteFiles(1).front(whole), RouteFiles(1).inner(whole))


def test_another_contract_is_another_route() -> None:
    files = RouteFiles(1)
    before = files.front(policy(WORKERS, {("app-a", "first"): PLENTY}))
    after = files.front(policy(WORKERS, {("app-b", "first"): PLENTY}))
    assert (b"app-a" in before, b"app-b" in before) == (True, False)
    assert (b"app-a" in after, b"app-b" in after) == (False, True)
    slower = files.front(policy(WORKERS, {("app-b", "first"): RateLimit(1, 1000)}))
    assert slower != after  # the entry of a contract tells its limit


def test_who_is_gone_is_forgotten() -> None:
    files = RouteFiles(1)
    files.front(many())
    assert b"orders" not in files.front(policy(WORKERS, CONTRACTS))
    assert not [path for path in files._front.made if "orders" in path]


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\x10", b"\n\x100123456789abcdef", b"{}", b"\xff" * 40])
def test_what_is_not_whole_has_no_version(content: bytes) -> None:
    assert version_of(content) is None


def test_a_changed_byte_is_seen() -> None:
    content = RouteFiles(1).front(policy(WORKERS, CONTRACTS))
    assert version_of(content) is not None
    assert version_of(content[:-1]) is None
    assert version_of(content.replace(b"app-a", b"app-z", 1)) is None
