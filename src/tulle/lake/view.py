"""Reading several runs as one: what a path holds is what the newest run that names it says.

Knows nothing of where runs come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from tulle.lake.entry import Entry, Page, successor
from tulle.lake.ranges import EMPTY, Range, Row, entry_of, joined
from tulle.lake.runs import Run

CHUNK_ROWS = 32768


class View:
    """Runs, newest first, as one sorted state."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def find(self, path: bytes) -> Entry | None:
        """The entry at exactly `path`, or None."""
        row = self.find_row(path)
        return None if row is None or row[-1] else entry_of(row)

    def find_row(self, path: bytes) -> Row | None:
        """The newest row at `path`, which may be a tombstone."""
        for run in self.runs:
            row = run.find(path)
            if row is not None:
                return row
        return None

    def chunks(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        rows: int = CHUNK_ROWS,
        tombstones: bool = False,
    ) -> Iterator[Range]:
        """The state between two paths in order, in pieces that follow on one another.

        `rows` bounds what is taken from each run at first; where all of it was removed, more is taken next.
        Tombstones are left out unless asked for.
        """
        while True:
            parts: list[Range] = []
            bound: bytes | None = None
            for run in reversed(self.runs):  # the base first: it is the densest and sets the bound
                part, stop = run.chunk(start, end if bound is None else bound, rows)
                bound = bound if stop is None else stop
                parts.insert(0, part)
            if bound is not None:
                parts = [part.slice(0, part.seek(bound)) if part.rows else part for part in parts]
            merged = overlay(parts)
            if not tombstones:
                merged = merged.live()
            if merged.rows:
                yield merged
            if merged.rows * 4 < rows:
                rows = max(rows, min(rows * 4, CHUNK_ROWS))
            if bound is None:
                return
            start = bound

    def entries(self, prefix: bytes = b"", after: bytes = b"", *, rows: int = CHUNK_ROWS) -> Iterator[Entry]:
        """Entries under `prefix` whose path comes after `after`, in path order."""
        start = max(prefix, after + b"\0") if after else prefix
        for chunk in self.chunks(start, successor(prefix), rows=rows):
            for row in chunk.all_rows():
                yield entry_of(row)

    def page(self, prefix: bytes, after: bytes, limit: int, delimiter: bytes) -> Page:
        """At most `limit` entries and prefixes after `after`; see Page."""
        if not delimiter:
            return self._flat_page(prefix, after, limit)
        entries: list[Entry] = []
        prefixes: list[str] = []
        end = successor(prefix)
        last = after
        start: bytes | None = max(prefix, after + b"\0") if after else prefix
        if after.endswith(delimiter) and len(after) > len(prefix):
            start = successor(after)  # `after` was a prefix: everything below it was told
        while start is not None and (end is None or start < end):
            jump: bytes | None = None  # behind the last folder, whose content may go on for long
            for chunk in self.chunks(start, end, rows=limit + 1):
                position = 0 if jump is None else chunk.seek(jump)
                while position < chunk.rows:
                    if len(entries) + len(prefixes) == limit:
                        return Page(tuple(entries), tuple(prefixes), last.decode())
                    path = chunk.path(position)
                    cut = path.find(delimiter, len(prefix))
                    if cut < 0:
                        entries.append(entry_of(chunk.row(position)))
                        last = path
                        jump = None
                        position += 1
                    else:
                        last = path[: cut + len(delimiter)]
                        prefixes.append(last.decode())
                        jump = successor(last)
                        position = chunk.seek(jump or path, position)
                if jump is not None:
                    break
            start = jump
        return Page(tuple(entries), tuple(prefixes), None)

    def _flat_page(self, prefix: bytes, after: bytes, limit: int) -> Page:
        found: list[Entry] = []
        start = max(prefix, after + b"\0") if after else prefix
        for chunk in self.chunks(start, successor(prefix), rows=limit + 1):
            wanted = limit + 1 - len(found)
            found.extend(map(entry_of, chunk.slice(0, min(wanted, chunk.rows)).all_rows()))
            if len(found) > limit:
                return Page(tuple(found[:limit]), (), found[limit - 1].path if limit else None)
        return Page(tuple(found), (), None)


def overlay(parts: Sequence[Range]) -> Range:
    """Several sorted pieces, newest first, merged into one; of equal paths the newest row stays."""
    filled = [(age, part) for age, part in enumerate(parts) if part.rows]
    if not filled:
        return EMPTY
    if len(filled) == 1:
        return filled[0][1]
    # The largest piece is the trunk; the rows of the others are put into it one by one.
    trunk_age, trunk = max(filled, key=lambda item: item[1].rows)
    newest: dict[bytes, tuple[int, int]] = {}  # path → (age, position in the joined others)
    others: list[Range] = []
    offset = 0
    for age, part in filled:
        if part is trunk:
            continue
        for position in range(part.rows):
            newest.setdefault(part.path(position), (age, offset + position))
        others.append(part)
        offset += part.rows
    keep = np.ones(trunk.rows, dtype=bool)
    keys: list[int] = []
    positions: list[int] = []
    low = 0
    for path in sorted(newest):
        age, position = newest[path]
        low = trunk.seek(path, low)
        if low < trunk.rows and trunk.path(low) == path:
            if trunk_age < age:
                continue
            keep[low] = False
        keys.append(2 * low)  # even: before the trunk's row `low`, whose key is 2 * low + 1
        positions.append(trunk.rows + position)
    kept = np.flatnonzero(keep)
    all_keys = np.concatenate([2 * kept + 1, np.array(keys, dtype=np.int64)])
    all_positions = np.concatenate([kept, np.array(positions, dtype=np.int64)])
    order = all_positions[np.argsort(all_keys, kind="stable")]
    together = joined([trunk, *others])
    return Range(together.batch.take(pa.array(order)))
