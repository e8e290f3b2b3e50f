"""A draft: changes that are put together aside and then put on a branch by one commit, or forgotten.

    draft = repository.draft("main")
    draft.delete_prefix("orders/")
    draft.put("orders/part-0.parquet", data)
    repository.commit_draft("main", draft, "New orders")

Data is durable when it was put, but no ref names it before the commit, and nobody sees anything of a draft. What is
read is what was at the ref when the draft was begun, with the draft's changes over it. Knows nothing of branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tulle.errors import NotFound
from tulle.lake.entry import Entry, checked_path, encoded_text
from tulle.lake.links import Link
from tulle.lake.ranges import Row, entry_of, row_of, tombstone
from tulle.lake.view import View
from tulle.lake.writing import DataPath

if TYPE_CHECKING:
    from tulle.lake.objects import Objects


class Draft:
    """Changes to what is at a ref. For one thread at a time."""

    def __init__(self, repository: Objects, there: View) -> None:
        self._repository = repository
        self._there = there
        self._rows: dict[bytes, Row] = {}

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every entry under a prefix in path order, with the draft's changes."""
        start = encoded_text(prefix)
        found = {entry.path.encode(): entry for entry in self._there.entries(start)}
        for path, row in self._rows.items():
            if path.startswith(start):
                found.pop(path, None)
                if not row[-1]:
                    found[path] = entry_of(row)
        for path in sorted(found):
            yield found[path]

    def get(self, path: str) -> bytes:
        """The bytes at a path. NotFound."""
        encoded = checked_path(path)
        row = self._rows.get(encoded) or self._there.find_row(encoded)
        if row is None or row[-1]:
            raise NotFound(f"there is no '{path}' in repository '{self._repository.name}'")
        return b"".join(self._repository.read(entry_of(row)))

    def location(self, entry: Entry) -> str:
        """Where the data of an entry is: a local file name or a URL an engine can open."""
        return self._repository.location(entry)

    def rows(self) -> list[Row]:
        """The changes, in path order."""
        return [self._rows[path] for path in sorted(self._rows)]

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────────

    def new_data_path(self, suffix: str = ".parquet") -> DataPath:
        """A place nothing was written to yet, for an engine that writes straight to the store; then link it."""
        return self._repository.new_data_path(suffix)

    def put(
        self,
        path: str,
        data: bytes | Iterable[bytes] | Path,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Entry:
        """Store data durably, to be at a path."""
        entry = self._repository.writer.store(path, data, content_type=content_type, metadata=metadata)
        self.take([entry])
        return entry

    def put_many(self, items: Iterable[tuple[str, bytes | Iterable[bytes] | Path]]) -> list[Entry]:
        """Store several, all of them or none."""
        entries = [self._repository.writer.store(path, data) for path, data in items]
        self.take(entries)
        return entries

    def link_many(self, links: Iterable[Link]) -> list[Entry]:
        """Data that is in place already, to be at paths: made durable; see `Repository.link_many`."""
        entries = self._repository.writer.linked(links)
        self.take(entries)
        return entries

    def take(self, entries: Iterable[Entry]) -> None:
        """What another ref of this repository has, to be at the same paths."""
        self._rows |= {row[0]: row for row in map(row_of, entries)}

    def delete(self, path: str) -> None:
        """Nothing is to be at a path, whether or not something is."""
        encoded = checked_path(path)
        self._rows[encoded] = tombstone(encoded)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Nothing is to be at some paths."""
        for path in paths:
            self.delete(path)

    def delete_prefix(self, prefix: str) -> None:
        """Nothing of what is under a prefix now is to be there."""
        self.delete_many([entry.path for entry in self.entries(prefix)])

    def add(self, other: Draft) -> None:
        """The changes of another draft as well, over one's own; they are to be about other paths."""
        self._rows |= other._rows
