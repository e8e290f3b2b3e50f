"""The pages of differences: which paths differ between two refs. Rows are compared in `rows`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tulle.catalog.lake.opened import Head, Opened
from tulle.engine.dataset_files import data_set_of, format_of
from tulle.errors import NotFound
from tulle.lake.repository import Change, Repository

CHANGES_A_PAGE = 100
CHANGES_COUNTED = 2000


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of changes, and the data sets among them that rows can be compared of.

    `counts` tells them by kind, on the first page only; `is_more` that there are more than were counted.
    """

    changes: tuple[Change, ...]
    next: str
    data_sets: tuple[str, ...]
    left: str = ""  # refs at which the two sides can be looked at
    right: str = ""
    counts: Mapping[str, int] | None = None
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class DiffPage:
    """What differs between two refs; without refs the form to choose them.

    `may_ask`: both are branches, so a pull request may be made of them.
    """

    head: Head
    left: str
    right: str
    mode: str
    prefix: str
    refs: tuple[str, ...]
    changes: Changes | None
    may_ask: bool


def diff_page(opened: Opened, *, left: str, right: str, mode: str, prefix: str, after: str) -> DiffPage:
    """Two refs beside one another: `two` and `three` dots, or what is `staged` on the branch `right`."""
    repository, head, known = opened.repository, opened.head, opened.known()
    if not right:
        return DiffPage(head, left or repository.default_branch, "", mode, prefix, known, None, False)
    if mode == "staged":
        repository.branch(right)

        def staged(limit: int) -> tuple[list[Change], bool]:
            found, more = repository.changes_of(right, prefix=prefix, after=after, limit=limit)
            return list(found), more

        changes = page_of(staged, after, f"{right}@", right)
        return DiffPage(head, left, right, mode, prefix, known, changes, False)
    left = left or repository.default_branch
    changes = between(repository, left, right, three_dot=mode == "three", prefix=prefix, after=after)
    may_ask = (
        left != right and bool(changes.changes) and all(_is_branch(repository, r) for r in (left, right))
    )
    return DiffPage(head, left, right, mode, prefix, known, changes, may_ask)


def between(
    repository: Repository, left: str, right: str, *, three_dot: bool, prefix: str, after: str
) -> Changes:
    """A page of what differs between two refs."""

    def found(limit: int) -> tuple[list[Change], bool]:
        return repository.diff_page(left, right, three_dot=three_dot, prefix=prefix, after=after, limit=limit)

    base = repository.merge_base(left, right) if three_dot else repository.resolve(left)
    return page_of(found, after, base, repository.resolve(right))


def page_of(find: Callable[[int], tuple[list[Change], bool]], after: str, left: str, right: str) -> Changes:
    """A page of changes; `find` gives the first so many of those after `after`, and whether there are more."""
    found, more = find(CHANGES_A_PAGE if after else CHANGES_COUNTED)
    shown = found[:CHANGES_A_PAGE]
    has_next = more or len(found) > len(shown)
    return Changes(
        tuple(shown),
        shown[-1].path if has_next else "",
        _data_sets(found),
        left,
        right,
        None if after else Counter(change.kind for change in found),
        more,
    )


def _data_sets(found: Sequence[Change]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(data_set_of(change.path) for change in found if format_of(change.path)))


def _is_branch(repository: Repository, ref: str) -> bool:
    try:
        repository.branch(ref)
    except NotFound:
        return False
    return True
