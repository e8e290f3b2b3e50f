"""Two generations compared on what was really asked: by the answers both gave, or by asking both again.

Both have answered the same requests where one of them is the other's shadow. What is asked again is asked of processes
of its own, and no caller, no log and no gateway has part in it.
"""

# ruff: noqa: S608  names are ours, values go through `literal`
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import msgspec
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.query_log import JSON_COLUMNS, QueryLog, Wanted, where
from tulle.catalog.routes import Routes
from tulle.control import queries, query_log, release
from tulle.control.query_log_api import Moment
from tulle.control.query_log_rows import shown_now
from tulle.control.workspace import Workspace
from tulle.engine.engine import literal
from tulle.errors import Conflict, Invalid
from tulle.serving import package
from tulle.serving.answers import Comparison
from tulle.serving.log_rows import Shown, shown_result
from tulle.serving.log_segment import INFER
from tulle.serving.recorded import RecordedComparison, compared, questions_of

MOST_PAIRS = 50_000  # an even choice of more
MOST_AGAIN = 5000
_SIDE = ("status", "error", "result", "microseconds")


@dataclass(frozen=True, slots=True)
class Between:
    """Two versions of a service, and the recorded requests on which they are compared."""

    left: str
    right: str
    since: float | None = None  # seconds since the epoch
    endpoint: str = ""
    environment: str = ""  # that of consumers
    tolerance: float = 1e-6

    def wanted(self, *, shadow: bool | None = None) -> Wanted:
        """Which queries these are."""
        return Wanted(since=self.since, endpoint=self.endpoint, environment=self.environment, shadow=shadow)


def compare_recorded(workspace: Workspace, log: QueryLog, name: str, between: Between) -> RecordedComparison:
    """Compare what two generations answered to the same requests. Conflict where there are none."""
    kinds = _kinds(workspace, name, between)
    left, right, since = between.left, between.right, between.since
    wanted = where(between.wanted())
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
    shown = shown_now(workspace, name)
    for row in rows:  # what was let through once may be masked by now
        rule = shown.get(row["endpoint"], Shown(closed=True))
        is_prediction = kinds.get(row["endpoint"]) == "predict"
        for side in ("l_result", "r_result"):
            row[side] = shown_result(row[side], rule, is_prediction=is_prediction)
    return compared(name, left, right, rows, between.tolerance)


def compare_again(
    workspace: Workspace, log: QueryLog, name: str, between: Between, *, most: int
) -> tuple[Comparison, int]:
    """Ask two versions the newest recorded requests, and how many of these cannot be asked again. Conflict."""
    kinds = _kinds(workspace, name, between)
    # Tensors were kept as they came, without what the model was given, by versions of Tulle before this one.
    is_known = f"NOT (action = {literal(INFER)} AND features IS NULL)"
    sql = (
        "SELECT endpoint, request_id, item, sent, features FROM queries "
        f"WHERE {where(between.wanted(shadow=False))} AND {is_known} "
        f"ORDER BY asked_at DESC, request_id, item LIMIT {int(most)}"
    )
    rows = [_read(row, JSON_COLUMNS) for row in log.rows(name, sql, since=between.since)]
    questions, lost = questions_of(rows, kinds)
    if not questions:
        raise Conflict(
            f"no request to service '{name}' that is kept can be asked again",
            hint="nothing was asked, or what was sent is masked or not kept",
        )
    left, right, tolerance = between.left, between.right, between.tolerance
    return queries.compare(workspace, name, left, right, questions=questions, tolerance=tolerance), lost


def _kinds(workspace: Workspace, name: str, between: Between) -> dict[str, str]:
    """The kinds of the endpoints, where the versions can be compared, with all that was asked in the log."""
    release.declared_service(workspace, name)
    if between.left == between.right:
        raise Invalid(f"both are {between.left}", hint="name two versions")
    chosen, _ = [package.get(workspace.database, name, version) for version in (between.left, between.right)]
    query_log.collect_all(workspace, name)
    return {str(one["name"]): str(one["type"]) for one in chosen.manifest.endpoints}


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


class BetweenBody(BaseModel):
    """Two versions, and which recorded requests are chosen."""

    model_config = ConfigDict(extra="forbid")

    left: str = Field(max_length=200)
    right: str = Field(max_length=200)
    since: Moment = None
    endpoint: str = Field("", max_length=200)
    environment: str = Field("", max_length=200)
    tolerance: float = Field(1e-6, ge=0, allow_inf_nan=False)

    def between(self) -> Between:
        """As a value."""
        return Between(**self.model_dump(include={field.name for field in fields(Between)}))


class AgainBody(BetweenBody):
    """The same, and how many of them are asked again."""

    most: int = Field(1000, ge=1, le=MOST_AGAIN)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    log = QueryLog(workspace.settings, workspace.lake)

    @api.get("/services/{name}/compare/recorded")
    def recorded(name: str, asked: Annotated[BetweenBody, Query()]) -> dict[str, Any]:
        return plain(compare_recorded(workspace, log, name, asked.between()))

    @api.post("/services/{name}/compare/replay")
    def again(name: str, body: AgainBody) -> dict[str, Any]:
        found, lost = compare_again(workspace, log, name, body.between(), most=body.most)
        return {**queries.comparison_as_plain(found), "not_asked": lost}

    return api
