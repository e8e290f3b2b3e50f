"""APIs that examples answer, through the real Envoy."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.gateway.conftest import (
    CONTRACTS,
    PLENTY,
    WORKERS,
    Mesh,
    Reply,
    as_client,
    check_error,
    policy,
    wait_until,
)
from tests.observe.lines import as_read

from tulle.errors import Broken, Invalid
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_routes import front_routes
from tulle.gateway.front import Front, MockAnswer
from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.observe.operations import Operations
from tulle.observe.tally import MOCK, Tally

pytestmark = pytest.mark.system

LARGE = '"' + "é" * 60_000 + '"'
MOCKS = (
    MockAnswer("GET", "/items", 200, "full", "application/json", '[{"id":"50 %"}]'),
    MockAnswer("GET", "/items", 200, "none", "application/json", "[]"),
    MockAnswer("GET", "/items", 404, "none", "application/problem+json", '{"error":"%REQ(host)%"}'),
    MockAnswer("DELETE", "/items/{id}", 204),
    MockAnswer("GET", "/looked", 200, "", "text/plain", "looked"),
    MockAnswer("HEAD", "/looked", 204),
    MockAnswer("GET", "/told", 200, "", "text/x-%ENVIRONMENT(HOME)%", "of the gateway's own nothing"),
    MockAnswer("GET", "/items/{id}", 200, "", "text/plain", "any"),
    MockAnswer("GET", "/items/mine", 200, "", "text/plain", "mine"),
    MockAnswer("GET", "/large", 200, "", "application/json", LARGE),
    MockAnswer("GET", "/broken", 503, "", "text/plain", "a mock of a failure"),
)


def whole(limit: RateLimit = PLENTY, **more: object) -> GatewayPolicy:
    front = Front("v1", "/orders/v1", only_declared=True, mocks=MOCKS)
    one = ManagedService("orders", (), 10_000, front=front, **more)  # type: ignore[arg-type]
    usual = policy(WORKERS, CONTRACTS)
    may = [Contract("app-a", "orders", limit)]
    return GatewayPolicy.of(
        services=[*usual.services, one], clients=usual.clients, contracts=[*usual.contracts, *may]
    )


def ask(mesh: Mesh, path: str, method: str = "GET", **headers: str) -> Reply:
    return mesh.ask(f"/orders/v1{path}", {**as_client("app-a"), **headers}, method=method)


def test_examples_answer_and_say_so(mesh: Mesh) -> None:
    mesh.gateway.publish(whole())
    reply = ask(mesh, "/items?page=2")
    assert (reply.status, reply.json()) == (200, [{"id": "50 %"}])
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-tulle-mock"] == "true"
    assert ask(mesh, "/items/7").body == b"any"
    mine = ask(mesh, "/items/mine")
    assert (mine.body, mine.headers["content-type"]) == (b"mine", "text/plain")
    assert ask(mesh, "/told").headers["content-type"] == "text/x-%ENVIRONMENT(HOME)%"
    gone = ask(mesh, "/items/7", "DELETE")
    assert (gone.status, gone.body) == (204, b"")
    assert ask(mesh, "/large").body.decode() == LARGE
    broken = ask(mesh, "/broken")
    assert (broken.status, broken.body, broken.headers["x-tulle-mock"]) == (
        503,
        b"a mock of a failure",
        "true",
    )


def test_a_caller_chooses_among_them(mesh: Mesh) -> None:
    mesh.gateway.publish(whole())
    for said, status, body in [
        ("example=none", 200, b"[]"),
        ("example=none, code=404", 404, b'{"error":"%REQ(host)%"}'),
        ('return=minimal; example="none"', 200, b"[]"),
        ("code=404", 404, b'{"error":"%REQ(host)%"}'),
        ("example=nonesuch", 200, b'[{"id":"50 %"}]'),
        ("code=418", 200, b'[{"id":"50 %"}]'),
    ]:
        reply = ask(mesh, "/items", prefer=said)
        assert (reply.status, reply.body) == (status, body), said


def test_what_may_be_read_may_be_asked_about(mesh: Mesh) -> None:
    mesh.gateway.publish(whole())
    got, asked = ask(mesh, "/items"), ask(mesh, "/items", "HEAD")
    assert (asked.status, asked.body) == (200, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert [ask(mesh, "/looked", method).status for method in ("GET", "HEAD")] == [200, 204]


def test_what_is_not_declared_is_refused_as_with_any_api(mesh: Mesh) -> None:
    mesh.gateway.publish(whole())
    reply = ask(mesh, "/items/7", "PUT")
    check_error(reply, 405, "MethodNotAllowed")
    assert reply.headers["allow"] == "DELETE, GET, HEAD"
    assert "x-tulle-mock" not in reply.headers
    check_error(ask(mesh, "/nothing"), 404, "UnknownOperation")
    check_error(mesh.ask("/orders/v1/items"), 401, "InvalidClient")
    check_error(mesh.ask("/orders/v1/items", as_client("app-b")), 403, "NoContract")


def test_limits_policies_and_the_access_log_are_those_of_any_api(mesh: Mesh) -> None:
    added = parse_policies("- {policy: header-injection, response: {x-of: policy}}")
    mesh.gateway.publish(whole(RateLimit.parse("2/1m"), policies=policies_in(added, "prod")))
    replies = [ask(mesh, "/items") for _ in range(3)]
    assert replies[0].headers["x-of"] == "policy"
    assert replies[1].status == 200
    check_error(replies[2], 429, "TooManyRequests")
    ids = {reply.headers["x-request-id"] for reply in replies}

    def told() -> bool:
        lines = [line for line in mesh.log_lines() if line["request_id"] in ids]
        counting = Tally(Operations({}, "/"))
        counting.count(as_read(json.dumps(line).encode() for line in lines))
        counted = {(key.version, key.generation) for _, key in counting.taken().cells}
        is_told = sorted((line["code"], line["client"]) for line in lines) == [
            (200, "app-a"),
            (200, "app-a"),
            (429, "app-a"),
        ]
        return is_told and counted == {("v1", MOCK)}

    wait_until(told, "the access log")


def test_examples_behind_the_processor_are_told_as_such_too() -> None:
    asked = parse_policies("- {policy: quota, limits: [10/1d], key: [client]}")
    (one,) = (s for s in whole(policies=policies_in(asked, "prod")).services if s.name == "orders")
    (way,) = (r for r in front_routes(one, ()) if "processor" in str(r.get("route", {}).get("cluster")))
    about = way["metadata"]["filter_metadata"]["tulle"]
    assert (about["reason"], about["version"]) == ("mock", "v1")


def test_by_an_operation_with_policies_of_its_own_the_same_answers_are_found(mesh: Mesh) -> None:
    added = parse_policies(
        "- {policy: header-injection, response: {x-of: list}, operations: [{method: GET, path: /items}]}\n"
        "- {policy: header-injection, response: {x-of: one}, operations: [{path: '/items/{id}'}]}"
    )
    mesh.gateway.publish(whole(policies=policies_in(added, "prod")))
    for path, method, body, of in [
        ("/items", "GET", b'[{"id":"50 %"}]', "list"),
        ("/items/mine", "GET", b"mine", "one"),
        ("/items/7", "GET", b"any", "one"),
        ("/items/7", "DELETE", b"", "one"),
        ("/broken", "GET", b"a mock of a failure", None),
    ]:
        reply = ask(mesh, path, method)
        assert (reply.body, reply.headers.get("x-of")) == (body, of)
    refused = ask(mesh, "/items/7", "PUT")
    check_error(refused, 405, "MethodNotAllowed")
    assert refused.headers["allow"] == "DELETE, GET, HEAD"


def test_a_part_of_the_requests_has_the_answers_that_may_be_asked_of_it_and_the_sum_is_bounded(
    gateway: Gateway,
) -> None:
    """100 operations with policies of their own have each its own answers, not those of all."""
    mocks = tuple(
        MockAnswer("GET", f"/r{n}", 200, "", "text/plain", "x" * 10_000) for n in range(99)
    ) + tuple(MockAnswer("GET", "/{any}", 200, name, "text/plain", "y" * 10) for name in ("a", "b"))
    policies = tuple(
        Policy("header-removal", {"response": [f"x-{n}"]}, (Operation("GET", f"/r{n}"),)) for n in range(99)
    )
    front = Front("v1", "/orders/v1", only_declared=True, mocks=mocks)
    one = ManagedService("orders", (), 10_000, front=front, policies=policies)
    found = front_routes(one, ())
    said = [route["direct_response"].get("body", {}).get("inline_string", "") for route in found]
    assert sum(map(len, said)) < 2.1 * 1_000_000
    of_seven = [
        route["match"]["safe_regex"]["regex"]
        for route in found
        if "safe_regex" in route["match"] and route["name"].endswith("GET /r7")
    ]
    assert set(of_seven) == {"/orders/v1(?:/r7)", "/orders/v1(?:/[^/]+)"}
    wide = tuple(
        Policy("header-removal", {"response": [f"x-{n}"]}, (Operation("", f"/x/{n}/{{id}}"),))
        for n in range(99)
    )
    large = tuple(
        MockAnswer("GET", f"/{{a}}/{{b}}/{{c}}{n}", 200, "", "text/plain", "x" * 10_000) for n in range(99)
    )
    with pytest.raises(Invalid, match="its examples come to more than"):
        front_routes(replace(one, front=replace(front, mocks=large), policies=wide), ())
    with pytest.raises(Broken, match=r"orders.*its examples come to more than"):
        gateway.check(
            GatewayPolicy.of(services=[replace(one, front=replace(front, mocks=large), policies=wide)])
        )
