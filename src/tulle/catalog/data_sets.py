"""One data set as its own pages show it: schema, sample, how many rows it had run after run, where columns come from.

Also of data sets that a product declares nowhere: what lies between its sources and what it promises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from tulle.catalog import column_lineage
from tulle.catalog.column_lineage import ColumnFlow, box_of
from tulle.catalog.history import CheckView, Findings, Sources, StepView
from tulle.catalog.lineage import Picture, draw
from tulle.catalog.look import amount
from tulle.catalog.product import PUBLISHED, DataSetView, Shelf
from tulle.catalog.profiles import ProfileView, profile_view
from tulle.catalog.quality import Chart, chart
from tulle.errors import NotFound, TulleError, did_you_mean
from tulle.lake.repository import Lake
from tulle.pipeline import run as runs
from tulle.pipeline.job import PORT
from tulle.pipeline.keep import REJECTED_SUFFIX
from tulle.spec.product import DataProduct, DataSet
from tulle.state import products
from tulle.state.db import Database
from tulle.state.tables import run_steps
from tulle.state.tables import runs as run_table

SHOWN_RUNS = 60
CHART = (760.0, 120.0)


@dataclass(frozen=True, slots=True)
class RowCount:
    """How many rows a run left; what a dot of the chart says."""

    run: str
    at: float
    rows: int
    before: int | None
    state: str = "passed"

    @property
    def message(self) -> str:
        """Its rows, and how many more or fewer they were than before."""
        more = "" if self.before is None else f", {self.rows - self.before:+,}"
        return f"{amount(self.rows)} rows{more}"


@dataclass(frozen=True, slots=True)
class DataSetPage:
    """What the page of a data set shows."""

    product: DataProduct
    view: DataSetView
    environment: str
    environments: tuple[str, ...]
    is_declared: bool
    made: StepView | None  # by the step that told last of it
    checks: tuple[CheckView, ...]
    rows: tuple[RowCount, ...]  # oldest first
    chart: Chart | None
    profile: ProfileView | None
    sources: Sources
    others: tuple[str, ...]  # data sets of the same product
    put_aside: bool


@dataclass(frozen=True, slots=True)
class ColumnLineagePage:
    """What the page of a column's lineage shows; without a column, that of all columns of the data set."""

    product: str
    data_set: str
    column: str
    columns: tuple[str, ...]
    picture: Picture
    is_cut: bool

    @property
    def is_alone(self) -> bool:
        """Whether nothing is known of where it comes from and goes to."""
        return not self.picture.curves


class DataSetReader:
    """Answers the portal's questions about single data sets. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        lake: Lake,
        shelf: Shelf,
        findings: Callable[[str], Findings],
        columns: Callable[[str, Collection[str]], ColumnFlow],
    ) -> None:
        self._database = database
        self._lake = lake
        self._shelf = shelf
        self._findings = findings
        self._columns = columns

    def page(self, product: str, name: str, environment: str = PUBLISHED) -> DataSetPage:
        """One data set in an environment. NotFound with the nearest name."""
        applied = products.applied_product(self._database, product).product
        told = self._findings(product)
        declared = self._found(applied, name, told)
        environments = self._branches(product)
        if environment not in environments:
            raise NotFound(
                f"product '{product}' has no branch '{environment}'",
                hint=did_you_mean(environment, environments) or "`tulle apply` makes those of environments",
            )
        rows = row_counts(self._database, product, name, environment)
        step = told.steps.get(name)
        return DataSetPage(
            product=applied,
            view=self._shelf.data_set(applied, declared, environment),
            environment=environment,
            environments=environments,
            is_declared=declared in applied.data_sets,
            made=step,
            checks=tuple(check for check in told.checks if check.data_set == name),
            rows=rows,
            chart=chart([float(one.rows) for one in rows], rows, CHART) if len(rows) > 1 else None,
            profile=profile_view(self._database, applied, name, environment),
            sources=told.sources.get(name, {}),
            others=tuple(other for other in _names(applied, told) if other != name),
            put_aside=self._has(product, environment, f"{name}{REJECTED_SUFFIX}/"),
        )

    def lineage(
        self, product: str, name: str, column: str = "", hidden: Collection[str] = ()
    ) -> ColumnLineagePage:
        """Where a column comes from and goes to, through all products and all services but `hidden` ones.

        NotFound with the nearest name.
        """
        applied = products.applied_product(self._database, product).product
        self._found(applied, name, self._findings(product))
        flow, box = self._columns(product, hidden), box_of(product, name)
        if box not in flow.boxes:
            return ColumnLineagePage(product, name, "", (), Picture(0, 0), is_cut=False)
        columns = flow.columns[box]
        if column and column not in columns:
            hint = did_you_mean(column, columns) or f"it has {', '.join(columns[:12])}"
            raise NotFound(f"data set '{name}' of product '{product}' has no column '{column}'", hint=hint)
        found = column_lineage.around(flow, box, column)
        return ColumnLineagePage(product, name, column, columns, draw(found.graph, box), found.is_cut)

    def _found(self, product: DataProduct, name: str, told: Findings) -> DataSet:
        for data_set in product.data_sets:
            if data_set.name == name:
                return data_set
        known = _names(product, told)
        if name not in known:
            raise NotFound(
                f"product '{product.name}' has no data set '{name}'",
                hint=did_you_mean(name, known) or f"it has {', '.join(known) or 'none'}",
            )
        return DataSet(name, name, "")

    def _branches(self, product: str) -> tuple[str, ...]:
        try:
            found = [branch.name for branch in self._lake.repository(product).branches()]
        except TulleError:
            found = []
        kept = [
            name for name in found if not name.startswith("run-")
        ]  # of runs: they have pages of their own
        return tuple(dict.fromkeys((PUBLISHED, *kept)))

    def _has(self, product: str, ref: str, prefix: str) -> bool:
        try:
            repository = self._lake.repository(product)
            return next(iter(repository.entries(ref, prefix)), None) is not None
        except TulleError:
            return False


def row_counts(
    database: Database, product: str, data_set: str, environment: str = PUBLISHED
) -> tuple[RowCount, ...]:
    """How many rows the data set had after each of the last runs that published it, oldest first."""
    query = (
        select(run_table.c.id, run_table.c.finished_at, run_steps.c.rows)
        .join(run_steps, (run_steps.c.run_id == run_table.c.id) & (run_steps.c.name == data_set))
        .where(
            run_table.c.product == product,
            run_table.c.environment == environment,
            run_table.c.status == runs.SUCCEEDED,
            run_steps.c.rows.is_not(None),
        )
        .order_by(run_table.c.requested_at.desc(), run_table.c.id.desc())
        .limit(SHOWN_RUNS)
    )
    with database.read() as cx:
        found = cx.execute(query).all()[::-1]
    before: Sequence[int | None] = [None, *(row.rows for row in found)]
    return tuple(
        RowCount(row.id, row.finished_at, row.rows, was) for row, was in zip(found, before, strict=False)
    )


def _names(product: DataProduct, told: Findings) -> tuple[str, ...]:
    declared = (one.name for one in product.data_sets)
    read = (port.data_set for port in product.input_ports if port.data_set and port.source is not None)
    between = (name for name, step in told.steps.items() if step.kind != PORT)
    return tuple(dict.fromkeys((*declared, *read, *between)))
