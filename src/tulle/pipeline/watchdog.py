"""What ends a run that takes longer than its warehouse allows. Knows nothing of what the run does."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable

from tulle.errors import LimitExceeded, TulleError


class Watchdog:
    """Ends a run that takes too long, even while foreign code never looks up: the process ends with it.

    Publishing holds the lock, so a run is never called too late and published at the same time.
    """

    def __init__(self, fail: Callable[[TulleError], None], seconds: int) -> None:
        self._fail, self._seconds = fail, seconds
        self.publishing = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.disarm()

    def disarm(self) -> None:
        """The run has ended by itself."""
        self._done.set()

    def _watch(self) -> None:
        if self._done.wait(self._seconds):
            return
        with self.publishing:
            if self._done.is_set():
                return
            error = LimitExceeded(
                f"the run took longer than {self._seconds:,} s and was stopped",
                hint="raise 'run_timeout_seconds' of the domain's warehouse in mesh.yaml, or the schedule's 'timeout'; "
                "or do less in one run",
            )
            try:
                self._fail(error)
            except Exception:  # noqa: BLE001  it ends all the same: whoever looks for the run finds no process
                traceback.print_exc()
            self.end_process()

    @staticmethod
    def end_process() -> None:
        """Leave at once: every change so far is either whole or not there."""
        os._exit(1)
