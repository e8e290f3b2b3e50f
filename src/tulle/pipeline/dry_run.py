"""What a run would do, and why, from what is recorded: nothing is made, nothing is written.

A job whose inputs will be made again is only made when their rows turn out to be others, so of it there is only a
`perhaps`. What it will take is told by what it took the last time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from tulle.engine.duck import DuckEngine
from tulle.errors import NotFound, TulleError
from tulle.lake.repository import Lake, Repository
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.grow import spans
from tulle.pipeline.job import INGEST, PORT, Job
from tulle.pipeline.make import Making
from tulle.pipeline.model_kind import WINDOW
from tulle.pipeline.pin import pinned
from tulle.pipeline.record import Record, code_fingerprint, made_fingerprint, read_record
from tulle.pipeline.run import SUCCEEDED
from tulle.pipeline.select import chosen
from tulle.pipeline.table import DataAt, data_at
from tulle.spec.source import FILE
from tulle.state.db import Database
from tulle.state.tables import run_steps, runs

MAKE, PERHAPS, KEEP, LEAVE = "make", "perhaps", "keep", "leave"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One job: whether it would be carried out, why, what it has and reads now, and how long it took last."""

    name: str
    kind: str
    action: str  # make, perhaps, keep, leave
    reason: str
    rows: int | None = None
    reads_rows: int = 0
    reads_bytes: int = 0
    seconds: float | None = None  # the last time it was made


def foresee(
    database: Database,
    lake: Lake,
    code: ProductCode,
    engine: DuckEngine,
    *,
    ref: str = "main",
    words: Sequence[str] = (),
    full: bool = False,
    data_folders: Sequence[str] = (),
) -> tuple[Foreseen, ...]:
    """What a run of a product would do now on the branch `ref`. NotFound, and Invalid for a file that is not there."""
    seer = _Seer(database, lake, code, engine, ref, tuple(data_folders), full=full)
    seconds = _last_seconds(database, code.product.name)
    selected = chosen(code.jobs, words)
    return tuple(seer.jobs(selected, seconds))


class _Seer:
    def __init__(
        self,
        database: Database,
        lake: Lake,
        code: ProductCode,
        engine: DuckEngine,
        ref: str,
        data_folders: tuple[str, ...],
        *,
        full: bool,
    ) -> None:
        self.database = database
        self.lake, self.code, self.engine, self.ref, self.full = lake, code, engine, ref, full
        self.data_folders = data_folders
        self.repository = lake.repository(code.product.name)
        self.data: dict[str, DataAt | None] = {}
        self.rows: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.moving: dict[str, str] = {}  # what will be made, or perhaps

    def jobs(self, selected: frozenset[str] | None, seconds: Mapping[str, float]) -> Iterator[Foreseen]:
        for job in self.code.jobs:
            if job.kind == PORT:
                yield self._port(job)
                continue
            record = read_record(self.repository, self.ref, job.name)
            self._see(job, self.repository, self.ref, job.name, record)
            if selected is not None and job.name not in selected:
                action, reason = LEAVE, "it is not chosen"
            else:
                action, reason = self._judge(job, record)
            if action in {MAKE, PERHAPS}:
                self.moving[job.name] = action
            yield Foreseen(
                job.name,
                job.kind,
                action,
                reason,
                record.rows if record else None,
                sum(self.rows.get(name, 0) for name in job.inputs),
                sum(self.bytes.get(name, 0) for name in job.inputs),
                seconds.get(job.name),
            )

    def _port(self, job: Job) -> Foreseen:
        assert job.upstream is not None
        product, data_set = job.upstream
        try:
            upstream = self.lake.repository(product)
            pin = pinned(self.database, upstream, job.port)
            ref = pin[0] if pin else "main"
            record = read_record(upstream, ref, data_set)
            self._see(job, upstream, ref, data_set, record)
        except NotFound as exc:
            self.data[job.name] = None
            if job.port is not None and job.port.version:
                return Foreseen(job.name, PORT, LEAVE, exc.message)
            record, pin = None, None
        if self.data[job.name] is None:
            return Foreseen(job.name, PORT, LEAVE, f"product '{product}' has not published '{data_set}' yet")
        return Foreseen(
            job.name,
            PORT,
            KEEP,
            f"{product} as it is published now" if pin is None else f"{product}, pinned to {pin[1]}",
            record.rows if record else None,
        )

    def _see(self, job: Job, repository: Repository, ref: str, name: str, record: Record | None) -> None:
        self.data[job.name] = data_at(repository, ref, name)
        self.rows[job.name] = record.rows if record else 0
        self.bytes[job.name] = sum(entry.size for entry in repository.entries(ref, f"{name}/"))

    def _judge(self, job: Job, record: Record | None) -> tuple[str, str]:
        if record is None:
            return MAKE, "it was never made"
        if reason := self._sure(job, record):
            return MAKE, reason
        if moving := [name for name in job.inputs if name in self.moving]:
            return PERHAPS, f"if the rows of {', '.join(moving)} turn out to be others"
        if job.kind == INGEST and job.port and job.port.source and job.port.source.type != FILE:
            return PERHAPS, "if its source has other rows than the last time"
        return self._by_inputs(job, record)

    def _sure(self, job: Job, record: Record) -> str:
        """Why it would be made, whatever its inputs are; empty when that depends on them."""
        if self.full:
            return "everything is made anew"
        if record.code and record.code != code_fingerprint(job, self.code):
            return "its code is another one"
        if job.way.strategy == WINDOW:
            due = list(job.way.windows(spans(record.remembered), datetime.now(UTC)))
            if due:
                return f"the time from {due[0][0]:%Y-%m-%d %H:%M} to {due[-1][1]:%Y-%m-%d %H:%M} is due"
        return ""

    def _by_inputs(self, job: Job, record: Record) -> tuple[str, str]:
        try:
            if record.made == made_fingerprint(job, self.code, self._making(job)):
                return KEEP, "its code and inputs are unchanged"
        except TulleError as exc:
            return MAKE, f"and would fail: {exc.message}"
        before = {name: version.get("identity") for name, version in record.inputs.items()}
        now = {name: at.identity for name in job.inputs if (at := self.data[name]) is not None}
        changed = [name for name, identity in now.items() if before.get(name) != identity]
        return MAKE, f"{', '.join(changed)} changed" if changed else "its files changed"

    def _making(self, job: Job) -> Making:
        inputs = {name: at for name in job.inputs if (at := self.data[name]) is not None}
        versions = {name: dict(at.version) for name, at in inputs.items()}
        making = Making(
            job, self.code, self.engine, inputs, versions, "", Path(), print, data_folders=self.data_folders
        )
        return making.with_files() if job.kind == INGEST else making


def _last_seconds(database: Database, product: str) -> dict[str, float]:
    """How long each job took the last time it was made."""
    steps = run_steps.c
    query = (
        select(steps.name, steps.started_at, steps.finished_at)
        .join(runs, runs.c.id == steps.run_id)
        .where(runs.c.product == product, steps.status == SUCCEEDED, steps.finished_at.is_not(None))
        .order_by(runs.c.requested_at.desc())
        .limit(5_000)
    )
    found: dict[str, float] = {}
    with database.read() as cx:
        for name, since, until in cx.execute(query):
            if since is not None:
                found.setdefault(name, until - since)
    return found
