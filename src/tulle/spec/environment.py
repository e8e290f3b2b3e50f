"""What `mesh.yaml` says of environments: which there are, in which order releases go, which branch is which.

Pure: settings in, values out. Knows no repository; that a product has the branch is `control.environments`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tulle.config import PRODUCTION, Environment, Settings
from tulle.errors import NotFound, did_you_mean

PREVIEW = "preview-"  # how the branches of previews begin


def environments(settings: Settings) -> tuple[Environment, ...]:
    """All environments, each after the one that releases come from; production last of its rank."""

    def rank(environment: Environment) -> int:
        steps, before = 0, environment.after
        while before:
            steps, before = steps + 1, settings.environments[before].after
        return steps

    found = settings.environments.values()
    return tuple(sorted(found, key=lambda e: (rank(e), e.branch == PRODUCTION.branch, e.name)))


def environment(settings: Settings, name: str) -> Environment:
    """The environment of that name, or with that branch. NotFound with the nearest name."""
    if (found := settings.environments.get(name)) is not None:
        return found
    if (found := of_branch(settings, name)) is not None:
        return found
    raise NotFound(
        f"there is no environment '{name}'",
        hint=did_you_mean(name, settings.environments) or "name it under `environments:` in mesh.yaml",
    )


def of_branch(settings: Settings, branch: str) -> Environment | None:
    """The environment that a branch is, or None."""
    return next((e for e in settings.environments.values() if e.branch == branch), None)


def place_of(environment: Environment) -> str:
    """How deployments and instances name it: empty for that of consumers, whatever its name."""
    return "" if environment.branch == PRODUCTION.branch else environment.name


def places(settings: Settings) -> dict[str, str]:
    """Of the environments' names how deployments name each."""
    return {one.name: place_of(one) for one in settings.environments.values()}


def production(settings: Settings) -> Environment:
    """The environment whose branch is `main`, where consumers read."""
    found = of_branch(settings, PRODUCTION.branch)
    assert found is not None  # the settings see to it
    return found


def read_from(settings: Settings, name: str) -> Iterator[Environment]:
    """Where the data of other products is looked for by runs in an environment: there, then in its fallbacks."""
    seen: set[str] = set()
    while name and name not in seen:
        seen.add(name)
        found = environment(settings, name)
        yield found
        name = found.fallback
