"""The read model of the pages that tell what services are asked: the mesh, one API, one client.

Asks the counts of calls and turns points into curves; decides nothing. What a page shows is drawn here, as its parts,
and put together by the templates.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

from tulle.catalog.asked import asked_there, names_there
from tulle.catalog.look import latency
from tulle.catalog.outlook import Outlook, environment_key, outlook
from tulle.catalog.service_load import Chart, line_of
from tulle.config import Settings
from tulle.errors import NotFound, did_you_mean
from tulle.gateway import applications, service_keys
from tulle.observe.calls import MINUTE, Calls
from tulle.observe.insight import SPANS, Insight, Point, Series, Span, Told, Which, span_of
from tulle.observe.patterns import rate_in_words
from tulle.spec import environment as declared
from tulle.state.db import Database

ROWS: Final = 100
FEW: Final = 10
_NOTHING: Final = Point(0, 0, 0, 0, 0, 0, 0, None, None, None, None)
_BARS: Final = (300.0, 110.0, 44.0, 4.0)  # width, height, left, below, as curves have them


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a name, where it leads, and its figures."""

    name: str
    detail: str
    href: str
    whole: Point
    spark: str  # points of a small curve of requests


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a drawing, and what it says."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be chosen on a page, and how its address says it."""

    path: str
    span: str
    spans: tuple[str, ...]
    environment: str
    environments: tuple[str, ...]
    kept: tuple[tuple[str, str], ...] = ()

    def href(self, *, span: str = "", environment: str = "") -> str:
        """The address of the same page with another choice."""
        said = {"span": span or self.span, "environment": environment or self.environment, **dict(self.kept)}
        return f"{self.path}?{urlencode({name: value for name, value in said.items() if value})}"


@dataclass(frozen=True, slots=True)
class InsightPage:
    """What each of the pages shows; `rows` by the title of their table."""

    title: str
    choices: Choices
    whole: Point | None  # None: nothing was asked
    charts: tuple[Chart, ...]
    rows: Mapping[str, tuple[Row, ...]]
    kinds: Sequence[Mapping[str, Any]]
    slow: Sequence[Mapping[str, Any]]
    counted_until: float | None
    service: str = ""
    is_service: bool = True  # has pages of a service's, or nothing is known any more
    outlook: Outlook | None = None
    bars: tuple[Bar, ...] = ()
    words: str = ""


