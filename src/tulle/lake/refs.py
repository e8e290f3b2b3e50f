"""The few things of a lake that change: repositories, branches, tags, commit records, branch locks.

Functions on rows of the control-plane database, each inside a transaction of the caller. A branch moves only by
compare-and-swap, by whoever holds its lock; the lock makes operations on one branch take turns, the swap keeps
them right even when a lock was lost. Knows nothing of what commits contain.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, did_you_mean
from tulle.lake.entry import Commit
from tulle.state.db import now
from tulle.state.tables import lake_branches, lake_commits, lake_reflog, lake_repositories, lake_tags

_EXPRESSION = re.compile(r"(?P<name>\w[-\w]*)(?P<steps>(?:[~^]\d*)*)(?P<head>@?)\Z")
_STEP = re.compile(r"([~^])(\d*)")
_COMMIT_ID = re.compile(r"[0-9a-f]{64}\Z")
_COMMIT_PREFIX = re.compile(r"[0-9a-f]{4,63}\Z")
LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """A repository as it is recorded."""

    id: int
    name: str
    storage: str
    default_branch: str
    created_at: float
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch and the commit it is on."""

    name: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag and the commit it names."""

    name: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class BranchState:
    """A branch with what is staged on it, newest first."""

    name: str
    commit_id: str
    staged: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What a ref expression means: a commit, and the branch whose staged entries lie over it, if any."""

    commit_id: str
    branch: BranchState | None = None


# ── repositories ─────────────────────────────────────────────────────────────────────────────────────────


def add_repository(
    cx: Connection, name: str, storage: str, default_branch: str, metadata: Mapping[str, str]
) -> RepositoryRecord:
    """Record a repository. AlreadyExists."""
    created = now()
    try:
        result = cx.execute(
            insert(lake_repositories).values(
                name=name,
                storage=storage,
                default_branch=default_branch,
                created_at=created,
                metadata=dict(metadata),
            )
        )
    except IntegrityError:
        raise AlreadyExists(f"repository '{name}' exists") from None
    key = result.inserted_primary_key
    assert key is not None
    return RepositoryRecord(int(key[0]), name, storage, default_branch, created, dict(metadata))


def get_repository(cx: Connection, name: str) -> RepositoryRecord:
    """The record of a repository. NotFound, with the nearest name."""
    row = cx.execute(select(lake_repositories).where(lake_repositories.c.name == name)).first()
    if row is None:
        names = cx.execute(select(lake_repositories.c.name)).scalars().all()
        raise NotFound(f"there is no repository '{name}'", hint=did_you_mean(name, names))
    return _repository(row)


def list_repositories(cx: Connection) -> list[RepositoryRecord]:
    """All repositories by name."""
    return [_repository(r) for r in cx.execute(select(lake_repositories).order_by(lake_repositories.c.name))]


def delete_repository(cx: Connection, repository: int) -> None:
    """Forget a repository with its branches, tags and commit records."""
    for table in (lake_reflog, lake_branches, lake_tags, lake_commits):
        cx.execute(delete(table).where(table.c.repository_id == repository))
    cx.execute(delete(lake_repositories).where(lake_repositories.c.id == repository))


def _repository(row: Row[Any]) -> RepositoryRecord:
    return RepositoryRecord(
        row.id, row.name, row.storage, row.default_branch, row.created_at, dict(row.metadata)
    )


# ── branches ─────────────────────────────────────────────────────────────────────────────────────────────


def add_branch(cx: Connection, repository: int, name: str, commit_id: str) -> None:
    """Record a branch. AlreadyExists."""
    try:
        cx.execute(
            insert(lake_branches).values(
                repository_id=repository, name=name, commit_id=commit_id, staged=[], created_at=now()
            )
        )
    except IntegrityError:
        raise AlreadyExists(f"branch '{name}' exists") from None
    log_move(cx, repository, name, None, commit_id, "create")


def get_branch(cx: Connection, repository: int, name: str, *, share: bool = False) -> BranchState:
    """A branch. With `share` nobody moves it until the transaction ends. NotFound, with the nearest name."""
    query = select(lake_branches.c.commit_id, lake_branches.c.staged).where(_is_branch(repository, name))
    row = cx.execute(query.with_for_update(read=True) if share else query).first()
    if row is None:
        names = [branch.name for branch in list_branches(cx, repository)]
        raise NotFound(f"there is no branch '{name}'", hint=did_you_mean(name, names))
    return BranchState(name, row.commit_id, tuple(row.staged))


