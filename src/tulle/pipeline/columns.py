"""The columns of every data set before anything runs, followed through SQL from what is declared.

A wrong column name or type in a model is thus found when a product is validated, not when it runs. Where
columns are not declared, nothing is known and nothing is said.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tulle.config import Warehouse
from tulle.engine.duck import VERSION, Describing, DuckEngine
from tulle.engine.engine import ColumnType, Relation
from tulle.errors import Invalid, NotFound, Place, Problem, did_you_mean
from tulle.pipeline.columns_file import ColumnsFile, digest_of
from tulle.pipeline.job import INGEST, PORT, SQL, Job
from tulle.pipeline.model_kind import SNAPSHOT, THIS
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DataProduct, DataSet

Derived = Mapping[str, tuple[ColumnType, ...] | None]
VALID_FROM, VALID_TO = "valid_from", "valid_to"
VERSIONS = (ColumnType(VALID_FROM, "timestamp"), ColumnType(VALID_TO, "timestamp"))  # what a snapshot adds
_WINDOW = tuple(f"{name}() AS TIMESTAMP '2000-01-01'" for name in ("window_start", "window_end"))


def derive_columns(
    jobs: Sequence[Job],
    product: DataProduct,
    spec: MeshSpec,
    macros: Sequence[str] = (),
    engine: DuckEngine | None = None,
) -> tuple[Derived, list[Problem]]:
    """The columns of each job's data set (None where they are unknown), and problems of SQL that does not fit.

    `engine`: one that is open anyway; to open another takes longer than to follow many models.
    """
    if not any(job.kind == SQL for job in jobs):
        return _followed(jobs, product, spec, macros, engine)
    kept = ColumnsFile(spec, product.name)
    digest = digest_of(_deciding(jobs, product, spec, macros))
    if (found := kept.get(digest)) is not None:
        return found, []
    derived, problems = _followed(jobs, product, spec, macros, engine)
    if not problems:
        kept.put(digest, derived)
    return derived, problems


def _deciding(
    jobs: Sequence[Job], product: DataProduct, spec: MeshSpec, macros: Sequence[str]
) -> list[object]:
    """All that decides which columns are found."""
    declared = [[d.name, _plain(_declared_columns(d))] for d in product.data_sets]
    upstream = [[job.name, _plain(_upstream_columns(spec, *job.upstream))] for job in jobs if job.upstream]
    return [VERSION, [*macros], declared, upstream, [[job.digest_text(), job.way.kind] for job in jobs]]


def _plain(columns: Sequence[ColumnType] | None) -> list[list[str]] | None:
    return None if columns is None else [[c.name, c.type] for c in columns]


def _followed(
    jobs: Sequence[Job],
    product: DataProduct,
    spec: MeshSpec,
    macros: Sequence[str],
    engine: DuckEngine | None,
) -> tuple[Derived, list[Problem]]:
    known = [*macros, *_WINDOW]
    if engine is not None:
        with engine.knowing(known).describing() as describing:
            return _derived(describing, jobs, product, spec)
    # No statement is run, so nothing is ever spilled.
    with tempfile.TemporaryDirectory(prefix="tulle-columns-") as folder:
        own = DuckEngine(Warehouse(threads=1, memory="256MB"), Path(folder))
        with own.knowing(known).describing() as describing:
            return _derived(describing, jobs, product, spec)


def _derived(
    engine: Describing, jobs: Sequence[Job], product: DataProduct, spec: MeshSpec
) -> tuple[Derived, list[Problem]]:
    declared = {d.name: d for d in product.data_sets}
    found: dict[str, tuple[ColumnType, ...] | None] = {}
    problems: list[Problem] = []
    for job in jobs:
        if job.kind == INGEST and job.port and job.port.source:
            columns = tuple(ColumnType(c.name, c.type) for c in job.port.source.columns)
            found[job.name] = columns or None
        elif job.kind == PORT and job.upstream:
            found[job.name] = _upstream_columns(spec, *job.upstream)
        elif job.kind == SQL:
            inputs = [found.get(name) for name in job.inputs]
            if any(columns is None for columns in inputs):
                found[job.name] = None
                continue
            try:
                if job.reads_this:
                    engine.name(Relation(THIS, columns=this_columns(job, declared.get(job.name))))
                given = adjusted(engine.columns(job.text, file=job.file), declared.get(job.name))
                found[job.name] = (*given, *VERSIONS) if job.way.kind == SNAPSHOT else given
            except Invalid as exc:
                problems += exc.problems or [Problem(exc.message, job.place, exc.hint)]
                found[job.name] = None
        else:
            found[job.name] = _declared_columns(declared.get(job.name))
        if known := found[job.name]:
            engine.name(Relation(job.name, columns=known))
    return found, problems


def this_columns(job: Job, declared: DataSet | None) -> tuple[ColumnType, ...]:
    """The columns of the rows a model has before it was ever made. Invalid when nobody says them."""
    columns = _declared_columns(declared)
    if columns is None:
        hint = f"declare the columns of data set '{job.name}' in product.yaml"
        message = "the model reads 'this', whose columns are not known the first time"
        problem = Problem(message, job.place, hint)
        raise Invalid(f"'{job.name}' cannot be made the first time", hint=hint, problems=[problem])
    more = VERSIONS if job.way.kind == SNAPSHOT else ()
    return (*(c for c in columns if c not in more), *more)


def _upstream_columns(spec: MeshSpec, product: str, data_set: str) -> tuple[ColumnType, ...] | None:
    try:
        return _declared_columns(spec.product(product).data_set(data_set))
    except NotFound:
        return None


def _declared_columns(data_set: DataSet | None) -> tuple[ColumnType, ...] | None:
    if data_set is None or not data_set.columns:
        return None
    return tuple(ColumnType(c.name, c.type) for c in data_set.columns)


def type_problems(product: DataProduct, jobs: Sequence[Job], derived: Derived) -> list[Problem]:
    """Where the columns a job gives differ from the ones its data set declares."""
    problems = []
    kinds = {job.name: job for job in jobs}
    for data_set in product.data_sets:
        columns = derived.get(data_set.name)
        job = kinds.get(data_set.name)
        if columns is None or job is None:
            continue
        types = {c.name: c.type for c in columns}
        for column in data_set.columns:
            place = column.place or data_set.place
            if column.name not in types:
                message = (
                    f"data set '{data_set.name}' declares column '{column.name}', but {job.file} gives none"
                )
                problems.append(Problem(message, place, did_you_mean(column.name, types)))
            elif types[column.name] != column.type:
                message = (
                    f"column '{column.name}' of data set '{data_set.name}' is declared as {column.type}, "
                    f"but {_where(job)} gives {types[column.name]}"
                )
                problems.append(Problem(message, place, "change the declaration, or CAST the column"))
    return problems


def _where(job: Job) -> str:
    place: Place | None = job.place
    return place.file if place and job.kind == SQL else f"its {job.kind} job"


def adjusted(columns: Sequence[ColumnType], data_set: DataSet | None) -> tuple[ColumnType, ...]:
    """The columns as they are written: a decimal takes the declared precision when no digit after the point is
    lost by it (a sum of decimal(10,2) is a decimal(38,2) to the engine, which nobody means to promise)."""
    wanted = {c.name: c.type for c in data_set.columns} if data_set else {}
    return tuple(ColumnType(c.name, _adjusted(c.type, wanted.get(c.name, c.type))) for c in columns)


def _adjusted(actual: str, wanted: str) -> str:
    if actual.startswith("decimal(") and wanted.startswith("decimal(") and _scale(wanted) >= _scale(actual):
        return wanted
    return actual


def _scale(kind: str) -> int:
    return int(kind.removesuffix(")").partition(",")[2])
