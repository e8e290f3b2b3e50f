"""The schema part of an ODCS contract: data sets as schema objects, columns as their properties, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tulle.spec.columns import parse_type
from tulle.spec.product import snake
from tulle.spec.translate import (
    LINK,
    SYNONYM,
    Pairs,
    Plain,
    custom_given,
    custom_taken,
    filled,
    given,
    rows_given,
    rows_taken,
    taken,
    unused,
)

_COLUMN: Pairs = (
    ("name", "name"),
    ("title", "businessName"),
    ("description", "description"),
    ("required", "required"),
    ("unique", "unique"),
    ("tags", "tags"),
    ("classification", "classification"),
    ("examples", "examples"),
    ("critical", "criticalDataElement"),
    ("semantic_type", "semanticType"),
    ("deprecated", "deprecated"),
)
_OPTIONS: Pairs = (
    ("min", "minimum"),
    ("max", "maximum"),
    ("min_length", "minLength"),
    ("max_length", "maxLength"),
    ("pattern", "pattern"),
    ("format", "format"),
)
_TEXT_OPTIONS: Pairs = tuple(pair for pair in _OPTIONS if pair[0] not in {"min", "max"})
_BOUND_OPTIONS: Pairs = tuple(pair for pair in _OPTIONS if pair[0] in {"min", "max"})
_OPTIONS_OF: dict[str, Pairs] = {
    "string": _TEXT_OPTIONS,
    "integer": _BOUND_OPTIONS,
    "double": _BOUND_OPTIONS,
    "decimal": _BOUND_OPTIONS,
    "date": (*_BOUND_OPTIONS, ("format", "format")),
    "timestamp": (*_BOUND_OPTIONS, ("format", "format")),
}
_ENUM: Pairs = (("value", "value"), ("label", "label"), ("description", "description"))
_DATA_SET: Pairs = (
    ("title", "businessName"),
    ("table_name", "physicalName"),
    ("description", "description"),
    ("grain", "dataGranularityDescription"),
    ("tags", "tags"),
    ("deprecated", "deprecated"),
)
_LOGICAL = {"double": "number", "decimal": "number", "binary": "string"}
_WIDE = {"object": "string", "array": "string", "map": "string", "vector": "string", "time": "string"}
_PHYSICAL_DECIMAL = re.compile(
    r"(?:decimal|numeric|number)\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)", re.IGNORECASE
)
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)\.([A-Za-z_][A-Za-z0-9_]*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_BYTES = {"binary", "bytes", "blob", "bytea", "varbinary"}
_FLOATS = {"double", "float", "real", "float64", "double precision"}


# ── ours as theirs ────────────────────────────────────────


def schema_object(component: Mapping[str, Any]) -> Plain:
    """A data-set component as a schema object."""
    says = component["properties"]
    divided = says.get("partitioning") or []
    keys = [column["name"] for column in says.get("columns", ()) if column.get("key")]
    rest = {k: v for k, v in says.items() if k not in _DATA_SET_TOLD}
    if component["type"] != "data-set":
        rest["type"] = component["type"]
    return filled(
        {
            "name": component["name"],
            "physicalType": "table",
            "logicalType": "object",
            **taken(says, _DATA_SET),
            "synonyms": rows_taken(says.get("synonyms"), SYNONYM, "synonym"),
            "authoritativeDefinitions": rows_taken(says.get("links"), LINK),
            "customProperties": custom_taken(says.get("custom"), rest),
            "properties": [_property(column, keys, divided) for column in says.get("columns", ())],
        }
    )


_DATA_SET_TOLD = {ours for ours, _ in _DATA_SET} | {"synonyms", "links", "custom", "columns", "partitioning"}
_COLUMN_TOLD = {ours for ours, _ in _COLUMN} | {
    *("type", "key", "physical_type", "enum", "synonyms", "links", "custom"),
}


def _property(column: Mapping[str, Any], keys: list[str], divided: list[str]) -> Plain:
    name = column["name"]
    kind = parse_type(column["type"])
    word = kind.name if kind else "string"
    options = taken(column, _OPTIONS_OF.get(word, ()))
    if word == "binary":
        options["format"] = "binary"
    physical = column.get("physical_type") or (column["type"].upper() if word in _LOGICAL else None)
    told = _COLUMN_TOLD | {ours for ours, _ in _OPTIONS_OF.get(word, ())}
    rest = {k: v for k, v in column.items() if k not in told}
    relationships: list[Plain] = []
    key = column.get("foreign_key")
    if isinstance(key, Mapping) and "product" not in key:
        reference = f"{key['data_set']}.{key['column']}"
        if _REFERENCE.fullmatch(reference):
            relationships.append({"type": "foreignKey", "to": reference})
            rest.pop("foreign_key")
    made = {
        **taken(column, _COLUMN),
        "logicalType": _LOGICAL.get(word, word),
        "physicalType": physical,
        "logicalTypeOptions": options,
        "enum": rows_taken(column.get("enum"), _ENUM, "value"),
        "relationships": relationships,
        "synonyms": rows_taken(column.get("synonyms"), SYNONYM, "synonym"),
        "authoritativeDefinitions": rows_taken(column.get("links"), LINK),
        "customProperties": custom_taken(column.get("custom"), rest),
    }
    if column.get("key"):
        made |= {"primaryKey": True, "primaryKeyPosition": keys.index(name) + 1}
    if name in divided:
        made |= {"partitioned": True, "partitionKeyPosition": divided.index(name) + 1}
    return filled(made)


# ── theirs as ours ────────────────────────────────────────


def data_set(entry: Mapping[str, Any], names: set[str], tables: set[str]) -> Plain:
    """A schema object as a data-set component; its names are made such that none repeats."""
    custom, own = custom_given(entry.get("customProperties"))
    kind = own.pop("type", "data-set")
    says: Plain = {
        **given(entry, _DATA_SET),
        **own,
        "synonyms": rows_given(entry.get("synonyms"), SYNONYM, "synonym"),
        "links": rows_given(entry.get("authoritativeDefinitions"), LINK),
        "custom": custom,
    }
    name = unused(str(entry.get("name") or "data set"), names)
    says.setdefault("description", str(entry.get("businessName") or name))
    table = snake(str(says.get("table_name") or name).rsplit(".", 1)[-1])[:55]
    if not table or not table[0].isalpha() or table in tables:
        table = unused(f"data_{table or 'set'}", set(tables), "_")
        says["table_name"] = table
    tables.add(table)
    properties = [p for p in entry.get("properties") or () if isinstance(p, Mapping)]
    used: set[str] = set()
    says["columns"] = [_column(inner, used) for inner in properties]
    divided = sorted(
        (inner.get("partitionKeyPosition", 0), at)
        for at, inner in enumerate(properties)
        if inner.get("partitioned")
    )
    says["partitioning"] = [says["columns"][at]["name"] for _, at in divided]
    return {"name": name, "type": kind if isinstance(kind, str) else "data-set", "properties": filled(says)}


def _column(entry: Mapping[str, Any], used: set[str]) -> Plain:
    custom, own = custom_given(entry.get("customProperties"))
    name = str(entry.get("name") or "")
    if not _NAME.fullmatch(name):
        name = snake(name)[:55] or "column"
        name = name if name[0].isalpha() else f"c_{name}"
    name = unused(name, used, "_")
    kind, physical = _type(entry)
    options = entry.get("logicalTypeOptions")
    says: Plain = {
        **given(entry, _COLUMN),
        "name": name,
        "type": kind,
        "physical_type": physical,
        **(given(options, _OPTIONS_OF.get(kind.split("(")[0], ())) if isinstance(options, Mapping) else {}),
        **own,
        "enum": rows_given(entry.get("enum"), _ENUM, "value"),
        "synonyms": rows_given(entry.get("synonyms"), SYNONYM, "synonym"),
        "links": rows_given(entry.get("authoritativeDefinitions"), LINK),
        "custom": custom,
    }
    if entry.get("primaryKey") is True:
        says["key"] = True
    for relationship in entry.get("relationships") or ():
        to = relationship.get("to") if isinstance(relationship, Mapping) else None
        if isinstance(to, str) and (match := _REFERENCE.fullmatch(to)):
            says.setdefault("foreign_key", {"data_set": match[1], "column": match[2]})
    return filled(says)


def _type(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Our type of a property, and its physical type where that says more."""
    logical, physical = entry.get("logicalType"), str(entry.get("physicalType") or "")
    ours = column_type(str(logical or ""), physical)
    derived = ours.upper() if ours.split("(")[0] in _LOGICAL else ""
    return ours, "" if physical == derived else physical


def column_type(logical: str, physical: str) -> str:
    """Our type for a logical type of ODCS (or none) and a physical one of some database."""
    low = physical.lower().strip()
    if logical in {"number", ""} and (match := _PHYSICAL_DECIMAL.fullmatch(low)):
        precision, scale = int(match[1]), int(match[2] or 0)
        found = parse_type(f"decimal({precision},{scale})")
        if found:
            return str(found)
    if logical in {"string", ""} and low.split("(")[0] in _BYTES:
        return "binary"
    if logical == "number":
        return "double"
    if logical:
        return _WIDE.get(logical, logical)
    if low in _FLOATS:
        return "double"
    words = {"int": "integer", "bigint": "integer", "smallint": "integer", "integer": "integer"}
    plain = low.split("(")[0]
    return words.get(plain, plain if plain in {"date", "timestamp", "boolean"} else "string")
