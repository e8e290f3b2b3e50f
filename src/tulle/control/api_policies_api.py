"""The policies of APIs over HTTP, below `/mesh/v1/apis`: parses, calls one function, renders.

Whoever sees an API is told what is in force, its product's people how it is set. It is changed with the mesh's token,
as a service's policies are: a list may let everybody in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request

from tulle.catalog.routes import Routes
from tulle.control import api_policies
from tulle.control.api_policies import ApiPolicies
from tulle.control.apis_api import Guard
from tulle.control.asking import AskedBy
from tulle.control.service_policies_api import PoliciesBody
from tulle.control.workspace import Workspace
from tulle.gateway.versions.pin import pin_of
from tulle.lake.access import Access

Environment = Annotated[str | None, Query(max_length=63)]


def router(workspace: Workspace, settle: Callable[[], bool], access: Access) -> Routes:
    """The API of the policies; `settle` makes the gateway follow at once."""
    api = Routes(prefix="/mesh/v1/apis/{name}/versions/{version}/policies", tags=["apis"])
    guard = Guard(workspace, access)

    def changed(found: ApiPolicies) -> dict[str, Any]:
        plain = api_policies.as_plain(workspace.settings, found)
        pin = pin_of(workspace.database)
        is_taken = found.is_followed and plain["fault"] is None and pin is None
        return {**plain, "in_force": is_taken, "waits_for_resume": pin.sentence if pin is not None else ""}

    @api.get("")
    def policies(
        request: Request, name: str, version: str, environment: Environment = None
    ) -> dict[str, Any]:
        """What is in force for a version in an environment, and who says so."""
        product = guard.shown(request, name)["product"]
        found = api_policies.policies(workspace, name, version, environment)
        belongs = guard.belongs(request, product)
        return api_policies.as_plain(workspace.settings, found, with_settings=belongs)

    @api.put("")
    def set_policies(
        request: Request,
        by: AskedBy,
        name: str,
        version: str,
        body: PoliciesBody,
        environment: Environment = None,
    ) -> dict[str, Any]:
        """Say them by hand."""
        guard.demand(request, name, environment)
        text = json.dumps(body.policies)
        found = api_policies.set_policies(
            workspace, name, version, text, environment=environment, actor=by, settle=settle
        )
        return changed(found)

    @api.delete("")
    def reset(
        request: Request, by: AskedBy, name: str, version: str, environment: Environment = None
    ) -> dict[str, Any]:
        """Let them be as the version says again."""
        guard.demand(request, name, environment)
        found = api_policies.set_policies(
            workspace, name, version, None, environment=environment, actor=by, settle=settle
        )
        return changed(found)

    return api
