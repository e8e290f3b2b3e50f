"""What is in the files, by what it means; that Envoy reads them so is in test_envoy."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from tests.gateway.conftest import CONTRACTS, PLENTY, SECRETS, WORKERS, policy

from tulle.gateway import envoy_clusters, envoy_files, envoy_routes
from tulle.gateway.envoy_values import Door
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret

DOOR = Door(port=8123)
USUAL = policy(WORKERS, CONTRACTS)


def changed(before: GatewayPolicy, after: GatewayPolicy) -> set[str]:
    one, other = envoy_files.render(before, DOOR), envoy_files.render(after, DOOR)
    return {name for name in one if one[name] != other[name]}


def route(name: str, of: GatewayPolicy = USUAL) -> dict[str, Any]:
    (host,) = envoy_routes.routes(of)["virtual_hosts"]
    return next(r for r in host["routes"] if r.get("name") == name)


def test_each_change_touches_only_the_files_it_must() -> None:
    assert changed(USUAL, policy(WORKERS, CONTRACTS)) == set()
    assert changed(USUAL, policy(WORKERS, CONTRACTS | {("app-c", "first"): PLENTY})) == {"routes"}
    faster = CONTRACTS | {("app-b", "first"): RateLimit(7, 1000)}
    assert changed(USUAL, policy(WORKERS, faster)) == {"limits", "routes"}
    assert changed(USUAL, policy(WORKERS | {"first": ("run/w/new.sock",)}, CONTRACTS)) == {"clusters"}
    fewer = GatewayPolicy.of(services=USUAL.services, clients=USUAL.clients[:-1], contracts=USUAL.contracts)
    assert changed(USUAL, fewer) == {"auth"}
    assert changed(USUAL, policy(WORKERS, CONTRACTS, timeout_seconds=1)) == {"inner", "routes"}


def test_a_request_is_made_again_only_where_it_may_be() -> None:
    usual, once = (
        route("first", policy(WORKERS, CONTRACTS, may_repeat=may))["route"] for may in (True, False)
    )
    assert "reset" in usual["retry_policy"]["retry_on"].split(",")
    assert "reset" not in once["retry_policy"]["retry_on"].split(",")
    patient = route("first", policy(WORKERS, CONTRACTS, timeout_seconds=600))["route"]
    assert (patient["timeout"], patient["idle_timeout"]) == ("600.000s", "600.000s")


def test_the_version_of_a_file_tells_its_content() -> None:
    one = envoy_files.render(USUAL, DOOR)
    other = envoy_files.render(policy(WORKERS, {}), DOOR)
    assert one["auth"]["version_info"] == other["auth"]["version_info"]
    assert one["limits"]["version_info"] != other["limits"]["version_info"]


def test_no_secret_is_in_any_file() -> None:
    text = json.dumps([envoy_files.render(USUAL, DOOR), envoy_files.static_twin(USUAL, DOOR)])
    assert not [secret for secret in SECRETS.values() if secret in text]
    assert hash_secret(SECRETS["app-a"]) in text


def test_a_route_admits_its_clients_and_denies_all_others() -> None:
    rules = route("first")["typed_per_filter_config"]["contract"]["rbac"]["rules"]
    assert rules["action"] == "ALLOW"  # who is in none of these is denied
    admitted = [
        one["header"]["string_match"]["exact"]
        for each in rules["policies"].values()
        for one in each["principals"]
    ]
    assert sorted(admitted) == ["app-a", "app-b"]


def test_of_many_clients_a_route_has_a_map() -> None:
    many = [f"app-{number}" for number in range(40)]
    made = GatewayPolicy.of(
        services=[ManagedService("first", WORKERS["first"], 10_000)],
        clients=[Client(one, hash_secret(one)) for one in many],
        contracts=[Contract(one, "first", PLENTY) for one in many],
    )
    rules = route("first", made)["typed_per_filter_config"]["contract"]["rbac"]["matcher"]
    admitted = rules["matcher_tree"]["exact_match_map"]["map"]
    assert {a["action"]["typed_config"]["action"] for a in admitted.values()} == {"ALLOW"}
    assert sorted(admitted) == sorted(many)
    assert rules["on_no_match"]["action"]["typed_config"]["action"] == "DENY"


def test_what_is_written_is_what_is_rendered() -> None:
    rendered, written = envoy_files.render(USUAL, DOOR), envoy_files.written(USUAL, DOOR, envoy_files.FILES)
    assert {name: json.loads(content) for name, content in written.items()} == json.loads(
        json.dumps(rendered)
    )


def test_a_service_without_contracts_admits_nobody() -> None:
    rules = route("first", policy(WORKERS, {}))["typed_per_filter_config"]["contract"]["rbac"]["matcher"]
    assert set(rules) == {"on_no_match"}
    assert rules["on_no_match"]["action"]["typed_config"]["action"] == "DENY"


def test_a_route_leads_to_its_service_only() -> None:
    first = route("first")
    assert first["match"] == {"path_separated_prefix": "/public/api/v1/first"}
    assert first["route"]["cluster"] == "first"
    assert first["metadata"]["filter_metadata"]["tulle"]["service"] == "first"
    buffer = first["typed_per_filter_config"]["body"]["buffer"]
    assert buffer == {"max_request_bytes": 10_000}


def test_buckets_for_each_limit() -> None:
    found = {
        tuple(entry.get("value", entry["key"]) for entry in d["entries"]): d["token_bucket"]
        for d in envoy_files.limits(USUAL)["descriptors"]
    }
    assert set(found) == {("contracts_of", str(limit), "client") for limit in CONTRACTS.values()}
    bucket = {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "60.000s"}
    assert found["contracts_of", "3/1m", "client"] == bucket


def test_limits_that_are_no_longer_needed_stay_beside_new_ones() -> None:
    def rendered(limit: str) -> bytes:
        made = policy(WORKERS, {("app-a", "first"): RateLimit.parse(limit)})
        return msgspec.json.encode(envoy_files.render(made, DOOR)["limits"])

    def sizes(file: bytes) -> list[int]:
        found = msgspec.json.decode(file)["resources"][0]["typed_config"]["descriptors"]
        return [one["token_bucket"]["max_tokens"] for one in found]

    first, second = rendered("1/1m"), rendered("2/1m")
    both = envoy_files.with_former_limits(second, first)
    assert sizes(both) == [1, 2]
    assert envoy_files.with_former_limits(first, both) == both
    document = msgspec.json.decode(first)
    limits = document["resources"][0]["typed_config"]
    limits["descriptors"] *= envoy_files.MOST_FORMER + 1
    many = msgspec.json.encode(document)
    assert sizes(envoy_files.with_former_limits(second, many)) == [2]


def test_the_listener_does_not_depend_on_the_policy() -> None:
    assert (
        envoy_files.render(USUAL, DOOR)["listeners"] == envoy_files.render(GatewayPolicy(), DOOR)["listeners"]
    )


def test_workers_are_reached_by_socket_or_by_address() -> None:
    service = ManagedService("one", ("run/w/x.sock", "127.0.0.1:81", "[::1]:82"), 1)
    (place,) = envoy_clusters.clusters(service)[0]["load_assignment"]["endpoints"]
    assert [e["endpoint"]["address"] for e in place["lb_endpoints"]] == [
        {"pipe": {"path": "run/w/x.sock"}},
        {"socket_address": {"address": "127.0.0.1", "port_value": 81}},
        {"socket_address": {"address": "::1", "port_value": 82}},
    ]
