"""Deployments of services over HTTP, below `/mesh/v1/services`: parse, call one function, render."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import deployment, deployment_request
from tulle.control.asking import AskedBy, user_of
from tulle.control.release import declared_service
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import Invalid
from tulle.gateway.apis.sight import Sight
from tulle.lake.access import ADMINISTRATOR, Access
from tulle.serving import generation
from tulle.serving.generation import Bounds, Deployment
from tulle.serving.traffic import Traffic, from_plain, single, split
from tulle.spec import environment as declared
from tulle.state.db import now

Note = Annotated[str, Field(max_length=2000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlaceBody(_Body):
    """In which environment; without it in that of consumers."""

    environment: str | None = None


class TestedBody(PlaceBody):
    """What becomes of it when test queries fail that are asked then; without it as the environment says."""

    __test__ = False  # not a test case of pytest's

    test_queries: Literal["tell", "rollback", "skip", ""] = ""


class BackBody(TestedBody):
    """Going back; `before` is what was wanted when it was looked at."""

    before: Mapping[str, Any] | None = None


class DeployBody(TestedBody):
    """Which version is to answer; without it the newest."""

    version: str | None = None
    note: Note = ""


class ShareBody(_Body):
    """A generation and its share of 1."""

    generation: str
    share: float


class TrafficBody(TestedBody):
    """Which generations are to answer, and in what parts; `before` is what was wanted when it was looked at."""

    shares: Sequence[ShareBody]
    sticky: bool = False
    shadow: ShareBody | None = None
    preloaded: Sequence[str] = ()
    before: Mapping[str, Any] | None = None
    note: Note = ""

    def traffic(self) -> Traffic:
        """What is asked for. Invalid."""
        return split(
            [(one.generation, one.share) for one in self.shares],
            sticky=self.sticky,
            shadow=(self.shadow.generation, self.shadow.share) if self.shadow else None,
            preloaded=self.preloaded,
        )


class BoundsBody(PlaceBody):
    """How many workers a generation has; what is left out is as the settings say."""

    floor: int | None = None
    ceil: int | None = None
    most_requests: int | None = None


class EndingBody(PlaceBody):
    """When a service ends: a date, at whose beginning (UTC) it answers no more."""

    sunset: dt.date | None = None
    successor: str = ""


class DecisionBody(_Body):
    """What one person decides."""

    approved: bool = True
    note: Note = ""


class CleanBody(_Body):
    """What to tidy up; without a service all."""

    service: str | None = None
    dry_run: bool = False


Demand = Callable[[Request, str, str | None], None]  # (request, service, environment)


def router(workspace: Workspace, settle: Callable[[], bool], access: Access) -> Routes:
    """The API; `settle` makes the gateway follow what a call recorded, `access` knows what users may."""
    api = Routes(prefix="/mesh/v1", tags=["deployments"])

    def demand(request: Request, name: str, environment: str | None) -> None:
        """Who asks with a key of their own is a deployer of the environment, or may change the product there."""
        user, settings = user_of(request), workspace.settings
        deployment_request.demand_may_deploy(workspace, environment, user or ADMINISTRATOR)
        place = declared.environment(settings, environment) if environment else declared.production(settings)
        if user is not None and user not in place.deployers:
            product = declared_service(workspace, name).product.name
            access.demand(user, "fs:CreateCommit", access.resource_branch(product, place.branch))

    _change_routes(api, workspace, settle, demand)
    _run_routes(api, workspace, settle, demand)
    _end_routes(api, workspace, settle, demand)
    _request_routes(api, workspace, settle, Sight(workspace.database, access))
    return api


def _change_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], demand: Demand) -> None:
    def ask(
        request: Request, by: str, name: str, traffic: Traffic, body: DeployBody | TrafficBody
    ) -> dict[str, Any]:
        demand(request, name, body.environment)
        before = getattr(body, "before", None)
        made = deployment_request.ask(
            workspace,
            name,
            traffic,
            environment=body.environment,
            by=by,
            credential=user_of(request) or ADMINISTRATOR,
            note=body.note,
            before=from_plain(before) if before else None,
            test_queries=body.test_queries,
        )
        settle()
        return _outcome(workspace, made)

    @api.get("/services/{name}/deployments")
    def deployments(name: str) -> dict[str, Any]:
        """Where a service is deployed, and which generations answer there."""
        found = [d for d in generation.everywhere(workspace.database) if d.service == name]
        return {"deployments": [deployment_view(workspace, d) for d in found]}

    @api.post("/services/{name}/deploy")
    def deploy(request: Request, by: AskedBy, name: str, body: DeployBody) -> dict[str, Any]:
        """Let one version answer all requests."""
        version = body.version or deployment.newest(workspace, name)
        return ask(request, by, name, single(version), body)

    @api.put("/services/{name}/traffic")
    def traffic(request: Request, by: AskedBy, name: str, body: TrafficBody) -> dict[str, Any]:
        """Let several generations answer, each its part."""
        return ask(request, by, name, body.traffic(), body)

    @api.post("/services/{name}/rollback")
    def rollback(request: Request, by: AskedBy, name: str, body: BackBody | None = None) -> dict[str, Any]:
        """Go back to what answered before."""
        where = body.environment if body else None
        before = from_plain(body.before) if body and body.before else None
        demand(request, name, where)
        made = deployment.rollback(
            workspace,
            name,
            environment=where,
            actor=by,
            before=before,
            test_queries=body.test_queries if body else "",
        )
        settle()
        return deployment_view(workspace, made)


def _run_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], demand: Demand) -> None:
    def shown(made: Deployment) -> dict[str, Any]:
        settle()
        return deployment_view(workspace, made)

    @api.post("/services/{name}/generations/{version}/preload")
    def preload(request: Request, by: AskedBy, name: str, version: str, body: TestedBody) -> dict[str, Any]:
        """Start a generation beside those that answer."""
        demand(request, name, body.environment)
        made = deployment_request.preload(
            workspace,
            name,
            version,
            environment=body.environment,
            by=by,
            credential=user_of(request) or ADMINISTRATOR,
            test_queries=body.test_queries,
        )
        settle()
        return _outcome(workspace, made)

    @api.post("/services/{name}/generations/{version}/unload")
    def unload(request: Request, by: AskedBy, name: str, version: str, body: PlaceBody) -> dict[str, Any]:
        """Stop a generation that gets no requests of its own."""
        demand(request, name, body.environment)
        return shown(deployment.unload(workspace, name, version, environment=body.environment, actor=by))

    @api.post("/services/{name}/enable")
    def enable(request: Request, by: AskedBy, name: str, body: PlaceBody) -> dict[str, Any]:
        """Let a service answer."""
        demand(request, name, body.environment)
        return shown(deployment.enable(workspace, name, True, environment=body.environment, actor=by))

    @api.post("/services/{name}/disable")
    def disable(request: Request, by: AskedBy, name: str, body: PlaceBody) -> dict[str, Any]:
        """Refuse everybody with 503."""
        demand(request, name, body.environment)
        return shown(deployment.enable(workspace, name, False, environment=body.environment, actor=by))

    @api.put("/services/{name}/bounds")
    def bounds(request: Request, by: AskedBy, name: str, body: BoundsBody) -> dict[str, Any]:
        """Say how many workers each generation has."""
        demand(request, name, body.environment)
        asked = Bounds(body.floor, body.ceil, body.most_requests)
        return shown(deployment.bound(workspace, name, asked, environment=body.environment, actor=by))


def _end_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], demand: Demand) -> None:
    def shown(made: Deployment) -> dict[str, Any]:
        settle()
        return deployment_view(workspace, made)

    @api.put("/services/{name}/ending")
    def ending(request: Request, by: AskedBy, name: str, body: EndingBody) -> dict[str, Any]:
        """Tell callers that a service ends."""
        demand(request, name, body.environment)
        at = None
        if body.sunset is not None:
            at = dt.datetime.combine(body.sunset, dt.time(), dt.UTC).timestamp()
            if at <= now():
                raise Invalid(
                    f"the service is to end on {body.sunset}, which is not in the future",
                    hint="`tulle service withdraw` ends it at once",
                )
        return shown(
            deployment.end(
                workspace,
                name,
                sunset_at=at,
                successor=body.successor,
                environment=body.environment,
                actor=by,
            )
        )

    @api.delete("/services/{name}/ending")
    def go_on(request: Request, by: AskedBy, name: str, environment: str | None = None) -> dict[str, Any]:
        """It does not end after all."""
        demand(request, name, environment)
        return shown(deployment.go_on(workspace, name, environment=environment, actor=by))

    @api.delete("/services/{name}/deployment")
    def withdraw(request: Request, by: AskedBy, name: str, environment: str | None = None) -> dict[str, Any]:
        """Let it answer no more; packages stay."""
        demand(request, name, environment)
        deployment.withdraw(workspace, name, environment=environment, actor=by)
        return {"service": name, "withdrawn": True, "in_force": settle()}

    @api.post("/services-clean")
    def clean(body: CleanBody) -> dict[str, Any]:
        """Remove the folders of generations that do not run."""
        removed = deployment.clean(workspace, body.service, is_dry=body.dry_run)
        return {"removed": [asdict(one) for one in removed], "dry_run": body.dry_run}


def _request_routes(api: Routes, workspace: Workspace, settle: Callable[[], bool], sight: Sight) -> None:
    @api.get("/deployment-requests")
    def requests(
        request: Request,
        service: str | None = None,
        status: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Deployments that were asked for, the newest first; of services that who asks may see, or has a say in."""
        found = deployment_request.requests(workspace.database, service, status=status, limit=limit)
        user = user_of(request)
        hidden = sight.hidden(user)
        shown = (
            one
            for one in found
            if one.service not in hidden or deployment_request.concerns(workspace, one, user or "")
        )
        return {"requests": [deployment_request.as_plain(workspace, one) for one in shown]}

    @api.post("/deployment-requests/{id_}/decision")
    def decide(request: Request, id_: str, body: DecisionBody) -> dict[str, Any]:
        """Approve or refuse one, as the user whose credential it is."""
        by = user_of(request) or ADMINISTRATOR
        made = deployment_request.decide(workspace, id_, by=by, approved=body.approved, note=body.note)
        settle()
        return deployment_request.as_plain(workspace, made)

    @api.post("/deployment-requests/{id_}/cancel")
    def cancel(request: Request, by: AskedBy, id_: str) -> dict[str, Any]:
        """Take one back that waits."""
        credential = user_of(request) or ADMINISTRATOR
        made = deployment_request.withdraw(workspace, id_, by=by, credential=credential)
        return deployment_request.as_plain(workspace, made)


def deployment_view(workspace: Workspace, found: Deployment) -> dict[str, Any]:
    """A deployment as plain values, and whether there is a mesh to carry it out."""
    up = local.supervisor_pid(workspace.settings) is not None
    return {**deployment.as_plain(workspace.settings, found), "mesh_is_up": up}


def _outcome(workspace: Workspace, made: Deployment | deployment_request.Request) -> dict[str, Any]:
    if isinstance(made, Deployment):
        return deployment_view(workspace, made)
    return {**deployment_request.as_plain(workspace, made), "waits_for_approval": True}
