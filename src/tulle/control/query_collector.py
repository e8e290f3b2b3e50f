"""When queries are collected from what workers leave, and in which process: `query_log` says how.

A little is collected by a thread of the control plane. Much takes more of a processor than answering did, so it is a
process of its own, which gives way to the services and keeps the control plane free.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from tulle.control.query_log import collect, places, tidy, waiting_bytes
from tulle.control.workspace import Workspace

LOG = logging.getLogger("tulle")
PAUSE_SECONDS = 5.0
COLLECT_SECONDS = 30.0  # each time is a commit; who asks for the log does not wait for it
COLLECT_BYTES = 64 << 20  # of segments, at once
APART_BYTES = 4 << 20  # from which on it is a process of its own
TIDY_EVERY = 3600.0
_PROCESS = "tulle.server.collect_queries"


class Collector:
    """Collects the queries of one mesh's services in the background."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stop = threading.Event()
        self._tidied = -TIDY_EVERY
        self._collected: dict[str, float] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="query-log", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not collected the next one collects."""
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._once()
            except Exception:  # whatever it met, the next time may go well
                LOG.exception("queries are collected, and old ones forgotten, later")
            self._stop.wait(PAUSE_SECONDS)

    def _once(self) -> None:
        for place in places(self._workspace):
            if self._stop.is_set():
                return
            self.look(place)
        if time.monotonic() > self._tidied + TIDY_EVERY:
            self._tidied = time.monotonic()
            tidy(self._workspace)

    def look(self, place: str) -> None:
        """Collect what is there, if it was left alone for long enough or is much."""
        try:
            size = waiting_bytes(self._workspace, place)
            if (
                size < COLLECT_BYTES
                and time.monotonic() < self._collected.get(place, -COLLECT_SECONDS) + COLLECT_SECONDS
            ):
                return
            self._collected[place] = time.monotonic()
            if size > APART_BYTES:
                self._apart(place)
            else:
                collect_place(self._workspace, place, self._stop.is_set)
        except Exception:
            LOG.exception("the queries of '%s' are collected later", place)

    def _apart(self, place: str) -> None:
        folder = str(self._workspace.settings.folder)
        argv = [sys.executable, "-m", _PROCESS, "--mesh", folder, "--place", place]
        # A session of its own, as processors are shared among sessions first.
        self._process = subprocess.Popen(  # noqa: S603  our own module
            argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        with self._process as process:
            _, said = process.communicate()
        if process.returncode and not self._stop.is_set():
            told = said.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            LOG.warning("the queries of '%s' are collected later: %s", place, told[0][:300])


def collect_place(workspace: Workspace, place: str, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Commit all that is complete there. TulleError when something stays for later."""
    while not is_stopped() and collect(workspace, place):
        pass
