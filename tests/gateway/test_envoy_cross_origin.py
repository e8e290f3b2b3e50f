"""Pages of other origins at APIs that the gateway answers itself, wholly or in part, on the real Envoy."""

from __future__ import annotations

import json
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

from tulle.errors import Invalid
from tulle.gateway.envoy_routes import front_routes
from tulle.gateway.envoy_values import Json
from tulle.gateway.front import External, Front, MockAnswer, Upstream
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import Backend, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.serving.traffic import split

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


def put(
    mesh: Mesh,
    listed: str = LISTED,
    port: int = 0,
    *,
    limit: RateLimit = PLENTY,
    declared: bool = True,
    **more: object,
) -> Mesh:
    external = External((Upstream(f"http://127.0.0.1:{port}"),)) if port else None
    mocks = () if port else MOCKS
    front = Front(
        "v1", "/shop/v1", only_declared=declared, operations=OPERATIONS, external=external, mocks=mocks
    )
    policies = policies_in(parse_policies(listed), "")
    one = ManagedService("shop", (), 10_000, front=front, policies=policies, **more)  # type: ignore[arg-type]
    usual = policy(WORKERS, CONTRACTS)
    contracts = [*usual.contracts, Contract("app-a", "shop", limit)]
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
    assert ask(mesh, "/items", method="DELETE").headers["allow"] == "GET, HEAD, POST"


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


def test_what_a_service_says_of_pages_itself_holds_for_none(mesh: Mesh, shop: Service) -> None:
    its_own = {
        "access-control-allow-origin": "*",
        "Access-Control-Allow-Credentials": "true",
        "access-control-allow-methods": "DELETE",
        "access-control-allow-headers": "*",
        "access-control-expose-headers": "x-secret",
        "access-control-max-age": "86400",
        "access-control-allow-private-network": "true",
        "x-other": "1",
    }

    def allowed(origin: str, says: dict[str, str] = its_own, method: str = "GET") -> dict[str, str]:
        asked = {"origin": origin} if origin else {}
        asked |= {"x-answers": json.dumps(says), "access-control-request-method": "GET"}
        reply = mesh.ask("/shop/v1/items", asked | as_client("app-a"), method=method)
        assert (reply.status, reply.headers["x-other"]) == (200, "1")
        return {name: said for name, said in reply.headers.items() if name.startswith("access-control-")}

    page = {"access-control-allow-origin": PAGE, "access-control-expose-headers": "x-request-id"}
    listed = LISTED.replace("credentials: true", "credentials: false")
    put(mesh, listed, shop.port)
    assert allowed(PAGE) == page
    for origin in (STRANGER, "null", ""):
        assert allowed(origin) == {}
        assert allowed(origin, its_own | {"access-control-allow-origin": STRANGER}) == {}
    put(mesh, listed + "- {policy: public, limit: 1000/1s}", shop.port, declared=False)
    assert allowed(STRANGER, method="OPTIONS") == {}  # a question that only the service answers
    put(mesh, "[]", shop.port)
    assert (
        allowed(STRANGER)["access-control-allow-origin"] == "*"
    )  # where no list says anything, all is its own


def test_caches_are_told_that_answers_differ_by_origin(mesh: Mesh, shop: Service) -> None:
    def varies(path: str, origin: str, **said: str) -> list[str]:
        shown = {"x-answers": json.dumps(said)} | ({"origin": origin} if origin else {})
        reply = mesh.ask(f"/shop/v1{path}", shown | as_client("app-a"))
        return sorted(reply.headers.get("vary", "").lower().replace(" ", "").split(","))

    for port in (shop.port, 0):
        put(mesh, port=port)
        for origin in (PAGE, STRANGER, ""):
            for path in ("/items", "/nothing"):  # a refusal may be kept, too
                assert varies(path, origin) == ["origin"]
    assert preflight(mesh, "/items").headers["vary"].lower() == "origin"
    refused = mesh.ask("/shop/v1/items", {"origin": PAGE})
    assert (refused.status, refused.headers["vary"].lower()) == (401, "origin")
    put(mesh, port=shop.port)
    assert varies("/items", PAGE, vary="accept-language") == ["accept-language", "origin"]
    put(mesh, "[]", shop.port)
    assert varies("/items", PAGE) == [""]


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


