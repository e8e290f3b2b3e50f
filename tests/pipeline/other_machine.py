"""A run's process on what it takes for another machine: python other_machine.py MESH RUN. It says often that it lives."""

from __future__ import annotations

import sys

from tulle.pipeline import alive, run_end, run_turn, worker

alive.SAYS_EVERY_SECONDS = 0.1
run_turn.machine = run_end.machine = worker.machine = lambda: "elsewhere:1"  # type: ignore[attr-defined]
sys.exit(worker.main(["--mesh", sys.argv[1], "--run", sys.argv[2]]))
