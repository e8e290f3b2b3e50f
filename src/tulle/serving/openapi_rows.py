"""What OpenAPI says of endpoints that answer with rows: look-ups and queries. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.serving.endpoint import MOST_ITEMS
from tulle.serving.finder import STATUSES, FinderEntry
from tulle.serving.keyed_rows import ALL, ERROR
from tulle.serving.lookup import LookupEntry
from tulle.serving.openapi_parts import (
    IGNORED,
    Json,
    answer_of,
    examples_of,
    many_of,
    may_be_ignored,
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
    look_ups = entry.look_ups
    keys = [column for rows in look_ups for column in rows.key]
    needed = [column.name for rows in look_ups if rows.missing_key == ERROR for column in rows.key]
    key = object_of(properties_of(keys), required=list(dict.fromkeys(needed)))
    key["additionalProperties"] = False
    columns = [column for rows in look_ups for column in rows.columns]
    row = object_of(properties_of(columns, nullable=True), required=[column.name for column in columns])
    one = object_of({"data": key}, required=["data"])
    many = object_of({"items": {"type": "array", "maxItems": MOST_ITEMS, "items": one}}, required=["items"])
    found = object_of({"data": row, **_told_of(look_ups)}, required=["data"])
    names = list(dict.fromkeys(column.name for column in keys))
    what = " and ".join(dict.fromkeys(rows.data_set for rows in look_ups))
    summary = entry.description or f"Look up a row of {what} by {', '.join(names)}"
    result = {"anyOf": [found, IGNORED]} if any(map(may_be_ignored, look_ups)) else found
    answer = answer_of("results", {"type": "array", "items": result, "minItems": 1, "maxItems": 1})
    answers = answer_of("results", {"type": "array", "items": {"anyOf": [found, IGNORED]}})
    examples = examples_of(entry.test_queries)
    return {
        f"/{entry.name}/lookup": post_of(
            f"{entry.name}-lookup", summary, one, answer, examples, more=("404", "422", *of_stores(look_ups))
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


def _told_of(look_ups: Sequence[FinderEntry]) -> Json:
    """What is said of rows beside their values; nothing where they are always there and of no age."""
    if not any(rows.tells for rows in look_ups):
        return {}
    if len(look_ups) == 1:
        return _told_of_one(look_ups[0])
    each = [
        object_of({"dataSet": {"const": rows.data_set}, **_told_of_one(rows)}, required=["dataSet", "status"])
        for rows in look_ups
    ]
    told = {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    return {"lookups": {**told, "description": "how the row of each data set was found, in their order"}}


def _told_of_one(rows: FinderEntry) -> Json:
    said: Json = {"status": {"enum": list(STATUSES)}}
    if rows.timed:
        said["eventTime"] = {
            "type": "string",
            "format": "date-time",
            "description": "since when the row holds",
        }
    if rows.several == ALL:
        columns = [column.name for column in rows.columns]
        row = object_of(properties_of(rows.columns, nullable=True), required=columns)
        said["found"] = {"type": "integer", "description": "how many rows there are"}
        said["rows"] = {"type": "array", "items": row, "description": "the first of them"}
    return said
