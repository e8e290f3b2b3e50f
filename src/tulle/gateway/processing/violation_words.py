"""What a schema asks for where a value is otherwise, in words: from the schema alone, never from the value. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

_LONGEST: Final = 80  # characters of what a document says
_MOST_OPTIONS: Final = 8
_TYPES: Final[Mapping[str, str]] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def violation(error: Any) -> str:
    """One violation as jsonschema_rs tells it, with its place: `total: expected a number`."""
    place = ".".join(str(part) for part in error.instance_path)
    words = _WORDS.get(error.kind.name, _otherwise)(error.kind)
    return f"{place}: {words}" if place else words


def _otherwise(kind: Any) -> str:
    return f"it is not what '{kind.name}' of its schema asks for"


def _types(kind: Any) -> str:
    return "expected " + " or ".join(_TYPES.get(one, one) for one in sorted(kind.types))


def _options(kind: Any) -> str:
    told = [_cut(one) for one in kind.options[:_MOST_OPTIONS]]
    return f"expected one of {', '.join(told)}{' …' if len(kind.options) > _MOST_OPTIONS else ''}"


def _cut(said: Any) -> str:
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"'{text}'" if isinstance(said, str) else text


def _size(words: str, of: str) -> Callable[[Any], str]:
    return lambda kind: f"expected {words} {kind.limit} {of}".rstrip()


_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "required": lambda kind: f"{_cut(kind.property)} is missing",
    "additionalProperties": lambda _: "it has a member that the document does not have",
    "unevaluatedProperties": lambda _: "it has a member that the document does not have",
    "type": _types,
    "enum": _options,
    "const": lambda kind: f"expected {_cut(kind.expected_value)}",
    "format": lambda kind: f"expected the format {_cut(kind.format)}",
    "pattern": lambda kind: f"expected text of the form {_cut(kind.pattern)}",
    "minimum": _size("at least", ""),
    "maximum": _size("at most", ""),
    "exclusiveMinimum": _size("more than", ""),
    "exclusiveMaximum": _size("less than", ""),
    "multipleOf": lambda kind: f"expected a multiple of {kind.multiple_of}",
    "minLength": _size("at least", "characters"),
    "maxLength": _size("at most", "characters"),
    "minItems": _size("at least", "elements"),
    "maxItems": _size("at most", "elements"),
    "uniqueItems": lambda _: "expected each element once",
    "minProperties": _size("at least", "members"),
    "maxProperties": _size("at most", "members"),
    "oneOf": lambda _: "it is none, or more than one, of the forms that the document has",
    "anyOf": lambda _: "it is none of the forms that the document has",
    "falseSchema": lambda _: "it is not expected",
}
