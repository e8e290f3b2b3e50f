"""What must change so that a state holds, under some prefixes, exactly the rows that were given.

The heart of an import. Rows come as sorted runs, often trees of millions of rows. Where the state holds nothing,
their ranges are taken over whole; where it holds the very same range, nothing is read; only elsewhere rows are
compared, column by column. An unchanged row is left out, so the old one stays. Knows nothing of where rows come
from, nor of branches.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tulle.lake.entry import successor
from tulle.lake.manifest import INLINE_BYTES
from tulle.lake.ranges import EMPTY, MAX_ROWS, SCHEMA, Range, joined, tombstone
from tulle.lake.runs import RangeRun, Run, RunRef, RunStore, TreeRun, TreeWriter
from tulle.lake.spool import Spool
from tulle.lake.view import View

FEW = 64  # rows that are looked up one by one

Interval = tuple[bytes, bytes | None]  # from a path up to (without) another; None is the end of all
Step = Callable[[], None]  # called now and then; may raise to end it


@dataclass(frozen=True, slots=True)
class Difference:
    """The delta that makes a state what it is to be, and how many rows it adds, changes and removes."""

    delta: RunRef
    added: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows to be there, from path `first` to path `last`: in memory, or the range `number` of a tree."""

    first: bytes
    last: bytes
    rows: Range | None
    tree: TreeRun | None = None
    number: int = 0

    def load(self) -> Range:
        """The rows."""
        if self.rows is not None:
            return self.rows
        assert self.tree is not None
        return self.tree.load(self.tree.metarange.ids[self.number])


def intervals(prefixes: Iterable[bytes]) -> list[Interval]:
    """What lies under some prefixes, as intervals in order that do not overlap."""
    found: list[Interval] = []
    for prefix in sorted(set(prefixes)):
        if found and (found[-1][1] is None or prefix < found[-1][1]):
            continue  # below the one before
        found.append((prefix, successor(prefix)))
    return found


def difference(
    store: RunStore, state: View, wanted: Sequence[Run], places: Sequence[Interval], step: Step | None = None
) -> Difference:
    """The delta from `state` to a state that holds, in each of `places`, exactly the rows of `wanted`.

    Of runs in `wanted` that name the same path a later one counts. Rows outside of `places` are added to what is
    there. Rows are told apart by everything they say but the time of change; an unknown checksum equals any.
    """
    comparison = _Comparison(store, state, step)
    begin = b""
    for start, end in places:
        comparison.put(wanted, (begin, start))
        comparison.replace(wanted, (start, end))
        if end is None:
            return comparison.finish()
        begin = end
    comparison.put(wanted, (begin, None))
    return comparison.finish()


