"""Environments, previews, releases, promotions and the end of products over HTTP, below `/mesh/v1`.

Parses, calls one function, renders. Who asks is who holds the credential: the door says which user that is. With the
mesh's own token, whose user is the administrator, `by` in the body may name for whom is asked, but never who approves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import environments, product_release, promotion, retirement
from tulle.control.asking import asked_by, user_of
from tulle.control.environments import by_whom
from tulle.control.workspace import Workspace
from tulle.errors import Denied, NotFound
from tulle.lake.access import ADMINISTRATOR, Access
from tulle.pipeline import manifest, release, run_end
from tulle.pipeline import promotion as record
from tulle.pipeline import run as runs
from tulle.pipeline.pin import pinned_readers
from tulle.pipeline.release import Release
from tulle.spec import environment as declared
from tulle.state import products

Limit = Annotated[int, Query(ge=1, le=1000)]
Who = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: Who | None = None


class PreviewBody(_Body):
    """A preview to make."""

    name: str
    source: str | None = None


class ReleaseBody(_Body):
    """What to release from where."""

    environment: str | None = None
    notes: str = ""


class PromoteBody(_Body):
    """Where a release is to go."""

    version: str
    to: str
    note: str = Field("", max_length=2000)
    accept_breaking: bool = False


class RollbackBody(_Body):
    """What to go back to."""

    to: str
    environment: str | None = None
    note: str = Field("", max_length=2000)


class DecisionBody(_Body):
    """What one person decides; `breaking` is what they were shown that it breaks."""

    approved: bool = True
    breaking: list[str] | None = None
    note: str = Field("", max_length=2000)


class DeprecateBody(_Body):
    """When a product ends and why."""

    sunset: str
    reason: str
    successor: str = ""


def _asks(request: Request, said: str | None) -> str:
    """Who asks. Denied when somebody's credential names somebody else."""
    user = user_of(request)
    if user is None:
        return by_whom(said) if said else asked_by(request)
    _demand_same(user, said)
    return user


def _decides(request: Request, said: str | None) -> str:
    """Who decides: the user of the credential, which is the administrator for the mesh's token. Denied otherwise."""
    user = user_of(request) or ADMINISTRATOR
    _demand_same(user, said)
    return user


def _demand_same(user: str, said: str | None) -> None:
    if said and by_whom(said) != user:
        raise Denied(
            f"the credential is that of '{user}', not of '{said}'",
            hint=f"'{said}' sends an access key of their own: `tulle user key {said}` makes one, --key FILE uses it",
        )


def router(workspace: Workspace, access: Access) -> Routes:
    """The API of one mesh's environments and releases."""
    api = Routes(prefix="/mesh/v1")
    _environment_routes(api, workspace)
    _release_routes(api, workspace)
    _promotion_routes(api, workspace, access)
    _end_routes(api, workspace)
    return api


def _demand_known(workspace: Workspace, product: str | None, found: Sequence[object]) -> None:
    """Tell nothing of a product from a product that is not there, which is most likely misspelt. NotFound."""
    if product and not found:
        products.applied_product(workspace.database, product)


def _environment_routes(api: Routes, workspace: Workspace) -> None:
    @api.get("/environments")
    def list_environments() -> dict[str, Any]:
        return {"environments": environments.as_plain(workspace)}

    @api.get("/environments/{name}")
    def one(name: str) -> dict[str, Any]:
        found = declared.environment(workspace.settings, name)
        return next(e for e in environments.as_plain(workspace) if e["name"] == found.name)

    @api.get("/previews")
    def previews(product: str | None = None) -> dict[str, Any]:
        found = environments.previews(workspace, product)
        _demand_known(workspace, product, found)
        return {"previews": [asdict(p) for p in found]}

    @api.post("/products/{product}/previews", status_code=201)
    def create(request: Request, product: str, body: PreviewBody) -> dict[str, Any]:
        by = _asks(request, body.by)
        return asdict(environments.create_preview(workspace, product, body.name, source=body.source, by=by))

    @api.delete("/products/{product}/previews/{name}")
    def remove(
        request: Request, product: str, name: str, by: Annotated[str, Query(max_length=200)] = ""
    ) -> dict[str, Any]:
        return asdict(environments.remove_preview(workspace, product, name, by=_asks(request, by)))

    @api.get("/products/{product}/manifest")
    def product_manifest(
        product: str, environment: str | None = None, run: str | None = None
    ) -> dict[str, Any]:
        products.applied_product(workspace.database, product)
        if run is None:
            name = environment or declared.production(workspace.settings).name
            branch = environments.branch_for_run(workspace, product, name)
            newest = next(
                (
                    one
                    for one in runs.recent(workspace.database, product=product, limit=1000)
                    if one.environment == branch and one.ended
                ),
                None,
            )
            if newest is None:
                raise NotFound(f"product '{product}' never ran in '{name}'", hint=f"`tulle run {product}`")
            run = newest.id
        found = manifest.manifest(workspace.database, run)
        if found["product"] != product:
            raise NotFound(f"run '{run}' is of product '{found['product']}', not of '{product}'")
        return found


