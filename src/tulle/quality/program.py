"""Checks written in Python: checks/<name>.py, read without running it, and carried out inside a run's own process.

    data_set = "purchases"
    columns = ["customer_id", "amount"]        # all of them when nothing is said

    def check(table):                          # or check(relation), for data larger than memory
        return table.filter(pc.less(table["amount"], 0))

`check` gives the failing rows (a pyarrow.Table, a DuckDB relation, a DataFrame, a list of dicts) or whether the data
is good (True, False). Reading executes nothing of the user's; `carry_out` does, so only a run may call it.
"""

from __future__ import annotations

import ast
import linecache
import sys
import tempfile
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tulle.engine.engine import Engine, Relation, literal, quoted
from tulle.errors import Invalid, Place, Problem, TulleError
from tulle.quality.kind import Finding, Kind, Settings, register, rows
from tulle.quality.shown import rows_of
from tulle.spec.load import decoded

if TYPE_CHECKING:
    import pyarrow as pa

TABLE, RELATION = "table", "relation"
_SHOWN_ROWS = 20
_NAMES = ("data_set", "name", "description", "severity", "allow", "tags", "columns")
_MOST_BYTES = 1_000_000
_RETURN = "return the failing rows, or whether the data is good"


def _unreachable(_settings: Settings, _value: Any, _now: datetime) -> Finding:
    raise AssertionError("a program gives its finding itself")


register(
    Kind(
        "python",
        {"code": {"type": "string"}, "takes": {"enum": [TABLE, RELATION]}, "columns": {"type": "array"}},
        ("code",),
        title=lambda _: "a function that gives the failing rows",
        columns=lambda s: tuple(s.get("columns", ())),
        judge=_unreachable,
        counts_rows=True,
        is_program=True,
        is_file=True,
    )
)


def _parsed(file: Path, name: str) -> tuple[str, ast.Module | None, list[Problem]]:
    try:
        text = decoded(file.read_bytes(), name).removeprefix("\ufeff")
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES:,} characters")
        return text, ast.parse(text), []
    except SyntaxError as exc:
        place = Place(name, exc.lineno or 0, exc.offset or 0)
        source = (exc.text or "").rstrip("\n") or None
        return "", None, [Problem(f"not Python: {exc.msg}", place, None, source)]
    except Invalid as exc:
        return "", None, list(exc.problems)
    except (OSError, ValueError, RecursionError, MemoryError) as exc:
        return "", None, [Problem(f"{name} cannot be read: {exc or 'it is nested too deeply'}", Place(name))]


def read_program(file: Path, name: str) -> tuple[dict[str, Any], list[Problem]]:
    """What a file's constants say, with `code` and `takes`, and what is wrong with it; nothing is executed."""
    text, tree, unread = _parsed(file, name)
    if tree is None:
        return {}, unread
    said: dict[str, Any] = {"code": text, "takes": TABLE}
    problems: list[Problem] = []
    function = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check":
            function = node
        for key, value in _constants(node):
            place = Place(name, value.lineno, value.col_offset + 1)
            try:
                said[key] = _constant(key, ast.literal_eval(value))
            except (ValueError, TypeError) as exc:
                hint = "it is read without running the file: write the value itself"
                problems.append(Problem(f"'{key}' {exc}", place, hint))
    if "data_set" not in said and not problems:
        hint = 'write a line like data_set = "purchases"'
        problems.append(Problem("the check does not say which data set it is about", Place(name, 1), hint))
    hint = "write def check(table): … or def check(relation): …"
    if function is None:
        problems.append(Problem("there is no function 'check'", Place(name, 1), hint))
    else:
        taken = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        if taken not in ([TABLE], [RELATION]):
            place = Place(name, function.lineno, function.col_offset + 1)
            problems.append(Problem("'check' must take 'table' or 'relation'", place, hint))
        else:
            said["takes"] = taken[0]
    return said, problems


def _constants(node: ast.stmt) -> list[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=key)], value=value) if key in _NAMES:
            return [(key, value)]
        case ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value) if key in _NAMES:
            return [(key, value)]
    return []


def _constant(key: str, value: Any) -> Any:
    if key in {"tags", "columns"}:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            raise ValueError("must be a list of words")
        return list(value)
    if key == "allow" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    if key == "severity" and value not in {"error", "warn"}:
        raise ValueError(f"is '{value}', expected one of error, warn")
    return value


