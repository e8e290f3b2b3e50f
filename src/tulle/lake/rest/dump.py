"""Dumping a repository's refs into its store and restoring them into a bare one."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.lake import dump
from tulle.lake.door import Outgoing
from tulle.lake.dump import DUMP, RESTORE, RefsDump
from tulle.lake.rest.call import Call, json_answer
from tulle.lake.rest.failure import message_of
from tulle.lake.rest.imports import time_form
from tulle.lake.rest.router import Route


class _Refs(msgspec.Struct):
    branches_meta_range_id: str
    tags_meta_range_id: str
    commits_meta_range_id: str
    force: bool = False

    def ids(self) -> RefsDump:
        """The ids of the dump."""
        return RefsDump(self.branches_meta_range_id, self.tags_meta_range_id, self.commits_meta_range_id)


def _form(found: RefsDump) -> dict[str, str]:
    return {
        "branches_meta_range_id": found.branches,
        "tags_meta_range_id": found.tags,
        "commits_meta_range_id": found.commits,
    }


def _demand(call: Call, *actions: str) -> None:
    for action in actions:
        call.demand_repository(action)


def _demand_dump(call: Call) -> None:
    _demand(call, "fs:ListTags", "fs:ListBranches", "fs:ListCommits")


def _demand_restore(call: Call) -> None:
    name = call["repository"]
    call.demand("fs:CreateTag", call.access.resource_tag(name, "*"))
    call.demand("fs:CreateBranch", call.access.resource_branch(name, "*"))
    call.demand("fs:CreateCommit", call.access.resource_branch(name, "*"))


def dump_refs(call: Call) -> Outgoing:
    """Dump now."""
    _demand_dump(call)
    return json_answer(_form(dump.dump(call.lake, call["repository"])), 201)


def restore_refs(call: Call) -> Outgoing:
    """Restore now."""
    _demand_restore(call)
    wanted = call.json(_Refs)
    dump.restore(call.lake, call["repository"], wanted.ids(), force=wanted.force)
    return Outgoing(200)


def dump_submit(call: Call) -> Outgoing:
    """Ask for a dump."""
    _demand_dump(call)
    return json_answer({"id": dump.ask(call.lake, DUMP, call["repository"], actor=call.user)}, 202)


def restore_submit(call: Call) -> Outgoing:
    """Ask for a restore."""
    _demand_restore(call)
    wanted = call.json(_Refs)
    id_ = dump.ask(call.lake, RESTORE, call["repository"], wanted.ids(), force=wanted.force, actor=call.user)
    return json_answer({"id": id_}, 202)


def dump_status(call: Call) -> Outgoing:
    """How far a dump is."""
    _demand_dump(call)
    return json_answer(_status(call, DUMP))


def restore_status(call: Call) -> Outgoing:
    """How far a restore is."""
    _demand_restore(call)
    return json_answer(_status(call, RESTORE))


def _status(call: Call, kind: str) -> dict[str, Any]:
    found = dump.status(call.lake, kind, call["repository"], call.needed("task_id"))
    form: dict[str, Any] = {
        "id": found.id,
        "done": found.done,
        "update_time": time_form(found.updated_at),
    }
    if found.error is not None:
        form["error"] = message_of(found.error)
    if kind == DUMP and found.refs is not None:
        form["refs"] = _form(found.refs)
    return form


_R = "/repositories/{repository}"

ROUTES = [
    Route("PUT", f"{_R}/refs/dump", dump_refs, "dumpRefs"),
    Route("PUT", f"{_R}/refs/restore", restore_refs, "restoreRefs"),
    Route("POST", f"{_R}/dump", dump_submit, "dumpSubmit"),
    Route("GET", f"{_R}/dump", dump_status, "dumpStatus"),
    Route("POST", f"{_R}/restore", restore_submit, "restoreSubmit"),
    Route("GET", f"{_R}/restore", restore_status, "restoreStatus"),
]
