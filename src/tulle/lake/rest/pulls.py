"""Pull requests over REST."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tulle.lake import pulls
from tulle.lake.door import Outgoing
from tulle.lake.pulls import Pull
from tulle.lake.rest.branches import clean
from tulle.lake.rest.call import Call, cut, json_answer, page_of
from tulle.lake.rest.imports import time_form
from tulle.lake.rest.router import Route


class _Creation(msgspec.Struct):
    title: str
    source_branch: str
    destination_branch: str
    description: str = ""


class _Change(msgspec.Struct):
    title: str | None = None
    description: str | None = None
    status: Literal["open", "closed", "merged"] | None = None


def list_pulls(call: Call) -> Outgoing:
    """A page of pull requests by id."""
    call.demand_repository("pr:ListPullRequests")
    amount = call.amount()
    found = pulls.find(
        call.repository(),
        status=call.query("status", "all"),
        prefix=call.query("prefix"),
        after=call.query("after"),
        limit=amount + 1,
    )
    kept, more = cut(found, amount)
    forms = [_form(pull) for pull in kept]
    return json_answer(page_of(forms, has_more=more, next_offset=kept[-1].id if kept else ""))


def create_pull(call: Call) -> Outgoing:
    """Ask for a merge."""
    body = call.json(_Creation)
    call.demand_repository("pr:WritePullRequest")
    pull = pulls.create(
        call.repository(),
        body.title,
        body.source_branch,
        body.destination_branch,
        description=body.description,
    )
    return json_answer({"id": pull.id}, 201)


def get_pull(call: Call) -> Outgoing:
    """One pull request."""
    call.demand_repository("pr:ReadPullRequest")
    return json_answer(_form(pulls.get(call.repository(), call["pull_request"])))


def update_pull(call: Call) -> Outgoing:
    """Change the texts, close, or open again."""
    body = call.json(_Change)
    call.demand_repository("pr:WritePullRequest")
    pulls.change(
        call.repository(),
        call["pull_request"],
        title=body.title,
        description=body.description,
        status=body.status,
    )
    return Outgoing(200)


def merge_pull(call: Call) -> Outgoing:
    """Merge the source into the destination."""
    call.demand_repository("pr:WritePullRequest")
    repository = call.repository()
    known = pulls.get(repository, call["pull_request"])
    call.demand_branch("fs:CreateCommit", known.destination)
    call.demand_shown(known.source, known.destination)
    with clean(repository, known.destination):
        merged = pulls.merge(repository, known.id)
    return json_answer({"reference": merged.merged_commit_id})


def _form(pull: Pull) -> dict[str, Any]:
    form = {
        "id": pull.id,
        "status": pull.status,
        "title": pull.title,
        "description": pull.description,
        "author": pull.author,
        "creation_date": time_form(pull.created_at),
        "source_branch": pull.source,
        "destination_branch": pull.destination,
    }
    if pull.merged_commit_id is not None:
        form["merged_commit_id"] = pull.merged_commit_id
    if pull.closed_at is not None:
        form["closed_date"] = time_form(pull.closed_at)
    return form


_PULLS = "/repositories/{repository}/pulls"
ROUTES = [
    Route("GET", _PULLS, list_pulls, "listPullRequests"),
    Route("POST", _PULLS, create_pull, "createPullRequest"),
    Route("GET", _PULLS + "/{pull_request}", get_pull, "getPullRequest"),
    Route("PATCH", _PULLS + "/{pull_request}", update_pull, "updatePullRequest"),
    Route("PUT", _PULLS + "/{pull_request}/merge", merge_pull, "mergePullRequest"),
]
