"""One policy of a service as a plain value, and the operations it is for; which policies hold for which requests.

Several policies may each be for other operations, and those may overlap. `split` makes of them parts that each have
their own list of policies, in an order in which the first part that fits a request has all that hold for it. Pure.
Knows no kind of policy and not how anything is carried out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from tulle.errors import Invalid

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LONGEST_PATH: Final = 300
MOST_SEGMENTS: Final = 20
MOST_PARTS: Final = 100  # of one service; each is a few routes

_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@-]+")
_BLANK: Final = re.compile(r"\{[A-Za-z0-9_.-]{1,60}\}")
_ANY: Final = "[^/?]+"  # one part of a path; what comes after a question mark is none
# What some servers read in a path, however often it is encoded; for expressions that do not look at case.
_SLASH: Final = "(?:/|%(?:25)+(?:2f|5c))"
_PARAMETERS: Final = "(?:(?:;|%(?:25)*3b)[^/?]*)?"
_LEFT_OUT: Final = "(?:[.]|%(?:25)*(?:20|2e))*"  # dots and blanks at the end of a part
_CUT_OFF: Final = "(?:%(?:25)*(?:3f|23)[^?]*)?"  # a query or a fragment, to whoever decodes first
_NO_PART: Final = r"(?:/\.{0,2}(?:;|%(?:25)*3b)[^/?]*)*"  # parts that have parameters and nothing else
_FOLDED: Final[Mapping[str, str]] = {"s": "%c5%bf", "k": "%e2%84%aa"}  # letters that are these in lower case


@dataclass(frozen=True, slots=True)
class Operation:
    """Requests of one method to one path template below a service's address; empty: of any, to any."""

    method: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Refuse what no request is told by. Invalid."""
        if self.method and self.method not in METHODS:
            hint = "GET is for HEAD too" if self.method == "HEAD" else f"one of {', '.join(METHODS)}"
            raise Invalid(f"'{self.method}' is no method of an operation", hint=hint)
        if not self.path:
            return
        if len(self.path) > LONGEST_PATH or self.path.count("/") > MOST_SEGMENTS:
            raise Invalid(
                f"a path of {len(self.path)} characters: expected up to {LONGEST_PATH}, in {MOST_SEGMENTS} parts"
            )
        if not self.path.startswith("/"):
            raise Invalid(f"path '{self.path}' does not begin with a slash", hint=f"write '/{self.path}'")
        for part in self.segments:
            fits = _LITERAL.fullmatch(part) or _BLANK.fullmatch(part)
            if fits is None or part in {".", ".."}:
                raise Invalid(
                    f"'{part}' is no part of a path template in '{self.path}'",
                    hint="plain characters, or a parameter such as {id} that is the whole part",
                )

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path between slashes; a slash at the end makes none."""
        return tuple(self.path.removesuffix("/")[1:].split("/")) if self.path.strip("/") else ()

    @property
    def is_any(self) -> bool:
        """Whether every request is one of it."""
        return not self.method and not self.path

    def covers(self, other: Operation) -> bool:
        """Whether every request of `other` is one of this."""
        return self.meet(other) == other.plain

    @property
    def plain(self) -> Operation:
        """The same requests in one form: parameters have no names, the path no slash at its end."""
        if not self.path:
            return self
        parts = ("{x}" if _BLANK.fullmatch(part) else part for part in self.segments)
        return Operation(self.method, "/" + "/".join(parts))

    def meet(self, other: Operation) -> Operation | None:
        """The requests that are of both, in the plain form; None when there can be none."""
        if self.method and other.method and self.method != other.method:
            return None
        method = self.method or other.method
        if not self.path or not other.path:
            return Operation(method, self.path or other.path).plain
        mine, others = self.plain.segments, other.plain.segments
        if len(mine) != len(others):
            return None
        both = []
        for one, two in zip(mine, others, strict=True):
            if "{x}" not in {one, two} and one != two:
                return None
            both.append(two if one == "{x}" else one)
        return Operation(method, "/" + "/".join(both))

    @property
    def narrowness(self) -> int:
        """More for what is part of something else."""
        literals = sum(part != "{x}" for part in self.plain.segments)
        return bool(self.method) + bool(self.path) + literals

    def regex(self) -> str:
        """An RE2 expression of the whole path below a service's address, with or without a slash at its end."""
        parts = (_ANY if _BLANK.fullmatch(part) else re.escape(part) for part in self.segments)
        return "".join(f"/{part}" for part in parts) + "/?"

    def likeness(self) -> str:
        """An RE2 expression of what some servers take for the same path.

        By case, by letters that are encoded, once or several times, by `;parameters`, by what they leave out.
        """
        parts = (
            _ANY if _BLANK.fullmatch(part) else _alike(part) + _LEFT_OUT + _PARAMETERS
            for part in self.segments
        )
        # A parameter may hold an encoded question mark, which is part of it; behind its slash it is none.
        cut_off = f"(?:/{_CUT_OFF[3:]}" if self.segments and _BLANK.fullmatch(self.segments[-1]) else _CUT_OFF
        return "(?i:" + "".join(f"{_NO_PART}{_SLASH}{part}" for part in parts) + f"{_NO_PART}/?{cut_off})"

    def __str__(self) -> str:
        """As people say it."""
        return " ".join(part for part in (self.method, self.path) if part) or "all requests"


