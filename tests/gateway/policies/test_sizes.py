"""`body-limit` and `header-limit` on the real Envoy."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import API, as_client, check_error
from tests.gateway.policies.conftest import Put

pytestmark = pytest.mark.system

A = as_client("app-a")


def test_a_larger_body_is_refused(put: Put) -> None:
    mesh = put("- {policy: body-limit, max_bytes: 100, operations: [{method: POST, path: /small}]}")
    assert mesh.ask(f"{API}first/small", A, method="POST", body=b"x" * 100).status == 200
    check_error(mesh.ask(f"{API}first/small", A, method="POST", body=b"x" * 101), 413, "RequestTooLarge")
    assert mesh.ask(f"{API}first/large", A, method="POST", body=b"x" * 9000).status == 200


def test_no_policy_widens_what_the_gateway_allows(put: Put) -> None:
    mesh = put("- {policy: body-limit, max_bytes: 1000000}\n- {policy: body-limit, max_bytes: 2000000}")
    check_error(mesh.ask(f"{API}first/x", A, method="POST", body=b"x" * 10_001), 413, "RequestTooLarge")


@pytest.mark.parametrize(
    ("limit", "target", "headers", "status", "error"),
    [
        ("max_count: 10", "x", {f"x-{n}": "1" for n in range(12)}, 431, "HeadersTooLarge"),
        ("max_bytes: 400", "x", {"x-a": "1" * 300, "x-b": "1" * 100}, 431, "HeadersTooLarge"),
        ("max_header_bytes: 200", "x", {"x-a": "1" * 300}, 431, "HeadersTooLarge"),
        ("max_url_bytes: 100", "x?" + "a" * 100, {}, 414, "AddressTooLong"),
    ],
)
def test_larger_headers_are_refused_before_anything_is_asked(
    put: Put, limit: str, target: str, headers: dict[str, str], status: int, error: str
) -> None:
    mesh = put(f"- {{policy: header-limit, {limit}}}")
    assert mesh.ask(f"{API}first/x", A).status == 200
    check_error(mesh.ask(f"{API}first/{target}", headers | A), status, error)
    check_error(mesh.ask(f"{API}first/{target}", headers), status, error)
    assert mesh.ask(f"{API}second/{target}", headers | as_client("app-b")).status == 200


def test_who_refuses_is_told(put: Put) -> None:
    reply = put("- {policy: header-limit, max_count: 10}").ask(
        f"{API}first/x", {f"x-{n}": "1" for n in range(12)} | as_client("app-a")
    )
    told = check_error(reply, 431, "HeadersTooLarge")["detailedMessage"]
    assert (
        told == "The request has more or longer headers than the service accepts. Send fewer or shorter ones"
    )
