"""Calls of other services and of HTTP APIs from a composition: real requests to a server of this test on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.serving.conftest import Mesh
from tests.serving.test_function import Product

from tulle.errors import Invalid
from tulle.serving import asked
from tulle.serving import outside as outside_module
from tulle.serving.endpoint import Headed
from tulle.serving.loaded import load
from tulle.serving.needs import needs_of
from tulle.serving.outer_call import address
from tulle.serving.outside import Door, Outside, Way, read_outside, write_outside
from tulle.serving.package import Package
from tulle.serving.request import RequestError

OTHERS = {
    "insights": {"profile": "lookup", "returns": "predict", "count": "function"},
    "unused": {"x": "lookup"},
}


class Server(ThreadingHTTPServer):
    """Answers as it is told to, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.ports: set[int] = set()
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.headers: dict[str, str] = {"x-tulle-generation": "v7", "x-request-id": "theirs"}
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        self.server.ports.add(self.client_address[1])
        left = self.server.answers.get(urlsplit(self.path).path, [(404, {"errorType": "None"})])
        status, answer = left.pop(0) if len(left) > 1 else left[0]
        if status == 0:  # hangs
            time.sleep(1)
            status = 200
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  as the base class calls it


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def outside(tmp_path: Path, server: Server) -> Path:
    file = tmp_path / "outside/it.json"
    ways = {"geo": Way(f"{server.base}/v1/", {"Authorization": "Bearer secret"})}
    write_outside(file, Outside(server.base, "of-service-it-1", "s3cret", ways, ("127.0.0.1",)))
    return file


def build(mesh: Mesh, tmp_path: Path, text: str, uses: str = "[insights]") -> Package:
    folder = tmp_path / "product"
    folder.mkdir(exist_ok=True)
    whole = f"service: offers\nuses: {uses}\nendpoints:\n- name: it\n  type: compose\n" + text
    return mesh.build(whole, product=Product(folder), others=OTHERS)


def ask(
    mesh: Mesh, built: Package, outside: Path | None, *bodies: Any, headers: dict[str, str] | None = None
) -> list[Any]:
    loaded = load(mesh.unpacked(built), "g1", outside)
    sent = [(n.encode(), v.encode()) for n, v in ({"tulle-steps": "1"} | (headers or {})).items()]

    async def work() -> list[Any]:
        action = loaded.endpoints["it"].actions["run"]
        assert isinstance(action, Headed)
        found: list[Any] = []
        for body in bodies:
            try:
                answer = await action.call(json.dumps(body).encode(), "r-1", sent)
                found.append(json.loads(answer.body))
            except RequestError as error:
                found.append((error.status, error.error_type, error.message))
        await loaded.door.close()
        return found

    return asyncio.run(work())


SERVICE = """
  input: {customer: {}}
  steps:
  - {name: profile, call: insights/profile, with: {customer_id: $input.customer}, timeout: 5}
  - {name: chance, call: insights/returns, with: {recency: $profile.recency}, retry: 1, fallback: null}
  output: {recency: $profile.recency, chance: $chance}
"""
PROFILE, RETURNS = "/public/api/v1/insights/profile/lookup", "/public/api/v1/insights/returns/predict"


