"""The book of runs: turns, progress, and what becomes of a run whose process is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import psutil
import pytest
from sqlalchemy import update

from tulle.config import Warehouse
from tulle.errors import Conflict, Invalid, NotFound, Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline.run import Metric, Report
from tulle.quality.verdict import CheckResult
from tulle.state import log
from tulle.state.db import Database
from tulle.state.tables import runs as table

DATABASES = ("sqlite", "postgres")


def claim(database: Database, run_id: str, warehouse: str = "d", bound: int = 2, wait: float = 0.0) -> None:
    bounds = Warehouse(concurrent_runs=bound)
    runs.claim(database, run_id, warehouse=warehouse, bounds=bounds, wait_seconds=wait)


def set_row(database: Database, run_id: str, **values: object) -> None:
    with database.write() as cx:
        cx.execute(update(table).where(table.c.id == run_id).values(**values))


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


def test_a_run_from_request_to_end(database: Database) -> None:
    run_id = runs.request(database, "sales", environment="dev", options={"full": True})
    run = runs.get(database, run_id)
    assert (run.status, run.environment, run.options, run.ended) == ("queued", "dev", {"full": True}, False)
    claim(database, run_id)
    runs.begin(
        database, run_id, branch="run-x", base_commit="c0", steps=[("a", "sql"), ("b", "sql"), ("c", "sql")]
    )
    runs.step_started(database, run, "a", branch="run-x-a")
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
    runs.step_finished(database, run, "a", runs.SUCCEEDED, rows=3, message="fine", report=report)
    runs.step_started(database, run, "b")
    assert runs.finish(database, run_id, runs.FAILED, error=Invalid("no", hint="do"))
    assert not runs.finish(database, run_id, runs.SUCCEEDED)  # what has ended stays as it ended

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
    runs.begin(database, run_id, branch="b", base_commit="c0", steps=[("a", "sql"), ("b", "sql")])
    runs.step_started(database, run, "a")
    runs.settle(database, run_id, Unavailable("stopped"), runs.CANCELLED)  # its process lives on elsewhere
    runs.step_finished(database, run, "a", runs.SUCCEEDED, rows=3)
    runs.step_started(database, run, "b")
    steps = runs.get(database, run_id).steps
    assert [(s.name, s.status, s.message) for s in steps] == [
        ("a", "failed", "stopped"),
        ("b", "skipped", None),
    ]
    assert log.read(database, newest_first=True, limit=1)[0].kind == "run.finished"
    with pytest.raises(Conflict, match="ended meanwhile"):
        runs.begin(database, run_id, branch="b", base_commit="c0", steps=[("c", "sql")])


def test_of_two_who_end_a_run_at_once_one_does(database: Database) -> None:
    run_id = runs.request(database, "sales")
    claim(database, run_id)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(runs.finish(database, run_id, runs.STOPPED)))
    with database.write() as cx:
        cx.execute(update(table).where(table.c.id == run_id).values(status=runs.SUCCEEDED))
        thread.start()
        thread.join(0.3)
    thread.join()
    assert ended == [False]
    assert runs.get(database, run_id).status == "succeeded"


def test_a_run_that_is_ended_while_it_publishes_is_ended_before_or_after(database: Database) -> None:
    ids = [runs.request(database, "sales", environment=name) for name in ("before", "after")]
    for run_id in ids:
        claim(database, run_id)
        runs.begin(
            database, run_id, branch="b", base_commit="c0", steps=[("a", "sql"), ("publish", "publish")]
        )
    before, after = (runs.get(database, run_id) for run_id in ids)
    runs.settle(database, before.id, Unavailable("it says nothing"), runs.LOST)
    with pytest.raises(Conflict, match="ended meanwhile; it publishes nothing"), database.write() as cx:
        runs.publishes(cx, before, "c1", "1 data set")
    assert runs.get(database, before.id).status == "stopped"
    late = threading.Thread(
        target=lambda: runs.settle(database, after.id, Unavailable("it says nothing"), runs.LOST)
    )
    with database.write() as cx:
        runs.publishes(cx, after, "c1", "1 data set")
        late.start()
        late.join(0.3)
        assert late.is_alive()
    late.join()
    run = runs.get(database, after.id)
    assert (run.status, run.error, run.commit_id) == ("succeeded", None, "c1")
    assert [(s.name, s.status, s.message) for s in run.steps] == [
        ("a", "skipped", None),
        ("publish", "succeeded", "1 data set"),
    ]


def test_one_run_of_a_product_and_environment_at_a_time(database: Database) -> None:
    first, second, elsewhere = (
        runs.request(database, "sales", environment=e) for e in ("main", "main", "dev")
    )
    claim(database, first)
    claim(database, elsewhere)
    with pytest.raises(Conflict, match="is running"):
        claim(database, first)
    started = threading.Event()

    def wait_for_turn() -> None:
        claim(database, second, wait=30)
        started.set()

    thread = threading.Thread(target=wait_for_turn)
    thread.start()
    assert not started.wait(0.2)
    assert runs.get(database, second).status == "queued"
    runs.finish(database, first, runs.UNCHANGED)
    assert started.wait(10)
    thread.join()
    assert runs.get(database, second).status == "running"


def test_a_domain_has_so_many_turns(database: Database) -> None:
    a, b, c, other = (runs.request(database, p) for p in ("a", "b", "c", "other"))
    claim(database, a)
    claim(database, b)
    claim(database, other, warehouse="elsewhere", bound=1)
    with pytest.raises(Unavailable, match="waited 0 s for its turn"):
        claim(database, c)
    assert runs.get(database, c).status == "failed"


def test_racing_for_one_turn_only_one_wins(database: Database) -> None:
    ids = [runs.request(database, f"p{i}") for i in range(6)]
    won = []

    def race(run_id: str) -> None:
        try:
            claim(database, run_id, bound=2, wait=0.05)
            won.append(run_id)
        except Unavailable:
            pass

    threads = [threading.Thread(target=race, args=(run_id,)) for run_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 2


def waiting(database: Database, *ids: str) -> list[threading.Thread]:
    """Runs that wait for their turn, each in a thread; returns when all of them stand in line."""
    threads = [threading.Thread(target=lambda one=one: claim(database, one, bound=1, wait=30)) for one in ids]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for one in ids:
        while runs.get(database, one).options.get("warehouse") != "d":
            time.sleep(0.005)
    return threads


def test_turns_come_in_the_order_in_which_they_were_asked_for(database: Database) -> None:
    ids = [runs.request(database, product) for product in ("first", "a", "b", "c", "b")]
    first, *rest = ids
    claim(database, first, bound=1)
    threads = waiting(database, *reversed(rest))
    held, order = first, []
    for _ in rest:
        runs.finish(database, held, runs.UNCHANGED)
        deadline = time.monotonic() + 20
        while not (started := runs.recent(database, status="running")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        (held,) = (run.id for run in started)
        order.append(held)
    for thread in threads:
        thread.join()
    assert order == rest


def test_who_cannot_start_yet_or_says_nothing_holds_up_nobody(database: Database) -> None:
    running, same, silent, unheard, mine = (runs.request(database, p) for p in ("a", "a", "b", "c", "d"))
    claim(database, running, bound=2)
    with pytest.raises(Unavailable):
        claim(database, same, bound=2)
    set_row(database, same, status="queued", finished_at=None)  # it waits for the run of its own product
    set_row(database, silent, options={"warehouse": "d"}, alive_at=time.time() - 120)
    set_row(database, unheard, options={"warehouse": "elsewhere"}, alive_at=time.time())
    claim(database, mine, bound=2)
    assert runs.get(database, mine).status == "running"


def dead_process() -> tuple[int, float]:
    """A process id and start time of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    process.communicate(b"\n")
    return process.pid, started


