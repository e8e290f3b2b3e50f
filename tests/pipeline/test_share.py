"""A domain's runs weigh together as much as one, however many runs and threads it may have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.pipeline.share import LEAST, NICENESS, niceness


@pytest.mark.parametrize("weighing", [1, 2, 3, 4, 8, 12])
def test_equals_weigh_together_as_much_as_one(weighing: int) -> None:
    together = weighing * 1.25 ** -(niceness(weighing) - NICENESS)
    assert 0.88 < together < 1.13  # niceness comes in steps of a quarter


def test_niceness_has_an_end() -> None:
    assert niceness(10**6) == LEAST
    assert niceness(0) == NICENESS


def test_a_run_takes_its_share() -> None:
    code = (
        "import os, pathlib\n"
        "from tulle.config import Warehouse\n"
        "from tulle.pipeline.share import take_share\n"
        "take_share(Warehouse(threads=2, concurrent_runs=2))\n"
        "group = pathlib.Path('/proc/self/autogroup')\n"
        "print(os.nice(0), group.read_text().split()[-1] if group.exists() else '')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
    )
    nice, _, group = done.stdout.strip().partition(" ")
    assert int(nice) == min(LEAST, os.nice(0) + niceness(4))
    if Path("/proc/self/autogroup").exists():
        assert group == str(niceness(2))
