"""What is wrong with the policies that files list, held against the kinds that the gateway knows.

A file is read below the gateway, so its policies are checked here: where it is validated, saved and packaged. Knows
nothing of what is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.config import Settings
from tulle.control.declared_apis import demand_reachable
from tulle.control.idle_policies import IdlePolicies, idle_in_set
from tulle.control.policy_names import PolicyNames, unmet_of_service
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, Problem, TulleError, did_you_mean
from tulle.gateway.apis.load import Loaded
from tulle.gateway.front import Upstream
from tulle.gateway.policies.automated import wrongly_left_out
from tulle.gateway.policies.contrary import contrary
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import Written, read_policies, written_of
from tulle.gateway.policies.showing import has_hidden
from tulle.gateway.policies.unmet import Misplaced
from tulle.serving.service import Service
from tulle.spec.document import Document, refuse
from tulle.spec.document import Path as Steps
from tulle.spec.load import load_document
from tulle.spec.mesh import MESH_FILE
from tulle.spec.product import DataProduct


@dataclass(frozen=True, slots=True)
class Judged:
    """What is wrong with a list of policies, and what is most likely not meant."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Demanded:
    """A list that somebody says, in the form that is kept, and what is most likely not meant in it."""

    policies: list[dict[str, Any]]
    warnings: tuple[Problem, ...] = ()


Further = Callable[
    [Sequence[Written]], Iterable[Misplaced]
]  # what else cannot hold of a list, where it is said


def policies_judged(
    names: PolicyNames,
    idle: IdlePolicies,
    service: Service,
    product: DataProduct | None,
    tiers: Collection[str] | None = None,
    *,
    file: Path | None = None,
) -> Judged:
    """Of the policies of a service that was read, in its own file or in another one that has the same text.

    `tiers` are those that its callers may be under; without it those that it says, and those that are applied.
    """
    if not service.policies:
        return Judged()
    settings = names.settings
    document = load_document(file or service.file, name=service.place.file if service.place else "")
    if document.at(("policies",)) is None:
        return Judged()
    found, problems = read_policies(document, ("policies",))
    if problems or (problems := list_problems(settings, document, ("policies",), found)):
        return Judged(tuple(problems))
    if tiers is None:
        tiers = names.tiers_of(service.offer) | names.tiers_recorded(service.name)
    unfit = [*contrary(found), *unmet_of_service(service, found), *names.unknown(found, tiers)]
    unfit += idle.of_service(service, product, found)
    return _judged(document, ("policies",), unfit)


def judged_api(
    names: PolicyNames, idle: IdlePolicies, loaded: Loaded, product: DataProduct, tiers: Collection[str]
) -> Judged:
    """Of the policies of an API's versions, which were read: what they name that is not there, and what is idle."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for number, version in enumerate(loaded.api.versions):
        written = written_of(version.policies)
        unfit = [
            *contrary(written),
            *names.unknown(written, tiers),
            *idle.of_version(loaded, version, product),
        ]
        judged = _judged(loaded.source, ("versions", number, "policies"), unfit)
        problems += judged.problems
        warnings += judged.warnings
    return Judged(tuple(problems), tuple(warnings))


def _judged(document: Document, path: Steps, unfit: Iterable[Misplaced]) -> Judged:
    told = [
        (one.is_doubtful, document.problem(one.message, (*path, *one.steps), hint=one.hint)) for one in unfit
    ]
    return Judged(
        tuple(one for is_doubtful, one in told if not is_doubtful),
        tuple(one for is_doubtful, one in told if is_doubtful),
    )


def demanded_list(
    settings: Settings,
    text: str,
    unfit: Further = lambda _: (),
) -> Demanded:
    """The list that somebody says in a text, YAML or JSON. Invalid with every problem.

    A value that was taken from what is shown would put `****` in force, so it is refused as well. `unfit` tells what
    could not hold where it is said.
    """
    document = load_document(text, name="policies")
    found, problems = read_policies(document, ())
    problems += [
        document.problem(
            "a value in it is hidden, so it was taken from what is shown",
            (number,),
            hint="write the value itself in place of ****, or set the policies of the file again",
        )
        for number, one in enumerate(found)
        if has_hidden(one.policy.settings)
    ]
    judged = Judged()
    if not problems:
        judged = _judged(document, (), [*contrary(found), *unfit(found)])
        problems = [*judged.problems, *list_problems(settings, document, (), found)]
    refuse("policies", problems)
    return Demanded([written.as_plain() for written in found], judged.warnings)


def list_problems(
    settings: Settings, document: Document, path: Steps, found: tuple[Written, ...]
) -> list[Problem]:
    """What is wrong with a service's list in this mesh: its environments, and the sets that it does without."""
    problems = unknown_environments(settings, document, path, found)
    for number, written in enumerate(found):
        for message, hint in wrongly_left_out(settings.policies, [written.policy]):
            problems.append(document.problem(message, (*path, number, "sets"), hint=hint))
    return [*problems, *unreachable(settings, document, path, found)]


