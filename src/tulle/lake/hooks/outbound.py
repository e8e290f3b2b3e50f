"""HTTP requests to where hooks point: to allowed addresses only, bounded in time and size, no redirects.

Whoever may write an action file makes the server send requests, so the server must not become a way into the
network it stands in: a name is resolved once, every address of it is judged, and the connection goes to an address
that was judged. Only public addresses are reached unless the mesh allows others. Knows nothing of hooks.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from tulle.errors import Denied, Invalid, Unavailable

BODY_BYTES = 256 * 1024  # of an answer; more is not read
_OURS = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer"}
# Networks whose addresses end in one of IPv4: translated ones, and those of a form nobody has used for long.
_HIDING = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: at most BODY_BYTES of the body, `cut` when there was more."""

    status: int
    body: bytes
    cut: bool

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


class Outbound:
    """Sends requests. `allowed` lists what is reached beside public addresses:

    networks (`10.1.0.0/16`, `127.0.0.1`), names (`airflow.internal`), or either with a port
    (`airflow.internal:8080`, `127.0.0.1:9000`, `[::1]:9000`). `setting` is what people write that list under.
    """

    def __init__(
        self, allowed: Sequence[str] = (), *, who: str = "hooks", setting: str = "hook_addresses"
    ) -> None:
        self._who = who
        self._setting = setting
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]] = []
        self._names: set[tuple[str, int | None]] = set()
        for text in allowed:
            host, port = _host_and_port(text)
            try:
                self._networks.append((ipaddress.ip_network(host), port))
            except ValueError:
                self._names.add((host.lower().rstrip("."), port))

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", deadline: float
    ) -> Answer:
        """Send one request; `deadline` by `time.monotonic`.

        Invalid for what is no URL or header, Denied for an address that is not allowed, Unavailable when there is
        no answer, or none in time. Redirects are not followed.
        """
        parts = _checked_url(url)
        for name in headers:
            if name.lower() in _OURS:
                raise Invalid(f"the header '{name}' cannot be set")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        try:
            sock = self._connected(host, port, deadline)
        except OSError as exc:
            raise Unavailable(f"{host}:{port} cannot be reached: {exc}") from None
        late = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [sock])
        late.daemon = True
        late.start()
        try:
            return _exchange(parts, sock, method, headers, body, deadline)
        except (OSError, http.client.HTTPException) as exc:
            if time.monotonic() >= deadline:
                raise Unavailable(f"{host}:{port} did not answer in time") from None
            raise Unavailable(f"{host}:{port} broke off: {exc or type(exc).__name__}") from None
        except (ValueError, UnicodeError) as exc:  # a header with a line break
            raise Invalid(f"the request cannot be sent: {exc}") from None
        finally:
            late.cancel()
            _shut(sock)
            sock.close()

    def addresses(self, host: str, port: int, deadline: float) -> list[str]:
        """The addresses of a host, each of which may be reached. Denied, or Unavailable when it has none."""
        found = dict.fromkeys(str(place[0]) for *_, place in self.judged(host, port, deadline))
        return list(found)

    def judged(self, host: str, port: int, deadline: float) -> Sequence[tuple[Any, ...]]:
        """The same as `socket.getaddrinfo` gives them."""
        found = _in_time(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), deadline, host)
        named = {(host.lower().rstrip("."), None), (host.lower().rstrip("."), port)} & self._names
        for *_, place in found:
            address = ipaddress.ip_address(str(place[0]).partition("%")[0])
            if not named and not self._may(address, port):
                raise Denied(
                    f"{self._who} may not reach {host}:{port} ({address}): not a public address",
                    hint=f"if they should, write '{host}:{port}' under `{self._setting}:` in mesh.yaml",
                )
        return found

    def lists(self, host: str, port: int) -> bool:
        """Whether a host is named, itself or by its network, as what may be reached though it is not public."""
        if {(host.lower().rstrip("."), None), (host.lower().rstrip("."), port)} & self._names:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(
            only in {None, port} and address.version == network.version and address in network
            for network, only in self._networks
        )

    def _connected(self, host: str, port: int, deadline: float) -> socket.socket:
        found = self.judged(host, port, deadline)
        error: OSError | None = None
        for family, kind, protocol, _, place in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                sock.connect(place)
            except OSError as exc:
                sock.close()
                error = exc
            else:
                return sock
        raise error or OSError("it has no address")

    def _may(self, address: Address, port: int) -> bool:
        for network, only in self._networks:
            if only in {None, port} and address.version == network.version and address in network:
                return True
        return all(_is_public(inner) for inner in _meant(address))


def _is_public(address: Address) -> bool:
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not is_site_local


def _meant(address: Address) -> list[Address]:
    """An address, and the IPv4 addresses that are hidden in it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    found: list[Address] = [address]
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if any(address in network for network in _HIDING):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_fits = parts.port != 0
    except ValueError as exc:
        raise Invalid(f"the address cannot be used: {exc}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_fits:
        raise Invalid("the address cannot be used", hint="write http://host/… or https://host/…")
    if parts.username is not None or parts.password is not None:
        raise Invalid("the address holds a name or password", hint="send it in a header")
    if any(ord(sign) <= 32 or ord(sign) > 126 for sign in url):
        raise Invalid("the address holds a character that must be percent-encoded")
    return parts


def _exchange(
    parts: SplitResult,
    sock: socket.socket,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    deadline: float,
) -> Answer:
    host = parts.hostname or ""
    if parts.scheme == "https":
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    sock.settimeout(max(0.001, deadline - time.monotonic()))
    connection = http.client.HTTPConnection(host, parts.port)
    connection.sock = sock
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", parts.netloc)
    for name, value in headers.items():
        connection.putheader(name, value.encode("utf-8") if not value.isascii() else value)
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Connection", "close")
    connection.endheaders(body)
    response = connection.getresponse()
    try:
        content = response.read(BODY_BYTES + 1)
    finally:
        response.close()
    if time.monotonic() >= deadline:  # the socket was shut under us, which looks like an end
        raise TimeoutError("the answer was not complete in time")
    return Answer(response.status, content[:BODY_BYTES], len(content) > BODY_BYTES)


def _in_time(work: Callable[[], T], deadline: float, what: str) -> T:
    """Resolving names cannot be interrupted; it can be left alone."""
    found: list[T] = []
    wrong: list[OSError | UnicodeError] = []

    def do() -> None:
        try:
            found.append(work())
        except (OSError, UnicodeError) as exc:
            wrong.append(exc)

    thread = threading.Thread(target=do, name="resolve", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if found:
        return found[0]
    reason = str(wrong[0]) if wrong else "no answer in time"
    raise Unavailable(f"the name '{what}' cannot be resolved: {reason}") from (wrong[0] if wrong else None)


def _host_and_port(text: str) -> tuple[str, int | None]:
    host, colon, port = text.rpartition(":")
    if text.startswith("[") and "]" in text:
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:]) if rest.startswith(":") else None
    if colon and port.isdigit() and ":" not in host:
        return host, int(port)
    return text, None


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
