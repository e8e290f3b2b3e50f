"""Whether the process that carries a run out still does, on this machine or on another one.

On its own machine a process is known by its id and the moment it began. On any other it says every few seconds that
it lives; who watches calls it gone when that did not change for a minute of the watching, so clocks need not agree and
a database that was away makes nobody look dead. A process that finds its run ended by somebody else ends itself, so
a run can be stopped from anywhere. Knows no more of a run than its row.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import socket
import threading
import time
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from tulle.errors import TulleError
from tulle.state.db import Database, now
from tulle.state.tables import runs

SAYS_EVERY_SECONDS = 10.0
GONE_AFTER_SECONDS = 60.0
_CLOCK_TOLERANCE_SECONDS = 2.0
_GOING_ON = ("queued", "running")

LOG = logging.getLogger("tulle")


@cache
def machine() -> str:
    """The machine whose process ids this process sees: its name, with a digest that tells containers apart."""
    name = socket.gethostname()
    parts = [name]
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            parts.append(Path(file).read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return f"{name[:100]}:{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:12]}"


def is_alive(pid: int, started: float) -> bool:
    """Whether the process with that id that began at `started` (seconds since the epoch) still runs here."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _CLOCK_TOLERANCE_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# ── watching others ──────────────────────────────────────────────────────────────────────────────────────


class Watch:
    """What one process saw of runs on other machines: what each said last, and since when it says the same."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float | None, float, float]] = {}
        self._lock = threading.Lock()

    def is_gone(self, run_id: str, said: float | None) -> bool:
        """Whether a run has said the same for so long, while we looked all the time, that nobody carries it out."""
        at = time.monotonic()
        with self._lock:
            before, since, looked = self._seen.get(run_id, (said, at, at))
            if said != before or at - looked > GONE_AFTER_SECONDS / 2:
                since = at  # it lives, or it was we who were away
            self._seen[run_id] = said, since, at
            return at - since >= GONE_AFTER_SECONDS

    def forget(self, others: set[str]) -> None:
        """Keep only these."""
        with self._lock:
            for run_id in self._seen.keys() - others:
                del self._seen[run_id]


_WATCHES: WeakKeyDictionary[Database, Watch] = WeakKeyDictionary()


def watch_of(database: Database) -> Watch:
    """What this process saw of the runs of a database."""
    return _WATCHES.setdefault(database, Watch())


# ── saying so ────────────────────────────────────────────────────────────────────────────────────────────


class Heart:
    """Says again and again that this process carries a run out, and ends it when somebody else ended the run."""

    def __init__(self, database: Database, run_id: str) -> None:
        self._database, self._run_id = database, run_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="heart", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(SAYS_EVERY_SECONDS):
            try:
                status = self._say()
            except (TulleError, SQLAlchemyError) as exc:
                # The next time, perhaps; whoever watches waits for several.
                LOG.warning("run %s could not say that it lives: %s", self._run_id, exc)
                continue
            if status == "stopped" and not self._stop.wait(1.0):
                print(f"run {self._run_id} was ended elsewhere; its process ends", flush=True)
                end_session()

    def _say(self) -> str:
        """Say it; how the run stands."""
        mine = runs.c.id == self._run_id
        with self._database.write() as cx:
            if cx.execute(
                update(runs).where(mine, runs.c.status.in_(_GOING_ON)).values(alive_at=now())
            ).rowcount:
                return "running"
            return str(cx.execute(select(runs.c.status).where(mine)).scalar())


def end_session() -> None:
    """End this process at once, and all that it started where it leads a session of its own."""
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
