"""Paths into JSON values, in the words of RFC 9535: `$.results[*].data.ssn`, `$..token`, `$['a b'][0]`.

Filters and slices are not taken: what a policy names it names for good, whatever else the value says. A path selects
places, so that what is there can be taken out or replaced. Knows nothing of what is done at a place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonpath_rfc9535 import JSONPathError, compile  # noqa: A004  their name for it
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector, WildcardSelector

from tulle.errors import Invalid

LONGEST: Final = 500  # characters of a path
MOST_SEGMENTS: Final = 30
REMOVE: Final = object()  # what a change gives that takes a value out


@dataclass(frozen=True, slots=True)
class _Segment:
    """One step down: by these names and numbers, or to everything; from a value, or from all that is in it."""

    names: tuple[str, ...]
    indexes: tuple[int, ...]
    is_wild: bool
    is_deep: bool


@dataclass(frozen=True, slots=True)
class Path:
    """A path as it was written, and its steps."""

    text: str
    segments: tuple[_Segment, ...]

    @property
    def last_names(self) -> tuple[str, ...]:
        """The names one of which must be in a value for the path to find anything; none: anything may be found."""
        for segment in reversed(self.segments):
            if segment.names and not (segment.indexes or segment.is_wild):
                return segment.names
        return ()

    def change(self, value: Any, by: Callable[[Any], Any]) -> tuple[Any, int]:
        """`value` with `by` applied to all that the path selects, REMOVE takes it out; in place. How many there were.

        RecursionError where a value is nested too deeply.
        """
        if not self.segments:
            found = by(value)
            return (None if found is REMOVE else found), 1
        return value, _change(value, self.segments, 0, by)

    def found(self, value: Any) -> list[Any]:
        """All that the path selects, in the order of the value; RecursionError as `change`."""
        found = [value]
        for segment in self.segments:
            found = [below for one in found for below in _below(one, segment)]
        return found


def json_path(text: Any) -> Path:
    """Read a path; Invalid when it is none, or has what is not taken."""
    if not isinstance(text, str) or len(text) > LONGEST:
        raise Invalid(f"JSON path {text!r:.60}: expected text of at most {LONGEST} characters")
    try:
        read = compile(text)
    except (JSONPathError, RecursionError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise Invalid(
            f"'{text}' is no JSON path: {reason}", hint="write for example $.results[*].data.ssn or $..token"
        ) from None
    if len(read.segments) > MOST_SEGMENTS:
        raise Invalid(f"JSON path '{text[:60]}' has more than {MOST_SEGMENTS} steps")
    return Path(text, tuple(_segment(text, one) for one in read.segments))


def _segment(text: str, segment: Any) -> _Segment:
    names: list[str] = []
    indexes: list[int] = []
    is_wild = False
    for selector in segment.selectors:
        if isinstance(selector, NameSelector):
            names.append(selector.name)
        elif isinstance(selector, IndexSelector):
            indexes.append(selector.index)
        elif isinstance(selector, WildcardSelector):
            is_wild = True
        else:
            raise Invalid(
                f"JSON path '{text}': filters and slices are not taken",
                hint="name members, numbers or * for all of them",
            )
    return _Segment(
        tuple(names), tuple(indexes), is_wild, isinstance(segment, JSONPathRecursiveDescentSegment)
    )


def _places(value: Any, segment: _Segment) -> Sequence[Any]:
    """The names or numbers by which a segment goes on from a value."""
    if type(value) is dict:
        return list(value) if segment.is_wild else [name for name in segment.names if name in value]
    if type(value) is list:
        size = len(value)
        if segment.is_wild:
            return range(size)
        return sorted({i if i >= 0 else size + i for i in segment.indexes if -size <= i < size})
    return ()


def _below(value: Any, segment: _Segment) -> list[Any]:
    found = [value[place] for place in _places(value, segment)]
    if segment.is_deep and type(value) in {dict, list}:
        for one in value.values() if type(value) is dict else value:
            found += _below(one, segment)
    return found


def _change(value: Any, segments: Sequence[_Segment], at: int, by: Callable[[Any], Any]) -> int:
    """Apply a change below `value`, from segment number `at` on; how often."""
    segment = segments[at]
    kind = type(value)
    if kind is not dict and kind is not list:
        return 0
    count = 0
    if segment.is_deep:  # what lies deeper first: a place may be gone then
        for one in value.values() if kind is dict else value:
            inner = type(one)
            if inner is dict or inner is list:
                count += _change(one, segments, at, by)
    if at + 1 == len(segments):
        return count + _apply(value, segment, by)
    if kind is list and segment.is_wild:
        for one in value:
            count += _change(one, segments, at + 1, by)
    elif kind is dict and not segment.is_wild:  # the usual: a few names
        for name in segment.names:
            if name in value:
                count += _change(value[name], segments, at + 1, by)
    else:
        for place in _places(value, segment):
            count += _change(value[place], segments, at + 1, by)
    return count


def _apply(value: Any, segment: _Segment, by: Callable[[Any], Any]) -> int:
    """Apply a change to what is in `value` where a path ends; how often."""
    if type(value) is dict and not segment.is_wild:
        places: Sequence[Any] = segment.names
    else:
        places = _places(value, segment)
    count = 0
    for place in reversed(places):  # so that those to come keep their numbers
        if type(place) is str and place not in value:
            continue
        count += 1
        found = by(value[place])
        if found is REMOVE:
            del value[place]
        else:
            value[place] = found
    return count
