"""The durable queue: each task is run by one worker at a time, on both databases, whatever dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tulle.errors import Conflict, NotFound, Unavailable
from tulle.state import tasks
from tulle.state.db import Database, open_database
from tulle.state.tasks import Again, Running

DATABASES = ("sqlite", "postgres")


def ask(database: Database, kind: str = "count", subject: str = "a", **more: Any) -> str:
    with database.write() as cx:
        return tasks.ask(cx, kind, subject, {"n": 1}, **more)


def test_a_task_is_done_and_remembered(database: Database) -> None:
    id_ = ask(database, actor="ana")
    assert tasks.get(database, id_).status == "waiting"

    def work(running: Running) -> dict[str, Any]:
        running.report({"done": 1})
        assert tasks.get(database, id_).progress == {"done": 1}
        return {"sum": running.task.request["n"] + 1}

    assert tasks.run_one(database, {"count": work}, "me")
    task = tasks.get(database, id_)
    assert (task.status, task.result, task.attempts, task.actor) == ("done", {"sum": 2}, 1, "ana")
    assert not tasks.run_one(database, {"count": work}, "me")
    assert [t.id for t in tasks.recent(database, "count", "a")] == [id_]
    with pytest.raises(NotFound):
        tasks.get(database, "nothing")


def test_only_kinds_one_has_a_handler_for_are_taken(database: Database) -> None:
    ask(database, "other")
    assert tasks.take(database, ["count"], "me") is None


def test_a_task_is_not_taken_before_it_is_due(database: Database) -> None:
    ask(database, delay=60)
    assert tasks.take(database, ["count"], "me") is None


@pytest.mark.parametrize(
    ("failure", "kind"), [(Unavailable("the store is down"), "unavailable"), (KeyError("x"), "broken")]
)
def test_a_failure_is_recorded(database: Database, failure: Exception, kind: str) -> None:
    id_ = ask(database)

    def work(_: Running) -> dict[str, Any]:
        raise failure

    assert tasks.run_one(database, {"count": work}, "me")
    task = tasks.get(database, id_)
    assert task.status == "failed"
    assert task.error is not None
    assert kind in str(task.error).lower()


def test_a_task_that_asks_for_it_is_tried_again(database: Database) -> None:
    id_ = ask(database)

    def work(running: Running) -> dict[str, Any]:
        if running.task.attempts < 3:
            raise Again(0.0, Unavailable("not yet"))
        return {}

    for _ in range(3):
        assert tasks.run_one(database, {"count": work}, "me")
    assert tasks.get(database, id_).status == "done"


def test_a_waiting_task_is_cancelled_at_once_a_running_one_at_its_next_report(database: Database) -> None:
    waiting = ask(database)
    tasks.cancel(database, waiting)
    assert tasks.get(database, waiting).status == "cancelled"
    with pytest.raises(Conflict):
        tasks.cancel(database, waiting)
    running = ask(database)

    def work(task: Running) -> dict[str, Any]:
        tasks.cancel(database, running)
        task.report({})
        raise AssertionError

    assert tasks.run_one(database, {"count": work}, "me")
    assert tasks.get(database, running).status == "cancelled"


def test_the_task_of_a_worker_that_died_is_taken_up_and_the_dead_one_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = ask(database)
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "LEASE_SECONDS", -1.0)
        dead = tasks.take(database, ["count"], "dead")
    assert dead is not None
    taken = tasks.take(database, ["count"], "alive")
    assert taken is not None
    assert (taken.id, taken.attempts, taken.owner) == (id_, 2, "alive")
    with pytest.raises(Conflict):
        Running(database, dead).report({"late": True})
    tasks._end(database, dead, status="failed")
    assert tasks.get(database, id_).status == "running"


def test_of_many_workers_one_runs_each_task(database: Database, database_url: str) -> None:
    wanted = {ask(database, subject=str(n)) for n in range(30)}
    done: list[str] = []
    at_once: list[int] = []
    working = 0
    lock = threading.Lock()

    def work(running: Running) -> dict[str, Any]:
        nonlocal working
        with lock:
            working += 1
            at_once.append(working)
            done.append(running.task.id)
        time.sleep(0.005)
        with lock:
            working -= 1
        return {}

    def worker(number: int) -> Callable[[], None]:
        def run() -> None:
            opened = open_database(database_url)  # as another process has it
            while tasks.run_one(opened, {"count": work}, f"worker-{number}"):
                pass
            opened.close()

        return run

    with ThreadPoolExecutor(4) as pool:
        for ended in [pool.submit(worker(number)) for number in range(4)]:
            ended.result(60)
    assert len(done) == 30
    assert set(done) == wanted
    assert max(at_once) > 1


def test_of_what_is_kept_apart_one_task_runs_at_a_time(database: Database) -> None:
    with database.write() as cx:
        for where in ("here", "here", "there"):
            tasks.ask(cx, "send", "x", {"where": where})
    apart = tasks.Apart("where")
    first, second = (apart.take(database, ["send"], "me") for _ in range(2))
    assert first is not None
    assert second is not None
    assert [first.request["where"], second.request["where"]] == ["here", "there"]
    assert apart.take(database, ["send"], "me") is None
    assert not tasks.run_one(database, {"send": lambda _: {}}, "me", apart)
    apart.end(first)
    assert tasks.run_one(database, {"send": lambda _: {}}, "me", apart)
    assert not tasks.run_one(database, {"send": lambda _: {}}, "me", apart)


def test_a_worker_runs_what_comes_and_stops(database: Database) -> None:
    worker = tasks.Worker(database, {"count": lambda _: {}}, pause=0.01)
    worker.start()
    id_ = ask(database)
    deadline = time.monotonic() + 20
    while tasks.get(database, id_).status != "done":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.stop()
    assert not worker._thread.is_alive()
