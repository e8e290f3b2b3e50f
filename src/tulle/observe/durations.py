"""How long requests took, as counts in buckets: small, added up in any order, read as quantiles.

A bucket is 4 % apart from the next, so a quantile that is read from them is at most 2 % off, from a microsecond to an
hour. Pure; knows nothing of requests and stores.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

APART: Final = 1.04
BUCKETS: Final = 562  # the last one holds what took an hour and more
_PER: Final = 1 / math.log(APART)
_LAST: Final = BUCKETS - 1
_ITEM: Final = np.dtype("<u4")

Counts = NDArray[np.int64]


def bucket(microseconds: int) -> int:
    """The number of the bucket that a duration is in."""
    if microseconds < 2:
        return 0
    found = int(math.log(microseconds) * _PER + 0.5)
    return min(found, _LAST)


def buckets(microseconds: Counts) -> Counts:
    """The numbers of the buckets of many durations."""
    found = (np.log(np.maximum(microseconds, 1)) * _PER + 0.5).astype(np.int64)
    return np.where(microseconds < 2, 0, np.minimum(found, _LAST))


def middle(number: int) -> int:
    """What a bucket stands for, in microseconds."""
    return round(APART**number)


def upper(number: int) -> float:
    """Where a bucket ends, in microseconds."""
    return float(APART ** (number + 0.5))


def packed(counts: Mapping[int, int]) -> bytes:
    """Counts by bucket as bytes: pairs of bucket and count, four bytes each. Several may follow one another."""
    flat = array("I")
    for number in sorted(counts):
        flat.append(number)
        flat.append(min(counts[number], 0xFFFFFFFF))
    return flat.tobytes()


def unpacked(data: bytes) -> dict[int, int]:
    """The counts again."""
    flat = array("I", data)
    numbers, counts = flat[::2], flat[1::2]
    found = dict(zip(numbers, counts, strict=True))
    if len(found) < len(numbers):  # of several that were put after one another
        found = dict.fromkeys(found, 0)
        for number, count in zip(numbers, counts, strict=True):
            found[number] += count
    return found


def added(one: bytes | None, other: bytes | None) -> bytes:
    """Two packed counts as one."""
    if not one or not other:
        return one or other or b""
    if len(one) < len(other):
        one, other = other, one
    counts = unpacked(one)
    for number, count in unpacked(other).items():
        counts[number] = counts.get(number, 0) + count
    try:
        return array("I", chain.from_iterable(counts.items())).tobytes()  # quick: it is asked of each row
    except OverflowError:
        return packed(counts)


def together(data: bytes) -> bytes:
    """Packed counts that were put after one another, each bucket once."""
    return packed(unpacked(data))


def table(packs: Sequence[bytes], places: Sequence[int] | NDArray[Any], rows: int) -> Counts:
    """Packed counts added up in `rows` rows of BUCKETS columns; `places` says to which row each belongs."""
    flat = np.frombuffer(b"".join(packs), _ITEM).reshape(-1, 2)
    sizes = np.fromiter((len(one) // 8 for one in packs), np.int64, len(packs))
    where = np.repeat(np.asarray(places, np.int64), sizes) * BUCKETS + flat[:, 0]
    found = np.bincount(where, weights=flat[:, 1], minlength=rows * BUCKETS)
    return found.astype(np.int64).reshape(rows, BUCKETS)


def quantiles(counts: Counts, share: float) -> list[int | None]:
    """That quantile of each row, in microseconds; None of a row that has nothing."""
    running = np.cumsum(counts, axis=1)
    wanted = np.ceil(running[:, -1] * share)
    places = np.argmax(running >= np.maximum(wanted, 1)[:, None], axis=1)
    return [
        middle(int(place)) if total else None for place, total in zip(places, running[:, -1], strict=True)
    ]
