"""Making one data set, as a draft: rows are written straight to where they stay, then linked.

Nothing here is visible to anybody until the run commits the draft.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from tulle.engine.engine import ColumnType, Engine, Relation
from tulle.engine.statement import column_sources
from tulle.errors import Broken, Conflict
from tulle.lake.draft import Draft
from tulle.lake.repository import Link
from tulle.pipeline import by_service
from tulle.pipeline.by_service import Desk
from tulle.pipeline.columns import adjusted
from tulle.pipeline.convert import in_mesh_types
from tulle.pipeline.data_files import data_files
from tulle.pipeline.dbt_make import Project, build_project, take
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.grow import Growing, incremental, snapshot
from tulle.pipeline.ingest import (
    ROW_GROUP_ROWS,
    SourceFile,
    content_digest,
    ingest,
    source_files,
    write_batches,
)
from tulle.pipeline.job import DBT, DBT_MODEL, INGEST, PYTHON, SCORE, SQL, Job
from tulle.pipeline.keep import Gathered, Keeping
from tulle.pipeline.model import ModelRun, call_model
from tulle.pipeline.model_kind import SNAPSHOT, THIS, VIEW
from tulle.pipeline.record import Record, code_fingerprint, record_of
from tulle.pipeline.run import Metric
from tulle.pipeline.table import PARQUET, DataAt, columns_in, data_of
from tulle.quality.verdict import CheckResult
from tulle.spec.product import DataSet

if TYPE_CHECKING:
    import pyarrow as pa

_RETURNED = "_returned"
_TAKEN = f"SELECT * FROM {_RETURNED}"  # noqa: S608  a name of our own


@dataclass(frozen=True, slots=True)
class Making:
    """A job and all it is made from. `versions` says per input which version is read."""

    job: Job
    code: ProductCode
    engine: Engine
    inputs: Mapping[str, DataAt]
    versions: Mapping[str, Mapping[str, str]]
    run_id: str
    folder: Path  # for files that do not stay
    say: Callable[[str], None]
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)  # the time of the run
    full: bool = False  # make all rows anew
    window: tuple[datetime, datetime] | None = None  # make the rows of this time again
    files: tuple[SourceFile, ...] = ()
    gathered: Gathered | None = None  # what another source than plain files gave
    data_folders: tuple[str, ...] = ()  # where file sources may read beside the product's own folder
    mesh: Path = Path()  # the mesh folder, for what a service's definitions do

    def with_files(self) -> Making:
        """For an ingest: the files its port reads now, and what identifies their bytes. Raises Invalid."""
        assert self.job.port is not None
        product = self.code.product
        label = str(Path(product.place.file).parent) if product.place else product.folder.name
        if self.job.path is not None:  # a release's own, every byte of which was checked
            files: tuple[SourceFile, ...] = (
                SourceFile(self.job.path, f"{label}/seeds/{self.job.path.name}"),
            )
        else:
            files = source_files(self.job.port, product.folder, label, self.data_folders)
        version = {"identity": content_digest(files), "files": ", ".join(f.label for f in files)[:500]}
        return replace(self, files=files, versions={"files": version})

    @property
    def declared(self) -> DataSet | None:
        """What the product declares about the data set."""
        return next((d for d in self.code.product.data_sets if d.name == self.job.name), None)

    @property
    def relations(self) -> dict[str, Relation]:
        """The inputs by name."""
        return {name: at.relation for name, at in self.inputs.items()}

    @property
    def desk(self) -> Desk:
        """Where a service's definitions are asked."""
        return Desk(self.mesh, self.code.product.name, self.engine, self.folder / "by-service")


@dataclass(frozen=True, slots=True)
class Made:
    """What a job made."""

    rows: int
    columns: tuple[ColumnType, ...]
    lineage: Mapping[str, list[list[str]]] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    models: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    remembered: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[CheckResult, ...] = ()  # what it found out itself about the data


def describe_made(record: Record) -> Made:
    """What an earlier run made, from its record."""
    lineage = {name: [list(pair) for pair in pairs] for name, pairs in record.lineage.items()}
    metrics = tuple(Metric(name, value) for name, value in record.metrics)
    return Made(record.rows, record.types(), lineage, metrics, record.models, remembered=record.remembered)


def make(draft: Draft, making: Making, before: Record | None) -> Made:
    """Carry the job out and put its data set (and models) into a draft; `before` is what was made last.

    Raises Invalid when code or files do not fit, LimitExceeded and OSError when room is used up.
    """
    if making.job.kind == INGEST:
        return _ingest(draft, making, before)
    if making.job.kind == SQL:
        return _sql(draft, making, before)
    if making.job.kind == DBT:
        return _dbt(draft, making)
    if making.job.kind == DBT_MODEL:
        return _dbt_model(draft, making.job)
    if making.job.kind == SCORE:
        return _score(draft, making)
    return _python(draft, making, before)


