"""A YAML document as plain values, together with where each key and value was written.

Values are what JSON has (None, bool, int, float, str, list, dict with text keys). A *path* is a tuple of keys
and indexes from the root, for example `("components", 2, "properties", "columns", 0)`. Knows nothing of YAML
syntax (`load`) nor of schemas (`validate`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tulle.errors import Invalid, Place, Problem

Path = tuple[str | int, ...]

# Where libyaml starts a new line; str.splitlines() would also split at form feeds and the like.
LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

LONGEST_LINE = 500  # a longer line is not repeated in a Problem
MOST_PROBLEMS = 100  # more are counted, not shown


class Mark:
    """Where one value was written (from 1), what it looked like, and the marks of what it holds."""

    __slots__ = ("children", "column", "keys", "line", "raw")

    def __init__(self, line: int, column: int, raw: str = "") -> None:
        self.line = line
        self.column = column
        self.raw = raw  # the text as written, of a plain scalar that was not read as text
        self.keys: dict[str, tuple[int, int]] = {}  # of a mapping: where each key stands
        self.children: dict[str | int, Mark] = {}

    def copy(self) -> Mark:
        """A mark of the same value whose children may be replaced without touching this one's."""
        twin = Mark(self.line, self.column, self.raw)
        twin.keys, twin.children = dict(self.keys), dict(self.children)
        return twin


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values of one file and the places of their keys and values."""

    value: Any
    name: str  # what errors call the file
    text: str = field(repr=False)
    mark: Mark = field(repr=False)
    _lines: list[str] = field(default_factory=list, repr=False, compare=False)

    def at(self, path: Iterable[str | int]) -> Any:
        """The value at `path`, or None where there is none."""
        value = self.value
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def place(self, path: Path = (), *, key: bool = False) -> Place:
        """Where the value at `path` stands, or its key with `key=True`.

        Where the path leads to nothing (a missing property), the place of the innermost thing that is there.
        """
        mark = self.mark
        where = (mark.line, mark.column)
        for step in path:
            child = mark.children.get(step)
            if child is None:
                break
            where = mark.keys[str(step)] if key and step in mark.keys else (child.line, child.column)
            mark = child
        return Place(self.name, *where)

    def raw(self, path: Path) -> str:
        """A plain scalar the way it was written (`1.10`), empty for text, lists and mappings."""
        mark: Mark | None = self.mark
        for step in path:
            mark = mark.children.get(step) if mark else None
        return mark.raw if mark else ""

    def line(self, number: int) -> str | None:
        """The source line of that number (from 1); None when there is none or it is too long to show."""
        if not self._lines:
            self._lines.extend(LINE_BREAK.split(self.text))
        if not 0 < number <= len(self._lines) or len(self._lines[number - 1]) > LONGEST_LINE:
            return None
        return self._lines[number - 1]

    def problem(
        self, message: str, path: Path = (), *, key: bool = False, hint: str | None = None
    ) -> Problem:
        """A Problem at the value (or key) of `path`, with its source line."""
        place = self.place(path, key=key)
        return Problem(message, place, hint, self.line(place.line))

    def mapped(self, path: Path, change: Callable[[Any, Mark], tuple[Any, Mark]]) -> Document:
        """The document with value and mark at `path` replaced by `change(value, mark)`; this one stays."""
        value, mark = _mapped(self.value, self.mark, path, change)
        return replace(self, value=value, mark=mark)


def _mapped(
    value: Any, mark: Mark, path: Path, change: Callable[[Any, Mark], tuple[Any, Mark]]
) -> tuple[Any, Mark]:
    if not path:
        return change(value, mark)
    step, rest = path[0], path[1:]
    twin = mark.copy()
    value = list(value) if isinstance(value, list) else dict(value)
    value[step], twin.children[step] = _mapped(value[step], mark.children[step], rest, change)
    return value, twin


def refuse(name: str, problems: Iterable[Problem]) -> None:
    """Raise Invalid with all of `problems`, if there are any; `name` says what they are in."""
    found = tuple(problems)
    if not found:
        return
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    if len(found) > MOST_PROBLEMS:
        count += f", of which these are the first {MOST_PROBLEMS}"
    raise Invalid(f"{name} is not valid: {count}", problems=found[:MOST_PROBLEMS])


def shown(text: str, longest: int = 60) -> str:
    """A piece of somebody's text, short enough for a message."""
    return text if len(text) <= longest else text[:longest] + "…"
