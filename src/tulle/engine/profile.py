"""What the values of a data set's columns look like: counts, extremes, means. One pass over the columns it reads."""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from tulle.engine.columns_compared import Column, is_nested, is_number
from tulle.engine.duck import Reading
from tulle.engine.engine import quoted

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_AT_ONCE = 64  # columns a statement profiles; more would keep too many sketches in memory
_LARGEST = "1e150"  # a variance of larger numbers cannot be told in doubles


@dataclass(frozen=True, slots=True)
class Profile:
    """The values of one column. `distinct` is an estimate (±2 %); `least` and `most` are text, None without values.

    `mean`, `deviation` and `quantiles` (at QUANTILES, estimates) are of finite numbers, None for other types.
    """

    type: str
    count: int
    nulls: int
    distinct: int | None
    least: str | None
    most: str | None
    mean: float | None
    deviation: float | None
    quantiles: tuple[float, ...] | None

    def same_values(self, other: Profile) -> bool:
        """Whether nothing tells the two apart but rounding and estimates that depend on the order of rows."""
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            if field.name in {"quantiles", "type"} or one == two:
                continue
            if not (isinstance(one, float) and isinstance(two, float) and math.isclose(one, two)):
                return False
        return True


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """A column on both sides; None where a side does not have it."""

    name: str
    left: Profile | None
    right: Profile | None

    @property
    def changed(self) -> bool:
        """Whether its values look different."""
        return self.left is None or self.right is None or not self.left.same_values(self.right)


def profiles(session: Reading, view: str, columns: Sequence[Column], *, as_text: bool) -> dict[str, Profile]:
    """The profile of each column of a view. `as_text`: its values are text that has to be read as its types."""
    found: dict[str, Profile] = {}
    for start in range(0, len(columns), _AT_ONCE):
        some = columns[start : start + _AT_ONCE]
        chosen = ["count(*)"]
        for column in some:
            chosen += _aggregates(column, as_text=as_text)
        rows, *values = session.row(f"SELECT {', '.join(chosen)} FROM {view}")
        for i, column in enumerate(some):
            count, distinct, least, most, mean, deviation, quantiles = values[i * 7 : i * 7 + 7]
            found[column.name] = Profile(
                column.type,
                count,
                rows - count,
                distinct,
                least,
                most,
                _finite(mean),
                _finite(deviation),
                tuple(quantiles) if quantiles else None,
            )
    return found


def _aggregates(column: Column, *, as_text: bool) -> list[str]:
    name = quoted(column.name)
    value = f"TRY_CAST({name} AS {column.type})" if as_text and column.type != "VARCHAR" else name
    if is_nested(column.type):
        return [f"count({name})", *["NULL"] * 6]
    extremes = ["NULL", "NULL"] if column.type == "BLOB" else [f"shown(min({value}))", f"shown(max({value}))"]
    found = [f"count({name})", f"approx_count_distinct({value})", *extremes]
    if not is_number(column.type):
        return [*found, "NULL", "NULL", "NULL"]
    number = f"CAST({value} AS DOUBLE)"
    finite = f"FILTER (isfinite({number}))"
    small = f"FILTER (abs({number}) < {_LARGEST} AND isfinite({number}))"
    points = ", ".join(map(str, QUANTILES))
    return [
        *found,
        f"avg({number}) {finite}",
        f"stddev_samp({number}) {small}",
        f"approx_quantile({number}, [{points}]) {finite}",
    ]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
