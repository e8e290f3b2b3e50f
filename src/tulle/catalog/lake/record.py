"""The pages of what was done in a repository and how it is set up: hooks, imports and exports, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tulle.catalog.lake.opened import Head, Opened
from tulle.lake import export, onboard
from tulle.lake.collect import Collection, collections
from tulle.lake.hooks import record
from tulle.lake.hooks.record import HookRun
from tulle.lake.hooks.record import Run as HooksRun
from tulle.lake.repository import Quota
from tulle.state import tasks
from tulle.state.tasks import Task

RUNS_A_PAGE = 50
WORK_SHOWN = 50
COLLECTIONS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class HooksPage:
    """Runs of hooks, newest first; of one branch where one is named."""

    head: Head
    branch: str
    runs: tuple[HooksRun, ...]
    next: str


@dataclass(frozen=True, slots=True)
class HookRunPage:
    """One run of hooks with what each of them said."""

    head: Head
    run: HooksRun
    hooks: tuple[HookRun, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """An import or an export. `what` says from where or to where; `counts` how far it is, by name."""

    id: str
    kind: str
    status: str
    what: tuple[str, ...]
    branch: str
    commit_id: str
    counts: tuple[tuple[str, int], ...]
    error: str
    actor: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class WorkPage:
    """Imports and exports, newest first; `is_going_on` when one of them has not ended."""

    head: Head
    work: tuple[Work, ...]
    is_going_on: bool


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """How a repository is set up, and its newest collections of garbage."""

    head: Head
    namespace: str
    created_at: float
    metadata: tuple[tuple[str, str], ...]
    protection: tuple[str, ...]
    retention_days: int | None
    retention: tuple[tuple[str, int], ...]
    quota: Quota
    collections: tuple[Collection, ...]


def hooks_page(opened: Opened, *, branch: str, after: str) -> HooksPage:
    """Runs of hooks that have ended, newest first."""
    found = record.list_runs(
        opened.lake.database, opened.repository.record.id, after=after, limit=RUNS_A_PAGE + 1, branch=branch
    )
    following = found[RUNS_A_PAGE - 1].id if len(found) > RUNS_A_PAGE else ""
    return HooksPage(opened.head, branch, tuple(found[:RUNS_A_PAGE]), following)


def hook_run_page(opened: Opened, run_id: str) -> HookRunPage:
    """One run of hooks."""
    run = record.get_run(opened.lake.database, opened.repository.record.id, run_id)
    return HookRunPage(opened.head, run, tuple(record.hooks_of(opened.lake.database, run.id)))


def work_page(opened: Opened) -> WorkPage:
    """Imports and exports of a repository."""
    database, id_ = opened.lake.database, opened.repository.record.id
    found = [
        task
        for kind in (onboard.KIND, export.KIND)
        for task in tasks.recent(database, kind, opened.head.name, limit=WORK_SHOWN)
        if task.request["repository_id"] == id_
    ]
    found.sort(key=lambda task: -task.created_at)
    work = tuple(_work(task) for task in found[:WORK_SHOWN])
    return WorkPage(opened.head, work, any(one.status in {"waiting", "running"} for one in work))


def settings_page(opened: Opened) -> SettingsPage:
    """How a repository is set up."""
    repository = opened.repository
    retention = repository.retention()
    return SettingsPage(
        opened.head,
        repository.storage_namespace,
        repository.created_at,
        tuple(sorted(repository.metadata.items())),
        repository.protection(),
        retention["default_retention_days"] if retention else None,
        tuple(
            (rule["branch_id"], rule["retention_days"]) for rule in (retention or {}).get("branches") or ()
        ),
        repository.quota(),
        tuple(collections(opened.lake, opened.head.name, limit=COLLECTIONS_SHOWN)),
    )


def _work(task: Task) -> Work:
    request, numbers = task.request, task.result or task.progress
    if task.kind == onboard.KIND:
        what = tuple(_origin(source) for source in request["sources"])
        told = {"ingested": "objects", "added": "added", "changed": "changed", "removed": "removed"}
        commit = str((task.result or {}).get("commit") or "")
    else:
        what = (request["destination"],)
        told = {"copied": "copied", "deleted": "deleted", "kept": "left in place"}
        commit = request["commit"]
    return Work(
        task.id,
        task.kind,
        task.status,
        what,
        request.get("branch", ""),
        commit,
        _counts(numbers, told),
        str((task.error or {}).get("message", "")),
        task.actor,
        task.created_at,
        task.updated_at,
    )


def _origin(source: Mapping[str, Any]) -> str:
    """Where an import's source is, as it was asked for."""
    return f"lakefs://{source['repository']}/{source['path']}" if "repository" in source else source["path"]


def _counts(numbers: Mapping[str, Any], told: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    return tuple((word, int(numbers[name])) for name, word in told.items() if name in numbers)
