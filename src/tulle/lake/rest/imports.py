"""Imports over REST: start, status, cancel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from tulle.lake import onboard
from tulle.lake.door import Outgoing
from tulle.lake.onboard import Source
from tulle.lake.rest.call import Call, json_answer, no_content
from tulle.lake.rest.failure import message_of
from tulle.lake.rest.forms import branch_of, commit_form
from tulle.lake.rest.router import Route

BODY_BYTES = 64 * 1024 * 1024  # sources may be many single objects


class _Location(msgspec.Struct):
    type: Literal["common_prefix", "object"]
    path: str
    destination: str


class _Commit(msgspec.Struct):
    message: str
    metadata: dict[str, str] = {}
    date: int | None = None
    allow_empty: bool = False
    force: bool = False


class _Import(msgspec.Struct):
    paths: list[_Location]
    commit: _Commit
    force: bool = False


def start(call: Call) -> Outgoing:
    """Begin an import."""
    body = call.json(_Import, BODY_BYTES)
    call.demand_branch("fs:CreateCommit")
    sources = [Source(each.path, each.destination, each.type) for each in body.paths]
    for source in sources:
        _demand_source(call, source)
        if source.type == "object":
            call.demand_object("fs:WriteObject", call["branch"], source.destination)
        else:  # what is under the prefix is replaced
            below = source.destination.rstrip("/") + "/" if source.destination.strip("/") else ""
            for action in ("fs:WriteObject", "fs:DeleteObject"):
                call.demand_below(action, call["branch"], below)
    id_ = onboard.start(
        call.lake,
        call["repository"],
        call["branch"],
        sources,
        body.commit.message,
        metadata=body.commit.metadata,
        date=body.commit.date,
        actor=call.user,
        force=body.force or body.commit.force,
    )
    return json_answer({"id": id_}, 202)


def status(call: Call) -> Outgoing:
    """How far an import is."""
    call.demand_branch("fs:ReadBranch")
    found = onboard.status(call.lake, call["repository"], call["branch"], call.needed("id"))
    form: dict[str, Any] = {
        "completed": found.completed,
        "update_time": time_form(found.update_time),
        "ingested_objects": found.ingested_objects,
    }
    if found.commit is not None:
        form["commit"] = commit_form(found.commit)
        form["metarange_id"] = found.commit.id
    if found.error is not None and found.status == "failed":
        form["error"] = {"message": message_of(found.error)}
    elif found.status == "cancelled":
        form["error"] = {"message": "the import was cancelled"}
    return json_answer(form)


def cancel(call: Call) -> Outgoing:
    """End an import without a commit."""
    call.demand_branch("fs:ImportCancel")
    onboard.cancel(call.lake, call["repository"], call["branch"], call.needed("id"))
    return no_content()


def time_form(seconds: float) -> str:
    """A time as the OpenAPI document's date-time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _demand_source(call: Call, source: Source) -> None:
    if not source.path.startswith("lakefs://"):
        call.demand("fs:ImportFromStorage", f"arn:lakefs:fs:::namespace/{source.path}")
        return
    name, ref, path = onboard.lake_url(source.path)
    call.demand("fs:ReadRepository", call.access.resource_repository(name))
    call.demand("fs:ListObjects", call.access.resource_repository(name))
    if source.type == "object":
        call.demand("fs:ReadObject", *call.access.resource_object(name, branch_of(ref), path))
    else:
        below = path.rstrip("/") + "/" if path.strip("/") else ""
        call.demand_below("fs:ReadObject", branch_of(ref), below, name)


_PATH = "/repositories/{repository}/branches/{branch}/import"
ROUTES = [
    Route("POST", _PATH, start, "importStart"),
    Route("GET", _PATH, status, "importStatus"),
    Route("DELETE", _PATH, cancel, "importCancel"),
]