class _Comparison:
    """Goes through state and wanted rows side by side and writes the delta."""

    def __init__(self, store: RunStore, state: View, step: Step | None) -> None:
        self._writer = DeltaWriter(store)
        self._state = state
        self._step = step
        self._added = self._changed = self._removed = 0

    def finish(self) -> Difference:
        return Difference(self._writer.finish(), self._added, self._changed, self._removed)

    def replace(self, wanted: Sequence[Run], place: Interval) -> None:
        """Make the state hold exactly the wanted rows in a place."""
        position, end = place
        for piece in pieces(wanted, place):
            stop = piece.last + b"\0"
            if self._is_quiet(position, stop):
                self._take(piece)
            elif not self._is_same(piece, position, stop):
                self._walk(piece.load(), (position, stop), removing=True)
            position = stop
            if self._step is not None:
                self._step()
        self._walk(EMPTY, (position, end), removing=True)

    def put(self, wanted: Sequence[Run], place: Interval) -> None:
        """Make the state hold the wanted rows of a place beside what it has there."""
        if place[0] == place[1]:
            return
        for piece in pieces(wanted, place):
            stop = piece.last + b"\0"
            if self._is_quiet(piece.first, stop):
                self._take(piece)
                continue
            rows = piece.load()
            if rows.rows > FEW:
                self._walk(rows, (piece.first, stop), removing=False)
                continue
            for number in range(rows.rows):
                path = rows.path(number)
                self._walk(rows.slice(number, number + 1), (path, path + b"\0"), removing=False)

    def _take(self, piece: Piece) -> None:
        if piece.tree is None:
            rows = piece.load()
            self._writer.add(rows)
            self._added += rows.rows
        else:
            self._writer.take(piece.tree, piece.number)
            self._added += piece.tree.metarange.rows[piece.number]

    def _is_quiet(self, start: bytes, end: bytes) -> bool:
        return all(is_quiet(run, start, end) for run in self._state.runs)

    def _is_same(self, piece: Piece, start: bytes, end: bytes) -> bool:
        """Whether the state has the very same range there and nothing else, as far as that is known unread."""
        base = self._state.runs[-1] if self._state.runs else None
        if piece.tree is None or not isinstance(base, TreeRun):
            return False
        tree = base.metarange
        number = bisect.bisect_left(tree.lasts, piece.last)
        if number == len(tree.ids) or tree.ids[number] != piece.tree.metarange.ids[piece.number]:
            return False
        if number and tree.lasts[number - 1] >= start:
            return False
        return all(is_quiet(run, start, end) for run in self._state.runs[:-1])

    def _walk(self, wanted: Range, place: Interval, *, removing: bool) -> None:
        start, end = place
        if end is not None and start >= end:
            return
        for there in self._state.chunks(start, end):
            bound = there.path(there.rows - 1) + b"\0"
            low = wanted.seek(bound) if wanted.rows else 0
            self._compare(wanted.slice(0, low) if low else EMPTY, there, removing=removing)
            wanted = wanted.slice(low, wanted.rows) if low < wanted.rows else EMPTY
        self._compare(wanted, EMPTY, removing=removing)

    def _compare(self, wanted: Range, there: Range, *, removing: bool) -> None:
        if not there.rows:
            self._added += wanted.rows
            self._writer.add(wanted)
            return
        if not wanted.rows:
            if removing:
                self._removed += there.rows
                self._writer.add(tombstones(there.batch.column(0)))
            return
        written, known, removed = compared(wanted, there)
        self._added += written.rows - known
        self._changed += known
        if removing and len(removed):
            self._removed += len(removed)
            written = _in_order(written, tombstones(removed))
        self._writer.add(written)


def compared(wanted: Range, there: Range) -> tuple[Range, int, pa.Array]:
    """The wanted rows that are new or say something else, how many of them are not new; paths only `there`."""
    ours, theirs = wanted.batch, there.batch
    if wanted.rows == there.rows and ours.column(0).equals(theirs.column(0)):
        where, fresh = None, np.zeros(wanted.rows, dtype=bool)
        gone = theirs.column(0).slice(0, 0)
    else:
        found = pc.index_in(ours.column(0), value_set=theirs.column(0))
        fresh = found.is_null().to_numpy(zero_copy_only=False)
        where = found.fill_null(0)
        kept = np.zeros(there.rows, dtype=bool)
        kept[where.to_numpy()[~fresh]] = True
        gone = theirs.column(0).filter(pa.array(~kept))
    same = ~fresh
    for number, field in enumerate(SCHEMA):
        if field.name not in {"path", "modified"} and same.any():
            same &= _is_equal(ours.column(number), theirs.column(number), where, field.name)
    written = Range(ours.filter(pa.array(~same)))
    return written, int((~same & ~fresh).sum()), gone


