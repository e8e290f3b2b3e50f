"""The embedded engine: DuckDB, bounded by a warehouse. The only module that imports duckdb.

Every operation opens its own in-memory database, names the files it may touch, and only then closes the door:
external access off, the list of allowed files and every other setting locked. A statement that slipped past
`engine.statement` still reads nothing but its relations and writes nothing but its target. Opening a database takes
longer than most statements, so whoever has many keeps one (`DuckEngine.kept`): it may touch one folder only, in which
the files of its statements get a second name.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from tulle.config import Warehouse
from tulle.engine.engine import ColumnType, Relation, Types, Written, all_of, literal, quoted
from tulle.engine.statement import bare
from tulle.errors import Broken, Invalid, LimitExceeded, Place, Problem, TulleError

if TYPE_CHECKING:
    import pyarrow as pa

# What a column of DuckDB's becomes in a data set. Narrow and huge integers become `integer`, so that the type
# of `count(*)` or `sum(x)` does not leak an engine's detail into a product's contract.
_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "BIGNUM"}
    | {"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
_WORDS = {
    "VARCHAR": "string",
    "UUID": "string",
    "JSON": "string",
    "FLOAT": "double",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
    "BLOB": "binary",
}
_CASTS = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "binary": "BLOB",
}
_ROW_GROUP_ROWS = 122_880
VERSION = f"duckdb {duckdb.__version__}"  # another one may find other types


@dataclass(frozen=True, slots=True)
class DuckEngine:
    """DuckDB within the bounds of `warehouse`; spills into `temp_folder`, which must be on a real disk."""

    warehouse: Warehouse
    temp_folder: Path
    room: _Room | None = None
    macros: tuple[str, ...] = ()

    @contextlib.contextmanager
    def kept(self, folder: Path) -> Iterator[DuckEngine]:
        """The same engine with one database for all statements in the block, from any thread, within one bound.

        `folder` is made and removed; it should be on the disk the data is on. What one statement may read, all may.
        """
        room = _Room(self, folder)
        try:
            yield replace(self, room=room)
        finally:
            room.close()

    def knowing(self, macros: Sequence[str]) -> DuckEngine:
        """The same engine, whose statements may use further macros, each as `name(parameters) AS …`."""
        return replace(self, macros=(*self.macros, *macros))

    def query(self, sql: str, relations: Sequence[Relation], *, file: str = "") -> pa.Table:
        """The rows of a statement, in memory."""
        with self._session(relations) as (connection, _), _translated(sql, file):
            return connection.execute(bare(sql)).to_arrow_table()

    @contextlib.contextmanager
    def batches(
        self, sql: str, relations: Sequence[Relation], *, rows: int
    ) -> Iterator[pa.RecordBatchReader]:
        """The rows of a statement, so many at a time, while the block runs; they need not fit into memory."""
        with self._session(relations) as (connection, _), _translated(sql, ""):
            yield connection.execute(bare(sql)).to_arrow_reader(rows)

    def describe(
        self,
        sql: str,
        relations: Sequence[Relation],
        *,
        file: str = "",
        parameters: Mapping[str, Any] | None = None,
    ) -> tuple[ColumnType, ...]:
        """The columns a statement would give, without running it; `parameters` are values like those of `$name`."""
        with self._session(relations) as (connection, _):
            return _columns(connection, sql, file, parameters)

    @contextlib.contextmanager
    def asking(self, relations: Sequence[Relation]) -> Iterator[Asking]:
        """The same relations asked many times, from one thread; each statement must have been read before."""
        relations = all_of(relations)
        with self._opened([file for relation in relations for file in relation.files]) as connection:
            _name_all(connection, relations, self.macros)
            yield Asking(connection)

    @contextlib.contextmanager
    def describing(self) -> Iterator[Describing]:
        """Several statements described over relations of which each is named once; no file is read."""
        with self._opened([]) if self.room is None else self.room.cursor() as connection:
            _name_all(connection, (), self.macros)
            yield Describing(connection)

    def guess(self, sql: str, relations: Sequence[Relation], *, file: str = "") -> int | None:
        """The rows a statement would give, as the engine's optimizer expects; None where it does not say."""
        with self._session(relations) as (connection, _), _translated(sql, file):
            row = connection.execute(f"EXPLAIN (FORMAT json)\n{bare(sql)}").fetchone()
        plan = json.loads(row[1]) if row else []
        while plan:
            told = plan[0].get("extra_info", {}).get("Estimated Cardinality")
            if told is not None:
                return int(str(told).lstrip("~"))
            plan = plan[0].get("children")
        return None

    def sample(self, relation: Relation, limit: int = 20) -> pa.Table:
        """The first rows of a relation."""
        return self.query(f"SELECT * FROM {quoted(relation.name)} LIMIT {int(limit)}", [relation])

    def write(
        self,
        sql: str,
        relations: Sequence[Relation],
        target: Path,
        *,
        file: str = "",
        types: Types | None = None,
    ) -> Written:
        """Write the rows of a statement as one Parquet file; its columns have the mesh's own types."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._session(relations, writable=target) as (connection, place):
            found = _columns(connection, sql, file)
            wanted = types(found) if callable(types) else types or {}
            columns = tuple(ColumnType(c.name, wanted.get(c.name, c.type)) for c in found)
            casts = ", ".join(
                f"CAST({quoted(c.name)} AS {sql_type(c.type)}) AS {quoted(c.name)}" for c in columns
            )
            # Own lines: a statement may end in a `--` comment, and positions stay easy to map back.
            before = f"COPY (SELECT {casts} FROM (\n"
            after = f"\n)) TO {literal(str(place))}"
            after += f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
            with _translated(sql, file, offset=len(before)):
                try:
                    (rows,) = connection.execute(before + bare(sql) + after).fetchone() or (0,)
                    if place != target:
                        shutil.move(place, target)
                except BaseException:
                    place.unlink(missing_ok=True)  # half a file helps nobody and may fill the disk
                    target.unlink(missing_ok=True)
                    raise
        return Written(int(rows), columns, target.stat().st_size)

    @contextlib.contextmanager
    def reading(self, files: Sequence[str], *, what: str) -> Iterator[Reading]:
        """Several statements of our own over the same files, with tables in between that may spill.

        `what` names the work in messages. The statements are not looked at: never pass text of a user's here.
        """
        with self._opened(files) as connection:
            yield Reading(connection, what)

    @contextlib.contextmanager
    def _session(
        self, relations: Sequence[Relation], *, writable: Path | None = None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
        """A connection that knows the relations, and where it writes what shall be at `writable`."""
        relations = all_of(relations)
        named = self.room.named(relations) if self.room is not None else None
        if self.room is not None and named is not None:
            with self.room.cursor() as connection:
                _name_all(connection, named, self.macros)
                yield connection, self.room.place()
            return
        paths = [file for relation in relations for file in relation.files]
        target = writable or Path(os.devnull)
        if writable is not None:
            paths.append(str(writable))
            paths.append(str(writable.parent / f"tmp_{writable.name}"))  # DuckDB writes beside, then renames
        with self._opened(paths) as connection:
            _name_all(connection, relations, self.macros)
            yield connection, target

    @contextlib.contextmanager
    def _opened(self, paths: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self.locked(f"allowed_paths = [{', '.join(map(literal, paths))}]")
        try:
            yield connection
        finally:
            connection.close()

    def locked(self, allowed: str) -> duckdb.DuckDBPyConnection:
        """A new database that may touch what the setting `allowed` says; nothing of it can be changed any more."""
        try:
            connection = duckdb.connect(":memory:", config=self._settings())
        except (duckdb.Error, TypeError) as exc:
            raise Invalid(
                f"the warehouse's bounds are not usable: {_plain(exc)[0]}",
                hint="see 'memory' and 'temp_disk' in mesh.yaml; sizes are written like 2GB",
            ) from exc
        try:
            connection.execute(f"SET {allowed}")
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET GLOBAL errors_as_json = true")
            connection.execute("SET lock_configuration = true")
        except BaseException:
            connection.close()
            raise
        return connection

    def _settings(self) -> dict[str, Any]:
        return {
            "threads": self.warehouse.threads,
            "memory_limit": self.warehouse.memory,
            "temp_directory": str(self.temp_folder),
            "max_temp_directory_size": self.warehouse.temp_disk,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,  # a Python variable must never become a table
        }


class _Room:
    """A folder in which files have second names, and the one database that may touch what is in it."""

    def __init__(self, engine: DuckEngine, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder.resolve()
        self._database = engine.locked(f"allowed_directories = [{literal(str(self._folder))}]")
        self._names: dict[str, tuple[int, str]] = {}  # of a file: which one it was, its second name
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def named(self, relations: Sequence[Relation]) -> list[Relation] | None:
        """The relations with the second names of their files; None where a file is not on this disk."""
        try:
            return [replace(each, files=tuple(map(self._name, each.files))) for each in relations]
        except OSError:
            return None

    def _name(self, file: str) -> str:
        with self._lock:
            known = self._names.get(file)
            try:
                number = Path(file).stat().st_ino  # no other file has it while the second name is there
            except FileNotFoundError:
                if known is None:
                    raise
                return known[1]  # removed meanwhile: what was read before can be read on
            if known is None or known[0] != number:
                known = number, str(self._folder / f"{next(self._numbers)}.parquet")
                os.link(os.path.realpath(file), known[1])
                self._names[file] = known
            return known[1]

    def place(self) -> Path:
        """A place for a new file."""
        return self._folder / f"out-{next(self._numbers)}.parquet"

    @contextlib.contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose views nobody else sees."""
        with self._lock:
            connection = self._database.cursor()
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close the database and remove the folder."""
        self._database.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Describing:
    """An open database that knows relations by their columns."""

    connection: duckdb.DuckDBPyConnection

    def name(self, relation: Relation) -> None:
        """Make a relation known, in place of one with its name."""
        with _translated("", relation.name):
            self.connection.execute(f"DROP VIEW IF EXISTS {quoted(relation.name)}")
            self.connection.execute(_view(relation))

    def columns(self, sql: str, *, file: str = "") -> tuple[ColumnType, ...]:
        """The columns a statement would give. Invalid."""
        return _columns(self.connection, sql, file)


@dataclass(frozen=True, slots=True)
class Asking:
    """An open database that knows relations."""

    connection: duckdb.DuckDBPyConnection

    def table(self, sql: str, parameters: Mapping[str, Any], *, most: int) -> pa.Table:
        """The first rows of a statement, `$name` standing for the value of a parameter; `most` of them."""
        limited = f"SELECT * FROM (\n{bare(sql)}\n) LIMIT {int(most)}"
        with _translated("", "the query"):
            return self.connection.execute(limited, dict(parameters)).to_arrow_table()


@dataclass(frozen=True, slots=True)
class Reading:
    """An open database that may read certain files. Raises what `Engine` raises."""

    connection: duckdb.DuckDBPyConnection
    what: str

    def run(self, sql: str) -> None:
        """Carry out a statement that gives no rows."""
        with _translated("", self.what):
            self.connection.execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, in memory."""
        with _translated("", self.what):
            return self.connection.execute(sql).fetchall()

    def row(self, sql: str) -> tuple[Any, ...]:
        """The one row of a statement."""
        (row,) = self.rows(sql)
        return row


