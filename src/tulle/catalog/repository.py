"""A repository of the lake as pages beside its own tell it: in a list, and what it published. Reads, never writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tulle.errors import TulleError
from tulle.lake.repository import Commit, Repository

BRANCHES_COUNTED = 1000


@dataclass(frozen=True, slots=True)
class RepositoryCard:
    """A repository in a list."""

    name: str
    head: Commit | None
    branches: int  # at most one more than are counted
    is_product: bool
    read_only: bool


def repository_card(
    repository: Repository, *, is_product: bool, hide: Callable[[str], str] = str
) -> RepositoryCard:
    """A repository for a list; `hide` takes out of a commit's message what its reader does not find."""
    branches, head = repository.branches(limit=BRANCHES_COUNTED + 1), _head(repository)
    if head is not None:
        head = replace(head, message=hide(head.message))
    return RepositoryCard(repository.name, head, len(branches), is_product, repository.read_only)


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
