"""`body-log`: parts of bodies are noted. Carried out by `gateway.processing.body_log`."""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Registry
from tulle.gateway.policies.steps import step_kind


def _paths(description: str) -> Json:
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": 50,
        "items": {"type": "string", "minLength": 1, "maxLength": 500, "x-example": "$.features.customer"},
        "description": description,
    }


_PROPERTIES: Final[Json] = {
    "request": _paths("JSON paths into the body of a request; `$` is all of it"),
    "response": _paths("JSON paths into the body of an answer"),
    "hide": _paths("JSON paths to what is hidden in both, beside what may hold secrets by its name"),
    "max_bytes": {
        "type": "integer",
        "minimum": 100,
        "maximum": 65_536,
        "description": "bytes of what is told of one body; of more the beginning (2000)",
    },
    "percent": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 100,
        "description": "the part of the requests that is noted, in percent (100)",
    },
}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "body-log",
            "Parts of the bodies of requests and answers are noted, without secrets.",
            _PROPERTIES,
            rules={"anyOf": [{"required": ["request"]}, {"required": ["response"]}]},
            example="policy: body-log\nrequest: ['$.features.customer']\nresponse: ['$']\nhide: ['$..iban']\n"
            "percent: 10",
        )
    )
