"""The read side of one repository: commits, content at a ref, what changed between two commits.

Reads happen on what one database transaction saw, so a reader racing a commit sees the state before it or after
it, never something between. Knows nothing of moving branches.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from tulle.lake import expression, graph, refs, staging
from tulle.lake.blobs import Blobs
from tulle.lake.entry import Change, Commit, Entry, change_between, successor
from tulle.lake.expression import Target
from tulle.lake.hooks.event import ACTIONS
from tulle.lake.manifest import Manifest, ManifestStore
from tulle.lake.ranges import Range, Row, entry_of, joined
from tulle.lake.refs import RepositoryRecord
from tulle.lake.runs import Cache, RangeRun, Run, RunCaches, RunStore, TreeRun
from tulle.lake.view import View
from tulle.state.db import Database

LONG_LINE = 512  # commits; beyond it comparing contents is cheaper than collecting deltas
MANY_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Content:
    """A commit with what it contains."""

    manifest: Manifest
    manifest_name: str
    view: View

    @property
    def commit(self) -> Commit:
        """The commit."""
        return self.manifest.commit

    @property
    def rows(self) -> int:
        """About how many entries it has."""
        return (self.manifest.base.rows if self.manifest.base else 0) + self.manifest.layer_rows


class Reader:
    """Reads one repository. Safe to share between threads."""

    def __init__(
        self, database: Database, record: RepositoryRecord, blobs: Blobs, caches: RunCaches | None = None
    ) -> None:
        caches = caches or RunCaches()
        self.database = database
        self.record = record
        self.id = record.id
        self.blobs = blobs
        self.runs = RunStore(blobs, record.storage, caches, database)
        self.manifests = ManifestStore(blobs, record.storage, self.runs, caches)
        self._commits: Cache[Commit] = Cache(50_000)
        self._actions: Cache[bool] = Cache(10_000)

    def target(self, ref: str) -> Target:
        """What a ref expression means now."""
        with self.database.read() as cx:
            return expression.resolve(cx, self.id, ref)

    def commit(self, id_: str) -> Commit:
        """A commit by its full id."""
        found = self._commits.get(id_)
        if found is None:
            with self.database.read() as cx:
                found = refs.get_commit(cx, self.id, id_)[0]
            self._commits.put(id_, found)
        return found

    def content(self, id_: str, *, expired_too: bool = False) -> Content:
        """What a commit contains. Gone when its data was collected.

        With `expired_too` also then, to compare by: the rows are there, the data they name may not be.
        """
        with self.database.read() as cx:
            return self.content_in(cx, id_, expired_too=expired_too)

    def content_in(self, cx: Connection, id_: str, *, expired_too: bool = False) -> Content:
        """What a commit contains, in the transaction of `cx`."""
        name, expired = refs.manifest_of(refs.get_manifest_name(cx, self.id, id_))
        if expired and not expired_too:
            raise refs.gone(id_, expired)
        return self._content(name)

    def _target_content(self, cx: Connection, target: Target) -> Content:
        return self._content(target.manifest) if target.manifest else self.content_in(cx, target.commit_id)

    def _content(self, name: str) -> Content:
        manifest = self.manifests.get(name)
        return Content(manifest, name, View(self.manifests.content(manifest)))

    def has_actions(self, id_: str) -> bool:
        """Whether a commit holds action files."""
        known = self._actions.get(id_)
        if known is None:
            known = _holds_actions(self.content(id_).view)
            self._actions.put(id_, known)
        return known

    def will_have_actions(self, parent_id: str, manifest: Manifest) -> bool:
        """The same for a commit on a parent that is not recorded yet: mostly known without reading."""
        known = self._actions.get(manifest.commit.id)
        if known is None:
            start = ACTIONS.encode()
            delta = self.manifests.open(manifest.delta)
            if delta.chunk(start, successor(start), 1)[0].rows or self.has_actions(parent_id):
                known = _holds_actions(View(self.manifests.content(manifest)))
            else:
                known = False
            self._actions.put(manifest.commit.id, known)
        return known

    @contextmanager
    def view(self, ref: str) -> Iterator[View]:
        """The content at a ref, staged entries over committed ones; valid inside the block."""
        with self.database.read() as cx:
            yield View(self._runs_at(cx, expression.resolve(cx, self.id, ref)))

    def snapshot(self, ref: str, prefix: bytes = b"") -> View:
        """Like `view` under one prefix, valid for good: staged rows are read into memory."""
        with self.database.read() as cx:
            target = expression.resolve(cx, self.id, ref)
            runs = list(self._target_content(cx, target).view.runs)
            if target.branch and target.branch.staged:
                staged = View(staging.open_items(cx, self.runs, target.branch.staged))
                rows = joined(list(staged.chunks(prefix, successor(prefix), tombstones=True)))
                runs.insert(0, RangeRun(rows))
        return View(runs)

    def staged_changes(
        self, branch: str, prefix: bytes = b"", after: bytes = b"", limit: int | None = None
    ) -> list[Change]:
        """What committing the branch now would change under a prefix, in path order: those after a path."""
        with self.database.read() as cx:
            state = refs.get_branch(cx, self.id, branch)
            found = self.effective_changes(cx, state.commit_id, state.staged, prefix=prefix, after=after)
            return list(itertools.islice(found, limit))

    def effective_changes(
        self,
        cx: Connection,
        commit_id: str,
        staged: Sequence[staging.Item],
        *,
        rows: int = 1024,
        prefix: bytes = b"",
        after: bytes = b"",
    ) -> Iterator[Change]:
        """How staged items differ from a commit, in path order; `rows` are looked at at a time."""
        if not staged:
            return
        committed = self.content_in(cx, commit_id).view
        items = View(staging.open_items(cx, self.runs, staged))
        start = max(prefix, after + b"\0") if after else prefix
        for chunk in items.chunks(start, successor(prefix), tombstones=True, rows=rows):
            for row in chunk.all_rows():
                change = change_between(committed.find(row[0]), None if row[-1] else entry_of(row))
                if change is not None:
                    yield change

    def changes(self, left: str, right: str, prefix: bytes = b"", after: bytes = b"") -> Iterator[Change]:
        """What differs from commit `left` to commit `right` under a prefix, in path order: those after a path."""
        if left == right:
            return iter(())
        lines = graph.meeting_point(left, right, self.commit)
        if lines is not None and sum(map(len, lines)) <= LONG_LINE:
            contents = [[self._compared(commit.id) for commit in line] for line in lines]
            rows = sum(content.manifest.delta.rows for line in contents for content in line)
            whole = self._compared(left)
            if rows <= max(MANY_ROWS, whole.rows // 10):
                return self._changes_by_deltas(contents, self._meeting(lines[0], left), prefix, after)
        return self._changes_by_content(self._compared(left), self._compared(right), prefix, after)

    def touches(self, commit: Commit, prefixes: Sequence[bytes], paths: Sequence[bytes] = ()) -> bool:
        """Whether a commit's delta names a path under one of `prefixes`, or one of `paths`."""
        delta = self.manifests.open(self._compared(commit.id).manifest.delta)
        if any(delta.find(path) is not None for path in paths):
            return True
        return any(delta.chunk(prefix, successor(prefix), 1)[0].rows for prefix in prefixes)

    def delta_view(self, commits: Sequence[Commit]) -> View:
        """The deltas of a first-parent line (newest first) as one."""
        contents = (self._compared(commit.id) for commit in commits)
        return View([self.manifests.open(content.manifest.delta) for content in contents])

    def _runs_at(self, cx: Connection, target: Target) -> list[Run]:
        runs = list(self._target_content(cx, target).view.runs)
        if target.branch and target.branch.staged:
            runs = staging.open_items(cx, self.runs, target.branch.staged) + runs
        return runs

    def _meeting(self, left_line: Sequence[Commit], left: str) -> Content:
        return self._compared(left_line[-1].parents[0] if left_line else left)

    def _compared(self, id_: str) -> Content:
        return self.content(id_, expired_too=True)

    def _changes_by_deltas(
        self, contents: Sequence[Sequence[Content]], meeting: Content, prefix: bytes, after: bytes
    ) -> Iterator[Change]:
        # At a path that a line's deltas name, their newest row is what the line's head holds; at any other
        # path the head holds what the meeting point holds.
        start = max(prefix, after + b"\0") if after else prefix
        sides = [
            View([self.manifests.open(content.manifest.delta) for content in line]).chunks(
                start, successor(prefix), tombstones=True
            )
            for line in contents
        ]
        pending: tuple[bytes, dict[int, Entry | None]] | None = None

        def settle(path: bytes, named: dict[int, Entry | None]) -> Change | None:
            there = meeting.view.find(path) if len(named) < 2 else None
            found = [named.get(side, there) for side in (0, 1)]
            return change_between(found[0], found[1])

        for path, side, row in _side_by_side(*sides):
            entry = None if row[-1] else entry_of(row)
            if pending is not None and pending[0] == path:
                pending[1][side] = entry
                continue
            if pending is not None and (change := settle(*pending)) is not None:
                yield change
            pending = (path, {side: entry})
        if pending is not None and (change := settle(*pending)) is not None:
            yield change

    def _changes_by_content(
        self, left: Content, right: Content, prefix: bytes, after: bytes
    ) -> Iterator[Change]:
        end = successor(prefix)
        begin = max(prefix, after + b"\0") if after else prefix
        for first, last in self._differing_intervals(left.manifest, right.manifest):
            start, stop = max(first, begin), last + b"\0"
            if end is not None:
                stop = min(stop, end)
            if start < stop:
                yield from _compare(left.view, right.view, start, stop)

    def _differing_intervals(self, left: Manifest, right: Manifest) -> list[tuple[bytes, bytes]]:
        """First and last paths of the intervals outside of which two commits surely agree, in order."""
        intervals: list[tuple[bytes, bytes]] = []
        old = 0  # the oldest layers, as far as both have the same, say the same
        for ours, theirs in zip(reversed(left.layers), reversed(right.layers), strict=False):
            if ours.id != theirs.id:
                break
            old += 1
        for manifest in (left, right):
            for layer in manifest.layers[: len(manifest.layers) - old]:
                intervals.extend(_extent(self.manifests.open(layer)))
        trees = [self.runs.metarange(m.base.id) if m.base else None for m in (left, right)]
        names = [set(tree.ids) if tree else set() for tree in trees]
        for tree, others in zip(trees, reversed(names), strict=True):
            if tree is not None:
                rows = zip(tree.ids, tree.firsts, tree.lasts, strict=True)
                intervals.extend((first, last) for id_, first, last in rows if id_ not in others)
        merged: list[tuple[bytes, bytes]] = []
        for first, last in sorted(intervals):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged


