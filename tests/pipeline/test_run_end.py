"""How runs end: once, whoever ends them, and those whose process is gone."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest
from sqlalchemy import update
from tests.pipeline.test_run_turn import claim, dead_process, set_row

from tulle.errors import Conflict, Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, step_record
from tulle.state.db import Database
from tulle.state.tables import runs as table

DATABASES = ("sqlite", "postgres")


def test_of_two_who_end_a_run_at_once_one_does(database: Database) -> None:
    run_id = runs.request(database, "sales")
    claim(database, run_id)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(run_end.finish(database, run_id, runs.STOPPED)))
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
        step_record.begin(
            database, run_id, branch="b", base_commit="c0", steps=[("a", "sql"), ("publish", "publish")]
        )
    before, after = (runs.get(database, run_id) for run_id in ids)
    run_end.settle(database, before.id, Unavailable("it says nothing"), runs.LOST)
    with pytest.raises(Conflict, match="ended meanwhile; it publishes nothing"), database.write() as cx:
        run_end.publishes(cx, before, "c1", "1 data set")
    assert runs.get(database, before.id).status == "stopped"
    late = threading.Thread(
        target=lambda: run_end.settle(database, after.id, Unavailable("it says nothing"), runs.LOST)
    )
    with database.write() as cx:
        run_end.publishes(cx, after, "c1", "1 data set")
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


def test_a_run_whose_process_is_gone_is_stopped(database: Database) -> None:
    dead, reused, alive = (runs.request(database, p) for p in ("a", "b", "c"))
    for run_id in (dead, reused, alive):
        claim(database, run_id, bound=9)
    pid, started = dead_process()
    set_row(database, dead, pid=pid, pid_started=started)
    set_row(database, reused, pid_started=started - 1000)  # our own id, but of an older process
    assert set(run_end.recover(database)) == {dead, reused}
    run = runs.get(database, dead)
    assert run.status == "stopped"
    assert run.error is not None
    assert "ended before the run did" in run.error["message"]
    assert runs.get(database, alive).status == "running"
    assert run_end.recover(database) == ()


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
        assert run_end.recover(database) == (run_id,)
    finally:
        os.waitpid(child, 0)


def test_a_run_that_nobody_starts_is_stopped_after_a_while(database: Database) -> None:
    run_id = runs.request(database, "a")
    assert run_end.recover(database) == ()
    set_row(database, run_id, requested_at=time.time() - 120)
    assert run_end.recover(database) == (run_id,)
