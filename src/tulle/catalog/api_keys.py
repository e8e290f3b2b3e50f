"""The keys of an API as those who keep it see them, and whether any instance of it takes keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tulle.config import Settings
from tulle.errors import TulleError
from tulle.gateway import service_keys
from tulle.gateway.apis.instance import instances
from tulle.gateway.apis.records import RecordedApi
from tulle.gateway.in_force import of_instance
from tulle.gateway.last_used import last_used
from tulle.gateway.policies.opening import accesses
from tulle.gateway.service_keys import ServiceKey
from tulle.spec.environment import places
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
    for one in instances([api], places(settings)):
        if one.life.status == "retired":
            continue
        try:
            found = of_instance(settings, database, one)
            opening = accesses([policy for policy, _ in found.policies], found.access)
        except TulleError:  # the gateway tells of it, and opens nothing by what it cannot read
            continue
        if any(access.api_keys is not None for access in opening):
            return True
    return False
