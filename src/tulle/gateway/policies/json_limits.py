"""`json-limits`: limits on the form of JSON in requests. Carried out by `gateway.processing.json_limits`."""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Registry
from tulle.gateway.policies.steps import step_kind


def _most(description: str) -> Json:
    return {"type": "integer", "minimum": -1, "description": f"{description}; -1 for any number"}


_PROPERTIES: Final[Json] = {
    "max_depth": _most("levels of objects and lists in one another (200 at most, whatever is said)"),
    "max_string_length": _most("characters of a text"),
    "max_name_length": _most("characters of the name of a member"),
    "max_entries": _most("members of an object"),
    "max_elements": _most("elements of a list"),
    "only_json": {
        "type": "boolean",
        "description": "look only at bodies that call themselves JSON, or nothing; services read all as JSON (false)",
    },
}


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "json-limits",
            "Requests whose JSON is too deep, long or wide, invalid, or has a name twice, are answered 400.",
            _PROPERTIES,
            example="policy: json-limits\nmax_depth: 10\nmax_string_length: 10000\nmax_entries: 200",
        )
    )
