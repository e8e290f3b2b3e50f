"""Values put together from others: `$profile.segment`, and what holds such paths.

Text that begins with `$` is a path into named values: `$name.member.0.member`, with `?` at its end null where there is
nothing. `$$` begins plain text with a dollar. Everything else is taken as it is. Pure, and compiled once, since every
request follows the same paths.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tulle.serving.request import RequestError, shown

Values = Mapping[str, Any]
Made = Callable[[Values], Any]
_PATH = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)((?:\.[^.?\s]+)*)(\?)?")


def made_of(template: Any) -> Made:
    """What gives the value of a template. ValueError for a path that is none."""
    match template:
        case str() if template.startswith("$$"):
            return _constant(template[1:])
        case str() if template.startswith("$"):
            return _path(template)
        case dict():
            parts = {name: made_of(value) for name, value in template.items()}
            return lambda values: {name: part(values) for name, part in parts.items()}
        case list():
            items = [made_of(value) for value in template]
            return lambda values: [item(values) for item in items]
    return _constant(template)


def roots_of(template: Any) -> Iterator[str]:
    """The names of the values that a template takes from."""
    match template:
        case str() if template.startswith("$") and not template.startswith("$$"):
            yield _parsed(template)[0]
        case dict():
            for value in template.values():
                yield from roots_of(value)
        case list():
            for value in template:
                yield from roots_of(value)


_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": operator.eq,
    "not": operator.ne,
    "above": lambda value, than: _comparable(value, than) and value > than,
    "below": lambda value, than: _comparable(value, than) and value < than,
    "in": lambda value, among: value in among,
    "exists": lambda value, wanted: (value is not None) == wanted,
}
TESTS = tuple(_TESTS)


def condition_of(said: Mapping[str, Any]) -> Made:
    """Whether `value` is as all the rest says: equals, not, above, below, in, exists."""
    given = said["value"]
    value = made_of(
        f"{given}?" if isinstance(given, str) and given.startswith("$") and given[-1] != "?" else given
    )
    tests = [(_TESTS[name], made_of(wanted)) for name, wanted in said.items() if name != "value"]

    def holds(values: Values) -> bool:
        found = value(values)
        return all(test(found, wanted(values)) for test, wanted in tests)

    return holds


def _constant(value: Any) -> Made:
    return lambda _values: value


def _parsed(text: str) -> tuple[str, list[str], bool]:
    found = _PATH.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text[:60]}' is no path: write $name.member, or $$ for a dollar")
    return found[1], found[2].split(".")[1:], bool(found[3])


def _path(text: str) -> Made:
    root, parts, is_optional = _parsed(text)

    def follow(values: Values) -> Any:
        try:
            value = values[root]
            for part in parts:
                value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, TypeError, ValueError):
            if is_optional:
                return None
            raise RequestError(
                422, "MissingValue", f"there is no {text}", f"Write {text}? where it may be missing"
            ) from None
        return value

    return follow


def _comparable(value: Any, than: Any) -> bool:
    numbers = (int, float)
    both = isinstance(value, numbers) and isinstance(than, numbers)
    return (both or (isinstance(value, str) and isinstance(than, str))) and not isinstance(value, bool)


def list_of(value: Any, what: str, most: int) -> Sequence[Any]:
    """A value that must be a list of so many entries at most. RequestError."""
    if not isinstance(value, list):
        raise RequestError(422, "NoList", f"{what} is {shown(value)}, expected a list")
    if len(value) > most:
        raise RequestError(422, "TooMany", f"{what} has {len(value):,} entries, at most {most:,} are taken")
    return value
