"""Additions of our own: exporting a ref to a plain prefix, and checking that everything is what it was."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from tulle.lake import export
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, json_answer, no_content
from tulle.lake.rest.failure import message_of
from tulle.lake.rest.forms import branch_of
from tulle.lake.rest.imports import time_form
from tulle.lake.rest.router import Route
from tulle.lake.verify import verify as verified

NAMED_DAMAGES = 1000


class _Export(msgspec.Struct):
    destination: str
    prefix: str = ""
    delete: bool = False
    check: bool = False


class _Verify(msgspec.Struct):
    data: bool = False


def start(call: Call) -> Outgoing:
    """Ask for an export."""
    call.demand_repository("fs:ReadRepository")
    wanted = call.json(_Export)
    call.demand_below("fs:ReadObject", branch_of(call["ref"]), wanted.prefix)
    call.demand("fs:ExportToStorage", f"arn:lakefs:fs:::namespace/{wanted.destination}")
    id_ = export.start(
        call.lake,
        call["repository"],
        call["ref"],
        wanted.destination,
        prefix=wanted.prefix,
        delete=wanted.delete,
        check=wanted.check,
        actor=call.user,
    )
    return json_answer({"id": id_}, 202)


def status(call: Call) -> Outgoing:
    """How far an export is."""
    call.demand_repository("fs:ReadRepository")
    found = export.status(call.lake, call["repository"], call["export"])
    form = {
        "id": found.id,
        "status": found.status,
        "completed": found.completed,
        "commit_id": found.commit_id,
        "destination": found.destination,
        "copied": found.copied,
        "copied_bytes": found.copied_bytes,
        "deleted": found.deleted,
        "kept": found.kept,
        "update_time": time_form(found.update_time),
    }
    if found.error is not None and found.status == "failed":
        form["error"] = {"message": message_of(found.error)}
    elif found.status == "cancelled":
        form["error"] = {"message": "the export was cancelled"}
    return json_answer(form)


def cancel(call: Call) -> Outgoing:
    """End an export; what was copied stays, and the next one goes on from there."""
    call.demand_repository("fs:ReadRepository")
    call.demand("fs:ExportToStorage", "arn:lakefs:fs:::namespace/*")
    export.cancel(call.lake, call["repository"], call["export"])
    return no_content()


def verify(call: Call) -> Outgoing:
    """Check every object a repository needs; `data` reads the data objects too."""
    call.demand_repository("fs:ReadRepository")
    call.demand_below("fs:ReadObject", "", "")
    found = verified(call.lake, call["repository"], data=call.json(_Verify).data)
    return json_answer(
        {
            "manifests": found.manifests,
            "runs": found.runs,
            "objects": found.objects,
            "damaged": len(found.damages),
            "damages": [asdict(damage) for damage in found.damages[:NAMED_DAMAGES]],
        }
    )


_R = "/repositories/{repository}"

ROUTES = [
    Route("POST", f"{_R}/refs/{{ref}}/export", start, "tulle.startExport"),
    Route("GET", f"{_R}/exports/{{export}}", status, "tulle.getExport"),
    Route("DELETE", f"{_R}/exports/{{export}}", cancel, "tulle.cancelExport"),
    Route("POST", f"{_R}/verify", verify, "tulle.verify"),
]
