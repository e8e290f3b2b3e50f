"""Schedules and backfills over HTTP, below `/mesh/v1`: what is in force, what comes next, what fired."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control import environments
from tulle.control.asking import AskedBy
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.pipeline import backfill, promotion, schedule
from tulle.pipeline.backfill import Backfill, windows
from tulle.pipeline.environment import released_code
from tulle.pipeline.graph import load_code
from tulle.pipeline.model_kind import WINDOW
from tulle.pipeline.schedule import Fire, Scheduled
from tulle.state import products
from tulle.state.db import now

Limit = Annotated[int, Query(ge=1, le=1000)]
Environment = Annotated[str, Query(max_length=63)]
Hours = Annotated[float, Query(gt=0, le=24 * 366)]


class EnvironmentBody(BaseModel):
    """Which environment's schedule."""

    model_config = ConfigDict(extra="forbid")

    environment: str = Field("main", max_length=63)


class BackfillBody(BaseModel):
    """What to make anew, from when until before when; both ISO dates, or timestamps for hours."""

    model_config = ConfigDict(extra="forbid")

    product: str = Field(max_length=63)
    start: str = Field(max_length=40)
    end: str = Field(max_length=40)
    step: str = Field("day", max_length=16)
    environment: str = Field("main", max_length=63)
    retries: int | None = Field(None, ge=0, le=20)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    database = workspace.database

    @api.get("/schedules")
    def all_of_them(limit: Limit = 1000) -> dict[str, Any]:
        return {"schedules": [told(one) for one in schedule.all_scheduled(database, limit=limit)]}

    @api.get("/schedules/{product}")
    def one(product: str, environment: Environment = "main", limit: Limit = 20) -> dict[str, Any]:
        found = schedule.scheduled(database, product, environment)
        coming = schedule.upcoming([found], now() + 366 * 86_400, limit=10)
        past = schedule.fires(database, product=product, limit=limit)
        return {
            **told(found),
            "next": [at for at, _ in coming],
            "fires": [told_fire(fire) for fire in past if fire.environment == environment],
        }

    @api.post("/schedules/{product}/pause")
    def pause(by: AskedBy, product: str, body: EnvironmentBody) -> dict[str, Any]:
        return told(schedule.pause(database, product, body.environment, actor=by))

    @api.post("/schedules/{product}/resume")
    def resume(by: AskedBy, product: str, body: EnvironmentBody) -> dict[str, Any]:
        return told(schedule.resume(database, product, body.environment, actor=by))

    @api.get("/calendar")
    def calendar(hours: Hours = 24.0, limit: Limit = 200) -> dict[str, Any]:
        found = schedule.all_scheduled(database, limit=100_000)
        coming = schedule.upcoming(found, now() + hours * 3600, limit=limit)
        return {
            "fires": [
                {"at": at, "product": one.product, "environment": one.environment} for at, one in coming
            ]
        }

    _backfill_routes(api, workspace)
    return api


def _backfill_routes(api: Routes, workspace: Workspace) -> None:
    database = workspace.database

    @api.post("/backfills", status_code=202)
    def start(by: AskedBy, body: BackfillBody) -> dict[str, Any]:
        products.applied_product(database, body.product)
        windows(body.start, body.end, body.step)
        branch = environments.branch_for_run(workspace, body.product, body.environment)
        _demand_windows(workspace, body.product, branch)
        return told_backfill(
            backfill.start(
                database,
                body.product,
                body.start,
                body.end,
                step=body.step,
                environment=branch,
                retries=body.retries,
                actor=by,
            )
        )

    @api.get("/backfills")
    def recent(product: str | None = None, limit: Limit = 20) -> dict[str, Any]:
        found = backfill.recent(database, product=product, limit=limit)
        return {"backfills": [told_backfill(one) for one in found]}

    @api.get("/backfills/{id_}")
    def one_backfill(id_: str) -> dict[str, Any]:
        return told_backfill(backfill.get(database, id_))

    @api.post("/backfills/{id_}/cancel")
    def cancel(by: AskedBy, id_: str) -> dict[str, Any]:
        return told_backfill(backfill.cancel(database, id_, actor=by))

    @api.post("/backfills/{id_}/resume")
    def go_on(by: AskedBy, id_: str) -> dict[str, Any]:
        return told_backfill(backfill.resume(database, id_, actor=by))


def _demand_windows(workspace: Workspace, name: str, branch: str) -> None:
    """Invalid for a product none of whose models is made by windows: every run would make the same."""
    spec = workspace.spec()
    version = promotion.in_force(workspace.database, name, branch)
    if version is None:
        code = load_code(spec.product(name), spec=spec)
        code.require_valid()
    else:
        code = released_code(workspace.database, workspace.lake, spec, name, version)
    if not any(job.way.strategy == WINDOW for job in code.jobs):
        raise Invalid(
            f"product '{name}' makes nothing by windows, so every run of a backfill would make the same",
            hint="give a model a `time_column` and a `grain` (docs/reference/transformations.md), "
            f"or make everything again once: `tulle run {name} --full`",
        )


def told_backfill(one: Backfill) -> dict[str, Any]:
    """A backfill as plain values."""
    return asdict(one)


def told(one: Scheduled) -> dict[str, Any]:
    """A schedule as plain values."""
    value = asdict(one)
    said = {key: item for key, item in value.pop("schedule").items() if key != "place"}
    return {**value, "when": one.schedule.sentence, "schedule": said}


def told_fire(fire: Fire) -> dict[str, Any]:
    """A fire as plain values."""
    return asdict(fire)
