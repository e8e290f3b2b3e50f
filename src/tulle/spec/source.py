"""What an input port's `source:` may say: files, objects of a store, an HTTP API, or a table of a database.

The schema of its properties, the value they make, and the rules a schema cannot say. A document names a connection;
its address and its secrets are kept elsewhere. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tulle.errors import Place, did_you_mean

FILE, STORE, HTTP, SQL = "file", "store", "http", "sql"
LDAP = "ldap"  # likewise: policies of services ask there who calls
REDIS = "redis"  # a kind of connection that no source reads: services look rows up there
TYPES = (FILE, STORE, HTTP, SQL)
FORMATS = ("csv", "whitespace", "json", "parquet")
ENDINGS = {
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "parquet": "parquet",
}
LOADS = ("full", "incremental", "merge")
REFUSE, WIDEN, QUARANTINE = "refuse", "widen", "quarantine"
PAGING = ("none", "link", "page", "offset", "cursor")
CONNECTION_NAME = r"^[a-z][a-z0-9_-]{0,62}$"
MOST_REQUESTS_A_SECOND = 1000.0

_STORE_URL = re.compile(r"(s3|gs|az|abfss?|https)://[^\s?#]+")
_TABLE = re.compile(r'[^\W\d][\w$]*(\.[^\W\d][\w$]*){0,2}|("[^"\x00]+")(\."[^"\x00]+"){0,2}')

# Which properties belong to which type, beside those common to all.
_READING = ("path", "format", "delimiter", "header", "quote", "encoding")
_OF_TYPE: Mapping[str, tuple[str, ...]] = {
    FILE: _READING,
    STORE: (*_READING, "connection"),
    HTTP: (
        *_READING,
        "connection",
        "records",
        "params",
        "paging",
        "cursor_param",
        "requests_per_second",
    ),
    SQL: ("connection", "table", "query"),
}
_COMMON = ("type", "columns", "load", "cursor", "key", "on_drift", "on_bad_rows")


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column of a source and how its text is read."""

    name: str
    type: str = "string"
    format: str = ""  # strptime pattern of dates and timestamps; empty means ISO 8601
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Paging:
    """How an HTTP API hands out more than one page."""

    type: str = "none"  # none | link | page | offset | cursor
    param: str = ""  # the query parameter that asks for a page
    size_param: str = ""
    size: int = 0
    start: int = 1
    next: str = ""  # the dotted path to the next page's cursor in the answer


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input port's rows come from, how they are read, and what stays of those that were there."""

    path: str = ""  # of a file (a glob), a URL of a store, or what follows an HTTP connection's address
    format: str = ""  # csv | whitespace | json | parquet
    delimiter: str = ","
    header: bool = True
    quote: str = '"'
    encoding: str = "utf-8"
    columns: tuple[SourceColumn, ...] = ()  # empty: as the source has them
    type: str = FILE
    connection: str = ""
    table: str = ""
    query: str = ""
    records: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    paging: Paging = Paging()
    cursor_param: str = ""
    requests_per_second: float = 0.0  # 0: as fast as it answers
    load: str = "full"
    cursor: str = ""
    key: tuple[str, ...] = ()
    on_drift: str = REFUSE
    on_bad_rows: str = REFUSE
    place: Place | None = field(default=None, compare=False, repr=False)

    @property
    def named(self) -> str:
        """What a picture calls it: the file, the table, or the address."""
        return self.table or self.path or self.connection

    def digest_text(self) -> str:
        """All that decides which rows come out of it."""
        value = asdict(self)
        value.pop("place")
        value["columns"] = [[c.name, c.type, c.format] for c in self.columns]
        return json.dumps(value, sort_keys=True)


# ── the schema ───────────────────────────────────────────────────────────────────────────────────────────


