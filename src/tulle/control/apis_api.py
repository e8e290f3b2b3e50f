"""APIs over HTTP, below `/mesh/v1/apis`: parses, calls one function, renders.

Who asks with a key of their own sees the APIs that are visible to them, and changes those whose product they may change
where the instance is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import api_bindings, api_documents, api_lives, api_policies, apis, release
from tulle.control.asking import AskedBy, user_of
from tulle.control.workspace import Workspace
from tulle.errors import Denied, NotFound
from tulle.gateway.apis.schema import API_SCHEMA
from tulle.gateway.apis.sight import Sight, View
from tulle.lake.access import Access
from tulle.observe.calls import Calls
from tulle.spec import environment as declared
from tulle.spec.environment import production

Environment = Annotated[str | None, Query(max_length=63)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EndingBody(_Body):
    """When a version ends: a date, from whose beginning (UTC) on nobody new may use it."""

    sunset: dt.date | None = None
    successor: str = Field("", max_length=63)


class RetireBody(_Body):
    """Ending a version; before its sunset only by force."""

    force: bool = False


class BindingBody(_Body):
    """What is to answer: `service:<name>`, with `@<generation>`, or a URL."""

    to: str = Field(max_length=600)
    environment: str | None = Field(None, max_length=63)


class UnbindBody(_Body):
    """That nothing is to answer, and why."""

    environment: str | None = Field(None, max_length=63)
    reason: str = Field("", max_length=2000)


class Guard:
    """Who may see and change which API."""

    def __init__(self, workspace: Workspace, access: Access) -> None:
        self._workspace = workspace
        self._access = access
        self._sight = Sight(workspace.database, access)

    def view(self, request: Request) -> View:
        """What who asks finds."""
        return self._sight.of(user_of(request))

    def shown(self, request: Request, name: str) -> dict[str, Any]:
        """An API that who asks may see. NotFound as where there is none."""
        self._sight.demand(user_of(request), name)
        return apis.shown(self._workspace, name)

    def demand(self, request: Request, name: str, environment: str | None = None) -> None:
        """Refuse who may not change what the API's product publishes there."""
        self.demand_product(request, self.shown(request, name)["product"], environment)

    def belongs(self, request: Request, product: str) -> bool:
        """Whether who asks is of a product's people."""
        user = user_of(request)
        return user is None or self._sight.belongs(user, product)

    def owner_of(self, service: str) -> str:
        """The product of a service. NotFound."""
        return release.declared_service(self._workspace, service).product.name

    def demand_product(self, request: Request, product: str, environment: str | None = None) -> None:
        """Refuse who may not change what a product publishes there."""
        user, settings = user_of(request), self._workspace.settings
        if user is not None:
            place = declared.environment(settings, environment) if environment else production(settings)
            self._access.demand(user, "fs:CreateCommit", self._access.resource_branch(product, place.branch))


def router(workspace: Workspace, settle: Callable[[], bool], access: Access, calls: Calls) -> Routes:
    """The API; `settle` makes the gateway follow what a call recorded, `access` knows what users may.

    `calls` are the counts of what was asked.
    """
    api = Routes(prefix="/mesh/v1", tags=["apis"])
    guard = Guard(workspace, access)
    _look_routes(api, workspace, guard, calls)
    _life_routes(api, workspace, settle, guard)
    _binding_routes(api, workspace, settle, guard)
    return api


