"""Insight over HTTP: what services were asked, how they fared, what is slow, refused, unused, and what may come."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog import outlook as asked
from tulle.catalog.routes import Routes
from tulle.control import watches
from tulle.control.asking import AskedBy
from tulle.control.workspace import Workspace
from tulle.observe.calls import Calls
from tulle.observe.insight import Insight, Told, Which, span_of

Text = Annotated[str, Query(max_length=200)]
Few = Annotated[int, Query(ge=1, le=200)]


class MuteBody(BaseModel):
    """Until when a watch tells nothing, in seconds since the epoch; null: it tells again."""

    model_config = ConfigDict(extra="forbid")

    until: float | None = Field(None, ge=0, le=253_402_300_799, allow_inf_nan=False)


def watch_router(workspace: Workspace) -> Routes:
    """The routes of watches on one mesh."""
    api = Routes(prefix="/mesh/v1/insight/watches")

    @api.get("")
    def all_watches() -> dict[str, Any]:
        """Every watch, and how it stands on each service."""
        known = watches.known(workspace)
        missing = watches.missing_of(workspace, known)
        return {"watches": [watches.as_plain(workspace, one, missing[one.name]) for one in known]}

    @api.post("/{name}")
    def add(by: AskedBy, name: str, what: dict[str, Any]) -> dict[str, Any]:
        """Make a watch: `measure`, `above` or `below`, and the rest as in mesh.yaml."""
        return watches.as_plain(workspace, watches.add(workspace, name, what, by=by))

    @api.delete("/{name}")
    def remove(by: AskedBy, name: str) -> dict[str, Any]:
        watches.remove(workspace, name, by=by)
        return {"name": name, "removed": True}

    @api.put("/{name}/mute")
    def mute(name: str, body: MuteBody) -> dict[str, Any]:
        return watches.as_plain(workspace, watches.mute(workspace, name, body.until))

    @api.post("/{name}/resolve")
    def resolve(by: AskedBy, name: str) -> dict[str, Any]:
        """Close what it told, by hand."""
        return {"name": name, "resolved": watches.resolve(workspace, name, by=by)}

    return api


def router(workspace: Workspace, calls: Calls) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1/insight")
    insight = Insight(calls)

    def which(
        service: str,
        environment: str,
        operation: str = "",
        generation: str = "",
        client: str = "",
        version: str = "",
    ) -> Which:
        place = asked.environment_key(workspace.settings, environment) if environment or service else None
        return Which(
            service or None, place, operation or None, generation or None, client or None, version or None
        )

    @api.get("")
    def told(
        by: Text = "api",
        span: Text = "hour",
        service: Text = "",
        environment: Text = "",
        operation: Text = "",
        generation: Text = "",
        client: Text = "",
        version: Text = "",
        limit: Few = 50,
        points: bool = True,
    ) -> dict[str, Any]:
        """Requests, errors, latencies and sizes over the last `hour`, `day`, `week` or `month`, told apart `by` api,
        version, operation, generation, client, or not at all (`mesh`). Latencies are in microseconds.
        """
        wanted = which(service, environment, operation, generation, client, version)
        return plain(insight.told(by, span_of(span), wanted, limit=limit, points=points))

    @api.get("/slow")
    def slow(
        span: Text = "day", service: Text = "", environment: Text = "", version: Text = "", limit: Few = 20
    ) -> dict[str, Any]:
        """The slowest requests that are kept, five of a service and hour."""
        wanted = which(service, environment, version=version)
        return {"slow": insight.slowest(span_of(span), wanted, limit=limit)}

    @api.get("/violations")
    def violations(
        span: Text = "day",
        service: Text = "",
        environment: Text = "",
        version: Text = "",
        generation: Text = "",
        by: Annotated[list[Text], Query(max_length=2)] = [],  # noqa: B006  the web framework copies it
    ) -> dict[str, Any]:
        """What the gateway refused by a policy (`violation`), and what it could not get an answer to, by kind, and told
        apart `by` version, generation or both.
        """
        wanted = which(service, environment, generation=generation, version=version)
        return {"violations": insight.kinds(span_of(span), wanted, by=by)}

    @api.get("/unused")
    def unused(days: Annotated[int, Query(ge=1, le=400)] = 30) -> dict[str, Any]:
        """Deployed services and versions of APIs that nobody asked for so many days, which may be ended."""
        found = asked.unused(workspace.settings, workspace.database, calls, days=days, now=time.time())
        return {"days": days, "unused": [asdict(one) for one in found]}

    @api.get("/forecast")
    def forecast(
        service: Text,
        environment: Text = "",
        rate_per_worker: Annotated[float | None, Query(gt=0, lt=1e6)] = None,
    ) -> dict[str, Any]:
        """Daily and weekly patterns of a service, what may be asked in the next week, and the workers for it."""
        found = asked.outlook(
            workspace.settings,
            workspace.database,
            calls,
            service,
            environment,
            rate_per_worker=rate_per_worker,
            now=time.time(),
        )
        return asked.plain(found)

    @api.get("/state")
    def state() -> dict[str, Any]:
        """How far the access log is counted."""
        found = calls.state()
        return {"counted": None if found is None else asdict(found)}

    return api


def plain(found: Told) -> dict[str, Any]:
    """As the API tells it."""
    return asdict(found)
