"""The policies of services in force: a deployment may say other ones than its package, and the mesh adds its own.

For services that exist; the gateway follows with the next settling, which is at once where the mesh is up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tulle.config import Settings
from tulle.control import deployment
from tulle.control.idle_policies import IdlePolicies
from tulle.control.policy_names import PolicyNames, unmet_of_service
from tulle.control.policy_problems import demanded_list
from tulle.control.refused_policies import watching
from tulle.control.release import Declared, chosen_version, declared_service
from tulle.control.set_problems import SetProblems
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, Problem
from tulle.gateway import service_keys, service_policies
from tulle.gateway.faults import fault_of
from tulle.gateway.in_force import target_named
from tulle.gateway.policies.automated import MeshPolicies, left_out_by
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import Kind, entry_schema, known_kinds
from tulle.gateway.policies.listed import Written, policies_in, written_of
from tulle.gateway.policies.showing import entry_shown, policy_shown
from tulle.gateway.policies.unmet import Misplaced
from tulle.serving import generation
from tulle.serving.access import Access, access_of
from tulle.serving.service import Service


@dataclass(frozen=True, slots=True)
class InForce:
    """The policies of a service in an environment, who says so, and what they are with those of the mesh."""

    service: str
    environment: str
    written: tuple[Written, ...]
    said_by: str  # deployment, the version of a package, or its file
    sets: tuple[str, ...]
    joined: tuple[Policy, ...]
    is_consumers: bool = True  # whether the environment is theirs
    warnings: tuple[Problem, ...] = ()  # what is most likely not meant in the list that was said just now
    is_followed: bool = True  # whether the gateway could be told of it


def policies(workspace: Workspace, name: str, environment: str | None = None) -> InForce:
    """A service's policies: as its deployment says, else the active (else newest) package, else its file."""
    found = declared_service(workspace, name)
    place = deployment.place_of(workspace.settings, environment)
    shown = deployment.name_of(workspace.settings, place)
    plain, said_by = _said(workspace, found, place)
    written = written_of(plain)
    target = target_named(name, shown, found.product)
    own = policies_in(written, shown)
    of_mesh = MeshPolicies(workspace.settings.policies)
    sets = of_mesh.sets_for(target, left_out_by(own))
    return InForce(name, shown, written, said_by, sets, of_mesh.joined(target, own), not place)


def _said(workspace: Workspace, found: Declared, place: str) -> tuple[Sequence[Mapping[str, Any]], str]:
    name = found.service.name
    said = service_policies.said_at_deployment(workspace.database).get((name, place))
    if said is not None:
        return said, "deployment"
    current = generation.find(workspace.database, name, place)
    try:
        chosen = chosen_version(workspace, name, current.active_version if current else None)
    except NotFound:
        return found.service.policies, "file"
    return chosen.manifest.policies, chosen.version


def set_policies(
    workspace: Workspace,
    name: str,
    text: str | None,
    *,
    environment: str | None = None,
    actor: str = "",
    settle: Callable[[], bool] = lambda: True,
) -> InForce:
    """Say a service's policies from now on, whatever its packages say; None: as they say.

    `text` is what `policies:` would hold in its file, as YAML or JSON. `settle` makes the gateway follow, and tells
    whether it did. Invalid with every problem in the list, and where the gateway does not take it.
    """
    declared = declared_service(workspace, name)
    product = declared.product
    settings = workspace.settings
    place = deployment.place_of(settings, environment)
    wanted: list[dict[str, Any]] | None = None
    warnings: tuple[Problem, ...] = ()
    if text is not None:
        target = target_named(name, deployment.name_of(settings, place), product)
        held = [(target, _access(workspace, declared.service, place))]
        idle = IdlePolicies(workspace)

        def unfit(written: Sequence[Written]) -> Iterator[Misplaced]:
            yield from _unfit(workspace, declared.service, written)
            yield from idle.at(held, written)

        said = demanded_list(settings, text, unfit)
        wanted, warnings = said.policies, said.warnings
        SetProblems(settings).demand(target, wanted, f"service '{name}'")
    database = workspace.database
    with watching(settings, name, place) as watch:
        before = service_policies.set_policies(database, name, wanted, environment=place, actor=actor)

        def take_back() -> None:
            service_policies.take_back(database, name, wanted or [], before, environment=place, actor=actor)

        is_followed = watch.settled(settle, take_back) if wanted is not None else settle()
    return replace(policies(workspace, name, environment), warnings=warnings, is_followed=is_followed)


def _access(workspace: Workspace, service: Service, place: str) -> Access:
    """Who may call it there, but for what policies say: as its deployment, its package or its file has it."""
    said = service_keys.said_at_deployment(workspace.database).get((service.name, place))
    if said is not None:
        return said
    current = generation.find(workspace.database, service.name, place)
    with contextlib.suppress(NotFound):
        chosen = chosen_version(workspace, service.name, current.active_version if current else None)
        return access_of(chosen.manifest.access)
    return service.access


def _unfit(workspace: Workspace, service: Service, written: Sequence[Written]) -> Iterator[Misplaced]:
    """What a list names that is not there, at the service as it is declared and as it answers."""
    names = PolicyNames(workspace)
    endpoints: tuple[Mapping[str, Any], ...] = ()
    with contextlib.suppress(NotFound):  # there is no package yet
        endpoints = chosen_version(workspace, service.name).manifest.endpoints
    yield from unmet_of_service(service, written, endpoints)
    yield from names.unknown(written, names.tiers_of(service.offer) | names.tiers_recorded(service.name))


def in_force_as_plain(settings: Settings, found: InForce) -> dict[str, Any]:
    """The policies of a service as plain values, without secrets; `fault` is why the gateway has it otherwise."""
    fault = fault_of(settings, found.service, "" if found.is_consumers else found.environment)
    return {
        "service": found.service,
        "environment": found.environment,
        "said_by": found.said_by,
        "policies": [entry_shown(written.as_plain()) for written in found.written],
        "sets": list(found.sets),
        "joined": [policy_shown(one) for one in found.joined],
        "fault": fault.sentence if fault is not None else None,
        "warnings": [str(problem) for problem in found.warnings],
    }


def kinds_as_plain() -> list[dict[str, Any]]:
    """Every kind of policy, by name."""
    return [kind_as_plain(kind) for kind in sorted(known_kinds(), key=lambda one: one.name)]


def kind_as_plain(kind: Kind) -> dict[str, Any]:
    """What a kind is: its settings as a JSON Schema, an example, where it is carried out and stands."""
    return {
        "name": kind.name,
        "summary": kind.summary,
        "where": kind.where,
        "phase": kind.phase,
        "origin": kind.origin,
        "schema": entry_schema(kind),
        "example": kind.example,
    }
