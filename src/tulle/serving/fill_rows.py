"""The rows of a data set that a store is to hold, and which of them are others than at the commit it holds by now.

The engine compares, orders and renders, so rows need not fit into memory. Two commits are compared file by file first:
what is in files that both have is the same. Of the rest the rows are compared, so a data set that is made anew with
every run is told by the few rows that changed as well. Knows nothing of stores.
"""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`, values through `literal`
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tulle.engine.duck import DuckEngine, sql_type
from tulle.engine.engine import ColumnType, Relation, literal, quoted
from tulle.errors import Invalid, TulleError
from tulle.lake.repository import Entry, Repository
from tulle.serving.index import Column
from tulle.serving.index_build import Wish, rendered_row, rendered_value
from tulle.serving.package import LakeSource

_SHOWN = 3
_TEXTS = {"date", "timestamp", "binary"}  # what JSON writes in quotes, though no sign in it has to be escaped


@dataclass(frozen=True, slots=True)
class Filled:
    """What a store is to hold: rows of a data set at a commit, their key and the other columns of them."""

    product: str
    data_set: str
    commit: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    is_unique: bool = True  # a key has one row at most

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, those of the key first."""
        return tuple(column.name for column in (*self.key, *self.columns))

    @property
    def what(self) -> str:
        """The data set in messages."""
        return f"data set '{self.data_set}' of '{self.product}'"


@dataclass(slots=True)
class FillRows:
    """The rows for one store. `changed` is None where all rows count, else the keys whose rows do."""

    filled: Filled
    engine: DuckEngine
    repository: Repository
    source: LakeSource
    scratch: Path
    changed: Relation | None = field(default=None, init=False)
    _counted: tuple[int, int] | None = field(default=None, init=False)
    _now: Relation = field(init=False)

    def __post_init__(self) -> None:
        """Find the files. NotFound when there is no such data set."""
        wanted = self.filled
        files = self.source.relation(wanted.product, wanted.data_set, self.scratch / "now", wanted.commit)
        self._now = self._plain("now", files.files)

    def check(self) -> int:
        """How many rows there are. Invalid for a key that is null, or has several rows where it may have but one."""
        keys = ", ".join(self._keys)
        missing = " OR ".join(f"{key} IS NULL" for key in self._keys)
        (found,) = self._asked(
            f"SELECT count(*) AS rows, count(*) FILTER (WHERE {missing}) AS missing FROM now"
        )
        names = ", ".join(column.name for column in self.filled.key)
        if found["missing"]:
            raise Invalid(
                f"{self.filled.what}: {found['missing']:,} rows have no value in the key ({names})",
                hint="leave such rows out, and check it: {type: not_null}",
            )
        if self.filled.is_unique:
            repeated = self._asked(
                f"SELECT {keys}, count(*) AS rows FROM now GROUP BY {keys} HAVING count(*) > 1 "
                f"ORDER BY {keys} LIMIT {_SHOWN}"
            )
            if repeated:
                told = "; ".join(
                    ", ".join(str(one[key]) for key in self._keys) + f" ({one['rows']:,} rows)"
                    for one in repeated
                )
                hint = "make one row a key and check it ({type: unique}), or say with `several:` which row counts"
                raise Invalid(f"{self.filled.what}: the key ({names}) is not unique: {told}", hint=hint)
        return int(found["rows"])

    def since(self, commit: str) -> bool:
        """Let only the keys count whose rows are others than at an earlier commit; False where that cannot be told."""
        try:
            differences = self.repository.diff(commit, self.filled.commit, prefix=f"{self.filled.data_set}/")
            before = [d.left for d in differences if d.left is not None and d.path.endswith(".parquet")]
            after = [d.right for d in differences if d.right is not None and d.path.endswith(".parquet")]
            gone = self._plain("gone", self._files(commit, before, "gone"))
            come = self._plain("come", self._files(self.filled.commit, after, "come"))
            sql = (
                f"SELECT DISTINCT {', '.join(self._keys)} FROM ("
                "(SELECT * FROM gone EXCEPT ALL SELECT * FROM come) UNION ALL "
                "(SELECT * FROM come EXCEPT ALL SELECT * FROM gone))"
            )
            file = self.scratch / "changed.parquet"
            self.engine.write(sql, [gone, come], file, file="what has changed")
        except TulleError:  # the earlier commit, or a file of it, was collected
            return False
        self.changed, self._counted = Relation("changed", (str(file),)), None
        return True

    def count(self) -> tuple[int, int]:
        """How many rows are to be written, and how many keys to be removed."""
        if self._counted is None:
            (rows,) = self._asked(f"SELECT count(*) AS n FROM now {self._where()}")
            (gone,) = self._asked(f"SELECT count(*) AS n FROM ({self._gone()})")
            self._counted = int(rows["n"]), int(gone["n"])
        return self._counted

    @contextmanager
    def rows(self, asked: Sequence[str], size: int, after: int = 0) -> Iterator[Any]:
        """The rows that count, by key, as batches of expressions over them; those of a key one after the other.

        They always come in the same order; the first `after` are passed over.
        """
        parts = [f"{expression} AS o{i}" for i, expression in enumerate(asked)]
        order = ", ".join((*self._keys, *(f"o{i}" for i in range(len(asked)))))
        sql = (
            f"SELECT {', '.join((*self._keys, *parts))} FROM now {self._where()} "
            f"ORDER BY {order} OFFSET {int(after)}"
        )
        with self.engine.batches(sql, self._relations(), rows=size) as batches:
            yield batches

    @contextmanager
    def gone(self, size: int) -> Iterator[Any]:
        """The keys that have no row any more, as batches."""
        with self.engine.batches(self._gone(), self._relations(), rows=size) as batches:
            yield batches

    # ── how rows are rendered ────────────────────────────────────────────────────────────────────────────

    def as_json(self) -> list[str]:
        """A row as a JSON object of its columns without the key."""
        columns = self.filled.columns
        first = len(self.filled.key)
        sources = {column.name: f"c{first + i}" for i, column in enumerate(columns)}
        return [f"encode({rendered_row(Wish((), columns, 'object', sources=sources))})"]

    def as_texts(self) -> list[str]:
        """Each column as text, null where it is null."""
        return [
            f"encode({_text(f'c{i}', column.type)})"
            for i, column in enumerate((*self.filled.key, *self.filled.columns))
        ]

    def as_line(self) -> list[str]:
        """A row as PostgreSQL's COPY reads it."""
        parts = []
        for i, column in enumerate((*self.filled.key, *self.filled.columns)):
            parts.append(f"coalesce({_copied(f'c{i}', column.type)}, {literal(chr(92) + 'N')})")
        line = f" || {literal(chr(9))} || ".join(parts)
        return [f"encode({line} || {literal(chr(10))})"]

    # ── statements ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def _keys(self) -> list[str]:
        return [f"k{i}" for i in range(len(self.filled.key))]

    def _plain(self, name: str, files: Sequence[str]) -> Relation:
        """The rows of files, with every column in the one type that it has in the mesh.

        Columns are called c0, c1, …, and those of the key k0, k1, … as well.
        """
        columns = (*self.filled.key, *self.filled.columns)
        if not files:
            named = [ColumnType(f"k{i}", column.type) for i, column in enumerate(self.filled.key)]
            named += [ColumnType(f"c{i}", column.type) for i, column in enumerate(columns)]
            return Relation(name, columns=tuple(named))
        casts = [f"CAST({quoted(c.name)} AS {sql_type(c.type)})" for c in columns]
        parts = [f"{casts[i]} AS k{i}" for i in range(len(self.filled.key))]
        parts += [f"{cast} AS c{i}" for i, cast in enumerate(casts)]
        raw = Relation(f"{name}_files", tuple(files))
        return Relation(name, sql=f"SELECT {', '.join(parts)} FROM {raw.name}", over=(raw,))

    def _files(self, commit: str, entries: Iterable[Entry], folder: str) -> list[str]:
        """Where the data of entries of a commit is on this machine."""
        found = []
        for number, entry in enumerate(entries):
            file = self.repository.location(entry)
            if not file.startswith("/"):
                copy = self.scratch / folder / f"{number:05}.parquet"
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(self.repository.get(commit, entry.path))
                file = str(copy)
            found.append(file)
        return found

    def _relations(self) -> list[Relation]:
        return [self._now, *([self.changed] if self.changed is not None else [])]

    def _where(self) -> str:
        return "" if self.changed is None else f"SEMI JOIN changed USING ({', '.join(self._keys)})"

    def _gone(self) -> str:
        keys = ", ".join(self._keys)
        if self.changed is None:
            return f"SELECT {keys} FROM now WHERE false"
        return f"SELECT {keys} FROM changed ANTI JOIN now USING ({keys}) ORDER BY {keys}"

    def _asked(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.engine.query(sql, self._relations()).to_pylist()
        return found


def _text(name: str, kind: str) -> str:
    """A value as a hash of Redis holds it: as answers write it, without quotes."""
    if kind == "string":
        return f"CAST({name} AS VARCHAR)"
    rendered = rendered_value(name, kind)
    return f"trim({rendered}, '\"')" if kind in _TEXTS else rendered


def _copied(name: str, kind: str) -> str:
    """A value in the text form of COPY, null where it is null."""
    match kind:
        case "string":
            text = f"CAST({name} AS VARCHAR)"
            for sign, written in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
                text = f"replace({text}, {literal(sign)}, {literal(written)})"
            return text
        case "binary":
            return f"{literal(chr(92) * 2 + 'x')} || hex({name})"
        case "double":
            return f"CAST({name} AS VARCHAR)"
        case _:
            return _text(name, kind)
