"""The pages of objects: what lies in a folder at a ref, and one object with its preview."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.catalog.lake.opened import Head, Opened
from tulle.catalog.preview import Preview, preview
from tulle.errors import NotFound
from tulle.lake.repository import Commit, Entry, Page

OBJECTS_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class FolderPage:
    """Objects and folders under `prefix` at `ref`, those after `after`; `commit` is None before the first one.

    `staged`: something on the branch is not committed.
    """

    head: Head
    ref: str
    commit: Commit | None
    prefix: str
    after: str
    refs: tuple[str, ...]
    page: Page
    staged: bool


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """One object at a ref."""

    head: Head
    ref: str
    commit_id: str
    entry: Entry
    preview: Preview


def folder_page(opened: Opened, *, ref: str, prefix: str, after: str) -> FolderPage:
    """A folder at a ref (empty: the default branch). NotFound, Invalid for what is no ref."""
    repository = opened.repository
    wanted = ref or repository.default_branch
    try:
        commit = repository.commit_info(wanted)
    except NotFound:
        if ref or repository.branches(limit=1):
            raise
        return FolderPage(opened.head, wanted, None, prefix, after, (), Page((), (), None), False)
    page = repository.list(wanted, prefix, after=after, limit=OBJECTS_A_PAGE, delimiter="/")
    return FolderPage(
        opened.head, wanted, commit, prefix, after, opened.known(), page, _is_staged(opened, wanted)
    )


def object_page(opened: Opened, *, ref: str, path: str) -> ObjectPage:
    """An object at a ref (empty: the default branch)."""
    repository = opened.repository
    ref = ref or repository.default_branch
    entry = repository.stat(ref, path)
    shown = preview(opened.engine, repository, entry, opened.product)
    return ObjectPage(opened.head, ref, repository.resolve(ref), entry, shown)


def _is_staged(opened: Opened, ref: str) -> bool:
    try:
        opened.repository.branch(ref)
    except NotFound:
        return False
    found, _ = opened.repository.changes_of(ref, limit=1)
    return bool(found)
