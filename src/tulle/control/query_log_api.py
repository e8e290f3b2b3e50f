"""What is kept of services' queries, below `/mesh/v1/services/{name}`: the log, and what turned out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog import service_load
from tulle.catalog.query_log import QueryLog, Wanted, find_repository, masked_again, repository_name, where
from tulle.catalog.routes import Routes
from tulle.catalog.service_feedback import feedback_state
from tulle.control import feedback, query_log, release
from tulle.control.asking import AskedBy
from tulle.control.query_log_rows import shown_now
from tulle.control.workspace import Workspace
from tulle.serving import package

Text = Annotated[str, Query(max_length=200)]
Moment = Annotated[
    float | None, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)
]  # seconds, to the year 9999


class FeedbackBody(BaseModel):
    """What turned out."""

    model_config = ConfigDict(extra="forbid")

    items: list[dict[str, Any]] = Field(max_length=100_000)


class FromBody(BaseModel):
    """The data set that tells what turned out."""

    model_config = ConfigDict(extra="forbid")

    product: str = Field(max_length=63)
    data_set: str = Field(max_length=255)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    log = QueryLog(workspace.settings, workspace.lake)
    load = service_load.LoadReader(workspace.settings, workspace.lake)

    @api.get("/services/{name}/queries")
    def queries(
        name: str,
        since: Moment = None,
        until: Moment = None,
        endpoint: Text = "",
        generation: Text = "",
        request: Text = "",
        errors: bool = False,
        shadow: bool | None = None,
        environment: Text = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
    ) -> dict[str, Any]:
        check_known(workspace, name)
        query_log.collect_all(workspace, name)
        wanted = Wanted(since, until, endpoint, generation, request, errors, shadow, environment)
        rows = log.newest(name, wanted, limit=limit)
        return {"queries": masked_again(rows, shown_now(workspace, name))}

    @api.get("/services/{name}/load")
    def fares(name: str, environment: Text = "", span: Text = "hour") -> dict[str, Any]:
        """Requests, failures and latency of each endpoint and generation over the last `hour` or `day`."""
        check_known(workspace, name)
        query_log.collect_all(workspace, name)
        return service_load.as_plain(load.read(name, environment, span))

    @api.get("/services/{name}/log")
    def state(name: str, since: Moment = None) -> dict[str, Any]:
        check_known(workspace, name)
        query_log.collect_all(workspace, name)
        return state_of(workspace, log, name, since)

    @api.post("/services/{name}/feedback")
    def tell(by: AskedBy, name: str, body: FeedbackBody) -> dict[str, Any]:
        check_known(workspace, name)
        found = feedback.tell(workspace, log, name, {"items": body.items}, by=by)
        return {"service": name, **found}

    @api.post("/services/{name}/feedback/from")
    def tell_from(by: AskedBy, name: str, body: FromBody) -> dict[str, Any]:
        check_known(workspace, name)
        found = feedback.tell_from(workspace, log, name, body.product, body.data_set, by=by)
        return {"service": name, **found}

    @api.get("/services/{name}/feedback")
    def told(name: str) -> dict[str, Any]:
        check_known(workspace, name)
        query_log.collect_all(workspace, name)
        sample = query_log.kept_of(workspace, name).most_sample
        return {"service": name, **feedback_state(log, name, sample=sample).plain()}

    return api


def state_of(workspace: Workspace, log: QueryLog, name: str, since: float | None) -> dict[str, Any]:
    """What is kept of a service, and what was asked since a moment."""
    repository = find_repository(workspace.lake, name)
    entries = list(repository.entries(repository.default_branch)) if repository else []
    kept = query_log.kept_of(workspace, name)
    sql = (
        "SELECT endpoint, generation, shadow, count(*) AS rows, count(DISTINCT request_id) AS requests, "  # noqa: S608
        "count(*) FILTER (status <> 200 OR error IS NOT NULL) AS errors, "
        "CAST(quantile_disc(microseconds, 0.5) AS BIGINT) AS p50, "
        "CAST(quantile_disc(microseconds, 0.95) AS BIGINT) AS p95, "
        "epoch(min(asked_at)) AS first, epoch(max(asked_at)) AS last "
        f"FROM queries WHERE {where(Wanted(since=since))} GROUP BY ALL ORDER BY ALL"
    )
    return {
        "service": name,
        "repository": repository_name(name) if repository else None,
        "bytes": sum(entry.size for entry in entries),
        "files": len(entries),
        "keep_days": kept.keep_days,
        "most_bytes": kept.most_bytes,
        "usual": asdict(kept.usual),
        "endpoints": {endpoint: asdict(own) for endpoint, own in (kept.endpoints or {}).items()},
        "asked": log.rows(name, sql, since=since),
    }


def check_known(workspace: Workspace, name: str) -> None:
    """NotFound, with the nearest name, for what is no service."""
    if not package.packages(workspace.database, name):
        release.declared_service(workspace, name)
