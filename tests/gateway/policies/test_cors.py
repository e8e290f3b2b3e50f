"""`cors` on the real Envoy."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import API, Mesh, Reply, as_client, check_error
from tests.gateway.policies.conftest import Put

pytestmark = pytest.mark.system

PAGE = "https://app.example.com"
LISTED = """
- policy: ip-deny
  addresses: [192.0.2.7]
- policy: cors
  origins: ['https://app.example.com', 'https://*.example.org:8443']
  methods: [GET, POST]
  headers: [authorization, x-team]
  expose: [x-request-id]
  max_age: 600
- policy: rate-limit
  limits: 1000/1s
"""


def preflight(mesh: Mesh, origin: str, method: str = "POST") -> Reply:
    asked = {"origin": origin, "access-control-request-method": method}
    return mesh.ask(f"{API}first/x", asked, method="OPTIONS")


def test_a_page_of_a_named_origin_may_ask_and_call(put: Put) -> None:
    mesh = put(LISTED)
    for origin in (PAGE, "https://a.b.example.org:8443"):
        told = preflight(mesh, origin)
        assert told.status == 200
        assert told.headers["access-control-allow-origin"] == origin
        assert told.headers["access-control-allow-methods"] == "GET, POST"
        assert told.headers["access-control-allow-headers"] == "authorization, x-team"
        assert told.headers["access-control-max-age"] == "600"
        assert "access-control-allow-credentials" not in told.headers
        reply = mesh.ask(f"{API}first/x", {"origin": origin, **as_client("app-a")})
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == origin
        assert reply.headers["access-control-expose-headers"] == "x-request-id"


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.net",
        "http://app.example.com",
        "https://example.org:8443",
        "https://a.example.org",
        "https://evil.net/.example.org:8443",
        "null",
    ],
)
def test_another_page_may_not(put: Put, origin: str) -> None:
    mesh = put(LISTED)
    check_error(preflight(mesh, origin), 401, "InvalidClient")  # it is no preflight to be answered
    reply = mesh.ask(f"{API}first/x", {"origin": origin, **as_client("app-a")})
    assert "access-control-allow-origin" not in reply.headers


def test_a_page_may_read_a_refusal(put: Put) -> None:
    refused = put(LISTED).ask(f"{API}first/x", {"origin": PAGE})
    check_error(refused, 401, "InvalidClient")
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_what_is_nobodys_no_page_reads(put: Put) -> None:
    mesh, asked = put(LISTED), {"origin": PAGE, **as_client("app-a")}
    for path, more, status, kind in (
        ("/nothing", {}, 404, "UnknownService"),
        (f"{API}nobody/x", {}, 404, "UnknownService"),
        (f"{API}first/%2fx", {}, 400, "InvalidRequest"),
        (f"{API}first/x", {"x-long": "y" * 40_000}, 431, "HeadersTooLarge"),
    ):
        refused = mesh.ask(path, {**asked, **more})
        check_error(refused, status, kind)
        assert "access-control-allow-origin" not in refused.headers


def test_every_page_where_the_list_says_so(put: Put) -> None:
    mesh = put("- {policy: cors, origins: ['*']}")
    assert preflight(mesh, "https://anywhere.example").status == 200
    mesh = put(f"- {{policy: cors, origins: ['{PAGE}'], credentials: true}}")
    assert preflight(mesh, PAGE).headers["access-control-allow-credentials"] == "true"
