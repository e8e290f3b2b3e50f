"""Two refs of a repository, one data set: what changed in its files, its columns, its rows and its values.

    engine = DuckEngine(warehouse, folder)
    found = compare(engine, repository, "main", "exp-1", "orders", key=["id"])
    found.rows.added, found.rows.changed_by_column

Reads only: nothing is written but what the engine spills. Files both sides hold are not read for rows. Knows
neither products nor who may see which column; `without_values` is for whoever does.
"""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`, values through `literal`
from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tulle.engine.columns_compared import (
    Column,
    ColumnChange,
    column_changes,
    pairs,
    rename_candidates,
)
from tulle.engine.dataset_files import FileChanges, Format, both_sides, file_changes, local_files
from tulle.engine.duck import DuckEngine, Reading
from tulle.engine.engine import literal, quoted
from tulle.engine.profile import Profile, ProfileChange, profiles
from tulle.engine.row_difference import (
    SETUP,
    ChangedRow,
    DuplicateKey,
    RowDifference,
    as_multisets,
    by_key,
)
from tulle.errors import Invalid, did_you_mean
from tulle.lake.repository import Entry, Repository

__all__ = ["ChangedRow", "Comparison", "DuplicateKey", "Files", "RowDifference", "compare"]

MOST_ROWS = 1000  # sample rows of each kind


@dataclass(frozen=True, slots=True)
class Files:
    """The files of both sides: how many have equal content, and the paths of those only one side has."""

    shared: int
    left_only: tuple[str, ...]
    right_only: tuple[str, ...]
    left_bytes: int
    right_bytes: int
    ignored: int  # files in the folder that are neither Parquet nor CSV


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed in the data set `prefix` from ref `left` to ref `right` of a repository.

    `columns` are changes of columns in words of the engine's types; `profile` has every column, or is empty when
    none was asked for; `rows` is None when rows were not asked for, or the sides have no column in common.
    """

    repository: str
    prefix: str
    left: str
    right: str
    left_commit: str
    right_commit: str
    format: Format
    files: Files
    left_rows: int
    right_rows: int
    columns: tuple[ColumnChange, ...]
    rows: RowDifference | None
    profile: tuple[ProfileChange, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both sides hold equal rows in equal columns."""
        certain = [c for c in self.columns if c.kind not in {"renamed", "moved", "nullability"}]
        return (not self.files.left_only and not self.files.right_only) or bool(
            not certain and self.rows is not None and self.rows.is_empty and not self.rows.duplicate_keys
        )

    def without_values(self, may_show: Callable[[str], bool]) -> Comparison:
        """The same with no value of columns that may not be shown: rows, keys and extremes are hidden there."""

        def hidden(values: Mapping[str, str | None]) -> dict[str, str | None]:
            return {n: (v if may_show(n) or v is None else "•••") for n, v in values.items()}

        def row(one: ChangedRow) -> ChangedRow:
            left = None if one.left is None else hidden(one.left)
            return replace(
                one, key=hidden(one.key), left=left, right=None if one.right is None else hidden(one.right)
            )

        def bare(one: Profile | None) -> Profile | None:
            return one and replace(one, least=None, most=None, mean=None, deviation=None, quantiles=None)

        rows = self.rows and replace(
            self.rows,
            added_rows=tuple(map(row, self.rows.added_rows)),
            removed_rows=tuple(map(row, self.rows.removed_rows)),
            changed_rows=tuple(map(row, self.rows.changed_rows)),
            duplicate_samples=tuple(replace(d, key=hidden(d.key)) for d in self.rows.duplicate_samples),
        )
        profile = tuple(
            p if may_show(p.name) else replace(p, left=bare(p.left), right=bare(p.right))
            for p in self.profile
        )
        return replace(self, rows=rows, profile=profile)


def compare(
    engine: DuckEngine,
    repository: Repository,
    left: str,
    right: str,
    prefix: str,
    *,
    key: Sequence[str] | None = None,
    tolerance: float = 0.0,
    limit: int = 20,
    rows: bool = True,
    profile: bool = True,
    header: bool = True,
) -> Comparison:
    """Compare a data set between two refs: a file, or a folder of Parquet or CSV files.

    A branch's name means what is staged on it too, `branch@` only what is committed. With `key` rows of equal key
    are compared column by column; without, rows are told apart by all their values. `tolerance` is how far floats
    may be apart and still be the same: |l - r| ≤ tolerance × max(1, |l|, |r|). `limit` bounds each sample of rows.
    CSV values are compared as text and profiled as what they look like; `header`: its first line has the names.
    Raises NotFound when neither side has the data set, Invalid for a key that is no column and for files that
    cannot be read, LimitExceeded when the warehouse's memory and disk do not do.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise Invalid(f"a sample of {limit} rows was asked for", hint=f"ask for 1 to {MOST_ROWS}")
    if not 0 <= tolerance < 1:
        raise Invalid(f"a tolerance of {tolerance} makes no sense", hint="give a small number, such as 1e-9")
    if tolerance and not key:
        raise Invalid(
            "a tolerance needs a key", hint="without one, rows are told apart by their exact values"
        )
    sides = both_sides(repository, left, right, prefix)
    changes = file_changes(sides[0].entries, sides[1].entries)
    what = f"the comparison of '{prefix}'"
    copies = engine.temp_folder / f"compare-{uuid.uuid4().hex}"
    engine.temp_folder.mkdir(parents=True, exist_ok=True)
    try:
        places = local_files(repository, [*sides[0].entries, *sides[1].entries], copies)
        kind: Format = sides[0].format or sides[1].format or "parquet"
        with engine.reading(list(places.values()), what=what) as session:
            read = _Read(session, kind, places, header=header)
            session.run(SETUP)
            read.make_view("l_all", sides[0].entries)
            read.make_view("r_all", sides[1].entries)
            columns = read.columns(sides[0].entries, "l_all"), read.columns(sides[1].entries, "r_all")
            counts = [session.row(f"SELECT count(*) FROM {view}")[0] for view in ("l_all", "r_all")]
            seen = _profiles(read, columns, changes) if profile else {}
            difference = (
                _rows(read, changes, columns, key=key, tolerance=tolerance, limit=limit) if rows else None
            )
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    known = {side: (p.count, p.nulls, p.distinct, p.least, p.most) for side, p in seen.items() if p.count}
    renames = rename_candidates(*columns, known) if all(columns) else []
    names = dict.fromkeys(c.name for side in reversed(columns) for c in side)
    return Comparison(
        repository=repository.name,
        prefix=prefix,
        left=left,
        right=right,
        left_commit=sides[0].commit_id,
        right_commit=sides[1].commit_id,
        format=kind,
        files=Files(
            len(changes.shared),
            tuple(entry.path for entry in changes.left_only),
            tuple(entry.path for entry in changes.right_only),
            sum(entry.size for entry in sides[0].entries),
            sum(entry.size for entry in sides[1].entries),
            max(side.others for side in sides),
        ),
        left_rows=counts[0],
        right_rows=counts[1],
        columns=(*column_changes(*columns), *renames),
        rows=difference,
        profile=tuple(ProfileChange(n, seen.get(("left", n)), seen.get(("right", n))) for n in names)
        if profile
        else (),
    )


def _profiles(
    read: _Read, columns: tuple[list[Column], list[Column]], changes: FileChanges
) -> dict[tuple[str, str], Profile]:
    as_text = read.format == "csv"
    found = {("right", n): p for n, p in profiles(read.session, "r_all", columns[1], as_text=as_text).items()}
    if not changes.left_only and not changes.right_only:
        left = {name: profile for (_, name), profile in found.items()}
    else:
        left = profiles(read.session, "l_all", columns[0], as_text=as_text)
    return found | {("left", name): profile for name, profile in left.items()}


def _rows(
    read: _Read,
    changes: FileChanges,
    columns: tuple[list[Column], list[Column]],
    *,
    key: Sequence[str] | None,
    tolerance: float,
    limit: int,
) -> RowDifference | None:
    names = tuple(key or ())
    for name in names:
        for side, own in zip(("left", "right"), columns, strict=True):
            if own and name not in {c.name for c in own}:
                known = did_you_mean(name, [c.name for c in own])
                raise Invalid(f"the key '{name}' is no column of the {side} side ({known})")
    if not changes.left_only and not changes.right_only:
        return RowDifference(names, changed_by_column={} if names else None)
    # A side without the data set has no rows; giving it the other's columns makes all of them added or removed.
    sides = columns[0] or columns[1], columns[1] or columns[0]
    common = pairs(*sides, as_text=read.format == "csv")
    if not common:
        return None
    read.make_side("l", changes.left_only, sides[0])
    read.make_side("r", changes.right_only, sides[1])
    if not names:
        return as_multisets(read.session, common, limit=limit)
    read.make_side("shared", changes.shared, [pair.right for pair in common if pair.name in names])
    shared = bool(changes.shared)
    return by_key(read.session, common, sides, names, tolerance=tolerance, limit=limit, shared=shared)


@dataclass(frozen=True, slots=True)
class _Read:
    """Views of files in one session. `places` has the local file of each address."""

    session: Reading
    format: Format
    places: Mapping[str, str]
    header: bool

    def make_view(self, view: str, entries: Sequence[Entry]) -> None:
        """All rows of some files, CSV as text."""
        source = self._source(entries, types=False) if entries else "(SELECT 1 AS none WHERE false)"
        self.session.run(f"CREATE VIEW {quoted(view)} AS SELECT * FROM {source}")

    def make_side(self, view: str, entries: Sequence[Entry], columns: Sequence[Column]) -> None:
        """Rows of some of a side's files, with columns of the whole side."""
        self.make_view(f"{view}_files", entries)
        have = {name for name, *_ in self.session.rows(f"DESCRIBE {quoted(f'{view}_files')}")}
        chosen = []
        for column in columns:
            kind = "VARCHAR" if self.format == "csv" else column.type
            value = quoted(column.name) if entries and column.name in have else "NULL"
            chosen.append(f"CAST({value} AS {kind}) AS {quoted(column.name)}")
        self.session.run(f"CREATE VIEW {view} AS SELECT {', '.join(chosen)} FROM {quoted(f'{view}_files')}")

    def columns(self, entries: Sequence[Entry], view: str) -> list[Column]:
        """The columns of some files, in the order of the first; none without files."""
        if not entries:
            return []
        if self.format == "csv":
            rows = self.session.rows(f"DESCRIBE SELECT * FROM {self._source(entries, types=True)}")
            return [Column(name, kind) for name, kind, *_ in rows]
        required = self._required(entries)
        rows = self.session.rows(f"DESCRIBE {quoted(view)}")
        return [Column(name, kind, name not in required) for name, kind, *_ in rows]

    def _required(self, entries: Sequence[Entry]) -> frozenset[str]:
        """The columns of which every file says that they hold no null."""
        files = ", ".join(map(literal, {self.places[entry.address]: None for entry in entries}))
        rows = self.session.rows(
            f"SELECT file_name, name, repetition_type, coalesce(num_children, 0) FROM parquet_schema([{files}])"
        )
        found: dict[str, set[str]] = {}
        below = [0]
        for file, name, repetition, children in rows:
            # The first row of a file is its root; then columns come in depth-first order.
            if file not in found:
                found[file], below = set(), [children]
                continue
            while below and below[-1] == 0:
                below.pop()
            below[-1] -= 1
            if len(below) == 1 and repetition == "REQUIRED":
                found[file].add(name)
            below.append(children)
        return frozenset.intersection(*map(frozenset, found.values())) if found else frozenset()

    def _source(self, entries: Sequence[Entry], *, types: bool) -> str:
        if self.format == "parquet":
            files = ", ".join(literal(self.places[entry.address]) for entry in entries)
            return f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
        # Where the bytes are tells nothing of how they are packed: that is in the path's ending.
        groups: dict[str, list[str]] = {}
        for entry in entries:
            ending = entry.path.lower().rpartition(".")[2]
            packing = {"gz": "gzip", "zst": "zstd"}.get(ending, "none")
            groups.setdefault(packing, []).append(self.places[entry.address])
        options = f"header = {literal(self.header)}, union_by_name = true, hive_partitioning = false"
        options += "" if types else ", all_varchar = true"
        selects = [
            f"SELECT * FROM read_csv([{', '.join(map(literal, files))}], compression = '{packing}', {options})"
            for packing, files in groups.items()
        ]
        return f"({' UNION ALL BY NAME '.join(selects)})"
