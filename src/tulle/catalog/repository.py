"""One repository of the lake as its page shows it: branches, commits, and what lies at a ref. Reads, never writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tulle.errors import TulleError
from tulle.lake.repository import Branch, Commit, Page, Repository, Tag

OBJECTS_A_PAGE = 100
COMMITS_SHOWN = 20
REFS_OFFERED = 200


@dataclass(frozen=True, slots=True)
class RepositoryCard:
    """A repository in a list."""

    name: str
    head: Commit | None
    branches: int
    is_product: bool


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """What the page of a repository shows; `page` holds objects and folders under `prefix` at `ref`."""

    name: str
    ref: str
    commit_id: str
    prefix: str
    branches: tuple[Branch, ...]
    tags: tuple[Tag, ...]
    commits: tuple[Commit, ...]
    page: Page
    is_product: bool
    default_branch: str


def repository_card(repository: Repository, *, is_product: bool) -> RepositoryCard:
    """A repository for a list."""
    return RepositoryCard(repository.name, _head(repository), len(repository.branches()), is_product)


def repository_page(
    repository: Repository, *, ref: str, prefix: str, after: str, is_product: bool
) -> RepositoryPage:
    """A repository at `ref` (empty: its default branch). NotFound, Invalid for what is no ref."""
    ref = ref or repository.default_branch
    commit_id = repository.resolve(ref)
    return RepositoryPage(
        name=repository.name,
        ref=ref,
        commit_id=commit_id,
        prefix=prefix,
        branches=tuple(repository.branches(limit=REFS_OFFERED)),
        tags=tuple(repository.tags(limit=REFS_OFFERED)),
        commits=tuple(repository.log(ref, limit=COMMITS_SHOWN)),
        page=repository.list(ref, prefix, after=after, limit=OBJECTS_A_PAGE, delimiter="/"),
        is_product=is_product,
        default_branch=repository.default_branch,
    )


def _head(repository: Repository) -> Commit | None:
    try:
        return repository.commit_info(repository.default_branch)
    except TulleError:
        return None


def published(repository: Repository, limit: int) -> Iterator[Commit]:
    """The newest commits that were on the default branch itself, without those that were merged into it."""
    commit = repository.commit_info(repository.default_branch)
    yield commit
    for _ in range(limit - 1):
        if not commit.parents:
            return
        commit = repository.commit_info(commit.parents[0])
        yield commit


def has_branch(repository: Repository, name: str) -> bool:
    """Whether there is a branch of exactly that name."""
    return any(branch.name == name for branch in repository.branches(name, limit=1))