def tombstones(paths: pa.Array) -> Range:
    """The rows that say that sorted paths are gone."""
    template = tombstone(b"")
    columns = [
        paths if field.name == "path" else pa.repeat(pa.scalar(value, field.type), len(paths))
        for field, value in zip(SCHEMA, template, strict=True)
    ]
    return Range(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def is_quiet(run: Run, start: bytes, end: bytes) -> bool:
    """Whether a run surely has nothing from `start` up to `end`, as far as can be said without loading ranges."""
    if isinstance(run, TreeRun):
        number = bisect.bisect_left(run.metarange.lasts, start)
        return number == len(run.metarange.ids) or run.metarange.firsts[number] >= end
    if isinstance(run, RangeRun):
        position = run.content.seek(start)
        return position == run.content.rows or run.content.path(position) >= end
    return False


def pieces(wanted: Sequence[Run], place: Interval) -> Iterator[Piece]:
    """The rows of several runs in a place in order: whole ranges of trees where only one run has something."""
    start, end = place
    runs = [run for run in wanted if run.chunk(start, end, 1)[0].rows]
    if len(runs) != 1 or not isinstance(runs[0], TreeRun):
        for chunk in View(list(reversed(runs))).chunks(start, end):
            yield Piece(chunk.path(0), chunk.path(chunk.rows - 1), chunk)
        return
    tree = runs[0].metarange
    for number in range(bisect.bisect_left(tree.lasts, start), len(tree.ids)):
        first, last = tree.firsts[number], tree.lasts[number]
        if end is not None and first >= end:
            return
        if first >= start and (end is None or last < end):
            yield Piece(first, last, None, runs[0], number)
            continue
        rows, _ = RangeRun(runs[0].load(tree.ids[number])).chunk(start, end, MAX_ROWS)
        if rows.rows:
            yield Piece(rows.path(0), rows.path(rows.rows - 1), rows)


class DeltaWriter:
    """Writes sorted rows as a delta: few of them as one range, inline if small, many as a tree.

    Whole ranges of trees in the same store are taken over without reading them, where the cuts allow it.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._pending: list[Range | tuple[TreeRun, int]] = []
        self._writer: TreeWriter | None = None
        self.rows = 0

    def add(self, rows: Range) -> None:
        """Rows that follow on those before."""
        if rows.rows:
            self._next(rows, rows.rows)

    def take(self, tree: TreeRun, number: int) -> None:
        """A range of a tree, all of it."""
        self._next((tree, number), tree.metarange.rows[number])

    def finish(self) -> RunRef:
        """Write what is left."""
        if self._writer is not None:
            return self._writer.finish()
        rows = [each if isinstance(each, Range) else _loaded(*each) for each in self._pending]
        return self._store.write(joined(rows), inline_bytes=INLINE_BYTES)

    def _next(self, item: Range | tuple[TreeRun, int], rows: int) -> None:
        self.rows += rows
        if self._writer is not None:
            self._write(self._writer, item)
            return
        self._pending.append(item)
        if self.rows > MAX_ROWS:
            self._writer = Spool(self._store)
            for each in self._pending:
                self._write(self._writer, each)
            self._pending = []

    @staticmethod
    def _write(writer: TreeWriter, item: Range | tuple[TreeRun, int]) -> None:
        if isinstance(item, Range):
            writer.add(item)
            return
        tree, number = item
        is_last = number == len(tree.metarange.ids) - 1  # it ended with its rows, not by the rule
        if not writer.aligned:
            writer.cut()
        if writer.aligned and not is_last:
            writer.take(tree.metarange, number)
        else:
            writer.add(_loaded(tree, number))


def _loaded(tree: TreeRun, number: int) -> Range:
    return tree.load(tree.metarange.ids[number])


def _is_equal(
    ours: pa.Array, theirs: pa.Array, where: pa.Array | None, name: str
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if where is not None:
        theirs = theirs.take(where)
    if name != "checksum" and ours.equals(theirs):
        return np.ones(len(ours), dtype=bool)
    equal = pc.equal(ours, theirs)
    if name == "checksum":
        for side in (ours, theirs):
            equal = pc.or_(equal, pc.equal(pc.binary_length(side), 0))
    values: np.ndarray[Any, np.dtype[np.bool_]] = equal.to_numpy(zero_copy_only=False)
    return values


def _in_order(left: Range, right: Range) -> Range:
    """Rows of different paths in one order."""
    both = joined([left, right])
    if not left.rows or not right.rows:
        return both
    return Range(both.batch.take(pc.sort_indices(both.batch.column(0))))
