"""Carrying tests of models out: the rows that are given become relations, what comes out is compared.

Nothing is read from the lake and nothing is written there. User code of Python models is executed here, so this
belongs into a run's process.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tulle.engine.duck import sql_type
from tulle.engine.engine import ColumnType, Engine, Relation, literal, quoted
from tulle.errors import Invalid, Problem, TulleError, did_you_mean
from tulle.pipeline.columns import Derived, this_columns
from tulle.pipeline.convert import in_mesh_types
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.grow import window_macros
from tulle.pipeline.job import PYTHON, Job
from tulle.pipeline.model import ModelRun, call_model
from tulle.pipeline.model_kind import THIS
from tulle.pipeline.model_test import ModelTest, Rows
from tulle.quality.verdict import plain

SHOWN = 20
_GOT, _WANTED = "_got", "_wanted"


@dataclass(frozen=True, slots=True)
class Tried:
    """How one test ended. `missing` rows were expected and did not come, `unexpected` ones came."""

    name: str
    model: str
    passed: bool
    message: str
    place: str = ""
    missing: tuple[Mapping[str, Any], ...] = ()
    unexpected: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def try_models(
    code: ProductCode, engine: Engine, derived: Derived, folder: Path, names: Sequence[str] | None = None
) -> tuple[Tried, ...]:
    """Carry out the tests of a product, of all models or of those named. `folder` is for files that do not stay."""
    engine = engine.knowing(code.macros)
    wanted = [test for test in code.tests if names is None or test.model in names]
    return tuple(_try(code, engine, derived, folder, test) for test in wanted)


def _try(code: ProductCode, engine: Engine, derived: Derived, folder: Path, test: ModelTest) -> Tried:
    place = str(test.place or "")
    try:
        missing, unexpected = _compared(code, engine, derived, folder, test)
    except TulleError as exc:
        if (misfit := _misfit(engine, derived, test)) is not None:
            return Tried(test.name, test.model, passed=False, message=misfit, place=place)
        problems = tuple(str(problem) for problem in exc.problems)
        return Tried(test.name, test.model, passed=False, message=exc.message, place=place, problems=problems)
    if not missing and not unexpected:
        count = len(test.expect)
        said = "1 row as expected" if count == 1 else f"{count:,} rows as expected"
        return Tried(test.name, test.model, passed=True, message=said, place=place)
    parts = [f"{len(missing):,} expected and missing"] if missing else []
    parts += [f"{len(unexpected):,} not expected"] if unexpected else []
    message = f"rows differ: {', '.join(parts)}"
    if test.ordered and sorted(map(repr, missing)) == sorted(map(repr, unexpected)):
        message = "the rows are as expected, in another order"
    return Tried(
        test.name,
        test.model,
        passed=False,
        message=message,
        place=place,
        missing=tuple(missing[:SHOWN]),
        unexpected=tuple(unexpected[:SHOWN]),
    )


def _compared(
    code: ProductCode, engine: Engine, derived: Derived, folder: Path, test: ModelTest
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The rows that are missing, and those that came unexpected."""
    job = code.job(test.model)
    engine = engine.knowing(window_macros(_window(test)))
    got = Relation(_GOT, (str(_made(code, engine, derived, folder, test, job)),))
    found = engine.describe(f"SELECT * FROM {_GOT}", [got])
    columns = list(dict.fromkeys(name for row in test.expect for name in row)) or [c.name for c in found]
    types = {column.name: column for column in found}
    for name in columns:
        if name not in types:
            hint = did_you_mean(name, types)
            problem = Problem(f"'expect' names '{name}', which the model does not give", test.place, hint)
            raise Invalid(f"the model gives no column '{name}'", hint=hint, problems=[problem])
    wanted = _relation(_WANTED, test.expect, [types[name] for name in columns])
    compared = ", ".join(_comparable(types[name]) for name in columns)
    ours = f"SELECT {compared} FROM {_GOT}"
    theirs = f"SELECT {compared} FROM {_WANTED}"
    if not test.ordered:
        missing = engine.query(f"{theirs} EXCEPT ALL {ours}", [got, wanted]).to_pylist()
        unexpected = engine.query(f"{ours} EXCEPT ALL {theirs}", [got, wanted]).to_pylist()
        return [_plain(row) for row in missing], [_plain(row) for row in unexpected]
    came, expected = (engine.query(sql, [got, wanted]).to_pylist() for sql in (ours, theirs))
    if came == expected:
        return [], []
    return [_plain(row) for row in expected], [_plain(row) for row in came]


