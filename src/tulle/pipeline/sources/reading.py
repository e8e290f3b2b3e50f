"""What every kind of source does: asked for rows, it gives them in batches of the mesh's own types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from tulle.config import Settings
from tulle.engine.engine import ColumnType
from tulle.errors import Invalid
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.fitting import Rejects
from tulle.spec.product import InputPort
from tulle.spec.source import Source
from tulle.state.connections import Connection


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted of a source."""

    port: InputPort
    source: Source
    connection: Connection | None
    since: Cursor | None  # only rows from there on need to be given
    before: tuple[ColumnType, ...]  # the columns that were read before, empty at first
    rejects: Rejects
    settings: Settings
    folder: Path  # for files that do not stay
    product_folder: Path
    product_label: str
    say: Callable[[str], None]
    files: dict[str, str] = field(default_factory=dict)  # read before: name and what identifies the content
    unpublished: frozenset[str] = frozenset()  # those of them that only a run which failed has read

    def connected(self) -> Connection:
        """The connection of a source that cannot do without."""
        if self.connection is None:
            raise Invalid(f"the source of input port '{self.port.title}' has no connection")
        return self.connection


class Reading(Protocol):
    """The rows that were asked for. `remembered` is complete when `batches` has ended."""

    @property
    def label(self) -> str:
        """What messages call it."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in batches of one schema."""

    @property
    def remembered(self) -> dict[str, Any]:
        """What the next reading needs to know beside the cursor."""


Opener = Callable[[Ask], AbstractContextManager[Reading]]
