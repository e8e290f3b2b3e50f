"""Behind a TCP load balancer, on a real Envoy: who may speak the PROXY protocol, what it says, and what is none."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import pytest
from tests.gateway.conftest import API, Mesh, Reply, as_client, check_error, policy, wait_until

from tulle.config import GatewayTls, Settings
from tulle.gateway.door_certificate import AUTHORITY, DoorCertificate
from tulle.gateway.envoy import Gateway
from tulle.gateway.policies.listed import parse_policies, policies_in
from tulle.gateway.policy import GatewayPolicy, RateLimit

pytestmark = pytest.mark.system

BALANCER, STRANGER = "127.0.0.9", "127.0.0.1"  # from which a connection comes
CALLER = "203.0.113.7"
TRUSTED = (f"{BALANCER}/32", "10.9.0.0/16")
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"


def v1(address: str, family: str = "TCP4") -> bytes:
    to = "127.0.0.1" if family == "TCP4" else "::1"
    return f"PROXY {family} {address} {to} 1234 80\r\n".encode()


def v2(address: bytes, *, command: int = 1, kind: int = 0x11, more: bytes = b"") -> bytes:
    content = address + more
    return _SIGNATURE + bytes([0x20 | command, kind]) + struct.pack("!H", len(content)) + content


def ip4(address: str) -> bytes:
    return socket.inet_aton(address) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 1234, 80)


IP6: Final = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 1234, 80)


@dataclass
class Behind:
    """A gateway with a door for load balancers."""

    mesh: Mesh
    tls: ssl.SSLContext

    @property
    def port(self) -> int:
        return self.mesh.settings.proxy_protocol_port

    def connect(self, words: bytes, source: str = BALANCER) -> socket.socket:
        wire = socket.create_connection(("127.0.0.1", self.port), 10, (source, 0))
        wire.sendall(words)
        return wire

    def ask(
        self, words: bytes, source: str = BALANCER, *, tls: bool = False, host: str = "localhost", **said: str
    ) -> Reply:
        """Ask in one connection that begins with these words; OSError where it is ended instead of answered."""
        wire = self.connect(words, source)
        if tls:
            wire = self.tls.wrap_socket(wire, server_hostname=host)
        connection = http.client.HTTPConnection(host)
        connection.sock = wire
        try:
            headers = {name.replace("_", "-"): value for name, value in said.items()}
            connection.request("GET", f"{API}first/x", headers={**as_client("app-a"), **headers})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def address(self, words: bytes, *, tls: bool = False, **said: str) -> str:
        """Whose address the worker is told."""
        reply = self.ask(words, tls=tls, **said)
        assert reply.status == 200, reply
        return str(reply.json()["headers"]["x-envoy-external-address"])


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Behind]:
    settings = replace(
        Settings(folder=tmp_path_factory.mktemp("behind")),
        gateway_port=free_port(),
        proxy_protocol_port=free_port(),
        trusted_proxies=TRUSTED,
    )
    mesh = Mesh(settings, Gateway(settings))
    mesh.start_worker("one", "run/w/one.sock")
    DoorCertificate(_by_tls(settings)).prepare()
    mesh.gateway.publish(_policy(""))
    mesh.start()
    yield Behind(mesh, ssl.create_default_context(cafile=str(settings.state_folder / AUTHORITY)))
    mesh.stop()
    mesh.kill_worker("one")


def _by_tls(settings: Settings) -> Settings:
    return replace(settings, gateway_tls=GatewayTls(self_signed=True))


def _policy(listed: str) -> GatewayPolicy:
    return policy(
        {"first": ("run/w/one.sock",)},
        {("app-a", "first"): RateLimit.parse("100000/1s")},
        policies=policies_in(parse_policies(listed), "") if listed else (),
    )


SAID: Final = (  # what a load balancer says, and whose address it is then
    (v1(CALLER), CALLER),
    (v1("2001:db8::7", "TCP6"), "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", BALANCER),
    (v2(ip4(CALLER)), CALLER),
    (v2(IP6, kind=0x21), "2001:db8::7"),
    (v2(b"", command=0, kind=0), BALANCER),  # its own look at whether we live
    (v2(ip4(CALLER), more=b"\x04\0\x03abc\x02\0\x01h"), CALLER),  # with more about the connection
)


def test_the_address_is_what_a_trusted_load_balancer_says(behind: Behind) -> None:
    wanted: dict[str, str] = {}
    for words, address in SAID:
        reply = behind.ask(words, x_envoy_external_address="192.0.2.9")
        assert reply.json()["headers"]["x-envoy-external-address"] == address, words
        wanted[reply.headers["x-request-id"]] = address

    def logged() -> dict[str, str]:
        return {one["request_id"]: one["address"] for one in behind.mesh.log_lines()}

    wait_until(lambda: wanted.keys() <= logged().keys(), "the lines of the log", 20)
    assert wanted.items() <= logged().items()


def test_x_forwarded_for_is_believed_of_whom_it_names_alone(behind: Behind) -> None:
    assert behind.address(v1(CALLER), x_forwarded_for="192.0.2.1") == CALLER
    assert (
        behind.address(v1("10.9.3.4"), x_forwarded_for="192.0.2.1") == "192.0.2.1"
    )  # a proxy that speaks HTTP
    assert behind.address(b"PROXY UNKNOWN\r\n", x_forwarded_for="192.0.2.1") == "192.0.2.1"


def test_policies_and_limits_of_an_address_are_the_callers(behind: Behind) -> None:
    listed = (
        f"- {{policy: ip-deny, addresses: [{CALLER}]}}\n- {{policy: rate-limit, limits: 1/1h, by: address}}"
    )
    assert behind.mesh.gateway.publish(_policy(listed)).confirmed
    check_error(behind.ask(v1(CALLER)), 403, "AddressNotAllowed")
    assert [behind.ask(v1("203.0.113.8")).status for _ in range(2)] == [200, 429]
    assert behind.ask(v2(ip4("203.0.113.9"))).status == 200
    assert behind.mesh.gateway.publish(_policy("")).confirmed


BAD: Final = {
    "nothing but the request": b"",
    "no address": b"PROXY TCP4 x y 1 2\r\n",
    "no port": b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 2\r\n",
    "two families": b"PROXY TCP6 2001:db8::7 127.0.0.1 1 2\r\n",
    "another family": b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    "a line without an end": b"PROXY TCP4 " + b"1" * 300,
    "too short": v2(ip4(CALLER)[:5]),
    "another version": _SIGNATURE + b"\x31\x11\0\x0c" + ip4(CALLER),
    "another command": v2(ip4(CALLER), command=7),
    "a socket of a machine": v2(b"x" * 216, kind=0x31),
}


@pytest.mark.parametrize("words", BAD.values(), ids=BAD)
def test_what_is_no_such_word_is_not_answered(behind: Behind, words: bytes) -> None:
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        behind.ask(words)


def test_words_that_are_said_twice_are_no_request(behind: Behind) -> None:
    assert behind.ask(v1(CALLER) + v1("192.0.2.1")).status == 400


def test_nobody_else_may_connect_there_whatever_they_say(behind: Behind) -> None:
    for words in (b"", v1(CALLER), v1(BALANCER), v2(ip4(BALANCER)), v2(b"", command=0, kind=0)):
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            behind.ask(words, STRANGER)
    with behind.connect(b"", STRANGER) as silent:  # and is waited for no longer than anybody
        assert behind.address(v1(CALLER)) == CALLER
        silent.settimeout(0.01)
        with pytest.raises(TimeoutError):
            silent.recv(1)


def test_at_the_usual_door_they_are_no_words_of_anybody(behind: Behind) -> None:
    for source in (BALANCER, STRANGER):
        with socket.create_connection(
            ("127.0.0.1", behind.mesh.settings.gateway_port), 10, (source, 0)
        ) as wire:
            wire.sendall(v1(CALLER) + b"GET /isAlive/ HTTP/1.1\r\nhost: a\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 400 ")
    assert behind.mesh.ask(f"{API}first/x", as_client("app-a")).status == 200  # where they are not wanted


def test_tls_begins_behind_them(behind: Behind) -> None:
    safe = Gateway(_by_tls(behind.mesh.settings))
    assert safe.publish(_policy("")).confirmed
    wait_until(safe.ready, "the doors by TLS")
    assert behind.address(v1(CALLER), tls=True) == CALLER
    assert behind.address(v2(IP6, kind=0x21), tls=True) == "2001:db8::7"
    check_error(behind.ask(v1(CALLER)), 403, "TlsRequired")  # as at the usual door, with a secret
    for words, source in ((b"", BALANCER), (v1(CALLER), STRANGER)):
        with pytest.raises(OSError, match=r"EOF|reset|SSL|WRONG_VERSION"):
            behind.ask(words, source, tls=True)
    assert behind.mesh.gateway.publish(_policy("")).confirmed
