"""Two generations compared on what was really asked: by the answers both gave, or by asking both again.

Both have answered the same requests where one of them is the other's shadow. What is asked again is asked of processes
of its own, and no caller, no log and no gateway has part in it.
"""

# ruff: noqa: S608  names are ours, values go through `literal`
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.query_log import JSON_COLUMNS, QueryLog, Wanted, where
from tulle.control import queries, query_log, release
from tulle.control.workspace import Workspace
from tulle.engine.engine import literal
from tulle.errors import Conflict, Invalid
from tulle.serving import package
from tulle.serving.answers import Comparison
from tulle.serving.recorded import RecordedComparison, compared, questions_of

MOST_PAIRS = 50_000  # an even choice of more
MOST_AGAIN = 5000
_SIDE = ("status", "error", "result", "microseconds")


def compare_recorded(
    workspace: Workspace,
    log: QueryLog,
    name: str,
    left: str,
    right: str,
    *,
    since: float | None = None,
    endpoint: str = "",
    environment: str = "",
    tolerance: float = 1e-6,
) -> RecordedComparison:
    """Compare what two generations answered to the same requests. Conflict where there are none."""
    _check(workspace, name, left, right)
    wanted = where(Wanted(since=since, endpoint=endpoint, environment=environment))
    columns = ", ".join(f"{side}.{column} AS {side}_{column}" for side in "lr" for column in _SIDE)
    sides = ", ".join(
        f"{side} AS (SELECT * FROM queries WHERE {wanted} AND generation = {literal(version)} "
        "QUALIFY row_number() OVER (PARTITION BY request_id, item, endpoint ORDER BY asked_at) = 1)"
        for side, version in (("l", left), ("r", right))
    )
    sql = (
        f"WITH {sides} SELECT endpoint, request_id, item, {columns} FROM l JOIN r "
        f"USING (endpoint, request_id, item) ORDER BY hash(request_id, item) LIMIT {MOST_PAIRS}"
    )
    rows = [_read(row, ("l_result", "r_result")) for row in log.rows(name, sql, since=since)]
    if not rows:
        raise Conflict(
            f"no request was answered by both {left} and {right} of service '{name}'",
            hint="make one the other's shadow, or ask them again with --replay",
        )
    return compared(name, left, right, rows, tolerance)


def compare_again(
    workspace: Workspace,
    log: QueryLog,
    name: str,
    left: str,
    right: str,
    *,
    most: int,
    since: float | None = None,
    endpoint: str = "",
    environment: str = "",
    tolerance: float = 1e-6,
) -> tuple[Comparison, int]:
    """Ask two versions the newest recorded requests, and how many of these cannot be asked again. Conflict."""
    _check(workspace, name, left, right)
    wanted = where(Wanted(since=since, endpoint=endpoint, environment=environment, shadow=False))
    sql = (
        f"SELECT endpoint, request_id, item, sent, features FROM queries WHERE {wanted} AND action <> 'infer' "
        f"ORDER BY asked_at DESC, request_id, item LIMIT {int(most)}"
    )
    rows = [_read(row, JSON_COLUMNS) for row in log.rows(name, sql, since=since)]
    chosen = package.get(workspace.database, name, left)
    kinds = {str(one["name"]): str(one["type"]) for one in chosen.manifest.endpoints}
    questions, lost = questions_of(rows, kinds)
    if not questions:
        raise Conflict(
            f"no request to service '{name}' that is kept can be asked again",
            hint="nothing was asked, or what was sent is masked or not kept",
        )
    return queries.compare(workspace, name, left, right, questions=questions, tolerance=tolerance), lost


def _check(workspace: Workspace, name: str, left: str, right: str) -> None:
    release.declared_service(workspace, name)
    if left == right:
        raise Invalid(f"both are {left}", hint="name two versions")
    for version in (left, right):
        package.get(workspace.database, name, version)
    query_log.collect_all(workspace, name)


def _read(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    read = {name: msgspec.json.decode(row[name]) for name in columns if row.get(name) is not None}
    return {**row, **read}


def plain(found: RecordedComparison) -> dict[str, Any]:
    """As the API tells it; JSON has no infinity, so what only one answered is apart by null."""
    told = asdict(found)
    for pair in told["worst"]:
        pair["apart"] = pair["apart"] if math.isfinite(pair["apart"]) else None
    left, right = told.pop("microseconds")
    return {**told, "different": found.asked - found.equal, "microseconds": {"left": left, "right": right}}


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────

Text = Annotated[str, Query(max_length=200)]


class AgainBody(BaseModel):
    """What is asked again of two versions."""

    model_config = ConfigDict(extra="forbid")

    left: str
    right: str
    most: int = Field(1000, ge=1, le=MOST_AGAIN)
    since: float | None = None
    endpoint: str = ""
    environment: str = ""
    tolerance: float = Field(1e-6, ge=0)


def router(workspace: Workspace) -> APIRouter:
    """The routes on one mesh."""
    api = APIRouter(prefix="/mesh/v1")
    log = QueryLog(workspace.settings, workspace.lake)

    @api.get("/services/{name}/compare/recorded")
    def recorded(
        name: str,
        left: Text,
        right: Text,
        since: float | None = None,
        endpoint: Text = "",
        environment: Text = "",
        tolerance: Annotated[float, Query(ge=0)] = 1e-6,
    ) -> dict[str, Any]:
        how: dict[str, Any] = {"since": since, "endpoint": endpoint, "environment": environment}
        return plain(compare_recorded(workspace, log, name, left, right, tolerance=tolerance, **how))

    @api.post("/services/{name}/compare/replay")
    def again(name: str, body: AgainBody) -> dict[str, Any]:
        found, lost = compare_again(workspace, log, name, **body.model_dump())
        return {**queries.comparison_as_plain(found), "not_asked": lost}

    return api