def unreachable(
    settings: Settings, document: Document, path: Steps, found: Sequence[Written]
) -> Iterator[Problem]:
    """The places outside that policies of a list send something to and that the gateway may not reach."""
    for number, written in enumerate(found):
        try:
            demand_reached(settings, [written.policy])
        except TulleError as exc:
            yield document.problem(exc.message, (*path, number), hint=exc.hint)


def demand_reached(settings: Settings, policies: Iterable[Policy]) -> None:
    """Refuse policies that send something where it may not go: Invalid, or Denied for what is not public."""
    known = known_kinds()
    for policy in policies:
        for url in known.reached(policy.kind, policy.settings):
            demand_reachable(settings, Upstream(url))


def unknown_environments(
    settings: Settings, document: Document, path: Steps, found: tuple[Written, ...]
) -> list[Problem]:
    """The environments that a list names and the mesh does not have."""
    known = settings.environments
    return [
        document.problem(
            f"there is no environment '{name}'",
            (*path, number, "environments", position),
            hint=did_you_mean(name, known) or f"this mesh has {', '.join(known)}",
        )
        for number, written in enumerate(found)
        for position, name in enumerate(written.environments)
        if name not in known
    ]


def mesh_policies_judged(names: PolicyNames, tiers: Collection[str] = ()) -> Judged:
    """Of the sets of policies in mesh.yaml, each with its place; `tiers` are some more that there are."""
    settings = names.settings
    if not settings.policies:
        return Judged()
    document = load_document(settings.folder / MESH_FILE, name=MESH_FILE)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for name, one in settings.policies.items():
        path = ("policies", name, "policies")
        found, wrong = read_policies(document, path)
        problems += wrong or unknown_environments(settings, document, path, found)
        problems += unreachable(settings, document, path, found)
        unfit = [*contrary(found), *names.unknown(found, names.tiers.union(tiers)), *idle_in_set(found)]
        judged = _judged(document, path, unfit)
        problems += judged.problems
        warnings += judged.warnings
        for position, environment in enumerate(one.environments):
            if environment not in settings.environments:
                message = f"there is no environment '{environment}'"
                hint = did_you_mean(environment, settings.environments)
                place = ("policies", name, "environments", position)
                problems.append(document.problem(message, place, hint=hint))
    return Judged(tuple(problems), tuple(warnings))


def demand_sound(workspace: Workspace, service: Service, product: DataProduct) -> None:
    """Invalid, with every problem, for a service whose policies the gateway would refuse."""
    try:
        names, idle = PolicyNames(workspace), IdlePolicies(workspace)
        problems = policies_judged(names, idle, service, product).problems
    except Invalid as exc:  # the file is another one by now
        problems = exc.problems
    refuse(service.file.name, problems)
