"""Kill a scheduler at one database transaction after another of its ticks, for real, and let two others go on.

    python tick_crashes.py FOLDER FIRST STRIDE

Each point: a child process, in which two hours of a schedule were missed and a backfill was asked for, ticks until it
kills itself just before or right after a commit. Processes of runs are played: what was started is a line of a file.
Then two schedulers tick in turns until all is done. Prints one JSON line a point. A script of its own, because it forks.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from tests.pipeline.crash_points import in_child, killed_at
from tests.pipeline.test_scheduler import World

from tulle.config import Settings
from tulle.pipeline import backfill, run_end, schedule
from tulle.pipeline import run as runs
from tulle.pipeline.scheduler import Scheduler
from tulle.spec.schedule import Schedule
from tulle.state.db import Database, open_database
from tulle.state.tables import runs as run_table

HOURS, WINDOWS = 2, 2
BEFORE = (
    4_000_000_000.0 // 3600 * 3600
)  # after every moment of the real clock, by which a backfill is asked for
LATER = BEFORE + HOURS * 3600


def database_of(folder: Path) -> Database:
    return open_database(f"sqlite:///{folder}/state.db")


def scheduler(folder: Path, database: Database) -> Scheduler:
    """One that notes what it starts, and whose clock stands still after the missed hours."""

    def start(_: Settings, run_id: str) -> int:
        with (folder / "started").open("a") as file:
            file.write(f"{run_id}\n")
        return 0

    made = Scheduler(Settings(folder=folder), database, start=start, clock=lambda: LATER)
    made._tidied = math.inf  # by its clock all that has ended is long ago
    return made


def prepare(folder: Path) -> bool:
    database = database_of(folder)
    world = World(database, folder)
    world.at = BEFORE
    world.apply("orders", Schedule(cron="0 * * * *", catch_up="all"))
    backfill.start(database, "orders", "2026-01-01", f"2026-01-0{WINDOWS + 1}")
    return True


def tick(folder: Path, point: int) -> bool:
    one = scheduler(folder, database_of(folder))
    killed_at(point)
    for _ in range(3):
        one.step()
        _carry_out(folder, one._database)
    return True


def _carry_out(folder: Path, database: Database) -> None:
    """What was started and has not ended begins and ends well."""
    file = folder / "started"
    for run_id in file.read_text().split() if file.exists() else ():
        if runs.get(database, run_id).status == runs.QUEUED:
            with database.write() as cx:
                begun = {"status": runs.RUNNING, "started_at": LATER, "pid": 1, "pid_started": 1.0}
                cx.execute(update(run_table).where(run_table.c.id == run_id).values(**begun))
        run_end.finish(database, run_id, runs.SUCCEEDED)


def go_on(folder: Path) -> dict[str, Any]:
    run_end._NEVER_STARTED_SECONDS = 0.0
    database = database_of(folder)
    two = [scheduler(folder, database), scheduler(folder, database)]
    quiet = 0
    for one in itertools.islice(itertools.cycle(two), 60):
        quiet = 0 if one.step() else quiet + 1
        _carry_out(folder, database)
        if not run_end.recover(database) and quiet > 2:
            break
    found = schedule.fires(database)
    with database.read() as cx:
        began = set(cx.execute(select(run_table.c.id).where(run_table.c.started_at.is_not(None))).scalars())
    times = Counter((fire.reason, fire.fire_at) for fire in found if fire.run_id in began)
    return {
        "fires": sorted({reason for reason, _ in times}),
        "moments": len({(fire.reason, fire.fire_at) for fire in found}),
        "began": sorted(times.values()),
        "open": [fire.status for fire in found if fire.status in {"waiting", "started", "held"}],
        "backfill": backfill.recent(database)[0].status,
        "started": len((folder / "started").read_text().split()),
    }


def main(folder: Path, first: int, every: int) -> None:
    begun = folder / "begun"
    begun.mkdir()
    assert in_child(lambda: prepare(begun))
    for point in itertools.count(first, every):
        here = folder / str(point)
        shutil.copytree(begun, here)
        ended = in_child(lambda here=here, point=point: tick(here, point))  # type: ignore[misc]
        found = in_child(lambda here=here: go_on(here))  # type: ignore[misc]
        print(json.dumps({"point": point, "ended": ended, **found}), flush=True)
        if ended is not None:
            return  # the ticks were over before they came to that point


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
