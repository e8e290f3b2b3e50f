"""Values put together from others: `$profile.segment`, `$(profile.spend * 2)`, and what holds such text.

Text that begins with `$` is a path into named values: `$name.member.0.member`, with `?` at its end null where there is
nothing; in parentheses it is an expression (`expression`). `$$` begins plain text with a dollar. Everything else is
taken as it is. Pure, and compiled once, since every request follows the same paths.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tulle.serving import expression
from tulle.serving.request import RequestError, shown

Values = Mapping[str, Any]
Made = Callable[[Values], Any]
_PATH = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)((?:\.[^.?\s]+)*)(\?)?")


def made_of(template: Any) -> Made:
    """What gives the value of a template. ValueError for a path that is none."""
    slow = _made(template)
    source = _source(template)
    if source is None or not isinstance(template, dict | list | str):
        return slow
    # Paths that are there, as nearly all are, are followed by Python itself; the slow way tells what is missing.
    try:
        straight = eval(f"lambda values: {source}", {"__builtins__": {}, "at": _at})  # noqa: S307  made of quoted names alone
    except (SyntaxError, MemoryError, RecursionError):  # nested more deeply than Python reads
        return slow

    def made(values: Values) -> Any:
        try:
            return straight(values)
        except (KeyError, IndexError, TypeError):
            return slow(values)

    return made


def _source(template: Any) -> str | None:  # noqa: PLR0911  a case a line
    """Python for a template that consists of paths into objects and of constants; None for any other."""
    match template:
        case str() if template.startswith("$$"):
            return repr(template[1:])
        case str() if template.startswith("$"):
            if _expression(template) is not None:
                return None
            root, parts, is_optional = _parsed(template)
            if is_optional:
                return None
            source = f"values[{root!r}]"
            for part in parts:
                place = _place(part)
                source = f"{source}[{part!r}]" if place is None else f"at({source}, {part!r}, {place})"
            return source
        case dict():
            members = {name: _source(value) for name, value in template.items()}
            if None in members.values() or not all(isinstance(name, str) for name in members):
                return None
            return "{" + ", ".join(f"{name!r}: {value}" for name, value in members.items()) + "}"
        case list():
            entries = [_source(value) for value in template]
            return None if None in entries else "[" + ", ".join(map(str, entries)) + "]"
        case str() | bool() | int() | None:
            return repr(template)
    return None


def _at(value: Any, name: str, number: int) -> Any:
    return value[number if type(value) is list else name]


def _made(template: Any) -> Made:
    match template:
        case str() if template.startswith("$$"):
            return _constant(template[1:])
        case str() if (inner := _expression(template)) is not None:
            return expression.compiled(inner)
        case str() if template.startswith("$"):
            return _path(template)
        case dict():
            parts = {name: _made(value) for name, value in template.items()}
            return lambda values: {name: part(values) for name, part in parts.items()}
        case list():
            items = [_made(value) for value in template]
            return lambda values: [item(values) for item in items]
    return _constant(template)


def roots_of(template: Any, *, certain: bool = False) -> Iterator[str]:
    """The names of the values that a template takes from; `certain`: of those that must be there."""
    match template:
        case str() if (inner := _expression(template)) is not None:
            yield from expression.certain_roots(inner) if certain else expression.roots(inner)
        case str() if template.startswith("$") and not template.startswith("$$"):
            root, _, is_optional = _parsed(template)
            if not (certain and is_optional):
                yield root
        case dict():
            for value in template.values():
                yield from roots_of(value, certain=certain)
        case list():
            for value in template:
                yield from roots_of(value, certain=certain)


def paths_of(template: Any) -> Iterator[str]:
    """The paths that a template follows; of what an expression takes from, the whole value."""
    match template:
        case str() if (inner := _expression(template)) is not None:
            yield from (f"${root}" for root in expression.roots(inner))
        case str() if template.startswith("$") and not template.startswith("$$"):
            yield template.removesuffix("?")
        case dict():
            for value in template.values():
                yield from paths_of(value)
        case list():
            for value in template:
                yield from paths_of(value)


_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": operator.eq,
    "not": operator.ne,
    "above": lambda value, than: _comparable(value, than) and value > than,
    "below": lambda value, than: _comparable(value, than) and value < than,
    "in": lambda value, among: value in among,
    "exists": lambda value, wanted: (value is not None) == wanted,
}
TESTS = tuple(_TESTS)


def condition_of(said: Mapping[str, Any] | str) -> Made:
    """Whether `value` is as all the rest says: equals, not, above, below, in, exists; or an expression holds."""
    if isinstance(said, str):
        return made_of(said)
    given = said["value"]
    value = made_of(f"{given}?" if _is_path(given) and not given.endswith("?") else given)
    tests = [(_TESTS[name], made_of(wanted)) for name, wanted in said.items() if name != "value"]

    if len(tests) == 1:  # the usual case
        ((only, than),) = tests
        return lambda values: only(value(values), than(values))

    def holds(values: Values) -> bool:
        found = value(values)
        return all(test(found, wanted(values)) for test, wanted in tests)

    return holds


def _is_path(template: Any) -> bool:
    is_made = isinstance(template, str) and template.startswith("$") and not template.startswith("$$")
    return is_made and _expression(template) is None


def _constant(value: Any) -> Made:
    return lambda _values: value


def _expression(text: str) -> str | None:
    """What is in the parentheses of `$(…)`; None for other text."""
    return text[2:-1] if text.startswith("$(") and text.endswith(")") else None


def _parsed(text: str) -> tuple[str, list[str], bool]:
    found = _PATH.fullmatch(text)
    if found is None:
        raise ValueError(
            f"'{text[:60]}' is no path: write $name.member, $(an expression), or $$ for a dollar"
        )
    return found[1], found[2].split(".")[1:], bool(found[3])


def _place(part: str) -> int | None:
    """The place in a list that a part of a path may be."""
    return int(part) if part.isascii() and part.isdigit() and len(part) < 10 else None


def _path(text: str) -> Made:
    root, parts, is_optional = _parsed(text)
    steps = [(part, _place(part)) for part in parts]

    def follow(values: Values) -> Any:
        try:
            value = values[root]
            for part, number in steps:
                value = value[number] if type(value) is list else value[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
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
