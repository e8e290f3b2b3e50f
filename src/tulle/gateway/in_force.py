"""What holds for a service or an API in one environment: its policies with those of the mesh, and the ways in.

What is read here is what pages, documents and examples tell; the switchboard puts the same in force. Knows nothing of
who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from tulle.config import PolicySet, Settings
from tulle.errors import TulleError
from tulle.gateway import service_keys, service_policies
from tulle.gateway.apis.instance import Instance
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import policies_in, written_of
from tulle.gateway.policies.opening import WaysIn, ways_in
from tulle.serving import generation
from tulle.serving.access import Access
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database


@dataclass(frozen=True, slots=True)
class InForce:
    """Policies in the order in which a request meets them, each with the set of the mesh it is of; empty: its own.

    `access` says who may call where none of them does. `said_otherwise`: its own list was said at its deployment, or
    set by hand, and not as its package or version says.
    """

    policies: tuple[tuple[Policy, str], ...]
    access: Access
    said_otherwise: bool = False

    @property
    def ways(self) -> WaysIn:
        """What callers send; as `access` says where the policies cannot be carried out, which the gateway tells."""
        try:
            return ways_in([policy for policy, _ in self.policies], self.access)
        except TulleError:
            return ways_in((), self.access)


Plain = Sequence[Mapping[str, Any]]
Said = tuple[Mapping[tuple[str, str], Access], Mapping[tuple[str, str], Plain]]


def said_at_deployments(database: Database) -> Said:
    """Who may call services, and their policies, where deployments say so; by service and environment."""
    return service_keys.said_at_deployment(database), service_policies.said_at_deployment(database)


def of_service(
    settings: Settings,
    said: Said,
    service: str,
    place: tuple[str, str],
    *,
    access: Access,
    plain: Plain,
    product: DataProduct | None,
) -> InForce:
    """Of a service at a `place`: an environment as deployments name it, and its name.

    `access` and `plain` are what its package or file says, where its deployment does not. Invalid, Broken for what
    cannot be read.
    """
    environment, name = place
    accesses, lists = said
    own = policies_in(written_of(lists.get((service, environment), plain)), name)
    joined = _mesh(settings).joined_from(target_named(service, name, product), own)
    return InForce(joined, accesses.get((service, environment), access), (service, environment) in lists)


def of_instance(settings: Settings, database: Database, instance: Instance) -> InForce:
    """Of an API's version in an environment. Invalid, Broken for what cannot be read."""
    return joined_with(settings, instance, lambda: target_of(database, instance))


def joined_with(settings: Settings, instance: Instance, target: Callable[[], Target]) -> InForce:
    """The same for whoever knows what the instance is called; it is asked only where the mesh has sets of policies."""
    own = policies_in(written_of(instance.policies), instance.place)
    mesh, by_hand = _mesh(settings), instance.by_hand is not None
    if not mesh:
        return InForce(tuple((policy, "") for policy in own), instance.version.access, by_hand)
    return InForce(mesh.joined_from(target(), own), instance.version.access, by_hand)


def target_of(database: Database, instance: Instance) -> Target:
    """An API's version in an environment as sets of policies name it, with the service behind it."""
    found = None
    if instance.target.service:
        found = generation.find(database, instance.target.service, instance.environment)
    owner = found.product if found is not None else ""
    documents = products.named(database, {instance.api.declared.product, owner} - {""})
    return target_among(instance, documents, {instance.target.service: owner})


def target_among(
    instance: Instance, documents: Mapping[str, DataProduct], product_of: Mapping[str, str]
) -> Target:
    """The same among products by name, and the names of those that deployed services are of."""
    said, answering, behind = instance.api.declared, instance.target.service, None
    if answering:
        owner = documents.get(product_of.get(answering, ""))
        behind = target_named(answering, instance.place, owner)
    return target_named(said.name, instance.place, documents.get(said.product), said.tags, behind)


def ways_of_instance(settings: Settings, database: Database, instance: Instance) -> WaysIn:
    """What callers of an API's version send; as its `access` says where its policies cannot be read."""
    try:
        return of_instance(settings, database, instance).ways
    except TulleError:
        return ways_in((), instance.version.access)


def target_named(
    name: str,
    environment: str,
    product: DataProduct | None,
    tags: Sequence[str] = (),
    behind: Target | None = None,
) -> Target:
    """A service or an API of a product in an environment, as sets of policies name it; with the service behind it."""
    if product is None:
        return Target(name, environment, tags=tuple(tags), behind=behind)
    return Target(name, environment, product.domain, (*product.tags, *tags), behind)


def _mesh(settings: Settings) -> MeshPolicies:
    return _read(msgspec.json.encode(settings.policies))


@lru_cache(maxsize=8)
def _read(sets: bytes) -> MeshPolicies:
    """The sets of a mesh, which are read once however many services they are joined with. Invalid."""
    return MeshPolicies(msgspec.json.decode(sets, type=dict[str, PolicySet]))
