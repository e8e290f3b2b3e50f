"""What services were asked, counted by minute, hour and day: one SQLite file, written by one, read by many.

Counts and the place in the access log up to which they hold are written in one transaction, so nothing is counted twice
or left out, whatever ends when. What is kept is bounded: minutes for two days, hours for as many days as the mesh
says, and of clients those that asked most; the file has a size that it does not go beyond for long. Knows nothing of
how lines are read and of what is asked of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np

from tulle.observe.batch import SLOWEST, Batch, Cells, Key, Kind, Numbers
from tulle.observe.calls_file import COLUMNS, connected, empty, explaining, opened

FILE: Final = "calls.db"  # relative to .tulle/
MINUTE, HOUR, DAY = 60, 3600, 86_400
WIDTHS: Final = (MINUTE, HOUR, DAY)
MINUTES_KEPT: Final = 2 * DAY  # seconds
OTHERS: Final = "(others)"  # clients that are not told apart
CLIENTS_A_MINUTE: Final = 100  # of a service, told apart; more in an hour
CLIENTS_KEPT: Final = 500  # of a service in an hour or day that is over: those that asked most
WHOLE, BY_CLIENT = 0, 1  # families of keys: all clients in one, and each apart

_LONGEST: Final = 1024  # bytes of durations that are put after one another before they are added up
_SUMS_ADDED: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)
_ADD_CELL: Final = (
    f"INSERT INTO cells VALUES ({', '.join('?' * (4 + len(COLUMNS)))}) "  # noqa: S608  names are ours
    f"ON CONFLICT DO UPDATE SET {_SUMS_ADDED}, durations = "
    f"CASE WHEN length(durations) + length(excluded.durations) <= {_LONGEST} "
    "THEN CAST(durations || excluded.durations AS BLOB) ELSE added(durations, excluded.durations) END"
)
_ADD_TOTAL: Final = (
    f"INSERT INTO totals VALUES ({', '.join('?' * (6 + len(COLUMNS)))}) "  # noqa: S608  names are ours
    f"ON CONFLICT DO UPDATE SET at = max(at, excluded.at), {_SUMS_ADDED}, "
    "durations = added(durations, excluded.durations)"
)


@dataclass(frozen=True, slots=True)
class Place:
    """How far the access log is counted: a file by the digest of its first line, and the bytes of it."""

    file: str
    position: int


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the counting itself. Seconds since the epoch."""

    place: Place
    latest: float  # when the last request that is counted was answered
    lines: int
    unread: int  # lines that were none
    lost: int  # times that the log was gone before it was read
    begun: float


