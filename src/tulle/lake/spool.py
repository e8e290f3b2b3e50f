"""A spool: sorted rows of a long listing, put down as they come, so that a crash loses little of them.

Complete ranges are written as they fill; at a checkpoint a metarange of them is put down, under a name that can
be kept with the place the listing had reached. Ranges are named by what they say: what a spool wrote is what a
commit will hold, nothing is written twice. Knows nothing of where rows come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tulle.lake.ranges import Range, cuts, identity, joined
from tulle.lake.runs import AT_A_TIME, Metarange, Run, RunRef, RunStore, TreeRun, TreeWriter

WRITERS = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a spool is: the metarange of its complete ranges ("" for none), their rows, their last path."""

    tree: str = ""
    rows: int = 0
    last: bytes = b""


class Spool(TreeWriter):
    """Writes a tree that can be gone on with after a crash, while further rows are found.

    Ranges named in `known` are in the store already, durably, and are not written.
    """

    def __init__(
        self, store: RunStore, mark: Mark | None = None, known: Collection[str] = frozenset()
    ) -> None:
        super().__init__(store)
        self._known = known
        self._done = 0
        self._pool: ThreadPoolExecutor | None = None
        self._writing: deque[tuple[int, Future[str]]] = deque()
        if mark is not None and mark.tree:
            tree = store.metarange(mark.tree)
            self._metarange = Metarange(list(tree.ids), list(tree.firsts), list(tree.lasts), list(tree.rows))
            self._done = sum(tree.rows)

    @property
    def rows(self) -> int:
        """How many rows were given."""
        return self._done

    def add(self, rows: Range) -> None:
        """Rows that follow on those before."""
        self._done += rows.rows
        self._deleted += int(rows.deleted.sum())
        start = 0
        for stop in cuts(rows, self._pending_rows):  # only what a range has of two batches is copied
            self._write(joined([*self._pending, rows.slice(start, stop)]))
            self._pending, self._pending_rows = [], 0
            start = stop
        if start < rows.rows:
            self._pending.append(rows.slice(start, rows.rows))
            self._pending_rows += rows.rows - start

    def checkpoint(self) -> Mark:
        """Put down what is complete."""
        self.cut()
        self._flush()
        self._settle(0)
        if not self._metarange.ids:
            return Mark()
        copy = Metarange(
            list(self._metarange.ids),
            list(self._metarange.firsts),
            list(self._metarange.lasts),
            list(self._metarange.rows),
        )
        return Mark(self._store.put_metarange(copy), sum(copy.rows), copy.lasts[-1])

    def end(self) -> str:
        """Put down everything and return the name of the metarange."""
        return self.finish().id

    def finish(self) -> RunRef:
        """Put down what is left and the metarange."""
        try:
            self.cut()
            for rest in self._pending:
                self._write(rest)
            self._pending = []
            self._flush()
            self._settle(0)
            return super().finish()
        finally:
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None

    def _flush(self) -> None:
        """Begin to write ranges, and wait only when many are under way."""
        for number, content in self._unwritten:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="lake-spool")
            self._writing.append((number, self._pool.submit(self._put, content)))
        self._unwritten = []
        self._settle(2 * AT_A_TIME)

    def _put(self, content: Range) -> str:
        if self._known:
            id_ = identity(content)
            if id_ in self._known:
                return id_
        return self._store.put_range(content)

    def _settle(self, most: int) -> None:
        """Wait until at most so many ranges are under way."""
        while len(self._writing) > most:
            number, written = self._writing.popleft()
            self._metarange.ids[number] = written.result()


def ranges_of(runs: Iterable[Run]) -> frozenset[str]:
    """The names of the ranges of those runs that are trees."""
    return frozenset(id_ for run in runs if isinstance(run, TreeRun) for id_ in run.metarange.ids)


def opened(store: RunStore, name: str) -> TreeRun:
    """The tree of a metarange."""
    return TreeRun(store.metarange(name), store.range)
