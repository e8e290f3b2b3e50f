"""`basic-auth`: users of the mesh with their passwords. Carried out by `gateway.processing.basic_users`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.checking import checking_kind
from tulle.gateway.policies.kind import Named, Registry, Settings

CACHE: Final[Json] = {
    "type": "number",
    "minimum": 0,
    "maximum": 3600,
    "description": "seconds for which somebody who was found right is not looked at again (300)",
}
_PROPERTIES: Final[Json] = {
    "groups": {
        "type": "array",
        "minItems": 1,
        "maxItems": 50,
        "items": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": "groups of users, one of which a caller must be in; without it everybody with a password",
    },
    "cache": CACHE,
}


def _names(settings: Settings) -> Iterator[Named]:
    return (Named("group", name, ("groups", n)) for n, name in enumerate(settings.get("groups", ())))


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        checking_kind(
            "basic-auth",
            "user",
            "Users of the mesh may call, with their name and password (HTTP Basic).",
            _PROPERTIES,
            names=_names,
            shows="basic",
            told="name and password of a user of the mesh",
            example="policy: basic-auth\ngroups: [Developers]\nlimit: 50/1s",
        )
    )
