"""Carrying a run out: a branch, a branch a job, checks as the gate of every merge, one merge that publishes.

Consumers see all of a run or nothing of it: the environment's branch moves once, at the end. Whatever goes wrong
before leaves it where it was and keeps the run's branches for inspection. A job whose code, inputs and checks
are as they were when its data was made is not carried out again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Engine, Relation
from tulle.errors import Broken, Denied, Invalid, LimitExceeded, NotFound, Problem, TulleError, Unavailable
from tulle.lake.dag import JobBranch, RunBranch, run_branch
from tulle.lake.repository import GateCall, Lake, Repository
from tulle.pipeline import run as runs
from tulle.pipeline.graph import ProductCode, load_code
from tulle.pipeline.job import INGEST, PORT, Job
from tulle.pipeline.make import Made, Making, describe_made, make
from tulle.pipeline.record import (
    RECORDS,
    Record,
    checked_fingerprint,
    made_fingerprint,
    read_record,
    record_path,
)
from tulle.pipeline.run import Report, Run
from tulle.pipeline.table import DataAt, columns_in, data_at
from tulle.quality.check import Check
from tulle.quality.verdict import CheckResult, drift, evaluate
from tulle.spec.mesh import MeshSpec
from tulle.state.db import Database

PUBLISH = "publish"
_METADATA_CHARACTERS = 400_000  # the lake bounds what a commit may say about itself


def execute(database: Database, lake: Lake, spec: MeshSpec, run_id: str) -> Run:
    """Carry out a queued run in this process, in its turn, and tell how it ended.

    What goes wrong is recorded with the run, not raised; only a defect of ours is both.
    """
    asked = runs.get(database, run_id)
    log_line(f"run {run_id} of {asked.product} on {asked.environment}")
    folder = spec.settings.run_folder / "tmp" / run_id
    _clear_spill(database, folder.parent)
    try:
        product = spec.product(asked.product)
        warehouse = spec.settings.warehouse_of(product.domain)
        runs.claim(database, run_id, domain=product.domain, concurrent_runs=warehouse.concurrent_runs)
        code = load_code(product, spec=spec)
        code.require_valid()
        repository = _repository(lake, asked.product)
        with (
            _Watchdog(database, run_id, warehouse.run_timeout_seconds) as watchdog,
            DuckEngine(warehouse, folder / "spill").kept(folder / "room") as engine,
        ):
            execution = _Execution(database, lake, repository, code, engine, asked, folder, watchdog)
            execution.data_folders = spec.settings.data_folders
            execution.carry_out()
    except TulleError as exc:
        _fail(database, run_id, exc)
    except OSError as exc:
        _fail(database, run_id, _disk_error(exc))
    except MemoryError:
        hint = "raise 'memory' of the domain's warehouse in mesh.yaml, or read less at once"
        _fail(
            database, run_id, LimitExceeded("the run needs more memory than its warehouse allows", hint=hint)
        )
    except Exception as exc:
        traceback.print_exc()
        hint = f"this is a defect of Tulle; the full trace is in .tulle/log/run-{run_id}.log"
        _fail(
            database, run_id, Broken(f"the run stopped unexpectedly: {type(exc).__name__}: {exc}", hint=hint)
        )
        raise
    except BaseException:
        stopped = Unavailable(f"run {run_id} was interrupted; nothing was published", hint="run again")
        runs.settle(database, run_id, stopped)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return runs.get(database, run_id)


def _clear_spill(database: Database, folder: Path) -> None:
    """Remove what the engine spilled for runs that were killed before they could."""
    for left in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(NotFound):
            if runs.get(database, left.name).ended:
                shutil.rmtree(left, ignore_errors=True)


def log_line(text: str) -> None:
    """A line into the run's log, which is this process's output."""
    print(text, file=sys.stdout, flush=True)


def count(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _repository(lake: Lake, name: str) -> Repository:
    try:
        return lake.repository(name)
    except NotFound as exc:
        raise NotFound(f"product '{name}' has no repository yet", hint="`tulle apply` makes it") from exc


def _fail(database: Database, run_id: str, error: TulleError) -> None:
    log_line(f"failed: {error.message}")
    for problem in error.problems:
        log_line(f"  {problem}")
    runs.finish(database, run_id, runs.FAILED, error=error)


def _disk_error(exc: OSError) -> TulleError:
    if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return LimitExceeded(
            f"the disk is full: {exc.strerror}{f' ({exc.filename})' if exc.filename else ''}",
            hint="free some space and run again; nothing was published",
        )
    return Invalid(f"a file could not be read or written: {exc}", hint="nothing was published")


class _Watchdog:
    """Ends a run that takes too long, even while foreign code never looks up: the process ends with it.

    Publishing holds the lock, so a run is never called too late and published at the same time.
    """

    def __init__(self, database: Database, run_id: str, seconds: int) -> None:
        self._database, self._run_id, self._seconds = database, run_id, seconds
        self.publishing = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.disarm()

    def disarm(self) -> None:
        """The run has ended by itself."""
        self._done.set()

    def _watch(self) -> None:
        if self._done.wait(self._seconds):
            return
        with self.publishing:
            if self._done.is_set():
                return
            error = LimitExceeded(
                f"the run took longer than {self._seconds:,} s and was stopped",
                hint="raise 'run_timeout_seconds' of the domain's warehouse in mesh.yaml, or do less in one run",
            )
            _fail(self._database, self._run_id, error)
            self.end_process()

    @staticmethod
    def end_process() -> None:
        """Leave at once: every change so far is either whole or not there."""
        os._exit(1)


class _Execution:
    """One run on its way."""

    def __init__(
        self,
        database: Database,
        lake: Lake,
        repository: Repository,
        code: ProductCode,
        engine: Engine,
        run: Run,
        folder: Path,
        watchdog: _Watchdog,
    ) -> None:
        self.database = database
        self.lake = lake
        self.repository = repository
        self.code = code
        self.engine = engine
        self.run = run
        self.folder = folder
        self.watchdog = watchdog
        self.branches: RunBranch
        self.full = bool(run.options.get("full"))
        self.data_folders: tuple[str, ...] = ()
        self.data: dict[str, DataAt] = {}
        self.versions: dict[str, dict[str, str]] = {}  # what was read from outside: port or file → version
        self.changed: list[str] = []

    @property
    def branch(self) -> str:
        """The run's branch."""
        return self.branches.branch

    def carry_out(self) -> None:
        """All jobs in order, then the publishing."""
        environment = self.run.environment
        self.branches = run_branch(self.repository, environment, self.run.id)
        base = self.branches.base
        steps = [(job.name, job.kind) for job in self.code.jobs] + [(PUBLISH, PUBLISH)]
        runs.begin(self.database, self.run.id, branch=self.branch, base_commit=base, steps=steps)
        for job in self.code.jobs:
            with self._reported(job.name):
                self._carry_out(job)
        with self._reported(PUBLISH):
            commit_id = self._publish(base)
        self.branches.discard()
        if commit_id is None:
            runs.finish(self.database, self.run.id, runs.UNCHANGED)
            log_line("everything is up to date")

    @contextlib.contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """A step that fails says why."""
        try:
            yield
        except _Refused as exc:
            runs.step_finished(
                self.database,
                self.run,
                name,
                runs.FAILED,
                rows=exc.rows,
                message=exc.message,
                report=exc.report,
            )
            raise
        except TulleError as exc:
            message = exc.message
            runs.step_finished(self.database, self.run, name, runs.FAILED, message=message)
            raise
        except OSError as exc:
            error = _disk_error(exc)
            runs.step_finished(self.database, self.run, name, runs.FAILED, message=error.message)
            raise error from exc

    # ── one job ──────────────────────────────────────────────────────────────────────────────────────────

    def _carry_out(self, job: Job) -> None:
        if job.kind == PORT:
            self._read_port(job)
            return
        branch = f"ingest-{job.port.name}-{self.run.id}" if job.kind == INGEST and job.port else ""
        branch = branch or f"{self.branch}-{job.name}"
        runs.step_started(self.database, self.run, job.name, branch=branch)
        making = self._making(job)
        before = read_record(self.repository, self.branch, job.name)
        checks = self._checks_due(job)
        made_print = made_fingerprint(job, self.code, making)
        present = data_at(self.repository, self.branch, job.name)
        # Data somebody put there by hand is not what the code makes, so it is made again.
        kept = before and present and (before.made, before.identity) == (made_print, present.identity)
        makes = self.full or not kept
        if not makes and before is not None and present is not None:
            known = {**self.data, job.name: present.with_columns(before.columns)}
            if before.checked == checked_fingerprint(job, self.code, checks, known):
                self._keep(job, before, known[job.name])
                return
        work = self.branches.job(job.name, branch=branch)
        if makes or before is None:
            made = make(self.repository, branch, making, before)
            log_line(f"{job.name}: {count(made.rows, 'row')}")
        else:
            made = describe_made(before)
            log_line(f"{job.name}: not made again, only checked")
        at = data_at(self.repository, branch, job.name)
        assert at is not None
        known = {**self.data, job.name: at.with_columns(made.columns)}
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
        )
        self.repository.put(branch, record_path(job.name), record.to_json(), content_type="application/json")
        work.commit(f"{job.name}: {count(made.rows, 'row')}")
        report = self._merge_job(job, work, made, checks, making)
        merged = data_at(self.repository, self.branch, job.name)
        assert merged is not None
        self.data[job.name] = merged.with_columns(made.columns)
        if job.kind == INGEST:
            self.versions[job.name] = dict(making.versions.get("files", {}))
        self.changed.append(job.name)
        message = None if makes else "only checked again: its code and inputs are unchanged"
        runs.step_finished(
            self.database, self.run, job.name, runs.SUCCEEDED, rows=made.rows, message=message, report=report
        )

    def _making(self, job: Job) -> Making:
        inputs = {name: self.data[name] for name in job.inputs}
        versions = {name: dict(at.version) for name, at in inputs.items()}
        making = Making(job, self.code, self.engine, inputs, versions, self.run.id, self.folder, log_line)
        if job.kind == INGEST:
            making = replace(making, data_folders=self.data_folders).with_files()
        return making

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
        runs.step_finished(self.database, self.run, job.name, runs.UNCHANGED, rows=record.rows, report=report)

    def _read_port(self, job: Job) -> None:
        assert job.upstream is not None
        runs.step_started(self.database, self.run, job.name)
        product, data_set = job.upstream
        upstream = _repository(self.lake, product)
        commit = upstream.resolve("main")  # one commit for the whole run, whatever is published meanwhile
        at = data_at(upstream, commit, data_set, product=product)
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
        checks = self._checks_due(job)
        results = evaluate(self.engine, checks, self._relations(self.data)) if is_new or self.full else ()
        message = f"{product} at {commit[:12]}"
        report = Report(
            checks=results,
            columns=tuple((c.name, c.type) for c in columns),
            inputs={job.name: self.versions[job.name]},
        )
        if any(result.stops for result in results):
            raise _Refused(job.name, report, rows)
        status = runs.SUCCEEDED if is_new else runs.UNCHANGED
        log_line(f"{job.name}: {message}")
        runs.step_finished(
            self.database, self.run, job.name, status, rows=rows, message=message, report=report
        )

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────

    def _checks_due(self, job: Job) -> list[Check]:
        """The checks that this job completes: all they look at is made now, and this job made the last of it."""
        order = {other.name: position for position, other in enumerate(self.code.jobs)}
        due = []
        for name in dict.fromkeys([job.name, *order]):
            for check in self.code.checks_of(name):
                last = max((order.get(n, -1) for n in (check.data_set, *check.others)), default=-1)
                if last == order[job.name]:
                    due.append(check)
        return due

    def _merge_job(
        self, job: Job, work: JobBranch, made: Made, checks: Sequence[Check], making: Making
    ) -> Report:
        """Merge into the run's branch if the checks let it pass; they look at exactly what would be merged."""
        results: list[CheckResult] = []

        def report() -> Report:
            return Report(
                checks=tuple(results),
                metrics=made.metrics,
                columns=tuple((c.name, c.type) for c in made.columns),
                lineage=made.lineage,
                inputs=making.versions,
                models=made.models,
                log=made.log,
            )

        def gate(call: GateCall) -> None:
            at = data_at(self.repository, call.commit.id, job.name)
            known = {**self.data, **({job.name: at} if at else {})}
            for data_set in self.code.product.data_sets:
                if data_set.name == job.name:
                    results.extend(drift(data_set, made.columns, made.rows))
            if not any(result.stops for result in results):
                results.extend(evaluate(self.engine, checks, self._relations(known)))
            if any(result.stops for result in results):
                raise _Refused(job.name, report(), made.rows)

        work.merge(f"{job.name} made by run {self.run.id}", gate=gate)
        for result in results:
            if not result.passed:
                log_line(f"{job.name}: warning: {result.name}: {result.message}")
        return report()

    @staticmethod
    def _relations(data: dict[str, DataAt]) -> dict[str, Relation]:
        return {name: at.relation for name, at in data.items()}

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, base: str) -> str | None:
        """Make everything visible at once; the commit, or None when there is nothing new."""
        removed = self._remove_orphans()
        if not self.changed and not removed:
            runs.step_started(self.database, self.run, PUBLISH)
            runs.step_finished(self.database, self.run, PUBLISH, runs.UNCHANGED, message="nothing new")
            return None
        runs.step_started(self.database, self.run, PUBLISH, branch=self.run.environment)

        def note(call: GateCall) -> None:
            runs.will_publish(self.database, self.run.id, call.commit.id)

        done = [*self.changed, *(f"without {name}" for name in removed)]
        with self.watchdog.publishing:
            merged = self.branches.publish(
                f"Run {self.run.id}: {', '.join(done)}"[:500], metadata=self._metadata(base), gate=note
            )
            commit_id = merged.commit.id
            message = f"{count(len(self.changed), 'data set')} as {commit_id[:12]}"
            if removed:
                message += f"; removed {', '.join(removed)}, which nothing makes any more"
            runs.step_finished(self.database, self.run, PUBLISH, runs.SUCCEEDED, message=message)
            runs.finish(self.database, self.run.id, runs.SUCCEEDED, commit_id=commit_id)
            self.watchdog.disarm()
        log_line(f"published as {commit_id}")
        return commit_id

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
        for name in orphans:
            record = read_record(self.repository, self.branch, name)
            for model in record.models if record else ():
                self.repository.delete_prefix(self.branch, f"models/{model}/")
            self.repository.delete_prefix(self.branch, f"{name}/")
            self.repository.delete(self.branch, record_path(name))
        self.branches.commit(f"Remove {', '.join(orphans)}"[:500])
        return orphans


class _Refused(Denied):
    """A gate said no; carries what the checks found."""

    def __init__(self, name: str, report: Report, rows: int | None) -> None:
        failed = [result for result in report.checks if result.stops]
        first = f"{failed[0].name}: {failed[0].message}"
        super().__init__(
            f"{count(len(failed), 'check')} of '{name}' failed: {first}",
            hint="the published data is as it was; the run's branches are kept to look at",
            problems=[Problem(f"{result.data_set}: {result.name}: {result.message}") for result in failed],
        )
        self.report = report
        self.rows = rows
