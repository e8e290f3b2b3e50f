"""`oauth2-introspection`: callers with opaque tokens, which their issuer is asked about.

Carried out by `gateway.processing.introspection`.
"""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.checking import CONNECTION, checking_kind, names_connection
from tulle.gateway.policies.kind import Registry
from tulle.serving.access import ACCESS_SCHEMA

_OF_TOKENS: Final = ACCESS_SCHEMA["properties"]["jwt"]["properties"]
_PROPERTIES: Final[Json] = {
    "connection": {
        **CONNECTION,
        "description": "the connection to the issuer's endpoint, of kind http, with the mesh's own credentials there",
    },
    "issuer": {**_OF_TOKENS["issuer"], "description": "what `iss` must be; without it anything"},
    "audience": _OF_TOKENS["audience"],
    "scopes": {
        "type": "array",
        "minItems": 1,
        "maxItems": 50,
        "items": {"type": "string", "pattern": r"^[\x21\x23-\x5b\x5d-\x7e]{1,200}$", "x-expected": "a scope"},
        "description": "what a token must have all of",
    },
    "client_claim": {
        "type": "string",
        "pattern": r"^[A-Za-z0-9_:-]{1,100}$",
        "x-expected": "the name of a claim",
        "description": "what names the caller (client_id)",
    },
    "claims": _OF_TOKENS["claims"],
    "cache": {
        "type": "number",
        "minimum": 0,
        "maximum": 3600,
        "description": "seconds for which an answer holds, never beyond the token's end (60)",
    },
    "timeout": {
        "type": "number",
        "minimum": 0.1,
        "maximum": 30,
        "description": "seconds that the issuer may take (5)",
    },
    "contract": _OF_TOKENS["contract"],
}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        checking_kind(
            "oauth2-introspection",
            "introspection",
            "Who has a token may call, as far as its issuer says that it is good.",
            _PROPERTIES,
            shows="bearer",
            told="an opaque token",
            names=names_connection,
            required=("connection",),
            example="policy: oauth2-introspection\nconnection: login\naudience: orders\nscopes: [orders.read]\n"
            "cache: 30",
        )
    )
