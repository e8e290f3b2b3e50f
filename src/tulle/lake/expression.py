"""Ref expressions: a branch, a tag, a commit id or its beginning, then steps back: `main~2`, `v1^2`, `main@`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection, select

from tulle.errors import Invalid, NotFound, did_you_mean
from tulle.lake.refs import LIKELY, BranchState, find_head, find_tag, get_commit, list_branches, list_tags
from tulle.state.tables import lake_commits

_EXPRESSION = re.compile(r"(?P<name>\w[-.\w]*)(?P<steps>(?:[~^]\d{0,9}){0,64})(?P<head>@?)\Z")
_STEP = re.compile(r"([~^])(\d*)")
_COMMIT_ID = re.compile(r"[0-9a-f]{64}\Z")
_COMMIT_PREFIX = re.compile(r"[0-9a-f]{4,63}\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """What a ref expression means: a commit, and the branch whose staged entries lie over it, if any.

    `manifest` is the name of the commit's manifest where it was met on the way, else empty.
    """

    commit_id: str
    branch: BranchState | None = None
    manifest: str = ""


def resolve(cx: Connection, repository: int, expression: str) -> Target:
    """What a ref expression means: a full commit id, a branch, a tag or a commit id's unique beginning,

    then any number of `~n` (n first parents back) and `^n` (the n-th parent), or `@` for a branch without what
    is staged on it. Invalid when it cannot be read, NotFound when it names nothing.
    """
    match = _EXPRESSION.match(expression)
    if match is None:
        raise Invalid(
            f"'{expression}' is no ref",
            hint="a branch, a tag or a commit id, then ~n or ^n, or @ for a branch's last commit",
        )
    target = _resolve_name(cx, repository, match["name"])
    if match["head"]:
        if target.branch is None or match["steps"]:
            raise Invalid(f"'{expression}': @ goes with a branch", hint="leave it out")
        return Target(target.commit_id, manifest=target.manifest)
    if not match["steps"]:
        return target
    id_ = target.commit_id
    for kind, digits in _STEP.findall(match["steps"]):
        number = int(digits) if digits else 1
        for _ in range(number if kind == "~" else min(number, 1)):
            parents = get_commit(cx, repository, id_)[0].parents
            position = 0 if kind == "~" else number - 1
            if position >= len(parents):
                raise NotFound(f"'{expression}': commit {id_[:12]} has {len(parents)} parent(s)")
            id_ = parents[position]
    return Target(id_)


def _resolve_name(cx: Connection, repository: int, name: str) -> Target:
    if _COMMIT_ID.match(name):
        return Target(get_commit(cx, repository, name)[0].id)
    head = find_head(cx, repository, name)
    if head is not None:
        return Target(head[0].commit_id, *head)
    tag = find_tag(cx, repository, name)
    if tag is not None:
        return Target(tag.commit_id)
    if _COMMIT_PREFIX.match(name):
        found = (
            cx.execute(
                select(lake_commits.c.id)
                .where(
                    lake_commits.c.repository_id == repository,
                    lake_commits.c.published,
                    lake_commits.c.id.between(name, name + "g"),
                )
                .limit(2)
            )
            .scalars()
            .all()
        )
        if len(found) == 1:
            return Target(found[0])
        if found:
            raise NotFound(f"more than one commit begins with '{name}'", hint="write more of its digits")
    known = [branch.name for branch in list_branches(cx, repository, limit=LIKELY)]
    known += [tag.name for tag in list_tags(cx, repository, limit=LIKELY)]
    raise NotFound(f"there is no branch, tag or commit '{name}'", hint=did_you_mean(name, known))
