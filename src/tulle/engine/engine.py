"""What every SQL engine does for us, and the values that go in and come out.

A relation is a name and the Parquet files behind it; whoever asks (a run, a check, a door) has already turned
data sets at a ref into files. An engine therefore knows nothing of branches, products or permissions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column and its type in the mesh's own words.

    string, integer (64 bits), double, decimal(p,s), boolean, date, timestamp (microseconds, UTC), binary.
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A name that SQL may use and the rows behind it.

    With `files` the rows are those of the Parquet files, with `sql` those the statement gives over the relations
    in `over`; without either, the relation is empty and has `columns`, which is enough to check a statement before
    any data exists. Where it `is_mixed` its files may have different ones: it has the `columns` and whatever else a
    file has, and is null where a file has none.
    """

    name: str
    files: tuple[str, ...] = ()
    columns: tuple[ColumnType, ...] = ()
    sql: str = ""
    over: tuple[Relation, ...] = ()
    is_mixed: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What `Engine.write` left at the target."""

    rows: int
    columns: tuple[ColumnType, ...]
    bytes: int


Types = Mapping[str, str] | Callable[[Sequence[ColumnType]], Mapping[str, str]]


class Engine(Protocol):
    """Runs one read-only statement over relations.

    Every operation raises Invalid, with the line and column in the statement, when the statement does not fit
    its relations or a value does not convert; LimitExceeded when memory or disk is used up.
    `file` names the statement in messages.
    """

    def knowing(self, macros: Sequence[str]) -> Engine:
        """The same engine, whose statements may use further macros, each as `name(parameters) AS …`."""

    def query(self, sql: str, relations: Sequence[Relation], *, file: str = "") -> pa.Table:
        """The rows of a statement, in memory."""

    def write(
        self,
        sql: str,
        relations: Sequence[Relation],
        target: Path,
        *,
        file: str = "",
        types: Types | None = None,
    ) -> Written:
        """Write the rows of a statement as one Parquet file; its columns have the mesh's own types.

        `types` casts columns by name, or says by the columns that would be written how to cast them; a value that
        the type cannot hold raises Invalid.
        """

    def describe(self, sql: str, relations: Sequence[Relation], *, file: str = "") -> tuple[ColumnType, ...]:
        """The columns a statement would give, without running it."""

    def sample(self, relation: Relation, limit: int = 20) -> pa.Table:
        """The first rows of a relation."""


def all_of(relations: Iterable[Relation]) -> list[Relation]:
    """The relations and all that they are over, each once, after what it is over."""
    found: dict[str, Relation] = {}
    for relation in relations:
        for below in all_of(relation.over):
            found.setdefault(below.name, below)
        found.setdefault(relation.name, relation)
    return list(found.values())


def quoted(name: str) -> str:
    """`name` as an SQL identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A plain value as an SQL literal: text is quoted, so it can never become SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"CAST('{value!r}' AS DOUBLE)"
    return "'" + str(value).replace("'", "''") + "'"