def test_another_service_is_called_under_this_ones_own_identity(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    server.answers[PROFILE] = [(200, {"results": [{"data": {"recency": 3}}]})]
    server.answers[RETURNS] = [(503, {"errorType": "QueueFull"}), (200, {"result": {"prediction": 1}})]
    built = build(shared_mesh, tmp_path, SERVICE)
    sent = {"authorization": "Bearer caller", "client_secret": "caller", "traceparent": "00-1-2-01"}
    (answer,) = ask(shared_mesh, built, outside, {"customer": "C"}, headers=sent)
    assert answer["response"] == {"recency": 3, "chance": {"prediction": 1}}
    profile, chance = answer["steps"]
    assert (profile["service"], profile["generation"], profile["requestId"]) == ("insights", "v7", "theirs")
    assert chance["attempts"] == 1  # that failed
    method, path, headers, body = server.asked[0]
    assert (method, path, json.loads(body)) == ("POST", PROFILE, {"data": {"customer_id": "C"}})
    assert (headers["client_id"], headers["client_secret"]) == ("of-service-it-1", "s3cret")
    assert (headers["x-request-id"], headers["traceparent"], headers["tulle-depth"]) == (
        "r-1",
        "00-1-2-01",
        "1",
    )
    assert "authorization" not in headers
    assert len(server.ports) == 1  # one connection, kept alive
    assert needs_of(shared_mesh.unpacked(built)).may_repeat is False
    assert "s3cret" not in json.dumps(answer)


GROUP = """
  steps:
  - name: known
    retry: 1
    cache: 60
    steps:
    - {name: profile, call: insights/profile, with: {customer_id: C}}
    - {name: chance, call: insights/CALLED, with: {recency: $profile.recency}}
  output: $known
"""


def test_calls_of_other_services_are_tried_again_and_kept_as_one(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    server.answers[PROFILE] = [(200, {"results": [{"data": {"recency": 3}}]})]
    server.answers[RETURNS] = [(503, {"errorType": "QueueFull"}), (200, {"result": {"prediction": 1}})]
    built = build(shared_mesh, tmp_path, GROUP.replace("CALLED", "returns"))
    first, second = ask(shared_mesh, built, outside, {}, {})
    assert first["response"] == second["response"] == {"prediction": 1}
    assert [path for _, path, _, _ in server.asked] == [PROFILE, RETURNS, PROFILE, RETURNS]
    assert [step["name"] for step in first["steps"]][-2:] == ["known.chance", "known"]
    assert first["steps"][-1]["attempts"] == 1
    assert second["steps"] == [{"name": "known", "status": 200, "cached": True} | _spent(second)]
    with pytest.raises(Invalid) as caught:
        build(shared_mesh, tmp_path, GROUP.replace("CALLED", "count"))
    (problem,) = caught.value.problems
    assert "step 'known' has 'retry', and 'insights/count' within it, a function" in problem.message
    assert str(problem.place) == "services/s.yaml:9:12"


def _spent(answer: Any) -> dict[str, int]:
    return {"microseconds": answer["steps"][0]["microseconds"]}


def test_what_the_other_says_is_told_and_who_calls_in_a_circle_is_stopped(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    built = build(shared_mesh, tmp_path, SERVICE)
    for said, told in [
        (
            (404, {"errorType": "NoMatch", "message": "nothing is known of it"}),
            (404, "NoMatch", "nothing is known"),
        ),
        ((403, {"errorType": "NoContract"}), (502, "NoContract", "does not let this service call it")),
        (
            (429, {"errorType": "TooManyRequests"}),
            (503, "TooManyRequests", "more often than the contract allows"),
        ),
        ((404, {"errorType": "UnknownService", "message": "none"}), (502, "UnknownService", "none")),
        ((500, b"<html>"), (500, "Failed", "HTTP 500")),
        ((200, b"<html>"), (502, "NotJson", "not in the form")),
        ((201, {"response": 1}), (502, "UnexpectedStatus", "answered 201, expected 200")),
        ((302, b""), (502, "UnexpectedStatus", "answered 302, expected 200")),
    ]:
        server.answers[PROFILE] = [said]
        ((status, error, message),) = ask(shared_mesh, built, outside, {"customer": "C"})
        assert (status, error) == told[:2]
        assert message.startswith("step 'profile': ")
        assert told[2] in message
    server.asked.clear()
    ((status, error, _),) = ask(shared_mesh, built, outside, {"customer": "C"}, headers={"tulle-depth": "8"})
    assert (status, error, server.asked) == (508, "TooDeep", [])
    ((status, error, message),) = ask(shared_mesh, built, None, {"customer": "C"})
    assert (status, error) == (503, "Unreachable")
    assert "has no identity" in message
    write_outside(outside, Outside("http://127.0.0.1:9", "a", "b"))
    ((status, error, message),) = ask(shared_mesh, built, outside, {"customer": "C"})
    assert (status, error) == (503, "Unreachable")
    assert "service 'insights' cannot be reached" in message


def test_new_credentials_are_taken_up_while_it_runs(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    row = {"results": [{"data": {"recency": 3}}]}
    server.answers[PROFILE] = [(401, {"errorType": "InvalidClient"}), (200, row)]
    server.answers[RETURNS] = [(200, {"result": {"prediction": 1}})]
    built = build(shared_mesh, tmp_path, SERVICE)
    known = read_outside(outside)
    rotated = Outside(known.gateway, known.client_id, "n3w", known.connections, known.allowed)
    timer = threading.Timer(0.05, write_outside, (outside, rotated))
    timer.start()
    (answer,) = ask(shared_mesh, built, outside, {"customer": "C"})
    timer.join()
    assert answer["response"]["recency"] == 3
    assert [headers["client_secret"] for _, _, headers, _ in server.asked] == ["s3cret", "n3w", "n3w"]
    assert outside.stat().st_mode & 0o777 == 0o600
    assert "n3w" not in repr(rotated)


def test_what_may_have_been_done_is_not_asked_again(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    text = "  steps: [{name: a, call: insights/count, retry: 3}]\n  output: $a\n"
    built = build(shared_mesh, tmp_path, text)
    server.answers["/public/api/v1/insights/count/run"] = [(500, {"errorType": "EvaluationFailed"})]
    assert ask(shared_mesh, built, outside, {})[0][:2] == (500, "EvaluationFailed")
    assert len(server.asked) == 1
    full = {"errorType": "QueueFull"}
    server.answers["/public/api/v1/insights/count/run"] = [(503, full), (200, {"response": 7})]
    assert ask(shared_mesh, built, outside, {})[0]["response"] == 7
    assert len(server.asked) == 3


HTTP = """
  input: {city: {}, note: {default: null}}
  steps:
  - name: place
    http:
      connection: geo
      path: [cities, $input.city]
      query: {fields: [lat, lon], note: $input.note, limit: 1}
      headers: {x-tenant: $input.city, authorization: mine, Host: elsewhere}
      null_on: [404]
    timeout: 0.5
    retry: 1
    cache: 60
  - {name: order, http: {connection: geo, path: /orders, body: {place: $place?}, expect: [201]}, retry: 2, on_failure: leave_out}
  output: {place: $place, order: $order?}
"""


def test_an_http_api_is_asked_by_a_connection(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    built = build(shared_mesh, tmp_path, HTTP, uses="[]")
    server.answers["/v1/cities/a%2Fb%3F."] = [(200, {"lat": 1.5})]
    server.answers["/v1/cities/x"] = [(404, {})]
    server.answers["/v1/orders"] = [(201, {"id": 1}), (500, {}), (302, b"")]
    first, again, missing = ask(
        shared_mesh, built, outside, {"city": "a/b?."}, {"city": "a/b?."}, {"city": "x", "note": "ä b"}
    )
    assert first["response"] == {"place": {"lat": 1.5}, "order": {"id": 1}}
    assert again["response"] == {"place": {"lat": 1.5}, "order": None}
    assert again["steps"][0]["cached"] is True
    assert [one["message"] for one in again["failed"]] == [
        "step 'order': connection 'geo' answered 500"  # which may have been done, so it is not asked again
    ]
    assert missing["response"] == {"place": None, "order": None}
    assert "no redirect is followed" in missing["failed"][0]["message"]
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("GET", "/v1/cities/a%2Fb%3F.?fields=lat&fields=lon&limit=1")
    assert headers["authorization"] == "Bearer secret"  # the connection's, whatever is declared
    assert headers["host"] == urlsplit(server.base).netloc
    assert headers["x-tenant"] == "a/b?."
    assert server.asked[3][1] == "/v1/cities/x?fields=lat&fields=lon&limit=1&note=%C3%A4+b"
    order = server.asked[1]
    assert (order[0], json.loads(order[3]), order[2]["content-type"]) == (
        "POST",
        {"place": {"lat": 1.5}},
        "application/json",
    )
    assert len(server.asked) == 5


def test_what_an_http_api_does_wrong_is_told(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    built = build(shared_mesh, tmp_path, HTTP, uses="[]")
    server.answers["/v1/orders"] = [(201, {})]
    for answers, told in [
        ([(200, b"<html>")], (502, "NotJson")),
        ([(0, {})], (504, "TookTooLong")),
        ([(403, {"secret": "no"})], (502, "UnexpectedStatus")),
    ]:
        server.answers["/v1/cities/c"] = answers  # type: ignore[assignment]
        ((status, error, message),) = ask(shared_mesh, built, outside, {"city": "c"})
        assert (status, error) == told
        assert "secret" not in message
    assert ask(shared_mesh, built, outside, {"city": ".."})[0][:2] == (422, "InvalidAddress")
    assert ask(shared_mesh, built, outside, {"city": "a\r\nx: y"})[0][:2] == (422, "InvalidHeader")
    # a private address that nobody allowed
    known = read_outside(outside)
    write_outside(outside, Outside(known.gateway, "a", "b", known.connections, ()))
    server.asked.clear()
    ((status, error, _),) = ask(shared_mesh, built, outside, {"city": "c"})
    assert (status, error, server.asked) == (503, "Unreachable", [])
    write_outside(outside, Outside(known.gateway, "a", "b", {}, ()))
    ((_, error, message),) = ask(shared_mesh, built, outside, {"city": "c"})
    assert "no connection 'geo'" in message
    server.asked.clear()
    taken = Way(known.connections["geo"].address, why_not="takes tokens")
    write_outside(outside, Outside(known.gateway, "a", "b", {"geo": taken}, known.allowed))
    ((status, error, message),) = ask(shared_mesh, built, outside, {"city": "c"})
    assert (status, error, server.asked) == (503, "Unreachable", [])
    assert "connection 'geo' takes tokens" in message


def test_an_address_stays_below_its_connection() -> None:
    way = Way("https://api.example.org/v1/")
    assert address(way, "/a/b", {}) == "https://api.example.org/v1/a/b"
    assert address(way, "/größe/a%20b", {}) == "https://api.example.org/v1/gr%C3%B6%C3%9Fe/a%20b"
    assert (
        address(way, ["a", "../b", 1, True], {"q": "ä&"})
        == "https://api.example.org/v1/a/..%2Fb/1/true?q=%C3%A4%26"
    )
    for wrong in ("..", "", ".", None, {"a": 1}, "\ud800"):
        with pytest.raises(RequestError):
            address(way, ["a", wrong], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  steps: [{name: a, call: unused/x}]\n  output: 1\n", "of a service that is not in 'uses'"),
        (
            "  steps: [{name: a, call: insights/profil}]\n  output: 1\n",
            "service 'insights' has no endpoint 'profil'",
        ),
        (
            "  steps: [{name: a, http: {connection: geo}, call: insights/count}]\n  output: 1\n",
            "both 'call' and 'http'",
        ),
        (
            "  steps: [{name: a, http: {connection: geo, path: [$b]}}]\n  output: 1\n",
            "nothing before it gives '$b'",
        ),
        ("  steps: [{name: a, value: 1, retry: 2}]\n  output: 1\n", "step 'a' has 'retry' and calls nothing"),
        ("  steps: [{name: a, http: {connection: geo, url: 'http://x'}}]\n  output: 1\n", "url"),
    ],
)
def test_what_cannot_be_called_is_told(shared_mesh: Mesh, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        build(shared_mesh, tmp_path, text)
    assert message in caught.value.problems[0].message


def test_who_waits_for_a_slow_place_takes_no_connection_from_another(
    tmp_path: Path,
    server: Server,
    outside: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outside_module, "_KEPT", 2)
    server.answers |= {"/slow": [(0, {})], "/quick": [(200, {})]}
    other = Server()
    thread = threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    other.answers |= server.answers
    door = Door(outside)

    async def send(url: str, seconds: float = 5) -> int:
        got = await door.send(
            "GET", url, headers=[], seconds=seconds, allowed=("127.0.0.1",), what="connection 'geo'"
        )
        return got.status

    async def work() -> None:
        slow = [asyncio.create_task(send(f"{server.base}/slow")) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(RequestError) as caught:  # that place has no room, and nothing was sent
            await send(f"{server.base}/quick", 0.1)
        assert caught.value.status in {503, 504}
        assert await send(f"{other.base}/quick", 0.5) == 200
        assert not any(task.done() for task in slow)
        assert await asyncio.gather(*slow) == [200, 200]
        with pytest.raises(RequestError) as caught:
            await send("http://127.0.0.2:1/x")
        assert (
            caught.value.message == "connection 'geo' cannot be reached"
        )  # where it is, callers need not know
        await door.close()

    asyncio.run(work())
    assert "127.0.0.2:1" in caplog.text
    assert "source_addresses" in caplog.text
    other.shutdown()
    other.server_close()
    thread.join()


def test_what_is_around_a_headers_value_is_not_sent(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path
) -> None:
    built = build(shared_mesh, tmp_path, HTTP, uses="[]")
    server.answers["/v1/cities/%20x%09"] = [(200, {})]
    server.answers["/v1/orders"] = [(201, {})]
    (answer,) = ask(shared_mesh, built, outside, {"city": " x\t"})
    assert answer["response"]["place"] == {}
    assert server.asked[0][2]["x-tenant"] == "x"


def test_answers_of_many_calls_have_an_end(
    shared_mesh: Mesh, tmp_path: Path, server: Server, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "MOST_RECEIVED", 5000)
    text = (
        "  input: {many: {type: integer}}\n"
        "  steps:\n"
        "  - {name: list, value: '$([n for n in [1, 2, 3, 4, 5, 6, 7, 8, 9] if n <= input.many])'}\n"
        "  - {name: each, map: $list, http: {connection: geo, path: [page, $item]}}\n"
        "  output: $(len(each))\n"
    )
    built = build(shared_mesh, tmp_path, text, uses="[]")
    server.answers |= {f"/v1/page/{number}": [(200, "x" * 998)] for number in range(1, 10)}
    few, many = ask(shared_mesh, built, outside, {"many": 5}, {"many": 9})
    assert few["response"] == 5
    assert many[:2] == (502, "AnswerTooLarge")
