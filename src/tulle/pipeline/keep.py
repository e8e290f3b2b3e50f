"""Rows that a source gave, put where the data set is: in place of what was there, beside it, or over the same keys.

Files that are there are never changed: a load that adds writes one more. Rows with the same key, and columns that
became wider, are brought together by the engine, which does so with more rows than fit into memory.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`
from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.engine.engine import ColumnType, Engine, Relation, quoted
from tulle.errors import Broken, Invalid, Problem
from tulle.lake.draft import Draft
from tulle.lake.repository import Link
from tulle.pipeline.table import PARQUET, data_of
from tulle.spec.source import Source

ORDER = "_tulle_order"  # of the rows of one reading: the last one with a key counts
REJECTED_SUFFIX = "__rejected"
MOST_FILES = 64  # more of them are made one: every file costs a look
_OLD, _NEW = "rows_there", "rows_new"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a source gave: a file of rows, and one of rows put aside. `goes_on`: rows of before stay."""

    rows: Path
    count: int
    columns: tuple[ColumnType, ...]
    goes_on: bool
    widened: bool
    rejected: Path | None
    remembered: Mapping[str, Any]
    put_aside: int = 0


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where rows are put, and by what."""

    draft: Draft
    data_set: str
    engine: Engine
    source: Source

    def put(self, gathered: Gathered, rows_before: int) -> int:
        """Put the rows in their place; how many the data set has then."""
        self._put_aside(gathered)
        there = data_of(self.draft, self.data_set) if gathered.goes_on else None
        files = there.relation.files if there is not None else ()
        merges = self.source.load == "merge"
        if merges and not gathered.count and files and not gathered.widened:
            return rows_before
        if not merges and files and not gathered.widened and len(files) < MOST_FILES:
            if gathered.count:
                self._add(gathered.rows)
            return rows_before + gathered.count
        if not merges and not files:
            self._replace(gathered.rows)
            return gathered.count
        return self._bring_together(gathered, files)

    def _bring_together(self, gathered: Gathered, files: Sequence[str]) -> int:
        statement = merged(gathered.columns, self.source, old=bool(files))
        relations = [Relation(_NEW, (str(gathered.rows),))]
        if files:
            relations.append(Relation(_OLD, tuple(files)))
            there = {c.name: c.type for c in self.engine.describe(f"SELECT * FROM {_OLD}", relations[1:])}
            self._demand_doubles(gathered, there, relations[1:])
            statement = merged(gathered.columns, self.source, old=True, there=set(there))
        target = gathered.rows.with_name("together.parquet")
        types = {c.name: c.type for c in gathered.columns}
        written = self.engine.write(statement, relations, target, file=f"{self.data_set} (load)", types=types)
        self._replace(target)
        return written.rows

    def _demand_doubles(
        self, gathered: Gathered, there: Mapping[str, str], relations: Sequence[Relation]
    ) -> None:
        """Whole numbers that become doubles must be some. Invalid: the engine would take the nearest."""
        for column in gathered.columns:
            if (there.get(column.name), column.type) != ("integer", "double"):
                continue
            name = quoted(column.name)
            other = f"CAST(CAST({name} AS DOUBLE) AS HUGEINT) <> {name}"
            found = self.engine.query(f"SELECT count(*) AS n FROM {_OLD} WHERE {other}", relations)
            if found.column("n")[0].as_py():
                message = f"column '{column.name}' becomes double, and there are whole numbers that are none"
                hint = "declare the column's type, or run with --full once, which begins anew"
                raise Invalid(message, hint=hint, problems=[Problem(message, self.source.place, hint)])

    def _put_aside(self, gathered: Gathered) -> None:
        name = f"{self.data_set}{REJECTED_SUFFIX}"
        if not gathered.goes_on:  # they are of rows that are read again
            self.draft.delete_prefix(f"{name}/")
        if gathered.rejected is not None:
            self._link(gathered.rejected, name, self._next(name))

    def _replace(self, file: Path) -> None:
        self.draft.delete_prefix(f"{self.data_set}/")
        self._link(file, self.data_set, 0)

    def _add(self, file: Path) -> None:
        self._link(file, self.data_set, self._next(self.data_set))

    def _next(self, name: str) -> int:
        paths = [entry.path for entry in self.draft.entries(f"{name}/part-")]
        numbers = [path.removeprefix(f"{name}/part-").removesuffix(".parquet") for path in paths]
        return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1

    def _link(self, file: Path, name: str, number: int) -> None:
        """The bytes of a file become `name`/part-<number>.parquet."""
        place = self.draft.new_data_path(".parquet")
        if place.path is None:
            raise Broken(
                "data can only be written to a store on this machine so far", hint="use a local storage"
            )
        try:
            shutil.move(file, place.path)
            with place.path.open("rb") as stream:
                checksum = hashlib.file_digest(stream, "sha256").hexdigest()
            size = place.path.stat().st_size
            path = f"{name}/part-{number:04d}.parquet"
            link = Link(path, place.address, size, checksum, content_type=PARQUET)
            self.draft.link_many([link])
        except BaseException:
            place.path.unlink(missing_ok=True)
            raise


def only_new(engine: Engine, rejected: Path, before: Sequence[str]) -> int:
    """Leave of the rows put aside those that were not before, each as often as it came more often; how many."""
    statement = f"""
SELECT n.* EXCLUDE (digest, place_in) FROM (
  SELECT *, sha256("row") AS digest, row_number() OVER (PARTITION BY sha256("row")) AS place_in FROM {_NEW}
) AS n LEFT JOIN (
  SELECT sha256("row") AS digest, count(*) AS known FROM {_OLD} GROUP BY ALL
) AS o ON n.digest = o.digest
WHERE n.place_in > coalesce(o.known, 0)
"""
    relations = [Relation(_NEW, (str(rejected),)), Relation(_OLD, tuple(before))]
    target = rejected.with_name("rejected-new.parquet")
    written = engine.write(statement, relations, target, file="rows put aside")
    target.replace(rejected)
    return written.rows


def merged(columns: Sequence[ColumnType], source: Source, *, old: bool, there: set[str] | None = None) -> str:
    """The statement that brings new rows together with those there are; `there`: the columns these have."""
    names = [quoted(c.name) for c in columns]
    own = [
        f"{quoted(c.name)}" if there is None or c.name in there else f"NULL AS {quoted(c.name)}"
        for c in columns
    ]
    new = f"SELECT {', '.join(names)} FROM {_NEW}"
    keys = [quoted(key) for key in source.key] if source.load == "merge" else []
    if keys:
        cursor = f"{quoted(source.cursor)} DESC NULLS LAST, " if source.cursor else ""
        order = f"ORDER BY {cursor}{quoted(ORDER)} DESC"
        new += f" QUALIFY row_number() OVER (PARTITION BY {', '.join(keys)} {order}) = 1"
    if not old:
        return new
    before = f"SELECT {', '.join(own)} FROM {_OLD} AS o"
    if keys:
        same = " AND ".join(f"n.{key} IS NOT DISTINCT FROM o.{key}" for key in keys)
        before += f" WHERE NOT EXISTS (SELECT 1 FROM {_NEW} AS n WHERE {same})"
    return f"{before} UNION ALL ({new})"