class InsightReader:
    """Reads for the pages of one mesh. Safe to share between threads."""

    def __init__(self, settings: Settings, database: Database, calls: Calls) -> None:
        self._settings = settings
        self._database = database
        self._calls = calls
        self._insight = Insight(calls)

    def mesh(self, environment: str = "", span: str = "day", now: float | None = None) -> InsightPage:
        """All services as they are asked in one environment. NotFound, Invalid."""
        chosen, which = span_of(span, now), Which(environment=environment_key(self._settings, environment))
        apis = self._insight.told("api", chosen, which, limit=ROWS)
        return InsightPage(
            "Insight",
            self._choices("/insight", chosen, environment),
            *self._drawn(chosen, which),
            {"APIs": tuple(self._api_row(one, chosen, environment) for one in apis.series)},
            self._insight.kinds(chosen, which, limit=FEW * 2),
            self._insight.slowest(chosen, which, limit=FEW),
            apis.counted_until,
        )

    def api(
        self,
        service: str,
        environment: str = "",
        span: str = "day",
        generation: str = "",
        version: str = "",
        *,
        hidden: Collection[str] = (),
        now: float | None = None,
    ) -> InsightPage:
        """One service or API, or one generation or version of it. NotFound with the nearest name, Invalid.

        `hidden` are the APIs of which who asks learns nothing.
        """
        key = environment_key(self._settings, environment)
        which = Which(service, key, generation=generation or None, version=version or None)
        chosen, is_whole = span_of(span, now), not (generation or version)
        parts = {
            by: self._insight.told(by, chosen, which, limit=ROWS)
            for by in ("operation", "generation", "version")
        }
        clients = self._clients(chosen, which)
        there = asked_there(self._settings, self._database, service, key)
        if service in hidden or (not parts["operation"].series and there is None):
            known = sorted(names_there(self._settings, self._database, key) - {*hidden})
            hint = did_you_mean(service, known) or "/insight tells of all that are asked"
            raise NotFound(f"nothing is known of a service or API '{service}'", hint=hint)
        path = f"/insight/apis/{service}"
        found = None
        if is_whole and there is not None:
            at = time.time() if now is None else now
            found = outlook(self._settings, self._database, self._calls, service, environment, now=at)

        def leading(by: str) -> tuple[Row, ...]:
            """Those of which there are pages; none where nothing of them has a name."""
            rows = tuple(
                _row(one, by, self._part(path, by, one.name[by], chosen, environment))
                for one in parts[by].series
            )
            return rows if any(one.name[by] for one in parts[by].series) else ()

        versions = leading("version") if not version else ()
        if is_whole and there is not None:
            asked = {one.name["version"] for one in parts["version"].series}
            versions += tuple(
                Row(
                    name,
                    "nobody asked it",
                    self._part(path, "version", name, chosen, environment),
                    _NOTHING,
                    "",
                )
                for name in dict.fromkeys(one.version.version for one in there.instances if one.answers)
                if name not in asked
            )
        return InsightPage(
            f"{service} {version} {generation}".strip(),
            self._choices(path, chosen, environment, ("version", version), ("generation", generation)),
            *self._drawn(chosen, which),
            {
                "Versions": versions,
                "Operations": tuple(_row(one, "operation") for one in parts["operation"].series),
                "Generations": leading("generation") if not generation else (),
                "Clients": self._client_rows(clients, chosen),
            },
            self._insight.kinds(chosen, which, by=() if version else ("version",)),
            self._insight.slowest(chosen, which, limit=FEW),
            clients.counted_until,
            service,
            there is None or there.deployment is not None,
            found,
            _bars(found.patterns.by_hour) if found is not None and found.patterns.hours_known else (),
            _said(found),
        )

    def client(
        self, client: str, environment: str = "", span: str = "day", now: float | None = None
    ) -> InsightPage:
        """What one client asks. NotFound for one that nobody registered and that never asked."""
        key = environment_key(self._settings, environment)
        chosen, which = span_of(span, now), Which(environment=key, client=client)
        apis = self._insight.told("api", chosen, which, limit=ROWS)
        names = self._names([client])
        if not apis.series and client not in names:
            raise NotFound(
                f"no client '{client[:80]}' asked anything in the last {span}", hint="/insight tells who did"
            )
        return InsightPage(
            names.get(client, client),
            self._choices(f"/insight/clients/{client}", chosen, environment),
            *self._drawn(chosen, which),
            {"APIs": tuple(self._api_row(one, chosen, environment) for one in apis.series)},
            (),
            self._insight.slowest(chosen, which, limit=FEW),
            apis.counted_until,
        )

    def _clients(self, span: Span, which: Which) -> Told:
        """Those that asked most; curves are read of these alone, as there may be very many others."""
        most = self._insight.told("client", span, which, limit=FEW, points=False)
        theirs = tuple(one.name["client"] for one in most.series)
        return self._insight.told("client", span, replace(which, clients=theirs)) if theirs else most

    def _drawn(self, span: Span, which: Which) -> tuple[Point | None, tuple[Chart, ...]]:
        found = self._insight.told("mesh", span, which).series
        return (found[0].whole, charts_of(span, found[0].points, found[0].whole)) if found else (None, ())

    def _choices(self, path: str, span: Span, environment: str, *kept: tuple[str, str]) -> Choices:
        names = tuple(one.name for one in declared.environments(self._settings))
        here = environment or declared.production(self._settings).name
        return Choices(path, span.name, tuple(SPANS), here, names, tuple(one for one in kept if one[1]))

    def _api_row(self, one: Series, span: Span, environment: str) -> Row:
        name = one.name["service"]
        if not name:
            return _row(one, "service", detail="at no service's address")
        said = urlencode({"span": span.name, **({"environment": environment} if environment else {})})
        return _row(one, "service", f"/insight/apis/{name}?{said}")

    def _names(self, ids: Collection[str]) -> Mapping[str, str]:
        """What clients of these ids are called: applications by their names, keys by their labels."""
        labels = service_keys.labels(self._database)
        keys = {key: f"key:{label}" for key, label in labels.items()}
        return {**applications.names(self._database, only=ids), **keys}

    def _client_rows(self, told: Told, span: Span) -> tuple[Row, ...]:
        names = self._names([one.name["client"] for one in told.series])
        found = []
        for one in told.series:
            client = one.name["client"]
            href = f"/insight/clients/{client}?span={span.name}" if client in names else ""
            detail = names.get(client, "")
            found.append(_row(one, "client", href, detail if detail != client else ""))
        return tuple(found)

    def _part(self, path: str, by: str, name: str, span: Span, environment: str) -> str:
        said = {by: name, "span": span.name, "environment": environment}
        return f"{path}?{urlencode({k: v for k, v in said.items() if v})}" if name else ""