def _release_routes(api: Routes, workspace: Workspace) -> None:
    @api.get("/releases")
    def list_releases(product: str | None = None) -> dict[str, Any]:
        found = release.releases(workspace.database, product)
        _demand_known(workspace, product, found)
        pins = pinned_readers(workspace.database)
        return {
            "releases": [
                {**_release(one), "pinned_by": pins.get((one.product, one.version), [])} for one in found
            ]
        }

    @api.post("/products/{product}/releases", status_code=201)
    def make(request: Request, product: str, body: ReleaseBody) -> dict[str, Any]:
        by = _asks(request, body.by)
        made, created = product_release.make(
            workspace, product, environment=body.environment, notes=body.notes, by=by
        )
        return {**_release(made), "created": created}

    @api.get("/products/{product}/releases/{version}")
    def one(product: str, version: str) -> dict[str, Any]:
        found = release.get(workspace.database, product, version)
        return {**_release(found), "statement": found.statement, "signature": found.signature}

    @api.get("/products/{product}/releases/{version}/verify")
    def verify(product: str, version: str) -> dict[str, Any]:
        found = release.get(workspace.database, product, version)
        problem = release.is_sound(workspace.lake, found, workspace.settings)
        return {
            "product": product,
            "version": version,
            "sound": problem is None,
            "problem": problem.as_dict() if problem else None,
            "public_key": found.public_key,
            "files": len(found.statement["files"]),
        }


def _promotion_routes(api: Routes, workspace: Workspace, access: Access) -> None:
    def demand(request: Request, product: str, environment: str | None) -> None:
        """Who asks with a key of their own must be allowed to change the branch that is the environment."""
        user = user_of(request)
        if user is not None:
            place = (
                declared.environment(workspace.settings, environment)
                if environment
                else declared.production(workspace.settings)
            )
            access.demand(user, "fs:CreateCommit", access.resource_branch(product, place.branch))

    @api.get("/promotions")
    def recent(product: str | None = None, status: str | None = None, limit: Limit = 50) -> dict[str, Any]:
        record.try_to_settle(workspace.database, workspace.lake)
        found = record.recent(workspace.database, product=product, status=status, limit=limit)
        _demand_known(workspace, product, found)
        return {"promotions": promotion.listed(workspace, found)}

    @api.get("/promotions/{id_}")
    def one(id_: str) -> dict[str, Any]:
        asked = record.get(workspace.database, id_)
        if asked.status == record.RUNNING:
            run_end.recover(workspace.database)
            record.try_to_settle(workspace.database, workspace.lake, product=asked.product)
            asked = record.get(workspace.database, id_)
        return promotion.as_plain(workspace, asked)

    @api.post("/products/{product}/promotions", status_code=202)
    def promote(request: Request, product: str, body: PromoteBody) -> dict[str, Any]:
        demand(request, product, body.to)
        asked = promotion.promote(
            workspace,
            product,
            body.version,
            to=body.to,
            by=_asks(request, body.by),
            credential=user_of(request) or ADMINISTRATOR,
            note=body.note,
            accept_breaking=body.accept_breaking,
        )
        return promotion.as_plain(workspace, asked)

    @api.post("/products/{product}/rollback")
    def rollback(request: Request, product: str, body: RollbackBody) -> dict[str, Any]:
        demand(request, product, body.environment)
        done = promotion.rollback(
            workspace,
            product,
            to=body.to,
            environment=body.environment,
            by=_asks(request, body.by),
            note=body.note,
            credential=user_of(request) or ADMINISTRATOR,
        )
        return promotion.as_plain(workspace, done)

    @api.post("/promotions/{id_}/decisions")
    def decide(request: Request, id_: str, body: DecisionBody) -> dict[str, Any]:
        by = _decides(request, body.by)
        asked = promotion.decide(
            workspace, id_, by=by, approved=body.approved, note=body.note, breaking=body.breaking
        )
        return promotion.as_plain(workspace, asked)

    @api.post("/promotions/{id_}/withdraw")
    def withdraw(request: Request, id_: str, body: _Body) -> dict[str, Any]:
        by, is_mesh = _asks(request, body.by), user_of(request) is None
        return promotion.as_plain(workspace, promotion.withdraw(workspace, id_, by=by, is_anybodys=is_mesh))


def _end_routes(api: Routes, workspace: Workspace) -> None:
    @api.get("/deprecations")
    def deprecations() -> dict[str, Any]:
        return {"deprecations": [asdict(one) for one in retirement.deprecations(workspace.database)]}

    @api.post("/products/{product}/deprecation")
    def deprecate(request: Request, product: str, body: DeprecateBody) -> dict[str, Any]:
        made = retirement.deprecate(
            workspace,
            product,
            sunset=body.sunset,
            reason=body.reason,
            successor=body.successor,
            by=_asks(request, body.by),
        )
        return asdict(made)

    @api.delete("/products/{product}/deprecation")
    def reinstate(
        request: Request, product: str, by: Annotated[str, Query(max_length=200)] = ""
    ) -> dict[str, Any]:
        return asdict(retirement.reinstate(workspace, product, by=_asks(request, by)))

    @api.post("/products/{product}/retire")
    def retire(request: Request, product: str, body: _Body) -> dict[str, Any]:
        return {"sentence": retirement.retire(workspace, product, by=_asks(request, body.by))}


def _release(found: Release) -> dict[str, Any]:
    said = found.statement
    return {
        "product": found.product,
        "version": found.version,
        "digest": found.digest,
        "content": found.content,
        "notes": found.notes,
        "previous": said["previous"],
        "changes": said["changes"],
        "code": said["code"],
        "data": said["data"],
        "files": len(said["files"]),
        "created_by": found.created_by,
        "created_at": found.created_at,
        "public_key": found.public_key,
    }
