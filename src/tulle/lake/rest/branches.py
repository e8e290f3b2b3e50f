"""Branches and tags: names for commits, and putting branches elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tulle.errors import Conflict, Invalid
from tulle.lake.door import Outgoing
from tulle.lake.repository import Repository
from tulle.lake.rest.call import Call, cut, json_answer, no_content, page_of, text_answer
from tulle.lake.rest.failure import Refusal
from tulle.lake.rest.forms import commit_form, ref_form
from tulle.lake.rest.router import Route


class _BranchCreation(msgspec.Struct):
    name: str
    source: str
    force: bool = False
    hidden: bool = False


class _TagCreation(msgspec.Struct):
    id: str
    ref: str
    force: bool = False


class _Reset(msgspec.Struct):
    type: str
    path: str | None = None
    force: bool = False


class _Overrides(msgspec.Struct):
    message: str | None = None
    metadata: dict[str, str] | None = None


class _Revert(msgspec.Struct):
    ref: str
    parent_number: int = 0
    commit_overrides: _Overrides | None = None
    force: bool = False
    allow_empty: bool = False


class _Pick(msgspec.Struct):
    ref: str
    parent_number: int | None = None
    commit_overrides: _Overrides | None = None
    force: bool = False


class _Amendment(msgspec.Struct):
    message: str | None = None
    metadata: dict[str, str] | None = None
    force: bool = False


@contextmanager
def clean(repository: Repository, branch: str) -> Iterator[None]:
    """lakeFS answers 400, not 409, when a branch that must be clean has staged changes."""
    try:
        yield
    except Conflict as exc:
        if not exc.problems and repository.changes_of(branch, limit=1)[0]:
            raise Refusal(400, exc.message, hint=exc.hint) from None
        raise


# ── branches ─────────────────────────────────────────────────────────────────────────────────────────────


def list_branches(call: Call) -> Outgoing:
    """A page of branches by name."""
    call.demand_repository("fs:ListBranches")
    amount = call.amount()
    found = call.repository().branches(
        call.query("prefix"), call.query("after"), amount + 1, show_hidden=call.flag("show_hidden")
    )
    kept, more = cut(found, amount)
    forms = [ref_form(branch) for branch in kept]
    return json_answer(page_of(forms, has_more=more, next_offset=kept[-1].name if kept else ""))


def create_branch(call: Call) -> Outgoing:
    """A new branch; the answer is the id of its commit as text."""
    wanted = call.json(_BranchCreation)
    call.demand_branch("fs:CreateBranch", wanted.name)
    call.demand_shown(wanted.source, wanted.name)
    repository = call.repository(force=wanted.force)
    branch = repository.create_branch(wanted.name, wanted.source, hidden=wanted.hidden)
    return text_answer(branch.commit_id, 201)


def get_branch(call: Call) -> Outgoing:
    """One branch."""
    call.demand_branch("fs:ReadBranch")
    return json_answer(ref_form(call.repository().branch(call["branch"])))


def delete_branch(call: Call) -> Outgoing:
    """Remove a branch."""
    call.demand_branch("fs:DeleteBranch")
    call.repository(force=call.flag("force")).delete_branch(call["branch"])
    return no_content()


def reset(call: Call) -> Outgoing:
    """Forget what is staged."""
    call.demand_branch("fs:RevertBranch")
    wanted = call.json(_Reset)
    repository, branch = call.repository(force=wanted.force), call["branch"]
    if wanted.type == "reset":
        repository.reset(branch)
    elif wanted.type in {"common_prefix", "object"} and wanted.path:
        named = {"prefix" if wanted.type == "common_prefix" else "path": wanted.path}
        repository.reset(branch, **named)
    elif wanted.type in {"common_prefix", "object"}:
        raise Invalid(f"a reset of type '{wanted.type}' needs a path")
    else:
        raise Invalid(f"'{wanted.type}' is no type of reset", hint="known: reset, common_prefix, object")
    return no_content()


def hard_reset(call: Call) -> Outgoing:
    """Put a branch on another commit."""
    call.demand_branch("fs:RevertBranch")
    ref = call.needed("ref")
    call.demand_shown(ref, call["branch"])
    repository, branch = call.repository(force=call.flag("force")), call["branch"]
    with clean(repository, branch):
        repository.hard_reset(branch, ref)
    return no_content()


def revert(call: Call) -> Outgoing:
    """Take back what a commit did."""
    call.demand_branch("fs:RevertBranch")
    wanted = call.json(_Revert)
    call.demand_shown(wanted.ref, call["branch"])
    repository, branch = call.repository(force=wanted.force), call["branch"]
    overrides = wanted.commit_overrides or _Overrides()
    _demand_parent(repository, wanted.ref, wanted.parent_number)
    with clean(repository, branch):
        repository.revert(
            branch,
            wanted.ref,
            parent_number=wanted.parent_number,
            message=overrides.message or None,
            metadata=overrides.metadata,
            allow_empty=wanted.allow_empty,
        )
    return no_content()


def cherry_pick(call: Call) -> Outgoing:
    """Do what a commit did."""
    call.demand_branch("fs:CreateCommit")
    wanted = call.json(_Pick)
    call.demand_shown(wanted.ref, call["branch"])
    repository, branch = call.repository(force=wanted.force), call["branch"]
    overrides = wanted.commit_overrides or _Overrides()
    _demand_parent(repository, wanted.ref, wanted.parent_number or 0)
    with clean(repository, branch):
        commit = repository.cherry_pick(
            branch,
            wanted.ref,
            parent_number=wanted.parent_number or 0,
            message=overrides.message or None,
            metadata=overrides.metadata,
        )
    return json_answer(commit_form(commit), 201)


def _demand_parent(repository: Repository, ref: str, number: int) -> None:
    parents = repository.commit_info(ref).parents
    if len(parents) > 1 and not number:
        raise Conflict(
            f"commit '{ref}' is a merge: say which of its parents to compare it with",
            hint="parent_number=1 is the branch it was merged into",
        )


def amend(call: Call) -> Outgoing:
    """Replace a branch's last commit. Ours; lakeFS has none."""
    call.demand_branch("fs:CreateCommit")
    call.demand_branch("fs:RevertBranch")
    wanted = call.json(_Amendment)
    commit = call.repository(force=wanted.force).amend(
        call["branch"], message=wanted.message, metadata=wanted.metadata
    )
    return json_answer(commit_form(commit), 201)


