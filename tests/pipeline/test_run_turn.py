"""The turns of runs: one at a time, in order, and never for who is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil
import pytest
from sqlalchemy import update

from tulle.config import Warehouse
from tulle.errors import Conflict, Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, run_turn
from tulle.state.db import Database
from tulle.state.tables import runs as table

DATABASES = ("sqlite", "postgres")


def claim(database: Database, run_id: str, warehouse: str = "d", bound: int = 2, wait: float = 0.0) -> None:
    bounds = Warehouse(concurrent_runs=bound)
    run_turn.claim(database, run_id, warehouse=warehouse, bounds=bounds, wait_seconds=wait)


def set_row(database: Database, run_id: str, **values: object) -> None:
    with database.write() as cx:
        cx.execute(update(table).where(table.c.id == run_id).values(**values))


def waiting(database: Database, *ids: str) -> list[threading.Thread]:
    """Runs that wait for their turn, each in a thread; returns when all of them stand in line."""
    threads = [threading.Thread(target=lambda one=one: claim(database, one, bound=1, wait=30)) for one in ids]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for one in ids:
        while runs.get(database, one).options.get("warehouse") != "d":
            time.sleep(0.005)
    return threads


def dead_process() -> tuple[int, float]:
    """A process id and start time of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    process.communicate(b"\n")
    return process.pid, started


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
    run_end.finish(database, first, runs.UNCHANGED)
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


def test_turns_come_in_the_order_in_which_they_were_asked_for(database: Database) -> None:
    ids = [runs.request(database, product) for product in ("first", "a", "b", "c", "b")]
    first, *rest = ids
    claim(database, first, bound=1)
    threads = waiting(database, *reversed(rest))
    held, order = first, []
    for _ in rest:
        run_end.finish(database, held, runs.UNCHANGED)
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


def test_the_turn_of_a_dead_run_is_free(database: Database) -> None:
    first, second = (runs.request(database, "a") for _ in range(2))
    claim(database, first)
    pid, started = dead_process()
    set_row(database, first, pid=pid, pid_started=started)
    claim(database, second, wait=10)
    assert runs.get(database, first).status == "stopped"
