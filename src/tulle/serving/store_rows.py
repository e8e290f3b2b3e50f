"""Rows that a store gave, in the bytes that an index stores: so all that follows is the same code for both."""

from __future__ import annotations

import base64
import datetime as dt
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from tulle.serving.finder import FinderEntry, Stored
from tulle.serving.index import kept_of, several_of
from tulle.serving.index_build import Wish
from tulle.serving.keyed_rows import ALL
from tulle.serving.request import RequestError

MOST_FETCHED = 1000  # rows of one key; there may be more, and how many is told
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a store gave for the keys of one request, and of which commit that is where the lake fills it."""

    rows: Sequence[Stored]
    commit: str = ""


def faulty(entry: FinderEntry, why: str) -> RequestError:
    """What is told of a key under which lies what no answer can be made of; `why` has no value in it."""
    store = entry.store
    message = f"what is looked up in '{entry.data_set}' for this key is faulty"
    detail = f"Connection '{store.connection if store else ''}': {why}. Other keys are not affected"
    return RequestError(502, "FaultyRow", message, detail)


def stored_rows(wish: Wish, rows: Sequence[bytes], number: int) -> bytes | None:
    """The rows of a key, in their order, as an index stores them; `number` is how many there are."""
    if not rows:
        return None
    most = wish.most_rows if wish.several == ALL else 1
    at = time.time_ns() // 1000 if wish.event_time else None
    return rows[0] if number == 1 else several_of(kept_of(rows, most, at), number)


def stored_row(entry: FinderEntry, wish: Wish, since: dt.date | None, values: Sequence[Any]) -> bytes:
    """One row of the entry's columns; `since` is when it began to hold."""
    plain = {}
    for column, value in zip(entry.columns, values, strict=True):
        known = plain_value(value)
        plain[column.name] = entry.defaults.get(column.name) if known is None else known
    row = _encoder.encode(plain if wish.form == "object" else list(plain.values()))
    if not wish.event_time:
        return row
    return (b"" if since is None else b"%d" % _micros(since)) + b"|" + row


def plain_value(value: Any) -> Any:
    """A value as an index would have rendered it."""
    match value:
        case float() | Decimal() if not math.isfinite(value):
            return None
        case dt.datetime():
            return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        case bytes() | memoryview():
            return base64.b64encode(value).decode()
    return value


def _micros(since: dt.date) -> int:
    """Microseconds since 1970."""
    if not isinstance(since, dt.datetime):
        since = dt.datetime(since.year, since.month, since.day, tzinfo=dt.UTC)
    at = plain_value(since)
    passed: dt.timedelta = at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return passed // dt.timedelta(microseconds=1)
