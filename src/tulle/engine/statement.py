"""Reading a statement without running it: is it one SELECT, what does it read, what comes from where.

The statement's text itself is what runs; the tree made here only answers questions. Knows no engine and no
data: the names that may be read, and their columns, are given.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError, TokenError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.tokenizer_core import TokenType

from tulle.engine.engine import ColumnType
from tulle.errors import Place, Problem, did_you_mean

# Table functions that make rows out of their arguments alone. Everything else that looks like a call in FROM
# reads files, networks or the engine's own settings.
_HARMLESS_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "generateseries"})
_MAX_CHARACTERS = 200_000
# What brings further relations or names into a SELECT, and into an expression of one.
_BEYOND_ONE = ("with_", "with", "joins", "laterals", "pivots", "match", "operation_modifiers", "kind")
_BEYOND_COLUMNS = (exp.Star, exp.Query, exp.Lambda, exp.Comprehension, exp.Dot, exp.Columns)
# sqlglot says on its log that it reads a CALL or EXPLAIN as a mere command; we refuse those with a problem.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class TableName:
    """A name read by a statement, and where it stands first."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was read. `tables` are the names it needs from outside, without its own CTEs.

    With `problems` the statement must not run.
    """

    sql: str
    file: str
    tables: tuple[TableName, ...] = ()
    problems: tuple[Problem, ...] = ()
    tree: exp.Query | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of `$name` in it, in the order they appear first; "?" for one without a name."""
        found = self.tree.find_all(exp.Placeholder, exp.Parameter, bfs=False) if self.tree is not None else ()
        return tuple(dict.fromkeys(place.name or "?" for place in found))

    @property
    def reads(self) -> tuple[str, ...]:
        """The names read, in the order they appear."""
        return tuple(table.name for table in self.tables)

    def check_names(self, known: Collection[str]) -> tuple[Problem, ...]:
        """Problems for names that are not among `known`."""
        return tuple(
            Problem(
                f"unknown data set '{table.name}'",
                table.place,
                did_you_mean(table.name, known),
                _line(self.sql, table.place.line),
            )
            for table in self.tables
            if table.name not in known
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A column of a relation that an output column is made from."""

    relation: str
    column: str


def read_statement(sql: str, file: str = "", *, first_line: int = 1) -> Statement:
    """Read one SELECT (or WITH, or set operation); anything else becomes problems, never an exception.

    `first_line` is the line of `file` on which the statement starts.
    """
    reader = _Reader(sql, file, first_line)
    if len(sql) > _MAX_CHARACTERS:
        problem = Problem(f"the statement has {len(sql):,} characters, at most {_MAX_CHARACTERS:,} are read")
        return Statement(sql, file, problems=(problem,))
    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect="duckdb") if tree is not None]
    except ParseError as exc:
        return Statement(sql, file, problems=tuple(reader.parse_problems(exc)))
    except (TokenError, RecursionError) as exc:
        message = (
            "the statement is nested too deeply" if isinstance(exc, RecursionError) else _first_line(exc)
        )
        return Statement(sql, file, problems=(Problem(message, Place(file, first_line)),))
    trees = [tree for tree in trees if not isinstance(tree, exp.Semicolon)]
    if len(trees) != 1:
        what = "no statement" if not trees else f"{len(trees)} statements"
        problem = Problem(f"expected one SELECT, found {what}", Place(file, first_line))
        return Statement(sql, file, problems=(problem,))
    tree = trees[0]
    if not isinstance(tree, exp.Query) or isinstance(tree, exp.Table):
        word = re.sub(r"\s.*", "", tree.sql(dialect="duckdb").strip(), flags=re.DOTALL).upper() or "nothing"
        hint = "a model only reads; what it selects becomes the data set"
        problem = Problem(f"expected one SELECT, found {word}", Place(file, first_line), hint)
        return Statement(sql, file, problems=(problem,))
    problems, tables = reader.inspect(tree)
    return Statement(sql, file, tuple(tables), tuple(problems), tree)


def bare(sql: str) -> str:
    """The statement without its closing semicolon and what follows it, ready to stand in parentheses."""
    if ";" not in sql:
        return sql
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except TokenError:
        return sql  # whoever runs it will say what is wrong
    cut = len(sql)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        cut = tokens.pop().start
    return sql[:cut]


def column_sources(
    statement: Statement, columns: Mapping[str, Sequence[ColumnType]]
) -> dict[str, tuple[Source, ...]]:
    """For each output column the columns it is computed from (values only, not filters or join conditions).

    `columns` gives the columns of every relation that is read; they are needed to see through `*`.
    Best effort: a statement that cannot be followed gives an empty mapping.
    """
    if statement.tree is None:
        return {}
    if (simple := _of_one_relation(statement.tree, columns)) is not None:
        return simple
    return _followed(statement.tree, columns)


def _of_one_relation(
    tree: exp.Query, columns: Mapping[str, Sequence[ColumnType]]
) -> dict[str, tuple[Source, ...]] | None:
    """The same for plain columns and expressions of one relation, which most models are; None for all others.

    To follow a statement through scopes takes longer than to run a small one.
    """
    table = tree.args["from_"].this if isinstance(tree, exp.Select) and tree.args.get("from_") else None
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        return None
    if any(tree.args.get(part) for part in _BEYOND_ONE) or table.args.get("pivots"):
        return None
    known = {column.name for column in columns.get(table.name, ())}
    found: dict[str, tuple[Source, ...]] = {}
    for item in tree.selects:
        beyond = (p for p in item.find_all(*_BEYOND_COLUMNS) if not isinstance(p.parent, exp.Count))
        if not isinstance(item, exp.Alias | exp.Column) or any(beyond):
            return None
        own = list(item.find_all(exp.Column))
        if any(c.name not in known or c.table not in {"", table.alias_or_name} for c in own):
            return None  # the alias of another item, upper case, a field of a struct …
        name = item.alias_or_name
        if name != name.lower() or name in found:
            return None
        found[name] = _distinct(Source(table.name, column.name) for column in own)
    return found


def _followed(tree: exp.Query, columns: Mapping[str, Sequence[ColumnType]]) -> dict[str, tuple[Source, ...]]:
    schema: dict[str, object] = {name: {c.name: "VARCHAR" for c in cols} for name, cols in columns.items()}
    try:
        tree = qualify(
            tree.copy(),
            schema=schema,
            dialect="duckdb",
            validate_qualify_columns=False,
            identify=False,
            quote_identifiers=False,
        )
        scope = build_scope(tree)
        return _trace(scope, {}) if scope is not None else {}
    except (SqlglotError, RecursionError, KeyError, ValueError, AttributeError, TypeError):
        # A picture for the portal is not worth a failed run: sqlglot does not follow every construct.
        return {}


class _Reader:
    """Finds what a parsed statement reads and what it must not do."""

    def __init__(self, sql: str, file: str, first_line: int) -> None:
        self.sql, self.file, self.first_line = sql, file, first_line

    def place(self, node: exp.Expr) -> Place:
        for part in node.walk():
            start = part.meta.get("start")
            if isinstance(start, int):
                return self._at(start)
        return Place(self.file, self.first_line)

    def _at(self, offset: int) -> Place:
        before = self.sql[:offset]
        line = before.count("\n")
        return Place(self.file, self.first_line + line, offset - (before.rfind("\n") + 1) + 1)

    def problem(self, message: str, node: exp.Expr, hint: str) -> Problem:
        place = self.place(node)
        return Problem(message, place, hint, _line(self.sql, place.line - self.first_line + 1))

    def parse_problems(self, error: ParseError) -> Iterator[Problem]:
        for item in error.errors or [{}]:
            word = str(item.get("highlight") or "")
            line, end = int(item.get("line") or 1), int(item.get("col") or 0)
            column = max(1, end - len(word) + 1) if end else 0
            text = str(item.get("description") or error)
            if text.startswith("Required keyword"):
                text = "something is missing"
            near = f" near '{word}'" if word else ""
            message = f"this is not SQL that can be read: {text[:1].lower()}{text[1:]}{near}"
            yield Problem(
                message,
                Place(self.file, self.first_line + line - 1, column),
                source_line=_line(self.sql, line),
            )

    def inspect(self, tree: exp.Query) -> tuple[list[Problem], list[TableName]]:
        problems: list[Problem] = []
        tables: dict[str, TableName] = {}
        problems.extend(
            self.problem("a model only reads", part, "remove INTO or FOR UPDATE")
            for part in tree.find_all(exp.Into, exp.Lock)
        )
        for table in tree.find_all(exp.Table):
            if problem := self._refusal(table):
                problems.append(problem)
            elif isinstance(table.this, exp.Identifier) and not _is_own(table):
                name = table.name.lower()  # names of data sets are lower case; SQL does not mind the case
                tables.setdefault(name, TableName(name, self.place(table)))
        ordered = sorted(tables.values(), key=lambda t: (t.place.line, t.place.column))
        return problems, ordered

    def _refusal(self, table: exp.Table) -> Problem | None:
        what = table.this
        if isinstance(what, exp.Identifier):
            if table.args.get("db") is not None:
                name = table.sql(dialect="duckdb")
                return self.problem(
                    f"'{name}' is not the name of a data set",
                    table,
                    "write the bare name of a data set of this product or of one of its input ports",
                )
            if re.search(r"[/\\*:]|\.\w+$", what.name):
                return self.problem(
                    f"'{what.name}' would read a file",
                    table,
                    "declare an input port with this file as its source",
                )
            return None
        name = what.name if isinstance(what, exp.Anonymous) else what.key if what is not None else ""
        if name.lower() in _HARMLESS_TABLE_FUNCTIONS:
            return None
        written = re.match(r"\w*", self.sql[self.offset_of(table) :])
        return self.problem(
            f"the table function '{written[0] if written and written[0] else name}' may not be used",
            table,
            "files come in through input ports; range, generate_series and unnest are allowed",
        )

    def offset_of(self, node: exp.Expr) -> int:
        for part in node.walk():
            start = part.meta.get("start")
            if isinstance(start, int):
                return start
        return 0


def _is_own(table: exp.Table) -> bool:
    """Whether the name is bound by a WITH of the statement itself, seen from where the table stands."""
    child: exp.Expr = table
    node = table.parent
    while node is not None:
        clause = node.args.get("with_") or node.args.get("with")
        if isinstance(clause, exp.With):
            visible = clause.expressions
            if child is clause:
                # Inside one of the clause's own parts: only the parts before it, and itself when recursive.
                inside = next(i for i, part in enumerate(visible) if _contains(part, table))
                visible = visible if clause.args.get("recursive") else visible[:inside]
            if any(part.alias.lower() == table.name.lower() for part in visible):
                return True
        child, node = node, node.parent
    return False


def _contains(part: exp.Expr, table: exp.Expr) -> bool:
    node: exp.Expr | None = table
    while node is not None:
        if node is part:
            return True
        node = node.parent
    return False


def _trace(scope: Scope, memory: dict[int, dict[str, tuple[Source, ...]]]) -> dict[str, tuple[Source, ...]]:
    """The sources of every output column of a scope; each scope is walked once."""
    if id(scope) in memory:
        return memory[id(scope)]
    memory[id(scope)] = {}  # a recursive CTE refers to itself: what it adds is what its first part reads
    found: dict[str, tuple[Source, ...]] = {}
    if branch_scopes := getattr(scope, "set_operation_scopes", None):
        branches = [_trace(branch, memory) for branch in branch_scopes]
        names = list(branches[0])
        for position, name in enumerate(names):
            sources = [list(b.values())[position] for b in branches if position < len(b)]
            found[name] = _distinct(source for group in sources for source in group)
    else:
        for item in getattr(scope.expression, "selects", ()):
            found[item.alias_or_name] = _distinct(_expression_sources(item, scope, memory))
    memory[id(scope)] = found
    return found


def _expression_sources(
    item: exp.Expr, scope: Scope, memory: dict[int, dict[str, tuple[Source, ...]]]
) -> Iterator[Source]:
    for column in item.find_all(exp.Column):
        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            yield Source(source.name, column.name)
        elif isinstance(source, Scope):
            yield from _trace(source, memory).get(column.name, ())
    for query in item.find_all(exp.Select):
        if inner := next((s for s in scope.subquery_scopes if s.expression is query), None):
            for sources in _trace(inner, memory).values():
                yield from sources


def _distinct(sources: Iterator[Source]) -> tuple[Source, ...]:
    return tuple(dict.fromkeys(sources))


def _line(text: str, number: int) -> str | None:
    lines = text.splitlines()
    return lines[number - 1] if 1 <= number <= len(lines) else None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "the statement cannot be read"