# ── carrying one out ─────────────────────────────────────────────────────────────────────────────────────


def carry_out(
    settings: Settings, label: str, engine: Engine, relation: Relation
) -> tuple[Finding, Sequence[Mapping[str, Any]], pa.Table | None]:
    """Call a check's function with the data: its finding, the rows that are shown, and all failing rows.

    Invalid, at the line of the user's code, for whatever goes wrong inside.
    """
    names = ", ".join(map(quoted, settings.get("columns") or ())) or "*"
    if settings["takes"] == RELATION:
        # The relation lives as long as the database it belongs to.
        with _files(relation, engine) as paths, engine.reading(paths, what=label) as reading:  # type: ignore[attr-defined]
            files = ", ".join(map(literal, paths))
            given = reading.connection.sql(
                f"SELECT {names} FROM read_parquet([{files}], hive_partitioning = false)"  # noqa: S608
            )
            return _found(_called(settings["code"], label, given), label)
    table = engine.query(f"SELECT {names} FROM {quoted(relation.name)}", [relation])  # noqa: S608
    return _found(_called(settings["code"], label, table), label)


@contextmanager
def _files(relation: Relation, engine: Engine) -> Iterator[Sequence[str]]:
    """The files of a relation; those of a view are written for as long as they are needed."""
    if not relation.sql:
        yield relation.files
        return
    with tempfile.TemporaryDirectory(prefix="tulle-check-") as folder:
        file = Path(folder) / "rows.parquet"
        engine.write(f"SELECT * FROM {quoted(relation.name)}", [relation], file)  # noqa: S608
        yield (str(file),)


def _called(code: str, label: str, data: Any) -> Any:
    """What the function gives; a relation it gives is read while its database is open."""
    linecache.cache[label] = (len(code), None, code.splitlines(keepends=True), label)
    try:
        module = types.ModuleType("tulle_check")
        module.__file__ = label
        exec(compile(code, label, "exec"), module.__dict__)  # noqa: S102  the product's own code, in its process
        returned = module.__dict__["check"](data)
        for way in ("to_arrow_table", "fetch_arrow_table"):
            if hasattr(returned, way) and not isinstance(returned, bool):
                return getattr(returned, way)()
        return returned
    except TulleError:
        raise
    except (Exception, SystemExit) as exc:
        traceback.print_exc(file=sys.stderr)
        frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == label]
        place = Place(label, frames[-1].lineno or 0) if frames else Place(label)
        what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        problem = Problem(what, place, None, frames[-1].line if frames else None)
        raise Invalid(f"{place} {what}", problems=[problem]) from exc
    finally:
        linecache.cache.pop(label, None)


def _found(returned: Any, label: str) -> tuple[Finding, Sequence[Mapping[str, Any]], pa.Table | None]:
    import pyarrow as pa  # noqa: PLC0415

    if type(returned).__module__.partition(".")[0] == "numpy" and type(returned).__name__ == "bool":
        returned = bool(returned)
    if isinstance(returned, pa.BooleanScalar):
        returned = returned.as_py()
    if isinstance(returned, bool):
        return (
            Finding(int(not returned), f"{label} says that the data is {'' if returned else 'not '}good"),
            (),
            None,
        )
    try:
        returned = _table(returned)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
        why = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise Invalid(f"{label}: what check() returned is no table: {why}", hint=_RETURN) from exc
    if not isinstance(returned, pa.Table):
        what = "nothing" if returned is None else f"a {type(returned).__name__}"
        raise Invalid(f"{label}: check() returned {what}", hint=_RETURN)
    n = returned.num_rows
    finding = Finding(n, f"{label} gives {rows(n)}, expected none")
    return finding, rows_of(returned.slice(0, _SHOWN_ROWS)), returned if n else None


def _table(returned: Any) -> Any:
    """Failing rows in one of the forms a function may give them, as a table; anything else as it is."""
    import pyarrow as pa  # noqa: PLC0415

    if type(returned).__name__ == "DataFrame":
        if type(returned).__module__.partition(".")[0] == "polars":
            return returned.to_arrow()
        return pa.Table.from_pandas(returned, preserve_index=False)
    if isinstance(returned, list) and all(isinstance(row, dict) for row in returned):
        return pa.Table.from_pylist(returned)
    return returned
