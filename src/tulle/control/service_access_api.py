"""Who may call a service over HTTP, below `/mesh/v1`: parses, calls one function, renders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import admin_keys, service_access
from tulle.control.asking import AskedBy, user_of
from tulle.control.release import declared_service
from tulle.control.workspace import Workspace
from tulle.lake.access import Access
from tulle.spec import environment as declared
from tulle.spec.environment import production

Environment = Annotated[str | None, Query(max_length=63)]
Demand = Callable[[Request, str, str | None], None]  # (request, service, environment)


class KeyBody(BaseModel):
    """An API key to make."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(max_length=200)
    description: str = Field("", max_length=2000)
    expires: str | None = Field(None, max_length=50)
    limit: str | None = Field(None, max_length=50)


class KeyChangeBody(BaseModel):
    """What is to be another of a key; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    expires: str | None = Field(None, max_length=50)
    limit: str | None = Field(None, max_length=50)


class AdminKeyBody(BaseModel):
    """A key of the admin API to make."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(max_length=200)
    description: str = Field("", max_length=2000)
    expires: str | None = Field(None, max_length=50)


class AccessBody(BaseModel):
    """Who may call, as `access:` says it in a services file."""

    model_config = ConfigDict(extra="forbid")

    access: dict[str, Any]


def router(workspace: Workspace, settle: Callable[[], bool], access: Access) -> Routes:
    """The API of the keys and ways of one mesh's services; `settle` makes the gateway follow at once."""
    api = Routes(prefix="/mesh/v1/services/{name}")

    def demand(request: Request, name: str, environment: str | None = None) -> None:
        """Who asks with a key of their own must be allowed to change what the service's product publishes there."""
        user, settings = user_of(request), workspace.settings
        if user is not None:
            product = declared_service(workspace, name).product.name
            place = declared.environment(settings, environment) if environment else production(settings)
            access.demand(user, "fs:CreateCommit", access.resource_branch(product, place.branch))

    @api.get("/keys")
    def keys(request: Request, name: str) -> dict[str, Any]:
        demand(request, name)
        return {"keys": service_access.keys_as_plain(workspace, name)}

    @api.post("/keys", status_code=201)
    def create(request: Request, by: AskedBy, name: str, body: KeyBody) -> dict[str, Any]:
        demand(request, name)
        made = service_access.create_key(
            workspace,
            name,
            label=body.label,
            description=body.description,
            expires=body.expires or None,
            limit=body.limit or None,
            actor=by,
        )
        opens = service_access.access(workspace, name).access.api_keys is not None
        return {**service_access.key_as_shown_once(made), "opens": opens, "in_force": settle()}

    @api.patch("/keys/{key}")
    def change(request: Request, by: AskedBy, name: str, key: str, body: KeyChangeBody) -> dict[str, Any]:
        demand(request, name)
        changed = service_access.change_key(
            workspace, name, key, expires=body.expires, limit=body.limit, actor=by
        )
        return {**service_access.key_as_plain(changed), "in_force": settle()}

    @api.delete("/keys/{key}")
    def revoke(request: Request, by: AskedBy, name: str, key: str) -> dict[str, Any]:
        demand(request, name)
        ended = service_access.revoke_key(workspace, name, key, actor=by)
        return {"id": ended.id, "label": ended.label, "revoked": True, "in_force": settle()}

    _access_routes(api, workspace, settle, demand)
    whole = Routes()
    whole.include(api)
    whole.include(_admin_key_routes(workspace))
    return whole


def _access_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], demand: Demand) -> None:
    def shown(found: service_access.InForce) -> dict[str, Any]:
        is_published = settle()  # only then is it known whether the gateway takes it
        plain = service_access.access_as_plain(workspace.settings, found)
        return {**plain, "in_force": is_published and plain["fault"] is None}

    @api.get("/access")
    def ways(name: str, environment: Environment = None) -> dict[str, Any]:
        found = service_access.access(workspace, name, environment)
        return service_access.access_as_plain(workspace.settings, found)

    @api.put("/access")
    def set_access(
        request: Request, by: AskedBy, name: str, body: AccessBody, environment: Environment = None
    ) -> dict[str, Any]:
        demand(request, name, environment)
        text = json.dumps(body.access)
        return shown(service_access.set_access(workspace, name, text, environment=environment, actor=by))

    @api.delete("/access")
    def reset(request: Request, by: AskedBy, name: str, environment: Environment = None) -> dict[str, Any]:
        demand(request, name, environment)
        return shown(service_access.set_access(workspace, name, None, environment=environment, actor=by))


def _admin_key_routes(workspace: Workspace) -> Routes:
    """The keys of the API by which tools administer services as on API nodes."""
    api = Routes(prefix="/mesh/v1/admin-keys")

    @api.get("")
    def keys() -> dict[str, Any]:
        return {"keys": [asdict(key) for key in admin_keys.known(workspace.database)]}

    @api.post("", status_code=201)
    def create(by: AskedBy, body: AdminKeyBody) -> dict[str, Any]:
        key, opens = admin_keys.create(
            workspace.database,
            label=body.label,
            description=body.description,
            created_by=by,
            expires_at=None if body.expires is None else service_access.moment_of(body.expires),
            actor=by,
        )
        return {**asdict(key), "key": opens}

    @api.delete("/{key}")
    def remove(by: AskedBy, key: str) -> dict[str, Any]:
        return {"id": admin_keys.remove(workspace.database, key, actor=by), "deleted": True}

    return api
