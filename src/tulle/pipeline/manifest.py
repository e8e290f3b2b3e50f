"""The manifest of a run: the product as it was specified and what came of it, compared with the run before.

The first half is recorded when a run takes its code, the second is the record of the run itself, which never changes
once it has ended. So a manifest is there after every run, also after one that was killed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from tulle.errors import NotFound
from tulle.pipeline import run as runs
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.job import PORT
from tulle.pipeline.run import Run, Step
from tulle.spec.compare import compare
from tulle.state import products
from tulle.state.db import Database, now
from tulle.state.tables import run_manifests
from tulle.state.tables import runs as run_rows


@dataclass(frozen=True, slots=True)
class Started:
    """What a run was started with."""

    run_id: str
    product: str
    branch: str
    version: str | None
    code: str
    document: Mapping[str, Any]


def begin(database: Database, run: Run, code: ProductCode, version: str | None) -> None:
    """Note what a run is made by."""
    with database.write() as cx:
        cx.execute(delete(run_manifests).where(run_manifests.c.run_id == run.id))
        cx.execute(
            insert(run_manifests).values(
                run_id=run.id,
                product=run.product,
                branch=run.environment,
                version=version,
                code=code.digest,
                document=products.as_document(code.product),
                at=now(),
            )
        )


def started(database: Database, run_id: str) -> Started:
    """What a run was started with. NotFound when it never took its code."""
    with database.read() as cx:
        row = cx.execute(select(run_manifests).where(run_manifests.c.run_id == run_id)).first()
    if row is None:
        raise NotFound(
            f"run '{run_id}' has no manifest", hint="it ended before it took its code, or is not known"
        )
    return Started(row.run_id, row.product, row.branch, row.version, row.code, row.document)


def good_run(database: Database, product: str, branch: str, *, before: str | None = None) -> Started | None:
    """The newest run that made or confirmed all that is published on a branch, of those before another one."""
    query = (
        select(run_manifests)
        .join(run_rows, run_rows.c.id == run_manifests.c.run_id)
        .where(
            run_manifests.c.product == product,
            run_manifests.c.branch == branch,
            run_rows.c.status.in_([runs.SUCCEEDED, runs.UNCHANGED]),
            runs.whole(),
        )
        .order_by(run_manifests.c.run_id.desc())
        .limit(1)
    )
    if before is not None:
        query = query.where(run_manifests.c.run_id < before)
    with database.read() as cx:
        row = cx.execute(query).first()
    return (
        None
        if row is None
        else Started(row.run_id, row.product, row.branch, row.version, row.code, row.document)
    )


def manifest(database: Database, run_id: str) -> dict[str, Any]:
    """The whole manifest of a run as plain values. NotFound."""
    run, first = runs.get(database, run_id), started(database, run_id)
    before = good_run(database, first.product, first.branch, before=run_id)
    product = products.from_document(first.document)
    return {
        "run": run.id,
        "product": product.name,
        "version": product.version,
        "environment": run.environment,
        "release": first.version,
        "status": run.status,
        "started_at": _moment(run.started_at),
        "finished_at": _moment(run.finished_at),
        "seconds": _seconds(run.started_at, run.finished_at),
        "code": first.code,
        "base_commit": run.base_commit,
        "commit": run.commit_id,
        "options": dict(run.options),
        "error": run.error,
        "jobs": [_job(step) for step in run.steps],
        "specification": _specification(first.document),
        "compared_with": None if before is None else _compared(database, run, first, before),
    }


def _specification(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without where things were written."""
    return {
        name: item for name, item in document.items() if name not in {"folder", "file", "place", "components"}
    }


def _job(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.kind,
        "status": step.status,
        "rows": step.rows,
        "seconds": _seconds(step.started_at, step.finished_at),
        "columns": [{"name": name, "type": kind} for name, kind in step.columns],
        "inputs": {name: dict(version) for name, version in step.inputs.items()},
        "lineage": {name: [list(pair) for pair in pairs] for name, pairs in step.lineage.items()},
        "checks": [
            {
                "name": check.name,
                "data_set": check.data_set,
                "severity": check.severity,
                "passed": check.passed,
                "failing": check.failing_count,
                "message": check.message,
            }
            for check in step.checks
        ],
        "metrics": {metric.name: metric.value for metric in step.metrics},
        "models": list(step.models),
        "message": step.message,
    }


def _compared(database: Database, run: Run, first: Started, before: Started) -> dict[str, Any]:
    """How this run differs from the one before in what consumers rely on."""
    earlier = runs.get(database, before.run_id)
    differences = [
        {"sentence": change.sentence, "breaking": change.breaking}
        for change in compare(products.from_document(before.document), products.from_document(first.document))
    ]
    old, new = _columns(earlier), _columns(run)
    for name, columns in old.items():
        if name not in new:
            if run.status in {runs.SUCCEEDED, runs.UNCHANGED}:
                differences.append({"sentence": f"data set '{name}' is not made any more", "breaking": True})
            continue
        for column, kind in columns.items():
            if column not in new[name]:
                sentence = f"column '{column}' of '{name}' is gone"
                differences.append({"sentence": sentence, "breaking": True})
            elif new[name][column] != kind:
                sentence = f"column '{column}' of '{name}' is {new[name][column]} (was {kind})"
                differences.append({"sentence": sentence, "breaking": True})
        differences += [
            {"sentence": f"column '{column}' of '{name}' is new", "breaking": False}
            for column in new[name]
            if column not in columns
        ]
    return {
        "run": before.run_id,
        "code_changed": before.code != first.code,
        "compatible": not any(one["breaking"] for one in differences),
        "differences": differences,
    }


def _columns(run: Run) -> dict[str, dict[str, str]]:
    return {step.name: dict(step.columns) for step in run.steps if step.columns and step.kind != PORT}


def _moment(at: float | None) -> str | None:
    return None if at is None else dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds")


def _seconds(started: float | None, finished: float | None) -> float | None:
    return round(finished - started, 3) if started is not None and finished is not None else None
