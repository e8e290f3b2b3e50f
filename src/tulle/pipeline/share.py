"""What share of the machine a run gets beside others: a domain's runs weigh together as much as one, whatever it runs.

The kernel shares processors among sessions (each run is one) where it groups tasks by session, else among threads.
So a run of a domain that may have two at a time weighs half as much, and the threads of one share that: whoever asks
for more turns or threads gets more of what is idle, and no more of what others want. Runs as a whole give way to the
services on the same machine.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

import psutil

from tulle.config import Warehouse

NICENESS = 5  # of a domain with a single run of a single thread
LEAST = 19
_STEP = 1.25  # a task one step nicer weighs so much less
_AUTOGROUP = Path("/proc/self/autogroup")


def niceness(weighing: int) -> int:
    """How nice each of so many equals is, for them to weigh together as much as one of NICENESS."""
    return min(LEAST, NICENESS + round(math.log(max(1, weighing)) / math.log(_STEP)))


def take_share(warehouse: Warehouse) -> None:
    """Make this process weigh what a run of its warehouse does; it must be the leader of its session."""
    runs = max(1, warehouse.concurrent_runs)
    os.nice(niceness(runs * warehouse.threads))
    with contextlib.suppress(OSError):  # a kernel without groups, or one that refuses for now
        _AUTOGROUP.write_text(str(niceness(runs)))
    if hasattr(psutil, "IOPRIO_CLASS_BE"):
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)
