"""The policies of APIs in force: they may be set by hand for a version in an environment, and the mesh adds its own.

For APIs that are applied; the gateway follows with the next settling, which is at once where the mesh is up. What is
set by hand holds over `apply` and restarts until it is taken back, as a binding does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tulle.catalog.way_words import in_words
from tulle.config import Settings
from tulle.control import apis
from tulle.control.idle_policies import IdlePolicies
from tulle.control.policy_names import PolicyNames
from tulle.control.policy_problems import demanded_list
from tulle.control.refused_policies import watching
from tulle.control.set_problems import SetProblems
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, Problem, TulleError
from tulle.gateway.apis import own_policies, records
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.misplaced import at_workers, undeclared
from tulle.gateway.faults import fault_of
from tulle.gateway.in_force import of_instance, target_of
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.listed import Written
from tulle.gateway.policies.opening import ways_in
from tulle.gateway.policies.showing import entry_shown, policy_shown
from tulle.gateway.policies.unmet import Misplaced
from tulle.serving import generation
from tulle.spec.environment import places


@dataclass(frozen=True, slots=True)
class ApiPolicies:
    """What holds for a version of an API in an environment: each policy with the set of the mesh that it is of."""

    instance: Instance
    joined: tuple[tuple[Policy, str], ...]
    warnings: tuple[Problem, ...] = ()  # what is most likely not meant in the list that was said just now
    is_followed: bool = True  # whether the gateway could be told of it

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets of the mesh that add any, in the order in which a request meets them."""
        return tuple(dict.fromkeys(name for _, name in self.joined if name))


def policies(workspace: Workspace, name: str, version: str, environment: str | None = None) -> ApiPolicies:
    """Those of a version of an API. NotFound with the nearest name."""
    _demand_declared(workspace, name)
    found = apis.instance(workspace, name, version, environment)
    return ApiPolicies(found, of_instance(workspace.settings, workspace.database, found).policies)


def set_policies(
    workspace: Workspace,
    name: str,
    version: str,
    text: str | None,
    *,
    environment: str | None = None,
    actor: str = "",
    settle: Callable[[], bool] = lambda: True,
) -> ApiPolicies:
    """Say the policies of a version in an environment from now on, whatever its file says; None: as that says.

    `text` is what `policies:` would hold in its file, as YAML or JSON. `settle` makes the gateway follow, and tells
    whether it did. Invalid with every problem in the list, and where the gateway does not take it.
    """
    _demand_declared(workspace, name)
    at = apis.instance(workspace, name, version, environment)
    wanted: list[dict[str, Any]] | None = None
    warnings: tuple[Problem, ...] = ()
    if text is not None:
        target = target_of(workspace.database, at)
        idle = IdlePolicies(workspace)

        def unfit(written: Sequence[Written]) -> Iterator[Misplaced]:
            yield from _unfit(workspace, at, written)
            yield from idle.at([(target, at.version.access)], written)

        said = demanded_list(workspace.settings, text, unfit)
        wanted, warnings = said.policies, said.warnings
        SetProblems(workspace.settings).demand(target, wanted, f"API '{name}' {version}")
    place = at.environment
    with watching(workspace.settings, f"{name}@{version}", place) as watch:
        before = own_policies.set_policies(workspace.database, name, version, place, wanted, actor=actor)

        def take_back() -> None:
            own_policies.take_back(
                workspace.database, name, version, place, wanted or [], before, actor=actor
            )

        is_followed = watch.settled(settle, take_back) if wanted is not None else settle()
    found = policies(workspace, name, version, environment)
    return replace(found, warnings=warnings, is_followed=is_followed)


def _unfit(workspace: Workspace, found: Instance, written: Sequence[Written]) -> Iterator[Misplaced]:
    """What could not hold at an instance as it is answered now."""
    if found.target.service:
        yield from at_workers(found.target.service, written)
    yield from undeclared(found.version, written)
    names = PolicyNames(workspace)
    tiers = names.tiers_of(found.api.declared.offer) | names.tiers_recorded(found.api.name)
    yield from names.unknown(written, tiers)


def with_kinds(workspace: Workspace, api: Mapping[str, Any]) -> dict[str, Any]:
    """An API as it is shown, with what holds for each instance: the kinds of `policies` as a request meets them.

    `called_by` is how callers show who they are there, by these and by `access`, in words. The kinds are None where
    what is recorded cannot be carried out. A deployed service has its policies as such.
    """
    if not api["declared"]:
        return dict(api)
    found = records.find(workspace.database, api["name"])
    at = {(one.version.version, one.place): one for one in instances([found], places(workspace.settings))}
    versions = []
    for version in api["versions"]:
        known = [at.get((version["version"], one["environment"])) for one in version["instances"]]
        told = [
            one if held is None else {**one, **_kinds(workspace, held)}
            for one, held in zip(version["instances"], known, strict=True)
        ]
        versions.append({**version, "instances": told})
    return {**api, "versions": versions}


def _kinds(workspace: Workspace, one: Instance) -> dict[str, Any]:
    by_hand = one.by_hand
    try:
        held = of_instance(workspace.settings, workspace.database, one)
        kinds, ways = [policy.kind for policy, _ in held.policies], held.ways
    except TulleError:  # which the gateway tells as a fault
        kinds, ways = None, ways_in((), one.version.access)
    return {
        "called_by": list(in_words(ways.all())),
        "policies": kinds,
        "policies_by_hand": by_hand is not None,
        "policies_by": by_hand.changed_by if by_hand is not None else None,
        "policies_at": by_hand.changed_at if by_hand is not None else None,
    }


def _demand_declared(workspace: Workspace, name: str) -> None:
    if name not in records.owners(workspace.database) and any(
        one.service == name for one in generation.everywhere(workspace.database)
    ):
        raise NotFound(
            f"'{name}' is a deployed service, not a declared API, and has its policies as such",
            hint=f"`tulle service policies {name}`",
        )


def as_plain(settings: Settings, found: ApiPolicies, *, with_settings: bool = True) -> dict[str, Any]:
    """As plain values, without secrets; `fault` is why the gateway has it otherwise.

    Without settings it is what is in force and who says so, and neither how nor what is wrong with it.
    """
    one = found.instance
    by_hand = one.by_hand
    fault = fault_of(settings, f"{one.api.name}@{one.version.version}", one.environment)
    joined = [{**policy_shown(policy), "set": set_ or None} for policy, set_ in found.joined]
    written = [entry_shown(entry) for entry in one.policies]
    if not with_settings:
        fault = None
        joined, written = ([_without(entry) for entry in entries] for entries in (joined, written))
    return {
        "api": one.api.name,
        "version": one.version.version,
        "environment": one.place,
        "said_by": "version" if by_hand is None else "hand",
        "changed_at": by_hand.changed_at if by_hand is not None else None,
        "changed_by": by_hand.changed_by if by_hand is not None else None,
        "policies": written,
        "sets": list(found.sets),
        "joined": joined,
        "fault": fault.sentence if fault is not None else None,
        "warnings": [str(problem) for problem in found.warnings],
    }


def _without(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in entry.items() if key in {"policy", "operations", "environments", "set"}
    }
