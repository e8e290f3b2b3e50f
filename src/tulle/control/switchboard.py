"""Keeps the gateway as the deployments and contracts say, and switches to generations once their workers answer.

Called again and again by the control plane. Driven by what is recorded and what runs, so a crash anywhere is made
good by doing it again. How services are made of what is recorded is `wanted_services`' matter, when one is ready
`activation`'s. Knows nothing of who asked for what.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from tulle.config import Settings
from tulle.control.activation import Activation
from tulle.control.api_connections import ApiConnections
from tulle.control.handing import Handing
from tulle.control.identities import PREFIX, Identities, application_of
from tulle.control.wanted_services import WantedServices
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.deploy.generations import mounted
from tulle.deploy.local import Mounted
from tulle.errors import Broken, NotFound
from tulle.events import GATEWAY_PUBLISHED, Event
from tulle.gateway import applications
from tulle.gateway.admitted import policy_of
from tulle.gateway.door_certificate import DoorCertificate
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_validation import TooSlow
from tulle.gateway.faults import read_faults
from tulle.gateway.guesses import is_guarded
from tulle.gateway.policy import GatewayPolicy, ManagedService, path_of
from tulle.gateway.publishing import Publisher, Unmade, fitting
from tulle.gateway.settled import Telling
from tulle.gateway.trust.keeper import Keeper
from tulle.gateway.versions.pin import pin_of, pinned_policy, pinned_services
from tulle.gateway.versions.recorded import Versions, policy_of_version
from tulle.gateway.versions.recorded import version as newest_version
from tulle.gateway.versions.told import Pin, tell
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.serving.traffic import Traffic
from tulle.state import log
from tulle.state.db import now

_log = logging.getLogger("tulle")
NOT_ALIVE = "apinode-not-alive.txt"  # of .tulle/: while it is there, balancers are told to send elsewhere
_Place = tuple[str, str]  # service, environment


class Switchboard:
    """One a control plane; safe to call from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._settings = workspace.settings
        self._connections = ApiConnections(workspace)
        self._gateway = Gateway(
            workspace.settings, before=self._published_before, signings=self._connections.signings
        )
        self._publisher = Publisher(workspace.settings, self._gateway)
        self._trust = Keeper(workspace.settings, workspace.database)
        self._certificate = DoorCertificate(workspace.settings)
        self._versions_kept = Versions(workspace.database)
        self._noted: GatewayPolicy | None = None
        self._pinned: tuple[int, GatewayPolicy] | None = None  # a version that was read
        self._identities = Identities(workspace)
        self._handing = Handing(workspace.settings, workspace.database)
        self._services = WantedServices(
            workspace, self._trust, self._connections, self._handing, self._publisher.in_force
        )
        self._activation = Activation(workspace, self._publish, self._publisher.fault_of)
        self._telling = Telling(workspace.settings)
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Activate the generations that are ready and publish the policy if anything changed.

        What hinders one service hinders no other one, and nothing hinders who was revoked from being refused; the
        first that hindered any is raised when all is done.
        """
        with self._lock:
            hindered: list[Exception] = []
            starting: Sequence[Deployment] = ()
            is_published = False
            try:
                starting = self._activate(hindered)
                self._publish({}, hindered)
                is_published = True
                self._keep_certificate(hindered)  # for hosts that an API is called by from now on
            except Exception as exc:
                hindered.append(exc)
                raise
            finally:
                trouble = str(hindered[0]) if hindered else ""
                self._tell(starting, is_published=is_published, trouble=trouble)
            if hindered:
                raise hindered[0]

    def _activate(self, hindered: list[Exception]) -> Sequence[Deployment]:
        """See to what a publishing needs, and activate the generations that are ready; the deployments that started."""
        settings, database = self._settings, self._workspace.database
        self._keep_certificate(hindered)
        generations = mounted(settings, generation.everywhere(database), now())
        try:
            self._keep_trust(generations)
        except Exception as exc:  # noqa: BLE001  what certificates there are hold on, and all else with them
            hindered.append(exc)
        self._identities.keep(generations)
        running = local.processes(settings)
        starting = self._starting()
        self._activation.begin(starting)
        for deployment in starting:
            try:
                self._activation.take(deployment, running, hindered)
            except Exception as exc:  # noqa: BLE001  whatever it was, the others must not wait for it
                hindered.append(exc)
        return starting

    def _starting(self) -> Sequence[Deployment]:
        return [one for one in generation.everywhere(self._workspace.database) if one.status == "starting"]

    def _tell(self, starting: Sequence[Deployment], *, is_published: bool, trouble: str) -> None:
        """Say how far it has come; of those that started, the ones that still do."""
        with contextlib.suppress(Exception):  # whoever waits for it has words of its own, and a bound
            left = self._starting() if starting else ()
            places = tuple(path_of(one.service, one.environment) for one in left)
            self._telling.tell(is_published=is_published, starting=places, trouble=trouble)

    def wanted(self) -> GatewayPolicy:
        """What the gateway would have if it were pinned to no version. Nothing is published."""
        with self._lock:
            return self._policy(self._services.look({}, {}))

    def demand_fits(self, version: int) -> frozenset[str]:
        """Refuse a version that could not be put in force now; the services that there are. NotFound, Broken."""
        with self._lock:
            services = self._services.look({}, {})
            kept, pin = policy_of_version(self._workspace.database, version), Pin(version, "", "", now())
            pinned = self._services.with_demanded(pinned_services(pin, kept, services), {})
            policy = pinned_policy(kept, self._policy(pinned))
            self._gateway.check(policy)
            return frozenset(one.path for one in services)

    def check(self) -> Mapping[str, str]:
        """Why what is recorded now would not be published, by service; of the gateway itself under "". Nothing is."""
        with self._lock:
            return self._problems()

    def take_up(self, settings: Settings, record: Callable[[], object] | None) -> Mapping[str, str]:
        """Have other settings of the mesh in force, and `record` that they are; the next `settle` publishes by them.

        What of services could not be had with them, and can be now, is returned as `check` tells it, and nothing is
        changed then; nor without `record`, or where that fails.
        """
        with self._lock:
            before, is_taken = self._settings, False
            known = {path_of(one.service, one.environment) for one in read_faults(before)}
            self._use(settings)
            try:
                found = {path: said for path, said in self._problems().items() if path not in known}
                if not found and record is not None:
                    record()
                    is_taken = True
                return found
            finally:
                if not is_taken:
                    self._use(before)

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._handing.take_up(settings)
        self._services.take_up(settings)
        self._activation.take_up(settings)

    def _problems(self) -> Mapping[str, str]:
        unmade: dict[_Place, Unmade] = {}
        services = {one.path: one for one in self._services.look({}, unmade)}
        told = {path_of(*place): one.message for place, one in unmade.items()}

        def accept(forms: Mapping[str, ManagedService]) -> str:
            try:
                self._gateway.check(self._policy(list(forms.values())))
            except (Broken, TooSlow) as exc:
                return exc.message
            return ""

        if said := accept(services):
            try:
                told |= fitting(services, {}, accept, said)[1]
            except Broken as exc:
                told[""] = exc.message
        return told

    def settle_for_later(self) -> None:
        """While the mesh is down: let the gateway begin with what is recorded by now, and not with who was revoked."""
        with self._lock:
            is_down = local.supervisor_pid(self._settings) is None
            if is_down and self._gateway.was_published():
                settings, database = self._settings, self._workspace.database
                hindered: list[Exception] = []
                try:
                    self._keep_trust(mounted(settings, generation.everywhere(database), now()))
                except Exception as exc:  # noqa: BLE001  as when it is up
                    hindered.append(exc)
                self._publish({}, hindered)
                if hindered:
                    raise hindered[0]

    def _keep_certificate(self, hindered: list[Exception]) -> None:
        """What callers are shown, for the hosts of what is in force as far as it may be; else as before."""
        try:
            fronts = (one.front for one in self._publisher.in_force())
            self._certificate.of_hosts(host for front in fronts if front is not None for host in front.hosts)
            self._certificate.keep()
        except Exception as exc:  # noqa: BLE001  callers are shown what they were before
            hindered.append(exc)

    def _keep_trust(self, generations: Collection[Mounted]) -> None:
        """Certificates for all that runs, and none for what does so no more."""
        places = {(one.service, one.environment) for one in generations}
        self._trust.keep(places)
        self._trust.forget(places)

    def _publish(self, override: Mapping[_Place, Traffic], hindered: list[Exception]) -> None:
        """Publish what is recorded; what went wrong beside it, which holds up nobody's revocation, is added."""
        unmade: dict[_Place, Unmade] = {}
        with self._workspace.database.read() as cx:
            until = log.newest(cx)  # what happens from here on may not be in what is read
        services = self._services.look(override, unmade, has_sidecars=True)
        pin = pin_of(self._workspace.database)
        with contextlib.suppress(OSError):  # it is told by the database as well
            tell(self._settings, pin)
        whole = self._policy
        if pin is not None:
            kept = self._kept(pin.version)
            paths = {one.path for one in kept.services}
            unmade = {place: one for place, one in unmade.items() if path_of(*place) in paths}
            services = self._services.with_demanded(pinned_services(pin, kept, services), unmade)

            def whole(services: Collection[ManagedService]) -> GatewayPolicy:
                return pinned_policy(kept, self._policy(services))

        try:
            self._handing.hand([*self._publisher.in_force(), *services])
        except Exception as exc:  # noqa: BLE001  processors let nobody in by what they were not handed
            hindered.append(exc)
        result = self._publisher.publish(services, whole, unmade)
        published = self._publisher.published
        if published is not None and published is not self._noted:
            self._versions_kept.note(published, until)
            self._noted = published
        if result.changed:
            with self._workspace.database.write() as connection:
                event = Event(
                    GATEWAY_PUBLISHED, "gateway", {"digest": result.digest, "files": list(result.changed)}
                )
                log.append(connection, event)

    def _published_before(self) -> GatewayPolicy:
        """What a control plane before this one published last, if nothing came between. NotFound, Broken."""
        database = self._workspace.database
        noted = policy_of_version(database, newest_version(database).number)
        before = self._policy(self._publisher.in_force())
        return replace(before, clients=noted.clients, contracts=noted.contracts)

    def _kept(self, version: int) -> GatewayPolicy:
        """A version that the gateway is pinned to; what is in force where it cannot be read.

        That who was revoked is refused must not hang on it.
        """
        if self._pinned is None or self._pinned[0] != version:
            try:
                found = policy_of_version(self._workspace.database, version)
            except (Broken, NotFound) as exc:
                _log.warning("the gateway goes on as it is: %s", exc.message)
                found = GatewayPolicy(tuple(self._publisher.in_force()))
            self._pinned = version, found
        return self._pinned[1]

    def _policy(self, services: Collection[ManagedService]) -> GatewayPolicy:
        policy = policy_of(self._workspace.database, self._trust.entrusted(services))
        resting = (self._settings.state_folder / NOT_ALIVE).exists()
        guarded = is_guarded(self._settings)
        return replace(policy, is_alive=not resting, is_guarded=guarded, holders=self._holders())

    def _holders(self) -> tuple[tuple[str, str], ...]:
        """The client ids by which services call others, each with the identity that has to come with it.

        One of a service that is nowhere has nobody's.
        """
        if not self._trust.is_on:
            return ()
        database = self._workspace.database
        places = {(one.service, one.environment) for one in generation.everywhere(database)}
        uris = {application_of(*place): self._trust.identity(place).uri for place in places}
        own = applications.client_ids(database, PREFIX)
        return tuple((id_, uris.get(name, "nobody")) for name, id_ in sorted(own.items()))
