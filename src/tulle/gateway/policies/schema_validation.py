"""`schema-validation`: requests, and answers, as the OpenAPI document says.

Carried out by `gateway.processing.schema_check`.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Registry
from tulle.gateway.policies.steps import step_kind

_PROPERTIES: Final[Json] = {
    "document": {
        "type": "object",
        "description": "an OpenAPI document of version 3.x, in one piece (that of the service, or of the API)",
    },
    "on_violation": {
        "enum": ["block", "report"],
        "description": "refuse what does not fit, or let it pass and say so in the processor's log (block)",
    },
    "strict_parameters": {
        "type": "boolean",
        "description": "refuse parameters of the query that the document does not have (false)",
    },
    "answers": {
        "type": "boolean",
        "description": "check answers too; one that does not fit is a 502 (false)",
    },
}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "schema-validation",
            "Requests that are not what the OpenAPI document asks for are answered 400, 404, 405 or 415.",
            _PROPERTIES,
            once=True,
            read_as={"document": {"openapi": "3.1.0", "paths": {}}},
            example="policy: schema-validation\non_violation: block\nstrict_parameters: true",
        )
    )
