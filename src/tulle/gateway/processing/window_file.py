"""Writes down what windows have counted, a few times a second, in one transaction for all: a SQLite file of its own.

Who counts never waits: what changed is copied on its thread, the disk is another thread's. Ended in order, nothing is
lost; killed, at most what was counted since the last writing. A disk that cannot be written is told in the log, and
counting goes on in memory. Knows nothing of what is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from tulle.gateway.processing.windows import Count, Windows

WRITE_SECONDS: Final = 0.5  # what is lost at most when the process is killed
FORGET_SECONDS: Final = (
    8 * 24 * 3600
)  # longer than the longest window: what nobody asked of for so long is over
_COMPLAIN_SECONDS: Final = 60.0
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS counts (
  policy TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, counts BLOB NOT NULL, PRIMARY KEY (policy, key)
) WITHOUT ROWID
"""
_log = logging.getLogger("tulle.processing")

Row = tuple[str, str, float, bytes | None]  # policy, key, seconds since the epoch, counts or None to forget


class WindowFile:
    """The windows of all policies of a process, and the file they are kept in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._policies: dict[str, Windows] = {}
        self._lock = threading.Lock()  # one writing at a time
        self._complained_at = -_COMPLAIN_SECONDS
        self._unwritten: list[Row] = []
        self._connection: sqlite3.Connection | None = None

    def windows(self, policy: str) -> Windows:
        """The windows of a policy, as they were written down last; the same ones for whoever asks again."""
        if policy not in self._policies:
            windows = Windows()
            with self._lock:
                windows.put_back(self._read(policy))
            self._policies[policy] = windows
        return self._policies[policy]

    async def keep(self) -> None:
        """Write down what changes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            if rows := self._changed():
                await loop.run_in_executor(None, self._write, rows)

    def close(self) -> None:
        """Write down what changed since, and close the file."""
        self._write(self._changed())
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _changed(self) -> list[Row]:
        at = time.time()
        rows: list[Row] = []
        for policy, windows in self._policies.items():
            keys, windows.changed = windows.changed, set()
            rows += [
                (policy, key, at, None if counts is None else msgspec.msgpack.encode(counts))
                for key, counts in windows.counted(keys).items()
            ]
        return rows

    def _write(self, rows: list[Row]) -> None:
        with self._lock:
            rows = [*self._unwritten, *rows]
            self._unwritten = []
            if not rows:
                return
            try:
                connection = self._opened()
                with connection:
                    connection.executemany(
                        "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT (policy, key) "
                        "DO UPDATE SET at = excluded.at, counts = excluded.counts",
                        [row for row in rows if row[3] is not None],
                    )
                    connection.executemany(
                        "DELETE FROM counts WHERE policy = ? AND key = ?",
                        [row[:2] for row in rows if row[3] is None],
                    )
            except (sqlite3.Error, OSError) as exc:
                self._complain(exc)
                # Tried again with what comes next; the newest of each key is enough.
                self._unwritten = list({(row[0], row[1]): row for row in rows}.values())

    def _read(self, policy: str) -> list[tuple[str, list[Count]]]:
        try:
            found = self._opened().execute(
                "SELECT key, counts FROM counts WHERE policy = ? ORDER BY at", (policy,)
            )
            return [(key, msgspec.msgpack.decode(data, type=list[Count])) for key, data in found]
        except (sqlite3.Error, msgspec.MsgspecError, OSError) as exc:
            self._complain(exc)
            return []

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as exc:
                if isinstance(
                    exc, sqlite3.OperationalError
                ):  # locked, no folder, full: it may be so no more later
                    raise
                # It is no database: counts are for a while only, and nobody shall be kept out for them.
                _log.error("%s is damaged and put aside: %s", self._path, exc)
                self._path.replace(self._path.with_suffix(".damaged"))
                self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            with connection:
                connection.execute("DELETE FROM counts WHERE at < ?", (time.time() - FORGET_SECONDS,))
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            raise
        return connection

    def _complain(self, exc: Exception) -> None:
        if time.monotonic() >= self._complained_at + _COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            _log.error("counts of requests cannot be kept in %s: %s", self._path, exc)