def syntax_problem(sql: str) -> tuple[str, int] | None:
    """What is wrong with the syntax of statements, and in which of their lines; nothing is executed."""
    try:
        duckdb.extract_statements(sql)
    except duckdb.Error as exc:
        text = str(exc).removeprefix("Parser Error: ")
        line = re.search(r"^LINE ([0-9]+):", text, re.MULTILINE)
        return text.partition("\n")[0], int(line[1]) if line else 1
    return None


def sql_type(word: str) -> str:
    """The SQL type of one of the mesh's own type words (`decimal(10,2)` → `DECIMAL(10,2)`)."""
    return word.upper() if word.startswith("decimal(") else _CASTS[word]


def _name_all(
    connection: duckdb.DuckDBPyConnection, relations: Sequence[Relation], macros: Sequence[str]
) -> None:
    for macro in macros:  # the first: a view may use them
        with _translated("", f"the macro {macro.partition('(')[0]}"):
            connection.execute(f"CREATE OR REPLACE TEMP MACRO {macro}")
    for relation in relations:
        with _translated("", relation.name):
            connection.execute(_view(relation))


def _view(relation: Relation) -> str:
    name = quoted(relation.name)
    if relation.sql:
        return f"CREATE TEMP VIEW {name} AS SELECT * FROM (\n{bare(relation.sql)}\n)"
    columns = ", ".join(f"CAST(NULL AS {sql_type(c.type)}) AS {quoted(c.name)}" for c in relation.columns)
    none = f"SELECT {columns or '1 AS none'} WHERE false"
    if relation.files:
        files = ", ".join(map(literal, relation.files))
        more = ", union_by_name = true" if relation.is_mixed else ""
        rows = f"SELECT * FROM read_parquet([{files}], hive_partitioning = false{more})"
        whole = f"{none} UNION ALL BY NAME {rows}" if relation.is_mixed and columns else rows
        return f"CREATE TEMP VIEW {name} AS {whole}"
    return f"CREATE TEMP VIEW {name} AS {none}"


