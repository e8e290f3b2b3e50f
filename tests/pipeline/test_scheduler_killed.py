"""Schedulers that are killed: with real processes, every fire becomes one run that is carried out, and no more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, update
from tests.pipeline.conftest import Mesh
from tests.pipeline.crash_points import stride

from tulle.events import PRODUCT_APPLIED, Event
from tulle.lake.repository import open_lake
from tulle.pipeline import backfill, schedule
from tulle.pipeline import run as runs
from tulle.pipeline.scheduler import Scheduler
from tulle.state import log, products
from tulle.state.db import Database, open_database
from tulle.state.tables import runs as run_table
from tulle.state.tables import schedules

DATABASES = ("sqlite", "postgres")
CHILD = Path(__file__).with_name("scheduler_child.py")
MISSED = 3


@contextmanager
def child(mesh: Mesh, *more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(mesh.folder), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def prepare(
    mesh: Mesh, url: str, schedule_says: str = "{cron: '0 0 * * *', catch_up: all}", *, missed: int = MISSED
) -> Database:
    """A mesh whose product `sales` missed some days, all of which are made up for."""
    mesh.write("mesh.yaml", f"name: test\ndatabase: {url}\nwarehouse: {{threads: 1, memory: 256MB}}\n")
    file = mesh.folder / "products/shop/sales/product.yaml"
    says = f"{{definition: what was sold, schedule: {schedule_says}}}"
    file.write_text(file.read_text().replace("{definition: what was sold}", says))
    spec = mesh.spec()
    database = open_database(url)
    open_lake(database, spec.settings.storage_namespace).create_repository("sales")
    with database.write() as cx:
        products.save(cx, spec.product("sales"), code_digest="c")
        log.append(cx, Event(PRODUCT_APPLIED, "sales", {}))
    Scheduler(spec.settings, database).follow()
    if missed:
        midnight = time.time() // 86_400 * 86_400
        with database.write() as cx:
            cx.execute(update(schedules).values(cron_at=midnight - (missed - 1) * 86_400))
            schedule.settle_next(cx, "sales", "main")
    return database


@pytest.mark.system
def test_killed_at_any_commit_of_a_tick_nothing_is_lost_or_runs_twice(tmp_path: Path) -> None:
    """Every seventh of some forty points; all of them where TULLE_TEST_CRASHES is set."""
    script = Path(__file__).with_name("tick_crashes.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "2", stride(7)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(points) > 3, done.stderr
    for point in points:
        assert point["fires"] == ["backfill", "cron"], point
        assert (point["moments"], point["began"], point["started"]) == (4, [1, 1, 1, 1], 4), point
        assert (point["open"], point["backfill"]) == ([], "done"), point
    assert [point["ended"] for point in points] == [None] * (len(points) - 1) + [True]


WAITS = """data_set = "daily"
def check(table):
    import pathlib, time
    calls = pathlib.Path({calls!r})
    with calls.open("a") as file:
        file.write("x")
    while calls.stat().st_size == 2:  # in the second window
        time.sleep(0.01)
    return True
"""
DAILY = """-- kind: incremental
-- time_column: day
-- grain: day
-- start: 2020-02-01
SELECT day, id FROM till_rows WHERE day >= window_start() AND day < window_end()
"""


def test_a_backfill_that_is_killed_goes_on_with_the_window_it_was_at(mesh: Mesh) -> None:
    """The control plane and the run of the second window are killed; the first stays done, the rest is made."""
    calls = mesh.folder / "calls"
    mesh.sales("transform/daily.sql", DAILY)
    mesh.sales("checks/waits.py", WAITS.format(calls=str(calls)))
    says = "{cron: '0 0 1 1 *', retries: 1, retry_delay: 0s}"
    database = prepare(mesh, f"sqlite:///{mesh.folder}/state.db", says, missed=0)
    deadline = time.monotonic() + 120
    try:
        with child(mesh) as first:
            made = backfill.start(database, "sales", "2020-02-01", "2020-02-04")
            while not calls.exists() or calls.stat().st_size < 2:
                assert time.monotonic() < deadline, backfill.get(database, made.id)
                time.sleep(0.02)
            first.kill()
            (under_way,) = runs.recent(database, status="running")
            assert under_way.pid is not None
            os.kill(under_way.pid, signal.SIGKILL)
        with child(mesh):
            while backfill.get(database, made.id).status == "running":
                assert time.monotonic() < deadline, backfill.get(database, made.id)
                time.sleep(0.05)
        found = backfill.get(database, made.id)
        assert (found.status, [w.attempt for w in found.windows]) == ("done", [1, 2, 1])
        made_by = reversed(runs.recent(database))
        assert [(run.options["window"][0], run.status) for run in made_by] == [
            ("2020-02-01", "succeeded"),
            ("2020-02-02", "stopped"),
            ("2020-02-02", "succeeded"),
            ("2020-02-03", "succeeded"),
        ]
        lake = open_lake(database, mesh.spec().settings.storage_namespace)
        files = lake.repository("sales").files("main", "daily/")
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        assert sorted(row["id"] for row in rows) == [1, 2, 3]
    finally:
        database.close()


def test_every_fire_is_carried_out_once_whichever_scheduler_is_killed(
    mesh: Mesh, database_url: str, database_kind: str
) -> None:
    database = prepare(mesh, database_url)
    try:
        with child(mesh, "--die", "1") as first, child(mesh) as second:
            deadline = time.monotonic() + 120
            first_died = False
            while (done := _done(database)) < MISSED:
                assert time.monotonic() < deadline, schedule.fires(database)
                if done == 1 and second.poll() is None and first.poll() is not None:
                    second.send_signal(signal.SIGKILL)  # in the middle of things
                if first.poll() is not None:
                    first_died = True
                if first.poll() is not None and second.poll() is not None:
                    break
                time.sleep(0.05)
            assert first_died or _done(database) == MISSED
        with child(mesh), child(mesh):
            while _done(database) < MISSED:
                assert time.monotonic() < deadline, schedule.fires(database)
                time.sleep(0.1)
        found = schedule.fires(database, product="sales")
        carried_out = [f for f in found if f.status in {"succeeded", "unchanged"}]
        assert Counter(f.fire_at for f in carried_out).most_common(1)[0][1] == 1
        assert len(carried_out) == MISSED
        # What did not come to an end had never begun.
        with database.read() as cx:
            began = cx.execute(select(run_table.c.id).where(run_table.c.started_at.is_not(None))).scalars()
            assert sorted(began) == sorted(str(f.run_id) for f in carried_out)
        assert {f.status for f in found} <= {"succeeded", "unchanged", "stopped"}
        assert not [r for r in runs.recent(database) if not r.ended]
    finally:
        database.close()


def _done(database: Database) -> int:
    return sum(f.status in {"succeeded", "unchanged"} for f in schedule.fires(database, product="sales"))
