"""Running checks over relations: one counting pass a data set, then the failing rows of what failed.

Knows nothing of runs, branches or gates: whoever asks decides what a failed check means.
"""

# ruff: noqa: S608  composing SQL is this module's work; names go through `quoted`
from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from tulle.engine.engine import ColumnType, Engine, Relation, quoted
from tulle.engine.engine import all_of as all_relations
from tulle.engine.named_anew import certain_sources
from tulle.errors import Invalid, did_you_mean
from tulle.quality.check import ERROR, WARN, Check
from tulle.quality.kind import Facts, Finding, Kind, Past, Settings, all_of, kind_named
from tulle.quality.repeats import MOST_ROWS, repeated
from tulle.quality.shown import rows_of, without_values
from tulle.spec.product import DataSet

SHOWN_ROWS = 20
SLOW_SECONDS = 10.0
SQL_KIND = "sql"  # whose rows are those of its own SELECT
_SHOWN_CHARACTERS = 300
_LARGE = 8_000_000  # bytes of a data set of which it is worth a statement more to look at fewer rows


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict on one check.

    `total` is the number of rows looked at; `failing_rows` are up to 20 of the failing rows with all their
    `columns`, as plain values (dates as ISO text, decimals as text), ready for JSON. `value` is what was measured,
    `threshold` what it was held against, `detail` what later runs are compared with. `kept` is the path at which
    the failing rows lie on the branch that was kept. `made_of` are, where a check names the columns of its rows itself,
    the data set's columns that each is certainly made of; of a column that is not in it nobody knows.
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
    value: float | None = None
    threshold: str = ""
    detail: Mapping[str, Any] | None = None
    tags: tuple[str, ...] = ()
    kept: str = ""
    made_of: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    @property
    def stops(self) -> bool:
        """Whether the run may not go on."""
        return not self.passed and self.severity == ERROR

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain values, without `detail`: history has it, and it may hold values of a column."""
        plain_values = asdict(self)
        del plain_values["detail"]
        return {
            **plain_values,
            "failing_rows": [dict(row) for row in self.failing_rows],
            "columns": [*self.columns],
            "tags": [*self.tags],
        }


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a verdict depends on beside the rows.

    `past` gives what earlier runs found by a check, newest first; `program` carries out a check that is a program,
    and gives its finding with failing rows. Without them such checks cannot be carried out. `say` is told of checks
    that take long, so that whoever stops a run that does not end knows which one it was.
    """

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    past: Callable[[Check], Sequence[Past]] = lambda _check: ()
    program: Callable[[Check, Mapping[str, Relation]], tuple[Finding, Sequence[Mapping[str, Any]]]] | None = (
        None
    )
    say: Callable[[str], None] = lambda _line: None


def evaluate(
    engine: Engine,
    checks: Sequence[Check],
    relations: Mapping[str, Relation],
    *,
    now: datetime | None = None,
    around: Circumstances | None = None,
) -> tuple[CheckResult, ...]:
    """The verdicts on `checks`, in their order. `relations` are the data sets by name.

    A check that cannot be carried out (a missing column, a value that does not compare) has failed, with the
    reason as its message; it never keeps the others from being carried out.
    """
    around = around or (Circumstances(now) if now else Circumstances())
    results: dict[int, CheckResult] = {}
    for data_set in dict.fromkeys(check.data_set for check in checks):
        mine = [(i, check) for i, check in enumerate(checks) if check.data_set == data_set]
        found = _Judging(engine, relations, around).data_set([check for _, check in mine])
        for (i, _), result in zip(mine, found, strict=True):
            results[i] = result
    return tuple(results[i] for i in range(len(checks)))


@dataclass(slots=True)
class _Asked:
    """A check on its way: its settings as its kind prepared them, and what was measured."""

    check: Check
    kind: Kind
    settings: Settings
    measure: str | None = None
    value: Any = None
    reason: str | None = None  # why it cannot be carried out


