"""The services and APIs as they are recorded, in the form that the gateway is to have them in.

Of what stands in the way of one, the others are had all the same. Knows nothing of what is published when, and not of
versions of the gateway.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from tulle.config import Settings
from tulle.control.api_connections import ApiConnections
from tulle.control.demands import Demands
from tulle.control.handing import Handing
from tulle.control.leaving import Leaving
from tulle.control.served_apis import ServedApis
from tulle.control.workspace import Workspace
from tulle.deploy.generations import managed, stopped_of
from tulle.errors import Broken, TulleError
from tulle.gateway import service_policies
from tulle.gateway.admitted import as_deployed
from tulle.gateway.policy import ManagedService, path_of
from tulle.gateway.publishing import Unmade
from tulle.gateway.trust.keeper import Keeper
from tulle.serving import generation
from tulle.serving.needs import Needs, needs_of
from tulle.serving.traffic import Traffic
from tulle.state.db import now

_log = logging.getLogger("tulle")
_Place = tuple[str, str]  # service, environment


class WantedServices:
    """One a control plane; not safe to call from several threads at once.

    `in_force` tells the services that the gateway has.
    """

    def __init__(
        self,
        workspace: Workspace,
        trust: Keeper,
        connections: ApiConnections,
        handing: Handing,
        in_force: Callable[[], Collection[ManagedService]],
    ) -> None:
        self._workspace, self._settings = workspace, workspace.settings
        self._trust, self._connections, self._in_force = trust, connections, in_force
        self._demands = Demands(workspace, handing)
        self._apis = ServedApis(workspace)
        self._leaving = Leaving()
        self._needs: dict[tuple[str, str], Needs] = {}  # a version's never change
        self._trouble = ""  # with sidecars, told once

    def take_up(self, settings: Settings) -> None:
        """Go by other settings of the mesh."""
        self._settings = settings
        self._demands.take_up(settings)
        self._apis.take_up(settings)
        self._connections.take_up(settings)

    def look(
        self,
        override: Mapping[_Place, Traffic],
        unmade: dict[_Place, Unmade],
        *,
        has_sidecars: bool = False,
    ) -> list[ManagedService]:
        """The services and APIs as they are recorded; those of which none can be made are added to `unmade`.

        `has_sidecars`: these are put before their workers, where that is how they are met.
        """
        found: list[ManagedService] = []
        at = now()
        said = service_policies.said_at_deployment(self._workspace.database)
        deployments = generation.everywhere(self._workspace.database)
        owners = self._demands.look(deployments)
        for deployment in deployments:
            place = (deployment.service, deployment.environment)
            traffic = override.get(place)
            if traffic is None or traffic != deployment.desired:  # another one is wanted by now
                traffic = deployment.active
            if traffic is None:
                continue
            try:
                needs = self._needs_of(deployment.service, traffic)
                needs = replace(needs, policies=said.get(place, needs.policies))
                service = managed(self._settings, deployment, traffic, needs, at)
                service = self._demands.joined(service, deployment.product)
            except (
                TulleError,
                LookupError,
                ValueError,
            ) as exc:  # of what is recorded of it nothing can be made
                hint = getattr(exc, "hint", None) or ""
                unmade[place] = Unmade(str(exc), stopped_of(deployment, at), hint)
                continue
            if not self._trust.has_certificate(place):
                unmade[place] = Unmade("it has no certificate yet", stopped_of(deployment, at))
                continue
            found.append(self._leaving.with_left(service, time.monotonic()))
        usual = self._settings.default_rate_limit
        deployed, damaged = as_deployed(self._workspace.database, found, usual_limit=usual)
        stopped = {(one.name, one.environment): one.stopped for one in found}
        unmade |= {place: Unmade(said, stopped[place]) for place, said in damaged.items()}
        if has_sidecars:
            deployed = self._behind_sidecars(deployed, unmade)
        answering = [*deployed, *self._instead_of(unmade)]
        stamp = (owners, self._connections.stamp())
        served, unserved = self._apis.look(answering, self._demands.products, self._as_led, stamp)
        unmade |= unserved
        return [*deployed, *served]

    def _instead_of(self, unmade: Mapping[_Place, Unmade]) -> list[ManagedService]:
        """What the gateway goes on with where nothing new can be had: APIs lead there on as well."""
        before = {one.path: one for one in self._in_force() if one.front is None}
        return [
            replace(before[path_of(*place)], stopped=one.stopped)
            for place, one in unmade.items()
            if path_of(*place) in before
        ]

    def _behind_sidecars(
        self, deployed: Collection[ManagedService], unmade: dict[_Place, Unmade]
    ) -> list[ManagedService]:
        """The services that have their sidecars now; those that could not get them are added to `unmade`.

        Who may call whom is published all the same: a sidecar that cannot be had keeps nobody from being revoked.
        """
        # The gateway may go on with what it has, so the sidecars of that stay beside those of what is wanted.
        standing = [one for one in self._in_force() if one.front is None]
        try:
            self._trust.put_before(standing, deployed)
        except TulleError as exc:
            lacking = self._trust.without_sidecar(deployed)
            told = f"it has no sidecar: {exc.message}"
            unmade |= {(one.name, one.environment): Unmade(told, one.stopped) for one in lacking}
            if exc.message != self._trouble:
                _log.warning("sidecars stay as they were: %s", exc.message)
            self._trouble = exc.message
            return [one for one in deployed if one not in lacking]
        self._trouble = ""
        return list(deployed)

    def _as_led(self, service: ManagedService, product: str, tags: Sequence[str]) -> ManagedService:
        """An API with what the mesh has for many, led to where its connection says."""
        return self._demands.joined(self._connections.resolved(service), product, tags)

    def with_demanded(
        self, services: Sequence[ManagedService], unmade: dict[_Place, Unmade]
    ) -> list[ManagedService]:
        """Services as another time has them, with what the mesh demands of all now, those added to `unmade` left out.

        What their policies send somewhere goes only where it may go now.
        """
        found, declared = [], self._apis.declared()
        for one in services:
            product, tags = declared.get(one.name, ("", ())) if one.front is not None else ("", ())
            product = product or one.product or self._demands.products.get(one.name, "")
            try:
                demanded = self._demands.demanded(one, product, tags)
            except TulleError as exc:
                unmade[one.known_as, one.environment] = Unmade(exc.message, one.stopped, exc.hint or "")
                continue
            found.append(demanded)
        return found

    def _needs_of(self, service: str, traffic: Traffic) -> Needs:
        """What fits all generations that answer; who may call them is as the one says that most requests meet.

        Broken when that one cannot be read: its policies are not known, and it may answer all the same.
        """
        main = self._needs_of_one(service, traffic.main)
        needs = [main]
        for version in traffic.mounted:
            with contextlib.suppress(Broken):  # then that one does not answer either
                needs.append(self._needs_of_one(service, version))
        seconds, may_repeat = max(n.seconds for n in needs), all(n.may_repeat for n in needs)
        return Needs(seconds, may_repeat, main.access, main.policies)

    def _needs_of_one(self, service: str, version: str) -> Needs:
        if (service, version) not in self._needs:
            folder = generation.folder_of(self._settings, service, version)
            self._needs[service, version] = needs_of(folder)
        return self._needs[service, version]
