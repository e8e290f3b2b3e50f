"""The profile of a data set as its page shows it: a line a column, its histogram as bars. Knows no rows.

What a profile was kept with is masked again by what the product says now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tulle.catalog.look import amount
from tulle.catalog.masking import readable_columns
from tulle.quality import kept_profiles
from tulle.spec.product import DataProduct
from tulle.state.db import Database

WIDTH: Final = 140.0
HEIGHT: Final = 30.0
_TOP_SHOWN = 5
_NUMBERS = ("integer", "double", "decimal")


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """One bar in a box of `WIDTH` by `HEIGHT`; `words` say what it counts."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class ColumnLine:
    """What the values of one column look like; shares in percent."""

    name: str
    type: str
    nulls: int
    null_share: float
    distinct: int | None
    is_exact: bool
    least: Any
    most: Any
    mean: float | None
    median: float | None
    top: tuple[tuple[Any, int, float], ...]  # value, how often, its share
    bars: tuple[HistogramBar, ...]
    is_hidden: bool
    was_null_share: float | None  # in the profile before

    @property
    def words(self) -> str:
        """What the bars show."""
        return f"{self.name}: from {_told(self.least)} to {_told(self.most)}"


@dataclass(frozen=True, slots=True)
class ProfileView:
    """The newest profile of a data set in an environment."""

    commit: str
    run: str
    at: float
    rows: int
    looked_at: int
    columns: tuple[ColumnLine, ...]


def profile_view(
    database: Database, product: DataProduct, data_set: str, environment: str
) -> ProfileView | None:
    """The newest profile that is kept; None where none is."""
    found = kept_profiles.profiles(database, product.name, data_set, environment=environment, limit=2)
    if not found:
        return None
    newest = found[0]
    before: Mapping[str, Any] = found[1].profile if len(found) > 1 else {"rows": 0, "columns": ()}
    columns = newest.profile["columns"]
    shown = readable_columns(product, data_set, [column["name"] for column in columns])
    was = {one["name"]: _share(one["nulls"], before["rows"]) for one in before["columns"] if before["rows"]}
    rows, looked_at = newest.profile["rows"], newest.profile["looked_at"]
    lines = tuple(
        _line(one, rows, looked_at, was.get(one["name"]), hidden=one["hidden"] or one["name"] not in shown)
        for one in columns
    )
    return ProfileView(newest.commit, newest.run, newest.at, rows, looked_at, lines)


def _line(
    column: Mapping[str, Any], rows: int, looked_at: int, was: float | None, *, hidden: bool
) -> ColumnLine:
    top = () if hidden else column["top"][:_TOP_SHOWN]
    is_number = column["type"].startswith(_NUMBERS)
    return ColumnLine(
        name=column["name"],
        type=column["type"],
        nulls=column["nulls"],
        null_share=_share(column["nulls"], rows),
        distinct=column["distinct"],
        is_exact=column["distinct_exact"],
        least=None if hidden else column["min"],
        most=None if hidden else column["max"],
        mean=None if hidden else column["mean"],
        median=None if hidden else column["quantiles"].get("0.5"),
        top=tuple((one["value"], one["count"], _share(one["count"], looked_at)) for one in top),
        bars=() if hidden else tuple(_bars(column["histogram"], is_number=is_number)),
        is_hidden=hidden,
        was_null_share=was,
    )


def _bars(histogram: Sequence[Mapping[str, Any]], *, is_number: bool) -> Sequence[HistogramBar]:
    highest = max((one["count"] for one in histogram), default=0)
    if not highest:
        return []
    width = WIDTH / len(histogram)
    made = []
    for number, one in enumerate(histogram):
        # What is there is seen, however little it is.
        height = max(1.0, one["count"] / highest * HEIGHT) if one["count"] else 0.0
        start, end = (amount(one["from"]), amount(one["to"])) if is_number else (one["from"], one["to"])
        words = f"{one['count']:,} from {start} to {end}"
        made.append(
            HistogramBar(
                round(number * width, 2), round(HEIGHT - height, 2), round(width - 0.8, 2), height, words
            )
        )
    return made


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _told(value: Any) -> str:
    return amount(value) if isinstance(value, int | float) else str(value)
