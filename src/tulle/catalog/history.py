"""Runs as pages show them: steps, verdicts, failing rows with masked cells, and why a run failed.

Knows runs as `pipeline.run` gives them; not who looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from tulle.catalog.masking import readable_of_check, untold
from tulle.catalog.preview import is_document, may_show_text
from tulle.errors import TulleError, from_dict
from tulle.pipeline import run as runs
from tulle.pipeline.run import Run, Step
from tulle.quality.verdict import CheckResult
from tulle.spec.product import DataProduct
from tulle.state.db import Database, now
from tulle.state.tables import products
from tulle.state.tables import runs as run_table

_LOOK_BACK = 12  # runs in which the newest verdict on a check is looked for

Sources = Mapping[str, tuple[tuple[str, str], ...]]  # column → (data set, column) it is computed from


@dataclass(frozen=True, slots=True)
class CheckView:
    """The verdict on one check; `rows` are failing rows, a cell is None where it must not be shown."""

    name: str
    kind: str
    data_set: str
    severity: str
    passed: bool
    failing_count: int
    total: int
    message: str
    description: str = ""
    columns: tuple[str, ...] = ()
    masked: frozenset[str] = frozenset()
    rows: tuple[tuple[Any, ...], ...] = ()
    run_id: str = ""
    judged_at: float | None = None

    @property
    def state(self) -> str:
        """passed, failed, or warn where the run went on all the same."""
        if self.passed:
            return "passed"
        return "failed" if self.severity == "error" else "warn"


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a run; times in seconds since the epoch."""

    name: str
    kind: str
    status: str
    started_at: float | None
    finished_at: float | None
    branch: str
    rows: int | None
    message: str
    checks: tuple[CheckView, ...]
    metrics: tuple[tuple[str, float], ...]
    inputs: Mapping[str, Mapping[str, str]]
    sources: Sources
    models: tuple[str, ...]
    log: tuple[str, ...]
    columns: tuple[tuple[str, str], ...] = ()  # name and type

    @property
    def seconds(self) -> float | None:
        """How long it took, or has been going on."""
        return _between(self.started_at, self.finished_at, going_on=self.status == "running")

    @property
    def failed_checks(self) -> tuple[CheckView, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True)
