"""Pages of other origins at APIs that the gateway answers itself, wholly or in part, on the real Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    WORKERS,
    Mesh,
    Reply,
    as_client,
    check_error,
    policy,
)
from tests.gateway.external import Service

from tulle.gateway.front import External, Front, MockAnswer, Upstream
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import Contract, GatewayPolicy, ManagedService

pytestmark = pytest.mark.system

PAGE, OTHER = "https://app.example.com", "https://b.shop.example"
STRANGER = "https://evil.example.com"
LISTED = """
- {policy: ip-deny, addresses: [192.0.2.7]}
- policy: cors
  origins: ['https://app.example.com', 'https://*.shop.example']
  credentials: true
  expose: [x-request-id]
"""
OPERATIONS = (("GET", "/items"), ("POST", "/items"))
MOCKS = (MockAnswer("GET", "/items", 200, "", "application/json", "[]"),)


@pytest.fixture(scope="module")
def shop() -> Iterator[Service]:
    with Service("the shop") as service:
        yield service


def put(mesh: Mesh, listed: str = LISTED, port: int = 0, **more: object) -> Mesh:
    external = External((Upstream(f"http://127.0.0.1:{port}"),)) if port else None
    mocks = () if port else MOCKS
    front = Front("v1", "/shop/v1", only_declared=True, operations=OPERATIONS, external=external, mocks=mocks)
    policies = policies_in(parse_policies(listed), "")
    one = ManagedService("shop", (), 10_000, front=front, policies=policies, **more)  # type: ignore[arg-type]
    usual = policy(WORKERS, CONTRACTS)
    contracts = [*usual.contracts, Contract("app-a", "shop", PLENTY)]
    whole = GatewayPolicy.of(services=[*usual.services, one], clients=usual.clients, contracts=contracts)
    assert mesh.gateway.publish(whole).confirmed
    return mesh


def preflight(mesh: Mesh, path: str, origin: str = PAGE, **headers: str) -> Reply:
    asked = {"origin": origin, "access-control-request-method": "POST", **headers}
    return mesh.ask(f"/shop/v1{path}", asked, method="OPTIONS")


def ask(mesh: Mesh, path: str, origin: str = PAGE, method: str = "GET") -> Reply:
    return mesh.ask(f"/shop/v1{path}", {"origin": origin, **as_client("app-a")}, method=method)


def test_a_page_may_call_an_external_service(mesh: Mesh, shop: Service) -> None:
    put(mesh, port=shop.port)
    for origin in (PAGE, OTHER):
        for path in ("/items", "/nothing"):  # a browser asks for whatever the page has
            told = preflight(mesh, path, origin)
            assert (told.status, told.headers["access-control-allow-origin"]) == (200, origin)
            assert told.headers["access-control-allow-methods"] == "GET, POST"
        assert ask(mesh, "/items", origin).headers["access-control-allow-origin"] == origin
        for path, method, status in [("/nothing", "GET", 404), ("/items", "DELETE", 405)]:
            refused = ask(mesh, path, origin, method)
            assert (refused.status, refused.headers["access-control-allow-origin"]) == (status, origin)
            assert refused.headers["access-control-allow-credentials"] == "true"
            assert refused.headers["access-control-expose-headers"] == "x-request-id"
    assert ask(mesh, "/items", method="DELETE").headers["allow"] == "GET, POST"


def test_a_stranger_and_what_is_no_question_go_on_as_before(mesh: Mesh, shop: Service) -> None:
    put(mesh, port=shop.port)
    before = len(shop.heads)
    check_error(preflight(mesh, "/items", STRANGER), 401, "InvalidClient")
    for headers in ({"access-control-request-method": ""}, {"origin": STRANGER}):
        shown = {**as_client("app-a"), **headers}
        check_error(preflight(mesh, "/items", **shown), 405, "MethodNotAllowed")
    refused = ask(mesh, "/nothing", STRANGER)
    assert (
        "access-control-allow-origin" not in check_error(refused, 404, "UnknownOperation") | refused.headers
    )
    assert len(shop.heads) == before


def test_a_page_may_read_examples(mesh: Mesh) -> None:
    put(mesh)
    assert preflight(mesh, "/items").headers["access-control-allow-origin"] == PAGE
    reply = ask(mesh, "/items")
    assert (reply.body, reply.headers["x-tulle-mock"]) == (b"[]", "true")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-origin" not in ask(mesh, "/items", STRANGER).headers
    put(mesh, "- {policy: cors, origins: ['*']}")
    anybody = ask(mesh, "/items", STRANGER)
    assert anybody.headers["access-control-allow-origin"] == STRANGER
    assert "access-control-allow-credentials" not in anybody.headers


def test_a_page_may_read_that_an_api_or_a_service_has_ended(mesh: Mesh) -> None:
    put(mesh, stopped="retired")
    assert preflight(mesh, "/items").status == 200
    gone = ask(mesh, "/items")
    check_error(gone, 410, "ApiRetired")
    assert gone.headers["access-control-allow-origin"] == PAGE
    usual = policy(WORKERS, CONTRACTS)
    listed = policies_in(parse_policies(LISTED), "")
    services = [
        replace(one, policies=listed, stopped="disabled") if one.name == "first" else one
        for one in usual.services
    ]
    assert mesh.gateway.publish(replace(usual, services=tuple(services))).confirmed
    stopped = mesh.ask(f"{API}first/x", {"origin": PAGE, **as_client("app-a")})
    check_error(stopped, 503, "ServiceDisabled")
    assert stopped.headers["access-control-allow-origin"] == PAGE