def _columns(
    connection: duckdb.DuckDBPyConnection, sql: str, file: str, parameters: Mapping[str, Any] | None = None
) -> tuple[ColumnType, ...]:
    before = "DESCRIBE\n"
    with _translated(sql, file, offset=len(before)):
        rows = connection.execute(before + bare(sql), dict(parameters or {})).fetchall()
    columns, problems, seen = [], [], set()
    place = Place(file) if file else None
    for name, kind, *_ in rows:
        word = _word(kind)
        if word is None:
            hint = "cast it, for example CAST(… AS VARCHAR), or spread it over several columns"
            problems.append(
                Problem(f"column '{name}' has type {kind}, which a data set cannot hold", place, hint)
            )
        if name.lower() in seen:
            problems.append(Problem(f"two columns are named '{name}'", place, "name them apart with AS"))
        seen.add(name.lower())
        columns.append(ColumnType(name, word or "string"))
    if problems:
        raise Invalid(f"{file or 'the statement'} gives columns that cannot be kept", problems=problems)
    return tuple(columns)


def _word(kind: str) -> str | None:
    if kind in _INTEGERS:
        return "integer"
    if kind.startswith("DECIMAL("):
        return kind.lower().replace(" ", "")
    if kind.startswith("ENUM("):
        return "string"
    return _WORDS.get(kind)


