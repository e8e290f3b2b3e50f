"""The operations that move a branch: commit, amend, merge, revert, cherry-pick, reset.

All go the same way: lock the branch and seal what is staged; write the new commit's delta and manifest to the
object store; then in one database transaction record the commit, swap the branch and drop what was sealed. A
crash before that transaction changes nothing anybody sees; after it everything is durable. The lock makes
operations on one branch take turns, so that a gate judges exactly what is published, once; the compare-and-swap
refuses whoever lost the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tulle.errors import Conflict, Invalid, Problem, TulleError, Unavailable
from tulle.lake import graph, locks, refs, staging, upkeep
from tulle.lake.entry import Change, Commit, Entry
from tulle.lake.hooks.event import ACTIONS, Event, Kind
from tulle.lake.manifest import INLINE_BYTES, Manifest, make_commit
from tulle.lake.merge import Choices, Strategy, three_way
from tulle.lake.ranges import Range, Row, row_of, tombstone
from tulle.lake.reading import Content, Reader
from tulle.lake.replace import Interval, Step, difference
from tulle.lake.runs import Run, RunRef
from tulle.lake.view import View
from tulle.state.db import now

SHOWN_CONFLICTS = 1000

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
FastForward = Literal["never", "allow", "only"]


class Hooked(Protocol):
    """How a mover asks hooks and tells them, without knowing of what repository."""

    def before(self, event: Event) -> None:
        """Vetoed when a hook refuses."""
        ...

    def after(self, cx: Connection, event: Event) -> None:
        """Note, in the transaction of the change, what is to run after it."""
        ...


@dataclass(frozen=True, slots=True)
class PathConflict:
    """A path that two sides changed differently: what it held at their base, and what each side has now."""

    path: str
    base: Entry | None
    source: Entry | None
    destination: Entry | None


@dataclass(frozen=True, slots=True)
class MergeResult:
    """How a merge ended: the commit the branch is on, whether it was on it before, the base of the comparison,

    and the conflicts the strategy decided.
    """

    commit: Commit
    unchanged: bool
    base: str
    decided_conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replacement:
    """How an import ended: the commit the branch is on, whether it was on it before, how many paths differ."""

    commit: Commit
    unchanged: bool
    added: int
    changed: int
    removed: int


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


class Mover:
    """Moves the branches of one repository."""

    def __init__(self, reader: Reader, *, wait_seconds: float = 60.0, hooked: Hooked | None = None) -> None:
        self._reader = reader
        self._hooked = hooked
        self._database = reader.database
        self._id = reader.id
        self._wait_seconds = wait_seconds

    def commit(self, branch: str, attributes: Attributes, *, allow_empty: bool = False) -> Commit:
        """Commit what is staged. Invalid when that changes nothing."""
        reader = self._reader
        self._prepare(branch, attributes)
        with self._held(branch) as held:
            if not allow_empty and self._first_change(held) is None:
                self._replace_sealed(held, [])
                raise Invalid(f"nothing to commit on branch '{branch}': no path differs from its last commit")
            with self._database.read() as cx:
                parent = reader.content_in(cx, held.commit_id)
                delta = self._staged_delta(cx, held, parent.manifest)
            commit = _commit([parent.commit], delta, attributes)
            self._publish(held, _on_top(reader, parent, commit, delta), "commit")
        return commit

    def replace(
        self,
        branch: str,
        wanted: Sequence[Run],
        places: Sequence[Interval],
        attributes: Attributes,
        step: Step | None = None,
    ) -> Replacement:
        """Make a branch hold exactly the wanted rows in some places, by one commit; none when it does already."""
        reader = self._reader
        with self._held(branch) as held:
            self._refuse_staged(held, "import into")
            parent = reader.content(held.commit_id)
            found = difference(reader.runs, parent.view, wanted, places, step)
            if not found.delta.rows:
                return Replacement(parent.commit, True, 0, 0, 0)
            commit = _commit([parent.commit], found.delta, attributes)
            self._publish(held, _on_top(reader, parent, commit, found.delta), "commit", "import")
        return Replacement(commit, False, found.added, found.changed, found.removed)

    def amend(
        self, branch: str, message: str | None, metadata: Mapping[str, str] | None, committer: str
    ) -> Commit:
        """Replace the branch's last commit by one that also has what is staged. Invalid when nothing differs."""
        reader = self._reader
        with self._held(branch) as held:
            old = reader.content(held.commit_id)
            if not old.commit.parents:
                raise Invalid(
                    f"branch '{branch}' is on its repository's first commit, which cannot be amended"
                )
            attributes = Attributes(
                old.commit.message if message is None else message,
                committer or old.commit.committer,
                old.commit.metadata if metadata is None else metadata,
            )
            is_same = (attributes.message, attributes.metadata) == (old.commit.message, old.commit.metadata)
            if is_same and self._first_change(held) is None:
                raise Invalid(f"nothing to amend on branch '{branch}': give a message, or stage something")
            parents = [reader.commit(id_) for id_ in old.commit.parents]
            # Of the parent only what the old commit shows too is kept: all that is needed.
            parent = reader.content(parents[0].id, expired_too=True)
            with self._database.read() as cx:
                items = staging.open_items(cx, reader.runs, held.sealed)
                both = View([*items, reader.manifests.open(old.manifest.delta)])
                on_nothing = parent.manifest.base is None and not parent.manifest.layers
                chunks = both.chunks(tombstones=not on_nothing)
                delta = reader.runs.write_chunks(chunks, inline_bytes=INLINE_BYTES)
            commit = _commit(parents, delta, attributes)
            self._publish(held, _on_top(reader, parent, commit, delta), "commit", "amend")
        return commit

    def merge(
        self,
        source: str,
        branch: str,
        attributes: Attributes,
        *,
        source_ref: str = "",
        strategy: Strategy | None = None,
        choices: Choices | None = None,
        squash: bool = False,
        fast_forward: FastForward = "never",
        allow_empty: bool = False,
        gate: Gate | None = None,
    ) -> MergeResult:
        """Merge commit `source` into a branch. Conflict when both changed a path and nothing says who wins."""
        reader = self._reader
        with self._held(branch) as held:
            self._refuse_staged(held, "merge into")
            reader.content(source)  # or Gone: what is merged must be kept, what it is compared with need not
            before = held.commit_id
            base = self._base(source, before, branch)
            if fast_forward != "never" and base == before != source and not squash:
                self._fast_forward(held, source, source_ref, attributes, gate)
                return MergeResult(reader.commit(source), unchanged=False, base=base)
            if fast_forward == "only" and source != base:
                raise Conflict(
                    f"branch '{branch}' cannot be moved forward to {source[:12]}: it has commits of its own",
                    hint="merge it into the source first, or allow a merge commit",
                )
            changes = reader.changes(base, source)
            first = None if source == base else next(changes, None)
            if first is None and not allow_empty:
                return MergeResult(reader.commit(before), unchanged=True, base=base)
            parent = reader.content(before)
            parents = [parent.commit] if squash else [parent.commit, reader.commit(source)]
            conflicts: tuple[str, ...] = ()
            if first is not None and base == before:
                delta = self._delta_since(base, source)
                commit = _commit(parents, delta, attributes)
                manifest = _same_content(reader, reader.content(source), commit, delta)
            else:
                theirs = [] if first is None else [first, *changes]
                plan = three_way(theirs, reader.changes(base, before), strategy, choices)
                conflicts = plan.conflicts
                if plan.undecided:
                    raise _conflict(source, branch, plan.undecided)
                if squash and not plan.writes and not allow_empty:
                    return MergeResult(parent.commit, unchanged=True, base=base)
                delta = self._delta(plan.writes)
                commit = _commit(parents, delta, attributes)
                manifest = _on_top(reader, parent, commit, delta)
            judged = None if gate is None else GateCall(reader.record.name, branch, source, before, commit)
            self._publish(
                held, manifest, "merge", gate=gate, call=judged, source_ref=source_ref, actions_ref=source
            )
        return MergeResult(commit, unchanged=False, base=base, decided_conflicts=conflicts)

    def conflicts(self, source: str, destination: str) -> Iterator[PathConflict]:
        """The paths that stand against merging commit `source` into commit `destination`, in order."""
        reader = self._reader
        base = self._base(source, destination, destination)
        plan = three_way(reader.changes(base, source), reader.changes(base, destination))
        ids = (base, source, destination) if plan.conflicts else ()
        views = [reader.content(id_, expired_too=True).view for id_ in ids]
        for path in plan.conflicts:
            yield PathConflict(path, *(view.find(path.encode()) for view in views))

    def cherry_pick(
        self, branch: str, commit_id: str, attributes: Attributes, *, parent_number: int = 0
    ) -> Commit:
        """Do on a branch what a commit did. Conflict when the branch changed the same paths."""
        reader = self._reader
        with self._held(branch) as held:
            self._refuse_staged(held, "cherry-pick to")
            base = _parent(reader.commit(commit_id), parent_number)
            reader.content(commit_id)  # or Gone
            parent = reader.content(held.commit_id)
            plan = three_way(reader.changes(base, commit_id), reader.changes(base, held.commit_id))
            if plan.conflicts:
                raise _conflict(commit_id, branch, plan.conflicts)
            if not plan.writes:
                raise Invalid(f"branch '{branch}' has what commit {commit_id[:12]} did already")
            delta = self._delta(plan.writes)
            commit = _commit([parent.commit], delta, attributes)
            self._publish(held, _on_top(reader, parent, commit, delta), "cherry-pick", source_ref=commit_id)
        return commit

    def revert(
        self,
        branch: str,
        commit_id: str,
        attributes: Attributes,
        *,
        parent_number: int = 0,
        allow_empty: bool = False,
    ) -> Commit:
        """Take back what a commit changed. Conflict when later commits changed the same paths."""
        reader = self._reader
        with self._held(branch) as held:
            self._refuse_staged(held, "revert on")
            target = reader.commit(commit_id)
            base = _parent(target, parent_number)
            reader.content(base)  # or Gone: its data is to be there again
            parent = reader.content(held.commit_id)
            plan = three_way(reader.changes(commit_id, base), reader.changes(commit_id, held.commit_id))
            if plan.conflicts:
                raise _conflict(commit_id, branch, plan.conflicts)
            if not plan.writes and not allow_empty:
                raise Invalid(f"commit {commit_id[:12]} is reverted on branch '{branch}' already")
            delta = self._delta(plan.writes)
            commit = _commit([parent.commit], delta, attributes)
            self._publish(held, _on_top(reader, parent, commit, delta), "revert", source_ref=commit_id)
        return commit

    def hard_reset(self, branch: str, commit_id: str, actor: str = "") -> None:
        """Put a branch on another commit."""
        with self._held(branch) as held:
            self._refuse_staged(held, "reset")
            with self._database.write() as cx:
                refs.demand_kept(cx, self._id, commit_id)
                self._move(cx, held, commit_id, "hard reset", actor=actor, keep_locked=False)
            held.released = True

    def drop_staged(self, branch: str, prefix: bytes | None = None, path: bytes | None = None) -> None:
        """Forget what is staged on a branch: all of it, what lies under a prefix, or what is at a path."""
        with self._held(branch) as held:
            if prefix is None and path is None:
                self._replace_sealed(held, [])
                return
            with self._database.read() as cx:
                items = staging.open_items(cx, self._reader.runs, held.sealed)
                rows = [r for chunk in View(items).chunks(tombstones=True) for r in chunk.all_rows()]
            if path is not None:
                kept = [row for row in rows if row[0] != path]
            else:
                kept = [row for row in rows if not row[0].startswith(prefix or b"")]
            self._replace_sealed(held, kept)

    def delete_branch(self, branch: str, actor: str = "") -> None:
        """Remove a branch with what is staged on it."""
        with self._held(branch) as held:
            told = self._wants(held.commit_id)
            event = Event("pre-delete-branch", held.commit_id, branch=branch, actor=actor)
            if told is not None:
                told.before(event)
            with self._database.write() as cx:
                staged = refs.get_branch(cx, self._id, branch, lock="update").staged
                refs.delete_branch(cx, self._id, branch, held.owner, actor)
                staging.drop_rows(cx, staged)
                if told is not None:
                    told.after(cx, replace(event, kind="post-delete-branch"))
            held.released = True

    # ── the way all of them go ───────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _held(self, branch: str) -> Iterator[Held]:
        """Lock a branch, seal what is staged, keep the lock while the block runs."""
        held = self._lock(branch)
        stop = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(held, stop), daemon=True, name="branch-lock")
        keeper.start()
        try:
            yield held
            if held.upkeep:
                upkeep.keep_up(self._reader, held.upkeep)
        finally:
            stop.set()
            keeper.join()
            if not held.released:
                with self._database.write() as cx:
                    locks.unlock(cx, self._id, branch, held.owner)

    def _lock(self, branch: str) -> Held:
        owner = locks.new_owner()
        deadline = time.monotonic() + self._wait_seconds
        pause = 0.002
        while True:
            with self._database.write() as cx:
                holder = locks.try_lock(cx, self._id, branch, owner)
                if holder is None:
                    state = refs.get_branch(cx, self._id, branch)
                    if len(state.staged) > 2:
                        staging.squeeze(cx, self._id, branch)
                    sealed = staging.seal(cx, self._id, branch)
                    return Held(branch, owner, state.commit_id, sealed)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"branch '{branch}' is being changed by {locks.described(holder)}, "
                    f"waited {self._wait_seconds:.0f} s",
                    hint="wait for it to finish, or stop that process, and try again",
                )
            time.sleep(pause)
            pause = min(0.1, pause * 1.5)

    def _keep(self, held: Held, stop: threading.Event) -> None:
        while not stop.wait(locks.LOCK_SECONDS / 4):
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
                if after is not None:
                    after.after(cx, replace(event, kind=POST[operation], actions_ref=commit.id))
        except BaseException:
            with self._database.write() as cx:
                refs.drop_commit(cx, self._id, commit.id)
            raise
        held.released = not due
        held.upkeep = commit.id if due else None

    def _fast_forward(
        self, held: Held, source: str, source_ref: str, attributes: Attributes, gate: Gate | None
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

    def _base(self, source: str, destination: str, branch: str) -> str:
        base = graph.merge_base(source, destination, self._reader.commit)
        if base is None:
            raise Conflict(f"{source[:12]} and '{branch}' have no commit in common")
        return base

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

    def _staged_delta(self, cx: Connection, held: Held, parent: Manifest) -> RunRef:
        on_nothing = parent.base is None and not parent.layers
        if len(held.sealed) == 1 and "run" in held.sealed[0]:
            run = RunRef(**held.sealed[0]["run"])
            if not (on_nothing and run.deleted):
                return run  # one large batch is a sorted run already
        staged = View(staging.open_items(cx, self._reader.runs, held.sealed))
        # On nothing, a removal says nothing.
        return self._reader.runs.write_chunks(
            staged.chunks(tombstones=not on_nothing), inline_bytes=INLINE_BYTES
        )

    def _delta(self, writes: Mapping[str, Entry | None]) -> RunRef:
        rows = [
            tombstone(path) if entry is None else row_of(entry)
            for path, entry in sorted((path.encode(), entry) for path, entry in writes.items())
        ]
        return self._reader.runs.write(Range.of(rows), inline_bytes=INLINE_BYTES)

    def _delta_since(self, base: str, source: str) -> RunRef:
        """What leads from `base` to `source`: where base is on source's own line, its deltas put together."""
        reader = self._reader
        lines = graph.meeting_point(base, source, reader.commit)
        if lines is None or lines[0]:
            return self._delta({change.path: change.right for change in reader.changes(base, source)})
        line = lines[1]
        if len(line) == 1:
            return reader.content(line[0].id, expired_too=True).manifest.delta
        return reader.runs.write_chunks(
            reader.delta_view(line).chunks(tombstones=True), inline_bytes=INLINE_BYTES
        )


def _commit(parents: Sequence[Commit], delta: RunRef, attributes: Attributes) -> Commit:
    date = now() if attributes.date is None else attributes.date
    return make_commit(
        parents=parents,
        delta_id=delta.id,
        message=attributes.message,
        committer=attributes.committer,
        date=round(date * 1_000_000),
        metadata=attributes.metadata,
    )


def _on_top(reader: Reader, parent: Content, commit: Commit, delta: RunRef) -> Manifest:
    """The manifest of a commit whose content is the parent's with the delta over it."""
    manifest = parent.manifest
    if manifest.base is None and not manifest.layers and delta.place == "tree":
        return Manifest(commit, delta, delta, ())  # on nothing, a delta that is a tree is the content
    layers = reader.manifests.carried(manifest, parent.manifest_name)
    return Manifest(commit, delta, manifest.base, (delta, *layers) if delta.rows else layers)


def _same_content(reader: Reader, source: Content, commit: Commit, delta: RunRef) -> Manifest:
    """The manifest of a commit whose content is that of `source`."""
    return Manifest(
        commit, delta, source.manifest.base, reader.manifests.carried(source.manifest, source.manifest_name)
    )


def _parent(commit: Commit, number: int) -> str:
    if not commit.parents:
        raise Invalid(
            f"commit {commit.id[:12]} is the first of its repository: there is nothing to go back to"
        )
    if len(commit.parents) == 1 and number in {0, 1}:
        return commit.parents[0]
    if not 1 <= number <= len(commit.parents):
        raise Invalid(
            f"commit {commit.id[:12]} has {len(commit.parents)} parents, so say which one to go back to",
            hint="parent_number=1 is the branch it was merged into",
        )
    return commit.parents[number - 1]


def _conflict(source: str, branch: str, paths: Sequence[str]) -> TulleError:
    return Conflict(
        f"{source[:12]} and branch '{branch}' both changed {len(paths)} path(s), first '{paths[0]}'",
        hint="merge the branch into the source and settle them there, or choose source-wins or dest-wins",
        problems=[Problem(path) for path in paths[:SHOWN_CONFLICTS]],
    )
