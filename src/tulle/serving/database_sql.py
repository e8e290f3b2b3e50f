"""The SQL of a query that a PostgreSQL of the mesh answers: read when its service is validated and packaged.

What is asked for is one SELECT, whose values are never put into its text: `$name` becomes a parameter of the driver.
Nothing here is run; the database itself refuses what it does not know, and says which columns there are. Knows nothing
of endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from tulle.errors import Invalid
from tulle.serving.index import Column

if TYPE_CHECKING:
    from tulle.state.connections import Connection

MOST_CHARACTERS = 100_000
# What is text, a name or a comment is left alone; what is left of `$` is a parameter.
_WORD = re.compile(
    r"""
    (?P<kept>(?<![\w$])[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/)
    | (?P<dollars>(?<![\w$])\$(?:[A-Za-z_]\w*)?\$)
    | (?<![\w$])\$(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>(?<![\w$])\$[0-9]+)
    | (?P<percent>%)
    """,
    re.VERBOSE | re.DOTALL,
)
_CHANGES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.Lock, exp.Command, exp.DDL)


@dataclass(frozen=True, slots=True)
class DatabaseSql:
    """One SELECT in the driver's form, `%(name)s` for each of its parameters."""

    text: str
    parameters: tuple[str, ...]


def read_sql(sql: str) -> DatabaseSql:
    """What the SQL of an endpoint asks. Invalid for anything but one SELECT."""
    if len(sql) > MOST_CHARACTERS:
        raise Invalid(f"the SQL has {len(sql):,} characters, at most {MOST_CHARACTERS:,} are read")
    names: dict[str, None] = {}

    def driven(found: re.Match[str]) -> str:
        if found["dollars"] is not None:
            raise Invalid(f"text between {found[0]} is not taken here", hint="write it in single quotes")
        if found["number"] is not None:
            raise Invalid(f"'{found[0]}' stands for nothing", hint="name it: $name")
        if found["name"] is not None:
            names[found["name"]] = None
            return f"%({found['name']})s"
        return found[0].replace("%", "%%")

    stripped = sql.strip().rstrip(";").rstrip()
    text = _WORD.sub(driven, stripped)
    _demand_select(_WORD.sub(lambda found: "$1" if found["name"] is not None else found[0], stripped))
    return DatabaseSql(text, tuple(names))


def _demand_select(sql: str) -> None:
    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect="postgres") if tree is not None]
    except ParseError as exc:
        first = exc.errors[0] if exc.errors else {}
        where = f" at line {first['line']}, column {first['col']}" if first.get("line") else ""
        raise Invalid(f"the SQL is not understood{where}: {first.get('description', exc)}") from None
    except (SqlglotError, RecursionError) as exc:
        raise Invalid(f"the SQL is not understood: {str(exc).splitlines()[0][:200]}") from None
    if len(trees) != 1:
        raise Invalid(f"expected one SELECT, found {len(trees)} statements")
    tree = trees[0]
    if not isinstance(tree, exp.Query) or isinstance(tree, exp.Table):
        raise Invalid(f"expected one SELECT, found {(sql.split() or ['nothing'])[0].upper()[:20]}")
    if changing := tree.find(*_CHANGES):
        raise Invalid(f"a query only reads: {changing.key.upper()} is not taken")


def described(
    connection: Connection, asked: DatabaseSql, values: Mapping[str, Any], most_rows: int
) -> tuple[str, tuple[Column, ...]]:
    """The statement that is sent, of so many rows at most, and its columns. `values` are like those callers send.

    What JSON has no counterpart for (uuid, json, arrays, intervals …) comes as PostgreSQL's text of it.
    Invalid, NotFound, Unavailable in the database's own words.
    """
    from tulle.pipeline.sources.postgres import quoted_column, reading, type_of  # noqa: PLC0415  an extra

    inner = f"SELECT * FROM (\n{asked.text}\n) AS tulle_query"  # noqa: S608  the product's own SQL
    with reading(connection) as opened:
        found: Sequence[Any] = opened.execute(f"{inner} LIMIT 0", dict(values)).description or ()
    names = [column.name for column in found]
    if "?column?" in names:
        raise Invalid(f"column {names.index('?column?') + 1} has no name", hint="write `… AS name`")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise Invalid(f"two columns are called '{twice[0]}'", hint="write `… AS name`")
    kinds = [type_of(column) for column in found]
    listed = ", ".join(
        quoted_column(name) + (f"::text AS {quoted_column(name)}" if kind == "string" else "")
        for name, kind in zip(names, kinds, strict=True)
    )
    statement = f"SELECT {listed} FROM (\n{asked.text}\n) AS tulle_query LIMIT {most_rows + 1}"  # noqa: S608
    return statement, tuple(Column(name, kind or "decimal") for name, kind in zip(names, kinds, strict=True))
