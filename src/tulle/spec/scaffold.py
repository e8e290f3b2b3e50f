"""New products made of what is described already: a data contract (ODCS), or the models of a dbt project.

The description becomes product.yaml; each data set gets a file with a row to begin with, and a model that casts
them, so that the product validates and runs at once. Returns texts by relative path; whoever calls writes them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tulle.errors import Invalid
from tulle.spec import odcs
from tulle.spec.capability import Registry
from tulle.spec.columns import parse_type
from tulle.spec.document import Document
from tulle.spec.mesh import PRODUCT_FILE
from tulle.spec.odcs_tables import column_type
from tulle.spec.product import Column, DataProduct, DataSet, kebab, snake
from tulle.spec.skeleton import check_new, identifier
from tulle.spec.translate import Plain, checked, document_text, filled

SAMPLE = "A row to begin with; put your own in its place, or another source"
_PLAIN = {
    "integer": "1",
    "double": "0.5",
    "decimal": "0",
    "boolean": "true",
    "date": "2026-01-01",
    "timestamp": "2026-01-01T00:00:00",
}
# When it runs, whom it alerts, where it computes and who may read it is decided by who runs a product; a contract that
# one of our own products was exported to says it of that one, in a mesh that may have other channels and warehouses.
_OPERATION = {
    "data-product": ("schedule", "alerts", "warehouse"),
    "data-sharing-agreement": ("consumers",),
}
_REF = re.compile(r"ref\(\s*['\"]([^'\"]+)['\"]\s*(?:,\s*['\"]([^'\"]+)['\"]\s*)?\)")
_SQL_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "binary": "BLOB",
}


def from_contract(document: Document, registry: Registry, *, name: str, domain: str) -> dict[str, str]:
    """The files of a product that offers what a data contract says. Invalid with every problem of the contract."""
    check_new(name, domain, "source-aligned", None)
    view, _ = odcs.read_contract(document, registry, domain=domain)
    view["metadata"]["name"] = name
    for properties, left_out in _operated(view, registry):
        del properties[left_out]
    for component in view["components"]:
        if odcs.base_of(registry, component["type"]) == "domain":
            component["name"] = domain
    return _files(view, registry, document.name)


def left_out(document: Document, registry: Registry) -> list[str]:
    """What a contract says of how its own product is run, which no new product takes over, such as `schedule`."""
    view, _ = odcs.read_contract(document, registry)
    return list(dict.fromkeys(name for _, name in _operated(view, registry)))


def _operated(view: Plain, registry: Registry) -> list[tuple[Plain, str]]:
    """Properties that say how a product is run and who has access, each with the mapping it stands in."""
    return [
        (component["properties"], name)
        for component in view["components"]
        for name in _OPERATION.get(odcs.base_of(registry, component["type"]), ())
        if name in component["properties"]
    ]


def from_dbt(document: Document, registry: Registry, *, name: str, domain: str) -> dict[str, str]:
    """The files of a product with a data set for each model of a dbt project.

    `document` is a properties file (`schema.yml`) or the project's `manifest.json`. Raises Invalid for anything else.
    """
    check_new(name, domain, "source-aligned", None)
    value = document.value if isinstance(document.value, dict) else {}
    models = list(_manifest(value) if isinstance(value.get("nodes"), dict) else _properties_file(value))
    if not models:
        hint = "give the project's schema.yml (with `models:`) or target/manifest.json"
        raise Invalid(f"{document.name} describes no dbt models", hint=hint)
    title = name.replace("-", " ")
    components: list[Plain] = [
        {"name": domain, "type": "domain", "properties": {}},
        {
            "name": title,
            "type": "data-product",
            "properties": {
                "definition": f"The models of the dbt project {_project(value) or title}",
                "version": "0.1.0",
            },
        },
    ]
    names = {model["name"] for model in models}
    for model in models:
        for column in model["properties"].get("columns", ()):
            if column.get("foreign_key", {}).get("data_set") not in names:
                column.pop("foreign_key", None)
        components.append(model)
    for model in models:
        says = {"description": "Parquet files in the product's repository", "data_set": snake(model["name"])}
        components.append({"name": f"Files of {model['name']}", "type": "output-port", "properties": says})
    return _files({"metadata": {"name": name}, "components": components}, registry, document.name)


# ── what a product needs to run ────────────────────────────────────────


def _files(view: Plain, registry: Registry, name: str) -> dict[str, str]:
    view, product = checked(view, registry, name)
    files: dict[str, str] = {}
    taken = {data_set.name for data_set in product.data_sets}
    for data_set in product.data_sets:
        if not data_set.columns:
            continue
        rows = _free(f"{data_set.name}_raw"[:60], taken)
        view["components"].append(_port(data_set, rows))
        files[f"data/{data_set.name}.csv"] = _rows(product, data_set)
        files[f"transform/{data_set.name}.sql"] = _model(data_set, rows)
    view, _ = checked(view, registry, name)
    return {PRODUCT_FILE: document_text(view), **files}


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _port(data_set: DataSet, rows: str) -> Plain:
    columns = [
        {"name": column.name, "type": "string" if _kind(column.type) == "binary" else column.type}
        for column in data_set.columns
    ]
    source = {"type": "file", "path": f"data/{data_set.name}.csv", "format": "csv", "columns": columns}
    says = {"description": f"Rows for {data_set.name}. {SAMPLE}", "source": source, "data_set": rows}
    return {"name": f"File of {data_set.name.replace('_', ' ')}", "type": "input-port", "properties": says}


def _rows(product: DataProduct, data_set: DataSet) -> str:
    """A header, and one row that keeps to what the columns promise as far as can be told."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([column.name for column in data_set.columns])
    lines.writerow([_sample(product, column) for column in data_set.columns])
    return text.getvalue()


