"""From a declared service to one that answers: package, deploy, switch without losing a request, roll back.

A deployment is only written down here; the supervisor starts the workers it asks for, and `settle` (called
again and again by the control plane) switches the gateway to a generation once all its workers answer. Each
of those is driven by what is recorded, so a crash anywhere is made good by doing it again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import Broken, Conflict, Invalid, NotFound, did_you_mean
from tulle.events import GATEWAY_PUBLISHED, Event
from tulle.gateway.contract import current_policy
from tulle.gateway.envoy import Gateway
from tulle.pipeline.graph import load_code
from tulle.serving import generation, package
from tulle.serving.generation import Deployment
from tulle.serving.loaded import Verdict
from tulle.serving.needs import Needs, needs_of
from tulle.serving.package import Package
from tulle.serving.service import Service, load_services
from tulle.spec.product import DataProduct
from tulle.state import log, products

START_SECONDS = 60.0  # a generation whose workers do not answer by then has failed


@dataclass(frozen=True, slots=True)
class Declared:
    """A service as a product declares it."""

    product: DataProduct
    service: Service


def declared_services(workspace: Workspace) -> Mapping[str, Declared]:
    """Every service of every applied product, by name. Invalid when two have the same name."""
    found: dict[str, Declared] = {}
    for item in products.applied(workspace.database):
        for service in load_services(item.product):
            if service.name in found:
                other = found[service.name].product.name
                raise Invalid(
                    f"products '{other}' and '{item.product.name}' both have a service '{service.name}'"
                )
            found[service.name] = Declared(item.product, service)
    return found


def declared_service(workspace: Workspace, name: str) -> Declared:
    """One declared service. NotFound with the nearest name."""
    found = declared_services(workspace)
    if name not in found:
        raise NotFound(
            f"no applied product has a service '{name}'",
            hint=did_you_mean(name, found) or "declare it in products/<domain>/<product>/services/",
        )
    return found[name]


def build_package(workspace: Workspace, name: str) -> tuple[Package, bool]:
    """Build the next version of a service from what is published; the version, and whether it is a new one."""
    declared = declared_service(workspace, name)
    known = {p.version for p in package.packages(workspace.database, name)}
    built = package.build(
        declared.service,
        product=declared.product,
        lake=workspace.lake,
        database=workspace.database,
        settings=workspace.settings,
        code_version=load_code(declared.product).digest,
    )
    return built, built.version not in known


def deploy(workspace: Workspace, name: str, version: str | None = None, *, actor: str = "") -> Deployment:
    """Ask for a version (the newest by default) to answer for a service."""
    owner = declared_service(workspace, name).product.name
    versions = [p for p in package.packages(workspace.database, name) if p.product == owner]
    if not versions:
        raise Conflict(f"service '{name}' has no package yet", hint=f"`tulle service package {name}`")
    wanted = version or versions[-1].version
    chosen = package.get(workspace.database, name, wanted)
    if chosen.product != owner:
        raise Conflict(
            f"{name} {wanted} was made by product '{chosen.product}'; '{owner}' declares the service now"
        )
    generation.unpack(chosen, workspace.settings)
    return generation.request(workspace.database, name, wanted, actor=actor)


def rollback(workspace: Workspace, name: str, *, actor: str = "") -> Deployment:
    """Ask for the version that was active before. Conflict when there is none."""
    current = generation.deployment(workspace.database, name)
    if current.previous_version is None:
        raise Conflict(f"service '{name}' has no earlier active version to go back to")
    return deploy(workspace, name, current.previous_version, actor=actor)


def chosen_version(workspace: Workspace, name: str, version: str | None = None) -> Package:
    """The package of that version, else of the active one, else the newest. NotFound when there is none."""
    declared_service(workspace, name)
    if version is None:
        current = generation.find(workspace.database, name)
        version = current.active_version if current else None
    if version is not None:
        return package.get(workspace.database, name, version)
    versions = package.packages(workspace.database, name)
    if not versions:
        raise NotFound(f"service '{name}' has no package yet", hint=f"`tulle service package {name}`")
    return versions[-1]


def run_test_queries(
    workspace: Workspace, name: str, version: str | None = None
) -> tuple[str, Sequence[Verdict]]:
    """Run the test queries saved in a version; which version, and a verdict each."""
    chosen = chosen_version(workspace, name, version)
    return chosen.version, generation.test(generation.unpack(chosen, workspace.settings))


def openapi(workspace: Workspace, name: str) -> Mapping[str, Any]:
    """The OpenAPI document in the active (else newest) version."""
    chosen = chosen_version(workspace, name)
    folder = generation.unpack(chosen, workspace.settings)
    document: Mapping[str, Any] = json.loads((folder / "openapi.json").read_bytes())
    return document


class Switchboard:
    """Keeps the gateway as the deployments and contracts say. One a control plane; safe to call from any thread."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._gateway = Gateway(workspace.settings)
        self._lock = threading.Lock()
        self._waiting_since: dict[tuple[str, str], float] = {}
        self._needs: dict[tuple[str, str], Needs] = {}  # a version's never change

    def settle(self) -> None:
        """Activate the generations that are ready and publish the policy if anything changed."""
        with self._lock:
            running = local.processes(self._workspace.settings)
            for deployment in generation.deployments(self._workspace.database):
                if deployment.status == "starting":
                    self._try_to_activate(deployment, dict(running))
            self._publish({})

    def _try_to_activate(self, deployment: Deployment, running: dict[str, local.Process]) -> None:
        settings, database = self._workspace.settings, self._workspace.database
        names = [
            local.worker_name(deployment.service, deployment.desired_version, n)
            for n in range(settings.service_workers)
        ]
        if all(name in running and running[name].state == "running" for name in names):
            # The gateway first: it is confirmed to send to the new workers before the old ones are let go.
            self._publish({deployment.service: deployment.desired_version})
            generation.activate(database, deployment.service, deployment.desired_version)
            self._waiting_since.pop((deployment.service, deployment.desired_version), None)
            return
        wanted = (deployment.service, deployment.desired_version)
        since = self._waiting_since.setdefault(wanted, time.monotonic())
        tried = sum(running[name].restarts for name in names if name in running)
        said = f"its worker ended {tried} times while starting" if tried >= 3 else ""
        if not said and running and time.monotonic() - since > START_SECONDS:
            said = f"its workers did not answer within {START_SECONDS:.0f} s"
        if said:
            del self._waiting_since[wanted]
            generation.fail(database, *wanted, f"{said}; `tulle logs {deployment.service}` shows why")

    def _publish(self, override: Mapping[str, str]) -> None:
        settings = self._workspace.settings
        upstreams: dict[str, tuple[str, ...]] = {}
        needs: dict[str, Needs] = {}
        for deployment in generation.deployments(self._workspace.database):
            version = override.get(deployment.service, deployment.active_version)
            if version is not None:
                upstreams[deployment.service] = tuple(
                    local.worker_socket(deployment.service, version, n)
                    for n in range(settings.service_workers)
                )
                needs[deployment.service] = self._needs_of(deployment.service, version)
        policy = current_policy(self._workspace.database, upstreams, settings, needs)
        result = self._gateway.publish(policy)
        if result.changed:
            with self._workspace.database.write() as connection:
                event = Event(
                    GATEWAY_PUBLISHED, "gateway", {"digest": result.digest, "files": list(result.changed)}
                )
                log.append(connection, event)

    def _needs_of(self, service: str, version: str) -> Needs:
        if (service, version) not in self._needs:
            folder = generation.folder_of(self._workspace.settings, service, version)
            try:
                self._needs[service, version] = needs_of(folder)
            except Broken:  # then it does not answer either
                return Needs()
        return self._needs[service, version]
