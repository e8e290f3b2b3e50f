"""What the gateway shall do, as one neutral model: which services there are, who may call them, how often.

Pure: values in, values out. `gateway.envoy` renders it to Envoy's files; a renderer for Kubernetes reads the
same model. Knows nothing of Envoy, of the database and of files.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from tulle.errors import Invalid
from tulle.gateway.front import Front
from tulle.gateway.policies.entry import Policy
from tulle.serving.access import Access
from tulle.serving.traffic import Traffic
from tulle.spec.rate_limit import MOST_REQUESTS, RateLimit

__all__ = [
    "Backend",
    "Client",
    "Contract",
    "GatewayPolicy",
    "ManagedService",
    "Notice",
    "Policy",
    "RateLimit",
]

SERVICE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
# Whatever `mesh.yaml` accepts: one that is refused here would keep all services' changes from the gateway.
ENVIRONMENT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
CLIENT_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MOST_AT_ONCE: Final = 2048
USUAL_LIMIT: Final = "10/1s"
Stopped = Literal["disabled", "retired"]
LONGEST_SOCKET_PATH: Final = 107  # bytes; the kernel's sun_path less its closing zero


@dataclass(frozen=True, slots=True)
class Backend:
    """The workers of one generation; see ManagedService for their addresses."""

    generation: str
    upstreams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """That a service is going to end; times in seconds since the epoch, `successor` the path of what comes after."""

    deprecated_at: float
    sunset_at: float | None = None
    successor: str = ""


@dataclass(frozen=True, slots=True)
class ManagedService:
    """A service behind the gateway and the workers that answer for it.

    `upstreams` are unix socket paths, relative to the folder the gateway runs in, or `address:port`; none of
    them means the service is known but down (503). `health_path` is asked of each worker and must answer 200.
    `may_repeat`: a request that a worker's end interrupts may be made again; else only one that never reached it.
    A service of several generations has `traffic` and, instead of `upstreams`, the workers of each in `backends`.
    `environment` is where it is deployed, the first part of its address; that of consumers is the empty one. A
    service that is `stopped`, with the reason, answers nothing but that: 503 when it is disabled, 410 when retired.
    `access` says by which ways it may be called, `policies` what becomes of its requests beside that, in order.
    With a `front` it is a version of the API `name` instead, at an address of its own: what answers is another
    service, whose workers it has, or an external one.
    """

    name: str
    upstreams: tuple[str, ...]
    max_request_bytes: int
    timeout_seconds: float = 30.0
    health_path: str = "/isAlive/"
    may_repeat: bool = True
    environment: str = ""
    traffic: Traffic | None = None
    backends: tuple[Backend, ...] = ()
    notice: Notice | None = None
    stopped: Stopped | None = None
    most_requests: int = MOST_AT_ONCE
    access: Access = Access()
    usual_limit: str = USUAL_LIMIT  # of a token's client, where `access` says none
    policies: tuple[Policy, ...] = ()
    identity: str = ""  # by which its workers are met, a SPIFFE URI; empty: as they are, without TLS
    front: Front | None = None
    product: str = ""  # that it is of; who may call it, and lead to it, is for the owner of this to say

    @property
    def known_as(self) -> str:
        """Its name; of an API with the version, as in orders@v1."""
        return self.name if self.front is None else f"{self.name}@{self.front.version}"

    @property
    def path(self) -> str:
        """Its name with its environment before it, by which it is told from others."""
        return path_of(self.known_as, self.environment)

    @property
    def answered_by(self) -> str:
        """The path of the service whose workers answer."""
        return self.front.serves if self.front is not None and self.front.serves else self.path

    @property
    def has_workers(self) -> bool:
        """Whether a service of the mesh answers: not where an external one does, or nothing."""
        return self.front is None or bool(self.front.serves)

    @property
    def workers_of(self) -> tuple[str, str]:
        """The service whose workers answer, and its environment."""
        return self.answered_by.rpartition("/")[2], self.environment

    @property
    def address(self) -> str:
        """The path that callers use."""
        if self.front is not None:
            return self.front.path
        before = f"/{self.environment}" if self.environment else ""
        return f"{before}/public/api/v1/{self.name}"

    def __post_init__(self) -> None:
        """Refuse names and addresses that cannot be rendered."""
        if self.environment and ENVIRONMENT_NAME.fullmatch(self.environment) is None:
            raise Invalid(
                f"environment '{self.environment}' of service '{self.name}' is no part of an address"
            )
        if self.traffic and set(self.traffic.mounted) - {b.generation for b in self.backends}:
            raise Invalid(f"service '{self.name}': not every generation of '{self.traffic}' has its workers")
        if not 1 <= self.most_requests <= MOST_REQUESTS:
            raise Invalid(
                f"service '{self.name}': {self.most_requests} requests at once, expected at least 1"
            )
        if SERVICE_NAME.fullmatch(self.name) is None:
            raise Invalid(
                f"service name '{self.name}': expected 2 to 63 lower-case letters, digits and hyphens"
            )
        for upstream in (*self.upstreams, *(u for b in self.backends for u in b.upstreams)):
            _check_upstream(self.name, upstream)
        if self.max_request_bytes < 1:
            raise Invalid(
                f"service '{self.name}': max_request_bytes is {self.max_request_bytes}, expected at least 1"
            )
        if self.timeout_seconds <= 0:
            raise Invalid(
                f"service '{self.name}': timeout_seconds is {self.timeout_seconds}, expected more than 0"
            )


@dataclass(frozen=True, slots=True)
class Client:
    """An application that may sign in: `secret_hash` is base64 of the SHA-1 of its secret (htpasswd's {SHA}).

    `second_hash` is that of its secret of the second form; one of the two may be empty.
    """

    client_id: str
    secret_hash: str
    second_hash: str = ""

    @property
    def hashes(self) -> tuple[str, ...]:
        """Those that are not empty."""
        return tuple(one for one in (self.secret_hash, self.second_hash) if one)

    def __post_init__(self) -> None:
        """Refuse what would break a line of the credentials file."""
        if CLIENT_ID.fullmatch(self.client_id) is None:
            raise Invalid(f"client id '{self.client_id}': expected lower-case letters, digits and hyphens")
        if not self.hashes or not all(re.fullmatch(r"[A-Za-z0-9+/]{27}=", one) for one in self.hashes):
            raise Invalid(f"client '{self.client_id}': its secret hash is not base64 of a SHA-1")


@dataclass(frozen=True, slots=True)
class Contract:
    """A client may call a service, so often, where the service is open by `way`.

    In one `environment`, the empty one is that of consumers; None: in each. `more` are further limits over other
    periods: a request needs a token of every one of them. `tier` is the name of the tier it is under, if it is under
    one; policies may ask for it. `not_in` are the versions of an API that it does not open: they were past their sunset
    when it was made.
    """

    client_id: str
    service: str
    limit: RateLimit
    way: Literal["contracts", "api_keys", "always"] = "contracts"
    environment: str | None = None
    more: tuple[RateLimit, ...] = ()  # further windows, of a tier: each has to have room
    tier: str = ""
    not_in: tuple[str, ...] = ()

    @property
    def windows(self) -> tuple[RateLimit, ...]:
        """All that hold together."""
        return (self.limit, *self.more)

    def holds_in(self, environment: str) -> bool:
        """Whether it is for the service as it is deployed there."""
        return self.environment is None or self.environment == environment

    def opens(self, service: ManagedService) -> bool:
        """Whether it is for this one: where it is deployed, and of an API this version."""
        version = service.front.version if service.front is not None else None
        return (
            self.service == service.name
            and self.holds_in(service.environment)
            and not (self.not_in and version in self.not_in)
        )


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """All of it. Default deny: a client without a contract for a service may not call it."""

    services: tuple[ManagedService, ...] = ()
    clients: tuple[Client, ...] = ()
    contracts: tuple[Contract, ...] = ()
    offered: tuple[
        tuple[RateLimit, ...], ...
    ] = ()  # limits that contracts may come under, besides those there are
    holders: tuple[tuple[str, str], ...] = ()  # client ids of services, each with the identity it comes with
    is_guarded: bool = False  # somebody tries secrets: how often wrong ones are looked at is limited
    is_alive: bool = True  # what whoever balances over several gateways is told; all is answered in any case

    @classmethod
    def of(
        cls,
        *,
        services: Iterable[ManagedService] = (),
        clients: Iterable[Client] = (),
        contracts: Iterable[Contract] = (),
        offered: Iterable[tuple[RateLimit, ...]] = (),
    ) -> GatewayPolicy:
        """The policy with everything in order, so that equal policies are equal and have equal digests.

        Raises Invalid for two services, clients or contracts of one name and for a contract of an unknown client.
        A contract for a service that is not deployed is kept out: there is nothing to call yet.
        """
        by_name = sorted(services, key=lambda s: s.path)
        by_id = sorted(clients, key=lambda c: c.client_id)
        _unique("service", [s.path for s in by_name])
        _unique("client", [c.client_id for c in by_id])
        known, deployed = {c.client_id for c in by_id}, {s.name for s in by_name}
        kept = sorted(
            (c for c in contracts if c.service in deployed),
            key=lambda c: (c.service, c.client_id, c.environment or ""),
        )
        _unique("contract", [f"{c.client_id} for {c.service}{_where(c)}" for c in kept])
        for contract in kept:
            if contract.client_id not in known:
                raise Invalid(
                    f"contract for '{contract.service}' names the unknown client '{contract.client_id}'"
                )
        known_limits = sorted({*offered}, key=str)
        return cls(tuple(by_name), tuple(by_id), tuple(kept), tuple(known_limits))

    def digest(self) -> str:
        """A SHA-256 over all that is in the policy, hexadecimal."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


def path_of(service: str, environment: str = "") -> str:
    """The name of a service with its environment before it, by which it is told from others."""
    return f"{environment}/{service}" if environment else service


def is_socket_path(upstream: str) -> bool:
    """Whether an upstream address is a unix socket rather than `host:port`."""
    return "/" in upstream


def host_and_port(upstream: str) -> tuple[str, int]:
    """The two parts of `address:port`, the address without the brackets of IPv6; ValueError when it is not that."""
    host, _, port = upstream.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_upstream(service: str, upstream: str) -> None:
    if is_socket_path(upstream):
        if len(upstream.encode()) > LONGEST_SOCKET_PATH:
            raise Invalid(
                f"service '{service}': socket path '{upstream}' is longer than {LONGEST_SOCKET_PATH} bytes",
                hint="give it relative to .tulle/",
            )
        return
    try:
        host, port = host_and_port(upstream)
        ipaddress.ip_address(host)
    except ValueError:
        port = 0
    if not 1 <= port <= 65535:
        raise Invalid(
            f"service '{service}': '{upstream}' is no address of a worker",
            hint="give a socket path with a slash in it, or IP address:port",
        )


def _where(contract: Contract) -> str:
    return f" in {contract.environment}" if contract.environment else ""


def _unique(what: str, names: list[str]) -> None:
    for one, other in itertools.pairwise(names):
        if one == other:
            raise Invalid(f"{what} '{one}' is in the policy twice")
