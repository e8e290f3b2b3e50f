"""Schedulers that are killed: with real processes, every fire becomes one run that is carried out, and no more."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select, update
from tests.pipeline.conftest import Mesh

from tulle.events import PRODUCT_APPLIED, Event
from tulle.lake.repository import open_lake
from tulle.pipeline import run as runs
from tulle.pipeline import schedule
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


def prepare(mesh: Mesh, url: str) -> Database:
    """A mesh whose product `sales` missed some days, all of which are made up for."""
    mesh.write("mesh.yaml", f"name: test\ndatabase: {url}\nwarehouse: {{threads: 1, memory: 256MB}}\n")
    file = mesh.folder / "products/shop/sales/product.yaml"
    says = "{definition: what was sold, schedule: {cron: '0 0 * * *', catch_up: all}}"
    file.write_text(file.read_text().replace("{definition: what was sold}", says))
    spec = mesh.spec()
    database = open_database(url)
    open_lake(database, spec.settings.storage_namespace).create_repository("sales")
    with database.write() as cx:
        products.save(cx, spec.product("sales"), code_digest="c")
        log.append(cx, Event(PRODUCT_APPLIED, "sales", {}))
    Scheduler(spec.settings, database).follow()
    midnight = time.time() // 86_400 * 86_400
    with database.write() as cx:
        cx.execute(update(schedules).values(cron_at=midnight - (MISSED - 1) * 86_400))
        schedule.settle_next(cx, "sales", "main")
    return database


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