def _sample(product: DataProduct, column: Column, depth: int = 0) -> str:
    """A value for a column: one that is given, one its foreign key has, or one of its type."""
    referring = [
        other
        for data_set in product.data_sets
        for other in data_set.columns
        if other.foreign_key
        and not other.foreign_key.product
        and column in product.data_set(other.foreign_key.data_set).columns
        and other.foreign_key.column == column.name
    ]
    for told in (column, *referring):
        given = [*told.examples, told.default, *(value.value for value in told.enum)]
        if (value := next((v for v in given if isinstance(v, str | int | float)), None)) is not None:
            return str(value).lower() if isinstance(value, bool) else str(value)
    key = column.foreign_key
    if key and not key.product and depth < 5:
        for data_set in product.data_sets:
            for other in data_set.columns if data_set.name == key.data_set else ():
                if other.name == key.column and other is not column:
                    return _sample(product, other, depth + 1)
    if column.min is not None or column.max is not None:
        return str(column.min if column.min is not None else column.max)
    value = _PLAIN.get(_kind(column.type), "sample")
    if value == "sample":
        value = value.ljust(column.min_length or 0, "x")[: column.max_length]
    return value


def _model(data_set: DataSet, rows: str) -> str:
    lines = [
        f"    CAST({identifier(column.name)} AS {_sql_type(column.type)}) AS {identifier(column.name)}"
        for column in data_set.columns
    ]
    note = f"-- Makes the data set {data_set.name} of the rows that come in as {rows}.\n"
    return f"{note}SELECT\n" + ",\n".join(lines) + f"\nFROM {identifier(rows)}\n"


def _kind(type_: str) -> str:
    parsed = parse_type(type_)
    return parsed.name if parsed else "string"


def _sql_type(type_: str) -> str:
    return _SQL_TYPES.get(_kind(type_), type_.upper())


# ── dbt's words ────────────────────────────────────────


def _project(value: Mapping[str, Any]) -> str:
    metadata = value.get("metadata")
    return str(metadata.get("project_name") or "") if isinstance(metadata, Mapping) else ""


def _properties_file(value: Mapping[str, Any]) -> Iterator[Plain]:
    for model, columns, tests in properties_of(value):
        yield data_set_of(model, columns, tests)


def properties_of(
    value: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any], list[Any], dict[str, list[Any]]]]:
    """Each model a properties file describes, its columns, and the tests of each of them."""
    models = value.get("models")
    for model in models if isinstance(models, list) else ():
        if isinstance(model, Mapping) and isinstance(model.get("name"), str):
            listed = [c for c in model.get("columns") or () if isinstance(c, Mapping)]
            tests = {
                str(column.get("name")): [*(column.get("tests") or ()), *(column.get("data_tests") or ())]
                for column in listed
            }
            yield model, listed, tests


def _manifest(value: Mapping[str, Any]) -> Iterator[Plain]:
    nodes = [node for node in value["nodes"].values() if isinstance(node, Mapping)]
    tests: dict[str, dict[str, list[Any]]] = {}
    for node in nodes:
        told = node.get("test_metadata")
        if node.get("resource_type") == "test" and isinstance(told, Mapping):
            given = told.get("kwargs")
            arguments: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
            model = tests.setdefault(str(node.get("attached_node")), {})
            model.setdefault(str(arguments.get("column_name")), []).append({told.get("name"): arguments})
    for node in nodes:
        if node.get("resource_type") == "model" and isinstance(node.get("name"), str):
            columns = node.get("columns")
            listed = (
                [c for c in columns.values() if isinstance(c, Mapping)]
                if isinstance(columns, Mapping)
                else []
            )
            yield data_set_of(node, listed, tests.get(str(node.get("unique_id")), {}))


def data_set_of(model: Mapping[str, Any], columns: Iterable[Any], tests: Mapping[str, list[Any]]) -> Plain:
    """The component for a model as dbt describes it."""
    given = model.get("config")
    config: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    tags = model.get("tags") or config.get("tags") or []
    says = {
        "description": str(model.get("description") or "").strip() or f"The dbt model {model['name']}",
        "table_name": snake(model["name"]) if kebab(model["name"]) else model["name"],
        "tags": list(dict.fromkeys(map(str, [tags] if isinstance(tags, str) else tags))),
        "columns": [_column(column, tests.get(str(column.get("name")), [])) for column in columns],
    }
    return {"name": model["name"], "type": "data-set", "properties": filled(says)}


def _column(column: Mapping[str, Any], tests: list[Any]) -> Plain:
    physical = str(column.get("data_type") or "")
    says: Plain = {
        "name": str(column.get("name")),
        "type": column_type("", physical),
        "physical_type": physical,
        "description": str(column.get("description") or "").strip(),
    }
    for test in tests:
        kind, arguments = (test, {}) if isinstance(test, str) else next(iter(test.items()), ("", {}))
        inner = arguments.get("arguments", arguments) if isinstance(arguments, Mapping) else {}
        says |= _tested(str(kind), inner if isinstance(inner, Mapping) else {})
    if says.get("required") and says.get("unique"):
        says["key"] = True
    return filled(says)


def _tested(kind: str, arguments: Mapping[str, Any]) -> Plain:
    """What one of dbt's own four tests says of a column."""
    match kind:
        case "not_null":
            return {"required": True}
        case "unique":
            return {"unique": True}
        case "accepted_values" if isinstance(arguments.get("values"), list):
            return {"enum": arguments["values"]}
        case "relationships" if (found := _REF.search(str(arguments.get("to")))) and arguments.get("field"):
            return {"foreign_key": {"data_set": found[2] or found[1], "column": str(arguments["field"])}}
        case _:
            return {}
