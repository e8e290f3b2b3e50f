"""Callers who send what nobody means, slowly or without an end, to the real Envoy; and everybody else meanwhile."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    SECRETS,
    WORKERS,
    Mesh,
    as_client,
    policy,
    wait_until,
)

pytestmark = pytest.mark.system
HEAD = (
    f"POST {API}first/x HTTP/1.1\r\nhost: g\r\nclient_id: app-a\r\nclient_secret: {SECRETS['app-a']}\r\n"
).encode()
HIDDEN = (
    f"GET {API}first/hidden HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n".encode()
)  # what is to be smuggled past the gateway


def all_of(mesh: Mesh, data: bytes) -> bytes:
    """Everything that is answered to these bytes until the connection ends."""
    with socket.create_connection(("127.0.0.1", mesh.settings.gateway_port), timeout=10) as wire:
        with suppress(ConnectionError):  # it may end before it has taken all
            wire.sendall(data)
        found = b""
        while piece := _received(wire):
            found += piece
            if b"connection: close" in found and found.rstrip().endswith(b"}"):
                break  # the last answer is whole; Envoy waits a second before it closes
        return found


def _received(wire: socket.socket) -> bytes:
    try:
        return wire.recv(65_536)
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "framing",
    {
        "both": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "both the other way": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "two lengths": b"content-length: 0\r\ncontent-length: 44\r\n\r\n",
        "two lengths in one": b"content-length: 0, 44\r\n\r\n",
        "a length with a sign": b"content-length: +0\r\n\r\n",
        "a length that is too long": b"content-length: 99999999999999999999999\r\n\r\n",
        "a negative length": b"content-length: -1\r\n\r\n",
        "another coding": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "a coding nobody has": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a space before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "a tab in the name": b"transfer-\tencoding: chunked\r\n\r\n0\r\n\r\n",
        "a folded line": b"content-length: 0\r\nx: a\r\n b\r\n\r\n",
        "a zero byte": b"content-length: 0\r\nx: a\x00b\r\n\r\n",
        "a bare carriage return": b"content-length: 0\r\nx: a\rcontent-length: 44\r\n\r\n",
        "a chunk of no size": b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        "a chunk with a sign": b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        "a chunk that is too long": b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
    }.items(),
    ids=lambda one: one[0],
)
def test_nothing_is_smuggled_past_it(mesh: Mesh, framing: tuple[str, bytes]) -> None:
    answered = all_of(mesh, HEAD + framing[1] + HIDDEN)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answered)
    # either it is refused and the connection ended, or it is read one way: what comes behind it is a request of its
    # own, without credentials, and refused as such
    assert statuses in ([b"400"], [b"501"], [b"200", b"401"]), answered
    assert b'"errorType":"GatewayError"' not in answered
    assert b"first/hidden" not in answered


def test_lines_that_end_otherwise_mean_the_same_to_gateway_and_worker(mesh: Mesh) -> None:
    answered = all_of(mesh, HEAD.replace(b"\r\n", b"\n") + b"content-length: 0\n\n" + HIDDEN)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answered) in ([b"400"], [b"200", b"401"])
    assert b"first/hidden" not in answered


def test_bytes_that_are_no_text_are_refused_in_a_path_and_harm_no_log_in_a_header(mesh: Mesh) -> None:
    assert b"400" in all_of(mesh, HEAD.replace(b"first/x", b"first/\xff\xfe"))[:20]
    before = len(mesh.log_lines())
    answered = all_of(
        mesh,
        HEAD.replace(b"first/x", b"first/odd")
        + b"x-odd: \xff\xfe\xc3\r\nuser-agent: \x80\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    assert b"HTTP/1.1 200" in answered[:20] or b"HTTP/1.1 400" in answered[:20]
    wait_until(lambda: len(mesh.log_lines()) > before, "its line in the log")  # each line is JSON still


def test_a_body_without_an_end_is_cut_off_where_it_is_too_large(mesh: Mesh) -> None:
    declared = all_of(mesh, HEAD + b"content-length: 1000000000000\r\n\r\n" + b"x" * 20_000)
    assert b"HTTP/1.1 413" in declared[:20]
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    endless = all_of(mesh, HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 200)
    assert b"HTTP/1.1 413" in endless[:20] or endless == b""  # it may have ended while we were sending


@pytest.fixture
def hasty(mesh: Mesh) -> Iterator[Mesh]:
    """It, with a second where there are ten and more: all else is as it is rendered."""
    file = mesh.settings.run_folder / "gateway" / "listeners.json"
    text = file.read_text()
    waits = {"request_headers_timeout": "1s", "request_timeout": "2s", "stream_idle_timeout": "3s"}
    for name, value in waits.items():
        text, count = re.subn(rf'"{name}":"[0-9]+s"', f'"{name}":"{value}"', text)
        assert count, name
    version = json.loads(text)["version_info"]
    fresh = file.with_suffix(".new")
    fresh.write_text(text.replace(version, "hasty"))
    fresh.rename(file)
    named = "listener_manager.lds.version_text"
    wait_until(lambda: mesh.admin.stats(f"^{named}$").get(named) == "hasty", "the listener")
    yield mesh
    mesh.gateway.publish(policy(WORKERS, {**CONTRACTS, ("app-c", "second"): PLENTY}))  # which mends the file


def test_who_is_slow_ends_and_keeps_nobody_waiting(hasty: Mesh) -> None:
    begun = {
        "headers": HEAD,
        "a body": HEAD + b"content-length: 100\r\n\r\nx",
        "a chunked body": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n",
    }
    with ExitStack() as stack:
        wires = {}
        for what, data in begun.items():
            for number in range(60):
                wire = socket.create_connection(("127.0.0.1", hasty.settings.gateway_port), timeout=20)
                stack.enter_context(wire)
                wire.sendall(data)
                wires[what, number] = wire
        for _ in range(20):
            assert hasty.ask(API + "first/x", as_client("app-a")).status == 200
        for where, wire in wires.items():
            answered = wire.recv(65_536)
            assert answered.startswith(b"HTTP/1.1 408"), (where, answered)
            assert b'"errorType":"RequestTimeout"' in answered, (where, answered)


def test_a_full_disk_keeps_what_is_in_force_and_says_so(mesh: Mesh, tmp_path: Path) -> None:
    """A process that may write no file of more than 2,000 bytes, as on a disk that has no more room."""
    script = """
        import resource, signal, sys
        from dataclasses import replace
        from pathlib import Path
        from tulle.config import Settings
        from tulle.errors import LimitExceeded
        from tulle.gateway.envoy import Gateway
        from tulle.gateway.policy import GatewayPolicy
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        gateway = Gateway(replace(Settings(folder=Path(sys.argv[1])), gateway_port=int(sys.argv[2])))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            gateway.publish(GatewayPolicy())
        except LimitExceeded as exc:
            print(exc.message, "|", exc.hint)
    """
    before = {p.name: p.read_bytes() for p in (mesh.settings.run_folder / "gateway").glob("*.json")}
    done = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(script)),
            *(str(mesh.settings.folder), str(mesh.settings.gateway_port)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "disk full" in done.stdout
    assert "the running gateway keeps what it has" in done.stdout
    assert {p.name: p.read_bytes() for p in (mesh.settings.run_folder / "gateway").glob("*.json")} == before
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
