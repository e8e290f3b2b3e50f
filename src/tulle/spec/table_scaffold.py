"""A new product made of a table that is in a database already: its columns, key and comments, and how it is loaded.

Rows come in by a sql source over the named connection; a model casts them, a test tries the model on a row, so that the
product passes `tulle validate` and `tulle test` at once. Pure: what the database said comes in as plain values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.errors import Invalid
from tulle.spec.capability import Registry
from tulle.spec.columns import parse_type
from tulle.spec.mesh import PRODUCT_FILE
from tulle.spec.product import snake
from tulle.spec.skeleton import check_new, identifier
from tulle.spec.translate import Plain, checked, document_text, filled

OPEN_DECIMAL = "decimal(38,10)"  # of a column whose exactness the database leaves open
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# What people call a column that tells when a row was changed last, the likeliest first.
_CHANGED = re.compile(
    r"(last_?)?(updated?|modified|modification|changed?|change)(_?(at|on|date|time|timestamp|ts|datetime|utc))+"
    r"|last_?(update|modified|changed?|modification)|row_?version|sys_?mod_?time|mtime",
    re.IGNORECASE,
)
_SQL_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "binary": "BLOB",
}
_SAMPLES: Mapping[str, Any] = {
    "string": "sample",
    "integer": 1,
    "double": 0.5,
    "boolean": True,
    "date": "2026-01-01",
    "timestamp": "2026-01-01 00:00:00",
}


@dataclass(frozen=True, slots=True)
class _Column:
    name: str  # in the product
    there: str  # in the database
    type: str
    physical: str
    required: bool
    comment: str


def from_table(
    table: Mapping[str, Any], registry: Registry, *, name: str, domain: str, connection: str
) -> dict[str, str]:
    """The files of a product, by path; `table` is what the database says (`pipeline.sources.describe`). Invalid."""
    check_new(name, domain, "source-aligned", None)
    columns = _columns(table["columns"])
    if not columns:
        raise Invalid(f"the table '{table['table']}' has no columns", hint="name another one")
    key = [column for wanted in table["key"] for column in columns if column.there == wanted]
    data_set = snake(name)[:50]
    rows = f"{data_set}_rows"
    cursor = changed_by(columns)
    source = _source(table, columns, key, cursor, connection)
    title = name.replace("-", " ")
    described = " ".join(str(table["comment"]).split()) or f"The rows of the table {table['table']}"
    components: list[Plain] = [
        {"name": domain, "type": "domain", "properties": {}},
        {
            "name": title,
            "type": "data-product",
            "properties": {"definition": described, "version": "0.1.0"},
        },
        {
            "name": data_set,
            "type": "data-set",
            "properties": filled(
                {"description": described, "columns": [_declared(column, key) for column in columns]}
            ),
        },
        {
            "name": f"Table {snake(str(table['table'])).replace('_', ' ')}"[:100],
            "type": "input-port",
            "properties": {
                "description": f"The table {table['table']} of connection {connection}. {_told(source, key)}",
                "source": source,
                "data_set": rows,
            },
        },
        {
            "name": f"Files of {title}",
            "type": "output-port",
            "properties": {"description": "Parquet files in the product's repository", "data_set": data_set},
        },
    ]
    view, _ = checked({"metadata": {"name": name}, "components": components}, registry, PRODUCT_FILE)
    return {
        PRODUCT_FILE: document_text(view),
        f"transform/{data_set}.sql": _model(data_set, rows, columns),
        f"tests/{data_set}.yaml": _test(data_set, rows, columns),
    }


def changed_by(columns: Sequence[_Column]) -> str:
    """The column that tells when a row was changed last, as far as names and types tell; empty when none does."""
    fitting = [
        column.there
        for column in columns
        if column.required and column.type in {"timestamp", "integer"} and _CHANGED.fullmatch(column.there)
    ]
    return fitting[0] if fitting else ""


def _columns(described: Sequence[Mapping[str, Any]]) -> list[_Column]:
    found: list[_Column] = []
    taken: set[str] = set()
    for position, says in enumerate(described, 1):
        there = str(says["name"])
        name = there if _COLUMN.fullmatch(there) else snake(there)[:60]
        name = name if _COLUMN.fullmatch(name) else f"column_{position}"
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        comment = " ".join(str(says["comment"]).split())
        type_ = str(says["type"]) or OPEN_DECIMAL
        found.append(
            _Column(name, there, type_, str(says["physical_type"])[:100], bool(says["required"]), comment)
        )
    return found


def _source(
    table: Mapping[str, Any], columns: Sequence[_Column], key: Sequence[_Column], cursor: str, connection: str
) -> Plain:
    source: Plain = {"type": "sql", "connection": connection, "table": table["table"]}
    if key and cursor:
        source |= {"load": "merge", "key": [column.there for column in key], "cursor": cursor}
    if any(not says["type"] for says in table["columns"]):
        source["columns"] = [{"name": column.there, "type": column.type} for column in columns]
    return source


def _told(source: Plain, key: Sequence[_Column]) -> str:
    """How it is loaded, and why."""
    if source.get("cursor"):
        return f"Rows with a newer {source['cursor']} replace those with the same key"
    if not key:
        return "All rows are read each time, as the table has no primary key"
    return "All rows are read each time, as no column is seen to tell when a row was changed"


def _declared(column: _Column, key: Sequence[_Column]) -> Plain:
    comment = column.comment
    if column.name != column.there:
        comment = f"{comment} (there: {column.there})".strip()
    if column.type == OPEN_DECIMAL and "(" not in column.physical:
        comment = f"{comment} (the database does not say how exact it is: set the type)".strip()
    says = {
        "name": column.name,
        "type": column.type,
        "physical_type": column.physical,
        "description": comment,
        "required": column.required or None,
        "key": (column in key) or None,
    }
    return {name: value for name, value in says.items() if value not in {None, ""}}


def _quoted(name: str) -> str:
    if _COLUMN.fullmatch(name):
        return identifier(name)
    return '"' + name.replace('"', '""') + '"'


def _model(data_set: str, rows: str, columns: Sequence[_Column]) -> str:
    lines = [
        f"    CAST({_quoted(column.there)} AS {_sql_type(column.type)}) AS {identifier(column.name)}"
        for column in columns
    ]
    note = f"-- Makes the data set {data_set} of the rows that come in as {rows}.\n"
    return f"{note}SELECT\n" + ",\n".join(lines) + f"\nFROM {identifier(rows)}\n"


def _sql_type(type_: str) -> str:
    parsed = parse_type(type_)
    return _SQL_TYPES.get(parsed.name if parsed else "string", type_.upper())


def _test(data_set: str, rows: str, columns: Sequence[_Column]) -> str:
    """A row that comes in is a row of the data set, with the same values."""
    given = {column.there: _sample(column.type) for column in columns}
    expected = {column.name: _sample(column.type) for column in columns}
    return (
        "tests:\n"
        "  - name: a row that comes in is there\n"
        f"    model: {data_set}\n"
        "    given:\n"
        f"      {rows}:\n"
        f"        - {json.dumps(given, ensure_ascii=False)}\n"
        "    expect:\n"
        f"      - {json.dumps(expected, ensure_ascii=False)}\n"
    )


def _sample(type_: str) -> Any:
    parsed = parse_type(type_)
    kind = parsed.name if parsed else "string"
    return 0 if kind == "decimal" else _SAMPLES.get(kind)
