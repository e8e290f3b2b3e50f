"""Whether there is room for what a mesh writes while it runs, and how it is said that there is none.

Without room nothing tells what runs: the process table, the logs and the database stay as they were. Knows nothing of
who writes what.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from tulle.config import Settings
from tulle.errors import LimitExceeded, TulleError, Unavailable

NEEDED: Final = 256 * 1024  # bytes, below which a mesh does not start: tables, locks and first lines of logs
LITTLE: Final = 1024 * 1024  # bytes left, below which it is told


def check_room(settings: Settings) -> None:
    """Write to the state folder as a mesh that starts would. LimitExceeded where there is no room, Unavailable else."""
    probe = settings.run_folder / f"room-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with probe.open("wb") as file:
            file.write(b"\0" * NEEDED)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise refusal(exc, settings.state_folder) from exc
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def refusal(exc: OSError, where: Path) -> TulleError:
    """What it means that the operating system let nothing be written there."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return LimitExceeded(
            f"disk full: {where} could not be written ({exc.strerror}); nothing was changed",
            hint="free some disk space and try again",
        )
    return Unavailable(
        f"{where} could not be written ({exc.strerror or exc}); nothing was changed",
        hint="check who owns it, and whether something else is in its place",
    )


def told_short(settings: Settings) -> str:
    """That there is little room left, so that what is told may be old; nothing where there is enough."""
    try:
        left = shutil.disk_usage(settings.state_folder).free
    except OSError:
        return ""
    if left >= LITTLE:
        return ""
    return f"the disk is full ({left:,} bytes left for {settings.state_folder}): what is told here may be old"