def _ingest(draft: Draft, making: Making, before: Record | None) -> Made:
    assert making.job.port is not None
    assert making.job.port.source is not None
    if making.gathered is not None:
        return _gathered(draft, making, making.gathered, before)
    with _data_file(draft, making.job.name) as target:
        written = ingest(making.files, making.job.port.source, target)
    source = making.job.port.name
    return Made(written.rows, written.columns, {c.name: [[source, c.name]] for c in written.columns})


def _gathered(draft: Draft, making: Making, gathered: Gathered, before: Record | None) -> Made:
    assert making.job.port is not None
    assert making.job.port.source is not None
    keeping = Keeping(draft, making.job.name, making.engine, making.job.port.source)
    rows = keeping.put(gathered, before.rows if before else 0)
    port = making.job.port.name
    lineage = {c.name: [[port, c.name]] for c in gathered.columns}
    metrics = (Metric("rows put aside", gathered.put_aside),) if gathered.put_aside else ()
    return Made(rows, gathered.columns, lineage, metrics, remembered=gathered.remembered)


def _sql(draft: Draft, making: Making, before: Record | None) -> Made:
    job = making.job
    relations = [making.relations[name] for name in job.inputs]
    if job.way.kind == VIEW:
        found = making.engine.describe(job.text, relations, file=job.file)
        draft.delete_prefix(f"{job.name}/")
        return Made(0, found, _lineage(job, relations))
    if job.way.grows:
        return _grown(draft, making, before, job, relations)

    def types(found: Sequence[ColumnType]) -> dict[str, str]:
        return {c.name: c.type for c in adjusted(found, making.declared)}

    with _data_file(draft, job.name) as target:
        written = making.engine.write(job.text, relations, target, file=job.file, types=types)
    return Made(written.rows, written.columns, _lineage(job, relations))


def _lineage(job: Job, relations: Sequence[Relation]) -> dict[str, list[list[str]]]:
    if job.statement is None:
        return {}
    sources = column_sources(job.statement, {r.name: r.columns for r in relations})
    return {name: [[s.relation, s.column] for s in pairs] for name, pairs in sources.items()}


def _grown(
    draft: Draft,
    making: Making,
    before: Record | None,
    job: Job,
    relations: Sequence[Relation],
) -> Made:
    """A model that goes on from what is there, unless its code is another one, or all is to be made anew."""
    with data_files(draft, making.job.name) as files:
        goes_on = before is not None and goes_on_from(draft, making, before)
        growing = Growing(
            job,
            making.engine,
            relations,
            making.declared,
            files,
            making.run_id,
            making.at,
            before.types() if before is not None and goes_on else None,
            before.remembered if before is not None and goes_on else None,
            making.window,
        )
        grown = snapshot(growing, making.folder) if job.way.kind == SNAPSHOT else incremental(growing)
    making.say(f"{making.job.name}: {grown.said}" + ("" if goes_on else ", made anew"))
    return Made(grown.rows, grown.columns, _lineage(making.job, relations), remembered=grown.remembered)


def goes_on_from(draft: Draft, making: Making, before: Record) -> bool:
    """Whether a model goes on from the rows that are there: they are what was made last, by the code as it is."""
    way = making.job.way
    present = data_of(draft, making.job.name)
    if present is None or present.identity != before.identity:
        return False
    if way.kind == SNAPSHOT or not way.rebuild:
        return True  # its history cannot be made anew
    return not making.full and before.code == code_fingerprint(making.job, making.code)


def _dbt(draft: Draft, making: Making) -> Made:
    """A dbt project; its own data set tells what dbt made."""
    job = making.job
    assert job.dbt is not None
    built = build_project(
        draft,
        Project(
            making.code.product,
            job.dbt,
            job.tables,
            making.relations,
            making.engine,
            making.run_id,
            making.folder,
            making.say,
            making.full,
        ),
    )
    with _data_file(draft, job.name) as target:
        written = write_batches(built.table.to_batches(), target, job.file, built.table.schema)
    return Made(written.rows, written.columns, results=built.results)


def _dbt_model(draft: Draft, job: Job) -> Made:
    lineage = take(draft, job.inputs[0], job.name)
    at = data_of(draft, job.name)
    assert at is not None
    rows = sum(pq.read_metadata(file).num_rows for file in at.relation.files)
    return Made(rows, columns_in(at.relation), lineage)