def list_branches(cx: Connection, repository: int, prefix: str = "") -> list[Branch]:
    """Branches whose name starts with `prefix`, by name."""
    query = (
        select(lake_branches.c.name, lake_branches.c.commit_id)
        .where(
            lake_branches.c.repository_id == repository,
            lake_branches.c.name.startswith(prefix, autoescape=True),
        )
        .order_by(lake_branches.c.name)
    )
    # LIKE knows no upper and lower case in SQLite.
    return [Branch(r.name, r.commit_id) for r in cx.execute(query) if r.name.startswith(prefix)]


def set_staged(cx: Connection, repository: int, name: str, staged: Sequence[Mapping[str, Any]]) -> None:
    """Replace what is recorded as staged on a branch."""
    cx.execute(
        update(lake_branches)
        .where(_is_branch(repository, name))
        .values(staged=[dict(item) for item in staged])
    )


def move_branch(
    cx: Connection,
    repository: int,
    branch: str,
    *,
    before: str,
    after: str,
    owner: str,
    staged: Sequence[Mapping[str, Any]],
    operation: str,
    actor: str = "",
    keep_locked: bool = False,
) -> None:
    """Compare-and-swap: put the branch on `after` if it is on `before` and `owner` holds its lock. Conflict.

    The lock is let go of in the same step, unless it is to be kept.
    """
    values: dict[str, Any] = {"commit_id": after, "staged": [dict(item) for item in staged]}
    if not keep_locked:
        values |= {"lock_owner": None, "lock_until": None}
    result = cx.execute(
        update(lake_branches)
        .where(
            _is_branch(repository, branch),
            lake_branches.c.commit_id == before,
            lake_branches.c.lock_owner == owner,
        )
        .values(**values)
    )
    if result.rowcount != 1:
        raise Conflict(
            f"branch '{branch}' was moved by somebody else meanwhile; nothing was changed", hint="try again"
        )
    log_move(cx, repository, branch, before, after, operation, actor)


def delete_branch(cx: Connection, repository: int, name: str, owner: str) -> None:
    """Remove a branch whose lock `owner` holds."""
    before = get_branch(cx, repository, name).commit_id
    result = cx.execute(
        delete(lake_branches).where(_is_branch(repository, name), lake_branches.c.lock_owner == owner)
    )
    if result.rowcount != 1:
        raise Conflict(f"branch '{name}' is being changed by somebody else", hint="try again")
    log_move(cx, repository, name, before, None, "delete")


def log_move(
    cx: Connection,
    repository: int,
    branch: str,
    before: str | None,
    after: str | None,
    operation: str,
    actor: str = "",
) -> None:
    """Record where a branch was and where it went."""
    cx.execute(
        insert(lake_reflog).values(
            repository_id=repository,
            branch=branch,
            before=before,
            after=after,
            at=now(),
            operation=operation,
            actor=actor,
        )
    )


def _is_branch(repository: int, name: str) -> Any:
    return and_(lake_branches.c.repository_id == repository, lake_branches.c.name == name)


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────


def new_owner() -> str:
    """A name for one holding of a lock, from which others can tell whether the holder still lives."""
    return f"{_this_process(os.getpid())}/{uuid4().hex[:12]}"


def try_lock(cx: Connection, repository: int, branch: str, owner: str) -> str | None:
    """Take the branch's lock; returns None when it is ours now, else who holds it. NotFound."""
    row = cx.execute(
        select(lake_branches.c.lock_owner, lake_branches.c.lock_until).where(_is_branch(repository, branch))
    ).first()
    if row is None:
        get_branch(cx, repository, branch)  # raises NotFound
        raise Conflict(f"branch '{branch}' is being created", hint="try again")
    held = row.lock_owner is not None and row.lock_until > now() and not _is_dead(row.lock_owner)
    if held:
        return str(row.lock_owner)
    owner_column = lake_branches.c.lock_owner
    unchanged = owner_column.is_(None) if row.lock_owner is None else owner_column == row.lock_owner
    result = cx.execute(
        update(lake_branches)
        .where(_is_branch(repository, branch), unchanged)
        .values(lock_owner=owner, lock_until=now() + LOCK_SECONDS)
    )
    return None if result.rowcount == 1 else "somebody else"


def keep_lock(cx: Connection, repository: int, branch: str, owner: str) -> None:
    """Hold the lock for another while."""
    cx.execute(
        update(lake_branches)
        .where(_is_branch(repository, branch), lake_branches.c.lock_owner == owner)
        .values(lock_until=now() + LOCK_SECONDS)
    )


def unlock(cx: Connection, repository: int, branch: str, owner: str) -> None:
    """Let go of the lock, if it is still ours."""
    cx.execute(
        update(lake_branches)
        .where(_is_branch(repository, branch), lake_branches.c.lock_owner == owner)
        .values(lock_owner=None, lock_until=None)
    )


