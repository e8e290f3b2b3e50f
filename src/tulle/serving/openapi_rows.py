"""What OpenAPI says of endpoints that answer with rows: look-ups and queries. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulle.serving.finder import STATUSES, FinderEntry
from tulle.serving.keyed_rows import ALL, CONNECTION, DEFAULT, FORBIDDEN, IGNORE
from tulle.serving.lookup import LookupEntry
from tulle.serving.openapi_parts import (
    IGNORED,
    Json,
    answer_of,
    examples_of,
    many_of,
    object_of,
    of_stores,
    parameters_of,
    post_of,
    properties_of,
    type_of,
)
from tulle.serving.query import QueryEntry


def describe_lookup(entry: LookupEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The paths of a lookup endpoint."""
    rows = entry.rows
    key = object_of(properties_of(rows.key), required=[column.name for column in rows.key])
    key["additionalProperties"] = False
    row = object_of(
        properties_of(rows.columns, nullable=True), required=[column.name for column in rows.columns]
    )
    one = object_of({"data": key}, required=["data"])
    many = object_of({"items": {"type": "array", "items": one}}, required=["items"])
    found = object_of({"data": row, **_told_of(rows, row)}, required=["data"])
    summary = (
        entry.description or f"Look up a row of {rows.data_set} by {', '.join(c.name for c in rows.key)}"
    )
    result = {"anyOf": [found, IGNORED]} if IGNORE in {rows.no_match, rows.several, rows.too_old} else found
    answer = answer_of("results", {"type": "array", "items": result, "minItems": 1, "maxItems": 1})
    answers = answer_of("results", {"type": "array", "items": {"anyOf": [found, IGNORED]}})
    examples = examples_of(entry.test_queries)
    return {
        f"/{entry.name}/lookup": post_of(
            f"{entry.name}-lookup", summary, one, answer, examples, more=("404", "422", *of_stores([rows]))
        ),
        f"/{entry.name}/lookup-multi": post_of(
            f"{entry.name}-lookup-multi",
            f"{summary}: many at once",
            many,
            answers,
            many_of(entry.test_queries),
        ),
    }


def describe_query(entry: QueryEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The paths of a query endpoint."""
    parameters = parameters_of(entry.parameters)
    summary = entry.description or f"The rows of the query {entry.name}"
    column = object_of({"name": {"type": "string"}, "type": {"type": "string"}}, required=["name", "type"])
    typed = [type_of(column.type, nullable=True) for column in entry.columns]
    forms: dict[str, Json] = {
        "query": {"items": {"type": ["string", "null"]}},
        "rows": {"prefixItems": typed},
    }
    words = {"query": "every value as text", "rows": "values with their types"}
    paths: Json = {}
    for action, form in forms.items():
        answer = answer_of("rows", {"type": "array", "items": {"type": "array", **form}})
        answer["properties"]["columns"] = {"type": "array", "items": column}
        answer["properties"]["truncated"] = {"const": True, "description": "there are more rows"}
        paths[f"/{entry.name}/{action}"] = post_of(
            f"{entry.name}-{action}",
            f"{summary}: {words[action]}",
            parameters,
            answer,
            examples_of(entry.test_queries),
            more=("422", "503", "504") if entry.connection else ("422", "504"),
        )
    return paths


def _told_of(rows: FinderEntry, row: Json) -> Json:
    """What is said of a row beside its values; nothing where it is always there and of no age."""
    is_stored = rows.source == CONNECTION
    if rows.several == FORBIDDEN and not rows.timed and rows.no_match != DEFAULT and not is_stored:
        return {}
    said: Json = {"status": {"enum": list(STATUSES)}}
    if rows.timed:
        said["eventTime"] = {
            "type": "string",
            "format": "date-time",
            "description": "since when the row holds",
        }
    if rows.several == ALL:
        said["found"] = {"type": "integer", "description": "how many rows there are"}
        said["rows"] = {"type": "array", "items": row, "description": "the first of them"}
    return said
