"""Rows that were put aside because they do not fit, as a page shows them: reasons counted, rows a page at a time.

A source's rows hold whatever somebody sent, so a value is shown only where the product says that its column names
nobody; reasons are shown without the values they quote. Rows are read by the engine, from files at one commit.
"""

# ruff: noqa: S608  names go through `quoted`, values through `literal`
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tulle.catalog.known import KnownProducts
from tulle.catalog.masking import is_closed, readable_columns
from tulle.config import Settings, Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation, literal, quoted
from tulle.errors import Invalid, NotFound, TulleError
from tulle.lake.repository import Lake
from tulle.pipeline.keep import REJECTED_SUFFIX
from tulle.pipeline.table import data_at
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database

ROWS_A_PAGE = 50
MOST_REASONS = 50
MOST_RUNS = 30
_MOST_PAGES = 100_000
_MOST_COLUMNS = 100
_COLUMNS = ("reason", "place", "row", "run", "at")
# What is wrong without the value that is: the columns that a reason names, as far as the row has such columns, so that
# nothing a value says can pass for one; or how many values there were.
_NAMED = """regexp_extract_all(reason, 'column ''([^'']*)'' is ', 1)"""
_KEYS = """CASE WHEN json_valid("row") THEN json_keys("row") ELSE [] END"""
_TOLD = (
    "CASE WHEN regexp_full_match(reason, '[0-9]+ values?, expected [0-9]+') THEN reason"
    f" ELSE array_to_string([name FOR name IN list_sort(list_distinct({_NAMED})) IF list_contains({_KEYS}, name)],"
    " ', ') END"
)
_WHOLE = "…"  # the name under which a row of too few or too many values is kept whole


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows have something in common: a reason, a run. `text` says the reason in words."""

    name: str
    rows: int
    at: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row: why and where; its cells by the page's columns, None where a value must not be shown.

    `is_hidden`: none of them may be, as nobody knows which column a value belongs to.
    """

    reason: str
    place: str
    run: str
    at: float | None
    cells: tuple[Any, ...]
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class RejectedPage:
    """What the page shows; `page` counts from 1. `note` says why values are missing."""

    product: str
    data_set: str
    environment: str
    total: int
    reasons: tuple[Count, ...]
    runs: tuple[Count, ...]
    run: str = ""
    reason: str = ""
    chosen: int = 0  # rows with that run and reason
    page: int = 1
    columns: tuple[str, ...] = ()
    masked: frozenset[str] = frozenset()
    rows: tuple[RejectedRow, ...] = ()
    note: str = ""

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.chosen // ROWS_A_PAGE))


@dataclass(frozen=True, slots=True)
class PutAside:
    """A data set of which rows were put aside."""

    product: str
    data_set: str
    rows: int
    reasons: int
    last_at: float | None
    last_run: str
    problem: str = ""


