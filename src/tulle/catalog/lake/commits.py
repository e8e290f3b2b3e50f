"""The pages of commits: a history as a drawing, and one commit with what it changed."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tulle.catalog.commit_graph import Drawing, draw
from tulle.catalog.lake.differences import Changes, between, page_of
from tulle.catalog.lake.opened import Head, Opened
from tulle.errors import NotFound
from tulle.lake.entry import encoded_text
from tulle.lake.repository import Branch, Change, Commit, Repository

COMMITS_A_PAGE = 60
COMMITS_LOOKED_AT = 400  # for those that changed a path
BRANCHES_DRAWN = 8
BRANCHES_LOOKED_AT = 60  # of which the newest are drawn
NAMES_KNOWN = 200
LINES_KEPT = 60  # of a history, from a page to the next


@dataclass(frozen=True, slots=True)
class CommitsPage:
    """A page of the history of some branches as a drawing; `names` are the refs on a commit, by its id.

    With a `path`, only commits that changed it or what is below it, and merges are left out. `next` continues.
    """

    head: Head
    ref: str
    path: str
    drawing: Drawing
    names: dict[str, tuple[str, ...]]
    branches: tuple[str, ...]
    is_first: bool
    next: str


@dataclass(frozen=True, slots=True)
class CommitPage:
    """One commit and what it changed against its first parent; `note` says why that is not known any more."""

    head: Head
    commit: Commit
    names: tuple[str, ...]
    changes: Changes | None
    note: str


def commits_page(opened: Opened, *, ref: str, path: str, after: str) -> CommitsPage:
    """A page of commits of one ref, or of the default branch and those that moved last.

    `after` has the commits to go on with, as the page before told them in `next`.
    """
    repository = opened.repository
    listed = {b.name: b for b in repository.branches(limit=NAMES_KNOWN, show_hidden=False)}
    if ref or path:
        heads = {ref or repository.default_branch: repository.resolve(ref or repository.default_branch)}
    else:
        heads = _heads(repository, tuple(listed.values())[:BRANCHES_LOOKED_AT])
    starts = [repository.resolve(one) for one in after.split(",")] if after else list(heads.values())
    walk = Walk(repository, starts)
    found = list(_touching(repository, walk, path)) if path else list(_some(walk, COMMITS_A_PAGE))
    return CommitsPage(
        opened.head,
        ref,
        path,
        draw(found),
        _names(repository, {**{name: b.commit_id for name, b in listed.items()}, **heads}),
        tuple(heads),
        not after,
        ",".join(walk.rest[:LINES_KEPT]),
    )


def commit_page(opened: Opened, commit_id: str, *, after: str) -> CommitPage:
    """One commit by its id, or by any ref."""
    repository = opened.repository
    commit = repository.commit_info(commit_id)
    listed = {b.name: b.commit_id for b in repository.branches(limit=NAMES_KNOWN, show_hidden=False)}
    changes, note = None, ""
    try:
        changes = changes_by(repository, commit, after)
    except NotFound as exc:  # retention gave up its data, or its parent's; the record stays
        note = exc.message
    return CommitPage(opened.head, commit, _names(repository, listed).get(commit.id, ()), changes, note)


def changes_by(repository: Repository, commit: Commit, after: str) -> Changes:
    """What a commit changed against its first parent; of a first commit, everything."""
    if commit.parents:
        return between(repository, commit.parents[0], commit.id, three_dot=False, prefix="", after=after)

    def added(limit: int) -> tuple[list[Change], bool]:
        page = repository.list(commit.id, after=after, limit=limit)
        return [Change("added", entry.path, None, entry) for entry in page.entries], page.next is not None

    return page_of(added, after, "", commit.id)


class Walk:
    """Commits from several starts, children before their parents, else the newest first.

    `rest` are the commits it would go on with: a walk from these tells what this one has not told.
    """

    def __init__(self, repository: Repository, starts: Sequence[str]) -> None:
        self._repository = repository
        self._waiting: list[tuple[int, float, str, Commit]] = []
        self._seen: set[str] = set()
        for start in starts:
            self._add(start)

    @property
    def rest(self) -> tuple[str, ...]:
        """What is to be told next, in that order."""
        return tuple(id_ for _, _, id_, _ in sorted(self._waiting))

    def __iter__(self) -> Iterator[Commit]:
        """Go on."""
        while self._waiting:
            commit = heapq.heappop(self._waiting)[-1]
            for parent in commit.parents:
                self._add(parent)
            yield commit

    def _add(self, commit_id: str) -> None:
        if commit_id not in self._seen:
            self._seen.add(commit_id)
            commit = self._repository.reader.commit(commit_id)
            heapq.heappush(self._waiting, (-commit.generation, -commit.date, commit.id, commit))


def _some(walk: Walk, limit: int) -> Iterator[Commit]:
    """At most so many; what comes after them stays in the walk."""
    for _, commit in zip(range(limit), walk, strict=False):
        yield commit


def _touching(repository: Repository, walk: Walk, path: str) -> Iterator[Commit]:
    """Those of the next commits that changed a path, or a folder where it ends in a slash."""
    encoded = encoded_text(path)
    under, at = ([encoded], []) if path.endswith("/") else ([], [encoded])
    count = 0
    for commit in _some(walk, COMMITS_LOOKED_AT):
        if len(commit.parents) < 2 and repository.reader.touches(commit, under, at):
            yield commit
            count += 1
        if count == COMMITS_A_PAGE:
            return


def _heads(repository: Repository, branches: Sequence[Branch]) -> dict[str, str]:
    """The default branch and the branches whose heads are newest, by name."""
    heads = {}
    with contextlib.suppress(NotFound):  # a bare repository has none yet
        heads[repository.default_branch] = repository.branch(repository.default_branch).commit_id
    dated = sorted(
        (b for b in branches if b.name not in heads),
        key=lambda b: -repository.commit_info(b.commit_id).date,
    )
    return heads | {b.name: b.commit_id for b in dated[: BRANCHES_DRAWN - 1]}


def _names(repository: Repository, branches: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The refs on each commit, the default branch first."""
    names: dict[str, list[str]] = {}
    for name in sorted(branches, key=lambda one: one != repository.default_branch):
        names.setdefault(branches[name], []).append(name)
    for tag in repository.tags(limit=NAMES_KNOWN):
        names.setdefault(tag.commit_id, []).append(tag.name)
    return {commit: tuple(found) for commit, found in names.items()}
