"""Keeps the gateway as the deployments and contracts say, and switches to generations once their workers answer.

Called again and again by the control plane. Driven by what is recorded and what runs, so a crash anywhere is made
good by doing it again. Knows nothing of who asked for what.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from tulle.config import Settings
from tulle.control import deployment_hooks, deployment_queries
from tulle.control.api_connections import ApiConnections
from tulle.control.checked_documents import with_documents
from tulle.control.handing import Handing
from tulle.control.identities import PREFIX, Identities, application_of
from tulle.control.policy_problems import demand_reached
from tulle.control.served_apis import ServedApis
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.deploy.generations import managed, mounted, mounted_of, stopped_of
from tulle.deploy.local import Mounted, Process
from tulle.errors import Broken, NotFound, TulleError
from tulle.events import GATEWAY_PUBLISHED, Event
from tulle.gateway import applications, service_policies
from tulle.gateway.admitted import as_deployed, policy_of
from tulle.gateway.door_certificate import DoorCertificate
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_validation import TooSlow
from tulle.gateway.faults import read_faults
from tulle.gateway.guesses import is_guarded
from tulle.gateway.in_force import target_named
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policy import Backend, GatewayPolicy, ManagedService, path_of
from tulle.gateway.publishing import Publisher, Unmade, fitting
from tulle.gateway.trust.keeper import Keeper
from tulle.gateway.versions.pin import pin_of, pinned_policy, pinned_services
from tulle.gateway.versions.recorded import Versions, policy_of_version
from tulle.gateway.versions.recorded import version as newest_version
from tulle.gateway.versions.told import Pin, tell
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.serving.needs import Needs, needs_of
from tulle.serving.traffic import Traffic
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.state import log, products
from tulle.state.db import now

_log = logging.getLogger("tulle")
NOT_ALIVE = "apinode-not-alive.txt"  # of .tulle/: while it is there, balancers are told to send elsewhere
LEAVING_SECONDS = (
    10.0  # the gateway knows a generation that answers no more: requests may be on their way to it
)
START_SECONDS = 60.0  # a generation whose workers do not answer by then has failed
_Place = tuple[str, str]  # service, environment


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A traffic whose workers do not answer yet: since when, and how often each had been started again by then."""

    since: float
    restarts: Mapping[str, int]


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
        self._trouble = ""  # with sidecars, told once
        self._identities = Identities(workspace)
        self._handing = Handing(workspace.settings, workspace.database)
        self._apis = ServedApis(workspace)
        self._lock = threading.Lock()
        self._mesh_policies: MeshPolicies | None = None
        self._owners: Mapping[str, DataProduct] = {}
        self._products: Mapping[str, str] = {}  # of the services that are deployed
        self._versions: Mapping[str, tuple[str, str, float]] = {}
        self._waiting: dict[tuple[_Place, Traffic], _Waiting] = {}
        self._needs: dict[tuple[str, str], Needs] = {}  # a version's never change
        self._known: dict[_Place, tuple[Backend, ...]] = {}  # what was published last
        self._leaving: dict[_Place, dict[str, tuple[Backend, float]]] = {}  # by generation, and until when

    def settle(self) -> None:
        """Activate the generations that are ready and publish the policy if anything changed.

        What hinders one service hinders no other one, and nothing hinders who was revoked from being refused; the
        first that hindered any is raised when all is done.
        """
        with self._lock:
            settings, database = self._settings, self._workspace.database
            hindered: list[Exception] = []
            self._keep_certificate(hindered)
            generations = mounted(settings, generation.everywhere(database), now())
            try:
                self._keep_trust(generations)
            except Exception as exc:  # noqa: BLE001  what certificates there are hold on, and all else with them
                hindered.append(exc)
            self._identities.keep(generations)
            running = local.processes(settings)
            starting = [d for d in generation.everywhere(database) if d.status == "starting"]
            # What is wanted no more is forgotten: when it is wanted again it has its whole time again.
            wanted = {((d.service, d.environment), d.desired) for d in starting}
            self._waiting = {key: kept for key, kept in self._waiting.items() if key in wanted}
            for deployment in starting:
                try:
                    self._try_to_activate(deployment, running, hindered)
                except Exception as exc:  # noqa: BLE001  whatever it was, the others must not wait for it
                    hindered.append(exc)
            self._publish({}, hindered)
            self._keep_certificate(hindered)  # for hosts that an API is called by from now on
            if hindered:
                raise hindered[0]

    def wanted(self) -> GatewayPolicy:
        """What the gateway would have if it were pinned to no version. Nothing is published."""
        with self._lock:
            return self._policy(self._services({}, {}))

    def demand_fits(self, version: int) -> frozenset[str]:
        """Refuse a version that could not be put in force now; the services that there are. NotFound, Broken."""
        with self._lock:
            services = self._services({}, {})
            kept, pin = policy_of_version(self._workspace.database, version), Pin(version, "", "", now())
            pinned = self._with_demanded(pinned_services(pin, kept, services), {})
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
        self._settings, self._mesh_policies = settings, None
        self._apis.take_up(settings)
        self._handing.take_up(settings)
        self._connections.take_up(settings)

    def _problems(self) -> Mapping[str, str]:
        unmade: dict[_Place, Unmade] = {}
        services = {one.path: one for one in self._services({}, unmade)}
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

    def _try_to_activate(
        self, deployment: Deployment, running: Mapping[str, Process], hindered: list[Exception]
    ) -> None:
        settings, database = self._settings, self._workspace.database
        place, wanted = (deployment.service, deployment.environment), deployment.desired
        known = mounted_of(settings, deployment)
        names = {version: self._starting(known[version]) for version in wanted.mounted}
        waiting = [v for v in names if not all(_is_running(name, running) for name in names[v])]
        if not waiting:
            # The gateway first: it is confirmed to send to the new workers before the old ones are let go.
            self._publish({place: wanted}, hindered)
            if (fault := self._publisher.fault_of(place)) is not None:
                told = f"the gateway cannot take it: {fault.message}"
                generation.fail(
                    database, deployment.service, wanted, told, environment=deployment.environment
                )
                return
            saved = deployment_queries.saved_in(self._workspace, deployment.service, wanted.mounted)

            def noted(cx: Connection) -> None:
                deployment_hooks.tell(cx, settings, deployment)
                deployment_queries.begin(cx, settings, deployment.service, deployment.environment, saved)

            generation.activate(
                database, deployment.service, wanted, environment=deployment.environment, noted=noted
            )
            self._waiting.pop((place, wanted), None)
            return
        restarts = {n: running[n].restarts for v in wanted.mounted for n in names[v] if n in running}
        kept = self._waiting.setdefault((place, wanted), _Waiting(time.monotonic(), restarts))
        # A worker that has run for long may have ended before: what counts is how often it did since.
        tried = {v: sum(restarts.get(n, 0) - kept.restarts.get(n, 0) for n in names[v]) for v in waiting}
        worst = max(waiting, key=lambda version: tried[version])
        said = f"a worker of {worst} ended {tried[worst]} times while starting" if tried[worst] >= 3 else ""
        if not said and running and time.monotonic() - kept.since > START_SECONDS:
            said = f"the workers of {', '.join(waiting)} did not answer within {START_SECONDS:.0f} s"
        if said:
            del self._waiting[place, wanted]
            told = f"{said}; `tulle logs {deployment.service}` shows why"
            generation.fail(database, deployment.service, wanted, told, environment=deployment.environment)

    def _starting(self, one: Mounted) -> list[str]:
        """The workers that must answer before a generation does."""
        return [one.worker(number) for number in range(one.workers)]

    def _publish(self, override: Mapping[_Place, Traffic], hindered: list[Exception]) -> None:
        """Publish what is recorded; what went wrong beside it, which holds up nobody's revocation, is added."""
        unmade: dict[_Place, Unmade] = {}
        with self._workspace.database.read() as cx:
            until = log.newest(cx)  # what happens from here on may not be in what is read
        services = self._services(override, unmade, has_sidecars=True)
        pin = pin_of(self._workspace.database)
        with contextlib.suppress(OSError):  # it is told by the database as well
            tell(self._settings, pin)
        whole = self._policy
        if pin is not None:
            kept = self._kept(pin.version)
            paths = {one.path for one in kept.services}
            unmade = {place: one for place, one in unmade.items() if path_of(*place) in paths}
            services = self._with_demanded(pinned_services(pin, kept, services), unmade)

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

    def _services(
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
        if self._mesh_policies is None:  # not before: who asks what is wrong with them must be told
            self._mesh_policies = MeshPolicies(self._settings.policies)
        self._owners = self._owners_now()
        said = service_policies.said_at_deployment(self._workspace.database)
        deployments = generation.everywhere(self._workspace.database)
        self._products = {one.service: one.product for one in deployments}
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
                service = self._with_policies(service, deployment.product)
            except (
                TulleError,
                LookupError,
                ValueError,
            ) as exc:  # of what is recorded of it nothing can be made
                unmade[place] = Unmade(str(exc), stopped_of(deployment, at))
                continue
            if not self._trust.has_certificate(place):
                unmade[place] = Unmade("it has no certificate yet", stopped_of(deployment, at))
                continue
            found.append(self._with_leaving(service, time.monotonic()))
        usual = self._settings.default_rate_limit
        deployed, damaged = as_deployed(self._workspace.database, found, usual_limit=usual)
        stopped = {(one.name, one.environment): one.stopped for one in found}
        unmade |= {place: Unmade(said, stopped[place]) for place, said in damaged.items()}
        if has_sidecars:
            deployed = self._behind_sidecars(deployed, unmade)
        answering = [*deployed, *self._instead_of(unmade)]
        stamp = (self._owners, self._connections.stamp())
        served, unserved = self._apis.look(answering, self._products, self._as_led, stamp)
        unmade |= unserved
        return [*deployed, *served]

    def _instead_of(self, unmade: Mapping[_Place, Unmade]) -> list[ManagedService]:
        """What the gateway goes on with where nothing new can be had: APIs lead there on as well."""
        before = {one.path: one for one in self._publisher.in_force() if one.front is None}
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
        standing = [one for one in self._publisher.in_force() if one.front is None]
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
        return self._with_policies(self._connections.resolved(service), product, tags)

    def _with_policies(
        self, service: ManagedService, product: str, tags: Sequence[str] = ()
    ) -> ManagedService:
        """A service of a product with what the mesh has for many, and the documents its policies check by.

        Invalid when the two cannot be joined, Denied when something would be sent where nothing may go.
        """
        settings = self._settings
        if self._mesh_policies:
            target = self._target_of(service, product, tags)
            service = replace(service, policies=self._mesh_policies.joined(target, service.policies))
        demand_reached(settings, service.policies)
        self._handing.demand(service)
        return with_documents(settings, self._workspace.database, service)

    def _with_demanded(
        self, services: Sequence[ManagedService], unmade: dict[_Place, Unmade]
    ) -> list[ManagedService]:
        """Services as another time has them, with what the mesh demands of all now, those added to `unmade` left out.

        What their policies send somewhere goes only where it may go now.
        """
        found, declared = [], self._apis.declared()
        for one in services:
            product, tags = declared.get(one.name, ("", ())) if one.front is not None else ("", ())
            product = product or one.product or self._products.get(one.name, "")
            try:
                demanded = self._demanded(one, product, tags)
                demand_reached(self._settings, demanded.policies)
                self._handing.demand(demanded)
            except TulleError as exc:
                unmade[one.known_as, one.environment] = Unmade(exc.message, one.stopped)
                continue
            found.append(demanded)
        return found

    def _demanded(self, service: ManagedService, product: str, tags: Sequence[str]) -> ManagedService:
        if not self._mesh_policies:
            return service
        target = self._target_of(service, product, tags)
        return replace(service, policies=self._mesh_policies.demanded(target, service.policies))

    def _target_of(self, service: ManagedService, product: str, tags: Sequence[str]) -> Target:
        """It, with what is behind it where it is an API that a service of the mesh answers."""
        target = self._target(service.name, service.environment, product, tags)
        if service.front is None or not service.has_workers:
            return target
        name, place = service.workers_of
        return replace(target, behind=self._target(name, place, self._products.get(name, "")))

    def _target(self, name: str, environment: str, product: str, tags: Sequence[str] = ()) -> Target:
        """A service or an API as sets of policies name it."""
        owner = self._owners.get(product)
        place = environment or production(self._settings).name
        return target_named(name, place, owner, tags)

    def _owners_now(self) -> Mapping[str, DataProduct]:
        """The products that services belong to; read anew when one of them is applied."""
        if (
            self._mesh_policies
            and (versions := products.versions(self._workspace.database)) != self._versions
        ):
            self._owners = products.named(self._workspace.database, list(versions))
            self._versions = versions
        return self._owners

    def _with_leaving(self, service: ManagedService, at: float) -> ManagedService:
        """A service with the generations that have just left it.

        A request has its way before its body is read. One whose way led to a generation that has left meanwhile is
        answered by it all the same.
        """
        place = (service.name, service.environment)
        mine = {backend.generation for backend in service.backends}
        leaving = self._leaving.setdefault(place, {})
        for backend in self._known.get(place, ()):
            leaving.setdefault(backend.generation, (backend, at + LEAVING_SECONDS))
        for name, (_, until) in list(leaving.items()):
            if name in mine or until <= at:
                del leaving[name]
        self._known[place] = service.backends
        left = (backend for _, (backend, _) in sorted(leaving.items()))
        return replace(service, backends=(*service.backends, *left))

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

    def _needs_of(self, service: str, traffic: Traffic) -> Needs:
        """What fits all generations that answer; who may call them is as the one says that most requests meet."""
        needs = [self._needs_of_one(service, version) for version in traffic.mounted]
        main = self._needs_of_one(service, traffic.main)
        seconds, may_repeat = max(n.seconds for n in needs), all(n.may_repeat for n in needs)
        return Needs(seconds, may_repeat, main.access, main.policies)

    def _needs_of_one(self, service: str, version: str) -> Needs:
        if (service, version) not in self._needs:
            folder = generation.folder_of(self._settings, service, version)
            try:
                self._needs[service, version] = needs_of(folder)
            except Broken:  # then it does not answer either
                return Needs()
        return self._needs[service, version]


def _is_running(name: str, running: Mapping[str, Process]) -> bool:
    return name in running and running[name].state == "running"
