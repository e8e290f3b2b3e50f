"""What was counted of some lines: sums and durations by minute and key, as arrays and as they are read.

Knows nothing of lines, and not how it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tulle.observe.durations import BUCKETS

SLOWEST: Final = 5  # requests kept of a service and hour
# Places in the sums of a cell.
REQUESTS, C2, C3, C4, C5, REFUSED, BYTES_IN, BYTES_OUT, MICROSECONDS, SUMS = range(10)

_MINUTE: Final = 60
_TIMES: Final = 1 << 32  # more than there are minutes

Numbers = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells as arrays: of which name (a number that somebody else gives) and time each is, and its sums, a row each.

    Of durations there is a row for each bucket that has some: `cell`, the place of the cell it is of, in order, then
    bucket and count.
    """

    name: Numbers
    at: Numbers
    sums: Numbers
    cell: Numbers
    bucket: Numbers
    count: Numbers

    def put_together(self, name: Numbers, at: Numbers) -> Cells:
        """The same by other names and times, those that are equal added up; in the order of names, then times."""
        names, times, places = _apart(name, at)
        sums = np.zeros((len(names), self.sums.shape[1]), np.int64)
        for column in range(self.sums.shape[1]):
            np.add.at(sums[:, column], places, self.sums[:, column])
        found, where = np.unique(places[self.cell] * BUCKETS + self.bucket, return_inverse=True)
        count = np.zeros(len(found), np.int64)
        np.add.at(count, where, self.count)
        return Cells(names, times, sums, found // BUCKETS, found % BUCKETS, count)

    def packed(self) -> list[bytes]:
        """The durations of each cell, packed."""
        flat = np.empty((len(self.bucket), 2), "<u4")
        flat[:, 0], flat[:, 1] = self.bucket, np.minimum(self.count, 0xFFFFFFFF)
        data = flat.tobytes()
        ends = np.searchsorted(self.cell, np.arange(len(self.name) + 1)) * 8
        places = ends.tolist()
        return [data[begin:end] for begin, end in pairwise(places)]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests as arrays, in any order.

    `status` is the place of a class of statuses in sums, 0 of none; `into` and `out` are bytes, `took` microseconds,
    and `bucket` the one that this is in.
    """

    name: Numbers
    minute: Numbers
    status: Numbers
    refused: NDArray[np.bool_]
    into: Numbers
    out: Numbers
    took: Numbers
    bucket: Numbers

    @classmethod
    def of(cls, parts: Sequence[Requests]) -> Requests:
        """Several as one."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))

    def counted(self) -> Cells:
        """Their cells, in the order of names, then minutes."""
        names, times, places = _apart(self.name, self.minute)
        sums = np.zeros((len(names), SUMS), np.int64)
        sums[:, REQUESTS] = np.bincount(places, minlength=len(names))
        for status in (C2, C3, C4, C5):
            sums[:, status] = np.bincount(places[self.status == status], minlength=len(names))
        sums[:, REFUSED] = np.bincount(places[self.refused], minlength=len(names))
        for column, values in ((BYTES_IN, self.into), (BYTES_OUT, self.out), (MICROSECONDS, self.took)):
            np.add.at(sums[:, column], places, values)
        found, count = np.unique(places * BUCKETS + self.bucket, return_counts=True)
        return Cells(names, times, sums, found // BUCKETS, found % BUCKETS, count)


def _apart(name: Numbers, at: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Each pair of a name and a time once, in their order, and which pair each place is. Times are minutes' begins."""
    pairs, places = np.unique(name * _TIMES + at // _MINUTE, return_inverse=True)
    return pairs // _TIMES, pairs % _TIMES * _MINUTE, places


def _none(*shape: int) -> Numbers:
    return np.zeros(shape or 0, np.int64)


NO_CELLS: Final = Cells(_none(), _none(), _none(0, SUMS), _none(), _none(), _none())


@dataclass(slots=True)
class Batch:
    """What was counted of some lines. Times are the beginnings of minutes and hours.

    The names of `counted` are places in `keys`.
    """

    keys: Sequence[Key] = ()
    counted: Cells = NO_CELLS
    kinds: dict[Kind, int] = field(default_factory=dict)
    slow: dict[tuple[int, str, str], list[Slow]] = field(default_factory=dict)  # hour, service, environment
    lines: int = 0
    unread: int = 0
    latest: float = 0.0  # when the last request was answered

    @classmethod
    def of(cls, cells: Mapping[tuple[int, Key], Cell]) -> Batch:
        """What these cells hold, each of a minute and a key."""
        keys = [key for _, key in cells]
        flat = [
            (place, bucket, count)
            for place, cell in enumerate(cells.values())
            for bucket, count in sorted(cell.durations.items())
        ]
        durations = np.array(flat, np.int64).reshape(-1, 3)
        sums = np.array([cell.sums for cell in cells.values()], np.int64).reshape(-1, SUMS)
        minutes = np.array([minute for minute, _ in cells], np.int64)
        cell, bucket, count = durations.T
        return cls(keys, Cells(np.arange(len(keys)), minutes, sums, cell, bucket, count))

    @property
    def cells(self) -> dict[tuple[int, Key], Cell]:
        """What was counted, by minute and key."""
        told = self.counted
        found = [Cell(sums) for sums in told.sums.tolist()]
        for cell, bucket, count in zip(
            told.cell.tolist(), told.bucket.tolist(), told.count.tolist(), strict=True
        ):
            found[cell].durations[bucket] = count
        where = zip(told.at.tolist(), (self.keys[number] for number in told.name.tolist()), strict=True)
        return dict(zip(where, found, strict=True))
