"""The pages of branches and tags: what there is, and where a branch was."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from tulle.catalog.lake.opened import Head, Opened
from tulle.errors import NotFound
from tulle.lake.handle import matching
from tulle.lake.repository import Branch, Commit, Move, Tag

REFS_A_PAGE = 100
MOVES_SHOWN = 100


@dataclass(frozen=True, slots=True)
class BranchLine:
    """A branch in a list."""

    branch: Branch
    commit: Commit
    is_protected: bool


@dataclass(frozen=True, slots=True)
class RefsPage:
    """A page of branches and tags whose names begin with `prefix`; `next` and `next_tag` continue them."""

    head: Head
    prefix: str
    branches: tuple[BranchLine, ...]
    next: str
    tags: tuple[tuple[Tag, Commit], ...]
    next_tag: str


@dataclass(frozen=True, slots=True)
class ReflogPage:
    """Where a branch was; `is_cut` says that it moved more often than is told."""

    head: Head
    branch: str
    moves: tuple[Move, ...]
    is_cut: bool


def refs_page(opened: Opened, *, prefix: str, after: str, after_tag: str) -> RefsPage:
    """Branches and tags by name, the default branch before all others."""
    repository = opened.repository
    branches = repository.branches(prefix, after=after, limit=REFS_A_PAGE + 1)
    tags = repository.tags(prefix, after=after_tag, limit=REFS_A_PAGE + 1)
    shown = branches[:REFS_A_PAGE]
    if not after and repository.default_branch.startswith(prefix):
        first = repository.default_branch
        with contextlib.suppress(NotFound):  # a bare repository has none yet
            shown = [repository.branch(first), *(one for one in shown if one.name != first)]
    elif after:
        shown = [one for one in shown if one.name != repository.default_branch]
    guarded = repository.protection()
    return RefsPage(
        opened.head,
        prefix,
        tuple(
            BranchLine(one, repository.commit_info(one.commit_id), matching(one.name, guarded) is not None)
            for one in shown
        ),
        branches[REFS_A_PAGE - 1].name if len(branches) > REFS_A_PAGE else "",
        tuple((tag, repository.commit_info(tag.commit_id)) for tag in tags[:REFS_A_PAGE]),
        tags[REFS_A_PAGE - 1].name if len(tags) > REFS_A_PAGE else "",
    )


def reflog_page(opened: Opened, branch: str) -> ReflogPage:
    """Where a branch was, newest first; also of one that was deleted."""
    moves = opened.repository.reflog(branch, limit=MOVES_SHOWN + 1)
    if not moves:
        opened.repository.branch(branch)
    return ReflogPage(opened.head, branch, tuple(moves[:MOVES_SHOWN]), len(moves) > MOVES_SHOWN)
