"""What a sidecar is: the one door to the workers of a generation, under the identity of their service. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from tulle.gateway.policy import ManagedService, is_socket_path
from tulle.gateway.trust.identity import Identity, identity_of

SOCKETS: Final = "run/s"  # of .tulle/, where sidecars listen; short, as a socket's address must be
_LONGEST_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The sidecar of one generation: its name and socket, whom it answers as, and the workers behind it."""

    service: ManagedService
    generation: str
    workers: tuple[str, ...]
    identity: Identity

    @property
    def name(self) -> str:
        """The service's path and the generation, as the gateway calls the cluster that leads here."""
        return f"{self.service.path}/{self.generation}"

    @property
    def socket(self) -> str:
        """Where it listens, relative to .tulle/."""
        name = f"{self.service.path.replace('/', '@')}-{self.generation}"
        if len(name) > _LONGEST_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()[:32]
        return f"{SOCKETS}/{name}.sock"


def sidecar_of(service: ManagedService, generation: str) -> Sidecar | None:
    """What stands before the workers of a generation; None for a service that has no identity."""
    identity = identity_of(service.identity)
    workers = next((b.upstreams for b in service.backends if b.generation == generation), ())
    if identity is None or not all(is_socket_path(worker) for worker in workers):
        return None
    return Sidecar(service, generation, workers, identity)


def sidecars_of(services: Collection[ManagedService]) -> Mapping[str, Sidecar]:
    """The sidecars of all generations of services, by name; an API has none beside those of what answers for it."""
    own = [service for service in services if service.front is None]
    found = (sidecar_of(service, b.generation) for service in own for b in service.backends)
    return {one.name: one for one in sorted(filter(None, found), key=lambda one: one.name)}