class RejectedReader:
    """Answers the portal's questions about rows put aside. Safe to share between threads."""

    def __init__(self, settings: Settings, database: Database, lake: Lake, known: KnownProducts) -> None:
        bounds = Warehouse(threads=1, memory="512MB", temp_disk="1GB")
        self._engine = DuckEngine(bounds, settings.run_folder / "portal")
        self._database = database
        self._lake = lake
        self._known = known
        self._kept: dict[tuple[str, str], tuple[str, PutAside]] = {}  # by data set: its identity, what it has

    def all(self) -> tuple[PutAside, ...]:
        """Every data set of which rows are put aside, the latest first."""
        found = []
        for item in self._known.all().values():
            for port in item.product.input_ports:
                if port.data_set and port.source is not None and port.source.on_bad_rows == "quarantine":
                    one = self._one(item.product.name, port.data_set)
                    found += [one] if one else []
        return tuple(sorted(found, key=lambda one: -(one.last_at or 0)))

    def page(
        self,
        product: str,
        data_set: str,
        *,
        environment: str = "main",
        run: str = "",
        reason: str = "",
        page: int = 1,
    ) -> RejectedPage:
        """Rows of a data set that were put aside, some of them. NotFound; Invalid for rows that are not ours."""
        applied = products.applied_product(self._database, product).product
        known = {one.name for one in applied.data_sets} | {port.data_set for port in applied.input_ports}
        relation = self._relation(product, data_set, environment)
        if relation is None:
            if data_set not in known:
                hint = f"it has {', '.join(sorted(known - {''})) or 'none'}"
                raise NotFound(f"product '{product}' has no data set '{data_set}'", hint=hint)
            return RejectedPage(product, data_set, environment, 0, (), ())
        name = quoted(relation.name)
        columns = {column.name for column in self._engine.describe(f"SELECT * FROM {name}", [relation])}
        if not columns.issuperset(_COLUMNS):
            raise Invalid(
                f"'{relation.name}' of product '{product}' holds no rows put aside by a run",
                hint="its columns are other ones: somebody else wrote it; look at it in the lake",
            )
        where = [f"run = {literal(run)}"] if run else []
        where += [f"{_TOLD} = {literal(reason)}"] if reason else []
        chosen = f" WHERE {' AND '.join(where)}" if where else ""
        count = self._rows(f"SELECT count(*) AS n FROM {name}{chosen}", relation)[0]["n"]
        page = max(1, min(page, _MOST_PAGES, -(-count // ROWS_A_PAGE) or 1))
        rows = self._rows(
            f'SELECT {_TOLD} AS told, place, "row", run, "at" FROM {name}{chosen}'
            f' ORDER BY "at" DESC, run DESC, place LIMIT {ROWS_A_PAGE} OFFSET {(page - 1) * ROWS_A_PAGE}',
            relation,
        )
        reasons = self._counts(_TOLD, MOST_REASONS, relation, where[:1] if run else [])
        types = _types(applied, data_set)
        made = RejectedPage(
            product,
            data_set,
            environment,
            total=self._rows(f"SELECT count(*) AS n FROM {name}", relation)[0]["n"],
            reasons=tuple(replace(one, text=in_words(one.name, types)) for one in reasons),
            runs=self._counts("run", MOST_RUNS, relation, where[-1:] if reason else [], newest=True),
            run=run,
            reason=reason,
            chosen=count,
            page=page,
        )
        return _with_rows(made, applied, rows)

    def _one(self, product: str, data_set: str) -> PutAside | None:
        try:
            found = data_at(self._lake.repository(product), "main", f"{data_set}{REJECTED_SUFFIX}")
            if found is None:
                return None
            kept = self._kept.get((product, data_set))
            if kept and kept[0] == found.identity:
                return kept[1]
            (row,) = self._rows(
                f'SELECT count(*) AS n, count(DISTINCT {_TOLD}) AS reasons, max("at") AS last,'
                ' arg_max(run, "at") AS run'
                f" FROM {quoted(found.name)}",
                found.relation,
            )
        except (TulleError, OSError) as exc:
            return PutAside(product, data_set, 0, 0, None, "", str(exc))
        one = PutAside(product, data_set, row["n"], row["reasons"], _seconds(row["last"]), row["run"] or "")
        self._kept[product, data_set] = (found.identity, one)
        return one

    def _relation(self, product: str, data_set: str, environment: str) -> Relation | None:
        found = data_at(self._lake.repository(product), environment, f"{data_set}{REJECTED_SUFFIX}")
        return found.relation if found else None

    def _counts(
        self, what: str, most: int, relation: Relation, where: Sequence[str], *, newest: bool = False
    ) -> tuple[Count, ...]:
        chosen = f" WHERE {' AND '.join(where)}" if where else ""
        order = "last DESC, name DESC" if newest else "n DESC, name"
        rows = self._rows(
            f'SELECT {what} AS name, count(*) AS n, max("at") AS last FROM {quoted(relation.name)}{chosen}'
            f" GROUP BY 1 ORDER BY {order} LIMIT {most}",
            relation,
        )
        return tuple(Count(row["name"] or "", row["n"], _seconds(row["last"])) for row in rows)

    def _rows(self, sql: str, relation: Relation) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._engine.query(sql, [relation]).to_pylist()
        return found


def _with_rows(page: RejectedPage, product: DataProduct, rows: Sequence[Mapping[str, Any]]) -> RejectedPage:
    found = [_values(row["row"]) for row in rows]
    columns = tuple(dict.fromkeys(name for values in found for name in values))[:_MOST_COLUMNS]
    shown = readable_columns(product, page.data_set, columns)
    types = _types(product, page.data_set)
    told = tuple(
        RejectedRow(
            in_words(row["told"] or "", types),
            row["place"] or "",
            row["run"] or "",
            _seconds(row["at"]),
            tuple(values.get(name) if name in shown and not hidden else None for name in columns),
            hidden,
        )
        for row, values in zip(rows, found, strict=True)
        for hidden in [_WHOLE in values and not shown.issuperset(columns)]
    )
    masked = frozenset(columns) - shown
    return replace(
        page, columns=columns, masked=masked, rows=told, note=_note(product, page.data_set, masked)
    )


def in_words(told: str, types: Mapping[str, str]) -> str:
    """What is wrong with a row, given the columns that do not fit, or how many values there were."""
    if not told:
        return "it does not fit for another reason"
    if told[0].isdigit() and ", expected " in told:
        return told
    found = told.split(", ")
    known = [f"{name} is no {types[name]}" for name in found if name in types]
    return "; ".join(known) if len(known) == len(found) else f"{told}: a value that does not fit"


def _types(product: DataProduct, data_set: str) -> dict[str, str]:
    ports = [port for port in product.input_ports if port.data_set == data_set and port.source is not None]
    return {column.name: column.type for port in ports if port.source for column in port.source.columns}


def _note(product: DataProduct, data_set: str, masked: frozenset[str]) -> str:
    declared = next((one for one in product.data_sets if one.name == data_set), None)
    if is_closed(product, declared):
        return "Values of restricted data are not shown."
    if masked and declared is None:
        return (
            f"The product has columns that name people and declares no data set {data_set}, so no value is shown:"
            " declare it in product.yaml, each column with its pii, to see the others."
        )
    return ""


def _values(text: str | None) -> dict[str, Any]:
    """The row as it came, by column; of what is no mapping nothing may be shown."""
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {str(name): value for name, value in values.items()}


def _seconds(at: datetime | None) -> float | None:
    return at.replace(tzinfo=UTC).timestamp() if at is not None else None
