"""What a run would do, and why, from what is recorded: nothing is made, nothing is written.

A job whose inputs will be made again is only made when their rows turn out to be others, so of it there is only a
`perhaps`. What it will give and take is estimated (`estimate`), through what is made before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tulle.engine.duck import DuckEngine
from tulle.errors import NotFound, TulleError
from tulle.lake.repository import Lake, Repository
from tulle.pipeline.by_service import packaged
from tulle.pipeline.estimate import Estimate, Point, estimate, past
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.grow import spans, window_macros
from tulle.pipeline.job import INGEST, PORT, SQL, Job
from tulle.pipeline.make import Making
from tulle.pipeline.model_kind import VIEW, WINDOW
from tulle.pipeline.pin import pinned
from tulle.pipeline.record import Record, code_fingerprint, made_fingerprint, read_record
from tulle.pipeline.select import chosen
from tulle.pipeline.sources.files import is_plain
from tulle.pipeline.table import DataAt, data_at
from tulle.state.db import Database

MAKE, PERHAPS, KEEP, LEAVE = "make", "perhaps", "keep", "leave"
_ANY = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One job: whether it would be carried out, why, what it has and reads now, and how long it took last.

    What is expected is about a job that would be carried out; `basis` says where that comes from: history (of
    `history` runs), engine, other models, unknown.
    """

    name: str
    kind: str
    action: str  # make, perhaps, keep, leave
    reason: str
    rows: int | None = None
    reads_rows: int = 0
    reads_bytes: int = 0
    seconds: float | None = None  # the last time it was made
    expected_reads: int | None = None  # rows, with those of what is made before it
    expected_rows: int | None = None
    expected_seconds: float | None = None
    expected_bytes: int | None = None
    basis: str = ""
    history: int = 0


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
    points = past(database, code.product.name, {job.name: job.inputs for job in code.jobs})
    selected = chosen(code.jobs, words)
    return tuple(seer.jobs(selected, points))


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
        self.expected: dict[str, int | None] = {}  # the rows each data set will have

    def jobs(
        self, selected: frozenset[str] | None, points: Mapping[str, Sequence[Point]]
    ) -> Iterator[Foreseen]:
        for job in self.code.jobs:
            if job.kind == PORT:
                port = self._port(job)
                self.expected[job.name] = port.rows
                yield port
                continue
            record = read_record(self.repository, self.ref, job.name)
            self._see(job, self.repository, self.ref, job.name, record)
            if selected is not None and job.name not in selected:
                action, reason = LEAVE, "it is not chosen"
            else:
                action, reason = self._judge(job, record)
            if action in {MAKE, PERHAPS}:
                self.moving[job.name] = action
            mine = points.get(job.name, ())
            is_view = job.way.kind == VIEW  # which keeps no rows to count
            foreseen = Foreseen(
                job.name,
                job.shown_kind,
                action,
                reason,
                record.rows if record and not is_view else None,
                sum(self.rows.get(name, 0) for name in job.inputs),
                sum(self.bytes.get(name, 0) for name in job.inputs),
                mine[0].seconds if mine else None,
            )
            self.expected[job.name] = foreseen.rows
            yield self._estimated(job, foreseen, points) if job.name in self.moving else foreseen

    def _estimated(self, job: Job, foreseen: Foreseen, points: Mapping[str, Sequence[Point]]) -> Foreseen:
        """The same with what is expected of it."""
        reads = [self.expected.get(name) for name in job.inputs]
        read = None if None in reads or not reads else sum(rows or 0 for rows in reads)
        mine = points.get(job.name, ())
        others = [
            p for name, found in points.items() if name in self.models and name != job.name for p in found[:1]
        ]
        guessed = self._guessed(job) if not mine else None
        expected: Estimate = estimate(
            mine, read, others=others if job.name in self.models else (), guessed=guessed
        )
        self.expected[job.name] = expected.rows
        size = None
        if expected.rows is not None and foreseen.rows:
            size = round(self.bytes[job.name] / foreseen.rows * expected.rows)
        return replace(
            foreseen,
            expected_reads=read,
            expected_rows=expected.rows or (None if job.way.kind == VIEW else expected.rows),
            expected_seconds=None if expected.seconds is None else round(expected.seconds, 3),
            expected_bytes=size,
            basis=expected.basis,
            history=expected.runs,
        )

    @property
    def models(self) -> frozenset[str]:
        """What is made from other data sets."""
        return frozenset(job.name for job in self.code.jobs if job.inputs)

    def _guessed(self, job: Job) -> int | None:
        """The rows the engine expects of a model whose inputs are all there as they will be."""
        at = [self.data.get(name) for name in job.inputs]
        if job.kind != SQL or job.reads_this or any(name in self.moving for name in job.inputs):
            return None
        relations = [one.relation for one in at if one is not None]
        if len(relations) < len(at):
            return None
        try:
            engine = self.engine.knowing([*self.code.macros, *window_macros(_ANY)])
            return engine.guess(job.text, relations, file=job.file)
        except TulleError:
            return None  # whoever runs it will say what is wrong

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
        if job.kind == INGEST and job.port and job.port.source and not is_plain(job.port.source):
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
        if not changed and job.score is not None:
            return MAKE, f"what {job.score.named} looks up may be other"
        return MAKE, f"{', '.join(changed)} changed" if changed else "its files changed"

    def _making(self, job: Job) -> Making:
        inputs = {name: at for name in job.inputs if (at := self.data[name]) is not None}
        versions = {name: dict(at.version) for name, at in inputs.items()}
        if job.score is not None:
            product = self.code.product.name
            versions[job.score.named] = packaged(self.database, self.lake, product, job.score, "", job.place)
        making = Making(
            job, self.code, self.engine, inputs, versions, "", Path(), print, data_folders=self.data_folders
        )
        return making.with_files() if job.kind == INGEST else making
