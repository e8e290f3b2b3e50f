"""External services that connections lead to: what the gateway signs in with there, on the real Envoy, and who may."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from tests.control.conftest import fill, opened
from tests.gateway.conftest import Mesh as RunningGateway
from tests.gateway.conftest import Reply, check_error, wait_until
from tests.gateway.external import Authority, Service
from tests.gateway.token_issuer import Issuer
from tests.pipeline.conftest import Mesh
from tests.system.conftest import free_port

from tulle.control.apply import apply_plan
from tulle.control.check_mesh import check_mesh
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_sign_in import ClientCredentials
from tulle.gateway.faults import read_faults
from tulle.gateway.signing import Signing, stamp_of
from tulle.gateway.versions.recorded import policy_of_version, versions
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.kept_certificates import with_certificates
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
    - version: v4
      upstream: {connection: shop-api}
      undeclared: allow
      publish: true
      access: {public: {limit: 1000/1s}}
      policies:
      - {policy: concurrency-limit, requests: 1}
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
    issuer: Issuer
    safe_issuer: Issuer

    @property
    def connections(self) -> Connections:
        return open_connections(self.workspace.settings, self.workspace.database)

    def set(self, name: str, address: str, options: dict[str, str], **secrets: str) -> None:
        said = {"apis": "sales", **options}
        self.connections.save(with_certificates(made(name, "prod", "http", address, said, secrets)))
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
        Issuer() as issuer,
        Issuer(authority.context("localhost")) as safe_issuer,
    ):
        mesh = fill(Mesh(folder / "mesh"))
        reached = [f"127.0.0.1:{outside.port}", f"localhost:{secure.port}", f"127.0.0.1:{shadow.port}"]
        reached += [f"127.0.0.1:{issuer.port}", f"localhost:{safe_issuer.port}"]
        (folder / "issuer.pem").write_text(authority.ca)
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
        yield Led(workspace, switchboard, gateway, outside, secure, shadow, issuer, safe_issuer)
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
        ("orders@v4", True),
    ]
    problem, *_ = check_mesh(led.workspace).problems
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


# ── tokens of a client's own ─────────────────────────────────────────────────────────────────────────────

CLIENT = {"auth": "oauth2", "client_id": "me:shop", "apis": "sales"}
_ANEW = list[str]()
SECRET = 's3 %cret%\\]] "+/=&ü'


def by_tokens(led: Led, **options: str) -> Issuer:
    """Sign in by tokens of the plain issuer, anew."""
    led.issuer.reset()
    # Set anew as it was it keeps its token: each is another one.
    _ANEW.append(f"/oauth2/token?tenant={len(_ANEW)}")
    url = f"http://127.0.0.1:{led.issuer.port}{_ANEW[-1]}"
    led.set(
        "shop-api", led.outside.url("/base"), {"token_url": url, **CLIENT, **options}, client_secret=SECRET
    )
    return led.issuer


@pytest.mark.system
@pytest.mark.parametrize("shown", ["header", "body"])
def test_the_gateway_asks_for_a_token_and_signs_in_with_it(led: Led, shown: str) -> None:
    issuer = by_tokens(led, client_auth=shown, scope="orders:read x", audience="https://shop.example/?a=b&c")
    bodies = [
        led.gateway.ask("/orders/v1/x", {"authorization": "Bearer mine"}, method="POST", body=b"{}" * 50_000)
    ]
    bodies += [led.ask(authorization="Bearer mine") for _ in range(20)]
    given = {one.json()["headers"]["authorization"] for one in bodies}
    assert given <= {"Bearer tok/en-1", "Bearer tok/en-2"}  # each of Envoy's threads has its own
    assert bodies[0].json()["bytes"] == 100_000
    path, headers, body = issuer.asked[0]
    wanted = {
        "grant_type": "client_credentials",
        "scope": "orders:read x",
        "audience": "https://shop.example/?a=b&c",
    }
    if shown == "body":
        wanted |= {"client_id": "me:shop", "client_secret": SECRET}
        assert "authorization" not in headers
    else:
        user, _, password = (
            base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode().partition(":")
        )
        assert (unquote_plus(user), unquote_plus(password)) == ("me:shop", SECRET)
    assert (path, dict(parse_qsl(body, strict_parsing=True))) == (_ANEW[-1], wanted)
    assert headers["host"] == f"127.0.0.1:{issuer.port}"
    assert not [name for name in headers if name.startswith("x-")]
    settings = led.workspace.settings
    files = [path for path in settings.state_folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"tok/en-" in path.read_bytes()]
    holding = [path for path in files if b"s3 " in path.read_bytes() and b"cret" in path.read_bytes()]
    assert {path.name for path in holding} <= {"clusters.json"}
    assert (settings.state_folder / "run/gateway/clusters.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.system
def test_a_token_is_renewed_ahead_of_its_end_and_requests_go_on(led: Led) -> None:
    issuer = by_tokens(led)
    issuer.says = lambda number: json.dumps({"access_token": f"short-{number}", "expires_in": "1"})
    statuses, until = list[int](), time.monotonic() + 2.0
    while time.monotonic() < until:
        statuses.append(led.ask().status)
        time.sleep(0.02)
    assert set(statuses) == {200}
    assert 3 <= len(issuer.asked) <= 10  # of two threads, each some 0.7 seconds
    issuer.status = 500  # and while it is good, it does not matter that no other one is given
    wait_until(lambda: led.ask().status == 503, "its end", 10)


@pytest.mark.system
@pytest.mark.parametrize(
    ("status", "says", "why"),
    [
        (401, '{"error": "invalid_client"}', "status 401, invalid_client"),
        (500, "", "status 500"),
        (302, "", "status 302"),
        (200, "nonsense", "no access_token"),
        (200, '{"access_token": "a b"}', "no access_token"),
        (200, '{"access_token": "a\\u000d\\u000ax-evil: 1"}', "no access_token"),
        (200, '{"access_token": "%s"}' % ("x" * 9000), "no access_token"),
        (200, " " * 3_000_000 + '{"access_token": "a"}', ""),
        (200, '{"access_token": "s3cret-token", "token_type": "mac"}', "no Bearer token"),
    ],
)
def test_where_no_token_is_given_nothing_is_sent_and_the_log_says_why(
    led: Led, status: int, says: str, why: str
) -> None:
    issuer = by_tokens(led)
    issuer.status, issuer.says = status, lambda _: says
    before = len(led.outside.heads)
    reply = led.ask(authorization="Bearer mine")
    check_error(reply, 503, "SignInUnavailable")
    assert reply.headers["retry-after"] == "1"
    assert len(led.outside.heads) == before
    log = (led.workspace.settings.log_folder / "gateway.log").read_text()
    assert "no token from token.of.orders@v1: " in log
    assert why in log
    assert not [part for part in ("s3cret-token", "s3 %cret", "x-evil") if part in log]
    issuer.reset()
    wait_until(lambda: led.ask().status == 200, "the next try")


@pytest.mark.system
def test_where_tokens_are_given_is_down_and_comes_back(led: Led) -> None:
    led.set(
        "shop-api",
        led.outside.url("/base"),
        {"token_url": f"http://127.0.0.1:{led.issuer.port}/", **CLIENT, "client_auth": "body"},
        client_secret=SECRET,
    )
    led.issuer.reset()
    wait_until(lambda: led.ask().status == 200, "the next try")


THREADS = 2  # of Envoy; each asks for a token of its own


def at_once(led: Led, count: int) -> list[Reply]:
    with ThreadPoolExecutor(count) as callers:
        return list(callers.map(lambda _: led.ask(), range(count)))


def only(issuer: Issuer, most: int) -> None:
    """From now on it gives as many tokens and refuses whoever asks for more."""

    def says(number: int) -> str:
        given = json.dumps({"access_token": f"tok-{number}", "expires_in": 3600})
        return given if number <= most else '{"error": "slow_down"}'

    issuer.says = says


@pytest.mark.system
def test_callers_that_come_before_there_is_a_token_wait_for_one_that_one_asks_for(led: Led) -> None:
    issuer = by_tokens(led)
    issuer.slow = 0.3
    only(issuer, THREADS)
    assert {reply.status for reply in at_once(led, 40)} == {200}
    assert 1 <= len(issuer.asked) <= THREADS
    assert {reply.status for reply in at_once(led, 40)} == {200}
    assert len(issuer.asked) <= THREADS


@pytest.mark.system
def test_those_that_wait_end_with_the_answer_that_there_is_no_token(led: Led) -> None:
    issuer = by_tokens(led)
    issuer.slow, issuer.status = 0.3, 429
    before, begun = len(led.outside.heads), time.monotonic()
    replies = at_once(led, 20)
    assert {(reply.status, reply.headers["retry-after"]) for reply in replies} == {(503, "1")}
    assert time.monotonic() - begun < 3  # not for as long as an answer may take
    assert len(issuer.asked) <= THREADS
    assert len(led.outside.heads) == before


@pytest.mark.system
def test_nobody_waits_for_the_next_token_while_there_is_a_good_one(led: Led) -> None:
    issuer = by_tokens(led)
    issuer.says = lambda number: json.dumps({"access_token": f"t-{number}", "expires_in": 3})
    wait_until(lambda: led.ask().status == 200 and issuer.answered == THREADS, "both tokens")
    issuer.slow = 4.0  # which is after the end of those

    def both_are_asked_for_anew() -> bool:
        assert led.ask().status == 200
        return len(issuer.asked) == 2 * THREADS

    wait_until(both_are_asked_for_anew, "the next ones")
    assert led.ask().status == 200
    assert issuer.answered == THREADS


@pytest.mark.system
def test_a_caller_that_goes_away_takes_no_token_with_it(led: Led) -> None:
    issuer = by_tokens(led)
    issuer.slow = 0.3
    only(issuer, 2 * THREADS)
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", led.workspace.settings.gateway_port)) as caller:
            caller.sendall(b"GET /orders/v1/items HTTP/1.1\r\nhost: a\r\n\r\n")
            time.sleep(0.02)
    begun = time.monotonic()
    assert {reply.status for reply in at_once(led, 8)} == {200}
    assert time.monotonic() - begun < 4  # not for as long as an answer may take
    assert len(issuer.asked) <= 2 * THREADS


@pytest.mark.system
def test_a_token_is_got_where_one_request_may_be_under_way(led: Led) -> None:
    issuer = by_tokens(led)
    assert [led.ask("/orders/v4/items").status for _ in range(8)] == [200] * 8
    assert 1 <= len(issuer.asked) <= THREADS


@pytest.mark.system
def test_a_caller_cannot_have_a_token_asked_for(led: Led) -> None:
    issuer = by_tokens(led)
    before = len(led.outside.heads)
    led.gateway.ask("/orders/v1/items", {"x-tulle-ask-for-token": "1"})
    assert len(issuer.asked) <= 1
    assert not [head for head in led.outside.heads[before:] if "x-tulle-ask-for-token" in str(head).lower()]


@pytest.mark.system
def test_a_token_that_is_taken_back_is_given_up(led: Led, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulle.gateway.envoy_sign_in.YOUNG_MS", 0)
    issuer = by_tokens(led)
    first = led.seen()["headers"]["authorization"]
    assert led.ask("/orders/v1/refused").status == 401
    wait_until(lambda: led.seen()["headers"]["authorization"] != first, "another token")
    assert len(issuer.asked) >= 2


@pytest.mark.system
def test_tokens_are_asked_for_by_tls_of_that_name_alone(led: Led, tmp_path: Path) -> None:
    said = {"token_url": f"https://localhost:{led.safe_issuer.port}/token", **CLIENT}
    address = led.outside.url("/base")
    led.set(
        "shop-api", address, said, client_secret=SECRET
    )  # of an authority that this machine does not know
    check_error(led.ask(), 503, "SignInUnavailable")
    assert led.safe_issuer.asked == []
    ca = tmp_path / "issuer.pem"
    shutil.copy(led.workspace.settings.folder.parent / "issuer.pem", ca)
    led.set("shop-api", address, {**said, "ca_file": str(ca)}, client_secret=SECRET)
    wait_until(lambda: {led.ask().status for _ in range(24)} == {200}, "the next try of both threads")
    assert led.seen()["headers"]["authorization"].startswith("Bearer tok/en-")
    ca.unlink()
    with pytest.raises(
        Invalid, match=r"the .ca_file. of connection .shop-api. cannot be read: .*issuer\.pem"
    ) as told:
        led.set("shop-api", address, {**said, "ca_file": str(ca)}, client_secret=SECRET)
    assert "set the connection again" in told.value.hint
    # Neither another connection that is set nor a control plane that starts reads the file again.
    led.set("other", address, {"auth": "bearer"}, token=TOKEN)
    Switchboard(led.workspace).settle()
    assert read_faults(led.workspace.settings) == ()
    assert {led.ask().status for _ in range(8)} == {200}
    # What an older version set has them in the file alone.
    led.connections.save(
        made("shop-api", "prod", "http", address, {**said, "ca_file": str(ca)}, {"client_secret": "s"})
    )
    led.switchboard.settle()
    assert (
        "the 'ca_file' of connection 'shop-api' cannot be read"
        in read_faults(led.workspace.settings)[0].message
    )
    private = said | {"token_url": "https://10.1.2.3/token"}
    led.set("shop-api", address, private, client_secret=SECRET)
    assert "the 'token_url' of connection 'shop-api'" in read_faults(led.workspace.settings)[0].message
    led.usual()
    assert read_faults(led.workspace.settings) == ()


def test_what_signs_in_is_in_no_text_and_its_stamp_tells_nothing() -> None:
    one, other = Signing(1.0, {"authorization": TOKEN}), Signing(2.0, {"authorization": TOKEN})
    assert TOKEN not in repr(one)
    client = ClientCredentials("https://login.example.org/token", "me", TOKEN)
    assert TOKEN not in repr(Signing(1.0, {}, client))
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
