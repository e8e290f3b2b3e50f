"""What OpenAPI says of endpoints that carry something out: functions and compositions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulle.serving.compose import ComposeEntry
from tulle.serving.compose_declared import reaches_out
from tulle.serving.function import FunctionEntry
from tulle.serving.openapi_parts import Json, answer_of, examples_of, object_of, parameters_of, post_of

_PYTHON = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_FAILED: Json = {
    "type": "array",
    "description": "the steps that failed and were left out",
    "items": {
        "type": "object",
        "properties": {
            "step": {"type": "string"},
            "item": {"type": "integer", "description": "which entry of a map"},
            "status": {"type": "integer"},
            "errorType": {"type": "string"},
            "message": {"type": "string"},
        },
        "required": ["step", "status", "errorType", "message"],
    },
}


def describe_function(entry: FunctionEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The path of a function endpoint."""
    properties: Json = {}
    for parameter in entry.parameters:
        word = _PYTHON.get(parameter.type)
        kinds = [word, "null"] if word and parameter.nullable else word
        properties[parameter.name] = {"type": kinds} if kinds else {}
    arguments = object_of(properties, required=[p.name for p in entry.parameters if p.required])
    arguments["additionalProperties"] = entry.is_open
    summary = entry.description or f"Call the function {entry.function}"
    return {
        f"/{entry.name}/run": post_of(
            f"{entry.name}-run",
            summary,
            arguments,
            answer_of("response", {"description": "what the function returned"}),
            examples_of(entry.test_queries),
            more=("504",),
        )
    }


def describe_compose(entry: ComposeEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The path of a composition."""
    summary = entry.description or f"The composition {entry.name}"
    answer = answer_of("response", {"description": "what the composition makes of the answers of its steps"})
    answer["properties"]["failed"] = _FAILED
    answer["properties"]["steps"] = {
        "type": "array",
        "description": "every call, where the header tulle-steps asks for it",
        "items": {"type": "object"},
    }
    outside = ("502", "508") if reaches_out(entry.steps) else ()
    return {
        f"/{entry.name}/run": post_of(
            f"{entry.name}-run",
            summary,
            parameters_of(entry.input),
            answer,
            examples_of(entry.test_queries),
            more=("404", "422", "504", *outside),
        )
    }
