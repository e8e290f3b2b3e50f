"""An application's webhook: who sets it, where it may lead, and that what it is told is signed."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select
from tests.pipeline.conftest import Mesh

from tulle.control import application_hooks
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid, NotFound, Unavailable
from tulle.gateway import applications
from tulle.observe.channels import Message
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings
from tulle.state import log
from tulle.state.tables import application_hooks as rows

MESSAGE = Message("t", "x", {"step": "contract.approved"}, "contract/7/c/0")


class Hook(http.server.ThreadingHTTPServer):
    """Takes what is sent and answers with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def told(mesh: Mesh, hook: Hook) -> Iterator[Workspace]:
    mesh.write("mesh.yaml", f"name: test\nwebhook_addresses: ['127.0.0.1:{hook.server_port}']\n")
    workspace = open_workspace(load_settings(mesh.folder, {}))
    applications.register(workspace.database, "till", owner="tom")
    yield workspace
    workspace.database.close()


def test_where_alerts_go_no_application_may_lead(mesh: Mesh, hook: Hook) -> None:
    mesh.write("mesh.yaml", f"name: test\nalert_addresses: ['127.0.0.1:{hook.server_port}', 10.0.0.0/8]\n")
    workspace = open_workspace(load_settings(mesh.folder, {}))
    applications.register(workspace.database, "till", owner="tom")
    for url in (
        f"http://127.0.0.1:{hook.server_port}/",
        f"https://127.0.0.1:{hook.server_port}/",
        "https://10.1.2.3/",
    ):
        with pytest.raises((Invalid, Denied)) as raised:
            application_hooks.set_hook(workspace, "till", url, user="tom")
        assert "webhook_addresses" in (raised.value.hint or "")
    workspace.database.close()


def test_what_is_told_is_signed(told: Workspace, hook: Hook) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/tulle?k=T0PS3CRET"
    client_id = applications.get(told.database, "till").client_id
    assert not application_hooks.has_hook(told, client_id)
    application_hooks.send(told, client_id, MESSAGE)  # nobody to tell
    made = application_hooks.set_hook(told, "till", url, actor="tom", user="tom")
    assert (made["name"], made["host"]) == ("till", "127.0.0.1")
    application_hooks.send(told, client_id, MESSAGE)
    ((headers, body),) = hook.got
    assert json.loads(body) == {"step": "contract.approved"}
    said = dict(part.split("=", 1) for part in headers["tulle-signature"].split(","))
    key = made["signing_secret"].encode()
    assert said["v1"] == hmac.new(key, f"{said['t']}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["idempotency-key"] == MESSAGE.key
    again = application_hooks.set_hook(told, "till", url, user="tom")
    assert again["signing_secret"] != made["signing_secret"]
    with told.database.read() as cx:
        (row,) = cx.execute(select(rows)).all()
    assert b"T0PS3CRET" not in bytes(row.url)
    assert again["signing_secret"].encode() not in bytes(row.secret)
    assert "T0PS3CRET" not in str([e.data for e in log.read(told.database, subject="application:till")])


def test_what_is_not_taken_is_told_without_the_url(told: Workspace, hook: Hook) -> None:
    application_hooks.set_hook(told, "till", f"http://127.0.0.1:{hook.server_port}/T0PS3CRET")
    client_id = applications.get(told.database, "till").client_id
    for status, kind in ((503, Unavailable), (429, Unavailable), (404, Invalid), (302, Invalid)):
        hook.status = status
        with pytest.raises(kind, match=rf"the webhook of application 'till-\w+' answered {status}") as caught:
            application_hooks.send(told, client_id, MESSAGE)
        assert "T0PS3CRET" not in str(caught.value.as_dict())


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("https://127.0.0.1/x", Denied, "may not reach 127.0.0.1"),
        ("https://169.254.169.254/latest", Denied, "may not reach 169.254.169.254"),
        ("https://[::1]/x", Denied, "may not reach"),
        ("http://example.org/x", Invalid, "without TLS"),
        ("file:///etc/passwd", Invalid, "no URL"),
        ("https://user:pass@example.org/", Invalid, "no URL"),
        ("https://example.org/\r\nx-evil: 1", Invalid, "no URL"),
        ("https://example.org:99999/", Invalid, "no URL"),
        (f"https://example.org/{'x' * 1000}", Invalid, "no URL"),
        ("", Invalid, "no URL"),
    ],
)
def test_where_nobody_may_be_led_is_refused(
    told: Workspace, url: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        application_hooks.set_hook(told, "till", url)
    assert not application_hooks.has_hook(told, applications.get(told.database, "till").client_id)


def test_it_is_the_owners(told: Workspace, hook: Hook) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/"
    for attempt in (
        lambda: application_hooks.set_hook(told, "till", url, user="eve"),
        lambda: application_hooks.remove_hook(told, "till", user="eve"),
    ):
        with pytest.raises(NotFound, match="no application 'till' of 'eve'"):
            attempt()
    application_hooks.set_hook(told, "till", url, user="tom")
    assert application_hooks.remove_hook(told, "till", user="tom")
    assert not application_hooks.remove_hook(told, "till", user="tom")
