"""What OpenAPI documents of services are put together from: types, objects, operations and their errors. Pure.

Knows nothing of the kinds of endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tulle.serving.declared import TestQuery
from tulle.serving.finder import FinderEntry
from tulle.serving.index import Column
from tulle.serving.keyed_rows import CONNECTION, IGNORE
from tulle.serving.query_declared import QueryParameter

Json = dict[str, Any]

_TYPES: Mapping[str, Json] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "decimal": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "timestamp": {"type": "string", "format": "date-time"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "list": {"type": "array", "items": {}},
    "object": {"type": "object"},
}
ERRORS: dict[str, str] = {
    "400": "The request is not understood, or a value is missing, unknown or of the wrong type",
    "401": "Missing or wrong credentials",
    "403": "Not allowed: no contract for this service, or a token without its scopes",
    "413": "The request is too large",
    "429": "The caller's rate limit is used up",
    "500": "The endpoint failed",
    "503": "The service does not answer now",
}
IGNORED: Json = {
    "type": "object",
    "description": "an item that has no answer; the others do",
    "properties": {
        "ignored": {"const": True},
        "ignoreReason": {"type": "string"},
        "error": {
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "errorType": {"type": "string"},
                "message": {"type": "string"},
                "detailedMessage": {"type": "string"},
            },
        },
    },
    "required": ["ignored", "ignoreReason"],
}


def of_stores(look_ups: Iterable[FinderEntry]) -> tuple[str, ...]:
    """The statuses of what is looked up in a store: a row that lies there may be faulty."""
    return ("502",) if any(one.source == CONNECTION for one in look_ups) else ()


def may_be_ignored(rows: FinderEntry) -> bool:
    """Whether a policy of a look-up may leave an item without an answer."""
    return IGNORE in {rows.missing_key, rows.no_match, rows.several, rows.too_old}


def properties_of(columns: Sequence[Column], *, nullable: bool = False) -> Json:
    """The properties of an object with these columns."""
    return {column.name: type_of(column.type, nullable=nullable) for column in columns}


def type_of(mesh_type: str, *, nullable: bool = False) -> Json:
    """A column's type in the words of JSON Schema; nothing is said of one that has none."""
    schema = dict(_TYPES.get(mesh_type.partition("(")[0], {}))
    if nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def object_of(properties: Json, *, required: Sequence[str] = ()) -> Json:
    """An object with these properties."""
    schema: Json = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def parameters_of(parameters: Sequence[QueryParameter]) -> Json:
    """What callers send by name, and nothing else."""
    properties: Json = {}
    for parameter in parameters:
        nullable = not parameter.required and parameter.default is None
        properties[parameter.name] = type_of(parameter.type, nullable=nullable)
        if parameter.description:
            properties[parameter.name]["description"] = parameter.description
        if parameter.default is not None:
            properties[parameter.name]["default"] = parameter.default
    schema = object_of(properties, required=[p.name for p in parameters if p.required])
    return schema | {"additionalProperties": False}


def answer_of(name: str, schema: Json) -> Json:
    """An answer: its main member, and what it tells of itself."""
    return object_of(
        {
            name: schema,
            "timing": {"$ref": "#/components/schemas/Timing"},
            "apiContext": {"$ref": "#/components/schemas/ApiContext"},
        },
        required=[name, "apiContext"],
    )


def post_of(
    name: str, summary: str, request: Json, answer: Json, examples: Json, more: Sequence[str] = ()
) -> Json:
    """An operation; `more` are the statuses it may answer beside those that every one does."""
    content: Json = {"schema": request}
    if examples:
        content["examples"] = examples
    errors = sorted({*ERRORS, *more})
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "200": {"description": "The answer", "content": {"application/json": {"schema": answer}}},
                **{status: {"$ref": f"#/components/responses/Error{status}"} for status in errors},
            },
        }
    }


def examples_of(queries: Sequence[TestQuery]) -> Json:
    """The saved test queries as examples of a request."""
    return {query.name: {"summary": query.name, "value": query.body} for query in queries}


def many_of(queries: Sequence[TestQuery]) -> Json:
    """All of them as one request for many."""
    if not queries:
        return {}
    return {
        "all": {"summary": "all of the saved queries", "value": {"items": [query.body for query in queries]}}
    }
