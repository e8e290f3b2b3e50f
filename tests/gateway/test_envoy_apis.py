"""APIs through the real Envoy: addresses of their own, external services behind them, what passes and what does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    WORKERS,
    Mesh,
    Reply,
    as_client,
    basic,
    check_error,
    current_policy,
    policy,
    wait_until,
)
from tests.gateway.external import Authority, Service

from tulle.config import Settings
from tulle.gateway import applications, contract, service_keys
from tulle.gateway.envoy_apis import ordered
from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policies.listed import parse_policies
from tulle.gateway.policy import Contract, GatewayPolicy, ManagedService, Notice, RateLimit
from tulle.gateway.publishing import Publisher
from tulle.serving.access import Access, Keys, Public
from tulle.state.db import Database, now

pytestmark = pytest.mark.system

OPERATIONS = (
    ("GET", "/items"),
    ("POST", "/items"),
    ("GET", "/items/{id}"),
    ("DELETE", "/items/{id}"),
    ("GET", "/items/mine"),
    ("GET", "/items/{id}/files/{file}.json"),
    ("GET", "/"),
)
MAY = [Contract("app-a", "orders", PLENTY)]


@pytest.fixture(scope="module")
def outside() -> Iterator[Service]:
    with Service() as service:
        yield service


def external(*urls: str, **more: Any) -> External:
    return External(tuple(Upstream(url) for url in urls), **more)


def api(
    version: str = "v1", path: str = "/orders/v1", *, environment: str = "", **more: Any
) -> ManagedService:
    """A version of the API `orders`."""
    front = {key: more.pop(key) for key in list(more) if key in Front.__dataclass_fields__}
    return ManagedService(
        "orders",
        more.pop("upstreams", ()),
        10_000,
        environment=environment,
        front=Front(version, path, **front),
        **more,
    )


def whole(*apis: ManagedService) -> GatewayPolicy:
    """The usual policy with these APIs."""
    usual = policy(WORKERS, CONTRACTS)
    return GatewayPolicy.of(
        services=[*usual.services, *apis], clients=usual.clients, contracts=[*usual.contracts, *MAY]
    )


def ask(mesh: Mesh, path: str, method: str = "GET", **headers: str) -> Reply:
    return mesh.ask(path, {**as_client("app-a"), **headers}, method=method)


# ── an external service ──────────────────────────────────────────────────────────────────────────────────


def test_an_external_service_is_met_as_its_own_callers_meet_it(mesh: Mesh, outside: Service) -> None:
    mesh.gateway.publish(whole(api(external=external(outside.url("/base")))))
    spoofed = {
        "x-tulle-client": "app-b",
        "x-tulle-anything": "1",
        "x-forwarded-for": "10.0.0.1",
        "x-real_ip": "10.0.0.1",
        "x_tulle-client": "app-b",
        "transfer_encoding": "chunked",
        "content_length": "0",
    }
    reply = ask(mesh, "/orders/v1/items/4711?a=b%2Fc", **spoofed, **{"x-own": "kept"})
    seen = reply.json()
    assert (reply.status, seen["target"]) == (200, "/base/items/4711?a=b%2Fc")
    assert seen["headers"]["host"] == f"127.0.0.1:{outside.port}"
    assert seen["headers"]["x-own"] == "kept"
    told = {name for name in seen["headers"] if name.startswith(("x-tulle", "x-envoy", "x-forwarded"))}
    assert not told | ({"authorization", "client_id", "client_secret"} & seen["headers"].keys())
    assert not [name for name in seen["headers"] if "_" in name]
    # the words of workers and of the gateway itself are not for it to say
    assert not [name for name in reply.headers if name.startswith(("x-tulle", "x-envoy"))]
    line = mesh_line(mesh, "/orders/v1/items/4711")  # as the caller wrote it
    assert (line["service"], line["client_of_external"]) == ("orders", "app-a")
    assert (line["generation"], line["error"], line["version"]) == (None, None, "v1")


SPELT = {
    "X_Http_Method_Override": "DELETE",
    "x_original-url": "/a",
    "x-original_url": "/a",
    "x-http-method_override": "PUT",
}
OVERRIDES = {"x-http-method-override": "DELETE", "x-original-url": "/admin", "x-rewrite-url": "/admin"}


def test_nobody_is_told_to_do_another_operation_than_the_one_that_was_asked_for(
    mesh: Mesh, outside: Service
) -> None:
    some = tuple(one.policy for one in parse_policies("- {policy: compression, operations: [{path: /x}]}"))
    to = external(outside.url())
    for where in (
        api(external=to, policies=some),
        api(external=to, only_declared=True, operations=OPERATIONS),
    ):
        mesh.gateway.publish(whole(where))
        seen = ask(mesh, "/orders/v1/items", **OVERRIDES, **SPELT).json()["headers"]
        assert not [
            name for name in seen if name.startswith(("x-http", "x_http", "x-ori", "x_ori", "x-rewrite"))
        ]
    mesh.gateway.publish(whole(api(external=to)))  # where that leads around nothing, it is as it was sent
    assert OVERRIDES.items() <= ask(mesh, "/orders/v1/items", **OVERRIDES).json()["headers"].items()


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("a=1", "a=1"),
        ("tulle-reader-8700=s3cret", None),
        (
            'a=1; tulle-reader-8700=s3cret;tulle-reader-9=x; b=tulle-reader-7; c="2"',
            'a=1; b=tulle-reader-7; c="2"',
        ),
        ("  tulle-reader-8700=s3cret;;\ttulle-reader-1=2 ; a=1", "a=1"),
    ],
)
def test_a_cookie_of_the_portals_readers_goes_nowhere(
    mesh: Mesh, outside: Service, sent: str, seen: str | None
) -> None:
    mesh.gateway.publish(whole(api(external=external(outside.url("/base")))))
    assert ask(mesh, "/orders/v1/items", cookie=sent).json()["headers"].get("cookie") == seen


def test_such_a_cookie_reaches_no_worker_in_several_headers_either(mesh: Mesh) -> None:
    head = f"GET {API}first/headers HTTP/1.1\r\nhost: g\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in as_client("app-a").items())
    head += "cookie: a=1\r\ncookie: tulle-reader-8700=s3cret\r\ncookie: b=2; tulle-reader-1=s3cret\r\n\r\n"
    reply = mesh.say(head.encode())
    assert (reply.status, reply.json()["headers"]["cookie"]) == (200, "a=1; b=2")
    assert b"s3cret" not in reply.body


def test_no_external_service_sets_the_cookie_of_the_portals_readers(mesh: Mesh, outside: Service) -> None:
    mesh.gateway.publish(whole(api(external=external(outside.url()))))

    def kept(*cookies: str) -> list[str]:
        head = "GET /orders/v1/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n"
        sent = {**as_client("app-a"), "x-sets": "|".join(cookies)}
        head += "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        with socket.create_connection(("127.0.0.1", mesh.settings.gateway_port)) as caller:
            caller.sendall(f"{head}\r\n".encode())
            lines = caller.makefile("rb").read().partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert lines[0].split()[1] == "200", lines
        return [one.partition(": ")[2] for one in lines if one.startswith("set-cookie: ")]

    usual = ["a=1; Path=/", "b=tulle-reader-8700", "TULLE-READER-1=x"]
    assert kept(*usual) == usual
    bad = [
        "tulle-reader-8700=evil; Path=/",
        "=tulle-reader-8700=evil",
        " =\ttulle-reader-1=x",
        "tulle-reader-1",
    ]
    assert kept(*usual, *bad) == usual
    assert kept(*bad) == []
    assert kept() == []


def mesh_line(mesh: Mesh, path: str) -> dict[str, Any]:
    """The newest line of the access log for a path, which is written within half a second."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [line for line in mesh.log_lines() if line["path"] == path]
        return bool(found)

    wait_until(look, "the access log")
    return found[-1]


