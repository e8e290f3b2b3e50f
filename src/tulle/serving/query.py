"""Queries: parameters in, the rows of one SELECT over the package's own data out.

The statement runs in a process of its own (`pool`), in an engine that may read the files it names and nothing else.
Values are never put into its text: they are sent beside it.
"""

from __future__ import annotations

import contextlib
import decimal
import math
import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from tulle.errors import Broken, TulleError
from tulle.serving.bounds import Bounds
from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import Answer, Headed, Header, Query, Trace
from tulle.serving.index import Column, Damaged
from tulle.serving.manifest import changed_file
from tulle.serving.pool import pool_of
from tulle.serving.query_declared import USUAL_CONNECTIONS, QueryParameter
from tulle.serving.request import Field, Record, RequestError, parse_json

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, TYPED = "text", "typed"
LOOK_SECONDS = 60.0  # between two times that the bytes of files are read, since queries failed
_SPILL = ".spill-"  # of a process, whose number follows
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class QueryEntry:
    """What a package's manifest says of a query endpoint. `files` are those of each name in the SQL."""

    name: str
    sql: str
    parameters: tuple[QueryParameter, ...]
    files: Mapping[str, tuple[str, ...]]
    columns: tuple[Column, ...]
    most_rows: int
    commits: Mapping[str, str]
    bounds: Bounds = Bounds()
    description: str = ""
    connection: str = ""  # whose database answers
    connections: int = USUAL_CONNECTIONS
    statement: str = ""  # what is sent there, in the driver's form
    type: Literal["query"] = "query"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] | None = field(default_factory=dict)


class _Asked(msgspec.Struct, array_like=True):
    """What the process is asked: JSON of the parameters, and whether values are wanted as text."""

    parameters: bytes
    form: str


class _Given(msgspec.Struct, array_like=True):
    """What it gave: the JSON of a list of rows, whether there are more; or why there is none."""

    rows: bytes = b"[]"
    is_cut: bool = False
    message: str = ""
    microseconds: int = 0
    damaged: str = ""


class QueryEndpoint(ABC):
    """What every query endpoint has, wherever its data is."""

    kind = main = "query"

    def __init__(self, entry: QueryEntry, trace: Trace) -> None:
        self.name = entry.name
        self.commits = entry.commits
        self.entry = entry
        self.record = record_of(entry.parameters, exact=True)
        self._columns = msgspec.json.encode([{"name": c.name, "type": c.type} for c in entry.columns])
        self._context = trace.context(entry.name, entry.commits)

    @property
    def actions(self) -> Mapping[str, Headed]:
        """query: every value as text, as API nodes answer; rows: values with their types"""
        return {"query": Headed(self._query), "rows": Headed(self._rows)}

    @property
    def queries(self) -> Mapping[str, Query]:
        """By POST only: parameters may be personal data, which has no place in an address."""
        return {}

    async def _query(self, body: bytes, request_id: str, _headers: Sequence[Header]) -> Answer:
        return await self._answered(body, request_id, TEXT)

    async def _rows(self, body: bytes, request_id: str, _headers: Sequence[Header]) -> Answer:
        return await self._answered(body, request_id, TYPED)

    @abstractmethod
    async def _answered(self, body: bytes, request_id: str, form: str) -> Answer:
        """The answer to one request, its values as `form` says."""


class SqlQuery(QueryEndpoint):
    """A query over the data in the package."""

    def __init__(self, entry: QueryEntry, folder: Path, trace: Trace) -> None:
        super().__init__(entry, trace)
        self.pool = pool_of(folder, entry.name, entry.bounds)

    async def ready(self) -> None:
        """Start its processes. RequestError when they cannot be."""
        await self.pool.ready()

    def close(self) -> None:
        """End its processes."""
        self.pool.close()

    async def _answered(self, body: bytes, request_id: str, form: str) -> Answer:
        start = perf_counter_ns()
        values = values_of(self.entry.parameters, self.record.convert(parse_json(body)))
        asked = msgspec.msgpack.encode(_Asked(msgspec.json.encode(values), form))
        # A SELECT changes nothing, so it may be asked again.
        given = msgspec.msgpack.decode(await self.pool.ask(asked, again=True), type=_Given)
        if given.damaged:
            raise Damaged(given.damaged)
        if given.message:
            raise RequestError(422, "QueryFailed", given.message, "The service's log says why")
        wait = (perf_counter_ns() - start) // 1000 - given.microseconds
        cut = b',"truncated":true' if given.is_cut else b""
        timing = f',"timing":{{"wait":{wait},"query":{given.microseconds}}},{self._context}{request_id}"}}}}'
        return Answer(b'{"columns":' + self._columns + b',"rows":' + given.rows + cut + timing.encode())


