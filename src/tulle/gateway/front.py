"""What makes a service of the gateway a version of an API: an address of its own, and what answers behind it.

Values alone, as `gateway.policy` has them. Knows nothing of who declared the API, and nothing of Envoy.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tulle.errors import Invalid

LARGEST_CA: Final = 65_536  # bytes of certificates
PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,8}")
_URL: Final = re.compile(r"[\x21-\x7e]{1,500}")
_BASE: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Upstream:
    """One address of an external HTTP service, and its share of the requests in parts."""

    url: str
    weight: int = 1

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """Its name or address, an IPv6 one without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port it is at."""
        return urlsplit(self.url).port or (443 if self.is_secure else 80)

    @property
    def base(self) -> str:
        """The path below which it answers, without a slash at the end."""
        return urlsplit(self.url).path.rstrip("/")


@dataclass(frozen=True, slots=True)
class External:
    """An external HTTP service: its addresses, all of one kind and with one path, and how it is spoken to.

    `ca` are certificates (PEM) that its own is checked with; empty: those of this machine. Times are in seconds;
    `health_path`, when there is one, is asked every `health_seconds` and must answer 200. With a `connection` the
    address is that of this connection of the mesh, and the gateway signs in there: `upstreams` are none until it is
    known.
    """

    upstreams: tuple[Upstream, ...]
    ca: str = ""
    connect_seconds: float = 2.0
    timeout_seconds: float = 30.0
    idle_seconds: float = 60.0
    health_path: str = ""
    health_seconds: float = 10.0
    connection: str = ""


@dataclass(frozen=True, slots=True)
class MockAnswer:
    """What the gateway itself answers to one operation, of an API that nothing else answers.

    `name` is that of the example it is taken from; `media`, its content type, is empty where it has no body.
    """

    method: str
    path: str
    status: int
    name: str = ""
    media: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True)
class Front:
    """A version of an API as callers meet it.

    `path` is its address, with the environment in it; `hosts`, when there are any, are those that it is called by.
    A service answers, `serves` is its path at the gateway (`policy.path_of`), or an `external` one does, or nothing:
    then it is unbound, 503. Where there are `mocks`, the gateway answers by these itself, the first of an operation
    unless another one is asked for. With `only_declared` nothing passes but `operations`: methods with paths as OpenAPI
    writes them.
    """

    version: str
    path: str
    hosts: tuple[str, ...] = ()
    serves: str = ""
    external: External | None = None
    only_declared: bool = False
    operations: tuple[tuple[str, str], ...] = ()
    mocks: tuple[MockAnswer, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be an address."""
        if self.path != "/" and PATH.fullmatch(self.path) is None:
            raise Invalid(f"'{self.path}' is no address of an API", hint="for example /orders/v1")
        if self.path == "/" and not self.hosts:
            raise Invalid("an API at the path '/' needs hosts of its own")
        for host in self.hosts:
            if HOST.fullmatch(host) is None:
                raise Invalid(f"'{host}' is no host name", hint="lower-case, without a port")

    @property
    def is_unbound(self) -> bool:
        """Whether nothing answers."""
        return not self.serves and self.external is None and not self.mocks

    @property
    def is_mock(self) -> bool:
        """Whether the gateway itself answers, by examples."""
        return not self.serves and self.external is None and bool(self.mocks)


def check_url(url: str) -> Upstream:
    """The address of an external service. Invalid when it is none that the gateway can lead to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_address(url) from None
    plain = _URL.fullmatch(url) is not None and not (parts.query or parts.fragment or "@" in parts.netloc)
    known = HOST.fullmatch(host) is not None or is_address(host)
    if parts.scheme not in {"http", "https"} or not plain or not known or port == 0:
        raise _no_address(url)
    if _BASE.fullmatch(parts.path) is None or any(step in {".", ".."} for step in parts.path.split("/")):
        raise Invalid(f"the path of '{url}' cannot be led to", hint="letters, digits, '.', '_', '~' and '-'")
    return Upstream(url)


def is_address(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _no_address(url: str) -> Invalid:
    return Invalid(
        f"'{url[:100]}' is no address of an HTTP service",
        hint="for example https://orders.example.com/base, without user, query and fragment",
    )