@pytest.mark.parametrize(
    ("base", "path", "asked", "seen"),
    [
        ("/base", "/orders/v1", "/orders/v1", "/base"),
        ("/base", "/orders/v1", "/orders/v1/", "/base/"),
        ("", "/orders/v1", "/orders/v1?x=1", "/?x=1"),
        ("", "/orders/v1", "/orders/v1/items", "/items"),
        ("/", "/orders/v1", "/orders/v1/items", "/items"),
        ("/b", "/o-1.x~y", "/o-1.x~y/items", "/b/items"),
    ],
)
def test_the_address_becomes_the_path_of_the_service(
    mesh: Mesh, outside: Service, base: str, path: str, asked: str, seen: str
) -> None:
    mesh.gateway.publish(whole(api(path=path, external=external(outside.url(base)))))
    assert ask(mesh, asked).json()["target"] == seen


def test_only_declared_operations_pass(mesh: Mesh, outside: Service) -> None:
    one = api(external=external(outside.url("/base")), only_declared=True, operations=OPERATIONS)
    mesh.gateway.publish(whole(one))
    for method, path in [
        ("GET", "/items"),
        ("POST", "/items"),
        ("DELETE", "/items/a.b"),
        ("GET", "/items/mine"),
        ("GET", "/items/1/files/2.json"),
        ("GET", "/"),
        ("GET", ""),
    ]:
        reply = ask(mesh, f"/orders/v1{path}", method)
        assert (reply.status, reply.json()["target"]) == (200, f"/base{path}"), (method, path)
    reply = ask(mesh, "/orders/v1/items", "HEAD")
    assert (reply.status, reply.body) == (200, b"")
    for method, path, allow in [
        ("PUT", "/items", "GET, HEAD, POST"),
        ("DELETE", "/items/mine", "GET, HEAD"),  # which is not the item of that name
        ("PATCH", "/items/7", "DELETE, GET, HEAD"),
    ]:
        reply = ask(mesh, f"/orders/v1{path}", method)
        check_error(reply, 405, "MethodNotAllowed")
        assert reply.headers["allow"] == allow
    for path in ("/item", "/items/", "/items/1/2", "/items/1/files/2.xml", "/items//files/2.json"):
        check_error(ask(mesh, f"/orders/v1{path}"), 404, "UnknownOperation")
    check_error(ask(mesh, "/orders/v2/items"), 404, "UnknownService")
    check_error(ask(mesh, "/orders/v10/items"), 404, "UnknownService")
    check_error(mesh.ask("/orders/v1/nothing"), 401, "InvalidClient")
    check_error(mesh.ask("/orders/v1/items", as_client("app-b")), 403, "NoContract")