@contextlib.contextmanager
def _translated(sql: str, file: str, *, offset: int = 0) -> Iterator[None]:
    """Turn DuckDB's errors into ours; the statement starts `offset` characters into what was sent."""
    try:
        yield
    except duckdb.Error as exc:
        raise _failure(exc, sql, file, offset) from exc


def _failure(exc: duckdb.Error, sql: str, file: str, offset: int) -> TulleError:
    text, details = _plain(exc)
    name = file or "the statement"
    if isinstance(exc, duckdb.OutOfMemoryException):
        return LimitExceeded(
            f"{name} needs more than its warehouse allows: {text}",
            hint="raise 'memory' or 'temp_disk' of the domain's warehouse in mesh.yaml",
        )
    if isinstance(exc, duckdb.IOException) and _is_full(text):
        return LimitExceeded(
            f"no room left on the disk: {text}", hint="free space and run again; nothing was published"
        )
    message, _, rest = text.partition("\n")
    hint = " ".join(rest.split()) or None
    if candidates := details.get("candidates"):
        hint = f"known: {candidates}" if "(" not in candidates else hint
    if isinstance(exc, duckdb.FatalException | duckdb.InternalException):
        return Broken(f"the engine failed at {name}: {message}", hint="this is no fault of what was asked")
    problem = Problem(message, _place(sql, file, offset, details.get("position")), hint)
    return Invalid(f"{name} does not run: {message}", hint=hint, problems=[problem])


def _plain(exc: Exception) -> tuple[str, dict[str, str]]:
    """The message of an error of DuckDB's, and its details when it came as JSON."""
    text = str(exc)
    start = text.find("{")
    if start >= 0:
        with contextlib.suppress(ValueError):
            details = json.loads(text[start:])
            return str(details.get("exception_message", text)), details
    return text, {}


def _is_full(text: str) -> bool:
    return any(os.strerror(code) in text for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _place(sql: str, file: str, offset: int, position: str | None) -> Place | None:
    if not file:
        return None
    if position is None or not position.isdigit() or not 0 <= int(position) - offset <= len(sql):
        return Place(file)
    return Place(file, *line_and_column(sql, int(position) - offset))


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """The line and column, counted from 1, of a position in a text."""
    before = text[: max(0, min(offset, len(text)))]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
