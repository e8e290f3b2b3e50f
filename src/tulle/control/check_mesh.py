"""Every problem of a mesh at once: documents, code, checks and services, without running anything of the user's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tulle.control.gather import places_of
from tulle.control.notice import ends_too_soon
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, Problem, TulleError
from tulle.pipeline.graph import load_code
from tulle.serving.service import Service, load_services
from tulle.spec.mesh import MeshSpec
from tulle.spec.tenancy import collisions


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was read and what is wrong with it."""

    products: tuple[str, ...]
    problems: tuple[Problem, ...]


def check_mesh(
    workspace: Workspace, *, spec: MeshSpec | None = None, only: Collection[str] | None = None
) -> Verdict:
    """Read all of the mesh's files and gather their problems.

    `spec` has the documents when they were read already; `only` are the products whose code is looked at.
    """
    try:
        spec = spec or workspace.spec()
    except Invalid as exc:
        return Verdict((), _problems(exc))
    problems: list[Problem] = []
    services: dict[str, Sequence[Service]] = {}
    for product in spec.products:
        if only is not None and product.name not in only:
            continue
        problems += load_code(product, spec=spec).problems
        try:
            services[product.name] = load_services(product)
        except Invalid as exc:
            problems += _problems(exc)
    problems += ends_too_soon(workspace, [p for p in spec.products if only is None or p.name in only])
    problems += collisions(spec.products, services=places_of(services))
    return Verdict(tuple(product.name for product in spec.order()), tuple(problems))


def _problems(exc: TulleError) -> tuple[Problem, ...]:
    return exc.problems or (Problem(exc.message, hint=exc.hint),)
