"""Rows of files that are on this disk, whatever brought them there, in the order of the files.

With `on_bad_rows: quarantine` a row that does not fit is put aside; else the readers name every bad line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tulle.pipeline.ingest import SourceFile, read_file
from tulle.pipeline.sources.reading import Ask
from tulle.spec.source import FILE, QUARANTINE, REFUSE, Source


class Repaired(Exception):
    """What a failed run had read, and nobody published, is another file by now, or gone."""


@dataclass(frozen=True, slots=True)
class Files:
    """A reading of files; `remembered` tells which."""

    ask: Ask
    files: Sequence[SourceFile]
    label: str
    remembered: dict[str, Any]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of all files."""
        for file in self.files:
            yield from read_file(file, self.ask.source, self.ask.rejects)


def scratch(folder: Path, number: int, ending: str) -> Path:
    """A place for what was fetched."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"fetched-{number:06d}{ending}"


def puts_aside(source: Source) -> bool:
    """Whether rows that do not fit are put aside."""
    return QUARANTINE in {source.on_bad_rows, source.on_drift}


def is_plain(source: Source) -> bool:
    """Whether it is files of this disk, all of them, every time: then they alone tell whether rows are others."""
    return (
        source.type == FILE and source.load == "full" and not puts_aside(source) and source.on_drift == REFUSE
    )
