"""Branch locks: whoever moves a branch holds its lock, so that moves take turns and a gate is asked once.

A lock is two columns of the branch's row. It ends when it is let go of, when its time is up, or at once when its
holder was a process of this machine that no longer lives. Losing it is harmless: branches move by
compare-and-swap all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, bindparam, select, update

from tulle.errors import Conflict
from tulle.lake.refs import IS_BRANCH, branch_key, get_branch
from tulle.state.db import now
from tulle.state.tables import lake_branches

LOCK_SECONDS = 60.0

_LOCK = select(lake_branches.c.lock_owner, lake_branches.c.lock_until).where(IS_BRANCH)
_TAKE = (
    update(lake_branches)
    .where(IS_BRANCH, lake_branches.c.lock_owner.is_not_distinct_from(bindparam("previous")))
    .values(lock_owner=bindparam("new_owner"), lock_until=bindparam("until"))
)


def new_owner() -> str:
    """A name for one holding of a lock, from which others can tell whether the holder still lives."""
    return f"{_this_process(os.getpid())}/{uuid4().hex[:12]}"


def try_lock(cx: Connection, repository: int, branch: str, owner: str) -> str | None:
    """Take the branch's lock; returns None when it is ours now, else who holds it. NotFound."""
    row = cx.execute(_LOCK, branch_key(repository, branch)).first()
    if row is None:
        get_branch(cx, repository, branch)  # raises NotFound
        raise Conflict(f"branch '{branch}' is being created", hint="try again")
    if row.lock_owner is not None and row.lock_until > now() and not _is_dead(row.lock_owner):
        return str(row.lock_owner)
    values = {"previous": row.lock_owner, "new_owner": owner, "until": now() + LOCK_SECONDS}
    result = cx.execute(_TAKE, branch_key(repository, branch) | values)
    return None if result.rowcount == 1 else str(row.lock_owner or owner)


def is_held(owner: str | None, until: float | None) -> bool:
    """Whether a branch with these columns is locked by somebody who lives."""
    return owner is not None and (until or 0.0) > now() and not _is_dead(owner)


def keep_lock(cx: Connection, repository: int, branch: str, owner: str) -> None:
    """Hold the lock for another while."""
    query = update(lake_branches).where(IS_BRANCH, lake_branches.c.lock_owner == owner)
    cx.execute(query.values(lock_until=now() + LOCK_SECONDS), branch_key(repository, branch))


def unlock(cx: Connection, repository: int, branch: str, owner: str) -> None:
    """Let go of the lock, if it is still ours."""
    query = update(lake_branches).where(IS_BRANCH, lake_branches.c.lock_owner == owner)
    cx.execute(query.values(lock_owner=None, lock_until=None), branch_key(repository, branch))


class Keeper:
    """Renews what is held for long: one thread, which ends when nothing is held."""

    def __init__(self) -> None:
        self._held: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._runs = False

    @contextlib.contextmanager
    def keeping(self, renew: Callable[[], None]) -> Iterator[None]:
        """Have `renew` called every quarter of a lock's time while the block runs; it must not raise."""
        with self._lock:
            if not self._runs:
                threading.Thread(target=self._run, daemon=True, name="branch-locks").start()
                self._runs = True  # only now: where no thread can be begun, the next one tries again
            self._count += 1
            number = self._count
            self._held[number] = renew
        try:
            yield
        finally:
            with self._lock:
                del self._held[number]

    def _run(self) -> None:
        while True:
            time.sleep(max(0.01, LOCK_SECONDS / 4))
            with self._lock:
                held = list(self._held.values())
                self._runs = bool(held)
            if not held:
                return
            for renew in held:
                renew()


_keeper = cache(lambda _pid: Keeper())  # by pid, because threads stay behind in a fork


def keeper() -> Keeper:
    """That of this process."""
    return _keeper(os.getpid())


def described(owner: str) -> str:
    """The holder of a lock in words."""
    host, pid, _, _ = owner.rsplit("/", 3)
    return f"process {pid} on {host}"


def _process(pid: int) -> str:
    return f"{socket.gethostname()}/{pid}/{_start_time(pid)}"


_this_process = cache(_process)  # by pid, because a forked child is another process


def _start_time(pid: int) -> str:
    """When the process started, in a form that never changes while it lives; "" when there is none."""
    if Path("/proc/self/stat").exists():
        try:
            # Clock ticks since the machine started: unlike a time of day, no clock correction moves it.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return "" if fields[0] in "ZX" else fields[19]  # a zombie does nothing any more
        except (FileNotFoundError, ProcessLookupError):
            return ""
    import psutil  # noqa: PLC0415  only where there is no /proc

    try:
        return str(round(psutil.Process(pid).create_time()))
    except psutil.Error:
        return ""


def _is_dead(owner: str) -> bool:
    # Only of processes on this machine can we know.
    host, pid, started, _ = owner.rsplit("/", 3)
    return host == socket.gethostname() and _start_time(int(pid)) != started
