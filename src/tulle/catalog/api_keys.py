"""The keys of an API as those who keep it see them, and whether any instance of it takes keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tulle.config import PRODUCTION, Settings
from tulle.errors import TulleError
from tulle.gateway import service_keys
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.records import RecordedApi
from tulle.gateway.last_used import last_used
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.listed import policies_in, written_of
from tulle.gateway.policies.opening import accesses
from tulle.gateway.service_keys import ServiceKey
from tulle.serving import generation
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database, now


@dataclass(frozen=True, slots=True)
class KeysView:
    """The keys in force, how many are over, and when each was used last, by its id."""

    takes_keys: bool
    keys: tuple[ServiceKey, ...]
    over: int
    last_used: Mapping[str, float]


def keys_view(settings: Settings, database: Database, api: RecordedApi) -> KeysView:
    """Those of an API."""
    known, at = service_keys.keys(database, api.name), now()
    in_force = tuple(key for key in known if key.state(at) == "in force")
    used = {client: at for (client, _), at in last_used(database, api.name).items()}
    return KeysView(takes_keys(settings, database, api), in_force, len(known) - len(in_force), used)


def takes_keys(settings: Settings, database: Database, api: RecordedApi) -> bool:
    """Whether a key opens some operation of some instance, as its file and the mesh's policies say now.

    A draft counts: its keys may be made before it is published.
    """
    of_mesh = MeshPolicies(settings.policies)
    owners = {one.service: one.product for one in generation.everywhere(database)} if of_mesh else {}
    wanted = {api.declared.product, *owners.values()} if of_mesh else set()
    documents = products.named(database, list(wanted))
    places = {
        one.name: "" if one.branch == PRODUCTION.branch else one.name
        for one in settings.environments.values()
    }
    for one in instances([api], places):
        if one.life.status == "retired":
            continue
        policies = policies_in(written_of(one.policies), one.place)
        try:
            joined = of_mesh.joined(_target(one, owners, documents), policies) if of_mesh else policies
            if any(access.api_keys is not None for access in accesses(joined, one.version.access)):
                return True
        except TulleError:  # the gateway tells of it, and opens nothing by what it cannot read
            continue
    return False


def _target(one: Instance, owners: Mapping[str, str], documents: Mapping[str, DataProduct]) -> Target:
    """An instance as the mesh's sets name it, with the service behind it."""
    behind, service = None, one.target.service
    if service:
        behind = _named(service, one.place, documents.get(owners.get(service, "")), ())
    said = one.api.declared
    return _named(one.api.name, one.place, documents.get(said.product), said.tags, behind)


def _named(
    name: str, place: str, product: DataProduct | None, tags: tuple[str, ...], behind: Target | None = None
) -> Target:
    domain, known = (product.domain, product.tags) if product is not None else ("", ())
    return Target(name, place, domain, (*known, *tags), behind)
