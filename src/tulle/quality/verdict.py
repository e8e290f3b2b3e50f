"""Running checks over relations: one counting pass a data set, then the failing rows of what failed.

Knows nothing of runs, branches or gates: whoever asks decides what a failed check means.
"""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from tulle.engine.engine import ColumnType, Engine, Relation, quoted
from tulle.errors import Invalid, did_you_mean
from tulle.quality.check import ERROR, WARN, Check
from tulle.quality.kind import kind_named
from tulle.spec.product import DataSet

SHOWN_ROWS = 20
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict on one check.

    `total` is the number of rows looked at; `failing_rows` are up to 20 of the failing rows with all their
    `columns`, as plain values (dates as ISO text, decimals as text), ready for JSON.
    """

    name: str
    kind: str
    data_set: str
    severity: str
    passed: bool
    failing_count: int
    total: int
    message: str
    failing_rows: tuple[Mapping[str, Any], ...] = ()
    columns: tuple[str, ...] = ()
    description: str = ""

    @property
    def stops(self) -> bool:
        """Whether the run may not go on."""
        return not self.passed and self.severity == ERROR

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain values."""
        return {
            **asdict(self),
            "failing_rows": [dict(row) for row in self.failing_rows],
            "columns": [*self.columns],
        }


def evaluate(
    engine: Engine, checks: Sequence[Check], relations: Mapping[str, Relation], *, now: datetime | None = None
) -> tuple[CheckResult, ...]:
    """The verdicts on `checks`, in their order. `relations` are the data sets by name.

    A check that cannot be carried out (a missing column, a value that does not compare) has failed, with the
    reason as its message; it never keeps the others from being carried out.
    """
    now = now or datetime.now(UTC)
    results: dict[int, CheckResult] = {}
    for data_set in dict.fromkeys(check.data_set for check in checks):
        mine = [(i, check) for i, check in enumerate(checks) if check.data_set == data_set]
        for (i, _), result in zip(
            mine, _of_data_set(engine, [c for _, c in mine], relations, now), strict=True
        ):
            results[i] = result
    return tuple(results[i] for i in range(len(checks)))


def _of_data_set(
    engine: Engine, checks: Sequence[Check], relations: Mapping[str, Relation], now: datetime
) -> list[CheckResult]:
    name = checks[0].data_set
    if name not in relations:
        reason = f"there is no data set '{name}'"
        hint = did_you_mean(name, relations)
        return [_impossible(check, f"{reason} ({hint})" if hint else reason, 0) for check in checks]
    schemas: dict[str, list[str]] = {}
    missing = [_missing(engine, check, relations, schemas) for check in checks]
    possible = [check for check, reason in zip(checks, missing, strict=True) if reason is None]
    total, values = _measure(engine, possible, relations[name])
    measured = iter(values)
    return [
        _judge(engine, check, next(measured), total, relations, now)
        if reason is None
        else _impossible(check, reason, total)
        for check, reason in zip(checks, missing, strict=True)
    ]


def _missing(
    engine: Engine, check: Check, relations: Mapping[str, Relation], schemas: dict[str, list[str]]
) -> str | None:
    """Why the check cannot be carried out, or None."""
    for data_set, columns in {check.data_set: check.columns, **check.others}.items():
        if data_set not in relations:
            hint = did_you_mean(data_set, relations)
            return f"there is no data set '{data_set}'" + (f" ({hint})" if hint else "")
        if data_set not in schemas:
            described = engine.describe(f"SELECT * FROM {quoted(data_set)}", [relations[data_set]])
            schemas[data_set] = [column.name for column in described]
        for column in columns:
            if column not in schemas[data_set]:
                hint = did_you_mean(column, schemas[data_set])
                return f"data set '{data_set}' has no column '{column}'" + (f" ({hint})" if hint else "")
    return None


def _measure(engine: Engine, checks: Sequence[Check], relation: Relation) -> tuple[int, list[Any]]:
    """The number of rows, and for each check its measured value: None for those with a query of their own,
    the Invalid that was raised for those whose values do not compare."""
    measures = [kind_named(check.kind).measure for check in checks]
    parts = ["count(*)", *(m(c.settings) for m, c in zip(measures, checks, strict=True) if m is not None)]
    values = _one_pass(engine, parts, relation)
    if values is None:
        # One of them does not fit its column; find out which, at the price of a pass each.
        values = [_alone(engine, part, relation) for part in parts]
    rest = iter(values[1:])
    total = values[0] if isinstance(values[0], int) else 0
    return total, [next(rest) if measure is not None else None for measure in measures]


