"""The control plane keeps what is recorded and what is real in step, whatever one part of that meets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.pipeline.conftest import Mesh

from tulle.catalog.api_trial import ApiRequest
from tulle.control import promotion
from tulle.errors import Conflict, LimitExceeded
from tulle.server import app
from tulle.spec.mesh import load_settings


def test_what_cannot_be_kept_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = app.open_workspace(load_settings(Mesh(tmp_path / "mesh").folder))
    stop, settled, looked = threading.Event(), threading.Event(), threading.Event()

    def fail(_: object) -> None:
        raise Conflict("something is staged on 'main'")

    def settle() -> None:
        settled.set()
        raise Conflict("Envoy is away")

    monkeypatch.setattr(promotion, "keep", fail)
    monkeypatch.setattr(app, "_look_for_drift", lambda _: looked.set())
    monkeypatch.setattr(app, "SETTLE_EVERY", 0.01)
    monkeypatch.setattr(app, "DRIFT_AFTER", 0.0)
    keeper = threading.Thread(target=app._keep, args=(workspace, settle, stop))
    keeper.start()
    try:
        assert settled.wait(10)
        assert looked.wait(10)
    finally:
        stop.set()
        keeper.join()
        workspace.database.close()
    (said,) = [
        record.getMessage() for record in caplog.records if "not yet as it should be" in record.getMessage()
    ]
    assert "promotions: something is staged on 'main'; the gateway: Envoy is away" in said


def test_what_is_tried_goes_by_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append(f"{self.path} {self.headers['client_secret']}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    gateway = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=gateway.serve_forever)
    thread.start()
    settings = replace(load_settings(Mesh(tmp_path / "mesh").folder), gateway_port=gateway.server_port)
    workspace = app.open_workspace(settings)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    try:
        answer = app.Trials(workspace).call("orders", "by-id", "lookup", b"{}", ("shop", "secret"))
    finally:
        gateway.shutdown()
        thread.join()
        gateway.server_close()
        workspace.database.close()
    assert (answer.status, seen) == (200, ["/public/api/v1/orders/by-id/lookup secret"])


def test_so_many_requests_to_apis_are_tried_at_a_time_and_no_more(tmp_path: Path) -> None:
    waiting, go, seen = threading.Semaphore(0), threading.Event(), []

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            waiting.release()
            assert go.wait(30)
            seen.append(self.path)
            self.send_response(200)
            self.send_header("content-type", "text/plain; charset=hex")
            self.end_headers()
            sizes = {"/whole": app.LARGEST_ANSWER, "/more": app.LARGEST_ANSWER + 1}
            self.wfile.write(b"x" * sizes[self.path] if self.path in sizes else b"{}")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    gateway = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=gateway.serve_forever)
    thread.start()
    settings = replace(load_settings(Mesh(tmp_path / "mesh").folder), gateway_port=gateway.server_port)
    workspace = app.open_workspace(settings)
    trials, wanted = app.Trials(workspace), ApiRequest("GET", "/orders/v1/a%2Fb?c=d&e=%20")
    try:
        with ThreadPoolExecutor(app.MOST_TRIED) as pool:
            answers = [pool.submit(trials.send, wanted) for _ in range(app.MOST_TRIED)]
            for _ in answers:
                assert waiting.acquire(timeout=30)
            with pytest.raises(LimitExceeded, match="8 requests to APIs are tried at a time"):
                trials.send(wanted)
            go.set()
            assert {one.result().status for one in answers} == {200}
        assert trials.send(wanted).body == "{}"  # whatever encoding it says
        big = [trials.send(ApiRequest("GET", path)) for path in ("/whole", "/more")]
        assert [(len(one.body), one.is_cut) for one in big] == [(1_000_000, False), (1_000_000, True)]
    finally:
        go.set()
        gateway.shutdown()
        thread.join()
        gateway.server_close()
        workspace.database.close()
    assert set(seen) == {wanted.target, "/whole", "/more"}
