"""Recorded requests asked again of a generation, and its answers compared with what was answered then.

What is asked again is asked of a process of its own: no caller, no log and no gateway has part in it. What may not be
repeated, such as a function that does something, is left out unless that is forced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.outlook import environment_key
from tulle.catalog.query_log import JSON_COLUMNS, QueryLog, Wanted, logs, where
from tulle.catalog.routes import Routes
from tulle.control import query_log, recorded, release
from tulle.control.asking import AskedBy
from tulle.control.query_log_api import Moment
from tulle.control.query_log_rows import shown_now
from tulle.control.workspace import Workspace
from tulle.engine.engine import literal
from tulle.errors import Conflict, NotFound
from tulle.events import SERVICE_REPLAYED, Event
from tulle.gateway.apis import records
from tulle.serving import generation
from tulle.serving.log_rows import Shown, kept_answer, shown_result
from tulle.serving.log_segment import INFER
from tulle.serving.needs import repeatable
from tulle.serving.recorded import RecordedComparison, compared, questions_of
from tulle.state import log as event_log

THEN, NOW = "then", "now"
MOST_AGAIN = 1000
_OF_APIS = (
    "what a service answers behind an API is in that service's query log; of what an external service or an example "
    "answered nothing is kept that could be asked again"
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which recorded requests are asked again, the newest first, and of which version (the active one by default)."""

    requests: tuple[str, ...] = ()  # ids; none: all that the rest holds for
    generation: str = ""
    environment: str = ""  # in which they were asked, and whose active version answers
    endpoint: str = ""
    since: float | None = None
    errors: bool = False  # only what failed then
    most: int = 100
    tolerance: float = 1e-6
    force: bool = False  # also what may not be repeated


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it: `compared` has what was answered then at its left and now at its right."""

    version: str
    compared: RecordedComparison
    not_kept: int  # what was sent is masked, or not kept
    not_repeated: int  # of endpoints that may not be asked again
    endpoints: tuple[str, ...] = field(default=())  # those


def replay(workspace: Workspace, log: QueryLog, name: str, chosen: Chosen, *, by: str = "") -> Replayed:
    """Ask them again. NotFound for a service, version or request that is not there, Conflict where none can be."""
    try:
        release.declared_service(workspace, name)
    except NotFound as exc:
        if all(one.name != name for one in records.recorded(workspace.database)):
            raise
        raise Conflict(f"'{name}' is an API, and of an API no requests are kept", hint=_OF_APIS) from exc
    key = environment_key(workspace.settings, chosen.environment)
    version = chosen.generation or _active(workspace, name, key)
    package = release.chosen_version(workspace, name, version)
    kinds = {str(one["name"]): str(one["type"]) for one in package.manifest.endpoints}
    rows = _recorded(workspace, log, name, chosen, key)
    if not rows:
        raise NotFound(
            f"no such request to service '{name}' is kept", hint=f"`tulle service log {name}` shows what is"
        )
    may = repeatable(package.manifest)
    held = [row for row in rows if row["endpoint"] not in may and row["endpoint"] in kinds]
    asked = rows if chosen.force else [row for row in rows if row not in held]
    questions, lost = questions_of(asked, kinds)
    kept_out = tuple(sorted({row["endpoint"] for row in held})) if not chosen.force else ()
    if not questions:
        hint = "what was sent is masked or not kept, or its endpoint is not in that version"
        if kept_out:
            hint = f"{', '.join(kept_out)} may not be repeated; --force asks all the same"
        raise Conflict(f"no request to service '{name}' that is kept can be asked again", hint=hint)
    _tell(workspace, name, version, len(questions), forced=chosen.force and bool(held), by=by)
    verdicts = generation.ask(generation.unpack(package, workspace.settings), questions)
    shown = shown_now(workspace, name)
    then = {f"{row['request_id']}[{row['item']}]" if row["item"] else row["request_id"]: row for row in asked}
    pairs = [
        _pair(then[question.name], verdict, kinds[question.endpoint], shown.get(question.endpoint))
        for question, verdict in zip(questions, verdicts, strict=True)
    ]
    found = compared(name, THEN, NOW, pairs, chosen.tolerance)
    return Replayed(version, found, lost, 0 if chosen.force else len(held), kept_out)


def service_of(workspace: Workspace, log: QueryLog, request_id: str) -> str:
    """The service whose log has a request. NotFound."""
    for name in sorted(logs(workspace.lake)):
        query_log.collect_all(workspace, name)
        if log.newest(name, Wanted(request_id=request_id), limit=1):
            return name
    hint = f"its service must keep its queries; --service names one, --environment where it was asked; {_OF_APIS}"
    raise NotFound(f"no service keeps a request '{request_id[:100]}'", hint=hint)


def _active(workspace: Workspace, name: str, environment: str) -> str:
    found = generation.find(workspace.database, name, environment)
    if found is None or found.active_version is None:
        raise Conflict(f"no version of service '{name}' answers there", hint="name one with --generation")
    return found.active_version


def _recorded(
    workspace: Workspace, log: QueryLog, name: str, chosen: Chosen, environment: str
) -> list[dict[str, Any]]:
    query_log.collect_all(workspace, name)
    wanted = Wanted(
        since=chosen.since,
        endpoint=chosen.endpoint,
        environment=environment,
        errors=chosen.errors,
        shadow=False,
    )
    # Tensors were kept as they came, without what the model was given, by versions of Tulle before this one.
    parts = [where(wanted), f"NOT (action = {literal(INFER)} AND features IS NULL)"]
    if chosen.requests:
        parts.append(f"request_id IN ({', '.join(literal(one) for one in chosen.requests)})")
    sql = (
        "SELECT endpoint, request_id, item, status, error, result, microseconds, sent, features FROM queries "  # noqa: S608  literals
        f"WHERE {' AND '.join(parts)} QUALIFY row_number() OVER (PARTITION BY request_id, item, endpoint "
        f"ORDER BY asked_at) = 1 ORDER BY asked_at DESC, request_id, item LIMIT {int(chosen.most)}"
    )
    found = []
    for row in log.rows(name, sql, since=chosen.since):
        read = {one: msgspec.json.decode(row[one]) for one in JSON_COLUMNS if row.get(one) is not None}
        found.append({**row, **read})
    return found


def _pair(row: dict[str, Any], verdict: Any, kind: str, rule: Shown | None) -> dict[str, Any]:
    rule = rule or Shown(closed=True)
    result, error = kept_answer(kind, verdict.answer, rule)
    return {
        "endpoint": row["endpoint"],
        "request_id": row["request_id"],
        "item": row["item"],
        "l_status": row["status"],
        "l_error": row["error"],
        # what was let through once may be masked by now
        "l_result": shown_result(row["result"], rule, is_prediction=kind == "predict"),
        "l_microseconds": row["microseconds"],
        "r_status": verdict.status,
        "r_error": error,
        "r_result": result,
        "r_microseconds": round(verdict.milliseconds * 1000),
    }


def _tell(workspace: Workspace, name: str, version: str, number: int, *, forced: bool, by: str) -> None:
    with workspace.database.write() as cx:
        data = {"version": version, "requests": number, "forced": forced}
        event_log.append(cx, Event(SERVICE_REPLAYED, name, data), actor=by)


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────


class ReplayBody(BaseModel):
    """Which recorded requests are asked again, and of which version."""

    model_config = ConfigDict(extra="forbid")

    service: str = Field("", max_length=63)
    requests: list[str] = Field(default_factory=list, max_length=MOST_AGAIN)
    generation: str = Field("", max_length=200)
    environment: str = Field("", max_length=63)
    endpoint: str = Field("", max_length=200)
    since: Moment = None
    errors: bool = False
    most: int = Field(100, ge=1, le=MOST_AGAIN)
    tolerance: float = Field(1e-6, ge=0, allow_inf_nan=False)
    force: bool = False


def router(workspace: Workspace) -> Routes:
    """The route on one mesh."""
    api = Routes(prefix="/mesh/v1")
    log = QueryLog(workspace.settings, workspace.lake)

    @api.post("/insight/replay")
    def again(by: AskedBy, body: ReplayBody) -> dict[str, Any]:
        """Ask recorded requests again, by id or those that all of it holds for; without a service it is found by id."""
        if not body.service and not body.requests:
            raise Conflict("neither a service nor a request is named", hint="name one of them")
        name = body.service or service_of(workspace, log, body.requests[0])
        said = body.model_dump(exclude={"service"}) | {"requests": tuple(body.requests)}
        found = replay(workspace, log, name, Chosen(**said), by=by)
        told = recorded.plain(found.compared)
        return {
            **told,
            "version": found.version,
            "not_kept": found.not_kept,
            "not_repeated": found.not_repeated,
            "endpoints_not_repeated": list(found.endpoints),
        }

    return api
