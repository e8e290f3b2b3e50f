"""The columns that were followed through a product's SQL last, kept in a file: to follow them again takes the engine
half a millisecond a model, and nearly always nothing has changed.

What is kept is found again by a digest of all that decided it, so it is never out of date; only what had no problems
is kept. The file may be removed at any time. Knows nothing of SQL.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.engine.engine import ColumnType
from tulle.spec.mesh import MeshSpec

_FORMAT = 1  # raise it when columns are followed in another way
_MOST = 8  # of each product: what is edited, and the releases that environments are on


def digest_of(parts: object) -> str:
    """The name by which columns are found again: of everything that decides them, as JSON can hold it."""
    return hashlib.sha256(json.dumps([_FORMAT, parts], sort_keys=True).encode()).hexdigest()


class ColumnsFile:
    """What is kept of one product."""

    def __init__(self, spec: MeshSpec, product: str) -> None:
        self._file = spec.settings.run_folder / "columns" / f"{product}.json"
        self._writes = spec.settings.state_folder.is_dir()
        self._kept = _read(self._file)

    def get(self, digest: str) -> dict[str, tuple[ColumnType, ...] | None] | None:
        """The columns of each data set under a digest; None where nothing is kept under it."""
        try:
            kept = self._kept[digest]
            return {
                name: None if columns is None else tuple(ColumnType(str(c), str(kind)) for c, kind in columns)
                for name, columns in kept.items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            return None  # or somebody wrote to the file: they are followed again

    def put(self, digest: str, columns: Mapping[str, Sequence[ColumnType] | None]) -> None:
        """Keep columns under a digest. Without room for it, or in a mesh that is only looked at, nothing is kept."""
        if not self._writes:
            return
        plain = {
            name: None if c is None else [[each.name, each.type] for each in c] for name, c in columns.items()
        }
        others = [(key, value) for key, value in self._kept.items() if key != digest]
        self._kept = dict([*others[1 - _MOST :], (digest, plain)])
        beside = self._file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self._kept))
            beside.replace(self._file)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
