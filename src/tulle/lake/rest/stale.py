"""Branches that failed runs left, and removing them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tulle.errors import Invalid
from tulle.lake import stale
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, json_answer, page_of
from tulle.lake.rest.router import Route
from tulle.lake.stale import StaleBranch

LEAST_SECONDS = 3600


def list_stale(call: Call) -> Outgoing:
    """Branches of runs that nobody moved for so many seconds."""
    call.demand_repository("fs:ListBranches")
    return json_answer(page_of([_form(branch) for branch in _found(call)], has_more=False))


def remove_stale(call: Call) -> Outgoing:
    """Remove them, but those that somebody may still want or the caller may not delete; tells each as it was."""
    call.demand_repository("fs:ListBranches")
    found = []
    for branch in _found(call):
        resource = call.access.resource_branch(call["repository"], branch.name)
        if not branch.kept and not call.may("fs:DeleteBranch", resource):
            branch = replace(branch, kept="you may not delete it")  # noqa: PLW2901  the same, told otherwise
        found.append(branch)
    done = stale.remove(call.repository(), found, _seconds(call))
    forms = [{**_form(branch), "removed": not branch.kept} for branch in done]
    return json_answer(page_of(forms, has_more=False))


def _found(call: Call) -> list[StaleBranch]:
    prefix = call.query("prefix")
    return stale.find(call.repository(), _seconds(call), [prefix] if prefix else stale.PREFIXES)


def _seconds(call: Call) -> int:
    text = call.query("seconds")
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) < LEAST_SECONDS:
        raise Invalid(f"'{text}' is no number of seconds", hint=f"?seconds=, {LEAST_SECONDS} at least")
    return int(text)


def _form(branch: StaleBranch) -> dict[str, Any]:
    return {
        "id": branch.name,
        "commit_id": branch.commit_id,
        "last_move": int(branch.moved_at),
        "uncommitted": branch.uncommitted,
        "kept": branch.kept,
    }


ROUTES = [
    Route("GET", "/repositories/{repository}/stale_branches", list_stale, "tulle.listStaleBranches"),
    Route("DELETE", "/repositories/{repository}/stale_branches", remove_stale, "tulle.removeStaleBranches"),
]
