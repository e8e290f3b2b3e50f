"""Waits until one of some child processes has ended, so that who keeps them running need not look for it.

Where the kernel cannot tell (it is not Linux, or has no descriptors left) it waits all of the time it is given. Knows
nothing of why processes run.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Collection


class ChildEnds:
    """Remembers which processes are waited for; not for several threads at once."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}  # by process id, what the kernel tells of its end

    def wait(self, pids: Collection[int], seconds: float) -> None:
        """Return when one of these children of ours has ended, or after so many seconds.

        They are children that nobody has waited for: ids of others may be of other processes by now.
        """
        if not self._follow(set(pids)):
            time.sleep(seconds)
            return
        waiting = select.poll()
        for file in self._files.values():
            waiting.register(file, select.POLLIN)
        with contextlib.suppress(InterruptedError):
            waiting.poll(seconds * 1000)

    def close(self) -> None:
        """Let go of all of them."""
        self._follow(set())

    def _follow(self, pids: set[int]) -> bool:
        """Have a file of each; whether any can be had."""
        for gone in self._files.keys() - pids:
            os.close(self._files.pop(gone))
        for pid in pids - self._files.keys():
            with contextlib.suppress(OSError, AttributeError):
                self._files[pid] = os.pidfd_open(pid)
        return bool(self._files)
