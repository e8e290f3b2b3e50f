"""Environments as they are: the branch of a product in each, what is in force there; previews, which come and go.

What environments there shall be is in `spec.environment`. A branch is made by `apply`, and where a product was applied
before its environment was named, when it is first needed. Nothing is copied: a branch is a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from tulle.config import Environment
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, did_you_mean
from tulle.events import PREVIEW_CREATED, PREVIEW_REMOVED, Event
from tulle.lake.repository import Repository
from tulle.pipeline import manifest, promotion
from tulle.pipeline import run as runs
from tulle.pipeline.promotion import demand_no_run
from tulle.spec import environment as declared
from tulle.spec.environment import PREVIEW
from tulle.state import log, products
from tulle.state.db import now
from tulle.state.tables import environments as table

PREVIEW_KIND = "preview"
_PREVIEW_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,12}")


@dataclass(frozen=True, slots=True)
class Placed:
    """A product in an environment; `version` None means its runs are made by its folder, as it is.

    `commit` is None where there is no branch yet, `run` where nothing ran.
    """

    product: str
    environment: str
    branch: str
    version: str | None
    commit: str | None
    run: str | None
    since: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """A short-lived branch of one product, to look at what a change would make."""

    product: str
    name: str
    branch: str
    source: str
    created_by: str
    created_at: float


def by_whom(name: str) -> str:
    """The name of who asks, checked. Invalid."""
    plain = name.strip()
    if not plain or len(plain) > 64 or not plain.isprintable():
        raise Invalid(f"{name[:80]!r} is no name of a person", hint="say who asks with --by NAME")
    return plain


def ensure_branches(workspace: Workspace, product: str) -> tuple[str, ...]:
    """Give a product the branches of all environments; the names of those that were made."""
    repository = workspace.lake.repository(product)
    there = {branch.name for branch in repository.branches()}
    made = []
    for environment in declared.environments(workspace.settings):
        if environment.branch not in there:
            repository.create_branch(environment.branch, repository.default_branch, exist_ok=True)
            made.append(environment.branch)
    return tuple(made)


def branch_for_run(workspace: Workspace, product: str, name: str) -> str:
    """The branch that a run of a product in an environment or preview works for; made if it is not there.

    NotFound with the nearest name.
    """
    found = workspace.settings.environments.get(name) or declared.of_branch(workspace.settings, name)
    if found is not None:
        if found.branch != workspace.lake.repository(product).default_branch:
            ensure_branches(workspace, product)
        return found.branch
    mine = previews(workspace, product)
    for preview in mine:
        if name in {preview.name, preview.branch}:
            return preview.branch
    known = [*workspace.settings.environments, *(preview.name for preview in mine)]
    raise NotFound(
        f"there is no environment or preview '{name}' of product '{product}'", hint=did_you_mean(name, known)
    )


def to_release_from(workspace: Workspace, product: str, name: str | None) -> Environment:
    """Where what is released has run: by default the first environment, else that one, or a preview of the product.

    A preview is the way on where runs in the first environment are made by a release already. NotFound.
    """
    if name is None:
        return declared.environments(workspace.settings)[0]
    for preview in previews(workspace, product):
        if name in {preview.name, preview.branch}:
            return Environment(name=preview.name, branch=preview.branch)
    return declared.environment(workspace.settings, name)


def placed(workspace: Workspace, *, product: str | None = None) -> tuple[Placed, ...]:
    """What is where: every applied product in every environment, in the order releases go."""
    database = workspace.database
    promotion.try_to_settle(database, workspace.lake)
    names = [item.product.name for item in products.applied(database)]
    if product is not None:
        products.applied_product(database, product)
        names = [product]
    with database.read() as cx:
        rows = {(row.product, row.branch): row for row in cx.execute(select(table))}
    found = []
    for name in names:
        heads = _heads(workspace, name)
        for environment in declared.environments(workspace.settings):
            row = rows.get((name, environment.branch))
            good = manifest.good_run(database, name, environment.branch)
            found.append(
                Placed(
                    name,
                    environment.name,
                    environment.branch,
                    row.version if row else None,
                    heads.get(environment.branch),
                    good.run_id if good else None,
                    row.changed_at if row and row.version else None,
                )
            )
    return tuple(found)


def _heads(workspace: Workspace, product: str) -> dict[str, str]:
    try:
        repository = workspace.lake.repository(product)
    except NotFound:
        return {}
    return {branch.name: branch.commit_id for branch in repository.branches()}


def as_plain(workspace: Workspace) -> list[dict[str, Any]]:
    """The environments with what they are bound to and the products in them."""
    where = placed(workspace)
    return [
        {
            **asdict(environment),
            "production": environment.branch == declared.production(workspace.settings).branch,
            "products": [asdict(item) for item in where if item.environment == environment.name],
        }
        for environment in declared.environments(workspace.settings)
    ]


# ── previews ─────────────────────────────────────────────────────────────────────────────────────────────


def create_preview(
    workspace: Workspace, product: str, name: str, *, source: str | None = None, by: str
) -> Preview:
    """A branch of a product off an environment, for one change; no data is copied. AlreadyExists.

    A crash between the branch and its record leaves a branch that the same call takes over.
    """
    products.applied_product(workspace.database, product)
    if not _PREVIEW_NAME.fullmatch(name) or len(name) > 60:
        raise Invalid(
            f"'{name}' is no name for a preview",
            hint="lower-case letters, digits and single hyphens, at most 60",
        )
    settings = workspace.settings
    origin = declared.environment(settings, source) if source else declared.production(settings)
    if name in settings.environments or declared.of_branch(settings, name) is not None:
        raise AlreadyExists(f"'{name}' is an environment", hint="choose another name for the preview")
    branch = f"{PREVIEW}{name}"
    repository = workspace.lake.repository(product)
    ensure_branches(workspace, product)
    if any(preview.name == name for preview in previews(workspace, product)):
        raise AlreadyExists(
            f"product '{product}' has a preview '{name}'",
            hint=f"`tulle preview remove {product} {name}` removes it",
        )
    repository.create_branch(branch, origin.branch, exist_ok=True)
    at = now()
    with workspace.database.write() as cx:
        cx.execute(delete(table).where(table.c.product == product, table.c.name == name))
        cx.execute(
            insert(table).values(
                product=product,
                name=name,
                kind=PREVIEW_KIND,
                branch=branch,
                source=origin.name,
                created_by=by,
                created_at=at,
                changed_at=at,
            )
        )
        event = Event(PREVIEW_CREATED, product, {"name": name, "branch": branch, "source": origin.name})
        log.append(cx, event, actor=by)
    return Preview(product, name, branch, origin.name, by, at)


def previews(workspace: Workspace, product: str | None = None) -> tuple[Preview, ...]:
    """The previews there are, oldest first."""
    query = select(table).where(table.c.kind == PREVIEW_KIND).order_by(table.c.created_at, table.c.name)
    if product is not None:
        query = query.where(table.c.product == product)
    with workspace.database.read() as cx:
        return tuple(
            Preview(row.product, row.name, row.branch, row.source, row.created_by, row.created_at)
            for row in cx.execute(query)
        )


def remove_preview(workspace: Workspace, product: str, name: str, *, by: str) -> Preview:
    """Remove a preview with its branch and those of its runs; what it was made of stays. NotFound, Conflict."""
    mine = previews(workspace, product)
    found = next((preview for preview in mine if preview.name == name), None)
    if found is None:
        hint = did_you_mean(name, [preview.name for preview in mine]) or f"`tulle preview list {product}`"
        raise NotFound(f"product '{product}' has no preview '{name}'", hint=hint)
    with workspace.database.write() as cx:
        demand_no_run(cx, product, found.branch)
    repository = workspace.lake.repository(product)
    ran = runs.recent(workspace.database, product=product, environment=found.branch, limit=None)
    if any(run.status == runs.QUEUED for run in ran):
        raise Conflict(f"a run of '{product}' waits for its turn on '{found.branch}'", hint="wait for it")
    _remove_branches(repository, found.branch, {run.branch for run in ran if run.branch} - {found.branch})
    with workspace.database.write() as cx:
        cx.execute(delete(table).where(table.c.product == product, table.c.name == name))
        log.append(cx, Event(PREVIEW_REMOVED, product, {"name": name, "branch": found.branch}), actor=by)
    return found


def _remove_branches(repository: Repository, own: str, of_runs: Collection[str]) -> None:
    """A branch, those of its runs and those of their jobs; one that is gone already is no failure.

    Another preview's name may begin like this one's.
    """
    there = {branch.name for branch in repository.branches()}
    for name in sorted(there):
        if name == own or any(name == given or name.startswith(f"{given}-") for given in of_runs):
            try:
                repository.delete_branch(name)
            except NotFound:
                continue