def reflog(call: Call) -> Outgoing:
    """Where a branch was, newest first. Ours; lakeFS has none."""
    call.demand_branch("fs:ReadBranch")
    amount = call.amount()
    kept, more = cut(call.repository().reflog(call["branch"], limit=amount + 1), amount)
    forms = [
        {
            "date": int(move.at),
            "operation": move.operation,
            "before": move.before,
            "after": move.after,
            "actor": move.actor,
        }
        for move in kept
    ]
    return json_answer(page_of(forms, has_more=more))


# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────


def list_tags(call: Call) -> Outgoing:
    """A page of tags by name."""
    call.demand_repository("fs:ListTags")
    amount = call.amount()
    kept, more = cut(call.repository().tags(call.query("prefix"), call.query("after"), amount + 1), amount)
    forms = [ref_form(tag) for tag in kept]
    return json_answer(page_of(forms, has_more=more, next_offset=kept[-1].name if kept else ""))


def create_tag(call: Call) -> Outgoing:
    """A new tag."""
    wanted = call.json(_TagCreation)
    call.demand("fs:CreateTag", call.access.resource_tag(call["repository"], wanted.id))
    call.demand_shown(wanted.ref, wanted.id)
    return json_answer(ref_form(call.repository(force=wanted.force).create_tag(wanted.id, wanted.ref)), 201)


def get_tag(call: Call) -> Outgoing:
    """One tag."""
    call.demand("fs:ReadTag", call.access.resource_tag(call["repository"], call["tag"]))
    return json_answer(ref_form(call.repository().tag(call["tag"])))


def delete_tag(call: Call) -> Outgoing:
    """Remove a tag."""
    call.demand("fs:DeleteTag", call.access.resource_tag(call["repository"], call["tag"]))
    call.repository(force=call.flag("force")).delete_tag(call["tag"])
    return no_content()


_R = "/repositories/{repository}"
_B = f"{_R}/branches/{{branch}}"

ROUTES = [
    Route("GET", f"{_R}/branches", list_branches, "listBranches"),
    Route("POST", f"{_R}/branches", create_branch, "createBranch"),
    Route("GET", _B, get_branch, "getBranch"),
    Route("DELETE", _B, delete_branch, "deleteBranch"),
    Route("PUT", _B, reset, "resetBranch"),
    Route("PUT", f"{_B}/hard_reset", hard_reset, "hardResetBranch"),
    Route("POST", f"{_B}/revert", revert, "revertBranch"),
    Route("POST", f"{_B}/cherry-pick", cherry_pick, "cherryPick"),
    Route("POST", f"{_B}/amend", amend, "tulle.amend"),
    Route("GET", f"{_B}/reflog", reflog, "tulle.reflog"),
    Route("GET", f"{_R}/tags", list_tags, "listTags"),
    Route("POST", f"{_R}/tags", create_tag, "createTag"),
    Route("GET", f"{_R}/tags/{{tag}}", get_tag, "getTag"),
    Route("DELETE", f"{_R}/tags/{{tag}}", delete_tag, "deleteTag"),
]