class _Judging:
    """The checks of one data set, carried out together."""

    def __init__(self, engine: Engine, relations: Mapping[str, Relation], around: Circumstances) -> None:
        self.engine, self.relations, self.around = engine, relations, around
        self.schemas: dict[str, dict[str, str]] = {}
        self.totals: dict[str, int] = {}  # by condition; the empty one is the whole data set

    def data_set(self, checks: Sequence[Check]) -> list[CheckResult]:
        """The verdicts, in the order of the checks."""
        name = checks[0].data_set
        if name not in self.relations:
            reason = f"there is no data set '{name}'"
            hint = did_you_mean(name, self.relations)
            return [_impossible(check, f"{reason} ({hint})" if hint else reason, 0) for check in checks]
        asked = [self._asked(check) for check in checks]
        self._measure([one for one in asked if one.reason is None], self.relations[name])
        return [self._judged(one) for one in asked]

    def _asked(self, check: Check) -> _Asked:
        kind = kind_named(check.kind)
        settings = {**check.settings, "where": check.where} if check.where else check.settings
        one = _Asked(check, kind, settings, reason=self._missing(check))
        if one.reason is None:
            try:
                if kind.prepare is not None:
                    one.settings = kind.prepare(settings, self._facts(check.data_set))
                one.measure = kind.measure(one.settings) if kind.measure is not None else None
            except Invalid as exc:
                one.reason = f"the check cannot be carried out: {exc.message}"
        return one

    def _facts(self, data_set: str) -> Facts:
        relation = self.relations[data_set]

        def bounds(column: str) -> tuple[Any, Any]:
            if not relation.files:
                return None, None  # only files have feet
            name = quoted(column)
            sql = f"SELECT min({name}) AS low, max({name}) AS high FROM {quoted(data_set)}"
            try:
                (row,) = self.engine.query(sql, [relation]).to_pylist()
            except (ValueError, OverflowError):
                return None, None  # a day that Python does not know
            return row["low"], row["high"]

        return Facts(data_set, self._types(data_set), bounds, _bytes(relation) > _LARGE)

    def _types(self, data_set: str) -> Mapping[str, str]:
        if data_set not in self.schemas:
            known = self.relations[data_set].columns
            if not known:
                sql = f"SELECT * FROM {quoted(data_set)}"
                known = self.engine.describe(sql, [self.relations[data_set]])
            self.schemas[data_set] = {column.name: column.type for column in known}
        return self.schemas[data_set]

    def _missing(self, check: Check) -> str | None:
        """Why the check cannot be carried out, or None."""
        for data_set, columns in {check.data_set: check.columns, **check.others}.items():
            if data_set not in self.relations:
                if data_set in check.elsewhere:
                    owner, missing = check.elsewhere[data_set]
                    return (
                        f"product '{owner}' has published no '{missing}' here yet (first: tulle run {owner})"
                    )
                hint = did_you_mean(data_set, self.relations)
                return f"there is no data set '{data_set}'" + (f" ({hint})" if hint else "")
            there = {name.lower(): name for name in self._types(data_set)}
            for column in columns:
                if column.lower() not in there:
                    hint = did_you_mean(column, there.values())
                    return f"data set '{data_set}' has no column '{column}'" + (f" ({hint})" if hint else "")
        return self._unfit(check)

    def _unfit(self, check: Check) -> str | None:
        """Why a check does not suit its column's type, or None."""
        takes, column = kind_named(check.kind).takes, check.settings.get("column")
        if not takes or column is None:
            return None
        types = {name.lower(): kind for name, kind in self._types(check.data_set).items()}
        kind = types[column.lower()]
        return (
            None
            if kind in takes
            else f"column '{column}' is {kind}, and '{check.kind}' is for {' or '.join(takes)}"
        )

    # ── measuring ────────────────────────────────────────────────────────────────────────────────────────

    def _measure(self, asked: Sequence[_Asked], relation: Relation) -> None:
        """Count the rows and measure every check that is an aggregate, in one pass; the Invalid that was raised
        becomes the value of those whose values do not compare."""
        conditions = list(dict.fromkeys(one.check.where for one in asked if one.check.where))
        parts = ["count(*)", *(f"count(*) FILTER (WHERE {all_of(where)})" for where in conditions)]
        measured = [one for one in asked if one.measure is not None]
        parts += [str(one.measure) for one in measured]
        values = self._one_pass(parts, relation)
        if values is None:
            # One of them does not fit its column; find out which, at the price of a pass each.
            values = [self._alone(part, relation) for part in parts]
        counts = [value if isinstance(value, int) else 0 for value in values[: 1 + len(conditions)]]
        self.totals = dict(zip(["", *conditions], counts, strict=True))
        for one, value in zip(measured, values[1 + len(conditions) :], strict=True):
            one.value = value

    def _one_pass(self, parts: Sequence[str], relation: Relation) -> list[Any] | None:
        columns = ", ".join(f"{part} AS m{i}" for i, part in enumerate(parts))
        sql = f"SELECT {columns} FROM {quoted(relation.name)}"
        try:
            (row,) = rows_of(self.engine.query(sql, [relation]))
        except Invalid:
            return None
        return list(row.values())

    def _alone(self, part: str, relation: Relation) -> Any:
        try:
            sql = f"SELECT {part} AS m FROM {quoted(relation.name)}"
            (row,) = rows_of(self.engine.query(sql, [relation]))
        except Invalid as exc:
            return exc
        return row["m"]

    def _counted(self, one: _Asked, relations: Sequence[Relation]) -> Any:
        """What the check's own statement measures."""
        assert one.kind.count is not None
        if self._told_by_numbers(one, relations):
            if not one.settings["among"]:
                return 0
            queries = [one.kind.recount or one.kind.count]
        else:
            queries = [query for query in (one.kind.count, one.kind.recount) if query is not None]
        for query in queries:
            (row,) = self.engine.query(query(one.settings, one.check.data_set), relations).to_pylist()
            (value,) = row.values()
            if not value:
                break
        return value

    def _told_by_numbers(self, one: _Asked, relations: Sequence[Relation]) -> bool:
        """Find which of the numbers of a check's rows repeat, where they are many and not too many."""
        if one.kind.numbers is None or one.settings.get("few") or "among" in one.settings:
            return "among" in one.settings
        if self.totals[one.check.where] > MOST_ROWS:
            return False
        sql = one.kind.numbers(one.settings, one.check.data_set)
        try:
            among = repeated(self.engine.query(sql, relations).column(0))
        except MemoryError:
            return False  # the engine counts within less
        if among is not None:
            one.settings = {**one.settings, "among": among}
        return among is not None

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────

    def _judged(self, one: _Asked) -> CheckResult:
        if one.measure is not None or one.reason is not None:
            return self._judge(one)
        line = f"{one.check.data_set}: the check '{one.check.name}' takes longer than {SLOW_SECONDS:g} s"
        patience = threading.Timer(SLOW_SECONDS, self.around.say, [line])
        patience.daemon = True
        patience.start()
        try:
            return self._judge(one)
        finally:
            patience.cancel()

    def _judge(self, one: _Asked) -> CheckResult:
        check, kind = one.check, one.kind
        total = self.totals.get(check.where, 0)
        if one.reason is not None:
            return _impossible(check, one.reason, total)
        mine = [self.relations[name] for name in {check.data_set: (), **check.others}]
        shown: Sequence[Mapping[str, Any]] = ()
        try:
            if isinstance(one.value, Invalid):
                raise one.value
            if kind.is_program:
                finding, shown = self._program(check)
            else:
                value = self._counted(one, mine) if one.measure is None else one.value
                finding = self._finding(one, value)
            allowed = check.allowed(total)
            if finding.failing and not shown:
                self._told_by_numbers(one, mine)
            if finding.failing and not shown and (query := kind.failing(one.settings, check.data_set)):
                sql = f"SELECT * FROM (\n{query}\n) LIMIT {SHOWN_ROWS}"
                shown = rows_of(self.engine.query(sql, mine))
        except Invalid as exc:
            return _impossible(
                check, f"the check cannot be carried out: {without_values(exc.message)}", total
            )
        message = finding.message
        if check.allow and finding.failing:
            message += f"; allowed: {check.allow}" + (f" ({allowed:,})" if check.allow.endswith("%") else "")
        return CheckResult(
            name=check.name,
            kind=check.kind,
            data_set=check.data_set,
            severity=check.severity,
            passed=finding.failing <= allowed,
            failing_count=int(finding.failing),
            total=total,
            message=message,
            failing_rows=tuple({name: plain(cell) for name, cell in row.items()} for row in shown),
            columns=tuple(shown[0]) if shown else (),
            description=check.description,
            value=float(finding.failing if finding.value is None else finding.value),
            threshold=check.allow or finding.threshold,
            detail=finding.detail,
            tags=check.tags,
            made_of=self._made_of(check) if shown and check.kind == SQL_KIND else {},
        )

    def _made_of(self, check: Check) -> Mapping[str, Sequence[Sequence[str]]]:
        """What the columns are made of that a check's own SELECT names."""
        columns = {
            name: [ColumnType(*column) for column in self._types(name).items()]
            for name in {check.data_set: (), **check.others}
        }
        found = certain_sources(str(check.settings["sql"]), columns)
        return {name: [[s.relation, s.column] for s in sources] for name, sources in found.items()}

    def _program(self, check: Check) -> tuple[Finding, Sequence[Mapping[str, Any]]]:
        if self.around.program is None:
            raise Invalid(f"a check of type '{check.kind}' is only carried out by a run")
        finding, shown = self.around.program(check, self.relations)
        return finding, shown[:SHOWN_ROWS]

    def _finding(self, one: _Asked, value: Any) -> Finding:
        if one.kind.against is not None:
            return one.kind.against(one.settings, value, self.around.now, self.around.past(one.check))
        return one.kind.judge(one.settings, value, self.around.now)


def _bytes(relation: Relation) -> int:
    """How much is read for a relation, as far as it lies on this machine."""
    files = [Path(file) for each in all_relations([relation]) for file in each.files]
    return sum(file.stat().st_size for file in files if file.exists())


def failing_query(check: Check) -> str | None:
    """A SELECT of all rows that fail a check, or None where no single row is to blame."""
    settings = {**check.settings, "where": check.where} if check.where else check.settings
    return kind_named(check.kind).failing(settings, check.data_set)


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
        threshold=check.allow,
        tags=check.tags,
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
