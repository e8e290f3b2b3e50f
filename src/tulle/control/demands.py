"""What the mesh has for many services: its sets of policies, joined to those of each, and what those may reach.

Knows nothing of what answers, and not what is published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tulle.config import Settings
from tulle.control.checked_documents import with_documents
from tulle.control.handing import Handing
from tulle.control.policy_problems import demand_reached
from tulle.control.workspace import Workspace
from tulle.gateway.in_force import target_named
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policy import ManagedService
from tulle.serving.generation import Deployment
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.state import products


class Demands:
    """One a control plane; not safe to call from several threads at once."""

    def __init__(self, workspace: Workspace, handing: Handing) -> None:
        self._workspace, self._settings, self._handing = workspace, workspace.settings, handing
        self._policies: MeshPolicies | None = None
        self._versions: Mapping[str, tuple[str, str, float]] = {}
        self._owners: Mapping[str, DataProduct] = {}
        self.products: Mapping[str, str] = {}  # of the services that are deployed

    def take_up(self, settings: Settings) -> None:
        """Go by other settings of the mesh."""
        self._settings, self._policies = settings, None

    def look(self, deployments: Sequence[Deployment]) -> Mapping[str, DataProduct]:
        """See whose the deployed services are; the products that are named."""
        if self._policies is None:
            self._policies = MeshPolicies(self._settings.policies)
        self._owners = self._owners_now()
        self.products = {one.service: one.product for one in deployments}
        return self._owners

    def joined(self, service: ManagedService, product: str, tags: Sequence[str] = ()) -> ManagedService:
        """A service of a product with what the mesh has for many, and the documents its policies check by.

        Invalid when the two cannot be joined, or a set that holds for it cannot be read; Denied when something would be
        sent where nothing may go.
        """
        if self._policies:
            target = self._target_of(service, product, tags)
            service = replace(service, policies=self._policies.joined(target, service.policies))
        self._demand_possible(service)
        return with_documents(self._settings, self._workspace.database, service)

    def demanded(self, service: ManagedService, product: str, tags: Sequence[str]) -> ManagedService:
        """A service as another time has it, with what the mesh demands of all now. Invalid, Denied, as `joined`."""
        if self._policies:
            target = self._target_of(service, product, tags)
            service = replace(service, policies=self._policies.demanded(target, service.policies))
        self._demand_possible(service)
        return service

    def _demand_possible(self, service: ManagedService) -> None:
        demand_reached(self._settings, service.policies)
        self._handing.demand(service)

    def _target_of(self, service: ManagedService, product: str, tags: Sequence[str]) -> Target:
        """It, with what is behind it where it is an API that a service of the mesh answers."""
        target = self._target(service.name, service.environment, product, tags)
        if service.front is None or not service.has_workers:
            return target
        name, place = service.workers_of
        return replace(target, behind=self._target(name, place, self.products.get(name, "")))

    def _target(self, name: str, environment: str, product: str, tags: Sequence[str] = ()) -> Target:
        """A service or an API as sets of policies name it."""
        owner = self._owners.get(product)
        place = environment or production(self._settings).name
        return target_named(name, place, owner, tags)

    def _owners_now(self) -> Mapping[str, DataProduct]:
        """The products that services belong to; read anew when one of them is applied."""
        if self._policies and (versions := products.versions(self._workspace.database)) != self._versions:
            self._owners = products.named(self._workspace.database, list(versions))
            self._versions = versions
        return self._owners
