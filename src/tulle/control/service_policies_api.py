"""The policies of services over HTTP, below `/mesh/v1`: parses, calls one function, renders."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import service_policies
from tulle.control.asking import AskedBy, user_of
from tulle.control.release import declared_service
from tulle.control.service_policies import InForce
from tulle.control.workspace import Workspace
from tulle.gateway.policies.listed import MOST_POLICIES, list_schema
from tulle.lake.access import Access
from tulle.spec import environment as declared
from tulle.spec.environment import production

Environment = Annotated[str | None, Query(max_length=63)]


class PoliciesBody(BaseModel):
    """A list of policies, as `policies:` holds it in a services file."""

    model_config = ConfigDict(extra="forbid")

    policies: list[dict[str, Any]] = Field(max_length=MOST_POLICIES)


def router(workspace: Workspace, settle: Callable[[], bool], access: Access) -> Routes:
    """The API of the policies of one mesh's services; `settle` makes the gateway follow at once."""
    api = Routes(prefix="/mesh/v1")

    def demand(request: Request, name: str, environment: str | None) -> None:
        """Who asks with a key of their own must be allowed to change what the service's product publishes there."""
        user, settings = user_of(request), workspace.settings
        if user is not None:
            product = declared_service(workspace, name).product.name
            place = declared.environment(settings, environment) if environment else production(settings)
            access.demand(user, "fs:CreateCommit", access.resource_branch(product, place.branch))

    def shown(found: InForce) -> dict[str, Any]:
        plain = service_policies.in_force_as_plain(workspace.settings, found)
        return {**plain, "in_force": found.is_followed and plain["fault"] is None}

    @api.get("/policy-kinds")
    def kinds() -> dict[str, Any]:
        return {"kinds": service_policies.kinds_as_plain(), "schema": list_schema()}

    @api.get("/services/{name}/policies")
    def policies(name: str, environment: Environment = None) -> dict[str, Any]:
        found = service_policies.policies(workspace, name, environment)
        return service_policies.in_force_as_plain(workspace.settings, found)

    @api.put("/services/{name}/policies")
    def set_policies(
        request: Request, by: AskedBy, name: str, body: PoliciesBody, environment: Environment = None
    ) -> dict[str, Any]:
        demand(request, name, environment)
        text = json.dumps(body.policies)
        return shown(
            service_policies.set_policies(
                workspace, name, text, environment=environment, actor=by, settle=settle
            )
        )

    @api.delete("/services/{name}/policies")
    def reset(request: Request, by: AskedBy, name: str, environment: Environment = None) -> dict[str, Any]:
        demand(request, name, environment)
        return shown(
            service_policies.set_policies(
                workspace, name, None, environment=environment, actor=by, settle=settle
            )
        )

    return api
