"""Plain values of mesh.yaml, read: what is of another type is refused by its setting.

Knows no setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from typing import Any

from tulle.errors import Invalid, did_you_mean

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def setting(default: Any, text: str) -> Any:
    """A field with a default and the sentence that documents it."""
    return field(default=default, metadata={"help": text})


def expect(name: str, value: Any, kind: type) -> None:
    """Invalid, naming the setting, where a value is of another type."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Invalid(f"mesh.yaml: '{name}' is {value!r}, expected {word(kind)}")


def word(kind: type) -> str:
    """What people call a type."""
    return {"int": "a whole number", "str": "text", "bool": "true or false"}.get(kind.__name__, kind.__name__)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """A list of texts, none of them empty. Invalid."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise Invalid(f"mesh.yaml: '{name}' must be a list of texts")
    return tuple(value)


def known_items(
    path: str, value: Mapping[Any, Any], kind: Any, *, without: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """What `value` says of the fields of a dataclass: key, item and the field's default. Invalid for another key."""
    known = {f.name: f for f in fields(kind) if f.name != without}
    for key, item in value.items():
        if key not in known:
            raise Invalid(
                f"mesh.yaml: unknown setting '{key}' in '{path}'", hint=did_you_mean(str(key), known)
            )
        yield key, item, known[key].default


def is_name(name: Any) -> bool:
    """Whether something can be the name of a part of mesh.yaml, such as a channel."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def demand_name(path: str, name: Any, what: str) -> None:
    """Invalid where `name` cannot be the name of `what`, for example a channel."""
    if not is_name(name):
        raise Invalid(
            f"mesh.yaml: '{path[:200]}' is no name of {what}", hint="lower-case letters, digits, hyphens"
        )


def demand_one_of(path: str, value: str | None, choices: tuple[str, ...]) -> None:
    """Invalid where something is said and is none of the choices."""
    if value is not None and value not in choices:
        raise Invalid(
            f"mesh.yaml: '{path}' is '{value[:40]}', expected one of: {', '.join(choices)}",
            hint=did_you_mean(value, choices),
        )
