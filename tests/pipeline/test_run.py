"""The book of runs: what is asked for, told and read."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import pytest
from tests.pipeline.test_run_turn import claim

from tulle.errors import Conflict, Invalid, NotFound, Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, step_record
from tulle.pipeline.run import Metric, Report
from tulle.quality.verdict import CheckResult
from tulle.state import log
from tulle.state.db import Database

DATABASES = ("sqlite", "postgres")


def test_ids_sort_by_time_and_runs_are_listed_newest_first(database: Database) -> None:
    ids = []
    for product in ("a", "b", "a"):
        ids.append(runs.request(database, product))
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert [run.id for run in runs.recent(database)] == ids[::-1]
    assert [run.id for run in runs.recent(database, product="a", limit=1)] == [ids[2]]
    assert runs.recent(database, status="running") == ()
    with pytest.raises(NotFound, match="no run 'x'"):
        runs.get(database, "x")


def test_of_many_in_one_millisecond_each_has_an_id(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter(["beef", "beef", "beef", "cafe"])
    monkeypatch.setattr(runs, "now", lambda: 1_800_000_000.5)
    monkeypatch.setattr(runs.secrets, "token_hex", lambda _: next(made))
    ids = [runs.request(database, product) for product in "ab"]
    assert [one[-4:] for one in ids] == ["beef", "cafe"]


def test_a_run_from_request_to_end(database: Database) -> None:
    run_id = runs.request(database, "sales", environment="dev", options={"full": True})
    run = runs.get(database, run_id)
    assert (run.status, run.environment, run.options, run.ended) == ("queued", "dev", {"full": True}, False)
    claim(database, run_id)
    step_record.begin(
        database, run_id, branch="run-x", base_commit="c0", steps=[("a", "sql"), ("b", "sql"), ("c", "sql")]
    )
    step_record.step_started(database, run, "a", branch="run-x-a")
    result = CheckResult("n", "unique", "a", "error", False, 1, 3, "m", ({"x": 1},), ("x",))
    report = Report(
        checks=(result,),
        metrics=(Metric("auc", 0.5),),
        columns=(("x", "integer"),),
        lineage={"x": [["s", "x"]]},
        inputs={"s": {"identity": "i"}},
        models=("m",),
        log=("hello",),
    )
    step_record.step_finished(database, run, "a", runs.SUCCEEDED, rows=3, message="fine", report=report)
    step_record.step_started(database, run, "b")
    assert run_end.finish(database, run_id, runs.FAILED, error=Invalid("no", hint="do"))
    assert not run_end.finish(database, run_id, runs.SUCCEEDED)  # what has ended stays as it ended

    run = runs.get(database, run_id)
    assert (run.status, run.ended) == ("failed", True)
    assert run.error == {"kind": "invalid", "message": "no", "hint": "do", "problems": []}
    assert [(s.name, s.status, s.rows, s.message) for s in run.steps] == [
        ("a", "succeeded", 3, "fine"),
        ("b", "failed", None, "no"),
        ("c", "skipped", None, None),
    ]
    first = run.steps[0]
    assert (first.checks, first.metrics, first.columns) == ((result,), report.metrics, report.columns)
    assert (first.lineage, first.inputs, first.models, first.log) == (
        {"x": [["s", "x"]]},
        report.inputs,
        ("m",),
        ("hello",),
    )
    json.dumps(asdict(run))
    ends = [entry.data for entry in log.read(database) if entry.kind == "run.finished"]
    assert [(end["run"], end["status"], end["error"]) for end in ends] == [(run_id, "failed", "no")]
    steps = [entry.data for entry in log.read(database) if entry.kind == "step.finished"]
    assert steps[0]["failed_checks"] == ["n"]


def test_what_is_told_of_a_run_that_was_ended_comes_too_late(database: Database) -> None:
    run_id = runs.request(database, "sales")
    claim(database, run_id)
    run = runs.get(database, run_id)
    step_record.begin(database, run_id, branch="b", base_commit="c0", steps=[("a", "sql"), ("b", "sql")])
    step_record.step_started(database, run, "a")
    run_end.settle(database, run_id, Unavailable("stopped"), runs.CANCELLED)  # its process lives on elsewhere
    step_record.step_finished(database, run, "a", runs.SUCCEEDED, rows=3)
    step_record.step_started(database, run, "b")
    steps = runs.get(database, run_id).steps
    assert [(s.name, s.status, s.message) for s in steps] == [
        ("a", "failed", "stopped"),
        ("b", "skipped", None),
    ]
    assert log.read(database, newest_first=True, limit=1)[0].kind == "run.finished"
    with pytest.raises(Conflict, match="ended meanwhile"):
        step_record.begin(database, run_id, branch="b", base_commit="c0", steps=[("c", "sql")])