def _window(test: ModelTest) -> tuple[datetime, datetime] | None:
    if test.window is None:
        return None
    try:
        since, until = (datetime.fromisoformat(text) for text in test.window)
    except ValueError:
        raise Invalid(
            f"'{' to '.join(test.window)}' is no window", hint="two times such as 2024-01-01"
        ) from None
    return since.replace(tzinfo=since.tzinfo or UTC), until.replace(tzinfo=until.tzinfo or UTC)


def _made(
    code: ProductCode, engine: Engine, derived: Derived, folder: Path, test: ModelTest, job: Job
) -> Path:
    """A file with what the model gives of the rows that are given."""
    relations = {name: _given(engine, test, name, derived.get(name)) for name in job.inputs}
    declared = next((d for d in code.product.data_sets if d.name == job.name), None)
    if job.reads_this or THIS in test.given:
        relations[THIS] = _given(engine, test, THIS, this_columns(job, declared))
    # The engine keeps what it read of a file by its name: another test's rows must have another one.
    target = Path(tempfile.mkdtemp(dir=folder)) / f"{job.name}.parquet"
    if job.kind != PYTHON:
        engine.write(job.text, list(relations.values()), target, file=job.file)
        return target
    run = ModelRun("test", job, engine, relations, folder / "models", lambda _text: None)
    wanted = {c.name: c.type for c in declared.columns} if declared else {}
    pq.write_table(in_mesh_types(call_model(job, code.shared, run), job.file, wanted), target)
    return target


def _given(engine: Engine, test: ModelTest, name: str, known: Sequence[ColumnType] | None) -> Relation:
    rows = test.given.get(name, ())
    if known is None:
        return _relation(name, rows, _guessed(engine, rows, name, test))
    names = {column.name for column in known}
    for row in rows:
        for column in row:
            if column not in names:
                hint = did_you_mean(column, names)
                problem = Problem(f"'{name}' has no column '{column}'", test.place, hint)
                raise Invalid(f"the rows given of '{name}' do not fit", hint=hint, problems=[problem])
    return _relation(name, rows, known)


def _misfit(engine: Engine, derived: Derived, test: ModelTest) -> str | None:
    """What the test says that is no value of its column, where that is why it could not be carried out."""
    said = [*test.given.items(), *([(test.model, test.expect)] if test.expect else [])]
    for name, rows in said:
        types = {column.name: column.type for column in derived.get(name) or ()}
        for number, row in enumerate(rows, 1):
            for column, value in row.items():
                kind = types.get(column)
                if kind is None or value is None:
                    continue
                try:
                    engine.query(f"SELECT CAST({literal(value)} AS {sql_type(kind)}) AS one", [])
                except TulleError:
                    which = "expected" if rows is test.expect else f"given of '{name}'"
                    return f"row {number} {which}: column '{column}' is {plain(value)!r}, which is no {kind}"
    return None


def _guessed(engine: Engine, rows: Rows, name: str, test: ModelTest) -> list[ColumnType]:
    """The columns of an input nobody declared, by the values that are given."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        hint = f"give rows of '{name}', or declare its columns in product.yaml"
        problem = Problem(f"nothing is known of the columns of '{name}'", test.place, hint)
        raise Invalid(f"'{name}' has no columns", hint=hint, problems=[problem])
    parts = " UNION ALL ".join("SELECT " + ", ".join(literal(row.get(c)) for c in columns) for row in rows)
    named = ", ".join(map(quoted, columns))
    return list(engine.describe(f"SELECT * FROM ({parts}) AS given({named})", []))


def _relation(name: str, rows: Rows, columns: Sequence[ColumnType]) -> Relation:
    if not rows or not columns:
        return Relation(name, columns=tuple(columns))
    parts = []
    for row in rows:
        cells = (
            f"CAST({literal(row.get(c.name))} AS {sql_type(c.type)}) AS {quoted(c.name)}" for c in columns
        )
        parts.append(f"SELECT {', '.join(cells)}")
    return Relation(name, columns=tuple(columns), sql=" UNION ALL ".join(parts))


def _comparable(column: ColumnType) -> str:
    name = quoted(column.name)
    return f"round({name}, 9) AS {name}" if column.type == "double" else name


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}