def values_of(parameters: Sequence[QueryParameter], sent: Sequence[Any]) -> dict[str, Any]:
    """The values by name, defaults where none is sent. RequestError that names those that are missing."""
    missing = [p.name for p, value in zip(parameters, sent, strict=True) if p.required and value is UNSET]
    if missing:
        raise RequestError(400, "MissingParameters", f"parameters are missing: {', '.join(missing)}")
    return {p.name: p.default if v is UNSET else v for p, v in zip(parameters, sent, strict=True)}


def record_of(parameters: Sequence[QueryParameter], *, exact: bool = False) -> Record:
    """What a caller may send; `exact`: decimals keep all their digits."""
    fields = [
        Field(p.name, p.type, nullable=not p.required and p.default is None, exact=exact) for p in parameters
    ]
    names = ", ".join(p.name for p in parameters) or "none"
    return Record("parameter", fields, advice=f"Its parameters: {names}")


# ── in the process of its own ────────────────────────────────────────────────────────────────────────────


def query_apart(entry: QueryEntry, folder: Path) -> Callable[[bytes], bytes]:
    """The statement over the package's files, as a handler of requests."""
    return _Apart(entry, folder)


class _Apart:
    """The engine of the process, open as long as the process lives."""

    def __init__(self, entry: QueryEntry, folder: Path) -> None:
        from tulle.config import Warehouse  # noqa: PLC0415  the worker needs no engine
        from tulle.engine.duck import DuckEngine  # noqa: PLC0415
        from tulle.engine.engine import Relation  # noqa: PLC0415

        warehouse = Warehouse(threads=1, memory=f"{entry.bounds.memory >> 20}MB")
        if Path("/proc/self").exists():  # else nobody knows which processes there are
            _clear_spill(folder.parent)
        engine = DuckEngine(warehouse, folder.parent / f"{_SPILL}{os.getpid()}")
        relations = [
            Relation(name, tuple(str((folder / file).resolve()) for file in files))
            for name, files in entry.files.items()
        ]
        self._entry, self._folder = entry, folder
        self._looked = -LOOK_SECONDS
        self._names = [parameter.name for parameter in entry.parameters]
        self._record = record_of(entry.parameters, exact=True)
        self._open = contextlib.ExitStack()
        self._asking = self._open.enter_context(engine.asking(relations))

    def __call__(self, request: bytes) -> bytes:
        asked = msgspec.msgpack.decode(request, type=_Asked)
        start = perf_counter_ns()
        most = self._entry.most_rows
        sent = self._record.convert(msgspec.json.decode(asked.parameters))
        try:
            values = dict(zip(self._names, sent, strict=True))
            table = self._asking.table(self._entry.sql, values, most=most + 1)
            rows = [list(row.values()) for row in in_utc(table.slice(0, most)).to_pylist()]
        except Broken:  # the engine itself: another process has a new one
            raise
        except TulleError as exc:
            if damaged := self._damaged():
                sys.stderr.write(f"{exc}\n")
                return msgspec.msgpack.encode(_Given(damaged=damaged))
            return _failed("the query does not run with these parameters", exc)
        except (ValueError, OverflowError) as exc:  # a time before the year 1, say
            return _failed("the rows cannot be written", exc)
        if asked.form == TEXT:
            rows = [[as_text(value) for value in row] for row in rows]
        body = _encoder.encode(rows)
        spent = (perf_counter_ns() - start) // 1000
        return msgspec.msgpack.encode(_Given(body, table.num_rows > most, microseconds=spent))

    def _damaged(self) -> str:
        """What is wrong with the files, now that a query has failed. Their bytes are read once in a while only, as
        who asks may make any number of queries fail.
        """
        is_due = time.monotonic() - self._looked >= LOOK_SECONDS
        if is_due:
            self._looked = time.monotonic()
        names = (name for files in self._entry.files.values() for name in files)
        return changed_file(self._folder, names, thoroughly=is_due)


def in_utc(table: pa.Table) -> pa.Table:
    """The same rows, whose times say that they are UTC, and have microseconds at most."""
    import pyarrow as pa  # noqa: PLC0415  the worker needs none

    for number, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            values = table.column(number).cast(pa.timestamp("us", "UTC"), safe=False)
            table = table.set_column(number, column.name, values)
    return table


def _clear_spill(folder: Path) -> None:
    """Remove what the engine spilled in processes that were stopped before they could."""
    for left in folder.glob(f"{_SPILL}*"):
        pid = left.name.removeprefix(_SPILL)
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def _failed(message: str, exc: Exception) -> bytes:
    """What callers are told; the engine's own words stay in the log, as they may quote values of rows."""
    sys.stderr.write(f"{message}: {exc}\n")
    return msgspec.msgpack.encode(_Given(message=message))


def as_text(value: Any) -> str | None:
    """A value as text: what JSON would say, without the quotes."""
    match value:
        case None | str():
            return value
        case float() if not math.isfinite(value):
            return None
        case bool():
            return "true" if value else "false"
        case decimal.Decimal() | int() | float():
            return str(value)
    return str(msgspec.to_builtins(value))
