"""What a Parquet file's own footer says of its columns, read without reading a row.

Knows nothing of who may see a value: whoever shows least and most leaves out what is masked.
"""

# ruff: noqa: S608  values go through `literal`, types through a pattern
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tulle.engine.duck import Reading
from tulle.engine.engine import literal

_FLAT = re.compile(r"[A-Z_ ]+(\(\d+, ?\d+\))?")  # of what is nested, the leaves are the file's columns


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column: its nulls, least and most as text, and stored bytes. None where the file does not say."""

    name: str
    type: str
    nulls: int | None
    least: str | None
    most: str | None
    size: int


@dataclass(frozen=True, slots=True)
class ParquetFacts:
    """A file: its groups of rows, how they are packed, who wrote it, and its columns."""

    row_groups: int
    compression: str
    created_by: str
    columns: tuple[ColumnFacts, ...]


def parquet_facts(session: Reading, place: str, columns: Sequence[tuple[str, str]]) -> ParquetFacts:
    """The facts of the file at `place`, of those of its columns (name, type) that are named."""
    file = literal(place)
    groups, created_by = session.row(f"SELECT num_row_groups, created_by FROM parquet_file_metadata({file})")
    session.rows(f"CREATE TEMP TABLE footer AS SELECT * FROM parquet_metadata({file})")
    compression = session.row("SELECT string_agg(DISTINCT lower(compression), ', ') FROM footer")[0]
    stored = {
        name: (size, nulls)
        for name, size, nulls in session.rows(
            "SELECT split_part(path_in_schema, ', ', 1), sum(total_compressed_size),"
            " CASE WHEN count(stats_null_count) = count(*) THEN sum(stats_null_count) END"
            " FROM footer GROUP BY 1"
        )
    }
    bounds = _bounds(session, [(n, kind) for n, kind in columns if _is_flat(kind)])
    return ParquetFacts(
        int(groups),
        str(compression or ""),
        str(created_by or ""),
        tuple(_facts(name, kind, stored.get(name), bounds.get(name)) for name, kind in columns),
    )


def _facts(
    name: str, kind: str, stored: tuple[int, int | None] | None, bound: tuple[str | None, str | None] | None
) -> ColumnFacts:
    size, nulls = stored or (0, None)
    least, most = bound or (None, None)
    return ColumnFacts(
        name, kind, int(nulls) if nulls is not None and _is_flat(kind) else None, least, most, int(size)
    )


def _bounds(session: Reading, columns: Sequence[tuple[str, str]]) -> dict[str, tuple[str | None, str | None]]:
    """Least and most of each column; the footer has them for each group of rows, as text."""
    by_type: dict[str, list[str]] = {}
    for name, kind in columns:
        by_type.setdefault(kind, []).append(name)
    found: dict[str, tuple[str | None, str | None]] = {}
    for kind, names in by_type.items():
        rows = session.rows(
            f"SELECT path_in_schema, CAST(min(TRY_CAST(stats_min_value AS {kind})) AS VARCHAR),"
            f" CAST(max(TRY_CAST(stats_max_value AS {kind})) AS VARCHAR) FROM footer"
            f" WHERE path_in_schema IN ({', '.join(map(literal, names))}) GROUP BY 1"
        )
        found |= {name: (least, most) for name, least, most in rows}
    return found


def _is_flat(kind: str) -> bool:
    return _FLAT.fullmatch(kind) is not None