def test_no_trick_of_a_path_leads_past_what_is_declared(mesh: Mesh, outside: Service) -> None:
    one = api(external=external(outside.url("/base")), only_declared=True, operations=OPERATIONS)
    mesh.gateway.publish(whole(one))
    for path in ("/items/..%2f..%2fadmin", "/items/%2e%2e%5cadmin", "/items/a%00b"):
        assert ask(mesh, f"/orders/v1{path}").status == 400, path
    check_error(ask(mesh, "/orders/v1/items/../../../admin"), 404, "UnknownService")
    assert ask(mesh, "/orders/v1/x/../items").json()["target"] == "/base/items"
    assert ask(mesh, "//orders//v1//items").json()["target"] == "/base/items"
    assert ask(mesh, "/orders/v1/../../public/api/v1/second/x").status == 403
    sent = f"GET /orders/v1/items HTTP/1.1\r\nhost: evil.example\r\nauthorization: {as_client('app-a')['authorization']}\r\n"
    seen = mesh.say(f"{sent}\r\n".encode()).json()
    assert seen["headers"]["host"] == f"127.0.0.1:{outside.port}"


def test_many_and_long_operations_are_known(mesh: Mesh, outside: Service) -> None:
    many = tuple(("GET", f"/{'a-rather-long-part-of-a-path/' * 5}number-{n}/{{id}}") for n in range(400))
    one = api(external=external(outside.url()), only_declared=True, operations=many)
    mesh.gateway.publish(whole(one))
    for number in (0, 200, 399):
        path = many[number][1].replace("{id}", "7")
        assert ask(mesh, f"/orders/v1{path}").json()["target"] == path
    check_error(ask(mesh, f"/orders/v1{many[0][1].replace('number-0', 'number-x')}"), 404, "UnknownOperation")


