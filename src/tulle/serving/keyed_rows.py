"""Rows found by a key, as services declare them: by lookup endpoints, and by predictions for features left out.

One form for both, so that what is looked up is the same wherever it is asked for. Pure: knows nothing of files or data.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tulle.errors import Place
from tulle.spec.columns import TYPE_PATTERN, TYPE_WORDS
from tulle.spec.period import minutes_of
from tulle.spec.schemas import duration
from tulle.spec.source import CONNECTION_NAME

PlaceOf = Callable[[tuple[str | int, ...]], Place]  # where a property of the endpoint stands
Pairs = tuple[tuple[str, str], ...]

ERROR: Final = "error"
IGNORE: Final = "ignore"
DEFAULT: Final = "default"
FORBIDDEN: Final = "forbidden"
FIRST: Final = "first"
ALL: Final = "all"
KEEP: Final = "keep"
Policy = Literal["error", "ignore", "default"]
Several = Literal["forbidden", "error", "ignore", "first", "all"]
TooOld = Literal["error", "ignore", "default", "keep"]
BUNDLED: Final = "bundled"
LATEST: Final = "latest"
CONNECTION: Final = "connection"
Origin = Literal["bundled", "latest", "connection"]
# What makes no sense without another property.
NEEDED_TOGETHER = {"max_age": ["event_time"], "too_old": ["max_age"], "most_rows": ["several"]}
MOST_ROWS = 1000  # of one key that an answer may have
_USUAL_ROWS = 100

_NAME = {"type": "string", "minLength": 1, "maxLength": 200}
_NAMES = {"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True}
_RENAMED = {"type": "object", "additionalProperties": _NAME, "minProperties": 1}
JSON: Final = "json"
HASH: Final = "hash"
ASKED: Final = "asked"
PUBLISHED: Final = "published"
_STORE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["connection"],
    "anyOf": [{"required": ["table"]}, {"required": ["keys", "types"]}, {"required": ["keys", "fill"]}],
    "dependentRequired": {"form": ["keys"], "types": ["keys"]},
    "properties": {
        "connection": {
            "type": "string",
            "pattern": CONNECTION_NAME,
            "description": "a connection of the mesh",
        },
        "table": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "PostgreSQL: orders, or shop.orders",
        },
        "keys": {
            "type": "string",
            "minLength": 1,
            "maxLength": 500,
            "description": "Redis: under which keys rows lie, such as 'customer:{customer_id}'",
        },
        "types": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1000,
            "propertyNames": _NAME,
            "additionalProperties": {"type": "string", "pattern": TYPE_PATTERN, "x-expected": TYPE_WORDS},
            "description": "Redis: the columns of a row with their types, those of the key too",
        },
        "form": {
            "enum": [JSON, HASH],
            "description": "Redis: what a key holds, JSON (the default; several rows are a list) or a hash",
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 30,
            "description": "seconds that a request waits for it (default 1)",
        },
        "connections": {
            "type": "integer",
            "minimum": 1,
            "maximum": 64,
            "description": "that each worker opens at most (default 4)",
        },
        "unavailable": {"enum": [ERROR, DEFAULT], "description": "when it does not answer (default: error)"},
        "fill": {
            "enum": [ASKED, PUBLISHED],
            "description": "the lake fills it from the data set: asked (`tulle features publish`), or also "
            "whenever it is published; default: whoever owns it does",
        },
    },
}
_VALUE = {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True, slots=True)
class Store:
    """A table in a database, or keys of a Redis, where rows are looked up as they are when a request comes."""

    connection: str
    table: str = ""
    seconds: float = 1.0  # that a request waits for it
    connections: int = 4  # of each worker at most
    unavailable: Literal["error", "default"] = "error"
    keys: str = ""  # the form of the keys, in place of a table
    types: Mapping[str, str] = field(default_factory=dict)  # the columns that lie there
    form: Literal["json", "hash"] = JSON
    fill: Literal["", "asked", "published"] = ""  # when the lake fills it; empty: somebody else does

    @property
    def place(self) -> str:
        """The table, or the keys."""
        return self.table or self.keys


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """Where rows are found, by what, and what happens when they are not; `product` empty means the service's own.

    `key` and `columns` are pairs: what it is called in requests and answers, and the column it is. `columns` empty
    means all that fit. A row that has no value in a column, or is not there, has those of `defaults`.
    """

    product: str
    data_set: str
    key: Pairs
    columns: Pairs = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    missing_key: Policy = ERROR
    no_match: Policy = ERROR
    several: Several = FORBIDDEN
    order_by: tuple[str, ...] = ()  # columns; "-" before one: the largest first
    most_rows: int = _USUAL_ROWS
    event_time: str = ""  # the column that tells since when a row holds
    max_age_seconds: int = 0  # 0: whatever it is
    too_old: TooOld = KEEP
    source: Origin = BUNDLED
    version: str = ""  # of the product whose data set it is; empty: what is published
    store: Store | None = None  # of the source `connection`
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property
    path: tuple[str | int, ...] = field(
        default=(), compare=False, repr=False
    )  # where in the endpoint it stands

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns that answers have, as the data set calls them."""
        return tuple(column for _, column in self.columns)


