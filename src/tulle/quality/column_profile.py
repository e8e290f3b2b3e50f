"""What the columns of a data set hold: counts, extremes, spread, the most frequent values, a histogram.

Of a large data set (more than `MOST_ROWS`) only a sample of row groups is looked at, evenly over its files; the number
of rows and of nulls, and the extremes that the files' feet tell, are still those of all rows. Knows neither runs nor
who may see a value: whoever asks names the columns whose values are left out.
"""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`
from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tulle.engine.engine import ColumnType, Engine, Relation, quoted
from tulle.quality.verdict import plain

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MOST_ROWS = 500_000
MOST_COLUMNS = 2_000
BINS = 20
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TOP = 10
# What is told of a column whose values are nobody's to see; of few rows a mean is one of them.
NO_VALUES: Mapping[str, Any] = {
    **dict.fromkeys(("min", "max", "mean", "stddev")),
    "quantiles": {},
    "top": [],
    "histogram": [],
    "hidden": True,
}
_AT_ONCE = 50  # columns a statement profiles
_FEW = 1_000  # different values that are always counted one by one
_NUMBERS = ("integer", "double", "decimal")
_TIMES = ("date", "timestamp")


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """The values of one column.

    `nulls` is of all rows; what follows is of the rows looked at. `distinct` counts different values, exactly where
    `distinct_exact`, else within some percent. `min`, `max` and `top` (the most frequent values, each `{value, count}`)
    are plain values, dates as ISO text, decimals as text. `mean`, `stddev`, `quantiles` (by `0.05` … `0.95`) are of
    finite numbers; `histogram` (bins of equal width, each `{from, to, count}`) of numbers, and of times as ISO text.
    `hidden`: its values are nobody's to see, so what `NO_VALUES` names is left out.
    """

    name: str
    type: str
    nulls: int
    distinct: int | None = None
    distinct_exact: bool = False
    min: Any = None
    max: Any = None
    mean: float | None = None
    stddev: float | None = None
    quantiles: Mapping[str, float] = field(default_factory=dict)
    top: tuple[Mapping[str, Any], ...] = ()
    histogram: tuple[Mapping[str, Any], ...] = ()
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class DataSetProfile:
    """The columns of a data set of `rows` rows, of which `looked_at` were looked at."""

    rows: int
    looked_at: int
    columns: tuple[ColumnProfile, ...]

    def as_dict(self) -> dict[str, Any]:
        """The profile as plain values."""
        return {
            "rows": self.rows,
            "looked_at": self.looked_at,
            "columns": [
                {**asdict(c), "top": list(c.top), "histogram": list(c.histogram)} for c in self.columns
            ],
        }


def profile(
    engine: Engine,
    relation: Relation,
    folder: Path,
    *,
    shown: Callable[[Collection[str]], Collection[str]] = lambda names: names,
) -> DataSetProfile:
    """The profile of a data set's files. `folder` is for a sample, and made when needed; `shown` says of which of the
    columns values may be told. Invalid for columns that a data set cannot hold."""
    sample = _Sample(relation, folder)
    try:
        looked_at = sample.relation
        columns = engine.describe(f"SELECT * FROM {quoted(relation.name)}", [looked_at])[:MOST_COLUMNS]
        found: list[ColumnProfile] = []
        for start in range(0, len(columns), _AT_ONCE):
            found += _Looking(engine, looked_at, columns[start : start + _AT_ONCE]).profiles()
        if sample.whole is not None:
            found = [sample.whole.corrected(column) for column in found]
        readable = shown([column.name for column in found])
        told = tuple(c if c.name in readable else _without_values(c) for c in found)
        return DataSetProfile(sample.rows, sample.looked_at, told)
    finally:
        sample.remove()


def _without_values(column: ColumnProfile) -> ColumnProfile:
    empty: Any = {**NO_VALUES, "top": (), "histogram": ()}
    return replace(column, **empty)


# ── a sample of what is large ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Feet:
    """What the feet of all files tell of all rows: nulls and extremes by column."""

    nulls: Mapping[str, int]
    extremes: Mapping[str, tuple[Any, Any]]

    def corrected(self, column: ColumnProfile) -> ColumnProfile:
        nulls = self.nulls.get(column.name, column.nulls)
        low, high = self.extremes.get(column.name, (None, None))
        if low is None or not column.type.startswith((*_NUMBERS, *_TIMES)):
            return replace(column, nulls=nulls)  # the extremes of text may be cut in a foot
        return replace(column, nulls=nulls, min=plain(low), max=plain(high))


class _Sample:
    """The rows that are looked at: all of a small data set, some row groups of a large one in a file of their own."""

    def __init__(self, relation: Relation, folder: Path) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  heavy

        self.relation = relation
        self.whole: _Feet | None = None
        self._file: Path | None = None
        files = [pq.ParquetFile(file) for file in relation.files]
        try:
            self.rows = self.looked_at = sum(file.metadata.num_rows for file in files)
            if self.rows > MOST_ROWS:
                self.whole = _feet(files)
                folder.mkdir(parents=True, exist_ok=True)
                # A name of its own: data sets of two products may be called alike, and looked at side by side.
                self._file = folder / f"{relation.name}-{uuid4().hex}.parquet"
                self.looked_at = _write_some(files, self._file)
                self.relation = replace(relation, files=(str(self._file),))
        except BaseException:
            self.remove()
            raise
        finally:
            for file in files:
                file.close()

    def remove(self) -> None:
        """Take the sample away."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _write_some(files: Sequence[pq.ParquetFile], target: Path) -> int:
    """Write the first rows of every row group, or of some of many, MOST_ROWS in all; how many they were."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    groups = [(file, group) for file in files for group in range(file.metadata.num_row_groups)]
    step = max(1, len(groups) // 16)
    chosen = groups[step // 2 :: step]
    share = MOST_ROWS // len(chosen)
    written = 0
    with pq.ParquetWriter(target, files[0].schema_arrow) as writer:
        for file, group in chosen:
            left = share
            for batch in file.iter_batches(min(share, 65_536), [group]):
                some = batch.slice(0, left)
                writer.write_batch(some)
                left -= some.num_rows
                written += some.num_rows
                if not left:
                    break
    return written


def _feet(files: Sequence[pq.ParquetFile]) -> _Feet:
    nulls: dict[str, int | None] = {}
    extremes: dict[str, tuple[Any, Any] | None] = {}
    for file in files:
        for group in range(file.metadata.num_row_groups):
            columns = file.metadata.row_group(group)
            for position in range(min(columns.num_columns, MOST_COLUMNS)):
                chunk = columns.column(position)
                name, told = chunk.path_in_schema, chunk.statistics
                before = nulls.get(name, 0)
                known = told is not None and told.has_null_count
                nulls[name] = before + told.null_count if known and before is not None else None
                if known and told.null_count == chunk.num_values:
                    continue
                if told is None or not told.has_min_max or extremes.get(name, ()) is None:
                    extremes[name] = None
                    continue
                low, high = extremes.get(name) or (told.min, told.max)
                extremes[name] = (min(low, told.min), max(high, told.max))
    return _Feet(
        {name: n for name, n in nulls.items() if n is not None},
        {name: pair for name, pair in extremes.items() if pair is not None},
    )


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────


class _Looking:
    """Some columns of one relation: a pass for counts and spread, and one for top values and histograms."""

    def __init__(self, engine: Engine, relation: Relation, columns: Sequence[ColumnType]) -> None:
        self._engine, self._relation, self._columns = engine, relation, columns

    def profiles(self) -> list[ColumnProfile]:
        """The profiles, in the order of the columns."""
        parts = [part for i, column in enumerate(self._columns) for part in _counts(column, i)]
        first = self._one_row(["count(*) AS n", *parts])
        parts = [part for i, column in enumerate(self._columns) for part in self._values(column, i, first)]
        second = self._one_row(parts) if parts else {}
        return [_read(column, i, first, second) for i, column in enumerate(self._columns)]

    def _one_row(self, parts: Sequence[str]) -> dict[str, Any]:
        sql = f"SELECT {', '.join(parts)} FROM {quoted(self._relation.name)}"
        (row,) = self._engine.query(sql, [self._relation]).to_pylist()
        return dict(row)

    def _values(self, column: ColumnType, i: int, first: Mapping[str, Any]) -> list[str]:
        found = []
        name, table = quoted(column.name), quoted(self._relation.name)
        if first[f"d{i}"] is not None and first[f"d{i}"] <= max(_FEW, first[f"c{i}"] // 2):
            groups = (
                f"SELECT {name} AS v, count(*) AS n FROM {table} WHERE {name} IS NOT NULL GROUP BY {name}"
            )
            shown = f"CAST(CAST(v AS {column.type.upper()}) AS VARCHAR)" if column.type in _TIMES else "v"
            ranked = f"SELECT {shown} AS v, n, count(*) OVER () AS d FROM ({groups}) ORDER BY n DESC, v LIMIT {_TOP}"
            found.append(f"(SELECT list({{'v': v, 'n': n, 'd': d}}) FROM ({ranked})) AS t{i}")
        low, high = first.get(f"l{i}"), first.get(f"h{i}")
        if low is not None and high is not None and 0 < high - low < math.inf:
            number, finite = _number(column)
            bin_ = (
                f"CAST(least(floor(({number} - {low!r}) / {high - low!r} * {BINS}), {BINS - 1}) AS INTEGER)"
            )
            found.append(f"histogram({bin_}) FILTER (WHERE {finite}) AS b{i}")
        if found and len(found) == 1 and found[0].endswith(f" AS t{i}"):
            # Beside no aggregate a subquery would be given once a row.
            found.append(f"count(*) AS x{i}")
        return found


def _number(column: ColumnType) -> tuple[str, str]:
    """A column as a number, and the condition under which it is a finite one."""
    name = quoted(column.name)
    number = f"epoch({name})" if column.type in _TIMES else f"CAST({name} AS DOUBLE)"
    return number, f"isfinite({name if column.type in _TIMES else number})"


def _counts(column: ColumnType, i: int) -> list[str]:
    name = quoted(column.name)
    found = [f"count({name}) AS c{i}"]
    if column.type == "binary":
        return [*found, f"NULL AS d{i}"]
    found.append(f"approx_count_distinct({name}) AS d{i}")
    if column.type in _TIMES:
        number, finite = _number(column)
        found += [
            f"min({number}) FILTER (WHERE {finite}) AS l{i}",
            f"max({number}) FILTER (WHERE {finite}) AS h{i}",
        ]
        kind = column.type.upper()  # without a zone: it is UTC
        found += [f"CAST(CAST({end}({name}) AS {kind}) AS VARCHAR) AS {end}{i}" for end in ("min", "max")]
        return found
    if not column.type.startswith(_NUMBERS):
        return [*found, *(f"{end}({name}) AS {end}{i}" for end in ("min", "max"))]
    number, finite = _number(column)
    small = f"{finite} AND abs({number}) < 1e150"  # the variance of larger ones is no double
    points = ", ".join(map(str, QUANTILES))
    only = f"FILTER (WHERE {finite})"
    return [
        *found,
        *(f"{end}({name}) {only} AS {end}{i}" for end in ("min", "max")),
        f"CAST(min({number}) {only} AS DOUBLE) AS l{i}",
        f"CAST(max({number}) {only} AS DOUBLE) AS h{i}",
        f"avg({number}) FILTER (WHERE {small}) AS m{i}",
        f"stddev_pop({number}) FILTER (WHERE {small}) AS s{i}",
        f"approx_quantile({number}, [{points}]) {only} AS q{i}",
    ]


def _read(column: ColumnType, i: int, first: Mapping[str, Any], second: Mapping[str, Any]) -> ColumnProfile:
    top = second.get(f"t{i}") or []
    quantiles = dict(zip(map(str, QUANTILES), first.get(f"q{i}") or (), strict=False))
    return ColumnProfile(
        name=column.name,
        type=column.type,
        nulls=first["n"] - first[f"c{i}"],
        distinct=top[0]["d"] if top else _at_most(first[f"d{i}"], first[f"c{i}"]),
        distinct_exact=bool(top) or not first[f"c{i}"],
        min=_told(column, first.get(f"min{i}")),
        max=_told(column, first.get(f"max{i}")),
        mean=_finite(first.get(f"m{i}")),
        stddev=_finite(first.get(f"s{i}")),
        quantiles={point: value for point, value in quantiles.items() if math.isfinite(value)},
        top=tuple({"value": _told(column, one["v"]), "count": one["n"]} for one in top),
        histogram=_histogram(column, first, second, i),
    )


def _histogram(
    column: ColumnType, first: Mapping[str, Any], second: Mapping[str, Any], i: int
) -> tuple[Mapping[str, Any], ...]:
    counts = dict(second.get(f"b{i}") or ())
    if not counts:
        return ()
    low, width = first[f"l{i}"], (first[f"h{i}"] - first[f"l{i}"]) / BINS
    edges = [low + width * n for n in range(BINS)] + [first[f"h{i}"]]
    shown = [_moment(edge) for edge in edges] if column.type in _TIMES else edges
    return tuple({"from": shown[n], "to": shown[n + 1], "count": counts.get(n, 0)} for n in range(BINS))


def _moment(seconds: float) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return f"{seconds:.0f} s"


def _told(column: ColumnType, value: Any) -> Any:
    # As text, since not every moment that a file may hold is one to Python.
    return value.replace(" ", "T") if value is not None and column.type in _TIMES else plain(value)


def _at_most(estimate: int | None, count: int) -> int | None:
    return None if estimate is None else min(estimate, count)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
