"""One component of a document while its rules are checked: where it is, and its properties in plain form. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tulle.spec.document import Path as Steps
from tulle.spec.product import snake


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a document: where it is, and its properties in plain form."""

    path: Steps
    name: str
    type: str
    base: str  # the built-in type at the root of `type`
    properties: dict[str, Any]

    def text(self, prop: str) -> str:
        """A property that is text, without the space around it; empty when it is missing or no text."""
        value = self.properties.get(prop)
        return value.strip() if isinstance(value, str) else ""

    def entries(self, *steps: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The mappings in a list property, with their positions."""
        value: Any = self.properties
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        for position, entry in enumerate(value if isinstance(value, list) else ()):
            if isinstance(entry, dict):
                yield position, entry


def data_set_name(part: Part) -> str:
    """The name of the data set a data-set component describes."""
    return snake(part.text("table_name").rsplit(".", 1)[-1] or part.name)
