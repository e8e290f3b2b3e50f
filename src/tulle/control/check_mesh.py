"""Every problem of a mesh at once: documents, code, checks and services, without running anything of the user's."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.control.workspace import Workspace
from tulle.errors import Invalid, Problem, TulleError
from tulle.pipeline.graph import load_code
from tulle.serving.service import load_services


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was read and what is wrong with it."""

    products: tuple[str, ...]
    problems: tuple[Problem, ...]


def check_mesh(workspace: Workspace) -> Verdict:
    """Read all of the mesh's files and gather their problems."""
    try:
        spec = workspace.spec()
    except Invalid as exc:
        return Verdict((), _problems(exc))
    problems: list[Problem] = []
    services: dict[str, str] = {}
    for product in spec.products:
        problems += load_code(product, spec=spec).problems
        try:
            declared = load_services(product)
        except Invalid as exc:
            problems += _problems(exc)
            continue
        for service in declared:
            if service.name in services:
                owner = services[service.name]
                message = f"service '{service.name}' is declared by products '{owner}' and '{product.name}'"
                problems.append(Problem(message, service.place))
            services[service.name] = product.name
    return Verdict(tuple(product.name for product in spec.order()), tuple(problems))


def _problems(exc: TulleError) -> tuple[Problem, ...]:
    return exc.problems or (Problem(exc.message, hint=exc.hint),)
