"""`token-once`: a token opens once. Carried out by `gateway.processing.token_once`."""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Need, Registry
from tulle.gateway.policies.steps import step_kind

_PROPERTIES: Final[Json] = {
    "longest": {
        "type": "number",
        "minimum": 1,
        "maximum": 604_800,
        "description": "seconds that a token may still hold; one that holds longer is refused (86400)",
    }
}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "token-once",
            "Each token opens once, by its id (`jti`), until it is over; the same again is answered 401.",
            _PROPERTIES,
            once=True,
            needs=lambda _: [Need("token")],
            not_after=("caching",),
            example="policy: token-once\nlongest: 300\noperations: [{method: POST}]",
        )
    )
