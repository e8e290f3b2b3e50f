"""The gateway's access log, counted: a line a request in, counts by minute and what a request was out.

A request counts for the minute in which it was answered. Counts are kept apart by service, environment, operation,
generation, client and version; operations are templates that somebody else finds, never paths as callers write them.
Costs some microseconds a line, all of it after the request. Knows no file and no store.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tulle.gateway.log_line import Line, Lines
from tulle.observe.durations import bucket
from tulle.observe.violations import MOCK_REASON, is_violation, kind_of

OTHER: Final = "(other)"  # an operation that no document tells of
MOCK: Final = "(mock)"  # in place of a generation: the gateway answers by examples
SLOWEST: Final = 5  # requests kept of a service and hour
_KNOWN_PATHS: Final = 20_000  # remembered; a longer path than the next is not
_LONGEST_PATH: Final = 200
_MOST_KINDS: Final = 100  # words for errors; there are some thirty
_LONGEST_NAME: Final = 200
# Ways in by which nobody has a name but our own applications and keys; lines without one are of no service.
_OUR_NAMES: Final = frozenset({None, "", "contract", "public"})
# Places in a cell.
REQUESTS, C2, C3, C4, C5, REFUSED, BYTES_IN, BYTES_OUT, MICROSECONDS, SUMS = range(10)

Operations = Callable[[str, str, str], str]  # service, method, path → operation


class Key(NamedTuple):
    """Of what a count is; an empty service is none, an empty client nobody who is known.

    `version` is that of an API, empty of a service at its own address.
    """

    service: str
    environment: str
    operation: str
    generation: str
    client: str
    version: str = ""


class Kind(NamedTuple):
    """Of which requests a number is that the gateway answered itself, in one minute, and by which word.

    `refused`: it is a violation of a policy; else something behind the gateway did not answer.
    """

    minute: int
    service: str
    environment: str
    version: str
    generation: str
    kind: str
    refused: bool


class Slow(NamedTuple):
    """A request that took long; `at` is when it was answered, in seconds since the epoch."""

    microseconds: int
    request_id: str
    at: float
    operation: str
    status: int
    client: str
    generation: str
    version: str


@dataclass(slots=True)
class Cell:
    """What was counted: `sums` in the order of the places above, `durations` by bucket."""

    sums: list[int] = field(default_factory=lambda: [0] * SUMS)
    durations: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Batch:
    """What was counted of some lines. Times are the beginnings of minutes and hours."""

    cells: dict[tuple[int, Key], Cell] = field(default_factory=dict)
    kinds: dict[Kind, int] = field(default_factory=dict)
    slow: dict[tuple[int, str, str], list[Slow]] = field(default_factory=dict)  # hour, service, environment
    lines: int = 0
    unread: int = 0
    latest: float = 0.0  # when the last request was answered


class Tally:
    """Counts lines. Not for several threads at once."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._minutes: dict[str, int] = {}
        self._known: dict[tuple[str, str, str], str] = {}
        self._kinds: set[str] = set()
        self._batch = Batch()

    @property
    def waiting(self) -> int:
        """How many lines were counted and not taken."""
        return self._batch.lines

    def taken(self) -> Batch:
        """What was counted since the last time."""
        taken, self._batch = self._batch, Batch()
        return taken

    def forget_operations(self) -> None:
        """Ask anew which operation a path is."""
        self._known.clear()

    def count(self, told: Lines) -> None:
        """Count lines; one whose time is none is unread, like those that are no lines."""
        batch = self._batch
        batch.lines += len(told.lines) + told.unread
        batch.unread += told.unread
        for line in told.lines:
            try:
                self._add(batch, line)
            except ValueError:
                batch.unread += 1

    def _add(self, batch: Batch, line: Line) -> None:
        micros = line.microseconds
        time = line.time
        begun = self._minutes.get(time[:16])
        if begun is None:
            begun = self._minute(time)
        # when it was answered
        into = int(time[17:19]) * 1_000_000 + int(time[20:23]) * 1000 + micros
        minute = begun + into // 60_000_000 * 60
        service, environment = line.service or "", line.environment or ""
        key = Key(
            service,
            environment,
            self._operation(service, line.method or "", line.path or "") if service else "",
            line.generation or "" if line.reason != MOCK_REASON else MOCK,
            _client(line),
            line.version or "",
        )
        cell = batch.cells.get((minute, key))
        if cell is None:
            cell = batch.cells[minute, key] = Cell()
        sums, status = cell.sums, line.code or 0
        sums[REQUESTS] += 1
        if 200 <= status < 600:
            sums[status // 100 - 1] += 1
        sums[BYTES_IN] += line.bytes_in or 0
        sums[BYTES_OUT] += line.bytes_out or 0
        sums[MICROSECONDS] += micros
        number = bucket(micros)
        cell.durations[number] = cell.durations.get(number, 0) + 1
        if not 200 <= status < 400:
            self._kind(batch, minute, key, status, line)
        at = begun + into / 1e6
        batch.latest = max(batch.latest, at)
        if service:
            _keep_slow(batch, minute, key, micros, at, status, line.request_id or "")

    def _kind(self, batch: Batch, minute: int, key: Key, status: int, line: Line) -> None:
        kind = kind_of(status, line.details, line.reason, line.access, line.error)
        if not kind:
            return
        if kind not in self._kinds:
            if len(self._kinds) >= _MOST_KINDS:
                kind = "GatewayError"
            self._kinds.add(kind)
        refused = is_violation(status, kind)
        if refused:
            batch.cells[minute, key].sums[REFUSED] += 1
        what = Kind(minute, key.service, key.environment, key.version, key.generation, kind, refused)
        batch.kinds[what] = batch.kinds.get(what, 0) + 1

    def _minute(self, time: str) -> int:
        """The beginning of a minute written as `2026-03-01T10:00:…Z`; ValueError for what is none."""
        found = int(dt.datetime.fromisoformat(time[:16] + ":00+00:00").timestamp())
        if len(self._minutes) > 1000:
            self._minutes.clear()
        self._minutes[time[:16]] = found
        return found

    def _operation(self, service: str, method: str, path: str) -> str:
        asked = (service, method, path)
        found = self._known.get(asked)
        if found is None:
            found = self._operations(service, method, path) or OTHER
            if len(path) <= _LONGEST_PATH:
                if len(self._known) >= _KNOWN_PATHS:
                    self._known.clear()
                self._known[asked] = found
        return found


def _client(line: Line) -> str:
    """Who called; whom an issuer, a directory or a list of users names is not an application of that name."""
    client = line.who
    if not client:
        return ""
    client = client[:_LONGEST_NAME]
    return client if line.access in _OUR_NAMES else f"{line.access}:{client}"


def _keep_slow(
    batch: Batch, minute: int, key: Key, micros: int, at: float, status: int, request_id: str
) -> None:
    place = (minute // 3600 * 3600, key.service, key.environment)
    kept = batch.slow.get(place)
    if kept is None:
        kept = batch.slow[place] = []
    elif len(kept) >= SLOWEST and micros <= kept[0].microseconds:
        return
    one = Slow(micros, request_id[:100], at, key.operation, status, key.client, key.generation, key.version)
    if len(kept) < SLOWEST:
        heapq.heappush(kept, one)
    else:
        heapq.heapreplace(kept, one)