def _process(pid: int) -> str:
    return f"{socket.gethostname()}/{pid}/{_start_time(pid)}"


_this_process = cache(_process)  # by pid, because a forked child is another process


def _start_time(pid: int) -> str:
    import psutil  # noqa: PLC0415  only needed here

    try:
        return str(round(psutil.Process(pid).create_time() * 100))
    except psutil.Error:
        return ""


def _is_dead(owner: str) -> bool:
    # Only of processes on this machine can we know.
    host, pid, started, _ = owner.rsplit("/", 3)
    return host == socket.gethostname() and _start_time(int(pid)) != started


# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────


def add_tag(cx: Connection, repository: int, name: str, commit_id: str) -> None:
    """Record a tag. AlreadyExists."""
    try:
        cx.execute(
            insert(lake_tags).values(
                repository_id=repository, name=name, commit_id=commit_id, created_at=now()
            )
        )
    except IntegrityError:
        raise AlreadyExists(
            f"tag '{name}' exists", hint="a tag is never moved; choose another name"
        ) from None


def list_tags(cx: Connection, repository: int) -> list[Tag]:
    """All tags by name."""
    query = select(lake_tags).where(lake_tags.c.repository_id == repository).order_by(lake_tags.c.name)
    return [Tag(row.name, row.commit_id) for row in cx.execute(query)]


def delete_tag(cx: Connection, repository: int, name: str) -> None:
    """Remove a tag. NotFound."""
    result = cx.execute(
        delete(lake_tags).where(lake_tags.c.repository_id == repository, lake_tags.c.name == name)
    )
    if not result.rowcount:
        raise NotFound(
            f"there is no tag '{name}'",
            hint=did_you_mean(name, [tag.name for tag in list_tags(cx, repository)]),
        )


# ── commits ──────────────────────────────────────────────────────────────────────────────────────────────


def add_commit(cx: Connection, repository: int, commit: Commit, manifest: str, *, published: bool) -> None:
    """Record a commit; the record of the very same commit is kept as it is."""
    row = cx.execute(select(lake_commits.c.published).where(_is_commit(repository, commit.id))).first()
    if row is None:
        cx.execute(
            insert(lake_commits).values(
                repository_id=repository,
                id=commit.id,
                parents=list(commit.parents),
                generation=commit.generation,
                message=commit.message,
                committer=commit.committer,
                date=round(commit.date * 1_000_000),
                metadata=dict(commit.metadata),
                manifest=manifest,
                published=published,
            )
        )
    elif published and not row.published:
        cx.execute(update(lake_commits).where(_is_commit(repository, commit.id)).values(published=True))


def get_commit(cx: Connection, repository: int, id_: str) -> tuple[Commit, str]:
    """A commit and the name of its manifest. NotFound."""
    row = cx.execute(select(lake_commits).where(_is_commit(repository, id_))).first()
    if row is None:
        raise NotFound(f"there is no commit '{id_}'")
    commit = Commit(
        row.id,
        tuple(row.parents),
        row.message,
        row.committer,
        row.date / 1_000_000,
        dict(row.metadata),
        row.generation,
    )
    return commit, row.manifest


def swap_manifest(cx: Connection, repository: int, id_: str, before: str, after: str) -> bool:
    """Give a commit another manifest; False when it has another than `before` already."""
    result = cx.execute(
        update(lake_commits)
        .where(_is_commit(repository, id_), lake_commits.c.manifest == before)
        .values(manifest=after)
    )
    return bool(result.rowcount)


def drop_commit(cx: Connection, repository: int, id_: str) -> None:
    """Remove the record of a commit a gate refused."""
    cx.execute(delete(lake_commits).where(_is_commit(repository, id_), lake_commits.c.published.is_(False)))


def _is_commit(repository: int, id_: str) -> Any:
    return and_(lake_commits.c.repository_id == repository, lake_commits.c.id == id_)


# ── ref expressions ──────────────────────────────────────────────────────────────────────────────────────


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
        return Target(target.commit_id)
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
    branch = cx.execute(
        select(lake_branches.c.commit_id, lake_branches.c.staged).where(_is_branch(repository, name))
    ).first()
    if branch is not None:
        return Target(branch.commit_id, BranchState(name, branch.commit_id, tuple(branch.staged)))
    tag = cx.execute(
        select(lake_tags.c.commit_id).where(lake_tags.c.repository_id == repository, lake_tags.c.name == name)
    ).scalar()
    if tag is not None:
        return Target(tag)
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
    known = [branch.name for branch in list_branches(cx, repository)]
    known += [tag.name for tag in list_tags(cx, repository)]
    raise NotFound(f"there is no branch, tag or commit '{name}'", hint=did_you_mean(name, known))
