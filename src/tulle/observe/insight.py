"""What the counts of calls tell: rates, errors, latency and sizes over time, the slowest, the refused, the unused.

Every answer is of a span of time, cut into points; a point in which nothing was asked says so by `requests == 0`, and
has no latency. Reads only; knows no door and no page.
"""

# ruff: noqa: S608  names are ours, values are parameters
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tulle.errors import Invalid, did_you_mean
from tulle.observe import durations
from tulle.observe.calls import BY_CLIENT, DAY, HOUR, MINUTE, WHOLE, Calls
from tulle.observe.calls_file import COLUMNS
from tulle.observe.tally import MOCK

# name → (seconds, seconds of a point, of which counts)
SPANS: Final[Mapping[str, tuple[int, int, int]]] = {
    "hour": (HOUR, MINUTE, MINUTE),
    "day": (DAY, 15 * MINUTE, MINUTE),
    "week": (7 * DAY, 3 * HOUR, HOUR),
    "month": (30 * DAY, DAY, DAY),
}
# what may be told apart → columns
BY: Final[Mapping[str, tuple[str, ...]]] = {
    "api": ("service", "environment"),
    "service": ("service",),
    "operation": ("service", "environment", "operation"),
    "generation": ("service", "environment", "generation"),
    "version": ("service", "environment", "version"),
    "client": ("client",),
    "mesh": (),
}
KINDS_BY: Final = ("version", "generation")  # by what violations may be told apart
_NAMES: Final = ("service", "environment", "operation", "version", "generation", "client")
SHARES: Final = (0.5, 0.95, 0.99)
MOST_SERIES: Final = 200


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` on, so many seconds, `step` a point."""

    name: str
    since: int
    seconds: int
    step: int
    width: int  # of the counts that are read

    @property
    def points(self) -> int:
        """How many there are."""
        return self.seconds // self.step

    @property
    def until(self) -> int:
        """Its end, which is not in it."""
        return self.since + self.seconds

    def widest(self) -> Iterator[tuple[int, int, int]]:
        """Width, beginning and end of counts that make up all of it, each as wide as can be: they are few."""
        widths = [width for width in (DAY, HOUR, MINUTE) if width >= self.width]
        yield from _widest(self.since, self.until, widths)


def _widest(since: int, until: int, widths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    width, *narrower = widths
    first, last = -(-since // width) * width, until // width * width
    if not narrower:
        yield width, since, until
    elif first >= last:
        yield from _widest(since, until, narrower)
    else:
        if since < first:
            yield from _widest(since, first, narrower)
        yield width, first, last
        if last < until:
            yield from _widest(last, until, narrower)


def span_of(name: str, now: float | None = None) -> Span:
    """The span of that name that ends now. Invalid."""
    if name not in SPANS:
        raise Invalid(
            f"there is no span '{name[:40]}'", hint=did_you_mean(name, SPANS) or f"one of {', '.join(SPANS)}"
        )
    seconds, step, width = SPANS[name]
    at = int(time.time() if now is None else now)
    return Span(name, at // step * step - seconds + step, seconds, step, width)


@dataclass(frozen=True, slots=True)
class Which:
    """Which calls are asked about; None: whichever. The environment of consumers is the empty one.

    Without `mocks` those are left out that the gateway answered by examples. With `clients`
    only theirs are asked about.
    """

    service: str | None = None
    environment: str | None = None
    operation: str | None = None
    generation: str | None = None
    client: str | None = None
    version: str | None = None
    mocks: bool = True
    clients: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """What was asked in one stretch of time; latencies in microseconds, None where nothing was asked.

    `failed` had a 5xx or no answer, `wrong` a 4xx, of which the gateway `refused` some by a policy.
    """

    at: int
    requests: int
    failed: int
    wrong: int
    refused: int
    bytes_in: int
    bytes_out: int
    mean: int | None
    p50: int | None
    p95: int | None
    p99: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """One API, operation, client or generation over the span, and all of it in one."""

    name: Mapping[str, str]
    whole: Point
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: series of the most requests first, and how many more there are."""

    span: Span
    by: str
    series: tuple[Series, ...]
    more: int
    counted_until: float | None  # when the last request that is counted was answered; None: nothing ever was


class Insight:
    """Asks the counts of one mesh. Safe to share between threads."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def told(
        self,
        by: str,
        span: Span,
        which: Which = Which(),
        *,
        limit: int = MOST_SERIES,
        points: bool = True,
    ) -> Told:
        """Calls told apart by `by` (a name of BY). Without `points` each series has its whole only. Invalid."""
        if by not in BY:
            raise Invalid(
                f"calls are not told apart by '{by[:40]}'",
                hint=did_you_mean(by, BY) or f"one of {', '.join(BY)}",
            )
        names = BY[by]
        is_of_clients = which.client is not None or which.clients is not None
        # Of an hour that is over only those are kept that asked most: who is named is looked for where all are.
        whole = points or is_of_clients
        pieces = ((span.width, span.since, span.until),) if whole else tuple(span.widest())
        rows = self._rows(names, pieces, which, by_client=by == "client" or is_of_clients)
        state = self._calls.state()
        latest = None if state is None else state.latest
        if not rows:
            return Told(span, by, (), 0, latest)
        groups: dict[tuple[str, ...], int] = {}
        width = len(names)
        of_row = np.fromiter(
            (groups.setdefault(row[:width], len(groups)) for row in rows), np.int64, len(rows)
        )
        sums = np.array([row[width + 1 : -1] for row in rows], np.int64)
        asked = np.bincount(of_row, weights=sums[:, 0], minlength=len(groups))
        all_names = list(groups)
        order = sorted(range(len(groups)), key=lambda one: (-asked[one], all_names[one]))[:limit]
        rank = np.full(len(groups), -1)
        rank[order] = np.arange(len(order))
        kept = rank[of_row] >= 0
        packs = [row[-1] for row, is_kept in zip(rows, kept, strict=True) if is_kept]
        at = np.fromiter((row[width] for row in rows), np.int64, len(rows))[kept]
        ranks, sums = rank[of_row[kept]], sums[kept]
        counted = _Counted(packs, ranks, at, sums)
        wholes = _points(packs, ranks, sums, [span.since] * len(order))
        each = [_curve(counted, number, span) if points else () for number in range(len(order))]
        series = tuple(
            Series(dict(zip(names, all_names[group], strict=True)), wholes[number], each[number])
            for number, group in enumerate(order)
        )
        return Told(span, by, series, len(groups) - len(order), latest)

    def _rows(
        self, names: Sequence[str], pieces: Sequence[tuple[int, int, int]], which: Which, *, by_client: bool
    ) -> list[tuple[Any, ...]]:
        """Name, time, sums and durations of each count in pieces of time, each with the width of its counts."""
        where, values = _where(which, by_client=by_client)
        columns = [
            *(f"k.{name}" for name in names),
            "c.at",
            *(f"c.{name}" for name in COLUMNS),
            "c.durations",
        ]
        sql = (
            f"SELECT {', '.join(columns)} FROM keys k CROSS JOIN cells c "
            "ON c.width = ? AND c.key = k.id AND c.at >= ? AND c.at < ? "
            f"WHERE {where}"
        )
        with self._calls.read() as cx:
            return [row for piece in pieces for row in cx.execute(sql, (*piece, *values))]

    def kinds(
        self, span: Span, which: Which = Which(), *, by: Sequence[str] = (), limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Violations and failures of the gateway's own by service, environment and kind, the most frequent first.

        Told apart by names of KINDS_BY besides; who called and which operation is not kept of them. Invalid.
        """
        for name in by:
            if name not in KINDS_BY:
                hint = did_you_mean(name, KINDS_BY) or f"by {' or '.join(KINDS_BY)}"
                raise Invalid(f"violations are not told apart by '{name[:40]}'", hint=hint)
        parts, values = ["width = ?", "at >= ?", "at < ?"], [span.width, span.since, span.until]
        for name in ("service", "environment", *KINDS_BY):
            if (value := getattr(which, name)) is not None:
                parts.append(f"{name} = ?")
                values.append(value)
        names = ("service", "environment", *(name for name in KINDS_BY if name in by), "kind", "violation")
        told = ", ".join(names)
        sql = (
            f"SELECT {told}, sum(requests) AS requests FROM kinds WHERE {' AND '.join(parts)} "
            f"GROUP BY {told} ORDER BY requests DESC, {told} LIMIT ?"
        )
        with self._calls.read() as cx:
            rows = cx.execute(sql, (*values, limit)).fetchall()
        found = [dict(zip((*names, "requests"), row, strict=True)) for row in rows]
        return [{**one, "violation": bool(one["violation"])} for one in found]

    def slowest(self, span: Span, which: Which = Which(), *, limit: int = 20) -> list[dict[str, Any]]:
        """The slowest requests that are kept: a few of each service and hour."""
        parts, values = ["at >= ?", "at < ?"], [span.since, span.until]
        for name in _NAMES:
            if (value := getattr(which, name)) is not None:
                parts.append(f"{name} = ?")
                values.append(value)
        names = (*_NAMES, "status", "microseconds", "at", "request_id")
        sql = f"SELECT {', '.join(names)} FROM slow WHERE {' AND '.join(parts)} ORDER BY microseconds DESC LIMIT ?"
        with self._calls.read() as cx:
            rows = cx.execute(sql, (*values, limit)).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def last_asked(self, but: str = " ") -> dict[tuple[str, str, str], int]:
        """By service, environment and version the beginning of the last day on which a request was let in.

        Clients whose ids begin with `but` do not count: who only tries services.
        """
        sql = (
            "SELECT k.service, k.environment, k.version, max(c.at) FROM keys k CROSS JOIN cells c "
            "ON c.width = ? AND c.key = k.id WHERE k.family = ? AND k.service != '' AND c.requests > c.refused "
            "AND substr(k.client, 1, ?) != ? GROUP BY 1, 2, 3"
        )
        with self._calls.read() as cx:
            return {row[:3]: row[3] for row in cx.execute(sql, (DAY, BY_CLIENT, len(but), but))}

    def hours(self, which: Which, since: int, until: int) -> dict[int, tuple[int, int]]:
        """By hour (its beginning) how many requests there were, and in how many microseconds all together."""
        where, values = _where(which, by_client=which.client is not None)
        sql = (
            "SELECT c.at, sum(c.requests), sum(c.microseconds) FROM keys k CROSS JOIN cells c "
            f"ON c.width = ? AND c.key = k.id AND c.at >= ? AND c.at < ? WHERE {where} GROUP BY 1"
        )
        with self._calls.read() as cx:
            return {at: (asked, spent) for at, asked, spent in cx.execute(sql, (HOUR, since, until, *values))}

    def is_known(self, since: int, until: int) -> bool:
        """Whether of each minute it is known what was asked: something was, or the gateway ran."""
        sql = (
            "SELECT count(*) FROM (SELECT at FROM alive WHERE at >= ?1 AND at < ?2 UNION "
            "SELECT at FROM cells WHERE width = ?3 AND at >= ?1 AND at < ?2)"
        )
        with self._calls.read() as cx:
            return int(cx.execute(sql, (since, until, MINUTE)).fetchone()[0]) >= (until - since) // MINUTE

    def busiest_minute(self, which: Which, since: int, until: int) -> int:
        """The most requests of one minute that is kept."""
        where, values = _where(which, by_client=which.client is not None)
        sql = (
            "SELECT coalesce(max(asked), 0) FROM (SELECT sum(c.requests) AS asked FROM keys k CROSS JOIN cells c "
            f"ON c.width = ? AND c.key = k.id AND c.at >= ? AND c.at < ? WHERE {where} GROUP BY c.at)"
        )
        with self._calls.read() as cx:
            return int(cx.execute(sql, (MINUTE, since, until, *values)).fetchone()[0])


def _where(which: Which, *, by_client: bool) -> tuple[str, list[Any]]:
    parts: list[str] = ["k.family = ?"]
    values: list[Any] = [BY_CLIENT if by_client else WHOLE]
    for name in _NAMES:
        if (value := getattr(which, name)) is not None:
            parts.append(f"k.{name} = ?")
            values.append(value)
    if which.clients is not None:
        parts.append(f"k.client IN ({', '.join('?' * len(which.clients))})")
        values += which.clients
    if not which.mocks:
        parts.append("k.generation != ?")
        values.append(MOCK)
    return " AND ".join(parts), values


@dataclass(frozen=True, slots=True)
class _Counted:
    """Counts of the series that are told: durations, the number of the series, time, sums."""

    packs: Sequence[bytes]
    ranks: Any
    at: Any
    sums: Any


def _curve(counted: _Counted, number: int, span: Span) -> tuple[Point, ...]:
    """One series over the span; each for itself, as all at once would take much memory."""
    chosen = np.flatnonzero(counted.ranks == number)
    packs = [counted.packs[int(one)] for one in chosen]
    places = (counted.at[chosen] - span.since) // span.step
    starts = [span.since + place * span.step for place in range(span.points)]
    return tuple(_points(packs, places, counted.sums[chosen], starts))


def _points(packs: Sequence[bytes], places: Any, sums: Any, starts: Sequence[int]) -> list[Point]:
    """Counts added up by place."""
    rows = len(starts)
    found = np.zeros((rows, sums.shape[1]), np.int64)
    np.add.at(found, places, sums)
    counts = durations.table(packs, places, rows)
    shares = [durations.quantiles(counts, share) for share in SHARES]
    made = []
    for number, row in enumerate(found.tolist()):
        requests, c2, c3, c4, c5, refused, bytes_in, bytes_out, micros = row
        made.append(
            Point(
                starts[number],
                requests,
                c5 + requests - c2 - c3 - c4 - c5,
                c4,
                refused,
                bytes_in,
                bytes_out,
                micros // requests if requests else None,
                *(of_share[number] for of_share in shares),
            )
        )
    return made