def without(page: InsightPage, hidden: Collection[str]) -> InsightPage:
    """The page of the mesh or a client as it is for who may not see some APIs."""
    if not hidden:
        return page
    rows = {
        title: tuple(row for row in found if title != "APIs" or row.name not in hidden)
        for title, found in page.rows.items()
    }
    kinds, slow = (
        [one for one in found if one["service"] not in hidden] for found in (page.kinds, page.slow)
    )
    return replace(page, rows=rows, kinds=kinds, slow=slow)


def charts_of(span: Span, points: Sequence[Point], whole: Point) -> tuple[Chart, ...]:
    """Requests a second, what went wrong, and latency, each over the span."""
    now = time.time()
    # The last point is under way: its rate is of the part that is over, a minute of it at least.
    rates: list[float | None] = [one.requests / max(MINUTE, min(span.step, now - one.at)) for one in points]
    failed, wrong = ([_share(getattr(one, name), one) for one in points] for name in ("failed", "wrong"))
    latencies: dict[str, list[float | None]] = {
        name: [getattr(one, name) for one in points] for name in ("p50", "p95", "p99")
    }
    most_rate = max((one for one in rates if one is not None), default=0.0)
    most_share = max((one for one in [*failed, *wrong] if one is not None), default=0.0)
    slowest = max((one for values in latencies.values() for one in values if one is not None), default=0)
    told = ", ".join(f"{name} {latency(getattr(whole, name))}" for name in latencies)
    return (
        Chart(
            "Requests a second",
            f"{whole.requests:,} requests, at most {rate_in_words(most_rate)} a second",
            rate_in_words(most_rate),
            (line_of("requests a second", "", rates, most_rate),),
        ),
        Chart(
            "Errors",
            f"{whole.failed:,} failed and {whole.wrong:,} were wrong, of which {whole.refused:,} were refused",
            f"{most_share:.3g}" if not most_share else f"{most_share:.1%}",
            (
                line_of("share that failed", "bad", failed, most_share),
                line_of("share with 4xx", "p95", wrong, most_share),
            ),
        ),
        Chart(
            "Latency",
            told,
            latency(slowest),
            tuple(line_of(name, name, values, slowest) for name, values in latencies.items()),
        ),
    )


def _share(number: int, of: Point) -> float | None:
    return number / of.requests if of.requests else None


def _row(one: Series, name: str, href: str = "", detail: str = "") -> Row:
    return Row(
        one.name[name] or "(none)", detail, href, one.whole, _spark([point.requests for point in one.points])
    )


def _spark(values: Sequence[int], width: float = 100.0, height: float = 22.0) -> str:
    most = max(values, default=0)
    if len(values) < 2 or not most:
        return ""
    across = width / (len(values) - 1)
    return " ".join(
        f"{number * across:.1f},{height - 1 - value / most * (height - 2):.1f}"
        for number, value in enumerate(values)
    )


def _bars(values: Sequence[float]) -> tuple[Bar, ...]:
    """Requests an hour by hour of the day."""
    width, height, left, below = _BARS
    most = max(values) or 1.0
    across = (width - left - 6) / len(values)
    return tuple(
        Bar(
            round(left + hour * across + 1, 1),
            round(height - below - value / most * (height - below - 8), 1),
            round(across - 2, 1),
            round(value / most * (height - below - 8), 1),
            f"{hour:02}:00: {value:,.1f} requests",
        )
        for hour, value in enumerate(values)
    )


def _said(found: Outlook | None) -> str:
    """The forecast in words."""
    if found is None:
        return ""
    told = found.patterns.forecast
    if told is None:
        return f"No forecast: {found.patterns.why_not}."
    tried = f"Tried on the last {told.tried_hours} hours, its hours were wrong by {told.error:.0%} of the requests."
    return f"About {sum(told.requests):,.0f} requests in the next week, by {told.method}. {tried}"
