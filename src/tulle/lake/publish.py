"""The way every operation goes that moves a branch: hold it, let hooks and gate judge, publish in one transaction.

Lock the branch and seal what is staged; write the new commit's delta and manifest to the object store; then in one
database transaction record the commit, swap the branch and drop what was sealed. A crash before that transaction
changes nothing anybody sees; after it everything is durable. The lock makes operations on one branch take turns, so
that hooks and a gate judge exactly what is published, once; the compare-and-swap refuses whoever lost the lock. Knows
nothing of what the operations do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tulle.errors import Conflict, TulleError, Unavailable
from tulle.lake import locks, refs, staging, upkeep
from tulle.lake.entry import Change, Commit
from tulle.lake.hooks.event import ACTIONS, Event, Kind
from tulle.lake.manifest import Manifest
from tulle.lake.ranges import Range, Row
from tulle.lake.reading import Reader

Operation = Literal["commit", "merge", "revert", "cherry-pick"]
PRE: Mapping[Operation, Kind] = {
    "commit": "pre-commit",
    "merge": "pre-merge",
    "revert": "pre-revert",
    "cherry-pick": "pre-cherry-pick",
}
POST: Mapping[Operation, Kind] = {
    "commit": "post-commit",
    "merge": "post-merge",
    "revert": "post-revert",
    "cherry-pick": "post-cherry-pick",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GateCall:
    """What a gate judges: publishing `commit` on `branch`, which is on commit `before`.

    `source` is the commit that is merged in. `commit` can be read by its id, and nobody moves the branch before
    the gate has answered.
    """

    repository: str
    branch: str
    source: str
    before: str
    commit: Commit


Gate = Callable[[GateCall], None]
# What is done in the transaction that publishes a commit, or not at all; raising, it keeps the commit out.
Also = Callable[[Connection, Commit], None]


class Hooked(Protocol):
    """How a mover asks hooks and tells them, without knowing of what repository."""

    def before(self, event: Event) -> None:
        """Vetoed when a hook refuses."""
        ...

    def after(self, cx: Connection, event: Event) -> None:
        """Note, in the transaction of the change, what is to run after it."""
        ...


@dataclass(slots=True)
class Held:
    """A locked branch: where it is, what was staged on it when it was locked."""

    branch: str
    owner: str
    commit_id: str
    sealed: tuple[staging.Item, ...]
    released: bool = False
    upkeep: str | None = None


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a commit says about itself. `date` is in seconds since the epoch, None means now."""

    message: str
    committer: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    date: float | None = None


