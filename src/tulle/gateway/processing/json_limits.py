"""Limits on the form of JSON in requests: depth, lengths, counts; no invalid text, no name twice in an object.

A body is read once, by a parser that itself stops at a depth, and what was read is shared with later steps. A body is
taken for JSON whatever it calls itself, unless the policy says that only what calls itself JSON is: services read
it as JSON in any case. Knows nothing of schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, Final

from tulle.errors import Invalid
from tulle.gateway.processing.exchange import Call, Refusal
from tulle.gateway.processing.json_text import are_several, is_json
from tulle.gateway.processing.step import Step

MOST_DEPTH: Final = 200  # whatever a policy says: what reads a value goes down in it as deep as it is
_SETTINGS: Final = ("max_depth", "max_string_length", "max_name_length", "max_entries", "max_elements")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value may have at most: levels, characters of a text and of a name, members, elements."""

    depth: int
    text: int
    name: int
    entries: int
    elements: int


class JsonLimits(Step):
    """The limits of one policy."""

    def __init__(self, limits: Limits, *, only_json: bool) -> None:
        self._limits = limits
        self._only_json = only_json

    def request(self, call: Call) -> None:
        if not call.body:
            return
        if self._only_json:
            kind = call.content_type
            if kind and not is_json(kind) and not are_several(call.header(b"content-type")):
                return
        self._look(call.json())
        if (name := call.name_twice()) is not None:
            raise _too(f"an object has the name '{name[:60]}' twice")

    def _look(self, value: Any) -> None:
        """Check a value, level by level."""
        limits = self._limits
        depth, level = 0, [value]
        while level:
            depth += 1
            below: list[Any] = []
            for one in level:
                kind = type(one)
                if kind is str:
                    if len(one) > limits.text:
                        raise _too(f"a text has {len(one)} characters, {limits.text} are accepted")
                elif kind is dict:
                    self._check_object(one, depth)
                    below.extend(one.values())
                elif kind is list:
                    self._check_list(one, depth)
                    below.extend(one)
            level = below

    def _check_object(self, value: Mapping[str, Any], depth: int) -> None:
        limits = self._limits
        if depth > limits.depth:
            raise _too(f"it is nested more than {limits.depth} levels")
        if len(value) > limits.entries:
            raise _too(f"an object has {len(value)} members, {limits.entries} are accepted")
        if value and (longest := max(map(len, value))) > limits.name:
            raise _too(f"a name has {longest} characters, {limits.name} are accepted")

    def _check_list(self, value: Sized, depth: int) -> None:
        limits = self._limits
        if depth > limits.depth:
            raise _too(f"it is nested more than {limits.depth} levels")
        if len(value) > limits.elements:
            raise _too(f"a list has {len(value)} elements, {limits.elements} are accepted")


def json_limits(settings: Mapping[str, Any]) -> JsonLimits:
    """The step of a policy's settings; a limit that is left out or -1 is none."""
    found = []
    for name in _SETTINGS:
        most = settings.get(name, -1)
        if not isinstance(most, int) or isinstance(most, bool) or most < -1 or most == 0:
            raise Invalid(
                f"json-limits: '{name}' is {most!r}, expected a whole number from 1, or -1 for no limit",
                hint=f"leave `{name}` out where there is to be none",
            )
        found.append(most if most > 0 else 1 << 60)
    depth, *others = found
    return JsonLimits(
        Limits(min(depth, MOST_DEPTH), *others), only_json=bool(settings.get("only_json", False))
    )


def _too(detail: str) -> Refusal:
    return Refusal(400, "JsonThreat", f"The JSON of the request body is not accepted: {detail}")
