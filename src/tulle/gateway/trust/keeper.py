"""What a mesh with mutual TLS needs beside its policies: certificates in time, and sidecars before workers.

The one object that joins authority, files and sidecars; used by the control plane, and by the supervisor before the
first process starts. Where `mutual_tls` is off it does nothing. Knows nothing of deployments: it is told which services
there are.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from dataclasses import replace

from tulle.config import Settings
from tulle.errors import Unavailable
from tulle.gateway.policy import ManagedService
from tulle.gateway.trust.authority import Authorities, Lives
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.certificate_files import CertificateFiles
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.sidecar import Sidecar, sidecars_of
from tulle.gateway.trust.sidecar_files import FOLDER as SIDECARS
from tulle.gateway.trust.sidecars import Sidecars
from tulle.gateway.trust.transport import FOLDER
from tulle.spec.environment import production
from tulle.state.connections import KEY_FILE
from tulle.state.db import Database, now

Place = tuple[str, str]  # service, environment; that of consumers is the empty one


class Keeper:
    """Keeps the trust of one mesh. For one thread at a time."""

    def __init__(self, settings: Settings, database: Database, lives: Lives = Lives()) -> None:  # noqa: B008  frozen
        self._settings = settings
        self.is_on = settings.mutual_tls
        self.authorities = Authorities(database, settings.state_folder / KEY_FILE, lives)
        self.sidecars = Sidecars(settings)
        self._files = CertificateFiles(settings.state_folder, self.authorities)
        self._domain = ""
        self._asked: tuple[list[ManagedService], list[ManagedService], int] | None = None
        self._held: list[Sidecar] = []
        self._own: dict[str, Pair] = {}
        self._there: frozenset[str] = frozenset()  # sidecars that were published last
        self._answering: frozenset[Identity] = frozenset()
        self._kept: set[Identity] = set()

    def keep(self, places: Collection[Place], at: float | None = None) -> tuple[str, ...]:
        """Have a certificate for the gateway and for each service at a place; the names of those made anew.

        Raises LimitExceeded when the disk is full, Unavailable when files cannot be written, Broken when the authority
        cannot be read; certificates that are there stay in use until they end.
        """
        if not self.is_on:
            return ()
        at = now() if at is None else at
        known = self.authorities.keep(self._settings.name, at)
        self._domain = known[0].domain
        wanted = [self._gateway, *(self.identity(place) for place in places)]
        return self._files.keep(self._settings.name, wanted, at)

    def prepare(self, places: Collection[Place]) -> None:
        """Before anything runs: certificates that hold, and files that the sidecars' Envoy can start with.

        Where mutual TLS is off, no key of an earlier time stays.
        """
        if not self.is_on:
            for folder in (FOLDER, SIDECARS):
                shutil.rmtree(self._settings.state_folder / folder, ignore_errors=True)
            return
        self.keep(places)
        self.sidecars.prepare(self._certificates(self.identity(place) for place in places))

    def identity(self, place: Place) -> Identity:
        """Who the service at a place is. Unavailable before `keep` knew an authority."""
        if not self._domain:
            raise Unavailable(
                "the mesh's authority is not known yet", hint="`tulle logs control_plane` shows why"
            )
        service, environment = place
        return Identity(self._domain, service, environment or production(self._settings).name)

    def has_certificate(self, place: Place) -> bool:
        """Whether a service could answer under its identity; where mutual TLS is off it needs none."""
        return not self.is_on or self._files.has(self.identity(place))

    def entrusted(self, services: Iterable[ManagedService]) -> list[ManagedService]:
        """The services as they are met: under their identities, where mutual TLS is on."""
        return [self._entrusted(one) for one in services]

    def _entrusted(self, one: ManagedService) -> ManagedService:
        identity = self.identity(one.workers_of).uri if self.is_on and one.has_workers else ""
        return one if one.identity == identity else replace(one, identity=identity)

    def put_before(self, standing: Collection[ManagedService], wanted: Collection[ManagedService]) -> None:
        """Have sidecars before the workers of what the gateway has and of what it is wanted to have, and no others.

        Raises what `Sidecars.publish` raises.
        """
        if not self.is_on:
            return
        asked = [*standing], [*wanted], self._files.changes
        if asked != self._asked:
            made = {**sidecars_of(self.entrusted(standing)), **sidecars_of(self.entrusted(wanted))}
            self._own = self._certificates(one.identity for one in made.values())
            self._held = [one for _, one in sorted(made.items()) if one.identity.file_name in self._own]
            # Looked at once more as long as one has no certificate.
            self._asked = asked if len(self._held) == len(made) else None
        self.sidecars.publish(self._held, [self._gateway], self._own)
        self._there = frozenset(one.name for one in self._held)
        self._answering = frozenset(one.identity for one in self._held)
        self.sidecars.bound_log()

    def without_sidecar(self, services: Iterable[ManagedService]) -> list[ManagedService]:
        """Those of which a generation has no sidecar, so that the gateway would meet nobody."""
        if not self.is_on:
            return []
        return [one for one in services if sidecars_of(self.entrusted([one])).keys() - self._there]

    def _certificates(self, of: Iterable[Identity]) -> dict[str, Pair]:
        found = {one.file_name: self._files.held(one) for one in of}
        return {name: Pair(one.certificate, one.key) for name, one in found.items() if one is not None}

    def forget(self, places: Collection[Place]) -> None:
        """Remove the certificates of services that are at none of these places, and have no sidecar any more."""
        if self.is_on:
            kept = {self._gateway, *self._answering, *(self.identity(place) for place in places)}
            if self._answering and kept != self._kept:
                self._files.forget(kept)
                self._kept = kept

    @property
    def _gateway(self) -> Identity:
        return Identity(self._domain)