@dataclass(frozen=True, slots=True)
class Policy:
    """One entry of a service's list: its kind's name, the settings as written, and what it is for; none: everything.

    `settings` are plain JSON values that the kind has read without a complaint.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()

    def as_plain(self) -> dict[str, Any]:
        """The form in which it is written, kept and shown."""
        said: dict[str, Any] = {"policy": self.kind, **self.settings}
        if self.operations:
            said["operations"] = [
                {key: value for key, value in (("method", one.method), ("path", one.path)) if value}
                for one in self.operations
            ]
        return said


def _alike(part: str) -> str:
    """A part as it is written, or with any of its characters encoded; in either case."""
    return "".join(map(_character, part.lower()))


def _character(one: str) -> str:
    code = f"{ord(one):02x}"
    if not one.isalnum():
        return f"(?:{re.escape(one)}|%(?:25)*{code})"
    if one.isalpha():  # the code of the capital is another one
        code = f"[{int(code[0]) - 2}{code[0]}]{code[1]}"
    more = f"|{_FOLDED[one]}" if one in _FOLDED else ""
    return f"(?:{one}|%(?:25)*{code}{more})"


def split(policies: Sequence[Policy]) -> list[tuple[Operation, tuple[int, ...]]]:
    """Parts of a service's requests with the positions of the policies that hold there.

    Whatever the request, the first part that it is one of has exactly the policies that are for it. The last part is
    everything. Invalid when the operations overlap in too many ways.
    """
    return list(_split(tuple(policy.operations for policy in policies)))


@lru_cache(maxsize=4096)  # thousands of services have a few forms of lists
def _split(of_each: tuple[tuple[Operation, ...], ...]) -> tuple[tuple[Operation, tuple[int, ...]], ...]:
    everything = Operation()
    named = {one.plain for operations in of_each for one in operations}
    parts = {everything, *named}
    fresh = parts
    while fresh:  # until what two of them have in common is one of them, too
        met = {both for one in fresh for other in parts if (both := one.meet(other)) is not None}
        fresh = met - parts
        parts |= fresh
        if len(parts) > MOST_PARTS:
            raise Invalid(
                f"the operations of the policies overlap in more than {MOST_PARTS} ways",
                hint="name fewer operations, or make one policy for all of them",
            )
    ordered = sorted(parts, key=lambda one: (-one.narrowness, one.path, one.method))
    return tuple((part, _held(of_each, part)) for part in ordered)


def _held(of_each: Sequence[Sequence[Operation]], part: Operation) -> tuple[int, ...]:
    return tuple(
        number
        for number, operations in enumerate(of_each)
        if not operations or any(one.covers(part) for one in operations)
    )
