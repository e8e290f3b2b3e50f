"""Queries counted as they are collected, so that load, latency and errors over time are read without reading queries.

A count is of a slot of time, an endpoint, a generation, a status and a bucket of latency. Buckets are a twentieth
apart: a quantile that is read from them is at most a fortieth off. Pure; knows no store.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa

SLOT_SECONDS: Final = 10
_APART: Final = math.log(1.05)
SCHEMA = pa.schema(
    [
        pa.field("slot", pa.timestamp("us", "UTC"), nullable=False),  # its beginning
        pa.field("environment", pa.string(), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("generation", pa.string(), nullable=False),
        pa.field("shadow", pa.bool_(), nullable=False),
        pa.field("status", pa.int64(), nullable=False),
        pa.field("microseconds", pa.int64(), nullable=False),  # the middle of the bucket
        pa.field("requests", pa.int64(), nullable=False),
    ]
)
_NAMES = SCHEMA.names[:-1]


@lru_cache(4096)
def bucket(microseconds: int) -> int:
    """The middle of the bucket that a latency is in, at least 1."""
    return round(math.exp(round(math.log(max(microseconds, 1)) / _APART) * _APART))


def counts(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Counts of rows of the query log; a request for many items is one."""
    slot = SLOT_SECONDS * 1_000_000
    found = Counter(
        (
            row["asked_at"] // slot * slot,
            row["environment"],
            row["endpoint"],
            row["generation"],
            row["shadow"],
            row["status"],
            bucket(row["microseconds"]),
        )
        for row in rows
        if row["item"] == 0
    )
    for key, requests in found.items():
        yield {**dict(zip(_NAMES, key, strict=True)), "requests": requests}


def quantile(buckets: Sequence[tuple[int, int]], share: float) -> int | None:
    """A quantile of (microseconds, count) in ascending order; None of nothing."""
    left = math.ceil(share * sum(count for _, count in buckets))
    for microseconds, count in buckets:
        left -= count
        if left <= 0:
            return microseconds
    return None
