"""Building blocks for the JSON Schema of a component's properties: each property described, nothing unknown taken."""

from __future__ import annotations

from typing import Any


def text(description: str, **more: Any) -> dict[str, Any]:
    """A property that holds some text."""
    return {"type": "string", "minLength": 1, "description": description, **more}


def entity(required: list[str], /, **properties: dict[str, Any]) -> dict[str, Any]:
    """A mapping with exactly these properties."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def list_of(items: dict[str, Any], description: str, **more: Any) -> dict[str, Any]:
    """A property that holds a list."""
    return {"type": "array", "items": items, "description": description, **more}


def one_of(words: Any, description: str, **more: Any) -> dict[str, Any]:
    """A property that holds one of some words."""
    return {"enum": list(words), "description": description, **more}


def flag(description: str, default: bool) -> dict[str, Any]:
    """A property that is true or false."""
    return {"type": "boolean", "default": default, "description": description}


def count(description: str, **more: Any) -> dict[str, Any]:
    """A property that holds a whole number from 0."""
    return {"type": "integer", "minimum": 0, "description": description, **more}


def day(description: str) -> dict[str, Any]:
    """A property that holds a date; that there is such a day is checked by `rules`."""
    return text(description, pattern=r"^\d{4}-\d{2}-\d{2}$", **{"x-expected": "a date such as 2027-12-31"})


def web(description: str) -> dict[str, Any]:
    """A property that holds an address for a browser or a mail program: never a script, never a password."""
    return text(
        description,
        pattern=r"^((https?|slack|msteams)://[^\s@<>\"]+|mailto:[^\s<>\"]+)$",
        maxLength=2000,
        **{"x-expected": "an address that begins with https:// or mailto:, without a password in it"},
    )


def duration(description: str) -> dict[str, Any]:
    """A property that holds a span of time."""
    return text(
        description,
        pattern=r"^[1-9][0-9]{0,5} ?(minutes?|hours?|days?|weeks?|months?|years?|min|h|d|w|y)$",
        **{"x-expected": "a span of time such as 30 days, 12 hours or 1 year"},
    )
