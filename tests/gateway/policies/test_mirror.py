"""`mirror` on the real Envoy."""

from __future__ import annotations

import http.server
import queue
import threading
from collections.abc import Iterator

import pytest
from tests.gateway.conftest import API, as_client
from tests.gateway.policies.conftest import Put

from tulle.errors import Invalid
from tulle.gateway.policies.listed import parse_policies

A = as_client("app-a")
Seen = tuple[str, str, dict[str, str], bytes]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[int, queue.Queue[Seen]]]:
    """A server that keeps what it is sent, and answers nonsense."""
    seen: queue.Queue[Seen] = queue.Queue()

    class Keeping(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.put((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeping)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.system
def test_requests_go_elsewhere_too_without_what_is_the_gateways_own(
    put: Put, elsewhere: tuple[int, queue.Queue[Seen]]
) -> None:
    port, seen = elsewhere
    mesh = put(f"- {{policy: mirror, to: 'http://127.0.0.1:{port}', operations: [{{method: POST}}]}}")
    assert mesh.ask(f"{API}first/x?a=1", A, method="POST", body=b"hello").status == 200
    method, path, headers, body = seen.get(timeout=30)
    assert (method, path, body) == ("POST", "/public/api/v1/first/x?a=1", b"hello")
    assert headers["host"] == f"127.0.0.1:{port}"
    told = {"authorization", "client_id", "client_secret", "x-envoy-external-address"}
    assert not {name for name in headers if name in told or name.startswith("x-tulle-")}
    assert mesh.ask(f"{API}first/x", A).status == 200
    assert seen.empty()


@pytest.mark.system
def test_nothing_by_which_somebody_could_act_for_the_caller_goes_elsewhere(
    put: Put, elsewhere: tuple[int, queue.Queue[Seen]]
) -> None:
    port, seen = elsewhere
    listed = f"""
- {{policy: client-id}}
- {{policy: api-key, header: x-team, query: team}}
- {{policy: header-injection, request: {{x-own-api-key: of-the-service, x-colour: blue}}}}
- {{policy: mirror, to: 'http://127.0.0.1:{port}'}}
"""
    shown = {
        "Cookie": "a=b",
        "X-Api-Key": "kk",
        "x-auth-token": "t",
        "x-csrf-token": "t",
        "x-session-id": "s",
        "key": "k",
        "Ocp-Apim-Subscription-Key": "k",
        "DPoP": "p",
        "x-github-otp": "1",
        "x-team": "no key",
        "x-forwarded-for": "203.0.113.9",
        "x-envoy-internal": "true",
        "x-kept": "1",
        "keyboard": "2",
        "x-footprint": "3",
    }
    reply = put(listed).ask(f"{API}first/x?team=no-key&a=1", {**shown, **A}, method="POST", body=b"a")
    assert reply.status == 200
    assert reply.json()["headers"]["cookie"] == "a=b"  # the service has them all the same
    assert reply.json()["headers"]["x-own-api-key"] == "of-the-service"
    _, path, headers, _ = seen.get(timeout=30)
    assert path == "/public/api/v1/first/x?a=1"
    # all there is: what Envoy adds of its own accord would be told, too
    assert headers.pop("x-request-id") == reply.headers["x-request-id"]
    assert headers == {
        "host": f"127.0.0.1:{port}",
        "accept-encoding": "identity",
        "content-length": "1",
        "x-colour": "blue",
        "x-kept": "1",
        "keyboard": "2",
        "x-footprint": "3",
    }


@pytest.mark.system
def test_where_nobody_is_costs_nothing(put: Put) -> None:
    mesh = put(
        "- {policy: mirror, to: 'http://127.0.0.1:1'}\n- {policy: mirror, to: 'https://nowhere.invalid'}"
    )
    assert {mesh.ask(f"{API}first/x", A, method="POST", body=b"a").status for _ in range(20)} == {200}


@pytest.mark.parametrize(
    "place",
    [
        "ftp://a",
        "https://",
        "https://a/path",
        "https://user:pw@a",
        "https://a?x=1",
        "https://a:0",
        "https://a b",
        "a",
    ],
)
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(Invalid) as told:
        parse_policies(f"- {{policy: mirror, to: '{place}'}}")
    assert "no place to mirror to" in str(told.value.problems[0])
