"""Limits on the form of JSON in requests: depth, lengths, counts; no invalid text, no name twice in an object.

A body is read once, by a parser that itself stops at a depth, and what was read is shared with later steps. A body is
taken for JSON whatever it calls itself, unless the policy says that only what calls itself JSON is: services read
it as JSON in any case. Knows nothing of schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, Final

from tulle.errors import Invalid
from tulle.gateway.processing.exchange import Call, Refusal, is_json
from tulle.gateway.processing.step import Step

MOST_DEPTH: Final = 200  # whatever a policy says: what reads a value goes down in it as deep as it is
_SETTINGS: Final = ("max_depth", "max_string_length", "max_name_length", "max_entries", "max_elements")
_COLON: Final = re.compile(rb"\\u003[aA]")


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
            kind = (call.header(b"content-type") or b"").partition(b";")[0].strip().lower().decode("latin-1")
            if kind and not is_json(kind):
                return
        packed = (call.header(b"content-encoding") or b"identity").strip().lower()
        if packed not in {b"identity", b""}:
            raise Refusal(
                415, "UnsupportedEncoding", "The request body is packed", "Send it without content-encoding"
            )
        self.check(call.body, call.json())

    def check(self, body: bytes, value: Any) -> None:
        """Refusal where a body, read as this value, is more than is accepted, or an object in it has a name twice."""
        if body.count(b":") != self._look(value) or _COLON.search(body):
            check_names(body)

    def _look(self, value: Any) -> int:
        """Check a value, level by level; how many colons a body has that says nothing else.

        Those in its texts and names, and one for each member: a body with more of them has a name twice.
        """
        limits = self._limits
        colons, depth, level = 0, 0, [value]
        while level:
            depth += 1
            below: list[Any] = []
            for one in level:
                kind = type(one)
                if kind is str:
                    if len(one) > limits.text:
                        raise _too(f"a text has {len(one)} characters, {limits.text} are accepted")
                    colons += one.count(":")
                elif kind is dict:
                    self._check_object(one, depth)
                    colons += len(one) + "".join(one).count(":")
                    below.extend(one.values())
                elif kind is list:
                    self._check_list(one, depth)
                    below.extend(one)
            level = below
        return colons

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


def check_names(body: bytes) -> None:
    """Refusal where an object has a name twice: readers differ in which of the two values they take."""

    def pairs(found: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in found:
            if name in seen:
                raise _too(f"an object has the name '{name[:60]}' twice")
            seen.add(name)

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=str)
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, "InvalidRequest", f"The body is not read as JSON: {exc}") from None


def has_a_name_twice(body: bytes, value: Any) -> bool:
    """Whether an object of a body, read as this value, has a name twice, or is too deep to know."""
    try:
        _UNBOUNDED.check(body, value)
    except Refusal:
        return True
    return False


_UNBOUNDED: Final = JsonLimits(Limits(MOST_DEPTH, *[1 << 60] * 4), only_json=False)


def json_limits(settings: Mapping[str, Any]) -> JsonLimits:
    """The step of a policy's settings; a limit that is left out or -1 is none."""
    found = []
    for name in _SETTINGS:
        most = settings.get(name, -1)
        if not isinstance(most, int) or isinstance(most, bool) or most < -1 or most == 0:
            raise Invalid(
                f"json-limits: '{name}' is {most!r}, expected a whole number from 1, or -1 for no limit"
            )
        found.append(most if most > 0 else 1 << 60)
    depth, *others = found
    return JsonLimits(
        Limits(min(depth, MOST_DEPTH), *others), only_json=bool(settings.get("only_json", False))
    )


def _too(detail: str) -> Refusal:
    return Refusal(400, "JsonThreat", f"The JSON of the request body is not accepted: {detail}")