def _one_pass(engine: Engine, parts: Sequence[str], relation: Relation) -> list[Any] | None:
    columns = ", ".join(f"{part} AS m{i}" for i, part in enumerate(parts))
    try:
        (row,) = engine.query(f"SELECT {columns} FROM {quoted(relation.name)}", [relation]).to_pylist()
    except Invalid:
        return None
    return list(row.values())


def _alone(engine: Engine, part: str, relation: Relation) -> Any:
    try:
        (row,) = engine.query(f"SELECT {part} AS m FROM {quoted(relation.name)}", [relation]).to_pylist()
    except Invalid as exc:
        return exc
    return row["m"]


def _judge(
    engine: Engine, check: Check, value: Any, total: int, relations: Mapping[str, Relation], now: datetime
) -> CheckResult:
    kind = kind_named(check.kind)
    mine = [relations[name] for name in {check.data_set: (), **check.others}]
    try:
        if isinstance(value, Invalid):
            raise value
        if kind.count is not None:
            (row,) = engine.query(kind.count(check.settings, check.data_set), mine).to_pylist()
            (value,) = row.values()
        finding = kind.judge(check.settings, value, now)
        rows: list[dict[str, Any]] = []
        if finding.failing and (query := kind.failing(check.settings, check.data_set)):
            rows = engine.query(f"SELECT * FROM (\n{query}\n) LIMIT {SHOWN_ROWS}", mine).to_pylist()
    except Invalid as exc:
        return _impossible(check, f"the check cannot be carried out: {exc.message}", total)
    return CheckResult(
        name=check.name,
        kind=check.kind,
        data_set=check.data_set,
        severity=check.severity,
        passed=not finding.failing,
        failing_count=int(finding.failing),
        total=total,
        message=finding.message,
        failing_rows=tuple({name: plain(cell) for name, cell in row.items()} for row in rows),
        columns=tuple(rows[0]) if rows else (),
        description=check.description,
    )


def _impossible(check: Check, reason: str, total: int) -> CheckResult:
    return CheckResult(
        check.name,
        check.kind,
        check.data_set,
        check.severity,
        passed=False,
        failing_count=0,
        total=total,
        message=reason,
        description=check.description,
    )


def drift(data_set: DataSet, actual: Sequence[ColumnType], rows: int) -> tuple[CheckResult, ...]:
    """What the columns of a data set are, against what its document declares.

    A missing column or another type is an error; a column nobody declared is a warning. A data set that
    declares no columns promises none.
    """
    if not data_set.columns:
        return ()
    types = {column.name: column.type for column in actual}
    declared = {column.name: column.type for column in data_set.columns}
    errors, warnings = [], []
    for name, kind in declared.items():
        if name not in types:
            hint = did_you_mean(name, [n for n in types if n not in declared])
            errors.append(f"column '{name}' is missing" + (f" ({hint})" if hint and "mean" in hint else ""))
        elif types[name] != kind:
            errors.append(f"column '{name}' is {types[name]}, declared as {kind}")
    warnings = [f"column '{name}' is not declared" for name in types if name not in declared]
    results = [_schema_result(data_set, "columns are as declared", ERROR, errors, rows)]
    if warnings:
        results.append(_schema_result(data_set, "no further columns", WARN, warnings, rows))
    return tuple(results)


def _schema_result(data_set: DataSet, name: str, severity: str, found: list[str], rows: int) -> CheckResult:
    message = "; ".join(found) if found else f"all {len(data_set.columns)} columns are there with their types"
    return CheckResult(
        name,
        "schema",
        data_set.name,
        severity,
        passed=not found,
        failing_count=len(found),
        total=rows,
        message=message,
    )


def plain(value: Any) -> Any:
    """A cell as JSON can hold it; long text is cut, since a report is no place for whole documents."""
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [plain(item) for item in value[:SHOWN_ROWS]]
        case dict():
            return {str(name): plain(item) for name, item in value.items()}
    text = (
        value.isoformat()
        if isinstance(value, date)
        else value.hex()
        if isinstance(value, bytes)
        else str(value)
    )
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