def keyed_rows_schema(*, endpoint: bool) -> dict[str, Any]:
    """The JSON Schema of the properties; `endpoint`: of a lookup endpoint, else of an enrichment."""
    what = "a row" if endpoint else "its row"
    unsent = "when the key is not sent" if endpoint else "when neither features nor key are sent"
    several = (FORBIDDEN, ERROR, IGNORE, FIRST, *((ALL,) if endpoint else ()))
    return {
        "product": {
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9-]{2,62}$",
            "x-expected": "the kebab-case name of a product",
            "description": "whose data set it is; default: this product",
        },
        "data_set": {
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]{0,62}$",
            "x-expected": "the snake_case name of a data set",
        },
        "source": {
            "anyOf": [{"enum": [BUNDLED, LATEST]}, _STORE],
            "x-expected": "bundled, latest, {connection: …, table: …} or {connection: …, keys: …, types: …}",
            "description": "bundled (default): as it was when the service was packaged; latest: what is published, "
            "followed in place; {connection, table} or {connection, keys, types}: what a database holds then",
        },
        "version": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "of the product: a release (1.2 is the highest 1.2.*), a tag or a commit",
        },
        "key": {
            "anyOf": [_NAME, _NAMES, _RENAMED],
            "x-expected": "the name of a column, a list of them, or {name sent: column}",
            "description": f"the columns a caller sends to have {what} found; {{name sent: column}} renames",
        },
        "columns": {
            "anyOf": [_NAMES, _RENAMED],
            "x-expected": "a list of columns, or {name: column}",
            "description": "what is taken of a row; {name: column} renames; default: all that fits",
        },
        "defaults": {
            "type": "object",
            "additionalProperties": _VALUE,
            "description": "values for columns of a row that has none, and of one that is not there",
        },
        "missing_key": _one_of((ERROR, IGNORE, DEFAULT), f"{unsent} (default: error)"),
        "no_match": _one_of((ERROR, IGNORE, DEFAULT), "when there is no row with the key (default: error)"),
        "several": _one_of(
            several, "when a key has several rows; default: forbidden, so that none can be packaged"
        ),
        "order_by": {
            **_NAMES,
            "description": "which row of a key is the first: columns, '-' before one for the largest first",
        },
        **(
            {
                "most_rows": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST_ROWS,
                    "description": f"with several: all, of each key (default {_USUAL_ROWS})",
                }
            }
            if endpoint
            else {}
        ),
        "event_time": _NAME | {"description": "the column that tells since when a row holds"},
        "max_age": duration("how long after its event_time a row counts"),
        "too_old": _one_of(
            (KEEP, ERROR, IGNORE, DEFAULT), "what becomes of an older row; default: keep, told as such"
        ),
    }


def parse_keyed_rows(raw: Mapping[str, Any], place: PlaceOf, path: tuple[str | int, ...] = ()) -> KeyedRows:
    """The value of checked properties."""
    said = raw.get("source", BUNDLED)
    return KeyedRows(
        product=raw.get("product", ""),
        data_set=raw["data_set"],
        key=_pairs(raw["key"]),
        columns=_pairs(raw.get("columns", ())),
        defaults=dict(raw.get("defaults", {})),
        missing_key=raw.get("missing_key", ERROR),
        no_match=raw.get("no_match", ERROR),
        several=raw.get("several", FORBIDDEN),
        order_by=tuple(raw.get("order_by", ())),
        most_rows=raw.get("most_rows", _USUAL_ROWS),
        event_time=raw.get("event_time", ""),
        max_age_seconds=60 * minutes_of(raw.get("max_age", "")),
        too_old=raw.get("too_old", KEEP),
        source=CONNECTION if isinstance(said, Mapping) else said,
        store=_store(said) if isinstance(said, Mapping) else None,
        version=raw.get("version", ""),
        places=places_of(raw, place, path),
        path=path,
    )


def columns_beside(rows: KeyedRows, known: Iterable[str], taken: Container[str]) -> Pairs:
    """What is taken of rows whose columns stand beside others, `taken`: what is named, else all that is known.

    But for the columns of its key that are there already: by the same value both were found.
    """
    same = {column for name, column in rows.key if name == column and name in taken}
    return rows.columns or tuple((name, name) for name in known if name not in same)


def clash(name: str, other: str, rows: KeyedRows) -> tuple[str, str]:
    """That two data sets of one answer have a column of the same name, and what to do."""
    hint = (
        f"say which of its columns are taken, or give one another name: `columns: {{other_{name}: {name}}}`"
    )
    return f"'{name}' is a column of '{other}' and of '{rows.data_set}', and one answer has both", hint


def _store(raw: Mapping[str, Any]) -> Store:
    usual = Store("")
    return Store(
        raw["connection"],
        raw.get("table", ""),
        raw.get("timeout", usual.seconds),
        raw.get("connections", usual.connections),
        raw.get("unavailable", usual.unavailable),
        raw.get("keys", ""),
        dict(raw.get("types", {})),
        raw.get("form", usual.form),
        raw.get("fill", usual.fill),
    )


def places_of(
    raw: Mapping[str, Any], place: PlaceOf, path: tuple[str | int, ...] = ()
) -> Mapping[str, Place]:
    """Where each property stands; the whole under the name ""."""
    return {"": place(path)} | {name: place((*path, name)) for name in raw}


def _one_of(values: tuple[str, ...], description: str) -> dict[str, Any]:
    return {"enum": list(values), "description": description}


def _pairs(said: str | list[str] | Mapping[str, str] | tuple[()]) -> Pairs:
    match said:
        case str():
            return ((said, said),)
        case Mapping():
            return tuple(said.items())
        case _:
            return tuple((name, name) for name in said)
