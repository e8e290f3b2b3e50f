"""The files of one data set: new ones are written where they stay, then take their place together.

Nothing here is visible to anybody until the draft is committed. Knows nothing of what the rows are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tulle.errors import Broken
from tulle.lake.draft import Draft
from tulle.lake.repository import Link
from tulle.pipeline.table import PARQUET


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that was begun: where its bytes are, what the lake calls that place, what it will be called."""

    path: Path
    address: str
    name: str


class DataFiles:
    """A data set's files, while a job changes them."""

    def __init__(self, draft: Draft, data_set: str) -> None:
        self._draft = draft
        self._folder = f"{data_set}/"
        self._new: list[NewFile] = []
        self.present: dict[str, str] = {
            entry.path: draft.location(entry)
            for entry in draft.entries(self._folder)
            if entry.path.endswith(".parquet")
        }

    def new(self, name: str) -> Path:
        """A place for a new file, which will be called `name` in the data set."""
        place = self._draft.new_data_path(".parquet")
        if place.path is None:
            raise Broken(
                "data can only be written to a store on this machine so far", hint="use a local storage"
            )
        self._new.append(NewFile(place.path, place.address, f"{self._folder}{name}"))
        return place.path

    def drop(self, path: Path) -> None:
        """Forget a new file: it has no rows."""
        self._new = [file for file in self._new if file.path != path]
        path.unlink(missing_ok=True)

    def settle(self, keep: Sequence[str] = ()) -> None:
        """The new files, and those of the present ones that are named in `keep`, are the data set from now on."""
        links = [self._link(file) for file in self._new]
        kept = set(keep)
        if not kept:
            self._draft.delete_prefix(self._folder)
        elif gone := [path for path in self.present if path not in kept]:
            self._draft.delete_many(gone)
        if links:
            self._draft.link_many(links)
        self._new = []

    def give_up(self) -> None:
        """Remove what was written and has no place yet."""
        for file in self._new:
            file.path.unlink(missing_ok=True)

    def rows(self, keep: Sequence[str]) -> int:
        """How many rows are in those of the present files."""
        return sum(pq.read_metadata(self.present[path]).num_rows for path in keep)

    @staticmethod
    def _link(file: NewFile) -> Link:
        with file.path.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        return Link(file.name, file.address, file.path.stat().st_size, checksum, content_type=PARQUET)


@contextmanager
def data_files(draft: Draft, data_set: str) -> Iterator[DataFiles]:
    """A data set's files to change; what has no place at the end of a block that fails is removed."""
    files = DataFiles(draft, data_set)
    try:
        yield files
    except BaseException:
        files.give_up()
        raise
