"""Columns of a source against those that were read before: the same, wider, fewer, other. Pure.

What a column may become without a value changing: a whole number a decimal with room for it or a double, a decimal a
larger one, a date a timestamp. Nothing ever becomes text by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tulle.engine.engine import ColumnType
from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.spec.columns import parse_type
from tulle.spec.source import QUARANTINE, WIDEN

_INTEGER_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Settled:
    """The columns a data set has from now on. `widened`: other than those it had; `dropped`: left out."""

    columns: tuple[ColumnType, ...]
    widened: bool = False
    dropped: tuple[str, ...] = ()
    cast: tuple[str, ...] = ()  # columns whose values must each be looked at


def settle(
    before: Sequence[ColumnType], found: Sequence[ColumnType], policy: str, label: str, place: Place | None
) -> Settled:
    """The columns to keep, given those there were and those there are. Invalid when `policy` refuses."""
    if not before:
        return Settled(tuple(found))
    old, new = {c.name: c.type for c in before}, {c.name: c.type for c in found}
    settling = _Settling(policy, place, old, new)
    for name in old:
        settling.known(name)
    for name in new:
        if name not in old:
            settling.added(name)
    problems = settling.problems
    if problems:
        message = f"{label} has other columns than before: {problems[0].message}"
        hint = "change on_drift of the source, or run with --full once, which begins anew"
        raise Invalid(message, hint=hint, problems=problems)
    return Settled(tuple(settling.columns), settling.widened, tuple(settling.dropped), tuple(settling.cast))


@dataclass(slots=True)
class _Settling:
    policy: str
    place: Place | None
    old: Mapping[str, str]
    new: Mapping[str, str]
    columns: list[ColumnType] = field(default_factory=list)
    widened: bool = False
    dropped: list[str] = field(default_factory=list)
    cast: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def known(self, name: str) -> None:
        """A column that was there before."""
        kind = self.old[name]
        if name not in self.new:
            if self.policy == WIDEN:
                self.columns.append(ColumnType(name, kind))
                return
            hint = did_you_mean(name, [other for other in self.new if other not in self.old])
            self.problems.append(Problem(f"column '{name}' is missing", self.place, hint))
            return
        found = self.new[name]
        wide = wider(kind, found)
        if wider(found, kind):
            self.columns.append(ColumnType(name, kind))
        elif self.policy == WIDEN and wide:
            self.columns.append(ColumnType(name, found))
            self.widened = True
        elif self.policy == QUARANTINE:
            self.columns.append(ColumnType(name, kind))
            self.cast.append(name)
        else:
            message = f"column '{name}' is {found} and was {kind}"
            self.problems.append(Problem(message, self.place, _advice(self.policy, wide)))

    def added(self, name: str) -> None:
        """A column that was not there before."""
        if self.policy == WIDEN:
            self.columns.append(ColumnType(name, self.new[name]))
            self.widened = True
        elif self.policy == QUARANTINE:
            self.dropped.append(name)
        else:
            hint = "write on_drift: widen to take it, or quarantine to leave it out"
            self.problems.append(Problem(f"column '{name}' is new", self.place, hint))


def _advice(policy: str, wide: bool) -> str:
    if policy != WIDEN and wide:
        return "write on_drift: widen to take it"
    return "its values could change; declare the column's type, or run with --full"


def wider(narrow: str, wide: str) -> bool:
    """Whether every value of one type is the same value in the other."""
    if narrow == wide or (narrow, wide) in {("integer", "double"), ("date", "timestamp")}:
        return True
    a, b = parse_type(narrow), parse_type(wide)
    if a is None or b is None or b.name != "decimal":
        return False
    whole = b.precision - b.scale
    if a.name == "integer":
        return whole >= _INTEGER_DIGITS
    return a.name == "decimal" and b.scale >= a.scale and whole >= a.precision - a.scale
