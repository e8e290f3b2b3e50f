"""Why a supervised process ended, as far as is known: what it said last, or which signal it met.

Reads a row of the supervisor's table and the end of a log. Knows nothing of what the process does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READ = 8192  # bytes at the end of a log
SHOWN = 500  # characters of what was said


def why_ended(row: Mapping[str, Any]) -> str:
    """The last error in the log of a process that ended by itself, else how it ended; empty when it never did."""
    code = row.get("last_exit")
    if code is None or not row["restarts"]:
        return ""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"it was ended by signal {name}"
    said = (line.partition(" ERROR ")[2] for line in reversed(_end_of(Path(row["log"]))) if " ERROR " in line)
    return next(said, f"it ended with exit code {code}")[:SHOWN]


def _end_of(path: Path) -> list[str]:
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - READ))
            return log.read().decode(errors="replace").splitlines()
    except OSError:
        return []
