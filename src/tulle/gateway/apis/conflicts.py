"""What APIs of a mesh cannot have all at once: names, and addresses at the gateway. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tulle.errors import Place, Problem, did_you_mean
from tulle.gateway.apis.declared import ApiDeclared, ApiVersion, Target
from tulle.gateway.apis.load import Loaded
from tulle.gateway.policies.listed import written_of

_OPENS: Final = "a contract for one would open the other: name it differently"
# What the gateway answers itself, or services have.
RESERVED: Final = frozenset({"public", "isAlive", "mesh", ".well-known"})


@dataclass(frozen=True, slots=True)
class Known:
    """What there is beside APIs: `services` with the product that declares each; environments by name.

    `consumers` is the name of the environment that consumers are in. `in_force` are APIs as they were applied, and
    `places` where services are written. With `looked_at`, what is wrong between two products is told to these, as far
    as the other was not there before.
    """

    services: Mapping[str, str]
    environments: Collection[str]
    consumers: str
    in_force: Sequence[ApiDeclared] = ()
    places: Mapping[str, Place | None] = field(default_factory=dict)
    looked_at: Collection[str] = ()

    def rank(self, api: ApiDeclared, *, stands: bool) -> int:
        """Who comes first keeps what two want: who has it already, then who is not looked at."""
        return 0 if stands else 1 if api.product not in self.looked_at else 2


@dataclass(frozen=True, slots=True)
class _Claim:
    """An address that a version wants; `loaded` None: it has it, and its file cannot be read or is gone."""

    api: ApiDeclared
    loaded: Loaded | None
    number: int
    path: str
    hosts: tuple[str, ...]

    @property
    def told(self) -> str:
        return f"'{self.api.name}' {self.api.versions[self.number].version} of product '{self.api.product}'"

    @property
    def address(self) -> tuple[str, str, tuple[str, ...]]:
        return self.api.name, self.path, self.hosts

    def meets(self, other: _Claim) -> bool:
        """Whether a request can be meant for both."""
        return not self.hosts or not other.hosts or bool(set(self.hosts) & set(other.hosts))


def conflicts(apis: Sequence[Loaded], known: Known) -> Iterator[Problem]:
    """Everything wrong with these APIs, alone and together."""
    yield from contested(apis, known)
    for loaded in apis:
        for number, version in enumerate(loaded.api.versions):
            yield from _targets(loaded, number, version, known)
            yield from _reserved(loaded, number, version, known)


def contested(apis: Sequence[Loaded], known: Known) -> Iterator[Problem]:
    """The names and addresses that two want, each told to who came later: nobody takes what another one has."""
    yield from _names(apis, known)
    for environment, claims in _by_environment(apis, known.consumers).items():
        yield from _addresses(_in_turn(environment, claims, apis, known))


def _names(apis: Sequence[Loaded], known: Known) -> Iterator[Problem]:
    standing = {api.name: api.product for api in known.in_force}
    first = dict(standing)
    ranked = sorted(apis, key=lambda one: known.rank(one.api, stands=_has(standing, one.api)))
    for loaded in ranked:
        name, product = loaded.api.name, loaded.api.product
        if first.setdefault(name, product) != product:
            told = f"the API '{name}' is also declared by product '{first[name]}'"
            yield loaded.problem(told, "api", hint="name one of them differently: contracts are by name")
        owner = known.services.get(name, product)
        if owner != product and not _has(standing, loaded.api):
            told = f"the API '{name}' is called as a service of product '{owner}'"
            yield loaded.problem(told, "api", hint=_OPENS)
    for name, product in standing.items():
        owner = known.services.get(name, product)
        if owner != product:
            told = f"service '{name}' of product '{owner}' is called as an API of product '{product}'"
            yield Problem(told, known.places.get(name), _OPENS)


def _has(standing: Mapping[str, str], api: ApiDeclared) -> bool:
    return standing.get(api.name) == api.product


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


def _in_turn(
    environment: str, claims: Sequence[_Claim], apis: Sequence[Loaded], known: Known
) -> list[_Claim]:
    """The claims with those first that are in force, of which some have no file that can be read."""
    in_force = _by_environment(known.in_force, known.consumers).get(environment, ())
    standing = {(one.address, one.api.product) for one in in_force}
    read = {(one.api.name, one.api.product) for one in apis}
    left = [one for one in in_force if (one.api.name, one.api.product) not in read]

    def rank(claim: _Claim) -> int:
        return known.rank(claim.api, stands=(claim.address, claim.api.product) in standing)

    return [*left, *sorted(claims, key=rank)]


def _by_environment(apis: Sequence[Loaded | ApiDeclared], consumers: str) -> Mapping[str, list[_Claim]]:
    found: dict[str, list[_Claim]] = {}
    for one in apis:
        loaded = one if isinstance(one, Loaded) else None
        api = one.api if isinstance(one, Loaded) else one
        for number, version in enumerate(api.versions):
            for environment in {consumers, *version.environments}:
                said = version.environments.get(environment)
                path, hosts = version.path, version.hosts
                if said is not None:
                    path = said.path if said.path is not None else path
                    hosts = said.hosts if said.hosts is not None else hosts
                found.setdefault(environment, []).append(_Claim(api, loaded, number, path, hosts))
    return {name: found[name] for name in sorted(found)}


def _addresses(claims: Sequence[_Claim]) -> Iterator[Problem]:
    """Two at one path, and one below that of another product's, which would take its callers away.

    Told to the later one of the two.
    """
    by_path: dict[str, list[_Claim]] = {}
    turn = {id(claim): number for number, claim in enumerate(claims)}
    for claim in claims:
        by_path.setdefault(claim.path, []).append(claim)
    for claim in claims:
        for other in by_path[claim.path]:
            if other is claim:
                break
            if claim.meets(other) and claim.loaded is not None:
                told = f"{claim.told} and {other.told} would both be at '{claim.path}'"
                hint = "give one of them another path, or hosts of its own"
                yield claim.loaded.problem(told, "versions", claim.number, "path", hint=hint)
        above = claim.path
        while above.count("/") > 1:
            above = above.rpartition("/")[0]
            for other in by_path.get(above, ()):
                if other.api.product == claim.api.product or not claim.meets(other):
                    continue
                last = max(claim, other, key=lambda one: turn[id(one)])
                if last.loaded is not None:
                    told = f"{claim.told} would be at '{claim.path}', below {other.told}"
                    steps = ("versions", last.number, "path")
                    yield last.loaded.problem(told, *steps, hint="give it a path of its own")