class Publisher:
    """Holds and publishes branches of one repository."""

    def __init__(self, reader: Reader, *, wait_seconds: float = 60.0, hooked: Hooked | None = None) -> None:
        self._reader = reader
        self._hooked = hooked
        self._database = reader.database
        self._id = reader.id
        self._wait_seconds = wait_seconds

    @contextmanager
    def _held(self, branch: str) -> Iterator[Held]:
        """Lock a branch, seal what is staged, keep the lock while the block runs."""
        held = self._lock(branch)
        try:
            with locks.keeper().keeping(lambda: self._keep(held)):
                yield held
                if held.upkeep:
                    upkeep.keep_up(self._reader, held.upkeep)
        finally:
            if not held.released:
                self._let_go(held)

    def _let_go(self, held: Held) -> None:
        # What was done is done, whether or not others must now wait until the lock ends by itself.
        try:
            self._database.change(lambda cx: locks.unlock(cx, self._id, held.branch, held.owner))
        except (TulleError, SQLAlchemyError) as exc:
            log.warning("the lock on branch %s could not be let go: %s", held.branch, exc)

    def _lock(self, branch: str) -> Held:
        owner = locks.new_owner()
        deadline = time.monotonic() + self._wait_seconds
        pause = 0.002

        def take(cx: Connection) -> Held | str:
            holder = locks.try_lock(cx, self._id, branch, owner)
            if holder is not None:
                return holder
            state = refs.get_branch(cx, self._id, branch)
            if len(state.staged) > 2:
                staging.squeeze(cx, self._id, branch)
            return Held(branch, owner, state.commit_id, staging.seal(cx, self._id, branch))

        while True:
            taken = self._database.change(take)
            if isinstance(taken, Held):
                return taken
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"branch '{branch}' is being changed by {locks.described(taken)}, "
                    f"waited {self._wait_seconds:.0f} s",
                    hint="wait for it to finish, or stop that process, and try again",
                )
            time.sleep(pause)
            pause = min(0.1, pause * 1.5)

    def _keep(self, held: Held) -> None:
        try:
            with self._database.write() as cx:
                locks.keep_lock(cx, self._id, held.branch, held.owner)
        except (TulleError, SQLAlchemyError) as exc:
            log.warning("the lock on branch %s could not be renewed: %s", held.branch, exc)

    def _publish(
        self,
        held: Held,
        manifest: Manifest,
        operation: Operation,
        logged: str = "",
        *,
        gate: Gate | None = None,
        call: GateCall | None = None,
        source_ref: str = "",
        actions_ref: str = "",
        also: Also | None = None,
    ) -> None:
        """Let hooks and gate judge the commit, once, then publish it on the branch."""
        name = self._reader.manifests.put(manifest)
        commit = manifest.commit
        due = upkeep.is_due(manifest)
        before = self._wants(actions_ref) if actions_ref else self._wants_of(held.commit_id, manifest)
        after = self._wants_of(held.commit_id, manifest)
        event = Event(
            PRE[operation], actions_ref or commit.id, held.branch, source_ref, commit, actor=commit.committer
        )
        try:
            if before is not None or gate is not None:
                with self._database.write() as cx:
                    refs.add_commit(cx, self._id, commit, name, published=False)
            if before is not None:
                before.before(event)
            if gate is not None and call is not None:
                gate(call)
            with self._database.write() as cx:
                refs.add_commit(cx, self._id, commit, name, published=True)
                self._move(cx, held, commit.id, logged or operation, actor=commit.committer, keep_locked=due)
                if also is not None:
                    also(cx, commit)
                if after is not None:
                    after.after(cx, replace(event, kind=POST[operation], actions_ref=commit.id))
        except BaseException:
            with self._database.write() as cx:
                refs.drop_commit(cx, self._id, commit.id)
            raise
        held.released = not due
        held.upkeep = commit.id if due else None

    def _publish_unlocked(
        self, branch: str, state: refs.BranchState, manifest: Manifest, also: Also | None = None
    ) -> bool:
        """Publish a commit on a branch that is as it was seen, all in one transaction; False when it is not.

        The lock is taken and let go of within it. For commits that no hook and no gate judges, and after which
        nothing is due.
        """
        name = self._reader.manifests.put(manifest)
        commit = manifest.commit
        owner = locks.new_owner()

        def work(cx: Connection) -> bool:
            if locks.try_lock(cx, self._id, branch, owner) is not None:
                return False
            if refs.get_branch(cx, self._id, branch) != state:
                locks.unlock(cx, self._id, branch, owner)
                return False
            refs.add_commit(cx, self._id, commit, name, published=True)
            refs.move_branch(
                cx,
                self._id,
                branch,
                before=state.commit_id,
                after=commit.id,
                owner=owner,
                staged=[],
                operation="commit",
                actor=commit.committer,
            )
            if also is not None:
                also(cx, commit)
            return True

        return self._database.change(work)

    def _fast_forward(
        self,
        held: Held,
        source: str,
        source_ref: str,
        attributes: Attributes,
        gate: Gate | None,
        also: Also | None,
    ) -> None:
        """Move the branch to a commit that was built on where it is: one write."""
        told = self._wants(source)
        commit = self._reader.commit(source)
        actor = attributes.committer
        event = Event("pre-merge", source, held.branch, source_ref, commit, actor=actor)
        if told is not None:
            told.before(event)
        if gate is not None:
            gate(GateCall(self._reader.record.name, held.branch, source, held.commit_id, commit))
        with self._database.write() as cx:
            refs.demand_kept(cx, self._id, source)
            self._move(cx, held, source, "fast-forward", actor=actor, keep_locked=False)
            if also is not None:
                also(cx, commit)
            if told is not None:
                told.after(cx, replace(event, kind="post-merge"))
        held.released = True

    def _prepare(self, branch: str, attributes: Attributes) -> None:
        """Let hooks write to the branch what is to be in the commit."""
        if self._hooked is None:
            return
        with self._reader.view(branch) as view:
            wanted = bool(view.page(ACTIONS.encode(), b"", 1, b"").entries)
        if wanted:
            self._hooked.before(Event("prepare-commit", branch, branch, actor=attributes.committer))

    def _wants(self, commit_id: str) -> Hooked | None:
        """Whom to tell, if a commit holds action files."""
        return self._hooked if self._hooked is not None and self._reader.has_actions(commit_id) else None

    def _wants_of(self, parent_id: str, manifest: Manifest) -> Hooked | None:
        """The same for a commit that is not recorded yet."""
        has = self._hooked is not None and self._reader.will_have_actions(parent_id, manifest)
        return self._hooked if has else None

    def _move(
        self,
        cx: Connection,
        held: Held,
        commit_id: str,
        operation: str,
        *,
        actor: str = "",
        keep_locked: bool,
    ) -> None:
        refs.move_branch(
            cx,
            self._id,
            held.branch,
            before=held.commit_id,
            after=commit_id,
            owner=held.owner,
            staged=staging.unsealed(cx, self._id, held.branch, held.sealed),
            operation=operation,
            actor=actor,
            keep_locked=keep_locked,
        )
        staging.drop_rows(cx, held.sealed)

    def _refuse_staged(self, held: Held, verb: str) -> None:
        change = self._first_change(held)
        if change is not None:
            raise Conflict(
                f"cannot {verb} branch '{held.branch}': it has staged changes, for example '{change.path}'",
                hint="commit or reset them first",
            )

    def _first_change(self, held: Held) -> Change | None:
        if not held.sealed:
            return None
        with self._database.read() as cx:
            changes = self._reader.effective_changes(cx, held.commit_id, held.sealed, rows=16)
            return next(changes, None)

    def _replace_sealed(self, held: Held, rows: Sequence[Row]) -> None:
        """Put `rows` where the sealed items were: below what was staged since."""
        items: list[staging.Item] = []
        if len(rows) >= staging.LARGE_BATCH:
            items = [{"run": self._reader.runs.write(Range.of(rows)).as_dict()}]
        elif rows:
            items = [{"token": uuid4().hex}]
        with self._database.write() as cx:
            newer = staging.unsealed(cx, self._id, held.branch, held.sealed)
            if rows and "token" in items[0]:
                staging.add_rows(cx, items[0]["token"], rows)
            refs.set_staged(cx, self._id, held.branch, [*newer, *items])
            staging.drop_rows(cx, held.sealed)
