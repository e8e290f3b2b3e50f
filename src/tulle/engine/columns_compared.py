"""The columns of two sides of a data set: which there are, what changed about them, and how their values compare.

Composes SQL expressions; runs nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tulle.engine.engine import literal, quoted

_INTEGERS = {
    "TINYINT": 3,
    "SMALLINT": 5,
    "INTEGER": 10,
    "BIGINT": 19,
    "UTINYINT": 3,
    "USMALLINT": 5,
    "UINTEGER": 10,
    "UBIGINT": 20,
}
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_TIMES = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP WITH TIME ZONE"})
_MOST_DIGITS = 38
_ALIKE = 0.6  # how alike two names are that may be one column renamed


@dataclass(frozen=True, slots=True)
class Column:
    """A column of one side: its type as the engine names it, and whether its files allow nulls (CSV: always)."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What changed about a column. `renamed` is a guess: a removed and an added column that look alike.

    `name` is the left one's name, of an added column the right one's; `right_name` differs in a rename.
    """

    kind: Literal["added", "removed", "type", "nullability", "renamed", "moved"]
    name: str
    right_name: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A column both sides have, and how its values are compared."""

    name: str
    left: Column
    right: Column
    as_text: bool = False  # both sides hold text, whatever it looks like

    @property
    def cast(self) -> str | None:
        """The type both are brought to, None when they have the same."""
        return None if self.as_text else common_type(self.left.type, self.right.type)

    def expression(self, side: str = "") -> str:
        """Its value on either side, as it is compared."""
        value = f"{side}{quoted(self.name)}"
        return f"CAST({value} AS {self.cast})" if self.cast else value

    @property
    def is_float(self) -> bool:
        """Whether a tolerance applies: a floating point number on either side, and a number on both."""
        kinds = {self.left.type, self.right.type}
        return bool(kinds & _FLOATS) and all(map(is_number, kinds))


def common_type(left: str, right: str) -> str | None:
    """The type in which values of two types compare without loss where there is one; None when they are equal."""
    if left == right:
        return None
    numbers = [_digits(kind) for kind in (left, right)]
    if all(numbers):
        scale = max(n[1] for n in numbers if n)
        whole = max(n[0] - n[1] for n in numbers if n)
        if whole + scale <= _MOST_DIGITS:
            return f"DECIMAL({whole + scale},{scale})"
        return "DOUBLE"
    if all(number or kind in _FLOATS for number, kind in zip(numbers, (left, right), strict=True)):
        return "DOUBLE"
    if left in _TIMES and right in _TIMES:
        zone = " WITH TIME ZONE" if "TIMESTAMP WITH TIME ZONE" in {left, right} else ""
        return f"TIMESTAMP{zone}"
    return "VARCHAR"


def is_number(kind: str) -> bool:
    """Whether a mean of such a column makes sense."""
    return bool(_digits(kind)) or kind in _FLOATS or kind in {"HUGEINT", "UHUGEINT"}


def is_nested(kind: str) -> bool:
    """Whether a value of this type is made of others."""
    return kind.endswith("]") or kind.startswith(("STRUCT(", "MAP(", "UNION("))


def differs(pair: Pair, left: str, right: str, tolerance: float) -> str:
    """A condition that holds where two values of a pair are different; floats within the tolerance are not."""
    exact = f"{left} IS DISTINCT FROM {right}"
    if not tolerance or not pair.is_float:
        return exact
    left, right = f"TRY_CAST({left} AS DOUBLE)", f"TRY_CAST({right} AS DOUBLE)"
    # |l - r| ≤ tolerance × max(1, |l|, |r|), of finite numbers only: infinity is near nothing.
    near = (
        f"abs({left} - {right}) <= {literal(float(tolerance))} * greatest(1.0, abs({left}), abs({right}))"
        f" AND isfinite({left}) AND isfinite({right})"
    )
    return f"({exact} AND NOT coalesce({near}, false))"


def pairs(left: Sequence[Column], right: Sequence[Column], *, as_text: bool = False) -> list[Pair]:
    """The columns both sides have, in the right side's order."""
    by_name = {column.name: column for column in left}
    return [Pair(c.name, by_name[c.name], c, as_text) for c in right if c.name in by_name]


def column_changes(left: Sequence[Column], right: Sequence[Column]) -> list[ColumnChange]:
    """What changed from the left columns to the right ones, guesses of renames last."""
    before, after = {c.name: c for c in left}, {c.name: c for c in right}
    found: list[ColumnChange] = []
    found += [ColumnChange("removed", c.name, c.name, c.type, "") for c in left if c.name not in after]
    found += [ColumnChange("added", c.name, c.name, "", c.type) for c in right if c.name not in before]
    for pair in pairs(left, right):
        if pair.left.type != pair.right.type:
            found.append(ColumnChange("type", pair.name, pair.name, pair.left.type, pair.right.type))
        if pair.left.nullable != pair.right.nullable:
            words = ["nullable" if c.nullable else "required" for c in (pair.left, pair.right)]
            found.append(ColumnChange("nullability", pair.name, pair.name, *words))
    kept_left = [c.name for c in left if c.name in after]
    kept_right = [c.name for c in right if c.name in before]
    if kept_left != kept_right:
        for name in kept_right:
            places = kept_left.index(name) + 1, kept_right.index(name) + 1
            if places[0] != places[1]:
                found.append(ColumnChange("moved", name, name, *map(str, places)))
    return found


def rename_candidates(
    left: Sequence[Column],
    right: Sequence[Column],
    seen: Mapping[tuple[str, str], object],
) -> list[ColumnChange]:
    """Removed and added columns of one type that look alike, each column once, the likeliest first.

    `seen` has for ("left" or "right", column) what is known of its values; equal knowledge speaks for a rename.
    """
    before, after = {c.name for c in left}, {c.name for c in right}
    likely = []
    for old in left:
        for new in right:
            if old.name in after or new.name in before or old.type != new.type:
                continue
            values = seen.get(("left", old.name))
            same_values = values is not None and values == seen.get(("right", new.name))
            alike = difflib.SequenceMatcher(None, old.name.lower(), new.name.lower()).ratio()
            if same_values or alike >= _ALIKE:
                likely.append((not same_values, -alike, old, new, same_values))
    likely.sort(key=lambda item: (item[0], item[1], item[2].name, item[3].name))
    found: list[ColumnChange] = []
    taken: set[tuple[str, str]] = set()
    for _, _, old, new, same_values in likely:
        if {("left", old.name), ("right", new.name)} & taken:
            continue
        taken |= {("left", old.name), ("right", new.name)}
        why = "same values" if same_values else "similar name"
        found.append(ColumnChange("renamed", old.name, new.name, old.type, why))
    return found


def _digits(kind: str) -> tuple[int, int] | None:
    """Digits in all and after the point of an exact number's type."""
    if kind in _INTEGERS:
        return _INTEGERS[kind], 0
    match = re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", kind)
    return (int(match[1]), int(match[2])) if match else None
