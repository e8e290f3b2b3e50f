"""Contracts with limits over several periods, on the real Envoy."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import API, SECRETS, WORKERS, Mesh, as_client

from tulle.gateway.envoy_access import buckets, counted_by
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret


def layered(*limits: str) -> Contract:
    first, *more = map(RateLimit.parse, limits)
    return Contract("app-a", "first", first, more=tuple(more))


def publish(mesh: Mesh, *contracts: Contract) -> None:
    mesh.gateway.publish(
        GatewayPolicy.of(
            services=[ManagedService("first", WORKERS["first"], 10_000)],
            clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
            contracts=contracts,
        )
    )


def statuses(mesh: Mesh, times: int, client: str = "app-a") -> list[int]:
    return [mesh.ask(API + "first/x", as_client(client)).status for _ in range(times)]


def test_what_one_limit_needs_is_all_that_is_asked() -> None:
    services = [ManagedService("first", (), 10_000)]
    assert len(counted_by(services, [layered("5/1s").windows])) == 1
    both = [layered("5/1s", "9/1d").windows, (RateLimit.parse("3/1s"),)]
    assert len(counted_by(services, both)) == 2
    assert [b["token_bucket"]["max_tokens"] for b in buckets(services, both)] == [3, 5, 9]


@pytest.mark.system
@pytest.mark.parametrize("limits", [("100/1s", "3/1d"), ("3/1d", "100/1s"), ("100/1s", "50/1m", "3/1d")])
def test_the_tightest_of_several_limits_holds(mesh: Mesh, limits: tuple[str, ...]) -> None:
    publish(mesh, layered(*limits), Contract("app-b", "first", RateLimit.parse("100/1s")))
    assert statuses(mesh, 5) == [200, 200, 200, 429, 429]
    assert set(statuses(mesh, 5, "app-b")) == {200}  # who has one limit is not held to another's layers


@pytest.mark.system
def test_the_headers_tell_of_the_limit_that_is_nearest(mesh: Mesh) -> None:
    publish(mesh, layered("50/1s", "4/1d"))
    reply = mesh.ask(API + "first/x", as_client("app-a"))
    assert reply.headers["x-ratelimit-limit"].startswith("4")
    assert reply.headers["x-ratelimit-remaining"] == "3"
