"""The two files of routes as bytes, put together of what each service has in them.

They are most of what Envoy is told, and most changes are of one service: what the others have there is kept from one
time to the next. Which routes these are is `envoy_routes`'s matter. Knows nothing of the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tulle.gateway.envoy_apis import ordered
from tulle.gateway.envoy_index import indexed_bytes, listed
from tulle.gateway.envoy_inner import INNER_HOST, INNER_OF_NOBODY
from tulle.gateway.envoy_routes import (
    behind_all,
    contracts_of,
    front,
    front_host,
    front_routes,
    inner_routes,
    of_nobody,
)
from tulle.gateway.envoy_values import ROUTE_CONFIGURATION, VIRTUAL_HOST, Json
from tulle.gateway.envoy_wire import field, packed, written
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policy import Contract, GatewayPolicy, ManagedService

_FILE: Final = "envoy.service.discovery.v3.DiscoveryResponse"
_VERSION_LENGTH: Final = 16

_Made = Mapping[str, tuple[tuple[object, ...], bytes]]  # by service: of what it was made, and what


class RouteFiles:
    """What was made last of every service. Not for several threads at once."""

    def __init__(self, processors: int) -> None:
        self._processors = processors
        self._front: _Made = {}
        self._inner: _Made = {}

    def front(self, policy: GatewayPolicy) -> bytes:
        """The file of the front's routes. Invalid or ValueError for what cannot be rendered."""
        contracts, known = contracts_of(policy), known_kinds()

        def held(service: ManagedService) -> tuple[Contract, ...]:
            return contracts.get(service.name, ())

        def routes(service: ManagedService) -> Sequence[Json]:
            return front_routes(service, held(service), self._processors)

        self._front = _made(self._front, policy, lambda one: (one, known, held(one)), routes)
        return _file(front(policy), front_host(policy), _by_address(policy, self._front), of_nobody(policy))

    def inner(self, policy: GatewayPolicy) -> bytes:
        """The file of the inner listener's routes."""
        known = known_kinds()
        self._inner = _made(self._inner, policy, lambda one: (one, known), inner_routes)
        return _file(behind_all(policy), INNER_HOST, _by_address(policy, self._inner), INNER_OF_NOBODY)


def version_of(content: bytes) -> str | None:
    """The version of a file that is whole, as it was made: the digest of what it holds; None for any other."""
    said = content[2 : 2 + _VERSION_LENGTH]
    if content[:2] != bytes((0x0A, _VERSION_LENGTH)) or said != _digest(content[2 + _VERSION_LENGTH :]):
        return None
    return said.decode()


def _made(
    before: _Made,
    policy: GatewayPolicy,
    made_of: Callable[[ManagedService], tuple[object, ...]],
    routes: Callable[[ManagedService], Sequence[Json]],
) -> _Made:
    found: dict[str, tuple[tuple[object, ...], bytes]] = {}
    for service in policy.services:
        of = made_of(service)
        kept = before.get(service.path)
        if kept is None or kept[0] != of:
            kept = of, listed(routes(service))
        found[service.path] = kept
    return found


def _by_address(policy: GatewayPolicy, made: _Made) -> Mapping[str, Sequence[bytes]]:
    found: dict[str, list[bytes]] = {}
    for service in ordered(policy.services):
        found.setdefault(service.address, []).append(made[service.path][1])
    return found


def _file(
    configuration: Json, host: Json, found: Mapping[str, Sequence[bytes]], always: Sequence[Json]
) -> bytes:
    routes = indexed_bytes(found, [listed(always)])
    whole = written(ROUTE_CONFIGURATION, configuration) + field(
        ROUTE_CONFIGURATION, "virtual_hosts", written(VIRTUAL_HOST, host) + routes
    )
    resources = field(_FILE, "resources", packed(ROUTE_CONFIGURATION, whole))
    return field(_FILE, "version_info", _digest(resources)) + resources


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:_VERSION_LENGTH].encode()
