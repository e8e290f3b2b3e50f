"""The two files of routes as bytes, put together of what each service has in them.

They are most of what Envoy is told, and most changes are of one service: what the others have there is kept from one
time to the next. Which routes these are is `envoy_routes`'s matter. Knows nothing of the disk.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tulle.gateway.envoy_apis import ordered
from tulle.gateway.envoy_index import Entries, indexed_bytes, listed
from tulle.gateway.envoy_inner import INNER_HOST, INNER_OF_NOBODY
from tulle.gateway.envoy_routes import (
    OF_NOBODY,
    behind_all,
    contracts_of,
    front,
    front_host,
    front_routes,
    gateways_own,
    inner_routes,
)
from tulle.gateway.envoy_values import ROUTE_CONFIGURATION, VIRTUAL_HOST, Json
from tulle.gateway.envoy_wire import field, packed, written
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policy import GatewayPolicy, ManagedService

_FILE: Final = "envoy.service.discovery.v3.DiscoveryResponse"
_VERSION_LENGTH: Final = 16

_One = tuple[tuple[Any, ...], bytes]  # of what it was made, and what
_Made = dict[str, _One]  # by service


class _Kept:
    """What was made last of one table, and what the whole file was made of."""

    def __init__(self) -> None:
        self.made: _Made = {}
        self.entries: Entries = {}
        self.of: tuple[Any, ...] = ()
        self.file = b""


class RouteFiles:
    """What was made last of every service. Not for several threads at once."""

    def __init__(self, processors: int) -> None:
        self._processors = processors
        self._front = _Kept()
        self._inner = _Kept()

    def front(self, policy: GatewayPolicy) -> bytes:
        """The file of the front's routes. Invalid or ValueError for what cannot be rendered."""
        make = self._front_of(policy)
        self._front.made = {one.path: make(one) for one in policy.services}
        found = _by_address(policy, self._front.made)
        for address, of_gateway in gateways_own(policy).items():
            found.setdefault(address, []).append(listed(of_gateway))
        return _file(self._front, front(policy), front_host(policy), found, OF_NOBODY)

    def inner(self, policy: GatewayPolicy) -> bytes:
        """The file of the inner listener's routes."""
        make = self._inner_of()
        self._inner.made = {one.path: make(one) for one in policy.services}
        found = _by_address(policy, self._inner.made)
        return _file(self._inner, behind_all(policy), INNER_HOST, found, INNER_OF_NOBODY)

    def warm_up(self, policy: GatewayPolicy, seconds: float) -> bool:
        """Make some of what the next file would need of this policy, for so long; whether all is made.

        What is in force since before this process began it has never rendered: the first change would wait for that.
        """
        until = time.monotonic() + seconds
        both = ((self._front.made, self._front_of(policy)), (self._inner.made, self._inner_of()))
        for service in policy.services:
            for made, make in both:
                if service.path not in made:
                    if time.monotonic() >= until:
                        return False
                    made[service.path] = make(service)
        return True

    def _front_of(self, policy: GatewayPolicy) -> Callable[[ManagedService], _One]:
        contracts, known = contracts_of(policy), known_kinds()

        def make(service: ManagedService) -> _One:
            held = contracts.get(service.name, ())
            of = (service, known, held)
            return _kept(self._front.made, of, lambda: front_routes(service, held, self._processors))

        return make

    def _inner_of(self) -> Callable[[ManagedService], _One]:
        known = known_kinds()
        return lambda one: _kept(self._inner.made, (one, known), lambda: inner_routes(one))


def version_of(content: bytes) -> str | None:
    """The version of a file that is whole, as it was made: the digest of what it holds; None for any other."""
    said = content[2 : 2 + _VERSION_LENGTH]
    if content[:2] != bytes((0x0A, _VERSION_LENGTH)) or said != _digest(content[2 + _VERSION_LENGTH :]):
        return None
    return said.decode()


def _kept(before: _Made, of: tuple[Any, ...], routes: Callable[[], Sequence[Json]]) -> _One:
    """What was made of the same, or is now; of a service and what else its routes depend on."""
    known = before.get(of[0].path)
    return known if known is not None and known[0] == of else (of, listed(routes()))


def _by_address(policy: GatewayPolicy, made: _Made) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for service in ordered(policy.services):
        found.setdefault(service.address, []).append(made[service.path][1])
    return found


def _file(
    kept: _Kept, configuration: Json, host: Json, found: Mapping[str, Sequence[bytes]], always: Sequence[Json]
) -> bytes:
    of = (configuration, host, list(found.items()), always)  # in their order, which is that of trying
    if of != kept.of:
        routes = indexed_bytes(found, [listed(always)], kept.entries)
        whole = written(ROUTE_CONFIGURATION, configuration) + field(
            ROUTE_CONFIGURATION, "virtual_hosts", written(VIRTUAL_HOST, host) + routes
        )
        resources = field(_FILE, "resources", packed(ROUTE_CONFIGURATION, whole))
        kept.file = field(_FILE, "version_info", _digest(resources)) + resources
        kept.of = of
    return kept.file


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:_VERSION_LENGTH].encode()
