"""The keys of APIs over HTTP, below `/mesh/v1/apis/{name}/keys`: parses, calls one function, renders.

Who keeps an API makes and ends its keys: whoever may change what its product publishes where consumers are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request

from tulle.catalog.api_keys import takes_keys
from tulle.catalog.routes import Routes
from tulle.control import service_access
from tulle.control.apis_api import Guard
from tulle.control.asking import AskedBy
from tulle.control.service_access_api import KeyBody, KeyChangeBody
from tulle.control.workspace import Workspace
from tulle.gateway.apis import records
from tulle.lake.access import Access


def router(workspace: Workspace, settle: Callable[[], bool], access: Access) -> Routes:
    """The API of the keys; `settle` makes the gateway follow at once."""
    api = Routes(prefix="/mesh/v1/apis/{name}/keys", tags=["apis"])
    guard = Guard(workspace, access)

    @api.get("")
    def keys(request: Request, name: str) -> dict[str, Any]:
        """Every key that the API has had, without secrets."""
        guard.demand(request, name)
        return {"keys": service_access.keys_as_plain(workspace, name, "API")}

    @api.post("", status_code=201)
    def create(request: Request, by: AskedBy, name: str, body: KeyBody) -> dict[str, Any]:
        """Make a key; `api_key` of the answer is shown this once, `opens` says whether the API takes keys."""
        guard.demand(request, name)
        made = service_access.create_key(
            workspace,
            name,
            label=body.label,
            description=body.description,
            expires=body.expires or None,
            limit=body.limit or None,
            kind="API",
            actor=by,
        )
        opens = takes_keys(workspace.settings, workspace.database, records.find(workspace.database, name))
        return {**service_access.key_as_shown_once(made), "opens": opens, "in_force": settle()}

    @api.patch("/{key}")
    def change(request: Request, by: AskedBy, name: str, key: str, body: KeyChangeBody) -> dict[str, Any]:
        """Give a key another end or limit."""
        guard.demand(request, name)
        changed = service_access.change_key(
            workspace, name, key, expires=body.expires, limit=body.limit, kind="API", actor=by
        )
        return {**service_access.key_as_plain(changed), "in_force": settle()}

    @api.delete("/{key}")
    def revoke(request: Request, by: AskedBy, name: str, key: str) -> dict[str, Any]:
        """End a key for good."""
        guard.demand(request, name)
        ended = service_access.revoke_key(workspace, name, key, kind="API", actor=by)
        return {"id": ended.id, "label": ended.label, "revoked": True, "in_force": settle()}

    return api
