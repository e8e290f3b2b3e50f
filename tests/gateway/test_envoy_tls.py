"""Callers by TLS and HTTP/2 on the real Envoy: who is believed, what is one path in both, what is cut off."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tests.gateway.conftest import API, CONTRACTS, WORKERS, Mesh, as_client, policy, wait_until
from tests.gateway.test_door_certificate import given

from tulle.config import GatewayTls, Settings
from tulle.gateway.door_certificate import AUTHORITY, DoorCertificate, read_pair
from tulle.gateway.envoy import Gateway
from tulle.gateway.own_call import calling
from tulle.gateway.trust.keeper import Keeper
from tulle.serving.own_certificate import pinned
from tulle.state.db import Database, now

pytestmark = pytest.mark.system
PATH = API + "first/x"


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Mesh]:
    """A gateway by TLS with a certificate of its own making, and a port beside it that leads there."""
    folder = tmp_path_factory.mktemp("safe")
    tls = GatewayTls(self_signed=True, names=("mesh.example.com",), plain_port=free_port())
    settings = replace(Settings(folder=folder), gateway_port=free_port(), gateway_tls=tls)
    mesh = Mesh(settings, Gateway(settings))
    mesh.start_worker("first-1", "run/w/first-1.sock")
    DoorCertificate(settings).prepare()
    mesh.gateway.publish(
        policy({"first": WORKERS["first"]}, {("app-a", "first"): CONTRACTS["app-a", "first"]})
    )
    mesh.start()
    yield mesh
    mesh.stop()
    for name in list(mesh.workers):
        mesh.kill_worker(name)


def authority(mesh: Mesh) -> Path:
    return mesh.settings.state_folder / AUTHORITY


def curl(mesh: Mesh, path: str, *options: str, host: str = "localhost") -> tuple[str, str, str]:
    """Status, version of HTTP and body, as curl has them."""
    to = f"{host}:{mesh.settings.gateway_port}:127.0.0.1"
    done = subprocess.run(
        [
            *("curl", "-sS", "--path-as-is", "--resolve", to, "--cacert", str(authority(mesh))),
            *("-w", "\n%{http_code} %{http_version}", "-u", f"app-a:{'a1' * 20}", *options),
            f"https://{host}:{mesh.settings.gateway_port}{path}",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert not done.returncode, done.stderr
    body, _, last = done.stdout.rpartition("\n")
    status, version = last.split()
    return status, version, body


@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
@pytest.mark.parametrize("host", ["localhost", "mesh.example.com"])
def test_whoever_trusts_the_authority_is_answered_by_both_versions(
    safe: Mesh, option: str, version: str, host: str
) -> None:
    status, spoken, body = curl(safe, PATH, option, "-d", '{"a": 1}', host=host)
    assert (status, spoken) == ("200", version)
    assert json.loads(body)["bytes"] == 8


def test_its_own_mesh_calls_it_believing_its_certificate_alone(safe: Mesh) -> None:
    assert safe.settings.gateway_url == f"https://127.0.0.1:{safe.settings.gateway_port}"
    with calling(safe.settings, timeout=5) as client:
        assert client.post(PATH, headers=as_client("app-a")).status_code == 200
    with httpx.Client(trust_env=False) as stranger, pytest.raises(httpx.ConnectError, match="verify"):
        stranger.get(safe.settings.gateway_url)


def test_keys_are_their_owners_and_the_authority_signs_for_this_machine_alone(safe: Mesh) -> None:
    state = safe.settings.state_folder
    for file in (state / "tls").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file
    assert "PRIVATE" not in authority(safe).read_text()
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", str(authority(safe))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Name Constraints: critical" in said
    assert "DNS:mesh.example.com" in said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_tls_than_1_2_is_not_spoken(safe: Mesh, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(authority(safe)))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", safe.settings.gateway_port), 5) as wire,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(wire, server_hostname="localhost")


def test_another_certificate_is_shown_at_once_and_no_connection_is_lost(safe: Mesh) -> None:
    before = read_pair(safe.settings.state_folder)
    with calling(safe.settings, timeout=5) as client:
        assert client.post(PATH, headers=as_client("app-a")).status_code == 200
        (safe.settings.run_folder / "gateway" / "certificate.json").unlink()
        assert DoorCertificate(safe.settings).keep()
        after = read_pair(safe.settings.state_folder)
        assert before is not None
        assert after is not None
        assert after != before
        wait_until(lambda: shown_by(safe) == der_of(after.certificate), "the new certificate")
        assert client.post(PATH, headers=as_client("app-a")).status_code == 200  # on the connection of before
    assert curl(safe, PATH, "--http2", "-d", "{}")[0] == "200"  # the authority is the same


def test_a_host_of_an_api_below_its_names_is_believed(safe: Mesh) -> None:
    host, door = "api.mesh.example.com", DoorCertificate(safe.settings)
    before = authority(safe).read_text()
    with pytest.raises(AssertionError, match=r"(?i)no alternative certificate subject name"):
        curl(safe, PATH, "--http2", "-d", "{}", host=host)
    door.of_hosts([host])
    assert door.keep()
    held = read_pair(safe.settings.state_folder)
    assert held is not None
    wait_until(lambda: shown_by(safe) == der_of(held.certificate), "the new certificate")
    assert curl(safe, PATH, "--http2", "-d", "{}", host=host)[0] == "200"
    assert authority(safe).read_text() == before


def shown_by(mesh: Mesh) -> bytes:
    context = ssl.create_default_context(cafile=str(authority(mesh)))
    with (
        socket.create_connection(("127.0.0.1", mesh.settings.gateway_port), 5) as wire,
        context.wrap_socket(wire, server_hostname="localhost") as safe,
    ):
        return safe.getpeercert(binary_form=True) or b""


def der_of(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END CERTIFICATE-----") + 25])


# ── without TLS ──────────────────────────────────────────────────────────────────────────────────────────


def plainly(port: int, method: str, headers: Mapping[str, str], query: str = "") -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.request(
            method, f"http://127.0.0.1:{port}/public/api/v1/first/x{query}", headers=headers
        )


@pytest.mark.parametrize("door", ["gateway_port", "plain_port"])
def test_without_tls_reads_are_led_to_it_and_what_may_have_a_secret_is_refused(safe: Mesh, door: str) -> None:
    tls = safe.settings.gateway_tls
    assert tls is not None
    port = tls.plain_port if door == "plain_port" else safe.settings.gateway_port
    led = plainly(port, "GET", {})
    assert led.status_code == 308
    assert led.headers["location"] == f"https://127.0.0.1:{safe.settings.gateway_port}/public/api/v1/first/x"
    told: tuple[tuple[str, Mapping[str, str], str], ...] = (
        ("POST", {}, ""),
        ("GET", as_client("app-a"), ""),
        ("GET", {"client_secret": "x"}, ""),
        ("GET", {"X-Api-Key": "x"}, ""),
        ("GET", {}, "?client_id=app-a&client_secret=" + "a1" * 20),
        ("HEAD", {}, "?key=x"),
        ("GET", {"host": "localhost@elsewhere.example"}, ""),
    )
    for method, headers, query in told:
        refused = plainly(port, method, headers, query)
        assert refused.status_code == 403, (method, headers, query)
        if method == "HEAD":
            continue
        assert refused.json()["errorType"] == "TlsRequired"
        assert set(refused.json()) == {"errorType", "message", "detailedMessage", "requestId"}


# ── one path in both versions ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (PATH, "200"),
        ("//public//api/v1/first//x", "200"),
        ("/public/api/v1/second/../first/x", "200"),
        ("/public/api/v1/first/../second/x", "404"),
        ("/public/api/v1/first/%2e%2e/second/x", "404"),
        ("/public/api/v1/first%2fx", "400"),
        ("/public/api/v1/first%5cx", "400"),
        ("/../../etc/passwd", "404"),
    ],
)
def test_a_path_means_the_same_in_both_versions(safe: Mesh, path: str, status: str) -> None:
    answers = [curl(safe, path, option) for option in ("--http2", "--http1.1")]
    assert [one[0] for one in answers] == [status, status]
    if status == "200":
        paths = {json.loads(one[2])["target"] for one in answers}
        assert paths == {PATH}


def test_no_authority_leads_elsewhere(safe: Mesh) -> None:
    for said in ("elsewhere.example.com", "127.0.0.1:1", "first", "a@b", ""):
        with H2(safe) as wire:
            got = wire.ask(authority=said)
            assert got in {"200", "400", "404", *ENDED}, (said, got)  # the same service, or none
    with H2(safe) as wire:  # a host that is not its authority is not heard
        assert wire.ask(more={"host": "elsewhere.example.com"}) in {"200", "400", *ENDED}


# ── HTTP/2 as nobody means it ────────────────────────────────────────────────────────────────────────────


# frames by which a stream or a connection ends without a status, and the end itself
ENDINGS = {3: "reset", 7: "goaway", -1: "closed"}
ENDED = frozenset(ENDINGS.values())


class H2:
    """HTTP/2 by hand: frames as they are said."""

    def __init__(self, mesh: Mesh) -> None:
        context = pinned((mesh.settings.state_folder / "tls" / "gateway.pem").read_text())
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", mesh.settings.gateway_port), 10)
        self.wire = context.wrap_socket(raw, server_hostname="localhost")
        assert self.wire.selected_alpn_protocol() == "h2"
        self.wire.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        self.stream = 1

    def __enter__(self) -> H2:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.wire.close()

    def headers(
        self, *, authority: str = "localhost", path: str = PATH, more: Mapping[str, str] | None = None
    ) -> bytes:
        """The frame of a request without a body, on the next stream."""
        said = {":method": "GET", ":scheme": "https", ":path": path, ":authority": authority}
        block = b"".join(
            literal(name, value) for name, value in (said | as_client("app-a") | dict(more or {})).items()
        )
        made = frame(1, 0x5, self.stream, block)
        self.stream += 2
        return made

    def ask(self, *, authority: str = "localhost", more: Mapping[str, str] | None = None) -> str:
        """The status of one request, or of how it ended."""
        self.wire.sendall(self.headers(authority=authority, more=more))
        while True:
            kind, stream, payload = self.read()
            if kind == 1 and stream == self.stream - 2:
                return status_in(payload)
            if kind in ENDINGS:
                return ENDINGS[kind]

    def read(self) -> tuple[int, int, bytes]:
        """Kind, stream and payload of the next frame; kind -1 at the end."""
        head = self._exactly(9)
        if len(head) < 9:
            return -1, 0, b""
        length = int.from_bytes(head[:3], "big")
        return head[3], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            try:
                piece = self.wire.recv(length - len(found))
            except (ConnectionError, ssl.SSLError):
                return b""
            if not piece:
                return b""
            found += piece
        return found


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    def text(one: str) -> bytes:
        data = one.encode()
        assert len(data) < 127
        return bytes((len(data),)) + data

    return b"\0" + text(name) + text(value)


def status_in(block: bytes) -> str:
    """What Envoy begins its headers with: `:status`, by the static table or with a literal value."""
    known = {0x88: "200", 0x8C: "400", 0x8D: "404", 0x8E: "500"}
    if block[0] in known:
        return known[block[0]]
    for status in (b"401", b"403", b"431", b"503"):
        if status in block[:12]:
            return status.decode()
    return block[:12].hex()


def test_whoever_takes_requests_back_again_and_again_is_cut_off_and_nobody_else(safe: Mesh) -> None:
    with H2(safe) as wire:
        assert wire.ask() == "200"
        try:
            for _ in range(40):
                burst = b""
                for _ in range(50):
                    stream = wire.stream
                    burst += wire.headers() + frame(3, 0, stream, struct.pack(">I", 8))
                wire.wire.sendall(burst)
        except (ConnectionError, ssl.SSLError):
            pass
        kinds = []
        while (found := wire.read())[0] != -1:
            kinds.append(found[0])  # until the connection ends
    assert counted(safe, "http.gateway.downstream_rq_too_many_premature_resets") >= 1
    assert curl(safe, PATH, "--http2", "-d", "{}")[0] == "200"


def test_a_flood_of_headers_is_refused_in_both_versions(safe: Mesh) -> None:
    log = safe.settings.log_folder / "gateway-access.jsonl"
    overflowed = counted(safe, "http2.header_overflow")
    many, long = {f"x-{n}": "y" for n in range(150)}, {f"x-{n}": "y" * 120 for n in range(90)}
    with H2(safe) as wire:
        assert wire.ask(more=many) == "reset"  # Envoy's codec has no answer here: RST_STREAM alone
        assert wire.ask() == "200"  # the connection goes on, and can read what comes next
        assert wire.ask(more=long) == "200"
    assert counted(safe, "http2.header_overflow") == overflowed + 1
    wait_until(lambda: "http2.too_many_headers" in log.read_text(), "its line in the log")
    (line,) = [one for one in safe.log_lines() if one["details"] == "http2.too_many_headers"]
    assert (line["code"], line["method"]) == (0, None)
    sent = [part for name, value in many.items() for part in ("-H", f"{name}: {value}")]
    for flood in (sent, ["-H", f"z: {'y' * 40_000}"]):
        assert curl(safe, PATH, "--http1.1", *flood)[0] == "431"
        with pytest.raises(AssertionError, match="INTERNAL_ERROR"):
            curl(safe, PATH, "--http2", *flood)
    assert curl(safe, PATH, "--http2", "-d", "{}")[0] == "200"


def test_headers_without_an_end_are_cut_off(safe: Mesh) -> None:
    with H2(safe) as wire:
        first = literal(":method", "GET") + literal(":scheme", "https") + literal(":path", PATH)
        try:
            wire.wire.sendall(frame(1, 0, 1, first))  # neither the end of headers nor of the stream
            for _ in range(20_000):
                wire.wire.sendall(frame(9, 0, 1, literal("x-more", "y" * 100)))
        except (ConnectionError, ssl.SSLError):
            pass
        while wire.read()[0] != -1:
            pass
    assert curl(safe, PATH, "--http2", "-d", "{}")[0] == "200"


def counted(mesh: Mesh, name: str) -> int:
    return int(mesh.admin.stats(f"^{name}$").get(name, 0))


# ── prior knowledge, and ports ───────────────────────────────────────────────────────────────────────────


def test_http_2_is_also_spoken_without_tls_to_who_begins_with_it(mesh: Mesh) -> None:
    done = subprocess.run(
        [
            *("curl", "-sS", "--http2-prior-knowledge", "-w", "\n%{http_code} %{http_version}"),
            *("-u", f"app-a:{'a1' * 20}", "-d", "{}", f"http://127.0.0.1:{mesh.settings.gateway_port}{PATH}"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.endswith("200 2")


def test_a_reader_that_takes_nothing_holds_nothing_for_long(safe: Mesh) -> None:
    """With a window of no bytes an answer cannot be sent; the request ends instead, and others are answered."""
    file = safe.settings.run_folder / "gateway" / "listeners.json"
    text = file.read_text()
    version = json.loads(text)["version_info"]
    hasty = text.replace(version, "hasty").replace(
        '"stream_idle_timeout":"120s"', '"stream_idle_timeout":"1s"'
    )
    fresh = file.with_suffix(".new")
    fresh.write_text(hasty)
    fresh.rename(file)
    named = "listener_manager.lds.version_text"
    wait_until(lambda: safe.admin.stats(f"^{named}$").get(named) == "hasty", "the listener")
    with H2(safe) as wire:
        wire.wire.sendall(frame(4, 0, 0, struct.pack(">HI", 4, 0)))  # the window of each stream
        wire.wire.sendall(wire.headers())
        kinds = []
        while not kinds or kinds[-1] not in {3, 7, -1}:
            kinds.append(wire.read()[0])
        assert 0 not in kinds  # no byte of the body came
        assert kinds[-1] == 3
        assert curl(safe, PATH, "--http2")[0] == "200"


# ── ones own certificate, and doors in every combination ─────────────────────────────────────────────────


def test_ones_own_certificate_is_followed_and_browsers_are_told_to_stay(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    settings = given(tmp_path)
    assert settings.gateway_tls is not None
    tls = replace(settings.gateway_tls, hsts_seconds=600, host="mesh.example.com")
    settings = replace(settings, gateway_tls=tls, gateway_port=free_port())
    mesh, keeper, at = Mesh(settings, Gateway(settings)), DoorCertificate(settings), now()
    keeper.keep(at)
    mesh.gateway.publish(policy({"first": WORKERS["first"]}, {}))
    mesh.start()
    try:
        with calling(settings, timeout=5) as client:  # at this machine's address, whatever name it is for
            answer = client.get(PATH)
        assert answer.status_code == 401
        assert answer.headers["strict-transport-security"] == "max-age=600"
        assert settings.gateway_url == f"https://mesh.example.com:{settings.gateway_port}"
        given(tmp_path, names=("other.example.com",))
        assert keeper.keep(at + 60)
        pair = read_pair(settings.state_folder)
        assert pair is not None

        def is_shown() -> bool:
            context = pinned(pair.certificate)
            with socket.create_connection(("127.0.0.1", settings.gateway_port), 5) as wire:
                try:
                    with context.wrap_socket(wire, server_hostname="other.example.com"):
                        return True
                except ssl.SSLError:
                    return False

        wait_until(is_shown, "the newer certificate")
    finally:
        mesh.stop()


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("plain", ["none", "redirect", "serve"])
def test_envoy_takes_every_combination_of_doors(
    tmp_path: Path, database: Database, plain: str, mutual: bool
) -> None:
    tls = GatewayTls(self_signed=True, **({} if plain == "none" else {"plain_port": 9, "plain": plain}))
    settings = replace(Settings(folder=tmp_path), gateway_tls=tls, mutual_tls=mutual)
    DoorCertificate(settings).prepare()
    Keeper(settings, database).prepare(())
    Gateway(settings).check(policy({"first": WORKERS["first"]}, {}))
