"""The pages of pull requests: what is asked for, what it would change, and what stands against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tulle.catalog.lake.commits import changes_by
from tulle.catalog.lake.differences import Changes, between
from tulle.catalog.lake.opened import Head, Opened
from tulle.errors import NotFound
from tulle.lake import pulls
from tulle.lake.pulls import Pull
from tulle.lake.repository import PathConflict

PULLS_A_PAGE = 50
CONFLICTS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class PullsPage:
    """Pull requests, newest first."""

    head: Head
    status: str
    pulls: tuple[Pull, ...]
    next: str


@dataclass(frozen=True, slots=True)
class PullPage:
    """One pull request: what it would change and what stands against it; `note` says why that is not known."""

    head: Head
    pull: Pull
    changes: Changes | None
    conflicts: tuple[PathConflict, ...]
    more_conflicts: bool
    note: str


def pulls_page(opened: Opened, *, status: str, after: str) -> PullsPage:
    """Pull requests with a status: open, closed (or merged), all."""
    found = pulls.find(
        opened.repository, status=status, after=after, limit=PULLS_A_PAGE + 1, newest_first=True
    )
    following = found[PULLS_A_PAGE - 1].id if len(found) > PULLS_A_PAGE else ""
    return PullsPage(opened.head, status, tuple(found[:PULLS_A_PAGE]), following)


def pull_page(opened: Opened, id_: str, *, after: str) -> PullPage:
    """One pull request."""
    repository = opened.repository
    pull = pulls.get(repository, id_)
    conflicts: Sequence[PathConflict] = ()
    changes, note = None, ""
    try:
        if pull.merged_commit_id:
            changes = changes_by(repository, repository.commit_info(pull.merged_commit_id), after)
        else:
            changes = between(
                repository, pull.destination, pull.source, three_dot=True, prefix="", after=after
            )
            if pull.status == "open":
                conflicts = repository.conflicts(pull.source, pull.destination, limit=CONFLICTS_SHOWN + 1)
    except NotFound as exc:
        note = exc.message
    more = len(conflicts) > CONFLICTS_SHOWN
    return PullPage(opened.head, pull, changes, tuple(conflicts[:CONFLICTS_SHOWN]), more, note)
