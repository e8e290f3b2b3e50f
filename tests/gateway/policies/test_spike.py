"""`spike-control` on the real Envoy."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.gateway.conftest import API, SECRETS, Mesh, Reply, as_client, check_error
from tests.gateway.policies.conftest import Put

from tulle.errors import Invalid
from tulle.gateway.policies.listed import parse_policies
from tulle.serving.access import Access, Keys

A = as_client("app-a")


def at_once(mesh: Mesh, times: int, path: str = "first/x") -> list[tuple[int, float]]:
    def ask(_: int) -> tuple[int, float]:
        began = time.monotonic()
        return mesh.ask(API + path, A).status, time.monotonic() - began

    with ThreadPoolExecutor(times) as threads:
        return sorted(threads.map(ask, range(times)))


@pytest.mark.system
def test_without_a_queue_what_is_too_much_is_refused_at_once(put: Put) -> None:
    mesh = put("- {policy: spike-control, limit: 3/1h}")
    found = [status for status, _ in at_once(mesh, 6)]
    assert found == [200, 200, 200, 429, 429, 429]
    refused: Reply = mesh.ask(f"{API}first/x", A)
    check_error(refused, 429, "TooManyRequests")
    assert refused.headers["retry-after"] == "1"
    assert mesh.ask(f"{API}second/x", as_client("app-b")).status == 200


@pytest.mark.system
def test_some_wait_and_pass_when_there_is_room_again(put: Put) -> None:
    mesh = put("- {policy: spike-control, limit: 2/500ms, queue: 2, delay_ms: 700}")
    found = at_once(mesh, 8)
    passed = [seconds for status, seconds in found if status == 200]
    # two at once and two after they have waited; a slow machine may let one more through
    assert 4 <= len(passed) <= 5
    assert sum(seconds >= 0.6 for seconds in passed) >= 2
    assert [status for status, _ in found if status != 200] == [429] * (8 - len(passed))


@pytest.mark.system
def test_the_service_is_told_nothing_of_it(put: Put) -> None:
    mesh = put("- {policy: spike-control, limit: 1/1s, queue: 5, delay_ms: 1050}")
    for _ in range(2):  # the second one waits
        reply = mesh.ask(f"{API}first/x", A)
        assert reply.status == 200
    seen = reply.json()["headers"]
    assert not [name for name in seen if "delay" in name or "no-wait" in name]


@pytest.mark.system
def test_all_ways_and_operations_share_it(put: Put) -> None:
    ways = Access(contracts=True, api_keys=Keys("1000/1s"))
    mesh = put(
        "- {policy: spike-control, limit: 3/1h}\n"
        "- {policy: header-injection, response: {x-a: b}, operations: [{path: /other}]}",
        access=ways,
    )
    keyed = {"client_id": "app-a", "client_secret": SECRETS["app-a"]}
    found = [
        mesh.ask(API + path, headers).status for path in ("first/x", "first/other") for headers in (A, keyed)
    ]
    assert found == [200, 200, 200, 429]


@pytest.mark.system
def test_a_caller_cannot_say_how_long_others_wait(put: Put) -> None:
    mesh = put("- {policy: spike-control, limit: 1000/1s, queue: 5}")
    began = time.monotonic()
    assert mesh.ask(f"{API}first/x", A | {"x-envoy-fault-delay-request": "5000"}).status == 200
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [("limit: often", "'often'"), ("limit: 5/1s, delay_ms: 70", "a multiple of 50"), ("queue: 5", "limit")],
)
def test_what_controls_nothing_is_refused(settings: str, said: str) -> None:
    with pytest.raises(Invalid) as told:
        parse_policies(f"- {{policy: spike-control, {settings}}}")
    assert said in str(told.value.problems[0])