class RunView:
    """One run with its steps."""

    id: str
    product: str
    environment: str
    status: str
    requested_at: float
    started_at: float | None
    finished_at: float | None
    branch: str
    base_commit: str
    commit_id: str
    error: TulleError | None
    steps: tuple[StepView, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.status in runs.ENDED

    @property
    def seconds(self) -> float | None:
        """How long it took, or has been going on."""
        return _between(self.started_at, self.finished_at, going_on=not self.has_ended)

    @property
    def rows(self) -> int:
        """Rows of all its steps that made some."""
        return sum(step.rows or 0 for step in self.steps if step.status == "succeeded")

    @property
    def checks(self) -> tuple[CheckView, ...]:
        """The checks of all its steps."""
        return tuple(check for step in self.steps for check in step.checks)


ProductOf = Callable[[str], DataProduct | None]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the newest runs of a product found out: verdicts, failed ones first, and where columns come from.

    `steps` has for each data set the step that told last of its columns or models.
    """

    checks: tuple[CheckView, ...] = ()
    steps: Mapping[str, StepView] = field(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, Sources]:
        """Where columns come from, by data set."""
        return {name: step.sources for name, step in self.steps.items()}

    @property
    def models(self) -> Mapping[str, tuple[str, ...]]:
        """The models that were saved, by the step that saved them."""
        return {name: step.models for name, step in self.steps.items() if step.models}

    @property
    def failing(self) -> tuple[CheckView, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)


def run_view(database: Database, run_id: str, product_of: ProductOf) -> RunView:
    """One run. NotFound."""
    run = runs.get(database, run_id)
    return _view(run, product_of(run.product))


def recent(
    database: Database,
    *,
    product: str | None = None,
    status: str | None = None,
    environment: str | None = None,
    offset: int = 0,
    limit: int = 20,
) -> tuple[RunView, ...]:
    """The newest runs without their steps, newest first."""
    found = runs.recent(
        database, product=product, status=status, environment=environment, offset=offset, limit=limit
    )
    return tuple(_view(run, None) for run in found)


def newest(database: Database) -> dict[str, RunView]:
    """The newest run of every applied product without its steps, by product; in one look, however many runs."""
    mine = run_table.alias("mine")
    of_product = (
        select(mine.c.id)
        .where(mine.c.product == products.c.name)
        .order_by(mine.c.requested_at.desc(), mine.c.id.desc())
        .limit(1)
        .correlate(products)
        .scalar_subquery()
    )
    return {
        run.product: _view(run, None)
        for run in runs.recent(database, among=select(of_product).select_from(products), limit=None)
    }


def findings(database: Database, product: DataProduct) -> Findings:
    """The newest verdict on every check of a product.

    A step that was unchanged says nothing new, so the last run that looked counts; a check that its step no
    longer has was removed.
    """
    checks: dict[str, tuple[CheckView, ...]] = {}
    told: dict[str, StepView] = {}
    wanted: set[str] = set()
    settled: set[str] = set()
    for run in runs.recent(database, product=product.name, limit=_LOOK_BACK):
        if run.options.get("only"):
            continue  # it made nothing, and looked at some checks only
        view = _view(runs.get(database, run.id), product)
        wanted = wanted or {step.name for step in view.steps}
        settled |= {step.name for step in view.steps if step.status == runs.SUCCEEDED}
        for step in view.steps:
            if step.name in wanted and step.checks:
                checks.setdefault(step.name, step.checks)
            if step.name in wanted and (step.sources or step.models or step.columns):
                told.setdefault(step.name, step)
        if wanted and settled >= wanted:
            break  # each was made anew since: nothing older counts
    order = {"failed": 0, "warn": 1, "passed": 2}
    found = [check for of_step in checks.values() for check in of_step]
    return Findings(tuple(sorted(found, key=lambda check: order[check.state])), told)


def _view(run: Run, product: DataProduct | None) -> RunView:
    return RunView(
        id=run.id,
        product=run.product,
        environment=run.environment,
        status=run.status,
        requested_at=run.requested_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        branch=run.branch or "",
        base_commit=run.base_commit or "",
        commit_id=run.commit_id or "",
        error=_told(from_dict(dict(run.error)), product) if run.error else None,
        steps=tuple(_step(step, run, product) for step in run.steps),
    )


def _told(error: TulleError, product: DataProduct | None) -> TulleError:
    """Why a run failed; where rows may name people without what is quoted of them, but for lines of documents."""
    if may_show_text(product, is_document=False):
        return error
    problems = [
        replace(
            one,
            message=untold(one.message, one.place),
            source_line=one.source_line if one.place and is_document(one.place.file) else None,
        )
        for one in error.problems
    ]
    return type(error)(untold(error.message), hint=error.hint and untold(error.hint), problems=problems)


def _step(step: Step, run: Run, product: DataProduct | None) -> StepView:
    is_shown = may_show_text(product, is_document=False)
    return StepView(
        name=step.name,
        kind=step.kind,
        status=step.status,
        started_at=step.started_at,
        finished_at=step.finished_at,
        branch=step.branch or "",
        rows=step.rows,
        message=(step.message or "") if is_shown else untold(step.message or ""),
        checks=tuple(_check(check, step, run, product) for check in step.checks),
        metrics=tuple((metric.name, metric.value) for metric in step.metrics),
        inputs=step.inputs,
        sources={name: tuple((str(d), str(c)) for d, c in pairs) for name, pairs in step.lineage.items()},
        models=step.models,
        log=step.log if is_shown else (),
        columns=step.columns,
    )


def _check(check: CheckResult, step: Step, run: Run, product: DataProduct | None) -> CheckView:
    columns = check.columns or (tuple(check.failing_rows[0]) if check.failing_rows else ())
    readable = readable_of_check(product, check, columns)
    return CheckView(
        name=check.name,
        kind=check.kind,
        data_set=check.data_set,
        severity=check.severity,
        passed=check.passed,
        failing_count=check.failing_count,
        total=check.total,
        message=check.message if may_show_text(product, is_document=False) else untold(check.message),
        description=check.description,
        columns=columns,
        masked=frozenset(columns) - readable,
        rows=tuple(
            tuple(row.get(name) if name in readable else None for name in columns)
            for row in check.failing_rows
        ),
        run_id=run.id,
        judged_at=step.finished_at,
    )


def _between(start: float | None, end: float | None, *, going_on: bool) -> float | None:
    if start is None:
        return None
    if end is not None:
        return max(0.0, end - start)
    return max(0.0, now() - start) if going_on else None
