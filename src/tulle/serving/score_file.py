"""All rows of a relation answered by an endpoint of a package, into one Parquet file.

The same for whoever asks: a batch, or a job of a product. Knows files, and nothing of the lake that they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tulle.config import Settings
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Relation, quoted
from tulle.serving import generation
from tulle.serving.elsewhere import connect_in
from tulle.serving.forecast import Forecast
from tulle.serving.live import Following
from tulle.serving.loaded import Loaded, load
from tulle.serving.outside import outside_file
from tulle.serving.package import Package
from tulle.serving.refresh import live_folder
from tulle.serving.scoring import CHUNK, Scoring
from tulle.serving.scoring_series import SeriesScoring

_ROWS = "rows"
_ROW_GROUP_ROWS = 122_880


def score_file(
    chosen: Package,
    endpoint: str,
    rows: Relation,
    target: Path,
    *,
    engine: DuckEngine,
    settings: Settings,
    renamed: Mapping[str, str],
    keep: Sequence[str] | None,
    before: Callable[[Loaded], None] | None = None,
) -> tuple[Scoring | SeriesScoring, Mapping[str, str]]:
    """Write the rows with their answers to `target`; what came of it, and the commits that were answered from.

    `before` is given the service when it is loaded and asked nothing yet. Invalid for rows that lack what is sent.
    """
    outside = outside_file(settings.state_folder, chosen.service)  # once it is deployed
    loaded = load(generation.unpack(chosen, settings), outside=outside)
    connect_in(loaded, settings.folder)
    if before is not None:
        before(loaded)
    following = Following(loaded, live_folder(settings))
    if following.is_needed:
        following.begin()
    rows = replace(rows, name=_ROWS)
    found = engine.describe(f"SELECT * FROM {quoted(_ROWS)}", [rows])  # noqa: S608
    known = [ColumnType(column.name, column.type) for column in found]
    scoring: Scoring | SeriesScoring
    order = ""
    if isinstance(loaded.endpoints[endpoint], Forecast):
        scoring = SeriesScoring(loaded, endpoint, known, renamed)
        order = scoring.order
    else:
        scoring = Scoring(loaded, endpoint, known, renamed, keep)
    with (
        engine.batches(f"SELECT * FROM {quoted(_ROWS)}{order}", [rows], rows=CHUNK) as batches,  # noqa: S608
        pq.ParquetWriter(target, scoring.schema, compression="zstd") as writer,
    ):
        for table in _grouped(scoring.scored(batches), scoring.schema):
            writer.write_table(table, row_group_size=_ROW_GROUP_ROWS)
    return scoring, loaded.endpoints[endpoint].commits


def _grouped(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """As many rows together as a file has in one group."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _ROW_GROUP_ROWS:
            yield pa.Table.from_batches(waiting, schema)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting, schema)
