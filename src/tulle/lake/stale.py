"""Branches that failed runs left: which nobody moved or wrote to for long, and removing them.

A branch that somebody may still want is never removed: a protected one, one of an open pull request, one on which
something was staged since, a run's while one of its jobs goes on. That is asked again in the transaction that
removes it. Knows nothing of what runs do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, or_, select

from tulle.errors import Conflict, NotFound, TulleError
from tulle.lake import refs
from tulle.lake.handle import matching
from tulle.lake.refs import BranchState
from tulle.lake.repository import Repository
from tulle.state.tables import lake_branches, lake_pulls, lake_staged

PREFIXES = ("run-", "ingest-")  # of the branches of runs
JOB = "--"  # run `a` and run `a-b` are two runs; what is after two hyphens is a job


@dataclass(frozen=True, slots=True)
class StaleBranch:
    """A branch nobody moved since `moved_at`, in seconds since the epoch.

    `uncommitted` says that something is staged on it, `kept` why it is not to be removed, or was not; else "".
    """

    name: str
    commit_id: str
    moved_at: float
    uncommitted: bool
    kept: str = ""


def find(repository: Repository, seconds: float, prefixes: Sequence[str] = PREFIXES) -> list[StaleBranch]:
    """Branches that begin with one of the prefixes and were not moved for so many seconds, by name."""
    limit = time.time() - seconds
    names = {branch.name for prefix in prefixes for branch in repository.branches(prefix=prefix)}
    names.discard(repository.default_branch)
    found = []
    with repository.reader.database.read() as cx:
        for name in sorted(names):
            state = refs.find_branch(cx, repository.record.id, name)
            if state is None:
                continue
            moved = _moved_at(cx, repository, name)
            if moved < limit:
                kept = _kept(cx, repository, state, limit)
                found.append(StaleBranch(name, state.commit_id, moved, _is_dirty(cx, state), kept))
    return found


def remove(repository: Repository, found: Iterable[StaleBranch], seconds: float) -> list[StaleBranch]:
    """Remove what was found, what is staged with it; each as it was, `kept` where it was left. Jobs go before runs."""
    limit = time.time() - seconds
    done = []
    for branch in sorted(found, key=lambda branch: branch.name, reverse=True):
        if branch.kept:
            done.append(branch)
            continue

        def demand(cx: Connection, state: BranchState, branch: StaleBranch = branch) -> None:
            if state.commit_id != branch.commit_id:
                raise Conflict("it was moved meanwhile")
            if reason := _kept(cx, repository, state, limit):
                raise Conflict(reason)

        try:
            repository.delete_branch(branch.name, demand=demand)
        except NotFound:
            continue
        except TulleError as exc:
            done.append(replace(branch, kept=exc.message))
        else:
            done.append(branch)
    return done[::-1]


def _kept(cx: Connection, repository: Repository, state: BranchState, limit: float) -> str:
    """Why a branch is not to be removed, or ""."""
    record = refs.read_repository(cx, repository.record.id, lock=False)
    if pattern := matching(state.name, record.settings.get("protected") or ()):
        return f"it is protected (rule '{pattern}')"
    query = select(lake_pulls.c.id).where(
        lake_pulls.c.repository_id == record.id,
        lake_pulls.c.status == "open",
        or_(lake_pulls.c.source == state.name, lake_pulls.c.destination == state.name),
    )
    if pull := cx.execute(query.limit(1)).scalar():
        return f"pull request {pull} is open"
    for item in state.staged:
        if reason := _staged_since(cx, repository, item, limit):
            return reason
    for job in refs.list_branches(cx, record.id, prefix=f"{state.name}{JOB}"):
        if _moved_at(cx, repository, job.name) >= limit:
            return f"its job on branch '{job.name}' goes on"
    return ""


def _staged_since(cx: Connection, repository: Repository, item: Mapping[str, Any], limit: float) -> str:
    if "token" in item:
        of_token = lake_staged.c.token == item["token"]
        newest = cx.execute(select(func.max(lake_staged.c.modified)).where(of_token)).scalar() or 0
        if newest / 1_000_000 >= limit:
            return "something was staged on it since"
        # That something is gone is staged without a time.
        removal = select(lake_staged.c.path).where(of_token, lake_staged.c.deleted).limit(1)
        return "removals of unknown age are staged on it" if cx.execute(removal).first() else ""
    folders = {"range": "ranges", "tree": "metaranges"}
    run = item["run"]
    if run["place"] not in folders:
        return "something of unknown age is staged on it"
    try:
        blobs, storage = repository.reader.blobs, repository.record.storage
        written = blobs.stat(f"{storage}/_tulle/{folders[run['place']]}/{run['id']}").modified
    except NotFound:
        return "what is staged on it is damaged"
    return "something was staged on it since" if written >= limit else ""


def _is_dirty(cx: Connection, state: BranchState) -> bool:
    tokens = [item["token"] for item in state.staged if "token" in item]
    if len(tokens) < len(state.staged):
        return True
    query = select(lake_staged.c.path).where(lake_staged.c.token.in_(tokens)).limit(1)
    return bool(tokens) and cx.execute(query).first() is not None


def _moved_at(cx: Connection, repository: Repository, name: str) -> float:
    moves = refs.list_moves(cx, repository.record.id, name, 1)
    if moves:
        return moves[0].at
    query = select(lake_branches.c.created_at).where(refs.IS_BRANCH)
    return float(cx.execute(query, refs.branch_key(repository.record.id, name)).scalar() or 0.0)
