"""A condition on one row, as `where` and `expression` hold it: read without running it, all that is wrong told.

Knows the text alone: whether its columns exist is asked where the data set's columns are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

_MOST_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was read: the columns it names, or why it may not be used."""

    columns: tuple[str, ...] = ()
    problem: str = ""
    hint: str | None = None


def read_condition(text: str) -> Condition:
    """Read one condition. Never raises."""
    if len(text) > _MOST_CHARACTERS:
        return Condition(problem=f"it has {len(text):,} characters, at most {_MOST_CHARACTERS:,} are read")
    try:
        trees = sqlglot.parse(f"SELECT 1 WHERE (\n{text}\n)", dialect="duckdb")
        alone = sqlglot.parse_one(text, dialect="duckdb")
    except (ParseError, SqlglotError, RecursionError, ValueError) as exc:
        return Condition(problem=f"this is not a condition that can be read: {_why(exc)}")
    # What is not the whole WHERE would have closed its parenthesis and gone on.
    where = trees[0].args.get("where") if len(trees) == 1 and trees[0] is not None else None
    inside = where.this.this if where is not None and isinstance(where.this, exp.Paren) else None
    if not isinstance(alone, exp.Condition) or inside != alone:
        return Condition(problem="expected one condition", hint="write it like total >= net")
    if alone.find(exp.Query, exp.Table) is not None:
        return Condition(
            problem="it reads other rows, and a condition looks at one row", hint="use a check of type sql"
        )
    if alone.find(exp.AggFunc, exp.Window) is not None:
        return Condition(
            problem="it counts over several rows, and a condition looks at one row",
            hint="use a check of type sql",
        )
    names = [column.name for column in alone.find_all(exp.Column) if not column.table]
    return Condition(tuple(dict.fromkeys(names)))


def _why(error: Exception) -> str:
    if isinstance(error, ParseError) and error.errors:
        first = error.errors[0]
        near = f" near '{first['highlight']}'" if first.get("highlight") else ""
        said = str(first.get("description") or "it breaks off").rstrip(".")
        if said.startswith("Required keyword"):  # the parser's own words for a part of its own
            said = "something is missing"
        return f"{said[:1].lower()}{said[1:]}{near}"
    return str(error).splitlines()[0] if str(error) else "it is nested too deeply"
