"""Links: data that is in place already, to be put under paths without copying; one by one or as a table.

A table of links has the columns path, address and size (bytes) and may have checksum (hex), etag, content_type
and modified (microseconds since the epoch). It becomes rows column by column: an import of millions makes no
object per row. Knows nothing of where links may point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tulle.errors import Invalid
from tulle.lake.entry import MAX_PATH_BYTES
from tulle.lake.ranges import SCHEMA, Range

NEEDED = {"path": pa.string(), "address": pa.string(), "size": pa.int64()}
OPTIONAL = {
    "checksum": pa.string(),
    "etag": pa.string(),
    "content_type": pa.string(),
    "modified": pa.int64(),
}


@dataclass(frozen=True, slots=True)
class Link:
    """A data object to put under a path without copying it.

    `address` is what `new_data_path` gave, or an allowed URL outside the lake; `size` is in bytes, `checksum`
    is SHA-256 in hex.
    """

    path: str
    address: str
    size: int | None = None
    checksum: str = ""
    etag: str = ""
    content_type: str = ""
    metadata: Mapping[str, str] | None = None


def sorted_table(table: pa.Table) -> pa.Table:
    """A table of links in path order, its types ours, its values checked; of equal paths the last row stays.

    Raises Invalid, naming the column, when a table cannot be one of links.
    """
    columns = {}
    for name, kind in (NEEDED | OPTIONAL).items():
        if name not in table.column_names:
            if name in NEEDED:
                raise Invalid(
                    f"a table of links has no column '{name}'", hint="path, address and size are needed"
                )
            continue
        if table.column(name).null_count:
            raise Invalid(f"column '{name}' of a table of links has empty values")
        try:
            columns[name] = table.column(name).cast(kind)
        except pa.ArrowException as exc:
            raise Invalid(f"column '{name}' of a table of links is no {kind}: {exc}") from exc
    columns["path"] = _checked_paths(columns["path"])
    if len(table) and pc.min(columns["size"]).as_py() < 0:
        raise Invalid("column 'size' of a table of links has negative values")
    if "checksum" in columns:
        columns["checksum"] = _checksums(columns["checksum"])
    return _in_order(pa.table(columns))


def rows_of(batch: pa.RecordBatch, modified: float) -> Range:
    """Links of a sorted table as rows; `modified` is in seconds since the epoch."""
    count = batch.num_rows
    columns = {
        "checksum": pa.array([b""] * count, pa.binary()),
        "etag": pa.array([""] * count),
        "modified": pa.array(np.full(count, round(modified * 1_000_000))),
        "content_type": pa.array([""] * count),
        "metadata": pa.array([""] * count),
        "deleted": pa.array(np.zeros(count, dtype=bool)),
        **{name: batch.column(name) for name in batch.schema.names},
    }
    return Range(pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA))


def is_sha256(text: str) -> bool:
    """Whether the text is 64 hex digits."""
    return len(text) == 64 and all(c in "0123456789abcdefABCDEF" for c in text)


def _checked_paths(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    encoded = paths.cast(pa.binary())
    lengths = pc.min_max(pc.binary_length(encoded)).as_py()
    if len(paths) and not 0 < lengths["min"] <= lengths["max"] <= MAX_PATH_BYTES:
        raise Invalid(
            f"paths of a table of links have {lengths['min']} to {lengths['max']} bytes",
            hint=f"1 to {MAX_PATH_BYTES} are allowed",
        )
    if pc.any(pc.match_substring(paths, "\0")).as_py():
        raise Invalid("a path of a table of links holds a NUL character")
    return encoded


def _checksums(texts: pa.ChunkedArray) -> pa.Array:
    found = texts.to_pylist()
    wrong = next((text for text in found if text and not is_sha256(text)), None)
    if wrong is not None:
        raise Invalid(f"'{wrong}' is no checksum", hint="64 hex digits of SHA-256, or nothing")
    return pa.array([bytes.fromhex(text) for text in found], pa.binary())


def _in_order(table: pa.Table) -> pa.Table:
    if len(table) < 2:
        return table
    paths = table.column("path")
    if pc.all(pc.less(paths.slice(0, len(table) - 1), paths.slice(1))).as_py():
        return table
    table = table.take(pc.sort_indices(paths))  # stable: of equal paths the last row stays last
    paths = table.column("path")
    is_last = pc.not_equal(paths.slice(0, len(table) - 1), paths.slice(1)).to_numpy()
    return table.filter(pa.array(np.append(is_last, True)))