def test_what_an_external_service_answers_passes_and_its_failures_are_ours(
    mesh: Mesh, outside: Service
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
        mesh.gateway.publish(
            whole(
                api(external=external(outside.url(), timeout_seconds=0.3)),
                api("v2", "/orders/v2", external=external(nobody)),
                api(
                    "v3", "/orders/v3", external=external("https://" + outside.url().removeprefix("http://"))
                ),
                api("v4", "/orders/v4", external=external("https://no-such-host.invalid")),
            )
        )
        assert ask(mesh, "/orders/v1/teapot").status == 418
        check_error(ask(mesh, "/orders/v1/slow"), 504, "ServiceTimeout")
        check_error(ask(mesh, "/orders/v1/garbage"), 502, "BadAnswer")
        for path in ("/orders/v2/x", "/orders/v3/x", "/orders/v4/x"):
            check_error(ask(mesh, path), 503, "ServiceUnavailable")
        assert ask(mesh, "/public/api/v1/first/x").status == 200  # whatever they do


def test_the_certificate_of_an_external_service_is_checked(mesh: Mesh, tmp_path: Path) -> None:
    ours, others = Authority(tmp_path), Authority(tmp_path)
    with (
        Service("address", ours.context("127.0.0.1")) as by_address,
        Service("name", ours.context("localhost")) as by_name,
        Service("other", others.context("localhost")) as stranger,
    ):
        mesh.gateway.publish(
            whole(
                api("v1", "/orders/v1", external=external(by_address.url(), ca=ours.ca)),
                api("v2", "/orders/v2", external=external(by_name.url(host="localhost"), ca=ours.ca)),
                api("v3", "/orders/v3", external=external(stranger.url(host="localhost"), ca=ours.ca)),
                api("v4", "/orders/v4", external=external(by_name.url(), ca=ours.ca)),  # by its address
                api("v5", "/orders/v5", external=external(by_name.url(host="localhost"))),
            )
        )
        assert ask(mesh, "/orders/v1/x").json()["server"] == "address"
        reply = ask(mesh, "/orders/v2/x").json()
        assert (reply["server"], reply["headers"]["host"]) == ("name", f"localhost:{by_name.port}")
        for path in ("/orders/v3/x", "/orders/v4/x", "/orders/v5/x"):
            check_error(ask(mesh, path), 503, "ServiceUnavailable")


def test_several_addresses_share_the_requests_by_their_weights(mesh: Mesh, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        Service("one", authority.context("localhost")) as one,
        Service("two", authority.context("ip6-none.localhost")) as two,
    ):
        both = (Upstream(one.url(host="localhost"), 3), Upstream(two.url(host="localhost"), 1))
        mesh.gateway.publish(whole(api(external=External(both, ca=authority.ca))))
        said = [ask(mesh, "/orders/v1/x") for _ in range(8)]
        # the second is called otherwise than its certificate says: nothing is sent to it
        assert {r.json()["server"] for r in said if r.status == 200} == {"one"}
    with Service("one") as one, Service("two") as two:
        both = (Upstream(one.url(), 3), Upstream(two.url(), 1))
        mesh.gateway.publish(whole(api(external=External(both))))
        served = [ask(mesh, "/orders/v1/x").json()["server"] for _ in range(40)]
        assert 24 <= served.count("one") <= 36
        two.stop()
        answered = [ask(mesh, "/orders/v1/x").status for _ in range(12)]
        assert answered.count(200) >= 10  # what never reached it is asked of the other one


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_api_of_hosts_of_its_own_is_called_by_them_alone(mesh: Mesh, outside: Service) -> None:
    one = external(outside.url())
    mesh.gateway.publish(
        whole(
            api(
                "v1", "/orders", hosts=("api.example.com", "b.example"), external=external(outside.url("/v1"))
            ),
            api("v2", "/orders", external=external(outside.url("/v2"))),
            api("v3", "/", hosts=("root.example",), external=one),
        )
    )
    for host, seen in [
        ("api.example.com", "/v1/x"),
        ("API.example.com:8000", "/v1/x"),
        ("b.example", "/v1/x"),
        ("apixexample.com", "/v2/x"),
        ("api.example.com.evil", "/v2/x"),
        ("root.example", "/orders/x"),
    ]:
        expected = "/v2/x" if host == "root.example" else seen  # the more exact path comes first
        assert ask(mesh, "/orders/x", host=host).json()["target"] == expected, host
    assert ask(mesh, "/anything", host="root.example").json()["target"] == "/anything"
    assert "worker" in ask(mesh, "/public/api/v1/first/x", host="root.example").json()
    check_error(ask(mesh, "/anything", host="other.example"), 404, "UnknownService")


def test_an_api_over_a_service_has_its_workers(mesh: Mesh) -> None:
    sockets = WORKERS["first"]
    mesh.gateway.publish(
        whole(
            api("v1", "/orders/v1", serves="first", upstreams=sockets),
            api("v1", "/test/orders/v1", environment="test", serves="first", upstreams=sockets),
            api("v2", "/orders/v2", serves="second", upstreams=WORKERS["second"]),
        )
    )
    reply = ask(mesh, "/orders/v1/x?y=1")
    assert reply.json()["target"] == "/public/api/v1/first/x?y=1"
    seen = reply.json()["headers"]
    assert (seen["x-tulle-client"], seen["x-tulle-way"]) == ("app-a", "contract")
    reply = ask(mesh, "/test/orders/v1/x-in-test?secret=1")
    assert reply.json()["target"] == "/public/api/v1/first/x-in-test?secret=1"
    line = mesh_line(mesh, "/test/orders/v1/x-in-test")  # as the caller wrote it
    assert (line["environment"], line["version"]) == ("test", "v1")
    assert ask(mesh, "/orders/v2/x").json()["target"] == "/public/api/v1/second/x"
    check_error(
        ask(mesh, "/public/api/v1/second/x"), 403, "NoContract"
    )  # the service itself is another thing
    check_error(mesh.ask("/orders/v1/x", as_client("app-b")), 403, "NoContract")


def test_what_is_bound_to_nothing_and_what_has_ended_say_so(mesh: Mesh, outside: Service) -> None:
    there = external(outside.url())
    mesh.gateway.publish(
        whole(
            api("v1", "/orders/v1"),
            api("v2", "/orders/v2", external=there, stopped="retired", notice=Notice(1.0, 2.0, "/orders/v3")),
            api("v3", "/orders/v3", external=there, notice=Notice(86400.0, 86400.0 * 2, "/orders/v1")),
        )
    )
    check_error(ask(mesh, "/orders/v1/x"), 503, "ApiNotBound")
    ended = ask(mesh, "/orders/v2/x")
    check_error(ended, 410, "ApiRetired")
    assert ended.headers["link"] == '</orders/v3>; rel="successor-version"'
    reply = ask(mesh, "/orders/v3/x")
    assert reply.status == 200
    assert reply.headers["deprecation"] == "@86400"
    assert reply.headers["sunset"] == "Sat, 03 Jan 1970 00:00:00 GMT"


def test_binding_to_something_else_loses_no_request(mesh: Mesh, outside: Service) -> None:
    forms = [
        whole(api(external=external(outside.url()))),
        whole(api(serves="first", upstreams=WORKERS["first"])),
    ]
    mesh.gateway.publish(forms[0])
    stop, answers = threading.Event(), [0]
    wrong: list[Reply] = []

    def call() -> None:
        while not stop.is_set():
            reply = ask(mesh, "/orders/v1/x")
            answers[0] += 1
            if reply.status != 200:
                wrong.append(reply)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for number in range(1, 5):
        assert mesh.gateway.publish(forms[number % 2]).confirmed
    stop.set()
    for caller in callers:
        caller.join()
    assert not wrong, wrong[:3]
    assert answers[0] > 20


def test_an_api_that_the_gateway_refuses_hinders_no_other_one(
    mesh: Mesh, outside: Service, tmp_path: Path
) -> None:
    broken = api("v2", "/orders/v2", external=external("https://127.0.0.1:9", ca="no certificate"))
    settings = Settings(folder=mesh.settings.folder, gateway_port=mesh.settings.gateway_port)
    publisher = Publisher(settings, mesh.gateway)
    usual = policy(WORKERS, CONTRACTS)

    def make(services: Any) -> GatewayPolicy:
        return GatewayPolicy.of(services=services, clients=usual.clients, contracts=[*usual.contracts, *MAY])

    good = api(external=external(outside.url()))
    publisher.publish([*usual.services, good, broken], make)
    assert ask(mesh, "/orders/v1/x").status == 200
    check_error(ask(mesh, "/orders/v2/x"), 404, "UnknownService")
    fault = publisher.fault_of(("orders@v2", ""))
    assert fault is not None
    assert not fault.is_kept
    assert publisher.fault_of(("orders@v1", "")) is None
    publisher.publish(list(usual.services), make)


def test_services_come_first_and_more_exact_addresses_before_others() -> None:
    found = ordered(
        [api("v1", "/a"), api("v2", "/a/b"), ManagedService("zz", (), 1), api("v3", "/a", hosts=("h",))]
    )
    assert [one.known_as for one in found] == ["zz", "orders@v2", "orders@v3", "orders@v1"]


def test_policies_of_an_api_hold_for_external_services_and_their_operations(
    mesh: Mesh, outside: Service
) -> None:
    told = """
- {policy: header-injection, response: {x-told: by-policy}}
- {policy: rate-limit, limits: [2/1m], by: all, operations: [{method: POST, path: /items}]}
"""
    policies = tuple(one.policy for one in parse_policies(told))
    one = api(
        external=external(outside.url("/base")), only_declared=True, operations=OPERATIONS, policies=policies
    )
    mesh.gateway.publish(whole(one))
    reply = ask(mesh, "/orders/v1/items")
    assert (reply.headers["x-told"], reply.json()["target"]) == ("by-policy", "/base/items")
    assert [ask(mesh, "/orders/v1/items", "POST").status for _ in range(3)] == [200, 200, 429]
    assert ask(mesh, "/orders/v1/items").status == 200
    check_error(ask(mesh, "/orders/v1/items", "PUT"), 405, "MethodNotAllowed")
    check_error(ask(mesh, "/orders/v1/thing"), 404, "UnknownOperation")


def test_a_contract_holds_for_all_versions_and_each_is_counted_by_itself(
    mesh: Mesh, outside: Service
) -> None:
    one = external(outside.url())
    apis = [api("v1", "/orders/v1", external=one), api("v2", "/orders/v2", external=one)]
    usual = whole(*apis)
    few = Contract("app-b", "orders", RateLimit.parse("2/1m"))
    mesh.gateway.publish(
        GatewayPolicy.of(services=usual.services, clients=usual.clients, contracts=[*usual.contracts, few])
    )
    caller = as_client("app-b")
    for path in ("/orders/v1/x", "/orders/v2/x"):
        assert [mesh.ask(path, caller).status for _ in range(3)] == [200, 200, 429], path
    assert ask(mesh, "/orders/v1/x").status == 200


def test_who_comes_after_the_sunset_of_a_version_meets_the_others_alone(
    mesh: Mesh, outside: Service, database: Database
) -> None:
    one = external(outside.url())
    late = {"orders": RateLimit.parse("100/1s")}
    early = applications.register(database, "early", services=late)
    apis = [
        api("v1", "/orders/v1", external=one, notice=Notice(1.0, now())),
        api("v1", "/test/orders/v1", environment="test", external=one, notice=Notice(1.0, now())),
        api("v2", "/orders/v2", external=one, notice=Notice(1.0, now() + 3600)),
    ]
    fresh = applications.register(database, "fresh", services=late)
    mesh.gateway.publish(current_policy(database, apis))
    paths = ("/orders/v1/x", "/test/orders/v1/x", "/orders/v2/x")
    for who, expected in ((early, [200, 200, 200]), (fresh, [403, 403, 200])):
        caller = basic(who.client_id, who.client_secret)
        assert [mesh.ask(path, caller).status for path in paths] == expected, who.client_id
    told = check_error(
        mesh.ask("/orders/v1/x", basic(fresh.client_id, fresh.client_secret)), 403, "NoContract"
    )
    assert "after a version's sunset" in told["detailedMessage"]
    contract.withdraw(database, "early", "orders")
    contract.grant(database, "early", "orders", (late["orders"],))  # which is a new one
    mesh.gateway.publish(current_policy(database, apis))
    assert mesh.ask("/orders/v1/x", basic(early.client_id, early.client_secret)).status == 403


def test_a_key_of_an_api_opens_its_versions_and_goes_no_further(
    mesh: Mesh, outside: Service, database: Database
) -> None:
    shop = service_keys.create(database, "orders", label="shop", kind="API")
    few = service_keys.create(database, "orders", label="few", kind="API", limit=RateLimit.parse("2/1m"))
    other = service_keys.create(database, "stock", label="shop", kind="API")
    keys = parse_policies("[{policy: api-key, header: x-api-key, query: key, limit: 500/1s}]")
    policies = tuple(one.policy for one in keys)
    one = external(outside.url())
    apis = [
        api("v1", "/orders/v1", external=one, policies=policies),
        api("v2", "/orders/v2", external=one, access=Access(contracts=False, api_keys=Keys("400/1s"))),
        replace(api("v1", "/stock/v1", external=one, policies=policies), name="stock"),
    ]
    mesh.gateway.publish(current_policy(database, apis))
    for shown, more in (
        ({"x-api-key": shop.api_key}, ""),
        ({}, f"&key={shop.api_key}"),
        ({"authorization": f"Bearer {shop.api_key}"}, ""),
        (basic(shop.api_key, ""), ""),
    ):
        seen = mesh.ask(f"/orders/v1/key-way?a=b{more}", shown)
        assert (seen.status, seen.json()["target"]) == (200, "/key-way?a=b"), seen
        assert shop.secret not in seen.body.decode()
        assert not {"authorization", "x-api-key"} & seen.json()["headers"].keys()
    line = mesh_line(mesh, "/orders/v1/key-way")
    assert (line["client_of_external"], line["access"]) == (shop.key.id, "contract")
    assert shop.secret not in json.dumps(mesh.log_lines())
    assert mesh.ask("/orders/v2/x", {"authorization": f"Bearer {shop.api_key}"}).status == 200
    assert [mesh.ask("/orders/v1/x", basic(few.api_key, "")).status for _ in range(3)] == [200, 200, 429]
    check_error(mesh.ask("/orders/v1/x", {"x-api-key": other.api_key}), 403, "NoContract")
    wrong = mesh.ask("/orders/v1/x", {"x-api-key": f"{shop.key.id}.{'0' * 40}"})
    check_error(wrong, 401, "InvalidClient")
    assert wrong.headers["www-authenticate"]
    service_keys.revoke(database, "orders", "shop", kind="API")
    mesh.gateway.publish(current_policy(database, apis))
    check_error(mesh.ask("/orders/v1/x", {"x-api-key": shop.api_key}), 401, "InvalidClient")
    assert mesh.ask("/stock/v1/x", {"x-api-key": other.api_key}).status == 200


def test_versions_share_their_keys_and_of_their_limits_the_tightest(database: Database) -> None:
    key = service_keys.create(database, "orders", label="shop", kind="API").key.id
    said = {"v1": "100/1s", "v2": "120/1m", "v3": "50/1s"}
    apis = [
        api(version, f"/orders/{version}", access=Access(contracts=False, api_keys=Keys(limit)))
        for version, limit in said.items()
    ]
    (found,) = current_policy(database, apis).contracts
    assert (found.client_id, str(found.limit)) == (key, "120/1m")


def test_a_public_api_is_called_without_credentials(mesh: Mesh, outside: Service) -> None:
    public = Access(contracts=False, public=Public("100/1s"))
    one = api(external=external(outside.url()), only_declared=True, operations=OPERATIONS, access=public)
    mesh.gateway.publish(whole(one))
    assert mesh.ask("/orders/v1/items").json()["target"] == "/items"
    check_error(mesh.ask("/orders/v1/nothing"), 404, "UnknownOperation")
    check_error(mesh.ask("/public/api/v1/first/x"), 401, "InvalidClient")


def test_among_many_apis_each_is_found(mesh: Mesh, outside: Service) -> None:
    one = external(outside.url("/base"))
    many = [api(f"n{n}", f"/many/{n}", external=external(outside.url(f"/{n}"))) for n in range(60)]
    mesh.gateway.publish(
        whole(
            *many,
            api("v1", "/orders", only_declared=True, operations=OPERATIONS, external=one),
            api("v2", "/orders/v2", external=external(outside.url("/two"))),
            api("v3", "/orders", hosts=("h.example",), external=external(outside.url("/host"))),
            api("v4", "/", hosts=("root.example",), external=external(outside.url("/root"))),
        )
    )
    for path, seen in [
        ("/many/7/x", "/7/x"),
        ("/many/59", "/59"),
        ("/orders/items?a=/many/7", "/base/items?a=/many/7"),
        ("/orders/v2/items", "/two/items"),
    ]:
        assert ask(mesh, path).json()["target"] == seen, path
    assert ask(mesh, "/orders/x", host="h.example").json()["target"] == "/host/x"
    assert ask(mesh, "/many", host="root.example").json()["target"] == "/root/many"
    assert ask(mesh, "/many/7777", host="root.example").json()["target"] == "/root/many/7777"
    assert "worker" in ask(mesh, "/public/api/v1/first/x").json()
    check_error(ask(mesh, "/orders/nothing"), 404, "UnknownOperation")
    check_error(ask(mesh, "/orders/items", "PUT"), 405, "MethodNotAllowed")
    for path in ("/many/7777", "/many", "/ordersx", "/nowhere", "/public/api/v1/nobody/x"):
        check_error(ask(mesh, path), 404, "UnknownService")
    assert mesh.ask("/isAlive/").status == 200