def _score(draft: Draft, making: Making) -> Made:
    """What an endpoint answers to the rows of another data set; a row that it refuses says why, in `error`."""
    asked = making.job.score
    assert asked is not None
    with _data_file(draft, making.job.name) as target:
        told = by_service.score(making.desk, making.job.name, asked, making.relations[asked.rows], target)
    refused = "".join(f", {word} {number:,}" for word, number in sorted(told["errors"].items()))
    making.say(f"{making.job.name}: {asked.named} {asked.version} refused {told['failed']:,} rows{refused}")
    columns = tuple(ColumnType(*pair) for pair in told["columns"])
    sent = [[asked.rows, column] for column in told["sent"]]
    kept = set(told["kept"])
    lineage = {c.name: [[asked.rows, c.name]] if c.name in kept else sent for c in columns}
    return Made(told["rows"], columns, lineage, (Metric("rows refused", told["failed"]),))


def _python(draft: Draft, making: Making, before: Record | None) -> Made:
    job = making.job
    models = making.folder / "models" / job.name
    relations = making.relations
    if job.way.grows and before is not None and goes_on_from(draft, making, before):
        there = data_of(draft, job.name)
        assert there is not None
        relations[THIS] = replace(there.with_columns(before.types()).relation, name=THIS)
    origins = {one.name: one.upstream or (making.code.product.name, one.name) for one in making.code.jobs}
    run = ModelRun(
        making.run_id, job, making.engine, relations, models, making.say, desk=making.desk, origins=origins
    )
    returned = call_model(job, making.code.shared, run)
    wanted = {c.name: c.type for c in making.declared.columns} if making.declared else {}
    table = in_mesh_types(returned, job.file, wanted)
    written = _keep(draft, making, before, table)
    others = _saved_by_others(draft, making)
    for model in run.models:
        if (other := others.get(model)) is not None and other.is_so:
            raise Conflict(
                f"model '{model}' is saved by {other.file} as well",
                hint="save it in one of the two files, or under another name",
            )
    for model in {*run.models, *(before.models if before else ())} - (others.keys() - set(run.models)):
        draft.delete_prefix(f"models/{model}/")
    for model in run.models:
        files = sorted(file for file in (models / model).rglob("*") if file.is_file())
        items = [(f"models/{model}/{file.relative_to(models / model).as_posix()}", file) for file in files]
        draft.put_many(items)
    lineage = {c.name: [[name, ""] for name in job.inputs] for c in written.columns}
    return Made(
        written.rows,
        written.columns,
        lineage,
        tuple(run.metrics),
        tuple(dict.fromkeys(run.models)),
        tuple(run.logged),
        written.remembered,
    )


@dataclass(frozen=True, slots=True)
class _Other:
    """Another job that has saved a model; `is_so`: by its code as it is now, too."""

    file: str
    is_so: bool


def _saved_by_others(draft: Draft, making: Making) -> dict[str, _Other]:
    """The models that other jobs of the product have saved, as far as it is known yet."""
    found: dict[str, _Other] = {}
    for job in making.code.jobs:
        if job.kind == PYTHON and job.name != making.job.name:
            record = record_of(draft, job.name)
            for model in record.models if record else ():
                is_so = record is not None and record.code == code_fingerprint(job, making.code)
                found[model] = _Other(Path(job.file).name, is_so)
    return found


def _keep(draft: Draft, making: Making, before: Record | None, table: pa.Table) -> Made:
    """What a Python model returned, as the data set's rows or with those that are there."""
    job = making.job
    batches = iter(table.combine_chunks().to_batches(ROW_GROUP_ROWS))
    if not job.way.grows:
        with _data_file(draft, job.name) as target:
            written = write_batches(batches, target, job.file, table.schema)
        return Made(written.rows, written.columns)
    returned = making.folder / f"{job.name}-returned.parquet"
    try:
        columns = write_batches(batches, returned, job.file, table.schema).columns
        relation = Relation(_RETURNED, (str(returned),), columns)
        taken = replace(job, kind=SQL, text=_TAKEN, inputs=())
        return _grown(draft, making, before, taken, [relation])
    finally:
        returned.unlink(missing_ok=True)


@contextmanager
def _data_file(draft: Draft, data_set: str) -> Iterator[Path]:
    """A place for the data set's one file; when it was written, it becomes all the data set holds."""
    place = draft.new_data_path(".parquet")
    if place.path is None:
        raise Broken("data can only be written to a store on this machine so far", hint="use a local storage")
    try:
        yield place.path
        with place.path.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
        size = place.path.stat().st_size
        draft.delete_prefix(f"{data_set}/")
        link = Link(f"{data_set}/part-0000.parquet", place.address, size, checksum, content_type=PARQUET)
        draft.link_many([link])
    except BaseException:
        place.path.unlink(missing_ok=True)
        raise