def test_a_run_whose_process_is_gone_is_stopped(database: Database) -> None:
    dead, reused, alive = (runs.request(database, p) for p in ("a", "b", "c"))
    for run_id in (dead, reused, alive):
        claim(database, run_id, bound=9)
    pid, started = dead_process()
    set_row(database, dead, pid=pid, pid_started=started)
    set_row(database, reused, pid_started=started - 1000)  # our own id, but of an older process
    assert set(runs.recover(database)) == {dead, reused}
    run = runs.get(database, dead)
    assert run.status == "stopped"
    assert run.error is not None
    assert "ended before the run did" in run.error["message"]
    assert runs.get(database, alive).status == "running"
    assert runs.recover(database) == ()


def test_a_zombie_is_gone(database: Database) -> None:
    run_id = runs.request(database, "a")
    claim(database, run_id)
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        deadline = time.monotonic() + 5
        while psutil.Process(child).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
        set_row(database, run_id, pid=child, pid_started=psutil.Process(child).create_time())
        assert runs.recover(database) == (run_id,)
    finally:
        os.waitpid(child, 0)


def test_a_run_that_nobody_starts_is_stopped_after_a_while(database: Database) -> None:
    run_id = runs.request(database, "a")
    assert runs.recover(database) == ()
    set_row(database, run_id, requested_at=time.time() - 120)
    assert runs.recover(database) == (run_id,)


def test_the_turn_of_a_dead_run_is_free(database: Database) -> None:
    first, second = (runs.request(database, "a") for _ in range(2))
    claim(database, first)
    pid, started = dead_process()
    set_row(database, first, pid=pid, pid_started=started)
    claim(database, second, wait=10)
    assert runs.get(database, first).status == "stopped"
