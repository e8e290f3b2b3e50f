"""`timeout`, `retry`, `circuit-breaker`, `concurrency-limit` and `outlier-ejection` on the real Envoy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import API, Mesh, as_client, check_error
from tests.gateway.policies.conftest import Put, policy_of

from tulle.errors import Invalid
from tulle.gateway import envoy_clusters
from tulle.gateway.policies.listed import parse_policies

A = as_client("app-a")


def at_once(mesh: Mesh, target: str, times: int) -> list[int]:
    with ThreadPoolExecutor(times) as threads:
        return sorted(threads.map(lambda _: mesh.ask(f"{API}{target}", A).status, range(times)))


@pytest.mark.system
def test_a_slow_answer_is_not_waited_for(put: Put) -> None:
    mesh = put("- {policy: timeout, seconds: 0.2, operations: [{path: /a/slow}]}")
    check_error(mesh.ask(f"{API}first/a/slow", A), 504, "ServiceTimeout")
    assert mesh.ask(f"{API}first/b/slow", A).status == 200


@pytest.mark.system
def test_a_request_that_fails_is_sent_again(put: Put, tmp_path: Path) -> None:
    fails_once = tmp_path / "fails-once"
    headers = A | {"x-fail-once": str(fails_once)}
    assert put("[]").ask(f"{API}first/x", headers).status == 503
    fails_once.unlink()
    mesh = put("- {policy: retry, times: 1, cases: [unavailable]}")
    assert mesh.ask(f"{API}first/x", headers).status == 200
    assert fails_once.exists()


@pytest.mark.system
def test_so_many_at_once(put: Put) -> None:
    mesh = put("- {policy: concurrency-limit, requests: 2}")
    found = at_once(mesh, "first/slow", 5)
    assert found.count(200) == 2
    refused = [one for one in found if one != 200]
    assert refused == [503, 503, 503]
    assert at_once(mesh, "first/x", 2) == [200, 200]


@pytest.mark.system
def test_what_is_more_than_may_wait_is_refused(put: Put) -> None:
    mesh = put("- {policy: circuit-breaker, requests: 1}")
    found = at_once(mesh, "first/slow", 6)
    assert (
        1 <= found.count(200) <= 2
    )  # Envoy looks and counts in two steps: each of its threads may let one in
    assert found.count(503) == 6 - found.count(200)


@pytest.mark.system
def test_a_worker_that_keeps_failing_gets_nothing(put: Put) -> None:
    mesh = put("- {policy: outlier-ejection, errors: 2, seconds: 30, most_percent: 100}")
    failing = A | {"x-fail": "first-1"}
    for _ in range(40):
        mesh.ask(f"{API}first/x", failing)
    assert {mesh.ask(f"{API}first/x", failing).status for _ in range(10)} == {200}


def test_bounds_are_never_wider_than_without() -> None:
    def threshold(text: str) -> dict[str, Any]:
        service = next(s for s in policy_of(text).services if s.name == "first")
        (cluster,) = envoy_clusters.clusters(service)
        (found,) = cluster["circuit_breakers"]["thresholds"]
        return dict(found)

    usual = threshold("[]")
    assert threshold("- {policy: circuit-breaker, connections: 100000, retries: 100000}") == usual
    both = "- {policy: circuit-breaker, requests: 50}\n- {policy: concurrency-limit, requests: 30, queue: 5}"
    assert threshold(both) == usual | {"max_requests": 35, "max_connections": 30, "max_pending_requests": 5}


def test_bounds_are_of_the_whole_service() -> None:
    for kind in ("circuit-breaker, requests: 5", "concurrency-limit, requests: 5", "outlier-ejection"):
        with pytest.raises(Invalid) as told:
            parse_policies(f"- {{policy: {kind}, operations: [{{path: /a}}]}}")
        assert "operations" in str(told.value.problems[0])
    with pytest.raises(Invalid) as told:
        parse_policies("- policy: circuit-breaker")
    assert "bounds nothing" in str(told.value.problems[0])
