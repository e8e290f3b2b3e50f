"""A spool: sorted rows of a long listing, put down as they come, so that a crash loses little of them.

Complete ranges are written as they fill; at a checkpoint a metarange of them is put down, under a name that can
be kept with the place the listing had reached. Ranges are named by what they say: what a spool wrote is what a
commit will hold, nothing is written twice. Knows nothing of where rows come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from tulle.lake.ranges import Range
from tulle.lake.runs import Metarange, RunStore, TreeRun, TreeWriter


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a spool is: the metarange of its complete ranges ("" for none), their rows, their last path."""

    tree: str = ""
    rows: int = 0
    last: bytes = b""


class Spool(TreeWriter):
    """Writes a tree that can be gone on with after a crash."""

    def __init__(self, store: RunStore, mark: Mark | None = None) -> None:
        super().__init__(store)
        self._done = 0
        if mark is not None and mark.tree:
            known = store.metarange(mark.tree)
            self._metarange = Metarange(
                list(known.ids), list(known.firsts), list(known.lasts), list(known.rows)
            )
            self._done = sum(known.rows)

    @property
    def rows(self) -> int:
        """How many rows were given."""
        return self._done

    def add(self, rows: Range) -> None:
        """Rows that follow on those before."""
        self._done += rows.rows
        super().add(rows)

    def checkpoint(self) -> Mark:
        """Put down what is complete."""
        self.cut()
        self._flush()
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


def opened(store: RunStore, name: str) -> TreeRun:
    """The tree of a metarange."""
    return TreeRun(store.metarange(name), store.range)