@pytest.mark.parametrize("answers", ["examples", "an external service"])
def test_a_page_may_read_why_it_was_refused(mesh: Mesh, shop: Service, answers: str) -> None:
    port = shop.port if answers == "an external service" else 0

    def refused(status: int, client: str, path: str = "/items", method: str = "GET") -> None:
        shown = as_client(client) if client else {}
        for origin, may_read in [(PAGE, True), (OTHER, True), (STRANGER, False), ("", False)]:
            told = {"origin": origin} if origin else {}
            reply = mesh.ask(f"/shop/v1{path}", {**told, **shown}, method=method)
            assert reply.status == status
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers.get("access-control-allow-origin") == (origin if may_read else None)
            allowed = {name for name in reply.headers if name.startswith("access-control-")}
            assert len(allowed) == (3 if may_read else 0)

    put(mesh, port=port)
    for path, method in [("/items", "GET"), ("/nothing", "GET"), ("/items", "DELETE")]:
        refused(401, "", path, method)
    refused(403, "app-b")
    refused(404, "app-a", "/nothing")
    refused(405, "app-a", method="DELETE")
    put(mesh, port=port, limit=RateLimit.parse("1/1m" if port else "1/2m"))  # each its own bucket
    assert ask(mesh, "/items").status == 200
    refused(429, "app-a")
    put(mesh, LISTED.replace("192.0.2.7", "127.0.0.1"), port)
    for path in ("/items", "/nothing"):
        refused(403, "app-a", path)


def test_pages_ask_before_they_call_where_an_operation_has_policies_of_its_own(mesh: Mesh) -> None:
    more = "- {policy: header-injection, response: {x-of: items}, operations: [{path: /items}]}\n"
    put(mesh, LISTED + more)
    told = preflight(mesh, "/items")
    assert (told.status, told.headers.get("access-control-allow-origin")) == (200, PAGE)
    assert ask(mesh, "/items").headers["access-control-allow-origin"] == PAGE
    assert ask(mesh, "/items").headers["x-of"] == "items"


def test_pages_choose_a_generation_by_a_key(mesh: Mesh) -> None:
    sockets = {"v1": "run/w/first-1.sock", "v2": "run/w/first-2.sock"}
    one = ManagedService(
        "first",
        (),
        10_000,
        traffic=split({"v1": 0.5, "v2": 0.5}, sticky=True),
        backends=tuple(Backend(name, (socket,)) for name, socket in sockets.items()),
        policies=policies_in(parse_policies(LISTED), ""),
    )
    usual = policy(WORKERS, CONTRACTS)
    others = [other for other in usual.services if other.name != "first"]
    assert mesh.gateway.publish(replace(usual, services=(*others, one))).confirmed
    asked = {"origin": PAGE, "access-control-request-method": "POST"}
    assert mesh.ask(f"{API}first/x", asked, method="OPTIONS").status == 200
    shown = {"origin": PAGE, **as_client("app-a")}
    for key in ({"dispatch-key": "7"}, {}):
        body = "{}" if key else '{"dispatch": {"dispatchKey": 7}}'
        met = mesh.ask(f"{API}first/x", {**shown, **key}, method="POST", body=body)
        assert (met.status, met.headers.get("access-control-allow-origin")) == (200, PAGE)
    for more, status in [({}, 400), ({"forced-generation": "v9"}, 404)]:
        refused = mesh.ask(f"{API}first/x", {**shown, **more}, method="POST", body="{}")
        assert (refused.status, refused.headers.get("access-control-allow-origin")) == (status, PAGE)


def test_pages_do_not_make_examples_more() -> None:
    """What is answered is there once, however pages read it: an API that fits still fits with them."""

    def routed(listed: str, amount: int) -> list[Json]:
        mocks = tuple(
            MockAnswer("GET", f"/items/{n}", 200, "", "text/plain", "x" * 60_000) for n in range(amount)
        )
        front = Front("v1", "/shop/v1", only_declared=True, mocks=mocks)
        policies = policies_in(parse_policies(listed), "")
        return [*front_routes(ManagedService("shop", (), 10_000, front=front, policies=policies), ())]

    without = routed("[]", 150)
    assert len(routed(LISTED, 150)) == len(without) + 1  # that of what browsers ask before
    with pytest.raises(Invalid, match="16000000 characters"):
        routed(LISTED, 300)


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
