"""What is wrong with the policies that files list, held against the kinds that the gateway knows.

A file is read below the gateway, so its policies are checked here: where it is validated, saved and packaged. Knows
nothing of what is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tulle.config import Settings
from tulle.control.declared_apis import demand_reachable
from tulle.errors import Invalid, Problem, TulleError, did_you_mean
from tulle.gateway.apis.misplaced import Misplaced
from tulle.gateway.front import Upstream
from tulle.gateway.policies.automated import wrongly_left_out
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import Written, read_policies
from tulle.gateway.policies.showing import has_hidden
from tulle.serving.service import Service
from tulle.spec.document import Document, refuse
from tulle.spec.document import Path as Steps
from tulle.spec.load import load_document
from tulle.spec.mesh import MESH_FILE


def policy_problems(settings: Settings, service: Service) -> list[Problem]:
    """What is wrong with the policies in the file of a service that was read, each with its place."""
    if not service.policies:
        return []
    return problems_in(settings, service.file, service.place.file if service.place else "")


def problems_in(settings: Settings, file: Path, name: str) -> list[Problem]:
    """What is wrong with the policies of a services file, which errors call `name`."""
    document = load_document(file, name=name)
    if document.at(("policies",)) is None:
        return []
    found, problems = read_policies(document, ("policies",))
    return problems or list_problems(settings, document, ("policies",), found)


def demanded_list(
    settings: Settings,
    text: str,
    unfit: Callable[[Sequence[Written]], Iterable[Misplaced]] = lambda _: (),
) -> list[dict[str, Any]]:
    """The list that somebody says in a text, YAML or JSON, in the form that is kept. Invalid with every problem.

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
    if not problems:
        problems = [document.problem(one.message, one.steps, hint=one.hint) for one in unfit(found)]
        problems += list_problems(settings, document, (), found)
    refuse("policies", problems)
    return [written.as_plain() for written in found]


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


def mesh_policy_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the sets of policies in mesh.yaml, each with its place."""
    if not settings.policies:
        return []
    document = load_document(settings.folder / MESH_FILE, name=MESH_FILE)
    problems: list[Problem] = []
    for name, one in settings.policies.items():
        path = ("policies", name, "policies")
        found, wrong = read_policies(document, path)
        problems += wrong or unknown_environments(settings, document, path, found)
        problems += unreachable(settings, document, path, found)
        for position, environment in enumerate(one.environments):
            if environment not in settings.environments:
                message = f"there is no environment '{environment}'"
                hint = did_you_mean(environment, settings.environments)
                place = ("policies", name, "environments", position)
                problems.append(document.problem(message, place, hint=hint))
    return problems


def demand_sound(settings: Settings, service: Service) -> None:
    """Invalid, with every problem, for a service whose policies the gateway would refuse."""
    try:
        problems = policy_problems(settings, service)
    except Invalid as exc:  # the file is another one by now
        problems = list(exc.problems)
    refuse(service.file.name, problems)
