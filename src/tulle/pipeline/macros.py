"""A product's macros: `macros/*.sql`, each statement a CREATE MACRO, for all its SQL models and checks.

Reads text, executes nothing; what is wrong comes back as problems with their places.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlglot
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import TokenType

from tulle.engine.duck import syntax_problem
from tulle.errors import Invalid, Place, Problem
from tulle.spec.load import decoded

_CREATE = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:MACRO|FUNCTION)\s+", re.IGNORECASE)
_REST = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_MAX_BYTES = 200_000
TAKEN = frozenset({"window_start", "window_end"})


def read_macros(folder: Path, label: str) -> tuple[tuple[str, ...], list[Problem]]:
    """The macros of a folder (none when it does not exist), each as `name(parameters) AS …`."""
    macros: dict[str, str] = {}
    problems: list[Problem] = []
    for file in sorted(folder.glob("*.sql")) if folder.is_dir() else ():
        name = f"{label}/{file.name}"
        try:
            data = file.read_bytes()
            text = decoded(data, name)
        except OSError as exc:
            problems.append(Problem(f"{file.name} cannot be read: {exc.strerror or exc}", Place(name)))
            continue
        except Invalid as exc:
            problems += exc.problems
            continue
        if len(data) > _MAX_BYTES:
            problems.append(Problem(f"{file.name} is larger than {_MAX_BYTES:,} bytes", Place(name)))
            continue
        found, wrong = _macros_of(text, name)
        problems += wrong
        for macro, body, place in found:
            if macro in macros or macro in TAKEN:
                problems.append(
                    Problem(f"the macro '{macro}' is already there", place, "name one differently")
                )
            macros[macro] = body
    return tuple(macros.values()), problems


def _macros_of(text: str, file: str) -> tuple[list[tuple[str, str, Place]], list[Problem]]:
    try:
        tokens = sqlglot.tokenize(text, dialect="duckdb")
    except TokenError as exc:
        return [], [Problem(str(exc).splitlines()[0], Place(file))]
    found, problems = [], []
    start: int | None = None
    ends = [*tokens, None]
    for position, token in enumerate(ends):
        if token is not None and token.token_type is not TokenType.SEMICOLON:
            start = token.start if start is None else start
            continue
        if start is None:
            continue
        # Comments behind the last word would be cut off with the semicolon only.
        stop = ends[position - 1]
        assert stop is not None
        statement = text[start : stop.end + 1]
        place = Place(file, text.count("\n", 0, start) + 1)
        create = _CREATE.match(statement)
        rest = statement[create.end() :] if create else ""
        if (name := _REST.match(rest)) is None:
            hint = "write CREATE MACRO name(a, b) AS …;"
            problems.append(Problem("expected CREATE MACRO", place, hint))
        elif (wrong := syntax_problem(statement)) is not None:
            line = Place(file, (place.line or 1) + wrong[1] - 1)
            hint = "a parameter may not be a word of SQL, such as at, end or order"
            problems.append(Problem(f"the macro '{name[1].lower()}': {wrong[0]}", line, hint))
        else:
            found.append((name[1].lower(), rest, place))
        start = None
    return found, problems
