"""The OpenAPI 3.1 document of a service, put together from what the kinds of its endpoints describe. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tulle.serving.access import Access
from tulle.serving.openapi_access import with_access
from tulle.serving.openapi_parts import ERRORS, Json

_USUAL = Access()

_CONTEXT: Json = {
    "type": "object",
    "description": "What gave the answer, made from what",
    "properties": {
        "serviceId": {"type": "string"},
        "endpointId": {"type": "string"},
        "serviceGeneration": {"type": "string"},
        "packageVersion": {"type": "string"},
        "packageDigest": {"type": "string"},
        "dataCommits": {"type": "object", "additionalProperties": {"type": "string"}},
        "model": {"type": "string"},
        "requestId": {"type": "string"},
    },
    "required": ["serviceId", "endpointId", "serviceGeneration", "requestId"],
}
_ERROR: Json = {
    "type": "object",
    "properties": {
        "errorType": {"type": "string", "description": "a word for programs, for example NoMatch"},
        "message": {"type": "string"},
        "detailedMessage": {"type": "string", "description": "the message, and what to do about it"},
        "requestId": {"type": "string"},
        "traceId": {"type": "string", "description": "the request's trace, where the mesh has traces"},
    },
    "required": ["errorType", "message", "detailedMessage", "requestId"],
}
_TIMING: Json = {
    "type": "object",
    "description": "microseconds spent in each step",
    "additionalProperties": {"type": "number"},
}


def document(
    service: str,
    *,
    version: str,
    description: str,
    paths: Iterable[Mapping[str, Any]],
    access: Access = _USUAL,
) -> Json:
    """The whole document; `paths` are what the endpoints' kinds describe."""
    items: Json = {}
    for one in paths:
        items.update(one)
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": service,
            "version": version,
            "description": description or f"The service {service}",
        },
        "servers": [{"url": f"/public/api/v1/{service}"}],
        "paths": items,
        "components": {
            "schemas": {"Error": _ERROR, "ApiContext": _CONTEXT, "Timing": _TIMING},
            "responses": {
                f"Error{status}": {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for status, text in (
                    ERRORS
                    | {
                        "404": "Nothing is known of the key",
                        "422": "There is no answer for these values",
                        "502": "What the endpoint calls elsewhere gave no answer that can be used",
                        "504": "The endpoint took too long",
                        "508": "Services call one another in a circle",
                    }
                ).items()
            },
        },
    }
    return with_access(made, access)
