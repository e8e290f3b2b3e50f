"""External services that connections lead to: what the gateway signs in with there, on the real Envoy, and who may."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.control.conftest import fill, opened
from tests.gateway.conftest import Mesh as RunningGateway
from tests.gateway.conftest import Reply, check_error, wait_until
from tests.gateway.external import Authority, Service
from tests.pipeline.conftest import Mesh
from tests.system.conftest import free_port

from tulle.control.apply import apply_plan
from tulle.control.check_mesh import check_mesh
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway.envoy import Gateway
from tulle.gateway.faults import read_faults
from tulle.gateway.signing import Signing, stamp_of
from tulle.gateway.versions.recorded import policy_of_version, versions
from tulle.pipeline.sources.address import made
from tulle.server.lake_doors import lake_access
from tulle.state.connections import Connections, open_connections

ORDERS = """
    api: orders
    versions:
    - version: v1
      upstream: {connection: shop-api}
      undeclared: allow
      publish: true
      access: {public: {limit: 1000/1s}}
    - version: v2
      upstream: {connection: shop-tls, ca_file: ca.pem}
      undeclared: allow
      publish: true
      access: {public: {limit: 1000/1s}}
"""
COPIED = """    - version: v3
      upstream: {connection: shop-api}
      undeclared: allow
      publish: true
      access: {public: {limit: 1000/1s}}
      policies:
      - {policy: mirror, to: '%s'}
      - {policy: message-log, request: [x-own]}
