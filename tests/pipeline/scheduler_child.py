"""A scheduler in a process of its own, as a control plane has it; `--die N` kills it just before it starts its Nth run.

python scheduler_child.py MESH [--die N]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tulle.config import Settings
from tulle.pipeline import run_end, worker
from tulle.pipeline.scheduler import Scheduler
from tulle.spec.mesh import load_settings
from tulle.state.db import open_database


def main() -> None:
    run_end._NEVER_STARTED_SECONDS = 4.0  # a minute is long for a test
    settings = load_settings(Path(sys.argv[1]))
    left = int(sys.argv[3]) if "--die" in sys.argv else 0

    def start(settings: Settings, run_id: str) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return worker.start(settings, run_id)

    database = open_database(settings.database_url)
    scheduler = Scheduler(settings, database, start=start)
    print("ready", flush=True)
    while True:
        run_end.recover(database)
        if not scheduler.step():
            time.sleep(0.1)


if __name__ == "__main__":
    main()
