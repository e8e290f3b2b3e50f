"""What hooks are told: one event of one repository, and the port by which the lake tells it.

Knows neither action files nor how hooks run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from sqlalchemy import Connection

from tulle.lake.entry import Commit

if TYPE_CHECKING:
    from tulle.lake.repository import Repository

Kind = Literal[
    "prepare-commit",
    "pre-commit",
    "post-commit",
    "pre-merge",
    "post-merge",
    "pre-create-tag",
    "post-create-tag",
    "pre-delete-tag",
    "post-delete-tag",
    "pre-create-branch",
    "post-create-branch",
    "pre-delete-branch",
    "post-delete-branch",
    "pre-revert",
    "post-revert",
    "pre-cherry-pick",
    "post-cherry-pick",
]

ACTIONS = "_lakefs_actions/"  # where a repository keeps its action files


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that is about to happen, or has happened.

    `actions_ref` is the ref whose action files count: a commit id, or a branch before it is committed. `commit`
    is the commit that is about to be published or was; `source_ref` what was merged, picked, reverted, tagged or
    branched from; `actor` who asked for it.
    """

    kind: Kind
    actions_ref: str
    branch: str = ""
    source_ref: str = ""
    commit: Commit | None = None
    tag: str = ""
    actor: str = ""


class HookPort(Protocol):
    """How the lake tells of events. Asked only where the ref holds action files."""

    def before(self, repository: Repository, event: Event) -> None:
        """Run what must agree. Vetoed when it does not. Called once per operation."""
        ...

    def after(self, cx: Connection, repository: Repository, event: Event) -> None:
        """In the transaction of the change: note what is to run after it."""
        ...
