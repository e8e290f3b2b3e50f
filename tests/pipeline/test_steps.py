"""Words about steps: recorded together, in order, all of them before what waits for them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tulle.errors import Invalid, LimitExceeded, Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline import step_record
from tulle.pipeline import steps as module
from tulle.pipeline.run import Report
from tulle.pipeline.steps import Steps
from tulle.state import log
from tulle.state.db import Database


@pytest.fixture
def run(database: Database) -> runs.Run:
    run_id = runs.request(database, "sales")
    names = [(f"job{number}", "sql") for number in range(4)]
    step_record.begin(database, run_id, branch="run-x", base_commit="0", steps=names)
    return runs.get(database, run_id)


def statuses(database: Database, run: runs.Run) -> list[str]:
    return [step.status for step in runs.get(database, run.id).steps]


def test_what_is_told_is_recorded_in_order(database: Database, run: runs.Run) -> None:
    steps = Steps(database, run)
    with steps.taken_down():
        steps.started("job0")
        steps.finished("job0", runs.SUCCEEDED, rows=3, message="fine", report=Report())
        steps.kept("job1", 5, Report())
        steps.kept("job2", 6, Report())
        steps.started("job3", branch="b")
        steps.settled()
        assert statuses(database, run) == ["succeeded", "unchanged", "unchanged", "running"]
        steps.finished("job3", runs.FAILED, message="no", branch="kept-here")
    found = runs.get(database, run.id).steps
    assert [(s.rows, s.message, s.branch) for s in found] == [
        (3, "fine", None),
        (5, None, None),
        (6, None, None),
        (None, "no", "kept-here"),
    ]
    assert [entry.kind for entry in log.read(database)] == [
        "step.started",
        "step.finished",
        "steps.kept",
        "step.started",
        "step.finished",
    ]


def test_it_is_recorded_while_the_work_goes_on(database: Database, run: runs.Run) -> None:
    steps = Steps(database, run)
    with steps.taken_down():
        steps.started("job0")
        while statuses(database, run)[0] != "running":
            pass


def test_what_cannot_be_recorded_ends_the_run(
    database: Database, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise LimitExceeded("disk full")

    steps = Steps(database, run)
    monkeypatch.setattr(module.step_record, "tell", full)
    with pytest.raises(LimitExceeded), steps.taken_down():
        steps.started("job0")


def test_why_a_job_failed_is_told_and_not_that_it_cannot_be_recorded(
    database: Database, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise LimitExceeded("disk full")

    steps = Steps(database, run)
    monkeypatch.setattr(module.step_record, "tell", full)
    with pytest.raises(Invalid, match="no such column") as caught, steps.taken_down():
        steps.started("job0")
        raise Invalid("no such column")
    assert caught.value.__notes__ == ["what became of the steps is not recorded: disk full"]


def test_what_could_not_be_recorded_at_first_is_recorded_later(
    database: Database, run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, refused = step_record.tell, threading.Event()

    def busy_once(*given: Any) -> None:
        if not refused.is_set():
            refused.set()
            raise Unavailable("the database is busy")
        tell(*given)

    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(module.step_record, "tell", busy_once)
    steps = Steps(database, run)
    with steps.taken_down():
        steps.started("job0")
        steps.finished("job0", runs.SUCCEEDED)
        assert refused.wait(30)
        steps.started("job1")
        while statuses(database, run)[1] != "running":
            pass
    assert statuses(database, run)[0] == "succeeded"
