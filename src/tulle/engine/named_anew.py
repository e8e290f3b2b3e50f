"""Which columns the columns of a SELECT are certainly made of: for whoever must not show some of them under new names.

Stricter than the lineage of a picture: a statement that could hide where a value comes from says nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from tulle.engine.engine import ColumnType
from tulle.engine.statement import Source, column_sources, read_statement

# Functions somebody wrote, columns by pattern, rows made of columns: what comes out of them is not followed.
_UNTOLD = (exp.Anonymous, exp.Columns, exp.Pivot, exp.Unnest, exp.Values, exp.Lateral)


def certain_sources(sql: str, columns: Mapping[str, Sequence[ColumnType]]) -> dict[str, tuple[Source, ...]]:
    """For each output column those it is made of, one at least; a column that cannot be told for sure is left out.

    `columns` are those of every relation that is read.
    """
    statement = read_statement(sql)
    tree = statement.tree
    if tree is None or not {table.name for table in statement.tables} <= columns.keys():
        return {}
    known = {name: {column.name for column in of} for name, of in columns.items()}
    if tree.find(*_UNTOLD) or any(_renames(node, set().union(*known.values())) for node in tree.walk()):
        return {}
    return {
        name: sources
        for name, sources in column_sources(statement, columns).items()
        if sources and all(s.column in known.get(s.relation, ()) for s in sources)
    }


def _renames(node: exp.Expr, known: set[str]) -> bool:
    """Whether a part of a statement gives names by position, takes one column for two, or asks a further SELECT."""
    if isinstance(node, exp.TableAlias):
        return bool(node.columns)
    if isinstance(node, exp.Star):
        return bool(node.args.get("rename"))
    if isinstance(node, exp.Join):
        return bool(node.args.get("using")) or node.method == "NATURAL"
    if isinstance(node, exp.Select):
        return any(item.find(exp.Query) for item in node.selects) or _names_twice(node, known)
    return False


def _names_twice(node: exp.Select, known: set[str]) -> bool:
    """Whether two of its columns have, or may have, one name."""
    names = [item.alias_or_name.lower() for item in node.selects if not item.is_star]
    if len(set(names)) < len(names):
        return True
    return len(names) < len(node.selects) and (bool(node.args.get("joins")) or not known.isdisjoint(names))
