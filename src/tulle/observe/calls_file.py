"""The file of what services were asked: its tables, how it is opened, and what is wrong with it in words.

A file of before is given what it lacks. Knows nothing of what is counted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tulle.errors import Broken, LimitExceeded, Unavailable
from tulle.observe.durations import added, together

COLUMNS: Final = (
    "requests", "c2", "c3", "c4", "c5", "refused", "bytes_in", "bytes_out", "microseconds",
)  # fmt: skip
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY, family INTEGER NOT NULL, service TEXT NOT NULL, environment TEXT NOT NULL,
    operation TEXT NOT NULL, generation TEXT NOT NULL, client TEXT NOT NULL, version TEXT NOT NULL DEFAULT '',
    UNIQUE (family, service, environment, operation, generation, client, version));
CREATE TABLE IF NOT EXISTS cells (
    width INTEGER NOT NULL, key INTEGER NOT NULL, at INTEGER NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in COLUMNS)}, durations BLOB NOT NULL,
    PRIMARY KEY (width, key, at)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cells_by_time ON cells (width, at);
CREATE TABLE IF NOT EXISTS kinds (
    width INTEGER NOT NULL, service TEXT NOT NULL, environment TEXT NOT NULL, at INTEGER NOT NULL,
    kind TEXT NOT NULL, violation INTEGER NOT NULL, requests INTEGER NOT NULL,
    version TEXT NOT NULL DEFAULT '', generation TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (width, service, environment, at, kind, version, generation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slow (
    hour INTEGER NOT NULL, service TEXT NOT NULL, environment TEXT NOT NULL, microseconds INTEGER NOT NULL,
    request_id TEXT NOT NULL, at REAL NOT NULL, operation TEXT NOT NULL, status INTEGER NOT NULL,
    client TEXT NOT NULL, generation TEXT NOT NULL, version TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS slow_by_hour ON slow (service, environment, hour);
CREATE TABLE IF NOT EXISTS totals (
    service TEXT NOT NULL, environment TEXT NOT NULL, generation TEXT NOT NULL, at INTEGER NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in COLUMNS)}, durations BLOB NOT NULL,
    version TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (service, environment, generation, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kind_totals (
    service TEXT NOT NULL, environment TEXT NOT NULL, kind TEXT NOT NULL, at INTEGER NOT NULL,
    violation INTEGER NOT NULL, requests INTEGER NOT NULL,
    version TEXT NOT NULL DEFAULT '', generation TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (service, environment, kind, version, generation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alive (at INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS place (
    one INTEGER PRIMARY KEY CHECK (one = 1), file TEXT NOT NULL, position INTEGER NOT NULL, latest REAL NOT NULL,
    lines INTEGER NOT NULL, unread INTEGER NOT NULL, lost INTEGER NOT NULL, begun REAL NOT NULL);
"""


def connected(file: Path, mode: str) -> sqlite3.Connection:
    """The file as it is, `ro` for reading or `rw`."""
    return sqlite3.connect(
        f"{file.resolve().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10,
    )


def opened(file: Path) -> sqlite3.Connection:
    """The file for who writes; it is made, or given what it lacks. LimitExceeded, Unavailable, Broken."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with explaining(file):
        if not file.exists():
            _make(file)
        cx = connected(file, "rw")
        # The place in the log is in the same transaction: what a power cut takes back is counted again.
        cx.execute("PRAGMA synchronous = NORMAL")
        cx.execute("PRAGMA cache_size = -32000")  # kB: with less, a batch of many clients reads pages again
        cx.create_function("added", 2, added, deterministic=True)
        cx.create_function("together", 1, together, deterministic=True)
        _bring_up(cx)
        cx.executescript(_SCHEMA)
    return cx


def _make(file: Path) -> None:
    """An empty file with its tables; who reads meets all of it, or none."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    with contextlib.closing(connected(beside, "rwc")) as cx:
        cx.execute("PRAGMA auto_vacuum = INCREMENTAL")
        cx.execute("PRAGMA journal_mode = WAL")
        cx.executescript(_SCHEMA)
    beside.chmod(0o600)
    beside.replace(file)


def _bring_up(cx: sqlite3.Connection) -> None:
    """Give tables of before versions of APIs the columns; what they counted is of none."""
    tables = ("keys", "totals", "kinds", "kind_totals", "slow")
    columns = {name: [row[1] for row in cx.execute(f"PRAGMA table_info({name})")] for name in tables}
    lacking = [name for name in tables if columns[name] and "version" not in columns[name]]
    if not lacking:
        return
    # All but one by their names, too, which SQLite cannot change.
    changed = [name for name in lacking if name != "slow"]
    cx.execute("BEGIN IMMEDIATE")
    try:
        for name in changed:
            cx.execute(f"ALTER TABLE {name} RENAME TO {name}_before")
        if "slow" in lacking:
            cx.execute("ALTER TABLE slow ADD COLUMN version TEXT NOT NULL DEFAULT ''")
        for statement in _SCHEMA.split(";"):
            cx.execute(statement)
        for name in changed:
            known = ", ".join(columns[name])
            cx.execute(f"INSERT INTO {name} ({known}) SELECT {known} FROM {name}_before")  # noqa: S608  ours
            cx.execute(f"DROP TABLE {name}_before")
        cx.execute("COMMIT")
    except BaseException:
        cx.execute("ROLLBACK")
        raise


def empty() -> sqlite3.Connection:
    """Counts of which there are none yet."""
    cx = sqlite3.connect(":memory:", isolation_level=None)
    cx.executescript(_SCHEMA)
    return cx


@contextlib.contextmanager
def explaining(file: Path) -> Iterator[None]:
    """Tell what SQLite cannot do. LimitExceeded, Unavailable, Broken."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        if "full" in str(exc):
            raise LimitExceeded(
                f"the disk is full: counts of calls cannot be written to {file}", hint="make room on it"
            ) from exc
        raise Unavailable(f"counts of calls in {file} cannot be reached: {exc}", hint="try again") from exc
    except sqlite3.DatabaseError as exc:
        raise Broken(
            f"{file} is damaged: {exc}",
            hint="move it away; counting begins anew with what is in the access log",
        ) from exc
