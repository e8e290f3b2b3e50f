"""What APIs of a mesh cannot have all at once: names, and addresses at the gateway. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tulle.errors import Problem, did_you_mean
from tulle.gateway.apis.declared import ApiVersion, Target
from tulle.gateway.apis.load import Loaded
from tulle.gateway.policies.listed import written_of

# What the gateway answers itself, or services have.
RESERVED: Final = frozenset({"public", "isAlive", "mesh", ".well-known"})


@dataclass(frozen=True, slots=True)
class Known:
    """What there is beside APIs: `services` with the product that declares each; environments by name.

    `consumers` is the name of the environment that consumers are in.
    """

    services: Mapping[str, str]
    environments: Collection[str]
    consumers: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """An address that a version wants."""

    loaded: Loaded
    number: int
    path: str
    hosts: tuple[str, ...]

    @property
    def told(self) -> str:
        api = self.loaded.api
        return f"'{api.name}' {api.versions[self.number].version} of product '{api.product}'"

    def meets(self, other: _Claim) -> bool:
        """Whether a request can be meant for both."""
        return not self.hosts or not other.hosts or bool(set(self.hosts) & set(other.hosts))


def conflicts(apis: Sequence[Loaded], known: Known) -> Iterator[Problem]:
    """Everything wrong with these APIs together, each told at the place that was written later by name."""
    yield from _names(apis, known)
    for loaded in apis:
        for number, version in enumerate(loaded.api.versions):
            yield from _targets(loaded, number, version, known)
            yield from _reserved(loaded, number, version, known)
    for claims in _by_environment(apis, known).values():
        yield from _addresses(claims)


def _names(apis: Sequence[Loaded], known: Known) -> Iterator[Problem]:
    first: dict[str, Loaded] = {}
    for loaded in apis:
        name = loaded.api.name
        if name in first:
            told = f"the API '{name}' is also declared by product '{first[name].api.product}'"
            yield loaded.problem(told, "api", hint="name one of them differently: contracts are by name")
        first.setdefault(name, loaded)
        owner = known.services.get(name)
        if owner is not None and owner != loaded.api.product:
            told = f"the API '{name}' is called as a service of product '{owner}'"
            yield loaded.problem(
                told, "api", hint="a contract for one would open the other: name it differently"
            )


def _targets(loaded: Loaded, number: int, version: ApiVersion, known: Known) -> Iterator[Problem]:
    at: tuple[str | int, ...] = ("versions", number)
    for name in version.environments:
        if name not in known.environments:
            yield _no_environment(loaded, name, known, *at, "environments", name)
    for position, policy in enumerate(written_of(version.policies)):
        for place, name in enumerate(policy.environments):
            if name not in known.environments:
                yield _no_environment(loaded, name, known, *at, "policies", position, "environments", place)
    wanted: list[tuple[Target, tuple[str | int, ...]]] = [(version.target, (*at, "service"))]
    wanted += [
        (said.target, (*at, "environments", name, "service"))
        for name, said in version.environments.items()
        if said.target is not None
    ]
    for target, steps in wanted:
        if target.service and target.service not in known.services:
            hint = did_you_mean(target.service, known.services) or "declare it in services/"
            yield loaded.problem(f"there is no service '{target.service}'", *steps, hint=hint)
        elif target.service and known.services[target.service] != loaded.api.product:
            told = f"service '{target.service}' is product '{known.services[target.service]}'s"
            named = f"{loaded.api.name} {version.version} --to service:{target.service}"
            hint = f"leave it out; who may change both products binds it: `tulle api bind {named}`"
            yield loaded.problem(told, *steps, hint=hint)


def _no_environment(loaded: Loaded, name: str, known: Known, *steps: str | int) -> Problem:
    hint = did_you_mean(name, known.environments) or "name it under `environments:` in mesh.yaml"
    return loaded.problem(f"there is no environment '{name}'", *steps, hint=hint)


def _reserved(loaded: Loaded, number: int, version: ApiVersion, known: Known) -> Iterator[Problem]:
    steps: tuple[str | int, ...]
    for steps, path in _paths(version):
        first = path.split("/")[1]
        taken = "the gateway's own" if first in RESERVED else "that of an environment"
        if first in RESERVED or first in known.environments:
            hint = "begin it with a word of its own, such as the API's name"
            yield loaded.problem(
                f"the path '{path}' begins with '{first}', which is {taken}",
                *("versions", number, *steps),
                hint=hint,
            )
        if any(step in {".", ".."} for step in path.split("/")):
            yield loaded.problem(f"the path '{path}' is no plain one", "versions", number, *steps)


def _paths(version: ApiVersion) -> Iterator[tuple[tuple[str | int, ...], str]]:
    yield ("path",), version.path
    for name, said in version.environments.items():
        if said.path is not None:
            yield ("environments", name, "path"), said.path


def _by_environment(apis: Sequence[Loaded], known: Known) -> Mapping[str, list[_Claim]]:
    found: dict[str, list[_Claim]] = {}
    for loaded in apis:
        for number, version in enumerate(loaded.api.versions):
            for environment in {known.consumers, *version.environments}:
                said = version.environments.get(environment)
                path, hosts = version.path, version.hosts
                if said is not None:
                    path = said.path if said.path is not None else path
                    hosts = said.hosts if said.hosts is not None else hosts
                found.setdefault(environment, []).append(_Claim(loaded, number, path, hosts))
    return {name: found[name] for name in sorted(found)}


def _addresses(claims: Sequence[_Claim]) -> Iterator[Problem]:
    """Two at one path, and one below that of another product's, which would take its callers away."""
    by_path: dict[str, list[_Claim]] = {}
    for claim in claims:
        by_path.setdefault(claim.path, []).append(claim)
    for claim in claims:
        steps = ("versions", claim.number, "path")
        for other in by_path[claim.path]:
            if other is claim:
                break
            if claim.meets(other):
                told = f"{claim.told} and {other.told} would both be at '{claim.path}'"
                yield claim.loaded.problem(
                    told, *steps, hint="give one of them another path, or hosts of its own"
                )
        above = claim.path
        while above.count("/") > 1:
            above = above.rpartition("/")[0]
            for other in by_path.get(above, ()):
                if other.loaded.api.product != claim.loaded.api.product and claim.meets(other):
                    told = f"{claim.told} would be at '{claim.path}', below {other.told}"
                    yield claim.loaded.problem(told, *steps, hint="give it a path of its own")
