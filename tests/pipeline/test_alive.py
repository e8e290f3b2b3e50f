"""Whether runs are carried out, on this machine and on another one that shares the database."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.pipeline.conftest import Mesh, World
from tests.pipeline.test_worker import SLOW, until

from tulle.config import Warehouse
from tulle.pipeline import alive, run_end, run_turn, worker
from tulle.pipeline import run as runs
from tulle.pipeline.alive import Watch, machine
from tulle.state.db import Database
from tulle.state.tables import runs as run_table

ON_POSTGRES = pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)  # what machines can share
CHILD = Path(__file__).with_name("other_machine.py")


def test_a_machine_has_one_name() -> None:
    assert machine() == machine()
    assert len(machine()) < 128


def test_who_says_nothing_new_for_long_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(alive.time, "monotonic", lambda: clock[0])
    watch = Watch()

    def is_gone(said: float, seconds: float) -> bool:
        clock[0] += seconds
        return watch.is_gone("run", said)

    assert not is_gone(5.0, 0)
    assert not is_gone(5.0, 29)
    assert not is_gone(6.0, 29)  # what its clock says does not matter, only that it says something else
    assert not is_gone(6.0, 29)
    assert not is_gone(6.0, 29)
    assert is_gone(6.0, 3)
    watch.forget(set())
    assert not is_gone(6.0, 0)
    assert not is_gone(6.0, 3600)  # nobody looked meanwhile, so nobody knows
    assert not is_gone(6.0, 29)
    assert not is_gone(6.0, 29)
    assert is_gone(6.0, 29)


def test_process_ids_of_another_machine_mean_nothing_here(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = runs.request(database, "sales")
    run_turn.claim(database, run_id, warehouse="shop", bounds=Warehouse())
    with database.write() as cx:  # no such process is here
        cx.execute(update(run_table).values(machine="elsewhere:1", pid=2**22 + 1))
    assert run_end.recover(database) == ()
    monkeypatch.setattr(alive, "GONE_AFTER_SECONDS", 0.0)
    assert run_end.recover(database) == (run_id,)
    ended = runs.get(database, run_id)
    assert (ended.status, ended.cause) == ("stopped", "lost")


@pytest.fixture
def world(mesh: Mesh, database_url: str) -> Iterator[World]:
    mesh.write(
        "mesh.yaml", f"name: test\ndatabase: {database_url}\nwarehouse: {{threads: 1, memory: 256MB}}\n"
    )
    made = World(mesh)
    yield made
    made.database.close()


@contextmanager
def elsewhere(world: World) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A run that another machine carries out, in the middle of a model that does not end by itself."""
    flag = world.mesh.folder / "busy"
    world.mesh.sales("transform/slow.py", SLOW.format(flag=str(flag)))
    run_id = runs.request(world.database, "sales")
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(world.mesh.folder), run_id], start_new_session=True
    )
    try:
        until(flag.exists)
        yield run_id, process
    finally:
        process.kill()
        process.wait()


def watched(world: World, done: Callable[[], bool], seconds: float) -> bool:
    """Look after runs, as a control plane does, until something is done; whether it was in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        run_end.recover(world.database)
        time.sleep(0.05)
    return True


@ON_POSTGRES
def test_a_run_elsewhere_lives_until_its_process_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "GONE_AFTER_SECONDS", 1.0)

    def ended() -> bool:
        return runs.get(world.database, run_id).ended

    with elsewhere(world) as (run_id, process):
        assert runs.get(world.database, run_id).machine == "elsewhere:1"
        assert not watched(world, ended, 1.5)  # longer than one that says nothing would live
        process.kill()
        assert watched(world, ended, 20)
    run = runs.get(world.database, run_id)
    assert (run.status, run.cause) == ("stopped", "lost")
    assert run.error is not None
    assert "nothing was published" in run.error["message"]


@ON_POSTGRES
def test_a_run_elsewhere_is_stopped_from_here(world: World) -> None:
    with elsewhere(world) as (run_id, process):
        worker.stop(world.database, run_id)
        run = runs.get(world.database, run_id)
        assert (run.status, run.cause) == ("stopped", "cancelled")
        process.wait(20)  # it found that it was stopped
