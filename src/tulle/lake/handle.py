"""What every part of a repository's door works with: its reader, writer and mover, who acts, what is allowed.

Knows nothing of what the parts do.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from tulle.errors import Conflict, Denied, Problem
from tulle.lake import refs
from tulle.lake.hooks.event import Event, HookPort
from tulle.lake.moves import Mover
from tulle.lake.reading import Reader
from tulle.lake.refs import RepositoryRecord
from tulle.lake.stores import Stores
from tulle.lake.writing import Writer

if TYPE_CHECKING:
    from tulle.lake.repository import Repository

T = TypeVar("T")
NameUses = Callable[
    [str, str, str], Sequence[str]
]  # of a repository: "tag" or "branch", its name; in sentences


class Handle:
    """One repository in the hands of one actor. Safe to share between threads.

    Every operation may raise NotFound for an unknown ref and, where it changes something, Denied when the
    repository is read-only or the branch protected.
    """

    def __init__(
        self,
        record: RepositoryRecord,
        reader: Reader,
        writer: Writer,
        stores: Stores,
        *,
        hooks: HookPort | None = None,
        uses: NameUses | None = None,
        actor: str = "",
        force: bool = False,
        wait_seconds: float = 60.0,
    ) -> None:
        self.record = record
        self.reader = reader
        self.writer = writer
        self.stores = stores
        self.actor = actor
        self.force = force
        self.hooks = hooks
        self.uses = uses
        self._mover = Mover(
            reader, wait_seconds=wait_seconds, hooked=_Bound(hooks, self) if hooks is not None else None
        )
        self._database = reader.database
        self._id = record.id

    @property
    def name(self) -> str:
        """The repository's name."""
        return self.record.name

    @property
    def default_branch(self) -> str:
        """The branch that cannot be deleted."""
        return self.record.default_branch

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._database.read() as cx:
            return query(cx)

    def _guard(self, branch: str | None = None, *, protected: bool = False, size: int = 0) -> bool:
        """Before anything is written: the branch exists and may be changed so. Returns whether there is a quota.

        `protected`: the change is one that protection rules keep from branches (merges are not). `size`: so many
        bytes at least will be written.
        """
        with self._database.read() as cx:
            has_quota = self._permit(cx, branch, protected=protected, size=size)
            if branch is not None:
                refs.get_branch(cx, self._id, branch)
        return has_quota

    def _permit(self, cx: Connection, branch: str | None, *, protected: bool = False, size: int = 0) -> bool:
        """The same inside a transaction, for a branch that is there."""
        record = refs.read_repository(cx, self._id, lock=False)
        if size:
            refs.demand_room(record, record.used_bytes + size, record.used_objects + 1)
        if record.read_only and not self.force:
            raise Denied(
                f"repository '{self.name}' is read-only",
                hint="have it made writable, or use force where it is meant",
            )
        if protected and branch is not None:
            pattern = matching(branch, record.settings.get("protected") or ())
            if pattern is not None:
                raise Denied(
                    f"branch '{branch}' of repository '{self.name}' is protected (rule '{pattern}')",
                    hint="work on a branch of your own and merge it",
                )
        return bool(record.settings.get("quota"))

    def _refuse_used(self, kind: str, name: str) -> None:
        """Conflict, with everybody, while somebody outside of the lake relies on a name; not with force."""
        if self.uses is None or self.force:
            return
        if found := self.uses(self.name, kind, name):
            raise Conflict(
                f"{kind} '{name}' of repository '{self.name}' is in use and is not deleted",
                hint="end that use first; force deletes it all the same",
                problems=[Problem(sentence) for sentence in found],
            )

    def _tell_before(self, event: Event) -> HookPort | None:
        """Ask hooks about a change of names, if the ref holds action files; returns whom to tell after it."""
        if self.hooks is None or not self.reader.has_actions(event.actions_ref):
            return None
        self.hooks.before(self._itself(), event)
        return self.hooks

    def _itself(self) -> Repository:
        from tulle.lake.repository import Repository  # noqa: PLC0415  it is made of this

        assert isinstance(self, Repository)
        return self


class _Bound:
    """Hooks that know of which repository they are told."""

    def __init__(self, hooks: HookPort, handle: Handle) -> None:
        self._hooks = hooks
        self._handle = handle

    def before(self, event: Event) -> None:
        """Vetoed when a hook refuses."""
        self._hooks.before(self._handle._itself(), event)  # noqa: SLF001  two halves of one thing

    def after(self, cx: Connection, event: Event) -> None:
        """Note what is to run after the change."""
        self._hooks.after(cx, self._handle._itself(), event)  # noqa: SLF001


def matching(branch: str, patterns: Sequence[str]) -> str | None:
    """The first glob pattern a branch's name matches, or None."""
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(branch, pattern)), None)