"""
TOKEN = "t0p %secret% \\ token"


@dataclass
class Led:
    """A mesh whose APIs are led by connections, its gateway, and the services outside."""

    workspace: Workspace
    switchboard: Switchboard
    gateway: RunningGateway
    outside: Service
    secure: Service
    shadow: Service

    @property
    def connections(self) -> Connections:
        return open_connections(self.workspace.settings, self.workspace.database)

    def set(self, name: str, address: str, options: dict[str, str], **secrets: str) -> None:
        said = {"apis": "sales", **options}
        self.connections.save(made(name, "prod", "http", address, said, secrets))
        self.switchboard.settle()

    def usual(self) -> None:
        self.set("shop-api", self.outside.url("/base"), {"auth": "bearer"}, token=TOKEN)

    def ask(self, path: str = "/orders/v1/items", **headers: str) -> Reply:
        return self.gateway.ask(path, headers)

    def seen(self, path: str = "/orders/v1/items", **headers: str) -> dict[str, Any]:
        reply = self.ask(path, **headers)
        assert reply.status == 200, reply
        return dict(reply.json())


@pytest.fixture(scope="module")
def led(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Led]:
    folder = tmp_path_factory.mktemp("led")
    authority = Authority(folder)
    with (
        Service("plain") as outside,
        Service("tls", authority.context("localhost")) as secure,
        Service("shadow") as shadow,
    ):
        mesh = fill(Mesh(folder / "mesh"))
        reached = [f"127.0.0.1:{outside.port}", f"localhost:{secure.port}", f"127.0.0.1:{shadow.port}"]
        mesh.write("mesh.yaml", f"name: test\ngateway_port: {free_port()}\nsource_addresses: {reached}\n")
        mesh.sales("apis/orders.yaml", ORDERS + COPIED % shadow.url())
        mesh.sales("apis/ca.pem", authority.ca)
        workspace = opened(mesh)
        lake_access(workspace.settings, workspace.database)
        connections = open_connections(workspace.settings, workspace.database)
        options = {"apis": "sales", "auth": "basic", "user": "tulle"}
        connections.save(
            made("shop-tls", "prod", "http", secure.url(host="localhost"), options, {"password": "p"})
        )
        connections.save(
            made(
                "shop-api",
                "prod",
                "http",
                outside.url("/base"),
                {"apis": "*", "auth": "bearer"},
                {"token": TOKEN},
            )
        )
        apply_plan(workspace)
        switchboard = Switchboard(workspace)
        switchboard.settle()
        gateway = RunningGateway(workspace.settings, Gateway(workspace.settings))
        gateway.start()
        yield Led(workspace, switchboard, gateway, outside, secure, shadow)
        gateway.stop()
        workspace.database.close()


@pytest.mark.system
def test_the_gateway_signs_in_and_nobody_else_hears_of_it(led: Led) -> None:
    led.usual()
    seen = led.seen("/orders/v1/items?a=b", authorization="Bearer the-callers", **{"x-own": "kept"})
    assert seen["target"] == "/base/items?a=b"
    assert (seen["headers"]["authorization"], seen["headers"]["x-own"]) == (f"Bearer {TOKEN}", "kept")
    settings = led.workspace.settings
    holding = [
        path for path in settings.state_folder.rglob("*") if path.is_file() and holds(path, TOKEN.encode())
    ]
    assert [path.name for path in holding] == ["clusters.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    reply = led.ask()  # of what it says nothing is in the gateway's words
    assert not [name for name in reply.headers if name.startswith(("x-tulle-", "x-envoy-"))]
    noted = versions(led.workspace.database)[0]
    assert TOKEN not in repr(policy_of_version(led.workspace.database, noted.number))
    assert TOKEN not in json.dumps(led.gateway.log_lines())


def holds(path: Path, text: bytes) -> bool:
    written = json.dumps(text.decode())[1:-1].replace("%", "%%").encode()
    content = path.read_bytes()
    return text in content or written in content


@pytest.mark.system
@pytest.mark.parametrize(
    ("options", "secrets", "expected"),
    [
        ({"auth": "basic", "user": "us"}, {"password": "pw"}, ("authorization", "Basic dXM6cHc=")),
        ({"auth": "header", "header": "X-Api-Key"}, {"token": "k-1"}, ("x-api-key", "k-1")),
        ({}, {}, ("authorization", None)),
    ],
)
def test_each_way_to_sign_in_is_sent_in_place_of_what_a_caller_shows(
    led: Led, options: dict[str, str], secrets: dict[str, str], expected: tuple[str, str | None]
) -> None:
    led.set("shop-api", led.outside.url("/base"), options, **secrets)
    shown = {"authorization": "Bearer the-callers", "x-api-key": "the-callers"} if options else {}
    headers = led.seen(**shown)["headers"]
    assert headers.get(expected[0]) == expected[1]
    assert "the-callers" not in headers.get("authorization", "")


@pytest.mark.system
def test_neither_a_copy_of_a_request_nor_the_log_of_a_message_has_it(led: Led) -> None:
    led.set("shop-api", led.outside.url("/base"), {"auth": "header", "header": "X-Api-Key"}, token="k-5ecret")
    led.shadow.heads.clear()
    reply = led.gateway.ask("/orders/v3/x", {"x-own": "mine"}, method="POST", body=b"{}" * 4000)
    assert reply.json()["headers"]["x-api-key"] == "k-5ecret"
    wait_until(lambda: bool(led.shadow.heads), "the copy")
    assert led.shadow.heads[0]["x-own"] == "mine"
    assert "x-api-key" not in led.shadow.heads[0]
    wait_until(lambda: "mine" in json.dumps(led.gateway.log_lines()), "the line of the log")
    assert "k-5ecret" not in json.dumps(led.gateway.log_lines())


@pytest.mark.system
def test_by_tls_the_certificate_of_that_name_is_wanted(led: Led) -> None:
    seen = led.seen("/orders/v2/x")
    assert (seen["server"], seen["headers"]["authorization"]) == ("tls", "Basic dHVsbGU6cA==")


@pytest.mark.system
def test_another_secret_is_sent_from_then_on_and_no_request_is_lost(led: Led) -> None:
    led.usual()
    statuses, over = list[int](), threading.Event()

    def call() -> None:
        while not over.is_set():
            statuses.append(led.ask().status)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for one in callers:
        one.start()
    for number in range(5):
        led.set("shop-api", led.outside.url("/base"), {"auth": "bearer"}, token=f"new-{number}")
        assert led.seen()["headers"]["authorization"] == f"Bearer new-{number}"
    over.set()
    for one in callers:
        one.join()
    assert set(statuses) == {200}


@pytest.mark.system
@pytest.mark.parametrize("how", ["removed", "not for it", "another kind", "cannot be sent"])
def test_who_loses_a_connection_is_signed_in_no_more_and_told_why(led: Led, how: str) -> None:
    led.usual()
    assert led.ask().status == 200
    address, told = led.outside.url("/base"), ""
    if how == "removed":
        led.connections.remove("shop-api", "prod")
        led.switchboard.settle()
        told = "there is no connection 'shop-api'"
    elif how == "not for it":
        led.set("shop-api", address, {"auth": "bearer", "apis": "others"}, token=TOKEN)
        told = "is not for APIs of product 'sales'"
    elif how == "another kind":
        led.connections.save(made("shop-api", "prod", "redis", "redis://127.0.0.1/0", {}, {}))
        led.switchboard.settle()
        told = "is of kind 'redis', an API is led by one of kind 'http'"
    else:
        led.set("shop-api", address, {"auth": "bearer"}, token="naïve")
        told = "cannot be sent in a header"
    check_error(led.ask(authorization="Bearer x"), 503, "ServiceUnavailable")
    faults = read_faults(led.workspace.settings)
    assert [(one.service, told in one.message) for one in faults] == [
        ("orders@v1", True),
        ("orders@v3", True),
    ]
    problem, _ = check_mesh(led.workspace).problems
    assert told in problem.message
    assert problem.place is not None
    assert (Path(problem.place.file).name, problem.place.line) == ("orders.yaml", 4)
    assert led.seen("/orders/v2/x")["server"] == "tls"
    led.usual()
    assert led.ask().status == 200
    assert read_faults(led.workspace.settings) == ()


@pytest.mark.system
def test_a_connection_that_leads_elsewhere_takes_the_api_along(led: Led) -> None:
    led.set("shop-api", led.outside.url("/other"), {"auth": "bearer"}, token=TOKEN)
    assert led.seen()["target"] == "/other/items"
    led.usual()


def test_what_signs_in_is_in_no_text_and_its_stamp_tells_nothing() -> None:
    one, other = Signing(1.0, {"authorization": TOKEN}), Signing(2.0, {"authorization": TOKEN})
    assert TOKEN not in repr(one)
    assert len({stamp_of({}), stamp_of({"a": one}), stamp_of({"a": other}), stamp_of({"b": one})}) == 4
    assert stamp_of({"a": one}) == stamp_of({"a": Signing(1.0, {"authorization": "else"})})


@pytest.mark.parametrize("said", ["", "Not A Name", "sales,", "*"])
def test_the_option_names_products(said: str) -> None:
    def make() -> None:
        made("shop-api", "prod", "http", "https://shop.example.com", {"apis": said}, {})

    if said in {"*", "sales,"}:
        make()
        return
    with pytest.raises(Invalid, match="option 'apis' names no products"):
        make()
