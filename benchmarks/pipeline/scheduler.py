"""What 10,000 schedules cost: beginning, a look when nothing is due, firing, lateness, starting runs.

    python benchmarks/pipeline/scheduler.py [SCHEDULES] [--database URL]

Each product has a schedule of its own: a third at a minute of every hour, a third daily in a zone that changes its
clocks, a third every 15 minutes. The scheduler is the real one on a real database (SQLite in a temporary folder, or
the PostgreSQL database named); only the processes of the runs are left out, as they would measure something else. The
clock is the benchmark's, so that hours pass in seconds; every duration is measured. Prints one line a measurement.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from sqlalchemy import func, select, update

from tulle.config import Settings, Warehouse
from tulle.events import PRODUCT_APPLIED, Event
from tulle.pipeline import schedule
from tulle.pipeline.scheduler import BATCH, Scheduler
from tulle.spec.product import DataProduct
from tulle.spec.schedule import Schedule
from tulle.state import log, products
from tulle.state.db import open_database
from tulle.state.tables import schedule_fires, schedules

DOMAINS = 50


def when(number: int) -> Schedule:
    """The schedule of one product."""
    kind = number % 3
    if kind == 0:
        return Schedule(cron=f"{number % 60} * * * *")
    if kind == 1:
        return Schedule(cron=f"{number % 60} {number % 24} * * *", time_zone="Europe/Berlin", retries=2)
    return Schedule(cron="*/15 * * * *", if_running="skip")


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def all_of(work: Callable[[], int]) -> list[float]:
    """Seconds of each piece, until there is none left."""
    took: list[float] = []
    began = time.perf_counter()
    while work():
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
    return took


def show(what: str, value: str) -> None:
    """One line."""
    print(f"{what:<58} {value}", flush=True)


def main() -> None:  # noqa: PLR0915  one measurement after the other
    """Measure."""
    arguments = sys.argv[1:]
    url = arguments.pop(arguments.index("--database") + 1) if "--database" in arguments else ""
    count = int(next((a for a in arguments if a.isdigit()), "10000"))
    with tempfile.TemporaryDirectory(prefix="tulle-scheduler-") as folder:
        database = open_database(url or f"sqlite:///{folder}/state.db")
        clock = [time.time() // 3600 * 3600 + 3600.0]
        settings = Settings(
            folder=Path(folder), scheduled_runs=1000, warehouse=Warehouse(concurrent_runs=1000)
        )
        with database.write() as cx:
            for number in range(count):
                name = f"product-{number:05}"
                one = DataProduct(name, name, f"domain-{number % DOMAINS}", "", schedule=when(number))
                products.save(cx, one, code_digest="c")
        scheduler = Scheduler(settings, database, start=lambda *_: 0, clock=lambda: clock[0])
        pieces = all_of(scheduler.follow)
        show(f"begin with {count:,} products", f"{sum(pieces):8.2f} s")
        show("  the longest that others wait for it", f"{max(pieces) * 1000:8.0f} ms")
        with database.write() as cx:
            for number in range(count):
                log.append(cx, Event(PRODUCT_APPLIED, f"product-{number:05}", {}))
        pieces = all_of(scheduler.follow)
        show(f"all {count:,} applied again without a change", f"{sum(pieces):8.2f} s")
        show("  the longest that others wait for it", f"{max(pieces) * 1000:8.0f} ms")

        with database.write() as cx:  # by the benchmark's clock
            for row in cx.execute(select(schedules)).all():
                following = schedule.schedule_of_row(row).after(clock[0])
                mine = schedules.c.product == row.product
                cx.execute(update(schedules).where(mine).values(cron_at=following, next_at=following))
        idle = [timed(scheduler.step) * 1000 for _ in range(200)]
        show("a look when nothing is due, median", f"{statistics.median(idle):8.2f} ms")
        show("a look when nothing is due, slowest of 200", f"{max(idle):8.2f} ms")

        late: list[float] = []
        busy: list[float] = []
        for _ in range(15):  # a quarter of an hour, minute by minute
            clock[0] += 60
            began = time.perf_counter()
            while scheduler.fire():
                late.append(time.perf_counter() - began)
            busy.append(time.perf_counter() - began)
        with database.read() as cx:
            fired = cx.execute(select(func.count()).select_from(schedule_fires)).scalar_one()
        show(
            f"15 minutes with {fired:,} fires: a minute's work, median",
            f"{statistics.median(busy) * 1000:8.0f} ms",
        )
        show("  the worst minute", f"{max(busy) * 1000:8.0f} ms")
        show("  a fire", f"{sum(busy) / fired * 1000:8.3f} ms")

        at = clock[0]
        with database.write() as cx:
            cx.execute(update(schedules).values(cron_at=at, next_at=at, document=_hourly()))
        began = time.perf_counter()
        done: list[tuple[float, int]] = []
        while number := scheduler.fire():
            done.append((time.perf_counter() - began, number))
        late = [at for at, number in done for _ in range(number)]
        show(f"all {count:,} at one moment: lateness, median", f"{statistics.median(late):8.2f} s")
        show("  the last of them", f"{late[-1]:8.2f} s")
        ticks = [at - before for (before, _), (at, _) in pairwise([(0.0, 0), *done])]
        show(
            f"  a tick of {BATCH}, median and slowest",
            f"{statistics.median(ticks) * 1000:8.0f} ms {max(ticks) * 1000:.0f} ms",
        )

        with database.read() as cx:
            waiting = cx.execute(
                select(func.count()).select_from(schedule_fires).where(schedule_fires.c.status == "waiting")
            ).scalar_one()
        took = timed(scheduler.start_waiting)
        with database.read() as cx:
            started = cx.execute(
                select(func.count()).select_from(schedule_fires).where(schedule_fires.c.status == "started")
            ).scalar_one()
        show(f"a run recorded for its fire, {waiting:,} waiting", f"{took / max(1, started) * 1000:8.3f} ms")
        full = [timed(scheduler.start_waiting) * 1000 for _ in range(20)]
        show("a look when all places are taken, median", f"{statistics.median(full):8.2f} ms")
        known = schedule.all_scheduled(database, limit=100_000)
        took = timed(lambda: schedule.upcoming(known, at + 7 * 86_400, limit=2000))
        show("the next 2,000 fires of all, for the calendar", f"{took * 1000:8.0f} ms")
        database.close()


def _hourly() -> dict[str, object]:
    return {"cron": "0 * * * *", "catch_up": "all"}


if __name__ == "__main__":
    main()
