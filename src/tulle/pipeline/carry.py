"""Carrying out the jobs of a run: each on a branch of its own, its checks before its merge, then one publishing.

A job whose code, inputs and checks are as they were when its data was made is not carried out again. Knows what
a run is made of; that it is a process, with bounds and an end, is in `execute`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path

from sqlalchemy import Connection

from tulle.engine.engine import Engine, Relation
from tulle.errors import Denied, Invalid, LimitExceeded, NotFound, Problem, TulleError
from tulle.lake.dag import RunBranch, run_branch
from tulle.lake.draft import Draft
from tulle.lake.repository import Commit, Lake, Repository
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, step_record
from tulle.pipeline.by_service import packaged
from tulle.pipeline.dbt_make import STATE
from tulle.pipeline.gather import Sources
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.grow import spans
from tulle.pipeline.job import DBT_MODEL, INGEST, PORT, PYTHON, Job
from tulle.pipeline.judge import Judge
from tulle.pipeline.landing import Landing
from tulle.pipeline.make import Made, Making, describe_made, make
from tulle.pipeline.model_kind import VIEW, WINDOW
from tulle.pipeline.pin import not_in_version, pinned
from tulle.pipeline.record import (
    RECORDS,
    Record,
    checked_fingerprint,
    code_fingerprint,
    made_fingerprint,
    read_record,
    record_of,
    record_path,
)
from tulle.pipeline.refusal import refusal_of
from tulle.pipeline.run import Report, Run
from tulle.pipeline.select import chosen
from tulle.pipeline.sources.files import Repaired
from tulle.pipeline.steps import Steps
from tulle.pipeline.table import DataAt, columns_in, data_at, data_of
from tulle.pipeline.take_up import TakenUp, take_up
from tulle.pipeline.watchdog import Watchdog
from tulle.quality.check import Check
from tulle.quality.verdict import drift
from tulle.state.db import Database

PUBLISH = "publish"
_METADATA_CHARACTERS = 400_000  # the lake bounds what a commit may say about itself


def log_line(text: str) -> None:
    """A line into the run's log, which is this process's output."""
    sys.stdout.write(f"{text}\n")  # in one piece: jobs run side by side
    sys.stdout.flush()


def count(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def opened(lake: Lake, name: str) -> Repository:
    """The repository of a product. NotFound."""
    try:
        return lake.repository(name)
    except NotFound as exc:
        raise NotFound(f"product '{name}' has no repository yet", hint="`tulle apply` makes it") from exc


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """Whoever comes back from the engine or the disk waits for Python a tenth as long as usual.

    A small job goes there some thirty times, and would wait for the job beside it longer than it works.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def asked_window(value: object) -> tuple[datetime, datetime] | None:
    """The time that is to be made again: two ISO times. Invalid."""
    if not value:
        return None
    try:
        since, until = (datetime.fromisoformat(str(each)) for each in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        told = " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        raise Invalid(f"'{told}' is no window", hint="two times such as 2024-01-01 and 2024-02-01") from None
    since, until = (at if at.tzinfo else at.replace(tzinfo=UTC) for at in (since, until))
    if since >= until:
        raise Invalid(f"the window ends at {until}, not after it begins at {since}")
    return since.astimezone(UTC), until.astimezone(UTC)


def disk_error(exc: OSError) -> TulleError:
    """What an error of the operating system means for the user."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return LimitExceeded(
            f"the disk is full: {exc.strerror}{f' ({exc.filename})' if exc.filename else ''}",
            hint="free some space and run again; nothing was published",
        )
    return Invalid(f"a file could not be read or written: {exc}", hint="nothing was published")


def _checks_by_job(code: ProductCode) -> Mapping[str, list[Check]]:
    """The checks each job completes: all they look at is made then, and that job made the last of it."""
    order = {job.name: position for position, job in enumerate(code.jobs)}
    due: dict[str, list[Check]] = {job.name: [] for job in code.jobs}
    for name in order:
        for check in code.checks_of(name):
            last = max((n for n in (check.data_set, *check.others) if n in order), key=order.__getitem__)
            due[last].append(check)
    return due


class Execution:
    """One run on its way. Jobs that do not wait for one another are carried out side by side."""

    def __init__(
        self,
        database: Database,
        lake: Lake,
        repository: Repository,
        code: ProductCode,
        engine: Engine,
        run: Run,
        folder: Path,
        watchdog: Watchdog,
        side_by_side: int = 1,
    ) -> None:
        self.database = database
        self.lake = lake
        self.repository = repository
        self.code = code
        self.engine = engine.knowing(code.macros)
        self.run = run
        self.folder = folder
        self.watchdog = watchdog
        self.branches: RunBranch
        self.landing: Landing
        self.full = bool(run.options.get("full"))
        self.at = datetime.now(UTC)
        self.window = asked_window(run.options.get("window"))
        self.selected = chosen(code.jobs, run.options.get("select") or ())
        self.data_folders: tuple[str, ...] = ()
        self.mesh = Path()
        self.sources: Sources | None = None
        # Of another product and its data set: the branch that is read.
        self.upstream_branch: Callable[[Repository, str], str] = lambda _upstream, _data_set: "main"
        self.data: dict[str, DataAt] = {}
        self.versions: dict[str, dict[str, str]] = {}  # what was read from outside: port or file → version
        self.changed: list[str] = []
        self.taken_up: TakenUp | None = None
        self.side_by_side = side_by_side
        self.checks = _checks_by_job(code)
        self.judge = Judge(
            database,
            lake,
            repository,
            self.engine,
            run,
            self._branch_of,
        )
        self.steps = Steps(database, run)
        self._python = threading.Lock()  # models share what Python knows of modules and of the process

    def _branch_of(self, upstream: Repository, data_set: str) -> str:
        return self.upstream_branch(upstream, data_set)  # set once this is made

    @property
    def branch(self) -> str:
        """The run's branch."""
        return self.branches.branch

    def carry_out(self) -> None:
        """All jobs in order, then the publishing."""
        environment = self.run.environment
        self.branches = run_branch(self.repository, environment, self.run.id)
        self.landing = Landing(self.branches, self._reported)
        base = self.branches.base
        if earlier := self.run.options.get("resume"):
            earlier_run = runs.get(self.database, str(earlier))
            self.taken_up = take_up(earlier_run, self.run, self.branches, log_line)
        steps = [(job.name, job.shown_kind) for job in self.code.jobs] + [(PUBLISH, PUBLISH)]
        step_record.begin(self.database, self.run.id, branch=self.branch, base_commit=base, steps=steps)
        with self.steps.taken_down():
            self._carry_out_all()
            with self._reported(PUBLISH):
                commit_id = self._publish(base)
        self.branches.discard()
        if commit_id is None:
            run_end.finish(self.database, self.run.id, runs.UNCHANGED)
            log_line("everything is up to date")

    def _carry_out_all(self) -> None:
        """Every job after what it waits for. After a failure no further one begins; the first failure is raised."""
        place = {job.name: position for position, job in enumerate(self.code.jobs)}
        order = TopologicalSorter({job.name: self._waits_for(job) for job in self.code.jobs})
        order.prepare()
        failures: list[BaseException] = []
        running: dict[Future[None], str] = {}
        with _quick_turns(), ThreadPoolExecutor(self.side_by_side, thread_name_prefix="job") as pool:
            while order.is_active():
                ready = sorted(order.get_ready(), key=place.__getitem__) if not failures else ()
                running.update({pool.submit(self._one, self.code.jobs[place[name]]): name for name in ready})
                if not running:
                    break
                done, _ = wait(running, timeout=self.landing.left(), return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    if (exc := future.exception()) is not None:
                        failures.append(exc)
                    else:
                        order.done(name)
                if not running or self.landing.left() == 0.0:
                    self._land(failures)
        self._land(failures)  # after a failure, too: another run may take it up
        if failures:
            raise failures[0]

    def _land(self, failures: list[BaseException]) -> None:
        try:
            self.landing.land()
        except TulleError as exc:
            failures.append(exc)

    def _waits_for(self, job: Job) -> set[str]:
        """What it reads, and what the checks look at that are carried out with it."""
        looked_at = {name for check in self.checks[job.name] for name in (check.data_set, *check.others)}
        known = {other.name for other in self.code.jobs}
        return ({*job.inputs, *looked_at} & known) - {job.name}

    def _one(self, job: Job) -> None:
        with self._reported(job.name):
            if job.kind == PYTHON:
                with self._python:
                    self._carry_out(job)
            else:
                self._carry_out(job)

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """A step that fails says why."""
        try:
            yield
        except Refused as exc:
            self.steps.finished(
                name,
                runs.FAILED,
                rows=exc.rows,
                message=exc.message,
                report=exc.report,
                branch=exc.branch,
            )
            raise
        except TulleError as exc:
            self.steps.finished(name, runs.FAILED, message=exc.message)
            raise
        except OSError as exc:
            error = disk_error(exc)
            self.steps.finished(name, runs.FAILED, message=error.message)
            raise error from exc

    # ── one job ──────────────────────────────────────────────────────────────────────────────────────────

    def _carry_out(self, job: Job) -> None:
        if job.kind == PORT:
            if self.selected is None or any(
                job.name in other.inputs for other in self.code.jobs if other.name in self.selected
            ):
                self._read_port(job)
            return
        if self.selected is not None and job.name not in self.selected:
            self._leave(job)
            return
        if job.kind == INGEST:
            self.steps.started(job.name)  # what a source has to give may take long to gather
        draft = self._draft(job)
        making = self._making(job, draft)
        checks = self.checks[job.name]
        made_print = made_fingerprint(job, self.code, making)
        before, present, kept = self._looked_at(draft, making, made_print)
        if not kept and self.taken_up and job.kind != INGEST and self.taken_up.put_back(draft, job.name):
            before, present, kept = self._looked_at(draft, making, made_print)
        makes = self.full or not kept or self._is_due(making, before)
        if not makes and before is not None and present is not None:
            known = {
                **self.data,
                **self.judge.elsewhere(checks),
                job.name: present.with_columns(before.columns),
            }
            if before.checked == checked_fingerprint(job, self.code, checks, known):
                if draft.rows():  # it was put back to what is published, and that is what would be made
                    self.branches.land([draft], f"{job.name}: as it is published")
                self._keep(job, before, known[job.name])
                return
        if job.kind != INGEST:
            self.steps.started(job.name)
        if makes or before is None:
            made = make(draft, making, before)
            log_line(f"{job.name}: {_in_words(job, made.rows)}")
        else:
            made = describe_made(before)
            log_line(f"{job.name}: not made again, only checked")
        at = self._drafted(draft, making, made)
        assert at is not None
        at = at.with_columns(made.columns)
        known = {**self.data, **self.judge.elsewhere(checks), job.name: at}
        record = Record(
            made=made_print,
            checked=checked_fingerprint(job, self.code, checks, known),
            identity=at.identity,
            run=self.run.id,
            rows=made.rows,
            columns=tuple((c.name, c.type) for c in made.columns),
            lineage=made.lineage,
            inputs=making.versions,
            metrics=tuple((m.name, m.value) for m in made.metrics),
            models=made.models,
            code=code_fingerprint(job, self.code),
            remembered=made.remembered,
        )
        draft.put(record_path(job.name), record.to_json(), content_type="application/json")
        report = self._judged(job, draft, at, made, making)
        message = None if makes else "only checked again: its code and inputs are unchanged"
        rows = rows_told(job, made.rows, report)
        word = self.steps.word(job.name, runs.SUCCEEDED, rows=rows, message=message, report=report)
        line = f"{job.name}: {_in_words(job, rows)}"
        self.landing.add(job.name, draft, line, lambda: self.steps.tell(word))
        self.data[job.name] = at
        if job.kind == INGEST:
            self.versions[job.name] = dict(making.versions.get("files", {}))
        self.changed.append(job.name)

    def _draft(self, job: Job) -> Draft:
        """What a job begins with."""
        if job.kind == DBT_MODEL:
            self.landing.land()  # its rows are where the job of its project put them
        return self.branches.draft()

    def _looked_at(
        self, draft: Draft, making: Making, made_print: str
    ) -> tuple[Record | None, DataAt | None, bool]:
        """What is there of a job: its record, its data, and whether the data is what would be made again."""
        before = record_of(draft, making.job.name)
        present = self._drafted(draft, making, before)
        if before is None or present is None:
            return before, present, False
        # Data somebody put there by hand is not what the code makes, so it is made again.
        return before, present, (before.made, before.identity) == (made_print, present.identity)

    def _leave(self, job: Job) -> None:
        """A job that was not chosen: its data is taken as it is, where there is any."""
        record = read_record(self.repository, self.branch, job.name)
        if record is None or any(name not in self.data for name in job.inputs if job.way.kind == VIEW):
            return
        if job.way.kind == VIEW:
            at = self._drafted(None, self._making(job, None), record)
        else:
            at = data_at(self.repository, self.branch, job.name)
        if at is not None:
            self.data[job.name] = at.with_columns(record.columns)

    def _making(self, job: Job, draft: Draft | None) -> Making:
        """A job with what it is made from; that of an ingest is gathered, to go on from what the draft has."""
        if missing := [name for name in job.inputs if name not in self.data]:
            raise NotFound(
                f"'{job.name}' is made from '{missing[0]}', which has no data yet",
                hint=f"choose what it is made from as well: --select '+{job.name}'",
            )
        inputs = {name: self.data[name] for name in job.inputs}
        versions = {name: dict(at.version) for name, at in inputs.items()}
        if job.score is not None:
            versions[job.score.named] = packaged(
                self.database, self.lake, self.run.product, job.score, self.run.id, job.place
            )
        making = Making(
            job,
            self.code,
            self.engine,
            inputs,
            versions,
            self.run.id,
            self.folder,
            log_line,
            at=self.at,
            full=self.full,
            window=self.window,
            mesh=self.mesh,
        )
        if job.kind == INGEST:
            making = replace(making, data_folders=self.data_folders)
            return self._gathered(making, draft) if self.sources and draft else making.with_files()
        return making

    def _gathered(self, making: Making, draft: Draft) -> Making:
        assert self.sources is not None
        published = self.branches.base
        over = published if self.taken_up else ""
        try:
            return self.sources.gathered(making, self.repository, self.branch, full=self.full, over=over)
        except Repaired as exc:
            assert self.taken_up is not None
            log_line(f"{making.job.name}: {exc}, so its source is read again from what is published")
            self.taken_up.put_back(draft, making.job.name)
            return self.sources.gathered(making, self.repository, published, full=self.full)

    def _drafted(self, draft: Draft | None, making: Making, made: Made | Record | None) -> DataAt | None:
        """The data set of a job as a draft has it; that of a view is what its statement gives of its inputs."""
        job = making.job
        if job.way.kind != VIEW:
            return None if draft is None else data_of(draft, job.name)
        if made is None:
            return None
        over = tuple(at.relation for at in making.inputs.values())
        identity = made_fingerprint(job, self.code, making)
        relation = Relation(job.name, sql=job.text, over=over)
        return DataAt(job.name, relation, identity, {"identity": identity})

    def _is_due(self, making: Making, before: Record | None) -> bool:
        """Whether time alone is a reason to make it: a window has ended, or one is to be made again."""
        if before is None or making.job.way.strategy != WINDOW:
            return False
        done = spans(before.remembered)
        return self.window is not None or any(making.job.way.windows(done, self.at))

    def _keep(self, job: Job, record: Record, at: DataAt) -> None:
        """The data is as it would be made again."""
        self.data[job.name] = at
        report = Report(
            metrics=tuple(runs.Metric(name, value) for name, value in record.metrics),
            columns=record.columns,
            lineage=record.lineage,
            inputs=record.inputs,
            models=record.models,
        )
        self.steps.kept(job.name, rows_told(job, record.rows, report), report)

    def _read_port(self, job: Job) -> None:
        assert job.upstream is not None
        self.steps.started(job.name)
        product, data_set = job.upstream
        upstream = opened(self.lake, product)
        # One commit for the whole run, whatever is published meanwhile.
        pin = pinned(self.database, upstream, job.port)
        commit = pin[0] if pin else upstream.resolve(self.upstream_branch(upstream, data_set))
        at = data_at(upstream, commit, data_set, product=product)
        if at is None and pin:
            raise not_in_version(job.port, pin[1], product, data_set)
        if at is None:
            hint = f"`tulle run {product}` first"
            problem = Problem(f"'{data_set}' of product '{product}' has no data", job.place, hint)
            raise NotFound(
                f"product '{product}' has not published '{data_set}' yet", hint=hint, problems=[problem]
            )
        at = replace(at, name=job.name, relation=replace(at.relation, name=job.name))
        record = read_record(upstream, commit, data_set)
        columns = record.types() if record else columns_in(at.relation)
        self.data[job.name] = at.with_columns(columns)
        self.versions[job.name] = dict(at.version)
        rows = record.rows if record else None
        seen = {
            r.inputs.get(job.name, {}).get("identity")
            for j in self.code.jobs
            if job.name in j.inputs and (r := read_record(self.repository, self.branch, j.name))
        }
        is_new = seen != {at.identity}
        checks = self.checks[job.name]
        results = self.judge.results(checks, self.data) if is_new or self.full else ()
        message = f"{product} at {commit[:12]}" + (f", pinned to {pin[1]}" if pin else "")
        report = Report(
            checks=results,
            columns=tuple((c.name, c.type) for c in columns),
            inputs={job.name: self.versions[job.name]},
        )
        if any(result.stops for result in results):
            raise self._refused(job, self.branches.draft(), checks, report, self.data, rows)
        status = runs.SUCCEEDED if is_new else runs.UNCHANGED
        log_line(f"{job.name}: {message}")
        self.steps.finished(job.name, status, rows=rows, message=message, report=report)

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────

    def _judged(self, job: Job, draft: Draft, at: DataAt, made: Made, making: Making) -> Report:
        """What the checks say of a draft. Refused, with the draft kept on a branch of its own, when they stop it."""
        checks = self.checks[job.name]
        declared = next((d for d in self.code.product.data_sets if d.name == job.name), None)
        data = {**self.data, job.name: at}
        results = [*made.results]
        results += drift(declared, made.columns, made.rows) if declared is not None else ()
        if not any(result.stops for result in results):
            results += self.judge.results(checks, data)
        report = Report(
            checks=tuple(results),
            metrics=made.metrics,
            columns=tuple((c.name, c.type) for c in made.columns),
            lineage=made.lineage,
            inputs=making.versions,
            models=made.models,
            log=made.log,
        )
        if any(result.stops for result in results):
            raise self._refused(job, draft, checks, report, data, rows_told(job, made.rows, report))
        for result in results:
            if not result.passed:
                log_line(f"{job.name}: warning: {result.name}: {result.message}")
        return report

    def _refused(
        self,
        job: Job,
        draft: Draft,
        checks: Sequence[Check],
        report: Report,
        data: Mapping[str, DataAt],
        rows: int | None,
    ) -> Refused:
        """The refusal; what was drafted and the failing rows are on a branch of their own, which no run takes up."""
        name = f"{self.branch}-{job.name}"
        if job.kind == INGEST and job.port:
            name = f"ingest-{job.port.name}-{self.run.id}"
        self.landing.land()  # what it was made from is to be seen beside it
        kept = self.branches.keep(job.name, draft, f"{job.name}: refused", branch=name)
        shown = self.judge.keep_failing(kept.branch, checks, report.checks, data)
        return Refused(job.name, replace(report, checks=shown), rows, kept.branch)

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, base: str) -> str | None:
        """Make everything visible at once; the commit, or None when there is nothing new."""
        removed = self._remove_orphans()
        if not removed and self.repository.resolve(self.branch) == base:
            self.steps.started(PUBLISH)
            self.steps.finished(PUBLISH, runs.UNCHANGED, message="nothing new")
            return None
        self.steps.started(PUBLISH, branch=self.run.environment)
        self.steps.settled()  # all that was done is told before anything is published

        def end(cx: Connection, commit: Commit) -> None:
            run_end.publishes(cx, self.run, commit.id, self._published(commit.id, removed))

        taken_up = [f"what run {self.taken_up.run} made"] if self.taken_up else []
        done = [*self.changed, *taken_up, *(f"without {name}" for name in removed)]
        with self.watchdog.publishing:
            merged = self.branches.publish(
                f"Run {self.run.id}: {', '.join(done)}"[:500], metadata=self._metadata(base), also=end
            )
            if not merged.unchanged:
                self.watchdog.disarm()
        if merged.unchanged:  # what was taken up is as it is published, after all
            self.steps.finished(PUBLISH, runs.UNCHANGED, message="nothing new")
            return None
        log_line(f"published as {merged.commit.id}")
        return merged.commit.id

    def _published(self, commit_id: str, removed: Sequence[str]) -> str:
        message = f"{count(len(self.changed), 'data set')} as {commit_id[:12]}"
        if removed:
            message += f"; removed {', '.join(removed)}, which nothing makes any more"
        return message

    def _metadata(self, base: str) -> dict[str, str]:
        versions = json.dumps(self.versions, sort_keys=True)
        return {
            "run": self.run.id,
            "code": self.code.digest,
            "base": base,
            "data_sets": ",".join(self.changed)[:_METADATA_CHARACTERS],
            "inputs": versions if len(versions) <= _METADATA_CHARACTERS else "{}",
        }

    def _remove_orphans(self) -> list[str]:
        """Take out data sets that earlier code made and nothing makes any more; history keeps them."""
        made = {job.name for job in self.code.jobs}
        entries = self.repository.entries(self.branch, RECORDS)
        orphans = [
            n for n in (e.path.removeprefix(RECORDS).removesuffix(".json") for e in entries) if n not in made
        ]
        if not orphans or not made:
            return []
        records = {name: read_record(self.repository, self.branch, name) for name in (*made, *orphans)}
        # A file that was renamed saves its models under the same names.
        kept = {model for name in made if (found := records[name]) for model in found.models}
        for name in orphans:
            record = records[name]
            for model in set(record.models) - kept if record else ():
                self.repository.delete_prefix(self.branch, f"models/{model}/")
            self.repository.delete_prefix(self.branch, f"{name}/")
            self.repository.delete_prefix(self.branch, f"{STATE}{name}/")
            self.repository.delete(self.branch, record_path(name))
        self.branches.commit(f"Remove {', '.join(orphans)}"[:500])
        return orphans


def rows_told(job: Job, rows: int, report: Report) -> int | None:
    """The rows that a step tells of; of a view, which keeps none, those that its checks counted, if any did."""
    if job.way.kind != VIEW:
        return rows
    return max((check.total for check in report.checks), default=0) or None


def _in_words(job: Job, rows: int | None) -> str:
    if job.way.kind != VIEW:
        return count(rows or 0, "row")
    return f"a view of {count(rows, 'row')}" if rows else "a view"


class Refused(Denied):
    """A gate said no; carries what the checks found."""

    def __init__(self, name: str, report: Report, rows: int | None, branch: str | None = None) -> None:
        failed = [result for result in report.checks if result.stops]
        super().__init__(
            refusal_of(f"'{name}' failed", [result.name for result in failed], failed[0].message),
            hint="the published data is as it was; the run's branches are kept to look at",
            problems=[Problem(f"{result.data_set}: {result.name}: {result.message}") for result in failed],
        )
        self.report = report
        self.rows = rows
        self.branch = branch  # what was refused, to look at
