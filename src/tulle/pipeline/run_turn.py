"""The turn of a run: one of a product and environment at a time, and so many of a warehouse, as they were asked for.

Knows nothing of what runs do.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import psutil
from sqlalchemy import Connection, Row, select, tuple_, update

from tulle.config import Warehouse
from tulle.errors import Conflict, Unavailable
from tulle.events import RUN_STARTED, Event
from tulle.pipeline import run_end
from tulle.pipeline.alive import GONE_AFTER_SECONDS, machine
from tulle.pipeline.run import (
    FAILED,
    QUEUED,
    RUNNING,
    row_in,
)
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import runs


def register_process(database: Database, run_id: str) -> None:
    """Say that this process is the one that carries the run out."""
    process = psutil.Process()
    with database.write() as cx:
        cx.execute(
            update(runs)
            .where(runs.c.id == run_id, runs.c.status == QUEUED)
            .values(pid=process.pid, pid_started=process.create_time(), machine=machine(), alive_at=now())
        )


def claim(
    database: Database, run_id: str, *, warehouse: str, bounds: Warehouse, wait_seconds: float = 3600.0
) -> None:
    """Wait for the run's turn and start it: queued → running, in one transaction.

    One run of a product and environment at a time, and `concurrent_runs` of a warehouse, in the order in which they
    were asked for; the run says which warehouse it is, with its bounds. Raises Conflict when the run is not queued (any
    more), Unavailable when its turn did not come in time.
    """
    register_process(database, run_id)
    _stand_in_line(database, run_id, warehouse)
    deadline = time.monotonic() + wait_seconds
    pause, checked = 0.02, 0.0
    while not _try_start(database, run_id, warehouse, bounds):
        if time.monotonic() > deadline:
            error = Unavailable(
                f"run {run_id} waited {wait_seconds:,.0f} s for its turn",
                hint="`tulle runs` shows what is running; 'concurrent_runs' in mesh.yaml bounds a warehouse's runs",
            )
            run_end.finish(database, run_id, FAILED, error=error)
            raise error
        if time.monotonic() - checked > 2:
            run_end.recover(database)  # whoever holds the turn may be dead
            checked = time.monotonic()
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)


def _stand_in_line(database: Database, run_id: str, warehouse: str) -> None:
    """Say whose turn the run waits for, so that who was asked for later lets it go first."""
    with database.write() as cx:
        mine = row_in(cx, run_id, lock=True)
        if mine.status == QUEUED and mine.options.get("warehouse") != warehouse:
            options = {**mine.options, "warehouse": warehouse}
            cx.execute(update(runs).where(runs.c.id == run_id).values(options=options))


def _try_start(database: Database, run_id: str, warehouse: str, bounds: Warehouse) -> bool:
    process = psutil.Process()
    with database.write() as cx:
        in_turn(cx, "starting a run")  # who else runs decides
        mine = row_in(cx, run_id)
        if mine.status != QUEUED:
            raise Conflict(f"run {run_id} is {mine.status}, so it cannot start")
        others = cx.execute(
            select(runs.c.product, runs.c.environment, runs.c.options).where(runs.c.status == RUNNING)
        ).all()
        if any((o.product, o.environment) == (mine.product, mine.environment) for o in others):
            return False
        room = bounds.concurrent_runs - sum(o.options.get("warehouse") == warehouse for o in others)
        first = _before(cx, mine, warehouse) - {(o.product, o.environment) for o in others}
        if len(first) >= room or (mine.product, mine.environment) in first:
            return False
        cx.execute(
            update(runs)
            .where(runs.c.id == run_id)
            .values(
                status=RUNNING,
                started_at=now(),
                pid=process.pid,
                pid_started=process.create_time(),
                machine=machine(),
                alive_at=now(),
                options={**mine.options, "warehouse": warehouse, "bounds": asdict(bounds)},
            )
        )
        data = {"run": run_id, "environment": mine.environment}
        log.append(cx, Event(RUN_STARTED, mine.product, data))
    return True


def _before(cx: Connection, mine: Row[Any], warehouse: str) -> set[tuple[str, str]]:
    """Product and environment of the runs that wait for the same turn and were asked for before.

    A process that has not come to wait yet, or said nothing for long, holds up nobody.
    """
    query = select(runs.c.product, runs.c.environment, runs.c.options).where(
        runs.c.status == QUEUED,
        tuple_(runs.c.requested_at, runs.c.id) < (mine.requested_at, mine.id),
        runs.c.alive_at > now() - GONE_AFTER_SECONDS,
    )
    return {
        (one.product, one.environment)
        for one in cx.execute(query)
        if one.options.get("warehouse") == warehouse
    }
