"""What may be asked in which environment by one name: a deployed service, an API with its instances there, or both.

The access log and the counts know both by their names alone. Reads no counts, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tulle.config import Settings
from tulle.gateway.apis import records
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.records import RecordedApi
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.spec.environment import places
from tulle.state.db import Database


@dataclass(frozen=True, slots=True)
class Asked:
    """One name in one environment, that of consumers is the empty one; `instances` are those of the API, by version."""

    name: str
    environment: str
    product: str
    deployment: Deployment | None
    instances: tuple[Instance, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether the gateway has callers in: a service that ran once, an API with a version that is not retired."""
        if self.deployment is not None and self.deployment.active is not None:
            return True
        return bool(self.answering)

    @property
    def answering(self) -> tuple[str, ...]:
        """Versions of the API that have callers: those that are no draft, where consumers are, and not retired."""
        return tuple(
            one.version.version for one in self.instances if one.answers and one.life.status != "retired"
        )


def everything_asked(
    settings: Settings, database: Database, apis: Sequence[RecordedApi] | None = None
) -> Mapping[tuple[str, str], Asked]:
    """All by name and environment; `apis` are those in force where they were read already.

    An API that has the name of a service is of the API's product.
    """
    found = {
        (one.service, one.environment): Asked(one.service, one.environment, one.product, one)
        for one in generation.everywhere(database)
    }
    recorded = records.recorded(database) if apis is None else apis
    by_place: dict[tuple[str, str], list[Instance]] = {}
    for one in instances(recorded, places(settings)):
        by_place.setdefault((one.api.name, one.environment), []).append(one)
    for (name, environment), several in by_place.items():
        service = found.get((name, environment))
        deployment = None if service is None else service.deployment
        product = several[0].api.declared.product
        found[name, environment] = Asked(name, environment, product, deployment, tuple(several))
    return found


def asked_there(settings: Settings, database: Database, name: str, environment: str) -> Asked | None:
    """What may be asked by one name in an environment, that of consumers is the empty one; reads no other API."""
    return everything_asked(settings, database, records.recorded(database, [name])).get((name, environment))


def names_there(settings: Settings, database: Database, environment: str) -> frozenset[str]:
    """The names of all that may be asked in an environment."""
    found = everything_asked(settings, database, records.followed(database))
    return frozenset(name for name, place in found if place == environment)
