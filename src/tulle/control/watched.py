"""What a watch is about: the services, APIs and parts of them that have callers now, and why it is about nothing.

Pure but for the settings' environments; knows nothing of what is measured and of who is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tulle.catalog.asked import Asked
from tulle.catalog.outlook import environment_key
from tulle.config import Settings, Watch
from tulle.errors import NotFound, TulleError, did_you_mean
from tulle.spec.environment import production


@dataclass(frozen=True, slots=True)
class Place:
    """A service or API in an environment, and whose it is."""

    service: str
    environment: str
    product: str


def watched(settings: Settings, watch: Watch, everything: Mapping[tuple[str, str], Asked]) -> Iterator[Place]:
    """What a watch is about now; nothing where its environment is no more."""
    try:
        key = environment_key(settings, watch.environment)
    except TulleError:  # of mesh.yaml, and its environment is no more
        return
    if watch.service:
        of_it = everything.get((watch.service, key))
        places = [] if of_it is None else [of_it]
    else:
        places = [place for (_, environment), place in everything.items() if environment == key]
    for place in places:
        if place.answers and _has_part(watch, place, everything):
            yield Place(place.name, place.environment, place.product)


def _has_part(watch: Watch, place: Asked, everything: Mapping[tuple[str, str], Asked]) -> bool:
    """Whether what a watch names of a service or API has callers there."""
    if watch.version and watch.version not in place.answering:
        return False
    return not watch.generation or watch.generation in generations(place, everything)


def generations(place: Asked, everything: Mapping[tuple[str, str], Asked]) -> set[str]:
    """Those that may answer: a service's own, and of an API those of the services behind its versions."""
    behind = {one.target.service for one in place.instances if one.target.service}
    found = [everything.get((name, place.environment)) for name in {place.name, *behind}]
    runs = [one.deployment for one in found if one is not None and one.deployment is not None]
    return {generation for one in runs for generation in one.mounted}


def why_nothing(settings: Settings, watch: Watch, everything: Mapping[tuple[str, str], Asked]) -> str:
    """Why a watch watches nothing now; empty where it watches something."""
    if next(watched(settings, watch, everything), None) is not None:
        return ""
    try:
        key = environment_key(settings, watch.environment)
    except TulleError as exc:
        return exc.message
    where = watch.environment or production(settings).name
    if not watch.service:
        return f"nothing answers in environment '{where}'"
    place = everything.get((watch.service, key))
    if place is not None and place.answers:
        return _missing_part(watch, place, everything, where)
    answering = [place.name for place in everything.values() if place.environment == key and place.answers]
    near = did_you_mean(watch.service, answering)
    said = f"no service or API '{watch.service}' answers in environment '{where}'"
    return f"{said}: {near}" if near else said


def _missing_part(watch: Watch, place: Asked, everything: Mapping[tuple[str, str], Asked], where: str) -> str:
    if watch.version and watch.version not in place.answering:
        near = did_you_mean(watch.version, place.answering)
        said = f"'{watch.service}' has no version '{watch.version}' that answers in environment '{where}'"
    else:
        near = did_you_mean(watch.generation, generations(place, everything))
        said = f"no generation '{watch.generation}' of '{watch.service}' is deployed in environment '{where}'"
    return f"{said}: {near}" if near else said


def demand_there(watch: Watch, everything: Mapping[tuple[str, str], Asked]) -> None:
    """NotFound where there is no such service or API in any environment, or not this part of it."""
    known = {name for name, _ in everything}
    if watch.service not in known:
        hint = did_you_mean(watch.service, known) or "`tulle service list` and `tulle api list` show them"
        raise NotFound(f"there is no API '{watch.service}', nor such a service that is deployed", hint=hint)
    of = [one for one in everything.values() if one.name == watch.service]
    versions = {one.version.version for place in of for one in place.instances}
    if watch.version and watch.version not in versions:
        hint = did_you_mean(watch.version, versions) or "`tulle api show` tells which an API has"
        raise NotFound(f"there is no version '{watch.version}' of an API '{watch.service}'", hint=hint)
    mounted = {one for place in of for one in generations(place, everything)}
    if watch.generation and watch.generation not in mounted:
        hint = did_you_mean(watch.generation, mounted) or "`tulle service list` tells what is deployed"
        raise NotFound(
            f"no generation '{watch.generation}' of '{watch.service}' is deployed in any environment",
            hint=hint,
        )
