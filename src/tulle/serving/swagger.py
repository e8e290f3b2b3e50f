"""A service's OpenAPI document as Swagger 2.0, for tools that know no other. Pure.

What Swagger has no word for is said as near as it can be: null as `x-nullable`, one of several forms as any object,
a list of different entries as a list of anything, a bearer token as an API key in a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
_JSON = "application/json"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_OF_OPERATIONS = ("operationId", "summary", "description", "tags", "deprecated", "externalDocs", "security")
_KEPT = (
    "description",
    "enum",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "default",
    "required",
    "title",
    "format",
)


def swagger(openapi: Mapping[str, Any]) -> Json:
    """The document of version 2.0 that says what one of 3.1 does."""
    parts = openapi.get("components", {})
    server = (openapi.get("servers") or [{"url": "/"}])[0]["url"]
    answers = {name: _answer(said) for name, said in parts.get("responses", {}).items()}
    return {
        "swagger": "2.0",
        "info": dict(openapi["info"]),
        "basePath": server,
        "consumes": [_JSON],
        "produces": [_JSON],
        "security": [dict(one) for one in openapi.get("security", ())],
        "securityDefinitions": {n: _security(s) for n, s in parts.get("securitySchemes", {}).items()},
        "paths": {
            path: {m: _operation(item[m]) for m in _METHODS if m in item} | _extensions(item)
            for path, item in openapi["paths"].items()
        },
        "definitions": {name: _schema(said) for name, said in parts.get("schemas", {}).items()},
        "responses": answers,
    }


def _operation(said: Mapping[str, Any]) -> Json:
    found: Json = {name: said[name] for name in _OF_OPERATIONS if name in said} | _extensions(said)
    body = said.get("requestBody")
    if body is not None:
        content = body.get("content", {}).get(_JSON, {})
        parameter: Json = {
            "name": "body",
            "in": "body",
            "required": bool(body.get("required")),
            "schema": _schema(content.get("schema", {})),
        }
        examples = {n: one["value"] for n, one in content.get("examples", {}).items() if "value" in one}
        if examples:
            parameter["x-examples"] = examples
        found["parameters"] = [parameter]
    found["responses"] = {status: _answer(answer) for status, answer in said["responses"].items()}
    return found


def _extensions(said: Mapping[str, Any]) -> Json:
    return {name: value for name, value in said.items() if name.startswith("x-")}


def _answer(said: Mapping[str, Any]) -> Json:
    if "$ref" in said:
        return {"$ref": str(said["$ref"]).replace("#/components/responses/", "#/responses/")}
    found: Json = {"description": said.get("description", "")}
    content = said.get("content", {}).get(_JSON)
    if content is not None:
        found["schema"] = _schema(content.get("schema", {}))
    return found


def _security(said: Mapping[str, Any]) -> Json:
    told = {"description": said["description"]} if "description" in said else {}
    if said["type"] == "apiKey":
        return {"type": "apiKey", "in": said["in"], "name": said["name"], **told}
    if said.get("scheme") == "basic":
        return {"type": "basic", **told}
    words = f"{said.get('description', '')}; write `Bearer` and a space before it".removeprefix("; ")
    return {"type": "apiKey", "in": "header", "name": "Authorization", "description": words}


def _schema(said: Any) -> Json:
    if not isinstance(said, Mapping):
        return {}
    if "$ref" in said:
        return {"$ref": str(said["$ref"]).replace("#/components/schemas/", "#/definitions/")}
    found: Json = {name: said[name] for name in _KEPT if name in said} | _kind(said)
    if "contentEncoding" in said:
        found["format"] = "byte"
    if "properties" in said:
        found["properties"] = {name: _schema(one) for name, one in said["properties"].items()}
    if "additionalProperties" in said:
        more = said["additionalProperties"]
        found["additionalProperties"] = _schema(more) if isinstance(more, Mapping) else more
    if found.get("type") == "array":
        found["items"] = _schema(said.get("items", {}))
    if isinstance(said.get("examples"), list) and said["examples"]:
        found["example"] = said["examples"][0]
    return found


def _kind(said: Mapping[str, Any]) -> Json:
    """The type and the accepted values, without null, which is told beside them."""
    kinds = said.get("type", "object" if "anyOf" in said else None)
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or ())
    plain = [kind for kind in kinds if kind != "null"]
    found: Json = {"type": plain[0]} if len(plain) == 1 else {}
    values = [said["const"]] if "const" in said else said.get("enum")
    if values is not None:
        found["enum"] = [value for value in values if value is not None]
    if "null" in kinds or (values is not None and None in values):
        found["x-nullable"] = True
    return found
