"""Which columns of what it reads a statement needs, anywhere in it: values, filters, joins, groups, orders.

Reads the text, runs nothing. Where the statement cannot be followed, every column counts as needed: whoever asks
wants to know whom a change may break, and a warning too many is better than one too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope

from tulle.engine.statement import Statement


def columns_used(statement: Statement, known: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    """The columns needed of each relation of `known` that the statement reads, spelt as `known` spells them.

    `known` gives the columns of relations; without any, nothing can be said of a relation and it is left out.
    """
    spelt = {name.lower(): {c.lower(): c for c in columns} for name, columns in known.items()}
    read = [name for name in statement.reads if spelt.get(name)]
    if not read:
        return {}
    everything = {name: frozenset(spelt[name].values()) for name in read}
    if statement.tree is None:
        return everything
    try:
        found = _followed(statement.tree, spelt)
    except (SqlglotError, RecursionError, KeyError, ValueError, AttributeError, TypeError):
        return everything
    return {name: frozenset(spelt[name][c] for c in found.get(name, ()) if c in spelt[name]) for name in read}


def _followed(tree: exp.Query, spelt: Mapping[str, Mapping[str, str]]) -> dict[str, set[str]]:
    """The lower-case names of needed columns by relation."""
    if _takes_anything(tree):
        return {name: set(columns) for name, columns in spelt.items()}
    schema: dict[str, object] = {name: dict.fromkeys(columns, "VARCHAR") for name, columns in spelt.items()}
    found: dict[str, set[str]] = {}
    # What is written out is needed even where nobody takes it on: without the column the statement does not run.
    _collect(_qualified(tree, schema, expand_stars=False), spelt, found)
    # What a star stands for is needed as far as the end result is made of it.
    whole = pushdown_projections(_qualified(tree, schema, expand_stars=True))
    _collect(whole, spelt, found)
    return found


def _qualified(tree: exp.Query, schema: dict[str, object], *, expand_stars: bool) -> exp.Expr:
    return qualify(
        tree.copy(),
        schema=schema,
        dialect="duckdb",
        expand_stars=expand_stars,
        validate_qualify_columns=False,
        quote_identifiers=False,
    )


def _takes_anything(tree: exp.Query) -> bool:
    """Whether it has a construct whose columns are chosen by what is there, not by what is written."""
    if next(tree.find_all(exp.Columns, exp.Pivot), None) is not None:
        return True
    return any(join.method == "NATURAL" for join in tree.find_all(exp.Join))


def _collect(tree: exp.Expr, spelt: Mapping[str, Mapping[str, str]], found: dict[str, set[str]]) -> None:
    for scope in traverse_scope(tree):
        tables = {name: s.name.lower() for name, s in scope.sources.items() if isinstance(s, exp.Table)}
        for column in scope.columns:
            if column.table in tables:
                found.setdefault(tables[column.table], set()).add(column.name.lower())
            elif not column.table:  # it could be any's
                for relation in tables.values():
                    found.setdefault(relation, set()).add(column.name.lower())
        for row in scope.find_all(exp.TableColumn):  # a whole row, by its table's name
            if relation := tables.get(row.name.lower(), ""):
                found.setdefault(relation, set()).update(spelt.get(relation, ()))
        for star in scope.find_all(exp.Star):  # what a star leaves out must be there to be left out
            for name in _named_in(star):
                for relation in tables.values():
                    found.setdefault(relation, set()).add(name)


def _named_in(star: exp.Star) -> set[str]:
    parts = [part for value in star.args.values() if isinstance(value, list) for part in value]
    return {part.name.lower() for part in parts if isinstance(part, exp.Expr)}
