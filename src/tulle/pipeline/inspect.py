"""Judging what is published, without making anything: a run whose steps are data sets and whose work is their checks.

It is a run like any other (within its warehouse, in a process of its own, to be stopped and looked at), since checks
may be programs; but it writes nothing to the lake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tulle.engine.engine import Engine
from tulle.errors import Denied, NotFound, Problem
from tulle.lake.hooks.sandbox import Sandbox
from tulle.lake.repository import Lake, Repository
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, step_record
from tulle.pipeline.carry import log_line
from tulle.pipeline.dbt_make import judge_project
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.job import DBT, Job
from tulle.pipeline.judge import Judge
from tulle.pipeline.pin import pinned
from tulle.pipeline.record import read_record
from tulle.pipeline.refusal import refusal_of
from tulle.pipeline.run import Report, Run
from tulle.pipeline.table import DataAt, columns_in, data_at
from tulle.quality.check import Check
from tulle.quality.verdict import CheckResult, drift
from tulle.state.db import Database

CHECKS = "checks"  # what a run's option `only` says
STEP = "check"


def inspect(
    database: Database,
    lake: Lake,
    code: ProductCode,
    engine: Engine,
    run: Run,
    upstream_branch: Callable[[Repository, str], str],
    sandbox: Sandbox | None = None,
    *,
    folder: Path,
) -> None:
    """Carry out the checks of a product on what is published, those with one of the run's `tags` if it has some.

    The tests of its dbt projects are among them. `folder` is for files that do not stay.

    Denied when one of severity error failed, NotFound when there is nothing to check.
    """
    repository = lake.repository(run.product)
    commit = repository.resolve(run.environment)
    data = _published(database, code, lake, repository, commit, upstream_branch)
    tags = set(run.options.get("tags") or ())
    wanted = {name: _checks(code, name, tags) for name in data}
    projects = {
        job.name: job for job in code.jobs if job.kind == DBT and job.name in data and _may_have(job, tags)
    }
    wanted = {name: checks for name, checks in wanted.items() if checks or not tags or name in projects}
    if not wanted:
        hint = (
            f"`tulle run {run.product}` publishes it"
            if not data
            else "`tulle checks` lists them with their tags"
        )
        what = (
            f"no check of '{run.product}' is tagged {', '.join(sorted(tags))}"
            if data
            else f"'{run.product}' has published nothing"
        )
        raise NotFound(f"{what} on '{run.environment}'", hint=hint)
    names = list(wanted)
    step_record.begin(
        database, run.id, branch=run.environment, base_commit=commit, steps=[(name, STEP) for name in names]
    )
    judge = Judge(database, lake, repository, engine, run, upstream_branch)
    judge.sandbox = sandbox or judge.sandbox
    failed: list[CheckResult] = []
    for name in names:
        step_record.step_started(database, run, name)
        record = read_record(repository, commit, name)
        known = record.rows if record else None
        results = _judged(code, judge, name, wanted[name], data, known, with_columns=not tags)
        if name in projects:
            told = judge_project(repository, commit, projects[name], data, engine, folder, log_line)
            results += tuple(result for result in told if not tags or tags & set(result.tags))
        stopping = [result for result in results if result.stops]
        failed += stopping
        step_record.step_finished(
            database,
            run,
            name,
            runs.FAILED if stopping else runs.SUCCEEDED,
            rows=(results[0].total if known is None else known) if results else None,
            report=Report(checks=results),
        )
    if failed:
        named = [f"{result.data_set}: {result.name}" for result in failed]
        raise Denied(
            refusal_of(f"'{run.product}' failed on what is published", named, failed[0].message),
            hint="nothing was changed: what is published stays until a run publishes something better",
            problems=[Problem(f"{r.data_set}: {r.name}: {r.message}") for r in failed],
        )
    run_end.finish(database, run.id, runs.UNCHANGED)


def _published(
    database: Database,
    code: ProductCode,
    lake: Lake,
    repository: Repository,
    commit: str,
    upstream_branch: Callable[[Repository, str], str],
) -> dict[str, DataAt]:
    """Every data set of the product that is there at a commit, and what its ports take, as it is published."""
    found: dict[str, DataAt] = {}
    for job in code.jobs:
        if job.upstream is None:
            at, record = data_at(repository, commit, job.name), read_record(repository, commit, job.name)
        else:
            product, data_set = job.upstream
            try:
                upstream = lake.repository(product)
                pin = pinned(database, upstream, job.port)
                there = pin[0] if pin else upstream.resolve(upstream_branch(upstream, data_set))
            except NotFound:
                continue
            at = data_at(upstream, there, data_set, product=product)
            at = replace(at, name=job.name, relation=replace(at.relation, name=job.name)) if at else None
            record = read_record(upstream, there, data_set)
        if at is not None:
            found[job.name] = at.with_columns(record.types() if record else columns_in(at.relation))
    return found


def _checks(code: ProductCode, data_set: str, tags: set[str]) -> list[Check]:
    return [check for check in code.checks_of(data_set) if not tags or tags & set(check.tags)]


def _may_have(job: Job, tags: set[str]) -> bool:
    """Whether a dbt project may have tests with such tags: it would have to name them somewhere."""
    assert job.dbt is not None
    if not tags:
        return True
    texts = ((job.dbt.folder / path) for path, _ in job.dbt.files if path.endswith((".sql", ".yml", ".yaml")))
    return any(tag in file.read_text(errors="replace") for file in texts if file.is_file() for tag in tags)


def _judged(
    code: ProductCode,
    judge: Judge,
    name: str,
    checks: list[Check],
    data: dict[str, DataAt],
    known: int | None,
    *,
    with_columns: bool,
) -> tuple[CheckResult, ...]:
    results = judge.results(checks, data)
    declared = next((d for d in code.product.data_sets if d.name == name), None)
    if declared is None or not with_columns:
        return results
    rows = max((result.total for result in results), default=0) if known is None else known
    return (*drift(declared, data[name].relation.columns, rows), *results)