class Calls:
    """The counts of one mesh. Writing is for one thread; reading for any."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._keys: dict[tuple[int, Key], int] = {}
        self._seen: dict[tuple[int, str, str], set[str]] = {}  # clients told apart, by minute and service

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────

    def add(self, batch: Batch, place: Place | None, *, lost: bool = False) -> None:
        """Add what was counted, and remember up to where. LimitExceeded when the disk is full, Unavailable."""
        with self._lock, self._transaction() as cx:
            try:
                self._add(cx, batch)
                self._remember(cx, batch, place, lost=lost)
            except BaseException:
                self._keys.clear()  # those that were new are not there
                raise

    def bring_up(self) -> None:
        """Give a file of before what it lacks, if there is one. Unavailable, Broken."""
        with self._lock:
            if self.file.exists():
                self._connection()

    def note_alive(self, at: float) -> None:
        """Remember that the gateway runs in this minute: if nothing was asked then, nothing was asked."""
        with self._lock, self._transaction() as cx:
            cx.execute("INSERT OR IGNORE INTO alive VALUES (?)", (int(at) // MINUTE * MINUTE,))

    def _add(self, cx: sqlite3.Connection, batch: Batch) -> None:
        # Each width is made of the one before it, and all clients together of each: a request's part is added twice.
        told = batch.counted
        if len(told.name):
            apart, among, whole = self._ids(cx, batch)
            hours = told.put_together(apart, told.at // HOUR * HOUR)
            self._write(cx, MINUTE, told.put_together(among, told.at))
            self._write(cx, HOUR, hours)
            self._write(cx, DAY, _wider(hours, DAY))
            minutes = told.put_together(whole, told.at)
            for width in WIDTHS:
                minutes = _wider(minutes, width)
                self._write(cx, width, minutes)
            self._add_totals(cx, batch)
        self._add_kinds(cx, batch)
        self._add_slow(cx, batch)

    def _ids(self, cx: sqlite3.Connection, batch: Batch) -> tuple[Numbers, Numbers, Numbers]:
        """Of each cell the keys of its client, of it or the others as minutes tell them apart, and of all clients."""
        told = batch.counted
        apart, among, whole = (np.zeros(len(told.name), np.int64) for _ in range(3))
        last, key, client = -1, Key("", "", "", "", ""), ""
        for place, (name, minute) in enumerate(zip(told.name.tolist(), told.at.tolist(), strict=True)):
            if name != last:  # they are in the order of names
                last, key = name, batch.keys[name]
                client = key.client or "(unknown)"
                of_client = self._key(cx, BY_CLIENT, key._replace(client=client))
                of_all = self._key(cx, WHOLE, key._replace(client=""))
            apart[place], whole[place] = of_client, of_all
            among[place] = (
                of_client
                if self._is_told_apart(minute, key.service, key.environment, client)
                else self._key(cx, BY_CLIENT, key._replace(client=OTHERS))
            )
        return apart, among, whole

    def _write(self, cx: sqlite3.Connection, width: int, cells: Cells) -> None:
        names, times, sums = cells.name.tolist(), cells.at.tolist(), cells.sums.T.tolist()
        cx.executemany(_ADD_CELL, zip(repeat(width), names, times, *sums, cells.packed(), strict=False))

    def _add_totals(self, cx: sqlite3.Connection, batch: Batch) -> None:
        told = batch.counted
        names: dict[tuple[str, str, str, str], int] = {}
        of_key = {
            number: names.setdefault((key.service, key.environment, key.generation, key.version), len(names))
            for number in np.unique(told.name).tolist()
            for key in [batch.keys[number]]
        }
        of_cell = np.array([of_key[number] for number in told.name.tolist()], np.int64)
        totals = told.put_together(of_cell, np.zeros(len(of_cell), np.int64))
        latest = int(told.at.max())
        cx.executemany(
            _ADD_TOTAL,
            [
                (*name, latest, *sums, durations, version)
                for (*name, version), sums, durations in zip(
                    names, totals.sums.tolist(), totals.packed(), strict=True
                )
            ],
        )

    def _add_kinds(self, cx: sqlite3.Connection, batch: Batch) -> None:
        for width in WIDTHS:
            found: Counter[Kind] = Counter()
            for what, number in batch.kinds.items():
                found[what._replace(minute=what.minute // width * width)] += number
            cx.executemany(
                "INSERT INTO kinds (at, service, environment, version, generation, kind, violation, requests, width) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
                [(*what, number, width) for what, number in found.items()],
            )
        cx.executemany(  # of days, as those were the last
            "INSERT INTO kind_totals (at, service, environment, version, generation, kind, violation, requests) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "at = max(at, excluded.at), requests = requests + excluded.requests",
            [(*what, number) for what, number in found.items()],
        )

    def _add_slow(self, cx: sqlite3.Connection, batch: Batch) -> None:
        for (hour, service, environment), kept in batch.slow.items():
            cx.executemany(
                "INSERT INTO slow VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(hour, service, environment, *one) for one in kept],
            )
            cx.execute(
                "DELETE FROM slow WHERE service = ?1 AND environment = ?2 AND hour = ?3 AND rowid NOT IN "
                "(SELECT rowid FROM slow WHERE service = ?1 AND environment = ?2 AND hour = ?3 "
                "ORDER BY microseconds DESC LIMIT ?4)",
                (service, environment, hour, SLOWEST),
            )

    def _remember(self, cx: sqlite3.Connection, batch: Batch, place: Place | None, *, lost: bool) -> None:
        if place is None:
            return
        cx.execute(
            "INSERT INTO place VALUES (1, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET file = excluded.file, "
            "position = excluded.position, latest = max(latest, excluded.latest), lines = lines + excluded.lines, "
            "unread = unread + excluded.unread, lost = lost + excluded.lost",
            (place.file, place.position, batch.latest, batch.lines, batch.unread, int(lost), time.time()),
        )

    def _is_told_apart(self, minute: int, service: str, environment: str, client: str) -> bool:
        seen = self._seen.get((minute, service, environment))
        if seen is None:
            if len(self._seen) > 5000:  # minutes long gone
                self._seen.clear()
            seen = self._seen[minute, service, environment] = set()
        if client not in seen and len(seen) >= CLIENTS_A_MINUTE:
            return False
        seen.add(client)
        return True

    def _key(self, cx: sqlite3.Connection, family: int, key: Key) -> int:
        found = self._keys.get((family, key))
        if found is None:
            if len(self._keys) > 200_000:
                self._keys.clear()
            row = cx.execute(
                "SELECT id FROM keys WHERE family = ? AND service = ? AND environment = ? AND operation = ? "
                "AND generation = ? AND client = ? AND version = ?",
                (family, *key),
            ).fetchone()
            if row is None:
                columns = "family, service, environment, operation, generation, client, version"
                row = cx.execute(
                    f"INSERT INTO keys ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",  # noqa: S608  ours
                    (family, *key),
                ).fetchone()
            found = self._keys[family, key] = int(row[0])
        return found

    # ── keeping it bounded ───────────────────────────────────────────────────────────────────────────────

    def keep(self, *, days: int, most_bytes: int, now: float) -> None:
        """Forget what is older than is kept, and clients that asked little; then what makes it too large."""
        with self._lock:
            with self._transaction() as cx:
                for width, kept in ((MINUTE, MINUTES_KEPT), (HOUR, days * DAY), (DAY, days * DAY)):
                    before = int(now) - kept
                    cx.execute("DELETE FROM cells WHERE width = ? AND at < ?", (width, before - width))
                    cx.execute("DELETE FROM kinds WHERE width = ? AND at < ?", (width, before - width))
                cx.execute("DELETE FROM alive WHERE at < ?", (int(now) - MINUTES_KEPT - MINUTE,))
                cx.execute("DELETE FROM slow WHERE hour < ?", (int(now) - days * DAY,))
                for name in ("totals", "kind_totals"):  # a day more: theirs is the day's beginning
                    cx.execute(f"DELETE FROM {name} WHERE at < ?", (int(now) - (days + 1) * DAY,))  # noqa: S608  ours
                for width in (HOUR, DAY):
                    for back in (1, 2, 3):  # times that are over; again, for what came late
                        over = int(now) // width * width - back * width
                        self._fold(cx, width, over)
                        cx.execute(
                            "UPDATE cells SET durations = together(durations) WHERE width = ? AND at = ? "
                            "AND durations != together(durations)",
                            (width, over),
                        )
            self._shrink(most_bytes)
            with self._transaction() as cx:
                cx.execute("DELETE FROM keys WHERE id NOT IN (SELECT DISTINCT key FROM cells)")
                self._keys.clear()

    def _fold(self, cx: sqlite3.Connection, width: int, at: int) -> None:
        """Of a time that is over, keep the clients that asked most, and the others in one."""
        rows = cx.execute(
            "SELECT k.service, k.environment, k.client, sum(c.requests) FROM cells c JOIN keys k ON k.id = c.key "
            "WHERE c.width = ? AND c.at = ? AND k.family = ? GROUP BY 1, 2, 3",
            (width, at, BY_CLIENT),
        )
        by_service: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for service, environment, client, requests in rows:
            by_service.setdefault((service, environment), []).append((requests, client))
        for (service, environment), clients in by_service.items():
            if len(clients) <= CLIENTS_KEPT + 1:
                continue
            clients.sort(reverse=True)
            few = {client for _, client in clients[CLIENTS_KEPT:]} - {OTHERS}
            self._fold_clients(cx, width, at, service, environment, few)

    def _fold_clients(
        self, cx: sqlite3.Connection, width: int, at: int, service: str, environment: str, few: set[str]
    ) -> None:
        columns = ", ".join(f"c.{name}" for name in COLUMNS)
        rows = cx.execute(
            f"SELECT k.id, k.operation, k.generation, k.client, k.version, {columns}, c.durations "  # noqa: S608  ours
            "FROM keys k JOIN cells c ON c.key = k.id AND c.width = ? AND c.at = ? "
            "WHERE k.family = ? AND k.service = ? AND k.environment = ?",
            (width, at, BY_CLIENT, service, environment),
        ).fetchall()
        for id_, operation, generation, client, version, *counted in rows:
            if client in few:
                folded = Key(service, environment, operation, generation, OTHERS, version)
                others = self._key(cx, BY_CLIENT, folded)
                cx.execute(_ADD_CELL, (width, others, at, *counted))
                cx.execute("DELETE FROM cells WHERE width = ? AND key = ? AND at = ?", (width, id_, at))

    def _shrink(self, most_bytes: int) -> None:
        """Forget the oldest, clients' counts first, until it is small enough."""
        for family in (BY_CLIENT, WHOLE):
            while self._bytes() > most_bytes:
                with self._transaction() as cx:
                    row = cx.execute(
                        "SELECT c.width, min(c.at) FROM cells c JOIN keys k ON k.id = c.key WHERE k.family = ? "
                        "AND c.width < ? GROUP BY c.width ORDER BY count(*) DESC LIMIT 1",
                        (family, DAY),
                    ).fetchone()
                    if row is None:
                        break
                    width, oldest = row
                    until = oldest + (DAY if width == HOUR else HOUR)
                    cx.execute(
                        "DELETE FROM cells WHERE width = ? AND at < ? AND key IN "
                        "(SELECT id FROM keys WHERE family = ?)",
                        (width, until, family),
                    )
                self._connection().execute("PRAGMA incremental_vacuum")

    def _bytes(self) -> int:
        cx = self._connection()
        pages, free, size = (
            cx.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> State | None:
        """How far it is; None before anything was counted."""
        if not self.file.exists():
            return None
        with self.read() as cx:
            row = cx.execute(
                "SELECT file, position, latest, lines, unread, lost, begun FROM place"
            ).fetchone()
        return None if row is None else State(Place(row[0], row[1]), *row[2:])

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One view for reading. Unavailable while the file cannot be read, Broken when it is damaged."""
        with explaining(self.file):
            cx = connected(self.file, "ro") if self.file.exists() else empty()
            try:
                cx.execute("BEGIN")
                yield cx
            finally:
                cx.close()

    def close(self) -> None:
        """Release the file; whatever is added opens it again."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with explaining(self.file):
            cx = self._connection()
            cx.execute("BEGIN IMMEDIATE")
            try:
                yield cx
                cx.commit()
            except BaseException:
                cx.rollback()
                raise

    def _connection(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = opened(self.file)
        return self._writer


def _wider(cells: Cells, width: int) -> Cells:
    """The same by key and a longer time."""
    return cells.put_together(cells.name, cells.at // width * width)
