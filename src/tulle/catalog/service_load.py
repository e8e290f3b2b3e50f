"""How a service fares over the last hour or day: requests a second, failures and latency of each generation, as curves.

Read from what the query log counts as it is collected, so it costs the same whether much was asked or little.
"""

# ruff: noqa: S608  names are ours, values go through `literal`
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tulle.catalog.look import latency
from tulle.catalog.query_log import QueryLog
from tulle.config import Settings
from tulle.engine.engine import literal
from tulle.errors import Invalid, TulleError
from tulle.lake.repository import Lake
from tulle.observe.patterns import rate_in_words
from tulle.serving.log_traffic import quantile
from tulle.spec import environment as declared

SPANS: Mapping[str, tuple[int, int]] = {"hour": (3600, 60), "day": (86_400, 900)}  # (seconds, of a point)
MOST_SHOWN = 12  # curves; those that were asked most
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_COLLECT_SECONDS = 10.0
_KEPT_SECONDS = 2.0  # readers of the same page ask for the same
WIDTH, HEIGHT, LEFT, BELOW = 300.0, 110.0, 44.0, 4.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was asked in one stretch of time; latencies in microseconds, None where nothing was asked."""

    at: float
    requests: int
    failed: int  # answered with 4xx or 5xx
    p50: int | None
    p95: int | None
    p99: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """An endpoint of a generation over the span, and all of it in one."""

    endpoint: str
    generation: str
    shadow: bool
    whole: Point
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """What a service was asked from `since` on, `step` seconds a point; the most asked series first."""

    service: str
    environment: str
    span: str
    since: float
    seconds: int
    step: int
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; `parts` are its stretches without a gap, as points of a drawing, `dots` those that stand alone."""

    name: str
    style: str
    parts: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A small drawing; `most` is what its upper end stands for."""

    title: str
    words: str
    most: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class LoadPage:
    """What the page shows of it."""

    load: Load

    @property
    def shown(self) -> Sequence[Series]:
        """The series that are drawn."""
        return self.load.series[:MOST_SHOWN]

    def charts(self, one: Series) -> tuple[Chart, ...]:
        """The drawings of one series."""
        return charts_of(self.load, one)


class LoadReader:
    """Reads for the page and the API. Safe to share between threads."""

    def __init__(
        self, settings: Settings, lake: Lake, collect: Callable[[str], object] | None = None
    ) -> None:
        """`collect` puts what workers noted of a service into its log, which else is done now and then."""
        self._settings = settings
        self._log = QueryLog(settings, lake)
        self._collect = collect
        self._collected: dict[str, float] = {}
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], tuple[float, Load]] = {}

    def page(self, service: str, environment: str = "", span: str = "hour") -> LoadPage:
        """The page of a service, as it was at most two seconds ago. NotFound, Invalid."""
        key = (service, environment, span)
        with self._lock:
            at, kept = self._kept.get(key, (0.0, None))
        if kept is None or time.monotonic() - at > _KEPT_SECONDS:
            self._collect_now(service)
            kept = self.read(service, environment, span)
            with self._lock:
                fresh = {k: v for k, v in self._kept.items() if time.monotonic() - v[0] <= _KEPT_SECONDS}
                self._kept = {**fresh, key: (time.monotonic(), kept)}
        return LoadPage(kept)

    def _collect_now(self, service: str) -> None:
        """While somebody looks; not each time, since each is a commit."""
        with self._lock:
            is_due = time.monotonic() - self._collected.get(service, -_COLLECT_SECONDS) >= _COLLECT_SECONDS
            if is_due:
                self._collected[service] = time.monotonic()
        if self._collect is not None and is_due:
            with contextlib.suppress(TulleError):  # what is collected already is shown all the same
                self._collect(service)

    def read(self, service: str, environment: str = "", span: str = "hour", now: float | None = None) -> Load:
        """What was asked until now. NotFound for an unknown environment, Invalid for a span."""
        if span not in SPANS:
            raise Invalid(f"there is no span '{span[:40]}'", hint=f"one of {', '.join(SPANS)}")
        place = (
            declared.environment(self._settings, environment)
            if environment
            else declared.production(self._settings)
        )
        key = declared.place_of(place)
        seconds, step = SPANS[span]
        until = time.time() if now is None else now
        since = until // step * step - seconds + step
        sql = (
            f"SELECT endpoint, generation, shadow, CAST(floor((epoch(slot) - {since}) / {step}) AS BIGINT) AS place, "
            "status >= 400 AS failed, microseconds, CAST(sum(requests) AS BIGINT) AS requests FROM traffic "
            f"WHERE environment = {literal(key)} AND epoch(slot) >= {since} AND epoch(slot) < {since + seconds} "
            "GROUP BY ALL"
        )
        rows = self._log.counted(service, sql, since=since, until=until)
        return Load(
            service,
            place.name,
            span,
            since,
            seconds,
            step,
            tuple(series_of(rows, since, seconds // step, step)),
        )


def series_of(rows: Sequence[Mapping[str, Any]], since: float, places: int, step: int) -> list[Series]:
    """The series of counted rows, the most asked first."""
    by: dict[tuple[str, str, bool], dict[int, list[Mapping[str, Any]]]] = {}
    for row in rows:
        key = row["endpoint"], row["generation"], row["shadow"]
        by.setdefault(key, {}).setdefault(row["place"], []).append(row)
    found = [
        Series(
            endpoint,
            generation,
            shadow,
            _point(since, [row for some in placed.values() for row in some]),
            tuple(_point(since + place * step, placed.get(place, ())) for place in range(places)),
        )
        for (endpoint, generation, shadow), placed in by.items()
    ]
    return sorted(found, key=lambda one: (-one.whole.requests, one.endpoint, one.generation, one.shadow))


def as_plain(load: Load) -> dict[str, Any]:
    """As the API tells it."""
    return asdict(load)


def charts_of(load: Load, one: Series) -> tuple[Chart, ...]:
    """Requests a second, the share that failed, and latency, each over the span."""
    rates: list[float | None] = [point.requests / load.step for point in one.points]
    shares = [point.failed / point.requests if point.requests else None for point in one.points]
    latencies: dict[str, list[float | None]] = {
        name: [getattr(point, name) for point in one.points] for name in QUANTILES
    }
    most_rate = max((rate for rate in rates if rate is not None), default=0.0)
    most_share = max((share for share in shares if share is not None), default=0.0)
    slowest = max((v for values in latencies.values() for v in values if v is not None), default=0)
    whole = one.whole
    told = ", ".join(f"{name} {latency(getattr(whole, name))}" for name in QUANTILES)
    return (
        Chart(
            "Requests a second",
            f"{whole.requests:,} requests, at most {rate_in_words(most_rate)} a second",
            rate_in_words(most_rate),
            (line_of("requests a second", "", rates, most_rate),),
        ),
        Chart(
            "Failed",
            f"{whole.failed:,} of {whole.requests:,} requests failed, at most {most_share:.1%} at a time",
            f"{most_share:.3g}" if not most_share else f"{most_share:.1%}",
            (line_of("share that failed", "bad", shares, most_share),),
        ),
        Chart(
            "Latency",
            told,
            latency(slowest),
            tuple(line_of(name, name, values, slowest) for name, values in latencies.items()),
        ),
    )


def _point(at: float, rows: Sequence[Mapping[str, Any]]) -> Point:
    buckets: dict[int, int] = {}
    for row in rows:
        buckets[row["microseconds"]] = buckets.get(row["microseconds"], 0) + row["requests"]
    ordered = sorted(buckets.items())
    asked = sum(buckets.values())
    failed = sum(row["requests"] for row in rows if row["failed"])
    return Point(at, asked, failed, *(quantile(ordered, share) for share in QUANTILES.values()))


def line_of(name: str, style: str, values: Sequence[float | None], most: float) -> Line:
    """Values as a curve from left to right, broken where there is none; `most` is at the upper end."""
    across = (WIDTH - LEFT - 6) / max(len(values) - 1, 1)
    stretches: list[list[tuple[float, float]]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            stretches.append([])
            continue
        up = value / most * (HEIGHT - BELOW - 8) if most else 0.0
        stretches[-1].append((round(LEFT + number * across, 1), round(HEIGHT - BELOW - up, 1)))
    return Line(
        name,
        style,
        tuple(" ".join(f"{x},{y}" for x, y in some) for some in stretches if len(some) > 1),
        tuple(some[0] for some in stretches if len(some) == 1),
    )