def _look_routes(api: Routes, workspace: Workspace, guard: Guard, calls: Calls) -> None:
    @api.get("/apis")
    def list_apis(
        request: Request,
        tag: str = "",
        product: str = "",
        after: Annotated[str, Query(max_length=127)] = "",
        limit: Annotated[int, Query(ge=1, le=apis.MOST_SHOWN)] = 200,
    ) -> dict[str, Any]:
        """The APIs that are visible to who asks, deployed services among them: by name, a page at a time."""
        view = guard.view(request)
        found, next_ = apis.listed(workspace, view, tag=tag, product=product, after=after, limit=limit)
        return {"apis": found, "next": next_}

    @api.get("/apis-schema")
    def schema() -> dict[str, Any]:
        """The JSON Schema of a file in `apis/`, for editors."""
        return dict(API_SCHEMA)

    @api.get("/apis/{name}")
    def one(request: Request, name: str) -> dict[str, Any]:
        """An API with its versions, instances, what is in force for each, and pages."""
        return api_policies.with_kinds(workspace, guard.shown(request, name))

    @api.get("/apis/{name}/versions/{version}/operations")
    def operations(request: Request, name: str, version: str) -> dict[str, Any]:
        """The operations of a version."""
        guard.shown(request, name)
        return {"operations": api_documents.operations(workspace, name, version)}

    @api.get("/apis/{name}/versions/{version}/openapi.json")
    def document(
        request: Request, name: str, version: str, environment: Environment = None
    ) -> dict[str, Any]:
        """The OpenAPI document of a version at the gateway's address."""
        guard.shown(request, name)
        return api_documents.openapi(workspace, name, version, environment)

    @api.get("/apis/{name}/status")
    def status(
        request: Request, name: str, version: Annotated[str, Query(max_length=63)] = ""
    ) -> dict[str, Any]:
        """How an API, or a version of it, is where consumers are: the last hour, day, 30 days, and its objectives."""
        found = guard.shown(request, name)
        return apis.status(calls, found, version)

    @api.get("/apis/{name}/diff")
    def diff(
        request: Request,
        name: str,
        before: Annotated[str, Query(max_length=63)],
        after: Annotated[str, Query(max_length=63)],
    ) -> dict[str, Any]:
        """What differs between two versions."""
        guard.shown(request, name)
        found: Sequence[Any] = api_documents.diff(workspace, name, before, after)
        return {
            "before": before,
            "after": after,
            "breaking": any(one.breaking for one in found),
            "changes": [asdict(one) for one in found],
        }


def _life_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], guard: Guard) -> None:
    @api.post("/apis/{name}/versions/{version}/publish")
    def publish(request: Request, by: AskedBy, name: str, version: str) -> dict[str, Any]:
        """Let consumers call it; also one that was deprecated or retired."""
        guard.demand(request, name)
        found = api_lives.publish(workspace, name, version, actor=by)
        return {**found, "in_force": settle()}

    @api.post("/apis/{name}/versions/{version}/deprecate")
    def deprecate(request: Request, by: AskedBy, name: str, version: str, body: EndingBody) -> dict[str, Any]:
        """Tell its callers that it ends."""
        guard.demand(request, name)
        found = api_lives.deprecate(
            workspace, name, version, sunset=body.sunset, successor=body.successor, actor=by
        )
        return {**found, "in_force": settle()}

    @api.post("/apis/{name}/versions/{version}/retire")
    def retire(request: Request, by: AskedBy, name: str, version: str, body: RetireBody) -> dict[str, Any]:
        """End it: 410."""
        guard.demand(request, name)
        found = api_lives.retire(workspace, name, version, force=body.force, actor=by)
        return {**found, "in_force": settle()}


def _binding_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], guard: Guard) -> None:
    @api.put("/apis/{name}/versions/{version}/binding")
    def bind(request: Request, by: AskedBy, name: str, version: str, body: BindingBody) -> dict[str, Any]:
        """Let something else answer an instance than what is declared."""
        guard.demand(request, name, body.environment)
        if body.to.startswith("service:"):
            service = body.to.removeprefix("service:").partition("@")[0]
            _demand_service(guard, request, service, body.environment)
        found = api_bindings.bind(workspace, name, version, body.to, environment=body.environment, actor=by)
        return {**found, "in_force": settle()}

    @api.delete("/apis/{name}/versions/{version}/binding")
    def reset(
        request: Request, by: AskedBy, name: str, version: str, environment: Environment = None
    ) -> dict[str, Any]:
        """Let what is declared answer again."""
        guard.demand(request, name, environment)
        found = api_bindings.bind(workspace, name, version, None, environment=environment, actor=by)
        return {**found, "in_force": settle()}

    @api.post("/apis/{name}/versions/{version}/unbind")
    def unbind(request: Request, by: AskedBy, name: str, version: str, body: UnbindBody) -> dict[str, Any]:
        """Let nothing answer an instance: 503."""
        guard.demand(request, name, body.environment)
        found = api_bindings.unbind(
            workspace, name, version, environment=body.environment, reason=body.reason, actor=by
        )
        return {**found, "in_force": settle()}


def _demand_service(guard: Guard, request: Request, service: str, environment: str | None) -> None:
    """Who offers a service to the callers of an API must be allowed to change both."""
    try:
        guard.demand_product(request, guard.owner_of(service), environment)
    except NotFound:
        return  # there is no such service; the binding itself tells so
    except Denied as exc:
        raise Denied(f"service '{service}' cannot be bound: {exc.message}", hint=exc.hint) from None