def source_schema(column: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of `source:`; `column` is that of one source column."""
    said = {"type": "string", "minLength": 1}
    name = {**said, "maxLength": 200, "pattern": r"^[^\x00-\x1f]+$", "x-expected": "a name on one line"}
    names = {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {**name, "description": "one column"},
    }
    properties: dict[str, Any] = {
        "type": {"enum": list(TYPES), "description": "where rows come from"},
        "path": {
            **said,
            "description": "of a file: the file or a glob such as data/*.csv, in the product's folder or absolute in "
            "one of the mesh's data_folders; of a store: a URL or a glob such as s3://bucket/sales/*.parquet; of an "
            "http source: what follows the connection's address, or a whole URL. Names ending in .gz are unpacked",
        },
        "format": {
            "enum": list(FORMATS),
            "description": "how the rows are written; default: by the ending of the path, json for http",
        },
        "delimiter": {
            **said,
            "maxLength": 4,
            "default": ",",
            "description": "what stands between two values of a csv file",
        },
        "header": {
            "type": "boolean",
            "default": True,
            "description": "whether the first line of a csv or whitespace file names the columns",
        },
        "quote": {
            "type": "string",
            "maxLength": 1,
            "default": '"',
            "description": "what encloses a value that holds the delimiter; empty for none",
        },
        "encoding": {
            "enum": ["utf-8", "latin-1", "utf-16"],
            "description": "how the text is encoded",
            "default": "utf-8",
        },
        "connection": {
            **said,
            "pattern": CONNECTION_NAME,
            "x-expected": "a name such as shop-db",
            "description": "the connection that has address and secrets, made with `tulle connection set`",
        },
        "table": {**said, "description": "the table of a sql source, such as public.orders"},
        "query": {**said, "description": "one SELECT in the database's own SQL, in place of a table"},
        "records": {
            **said,
            "description": "where in an answer of json the list of rows is, dotted, such as data.items; default: the "
            "answer is the list",
        },
        "params": {
            "type": "object",
            "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
            "description": "query parameters that every request of an http source has",
        },
        "paging": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type"],
            "description": "how an http source asks for the next page",
            "properties": {
                "type": {
                    "enum": list(PAGING),
                    "description": "by Link header, page number, offset, or a cursor in the answer",
                },
                "param": {
                    **name,
                    "description": "the query parameter that asks for a page; default: as the type",
                },
                "size_param": {
                    **name,
                    "description": "the query parameter that says how many rows a page has",
                },
                "size": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 100_000,
                    "description": "rows of a page",
                },
                "start": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 1_000_000,
                    "default": 1,
                    "description": "the number of the first page",
                },
                "next": {
                    **said,
                    "description": "where in the answer the next cursor is, dotted, such as meta.next",
                },
            },
        },
        "cursor_param": {
            **name,
            "description": "the query parameter by which an incremental http source asks for what is new",
        },
        "requests_per_second": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MOST_REQUESTS_A_SECOND,
            "description": "an http source is asked no more often than that",
        },
        "columns": {
            "type": "array",
            "items": dict(column),
            "minItems": 1,
            "description": "the columns, in the order of the file; needed where the source does not name them",
        },
        "load": {
            "enum": list(LOADS),
            "default": "full",
            "description": "full: what is there replaces what was read before; incremental: what is new is added; "
            "merge: rows with the same key are replaced, further ones added",
        },
        "cursor": {
            **name,
            "description": "the column that grows with every new or changed row, such as updated_at; without it "
            "files are told apart by name and content",
        },
        "key": {**names, "description": "the columns that tell rows apart, for load: merge"},
        "on_drift": {
            "enum": [REFUSE, WIDEN, QUARANTINE],
            "default": REFUSE,
            "description": "when the source has other columns than before: refuse the run, widen (take new columns, "
            "and numbers of a wider type), or quarantine (rows come in without the new columns; what does not fit "
            "is put aside)",
        },
        "on_bad_rows": {
            "enum": [REFUSE, QUARANTINE],
            "default": REFUSE,
            "description": "when a row does not fit: refuse the run, or put the row aside in <data_set>__rejected "
            "with the reason",
        },
    }
    return {"type": "object", "properties": properties, "required": ["type"], "additionalProperties": False}


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule a source breaks: what, at which of its properties ("" for the source itself), what to do."""

    message: str
    at: str
    hint: str
    key: bool = False


def is_table(text: str) -> bool:
    """Whether that is a table's name: up to three parts, each plain or all in double quotes."""
    return _TABLE.fullmatch(text) is not None


def file_format(source: Mapping[str, Any]) -> str:
    """How the rows of a source are written, by what is said or by its ending; empty when neither tells."""
    written, path = source.get("format"), source.get("path")
    if isinstance(written, str):
        return written
    if source.get("type") == SQL or not isinstance(path, str):
        return "csv"  # its schema has spoken about the path already
    found = ENDINGS.get(path.lower().removesuffix(".gz").rsplit(".", 1)[-1], "")
    return found or ("json" if source.get("type") == HTTP else "")


def broken_rules(source: Mapping[str, Any]) -> Iterator[Broken]:
    """What is wrong with a source beyond its schema; also for one that its schema has refused."""
    kind = source.get("type")
    if kind not in TYPES:
        return
    assert isinstance(kind, str)
    fitting = {*_OF_TYPE[kind], *_COMMON}
    for prop in source:
        if prop not in fitting and any(prop in props for props in _OF_TYPE.values()):
            kinds = [other for other in TYPES if prop in _OF_TYPE[other]]
            yield Broken(f"'{prop}' has no meaning for a source of type {kind}", prop, _belongs(kinds), True)
    yield from {FILE: _file, STORE: _store, HTTP: _http, SQL: _sql}[kind](source)
    if kind != SQL:
        yield from _reading(source, http=kind == HTTP)
    yield from _loading(source, kind)


def _belongs(kinds: list[str]) -> str:
    return f"remove it; it belongs to {' and '.join(kinds)}"


def _missing(source: Mapping[str, Any], prop: str, what: str) -> Iterator[Broken]:
    if prop not in source:
        yield Broken(f"the source misses '{prop}'", "", f"add {prop}: {what}", True)


def _file(source: Mapping[str, Any]) -> Iterator[Broken]:
    yield from _missing(source, "path", "the file, such as data/sales.csv")


def _store(source: Mapping[str, Any]) -> Iterator[Broken]:
    yield from _missing(source, "path", "where the objects are, such as s3://bucket/sales/*.csv")
    path = source.get("path")
    if isinstance(path, str) and not _STORE_URL.fullmatch(path):
        hint = "write s3://bucket/prefix/*.csv, gs://…, az://… or https://account.blob.core.windows.net/…"
        yield Broken(f"'{path[:100]}' is no address of objects in a store", "path", hint)


def _http(source: Mapping[str, Any]) -> Iterator[Broken]:
    yield from _missing(source, "path", "what follows the connection's address, or a URL")
    path = source.get("path")
    if isinstance(path, str):
        whole = path.startswith(("http://", "https://"))
        if not whole and "connection" not in source:
            hint = "write https://host/…, or name a connection that has the address"
            yield Broken(
                f"'{path[:100]}' is no URL, and there is no connection to take it from", "path", hint
            )
        if "@" in path.partition("://")[2].partition("/")[0]:
            yield Broken("the URL has a name or password in it", "path", "keep it in a connection")
    paging = source.get("paging")
    if isinstance(paging, Mapping):
        if paging.get("type") == "cursor" and "next" not in paging:
            hint = "add next: the dotted path to it in the answer, such as meta.next"
            yield Broken("paging by cursor does not say where the next cursor is", "paging", hint)
        if paging.get("type") == "offset" and "size" not in paging:
            yield Broken("paging by offset does not say how many rows a page has", "paging", "add size: 100")
    if "cursor_param" in source and "cursor" not in source:
        yield Broken(
            "'cursor_param' has no meaning without a cursor", "cursor_param", "add cursor: a column", True
        )


def _sql(source: Mapping[str, Any]) -> Iterator[Broken]:
    yield from _missing(source, "connection", "a name, made with `tulle connection set`")
    if ("table" in source) == ("query" in source):
        told = "names both a table and a query" if "table" in source else "names neither a table nor a query"
        yield Broken(f"the source {told}", "query" if "table" in source else "", "name one of them", True)
    table = source.get("table")
    if isinstance(table, str) and not is_table(table):
        hint = 'write orders, public.orders, or "Odd name" in double quotes'
        yield Broken(f"'{table[:100]}' is no name of a table", "table", hint)
    query = source.get("query")
    if isinstance(query, str):
        if not re.match(r"\s*(select|with)\b", query, re.IGNORECASE):
            yield Broken("the query is no SELECT", "query", "a source only reads: begin with SELECT or WITH")
        elif ";" in query.rstrip().rstrip(";"):
            yield Broken("the query has a ';' in it", "query", "write one statement, without ';'")


def _reading(source: Mapping[str, Any], *, http: bool) -> Iterator[Broken]:
    form = file_format(source)
    if not form:
        path = str(source.get("path"))[:100]
        hint = "add format: csv, whitespace, json or parquet"
        yield Broken(f"the ending of '{path}' does not tell how the file is written", "path", hint)
    if http and form in {"whitespace", "parquet"}:
        yield Broken(f"an http source cannot be read as {form}", "format", "write json or csv")
    if form in {"csv", "whitespace"} and source.get("header") is False and not source.get("columns"):
        hint = "add columns: [{name: …, type: …}, …] in the order of the file"
        yield Broken(f"a {form} file without a header needs its columns named", "", hint, True)
    meaningless = {
        "csv": ("records",),
        "whitespace": ("delimiter", "quote"),
        "json": ("delimiter", "quote", "header"),
        "parquet": ("delimiter", "quote", "header", "encoding"),
    }
    for prop in meaningless.get(form, ()):
        if prop in source:
            yield Broken(f"'{prop}' has no meaning for a {form} file", prop, "remove it", True)


def _loading(source: Mapping[str, Any], kind: str) -> Iterator[Broken]:
    load = source.get("load", "full")
    if load == "merge" and "key" not in source:
        hint = "add key: [the columns that tell rows apart]"
        yield Broken("load: merge does not say which rows are the same", "load", hint)
    if load != "merge" and "key" in source:
        yield Broken(f"'key' has no meaning for load: {load}", "key", "remove it, or write load: merge", True)
    if load == "full" and "cursor" in source:
        hint = "remove it, or write load: incremental or merge"
        yield Broken("'cursor' has no meaning for load: full", "cursor", hint, True)
    if load == "incremental" and kind in {HTTP, SQL} and "cursor" not in source:
        hint = "add cursor: a column that grows with every new row, such as updated_at"
        yield Broken("load: incremental does not say what tells new rows", "load", hint)
    columns = source.get("columns")
    named = [c.get("name") for c in columns if isinstance(c, Mapping)] if isinstance(columns, list) else []
    keys = source.get("key")
    wanted = [("cursor", source.get("cursor"))]
    wanted += [("key", name) for name in keys] if isinstance(keys, list) else []
    for prop, column in wanted:
        if named and isinstance(column, str) and column not in named:
            hint = did_you_mean(column, [str(name) for name in named]) or "name one of the columns"
            yield Broken(f"'{prop}' names '{column}', which is not among the columns", prop, hint)


# ── the value ────────────────────────────────────────────────────────────────────────────────────────────


def source_value(says: Mapping[str, Any], columns: tuple[SourceColumn, ...], place: Place | None) -> Source:
    """The value of a source that passed its schema and rules."""
    path = str(says.get("path", ""))
    tabs = path.lower().removesuffix(".gz").endswith(".tsv")
    paging = says.get("paging", {})
    return Source(
        path=path,
        format=file_format(says) if says["type"] != SQL else "",
        delimiter=says.get("delimiter", "\t" if tabs else ",").replace("\\t", "\t"),
        header=says.get("header", True),
        quote=says.get("quote", '"'),
        encoding=says.get("encoding", "utf-8"),
        columns=columns,
        type=says["type"],
        connection=says.get("connection", ""),
        table=says.get("table", ""),
        query=says.get("query", "").strip().rstrip(";"),
        records=says.get("records", ""),
        params={name: _param(value) for name, value in says.get("params", {}).items()},
        paging=Paging(**paging),
        cursor_param=says.get("cursor_param", ""),
        requests_per_second=float(says.get("requests_per_second", 0)),
        load=says.get("load", "full"),
        cursor=says.get("cursor", ""),
        key=tuple(says.get("key", ())),
        on_drift=says.get("on_drift", REFUSE),
        on_bad_rows=says.get("on_bad_rows", REFUSE),
        place=place,
    )


def _param(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