def _holds_actions(view: View) -> bool:
    return bool(view.page(ACTIONS.encode(), b"", 1, b"").entries)


def _extent(run: Run) -> Iterator[tuple[bytes, bytes]]:
    if isinstance(run, TreeRun):
        yield from zip(run.metarange.firsts, run.metarange.lasts, strict=True)
    elif isinstance(run, RangeRun):
        # Row by row: a small layer scattered over the key space must not open all of it.
        for position in range(run.content.rows):
            path = run.content.path(position)
            yield path, path


def _side_by_side(left: Iterator[Range], right: Iterator[Range]) -> Iterator[tuple[bytes, int, Row]]:
    """The rows of both sides in path order with the side's number, left before right at the same path."""

    def numbered(side: int, chunks: Iterator[Range]) -> Iterator[tuple[bytes, int, Row]]:
        for chunk in chunks:
            for row in chunk.all_rows():
                yield row[0], side, row

    return heapq.merge(numbered(0, left), numbered(1, right), key=lambda item: item[:2])


def _compare(left: View, right: View, start: bytes, end: bytes | None) -> Iterator[Change]:
    waiting: Entry | None = None
    for _, side, row in _side_by_side(left.chunks(start, end), right.chunks(start, end)):
        entry = entry_of(row)
        if waiting is not None:
            if side == 1 and entry.path == waiting.path:
                if (change := change_between(waiting, entry)) is not None:
                    yield change
                waiting = None
                continue
            yield Change("removed", waiting.path, waiting, None)
            waiting = None
        if side == 0:
            waiting = entry
        else:
            yield Change("added", entry.path, None, entry)
    if waiting is not None:
        yield Change("removed", waiting.path, waiting, None)
