"""The gateway's access log, counted: lines in, counts by minute and what a request was out.

A request counts for the minute in which it was answered. Counts are kept apart by service, environment, operation,
generation, client and version; operations are templates that somebody else finds, never paths as callers write them.
Costs two or three microseconds a line, all of it after the request: what many lines have in common is looked at once,
and the rest is added up as arrays. Knows no file and no store.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tulle.gateway.log_line import Line, Lines, Name, Numbers
from tulle.observe.batch import SLOWEST, Batch, Key, Kind, Requests, Slow
from tulle.observe.durations import buckets
from tulle.observe.violations import MOCK_REASON, is_violation, kind_of

OTHER: Final = "(other)"  # an operation that no document tells of
MOCK: Final = "(mock)"  # in place of a generation: the gateway answers by examples
_KNOWN_PATHS: Final = 20_000  # remembered; a longer path than the next is not
_LONGEST_PATH: Final = 200
_MOST_KINDS: Final = 100  # words for errors; there are some thirty
_LONGEST_NAME: Final = 200
_MOST_KEYS: Final = 50_000  # remembered
# Ways in by which nobody has a name but our own applications and keys; lines without one are of no service.
_OUR_NAMES: Final = frozenset({"", "contract", "public"})
_MINUTE, _HOUR, _SECOND = 60, 3600, 1_000_000
_ASKED: Final[Callable[[Line], tuple[str | None, str | None, str | None]]] = attrgetter(
    "service", "method", "path"
)
_SIZES: Final = ("bytes_in", "bytes_out")
_APART: Final = 1 << 31  # two numbers are told in one by it

Operations = Callable[[str, str, str], str]  # service, method, path → operation


@dataclass(slots=True)
class _Names:
    """What is known of each name.

    `status` is the place of its class of statuses in sums (0: none), `site` that of its service and environment in
    `sites`, `kinds` why the gateway answered itself, and `refused` whether that is a violation.
    """

    names: Sequence[Name] = ()
    kinds: list[str] = field(default_factory=list)
    sites: dict[tuple[str, str], int] = field(default_factory=dict)
    site: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    status: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    refused: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    has_kind: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


class Tally:
    """Counts lines. Not for several threads at once."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._known: dict[tuple[str | None, ...], int] = {}  # what was asked → the number of its operation
        self._templates: dict[str, int] = {"": 0}
        self._kinds: set[str] = set()
        self._of_names = _Names()
        self._keys: list[Key] = []
        self._numbers: dict[Key, int] = {}
        self._of_asked: dict[int, int] = {}  # name and operation → the number of their key
        self._slow = _Slowest()
        self._parts: list[Requests] = []
        self._batch = Batch()

    @property
    def waiting(self) -> int:
        """How many lines were counted and not taken."""
        return self._batch.lines

    def taken(self) -> Batch:
        """What was counted since the last time."""
        batch, self._batch = self._batch, Batch()
        if self._parts:
            batch.keys, batch.counted = self._keys, Requests.of(self._parts).counted()
        batch.slow = self._slow.kept
        self._parts, self._slow = [], _Slowest()
        if len(self._keys) > _MOST_KEYS:
            self._keys, self._numbers, self._of_asked = [], {}, {}
        return batch

    def forget_operations(self) -> None:
        """Ask anew which operation a path is."""
        self._known.clear()

    def count(self, told: Lines) -> None:
        """Count lines."""
        batch = self._batch
        batch.lines += len(told.lines) + told.unread
        batch.unread += told.unread
        if not told.lines:
            return
        self._learn(told.names)
        ended = told.begun + told.took
        minutes = ended // (_MINUTE * _SECOND) * _MINUTE
        keys = self._keys_of(told)
        known = self._of_names
        into, out = (
            np.array([size or 0 for size in map(attrgetter(name), told.lines)], np.int64) for name in _SIZES
        )
        self._parts.append(
            Requests(
                keys,
                minutes,
                known.status[told.which],
                known.refused[told.which],
                into,
                out,
                told.took,
                buckets(told.took),
            )
        )
        self._add_kinds(batch, told, minutes)
        batch.latest = max(batch.latest, float(ended.max()) / _SECOND)
        sites = known.site[told.which]
        self._slow.look(told, ended, sites, [*known.sites], keys, self._keys)

    def _learn(self, names: Sequence[Name]) -> None:
        known = self._of_names
        if known.names is not names:
            known = self._of_names = _Names(names)
            self._of_asked.clear()
        fresh = names[len(known.kinds) :]
        if not fresh:
            return
        kinds = [*map(self._kind, fresh)]
        known.kinds += kinds
        status = np.array([name.code for name in fresh], np.int64)
        places = np.where((status >= 200) & (status < 600), status // 100 - 1, 0)
        refused = [is_violation(name.code, kind) for name, kind in zip(fresh, kinds, strict=True)]
        sites = [known.sites.setdefault((name.service, name.environment), len(known.sites)) for name in fresh]
        known.status = np.append(known.status, places)
        known.site = np.append(known.site, np.array(sites, np.int64))
        known.refused = np.append(known.refused, np.array(refused, np.bool_))
        known.has_kind = np.append(known.has_kind, np.array([kind != "" for kind in kinds], np.bool_))

    def _kind(self, name: Name) -> str:
        if 200 <= name.code < 400:
            return ""
        said = (one or None for one in (name.details, name.reason, name.access, name.error))
        kind = kind_of(name.code, *said)
        if kind and kind not in self._kinds:
            if len(self._kinds) >= _MOST_KINDS:
                kind = "GatewayError"
            self._kinds.add(kind)
        return kind

    def _keys_of(self, told: Lines) -> Numbers:
        """The number of each line's key."""
        asked = [*map(_ASKED, told.lines)]
        operations = [*map(self._known.get, asked)]
        if None in operations:
            operations = [
                self._operation(*said) if number is None else number
                for number, said in zip(operations, asked, strict=True)
            ]
        pairs, places = np.unique(told.which * _APART + np.array(operations, np.int64), return_inverse=True)
        found = [*map(self._of_asked.get, pairs.tolist())]
        if None in found:
            templates = [*self._templates]
            for place, pair in enumerate(pairs.tolist()):
                if found[place] is None:
                    name = told.names[pair // _APART]
                    found[place] = self._of_asked[pair] = self._key(name, templates[pair % _APART])
        return np.array(found, np.int64)[places]

    def _key(self, name: Name, operation: str) -> int:
        generation = MOCK if name.reason == MOCK_REASON else name.generation
        key = Key(name.service, name.environment, operation, generation, _client(name), name.version)
        number = self._numbers.setdefault(key, len(self._keys))
        if number == len(self._keys):
            self._keys.append(key)
        return number

    def _operation(self, service: str | None, method: str | None, path: str | None) -> int:
        asked = (service, method, path)
        found = self._known.get(asked)
        if found is None:
            said = (self._operations(service, method or "", path or "") or OTHER) if service else ""
            found = self._templates.setdefault(said, len(self._templates))
            if len(path or "") <= _LONGEST_PATH:
                if len(self._known) >= _KNOWN_PATHS:
                    self._known.clear()
                self._known[asked] = found
        return found

    def _add_kinds(self, batch: Batch, told: Lines, minutes: Numbers) -> None:
        known = self._of_names
        has_kind = known.has_kind[told.which]
        if not has_kind.any():
            return
        for (minute, which), number in _counted(minutes[has_kind], told.which[has_kind]):
            name, kind = told.names[which], known.kinds[which]
            generation = MOCK if name.reason == MOCK_REASON else name.generation
            place = (minute, name.service, name.environment, name.version, generation)
            what = Kind(*place, kind, is_violation(name.code, kind))
            batch.kinds[what] = batch.kinds.get(what, 0) + number


class _Slowest:
    """The slowest requests of each service and hour."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, str, str], list[Slow]] = {}

    def look(
        self,
        told: Lines,
        ended: Numbers,
        site: Numbers,
        sites: Sequence[tuple[str, str]],
        key: Numbers,
        keys: Sequence[Key],
    ) -> None:
        """Keep what is slower than what is kept; `site` and `key` are the places in `sites` and `keys` of each line."""
        hours = ended // (_HOUR * _SECOND) * _HOUR
        pairs, places = np.unique(hours * _APART + site, return_inverse=True)
        floors = [self._floor(pair // _APART, *sites[pair % _APART]) for pair in pairs.tolist()]
        slower = np.flatnonzero(told.took > np.array(floors, np.float64)[places])
        # The slowest first, so that what follows is seldom kept.
        for place in slower[np.argsort(-told.took[slower], kind="stable")].tolist():
            self._keep(told, place, int(ended[place]), keys[key[place]])

    def _floor(self, hour: int, service: str, environment: str) -> float:
        """What is kept takes longer."""
        if not service:
            return float("inf")
        kept = self.kept.get((hour, service, environment))
        return -1.0 if kept is None or len(kept) < SLOWEST else kept[0].microseconds

    def _keep(self, told: Lines, place: int, ended: int, key: Key) -> None:
        micros, line = int(told.took[place]), told.lines[place]
        where = (ended // (_HOUR * _SECOND) * _HOUR, key.service, key.environment)
        kept = self.kept.setdefault(where, [])
        if len(kept) >= SLOWEST and micros <= kept[0].microseconds:
            return
        one = Slow(
            micros,
            (line.request_id or "")[:100],
            ended / _SECOND,
            key.operation,
            line.code or 0,
            key.client,
            key.generation,
            key.version,
        )
        if len(kept) < SLOWEST:
            heapq.heappush(kept, one)
        else:
            heapq.heapreplace(kept, one)


def _counted(one: Numbers, other: Numbers) -> Iterator[tuple[tuple[int, int], int]]:
    """Pairs of numbers, and how many there are of each."""
    pairs, counts = np.unique(one * _APART + other, return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        yield divmod(pair, _APART), count


def _client(name: Name) -> str:
    """Who called; whom an issuer, a directory or a list of users names is not an application of that name."""
    if not name.client:
        return ""
    client = name.client[:_LONGEST_NAME]
    return client if name.access in _OUR_NAMES else f"{name.access}:{client}"
