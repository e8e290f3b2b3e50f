"""The operations that move a branch: commit, amend, merge, revert, cherry-pick, reset.

Each finds out what the new commit is to hold; how a branch is held and a commit published is in `publish`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection

from tulle.errors import Conflict, Invalid, Problem, TulleError
from tulle.lake import graph, refs, staging, upkeep
from tulle.lake.entry import Commit, Entry, change_between
from tulle.lake.hooks.event import Event
from tulle.lake.manifest import INLINE_BYTES, Manifest, make_commit
from tulle.lake.merge import Choices, Strategy, three_way
from tulle.lake.publish import Also, Attributes, Gate, GateCall, Held, Publisher
from tulle.lake.ranges import Range, Row, entry_of, row_of, tombstone
from tulle.lake.reading import Content, Reader
from tulle.lake.replace import Interval, Step, difference
from tulle.lake.runs import RangeRun, Run, RunRef
from tulle.lake.view import View
from tulle.state.db import now

SHOWN_CONFLICTS = 1000

FastForward = Literal["never", "allow", "only"]


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


class Mover(Publisher):
    """Moves the branches of one repository."""

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

    def commit_rows(
        self, branch: str, rows: Sequence[Row], attributes: Attributes, *, charge: bool = False
    ) -> Commit:
        """Commit rows in path order, over what is staged; the branch's commit where nothing would differ.

        With `charge` the data of those that differ counts for the quota.
        """
        self._prepare(branch, attributes)
        there = self._commit_rows_unlocked(branch, rows, attributes, charge=charge)
        if there is not None:
            return there
        with self._held(branch) as held:
            parent = self._reader.content(held.commit_id)
            also = self._charging(_changed(parent, rows)) if charge else None
            if held.sealed:
                with self._database.read() as cx:
                    staged = View(
                        [RangeRun(Range.of(rows)), *staging.open_items(cx, self._reader.runs, held.sealed)]
                    )
                    rows = [row for chunk in staged.chunks(tombstones=True) for row in chunk.all_rows()]
            changed = _changed(parent, rows)
            if not changed:
                self._replace_sealed(held, [])
                return parent.commit
            delta = self._reader.runs.write(Range.of(changed), inline_bytes=INLINE_BYTES)
            commit = _commit([parent.commit], delta, attributes)
            self._publish(held, _on_top(self._reader, parent, commit, delta), "commit", also=also)
        return commit

    def _charging(self, rows: Sequence[Row]) -> Also:
        """Counts the data of rows for the quota; what was staged is counted already."""
        sizes = [row[2] for row in rows if not row[-1]]
        return lambda cx, _commit: refs.charge(cx, self._id, sum(sizes), len(sizes))

    def _commit_rows_unlocked(
        self, branch: str, rows: Sequence[Row], attributes: Attributes, *, charge: bool
    ) -> Commit | None:
        """The same in one transaction, where nothing is staged, nobody else is at it and no hook wants to know."""
        reader = self._reader
        with self._database.read() as cx:
            state = refs.get_branch(cx, self._id, branch)
            if state.staged:
                return None
            parent = reader.content_in(cx, state.commit_id)
        changed = _changed(parent, rows)
        if not changed:
            return parent.commit
        delta = reader.runs.write(Range.of(changed), inline_bytes=INLINE_BYTES)
        commit = _commit([parent.commit], delta, attributes)
        manifest = _on_top(reader, parent, commit, delta)
        if upkeep.is_due(manifest) or self._wants_of(state.commit_id, manifest) is not None:
            return None
        also = self._charging(changed) if charge else None
        return commit if self._publish_unlocked(branch, state, manifest, also) else None

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
        also: Also | None = None,
    ) -> MergeResult:
        """Merge commit `source` into a branch. Conflict when both changed a path and nothing says who wins."""
        reader = self._reader
        with self._held(branch) as held:
            self._refuse_staged(held, "merge into")
            reader.content(source)  # or Gone: what is merged must be kept, what it is compared with need not
            before = held.commit_id
            base = self._base(source, before, branch)
            if fast_forward != "never" and base == before != source and not squash:
                self._fast_forward(held, source, source_ref, attributes, gate, also)
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
                held,
                manifest,
                "merge",
                gate=gate,
                call=judged,
                source_ref=source_ref,
                actions_ref=source,
                also=also,
            )
        return MergeResult(commit, unchanged=False, base=base, decided_conflicts=conflicts)

    def conflicts(self, source: str, destination: str, after: str = "") -> Iterator[PathConflict]:
        """The paths after one that stand against merging commit `source` into commit `destination`, in order."""
        reader = self._reader
        base = self._base(source, destination, destination)
        plan = three_way(reader.changes(base, source), reader.changes(base, destination))
        ids = (base, source, destination) if plan.conflicts else ()
        views = [reader.content(id_, expired_too=True).view for id_ in ids]
        for path in plan.conflicts[bisect_right(plan.conflicts, after) :]:
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

    def hard_reset(
        self, branch: str, commit_id: str, actor: str = "", *, expected: str | None = None
    ) -> None:
        """Put a branch on another commit. Conflict when it is not on the `expected` one."""
        with self._held(branch) as held:
            if expected is not None and held.commit_id != expected:
                raise Conflict(
                    f"branch '{branch}' is on commit {held.commit_id[:12]} by now, not on {expected[:12]}",
                    hint="look at what came to it, then try again",
                )
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

    def delete_branch(
        self,
        branch: str,
        actor: str = "",
        demand: Callable[[Connection, refs.BranchState], None] | None = None,
    ) -> None:
        """Remove a branch with what is staged on it; `demand` sees it as it would go, and keeps it by raising."""
        with self._held(branch) as held:
            told = self._wants(held.commit_id)
            event = Event("pre-delete-branch", held.commit_id, branch=branch, actor=actor)
            if told is not None:
                told.before(event)
            with self._database.write() as cx:
                state = refs.get_branch(cx, self._id, branch, lock="update")
                if demand is not None:
                    demand(cx, state)
                refs.delete_branch(cx, self._id, branch, held.owner, actor)
                staging.drop_rows(cx, state.staged)
                if told is not None:
                    told.after(cx, replace(event, kind="post-delete-branch"))
            held.released = True

    # ── what they are made of ────────────────────────────────────────────────────────────────────────────

    def _base(self, source: str, destination: str, branch: str) -> str:
        base = graph.merge_base(source, destination, self._reader.commit)
        if base is None:
            raise Conflict(f"{source[:12]} and '{branch}' have no commit in common")
        return base

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


def _changed(parent: Content, rows: Sequence[Row]) -> list[Row]:
    """Those of some rows that say something else than a commit does."""
    find = parent.view.find
    return [
        row for row in rows if change_between(find(row[0]), None if row[-1] else entry_of(row)) is not None
    ]


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
