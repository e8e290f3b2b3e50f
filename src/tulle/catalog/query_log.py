"""Reading what was kept of a service's queries: the newest ones, and all of a span of time as relations for SQL.

The log of a service is a repository of its own with the data sets `queries`, `feedback` and `traffic` (queries
counted), a folder a day.
"""

# ruff: noqa: S608  names are ours, values go through `literal`
from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from tulle.config import Settings, Warehouse
from tulle.engine.dataset_files import local_files
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Relation, literal
from tulle.errors import NotFound
from tulle.lake.repository import Entry, Lake, Repository
from tulle.serving.log_rows import Shown, outcome_rule, shown_outcome, shown_result
from tulle.serving.log_segment import INFER

QUERIES, FEEDBACK, TRAFFIC = "queries", "feedback", "traffic"
JSON_COLUMNS = ("steps", "sent", "features", "result", "lookups")
COLUMNS: Mapping[str, str] = {
    "request_id": "string",
    "item": "integer",
    "asked_at": "timestamp",
    "service": "string",
    "environment": "string",
    "endpoint": "string",
    "action": "string",
    "generation": "string",
    "shadow": "boolean",
    "caller": "string",
    "way": "string",
    "status": "integer",
    "error": "string",
    "microseconds": "integer",
    **dict.fromkeys(JSON_COLUMNS, "string"),
}
FEEDBACK_COLUMNS: Mapping[str, str] = {
    "request_id": "string",
    "item": "integer",
    "outcome": "string",
    "told_at": "timestamp",
    "caller": "string",
    "way": "string",
}
TRAFFIC_COLUMNS: Mapping[str, str] = {
    "slot": "timestamp",
    "environment": "string",
    "endpoint": "string",
    "generation": "string",
    "shadow": "boolean",
    "status": "integer",
    "microseconds": "integer",
    "requests": "integer",
}
# What answers and outcomes joined have: the data set `outcomes`.
OUTCOME_COLUMNS = (
    "request_id",
    "item",
    "asked_at",
    "environment",
    "endpoint",
    "generation",
    "shadow",
    "features",
    "result",
    "outcome",
    "told_at",
)
OWNER = "tulle-queries-of"  # what says in a repository's metadata whose queries it holds
_SUFFIX = "-queries"
_MOST_NAME = 63
_DAY = 86_400.0
# Of what is told of one request and item the last counts: telling twice, or better, does no harm.
LAST_TOLD = (
    "SELECT request_id, item, arg_max(outcome, told_at) AS outcome, max(told_at) AS told_at, "
    "arg_max_null(caller, told_at) AS caller, arg_max_null(way, told_at) AS way FROM feedback GROUP BY request_id, item"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which queries are asked for: those that all of it holds for."""

    since: float | None = None  # seconds since the epoch
    until: float | None = None
    endpoint: str = ""
    generation: str = ""
    request_id: str = ""
    errors: bool = False
    shadow: bool | None = None
    environment: str = ""  # that of consumers


def repository_name(service: str) -> str:
    """The repository a service's queries are kept in."""
    name = service + _SUFFIX
    if len(name) <= _MOST_NAME:
        return name
    digest = hashlib.sha256(service.encode()).hexdigest()[:8]
    return f"{service[: _MOST_NAME - len(_SUFFIX) - 9]}-{digest}{_SUFFIX}"


def find_repository(lake: Lake, service: str) -> Repository | None:
    """The repository of a service's queries; None before one was kept, and where its name is somebody else's."""
    try:
        found = lake.repository(repository_name(service))
    except NotFound:
        return None
    return found if found.record.metadata.get(OWNER) == service else None


def logs(lake: Lake) -> dict[str, str]:
    """The repositories that logs are kept in, by service; none that only says so."""
    said = {one.name: one.record.metadata.get(OWNER, "") for one in lake.repositories()}
    return {service: name for name, service in said.items() if service and name == repository_name(service)}


def _days_of(repository: Repository) -> set[str]:
    """The days of which there are queries."""
    prefixes: list[str] = []
    after = ""
    while True:
        page = repository.list(repository.default_branch, f"{QUERIES}/", after=after, delimiter="/")
        prefixes += page.prefixes
        if page.next is None:
            return {day_of(f"{prefix}x") for prefix in prefixes} - {""}
        after = page.next


def day_of(path: str) -> str:
    """The day of a file of the log, `2026-11-21`; empty when it is of none."""
    folder = path.split("/")[1] if path.count("/") > 1 else ""
    return folder.removeprefix("day=") if folder.startswith("day=") else ""


class QueryLog:
    """Reads the logs of one mesh's services. Safe to share between threads."""

    def __init__(self, settings: Settings, lake: Lake) -> None:
        bounds = Warehouse(threads=1, memory="1GB", temp_disk="4GB")
        self._engine = DuckEngine(bounds, settings.run_folder / "query-log")
        self._lake = lake

    def newest(self, service: str, wanted: Wanted, *, limit: int) -> list[dict[str, Any]]:
        """The newest rows, newest first."""
        sql = f"WITH told AS ({LAST_TOLD}) SELECT q.*, told.outcome FROM queries q"
        sql += f" LEFT JOIN told USING (request_id, item) WHERE {where(wanted)}"
        sql += f" ORDER BY asked_at DESC, request_id, item LIMIT {int(limit)}"
        found: list[dict[str, Any]] = []
        for since in self._widening(service, wanted.since, is_last=True):
            found = self.rows(service, sql, since=since, until=wanted.until)
            if len(found) >= limit:
                break
        return found

    def first(self, service: str, columns: str, wanted: Wanted, *, limit: int) -> list[dict[str, Any]]:
        """The oldest rows, oldest first, without their outcomes."""
        sql = f"SELECT {columns} FROM queries WHERE {where(wanted)} AND status = 200 AND error IS NULL"
        sql += f" ORDER BY asked_at, request_id, item LIMIT {int(limit)}"
        found: list[dict[str, Any]] = []
        for until in self._widening(service, None, is_last=False):
            found = self.rows(service, sql, until=until)
            if len(found) >= limit:
                break
        return found

    def _widening(self, service: str, bound: float | None, *, is_last: bool) -> Iterator[float | None]:
        """Where spans of 1, 2, 4 … days begin that end with the last day, or end that begin with the first one.

        All of a log may be large, and mostly the first span has enough.
        """
        repository = find_repository(self._lake, service)
        days = set() if repository is None else _days_of(repository)
        ordered = sorted(days, reverse=is_last)
        number = 1
        while number < len(ordered):
            edge = dt.datetime.fromisoformat(ordered[number - 1]).replace(tzinfo=dt.UTC).timestamp()
            if bound is not None and edge < bound:
                break
            yield edge if is_last else edge + _DAY
            number *= 2
        yield bound

    def rows(
        self, service: str, sql: str, *, since: float | None = None, until: float | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a statement of ours over `queries` and `feedback`; only days in the span are read."""
        found: list[dict[str, Any]] = self.table(service, sql, since=since, until=until).to_pylist()
        return found

    def table(
        self, service: str, sql: str, *, since: float | None = None, until: float | None = None
    ) -> pa.Table:
        """The same as a table."""
        with self.relations(service, since=since, until=until) as relations:
            return self._engine.query(sql, relations)

    def counted(self, service: str, sql: str, *, since: float, until: float) -> list[dict[str, Any]]:
        """The rows of a statement of ours over `traffic`, what was counted; no query is read."""
        days = _day(since), _day(until)
        with self._opened(service, [(TRAFFIC, TRAFFIC_COLUMNS, *days)]) as relations:
            found: list[dict[str, Any]] = self._engine.query(sql, relations).to_pylist()
        return found

    def outcomes(self, service: str, since: float, until: float) -> pa.Table:
        """What was answered in a span of time and what turned out, where that is told."""
        sql = (
            f"WITH told AS ({LAST_TOLD}) SELECT {', '.join(OUTCOME_COLUMNS)} "
            "FROM queries JOIN told USING (request_id, item) "
            f"WHERE asked_at >= {moment(since)} AND asked_at < {moment(until)} ORDER BY asked_at, request_id, item"
        )
        return self.table(service, sql, since=since, until=until)

    @contextlib.contextmanager
    def relations(
        self, service: str, *, since: float | None = None, until: float | None = None
    ) -> Iterator[list[Relation]]:
        """The two data sets, while the block runs; empty ones where nothing was kept."""
        # What turned out may be told long after, and never before.
        wanted = (
            (QUERIES, COLUMNS, _day(since), _day(until)),
            (FEEDBACK, FEEDBACK_COLUMNS, _day(since), ""),
        )
        with self._opened(service, wanted) as relations:
            yield relations

    @contextlib.contextmanager
    def _opened(
        self, service: str, wanted: Sequence[tuple[str, Mapping[str, str], str, str]]
    ) -> Iterator[list[Relation]]:
        """Data sets by name, columns, first and last day."""
        repository = find_repository(self._lake, service)
        copies = self._engine.temp_folder / f"copies-{uuid.uuid4().hex}"
        self._engine.temp_folder.mkdir(parents=True, exist_ok=True)
        try:
            yield [
                _relation(repository, name, columns, copies, first, last)
                for name, columns, first, last in wanted
            ]
        finally:
            shutil.rmtree(copies, ignore_errors=True)


def where(wanted: Wanted) -> str:
    """The condition of a statement."""
    parts = [f"environment = {literal(wanted.environment)}"]
    if wanted.since is not None:
        parts.append(f"asked_at >= {moment(wanted.since)}")
    if wanted.until is not None:
        parts.append(f"asked_at < {moment(wanted.until)}")
    named = {column: getattr(wanted, column) for column in ("endpoint", "generation", "request_id")}
    parts += [f"{column} = {literal(value)}" for column, value in named.items() if value]
    if wanted.errors:
        parts.append("(status <> 200 OR error IS NOT NULL)")
    if wanted.shadow is not None:
        parts.append("shadow" if wanted.shadow else "NOT shadow")
    return " AND ".join(parts)


def masked_again(rows: Sequence[dict[str, Any]], shown: Mapping[str, Shown]) -> list[dict[str, Any]]:
    """Rows as a page may show them, JSON read: what was let through once may be masked by now."""
    found = []
    told = outcome_rule(shown)
    for row in rows:
        rule = shown.get(row["endpoint"], Shown(closed=True))
        values = {name: _read(row[name]) for name in JSON_COLUMNS}
        values["sent"] = rule.of(values["sent"])
        values["features"] = rule.of(values["features"])
        is_prediction = row["action"].startswith("predict") or row["action"] == INFER
        result = values["result"] = shown_result(values["result"], rule, is_prediction=is_prediction)
        found.append({**row, **values, "asked_at": row["asked_at"].timestamp()})
        if (outcome := row.get("outcome")) is not None:
            found[-1]["outcome"] = _read(shown_outcome(outcome.encode(), told, _classes(result)).decode())
    return found


def _classes(result: Any) -> set[str]:
    """The texts that a model answers with, as far as one answer tells them."""
    if not isinstance(result, dict):
        return set()
    probas = result.get("probas")
    return {str(result.get("prediction")), *(probas if isinstance(probas, dict) else ())}


def _read(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _relation(
    repository: Repository | None,
    name: str,
    columns: Mapping[str, str],
    copies: Any,
    first: str,
    last: str,
) -> Relation:
    types = tuple(ColumnType(column, kind) for column, kind in columns.items())
    entries: list[Entry] = []
    if repository is not None:
        entries = [
            entry
            for entry in repository.entries(repository.default_branch, f"{name}/")
            if entry.path.endswith(".parquet")
            and (not first or day_of(entry.path) >= first)
            and (not last or day_of(entry.path) <= last)
        ]
    files = tuple(local_files(repository, entries, copies / name).values()) if repository else ()
    return Relation(name, files, columns=types, is_mixed=True)  # older ones have fewer columns


def _day(moment: float | None) -> str:
    return "" if moment is None else dt.datetime.fromtimestamp(moment, dt.UTC).date().isoformat()


def moment(seconds: float) -> str:
    """A time, in seconds since the epoch, as SQL."""
    return f"make_timestamptz({round(seconds * 1_000_000)})"
