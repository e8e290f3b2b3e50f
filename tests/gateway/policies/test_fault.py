"""`fault-injection` on the real Envoy."""

from __future__ import annotations

import time

import pytest
from tests.gateway.conftest import API, as_client, check_error
from tests.gateway.policies.conftest import Put

from tulle.errors import Invalid
from tulle.gateway.policies.listed import parse_policies

A = as_client("app-a")


@pytest.mark.system
def test_requests_fail_where_the_list_says_so(put: Put) -> None:
    mesh = put("- {policy: fault-injection, status: 418, status_percent: 100, operations: [{method: POST}]}")
    check_error(mesh.ask(f"{API}first/x", A, method="POST", body=b"{}"), 418, "InjectedFault")
    assert mesh.ask(f"{API}first/x", A).status == 200
    check_error(mesh.ask(f"{API}first/x", method="POST", body=b"{}"), 401, "InvalidClient")


@pytest.mark.system
def test_requests_are_late(put: Put) -> None:
    mesh = put("- {policy: fault-injection, delay_ms: 300, delay_percent: 100}")
    began = time.monotonic()
    assert mesh.ask(f"{API}first/x", A).status == 200
    assert time.monotonic() - began >= 0.25  # what is asserted is that it was held up


@pytest.mark.system
def test_a_part_of_them(put: Put) -> None:
    mesh = put("- {policy: fault-injection, status: 500, status_percent: 50}")
    found = {mesh.ask(f"{API}first/x", A).status for _ in range(60)}
    assert found == {200, 500}


def test_half_a_fault_is_refused() -> None:
    for settings in ("status: 500", "delay_ms: 5", "delay_percent: 5"):
        with pytest.raises(Invalid) as told:
            parse_policies(f"- {{policy: fault-injection, {settings}}}")
        assert "percent" in str(told.value.problems[0]) or "delay_ms" in str(told.value.problems[0])
    with pytest.raises(Invalid) as told:
        parse_policies("- policy: fault-injection")
    assert "injects nothing" in str(told.value.problems[0])
