"""What counts of calls and deployments tell together: services that nobody uses, and workers that some will need.

Reads counts and deployments; changes neither. Knows no door.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from tulle.config import Settings
from tulle.errors import Conflict, Invalid, NotFound, did_you_mean
from tulle.gateway.contract import PORTAL
from tulle.observe.calls import DAY, MINUTES_KEPT, Calls
from tulle.observe.insight import Insight, Which
from tulle.observe.patterns import HOUR, Capacity, Patterns, capacity, patterns
from tulle.serving import generation
from tulle.spec import environment as declared
from tulle.spec.environment import production
from tulle.state.db import Database

AIM: Final = 0.6  # load of a worker, as autoscaling has it
PATTERN_DAYS: Final = 28
_LEAST_MICROSECONDS: Final = 50.0  # what a request costs a worker at least


@dataclass(frozen=True, slots=True)
class Unused:
    """A service that nobody asked for so many days; `last` is None where it was never seen asked."""

    service: str
    environment: str
    days: int
    last: float | None
    deployed_at: float
    proposal: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """The patterns of one service, and the workers its busiest hour to come asks for where that can be said."""

    service: str
    environment: str
    patterns: Patterns
    capacity: Capacity | None


def environment_key(settings: Settings, name: str) -> str:
    """An environment as counts name it: empty for that of consumers. NotFound with the nearest name."""
    if not name:
        return ""
    found = declared.environment(settings, name)
    return "" if found.branch == production(settings).branch else found.name


def unused(database: Database, calls: Calls, *, days: int, now: float) -> list[Unused]:
    """Deployed services that nobody but the portal asked for so many days, the longest unused first. Conflict.

    Conflict while the counts do not reach back so far.
    """
    state = calls.state()
    if state is None or now - state.begun < days * DAY:
        known = 0 if state is None else int((now - state.begun) // DAY)
        raise Conflict(
            f"calls are counted for {known} days, which says nothing of {days}",
            hint="ask for fewer days, or later",
        )
    asked = Insight(calls).last_asked(but=f"{PORTAL}-")
    found = []
    for one in generation.everywhere(database):
        last = asked.get((one.service, one.environment))
        since = max(one.changed_at, state.begun) if last is None else float(last + DAY)
        idle = int((now - since) // DAY)
        if one.active is None or one.ending is not None or idle < days or one.changed_at > now - days * DAY:
            continue
        where = f" --environment {one.environment}" if one.environment else ""
        proposal = f"tulle service deprecate {one.service}{where}"
        found.append(
            Unused(
                one.service,
                one.environment,
                idle,
                None if last is None else float(last),
                one.changed_at,
                proposal,
            )
        )
    return sorted(found, key=lambda one: (-one.days, one.service, one.environment))


def outlook(
    settings: Settings,
    database: Database,
    calls: Calls,
    service: str,
    environment: str = "",
    *,
    rate_per_worker: float | None = None,
    now: float,
) -> Outlook:
    """Patterns and forecast of one service. NotFound, Invalid.

    A worker is given `rate_per_worker` requests a second; else as many as leave it idle for two fifths of the time, by
    how long requests took in hours that were not busy.
    """
    if rate_per_worker is not None and not 0 < rate_per_worker < 1e6:
        raise Invalid(
            f"{rate_per_worker} requests a second of a worker, expected more than 0 and less than 1,000,000"
        )
    key = environment_key(settings, environment)
    known = {(one.service, one.environment): one for one in generation.everywhere(database)}
    deployed = known.get((service, key))
    if deployed is None:
        names = sorted({name for name, place in known if place == key})
        hint = did_you_mean(service, names) or f"deployed there: {', '.join(names) or 'nothing'}"
        raise NotFound(
            f"service '{service}' is not deployed{' in ' + environment if environment else ''}", hint=hint
        )
    until = int(now) // HOUR * HOUR
    since = until - PATTERN_DAYS * DAY
    insight, which = Insight(calls), Which(service, key)
    counts = insight.hours(which, since, until)
    found = patterns({at: asked for at, (asked, _) in counts.items()}, since, until)
    if found.forecast is None:
        return Outlook(service, key, found, None)
    rate = rate_per_worker or _rate_of(counts)
    workers = deployed.workers_of(
        deployed.active_version or deployed.desired_version, settings.service_workers
    )
    burst = _burst(insight, which, counts, until)
    return Outlook(
        service, key, found, capacity(found.forecast, rate_per_worker=rate, burst=burst, now=workers)
    )


def _rate_of(counts: Mapping[int, tuple[int, int]]) -> float:
    """What a worker may be given, by the mean time of requests in the quieter half of the hours."""
    quiet = sorted(counts.values())[: max(1, len(counts) // 2)]
    means = [spent / asked for asked, spent in quiet if asked]
    return AIM * 1e6 / max(statistics.median(means), _LEAST_MICROSECONDS) if means else 1.0


def _burst(insight: Insight, which: Which, counts: Mapping[int, tuple[int, int]], until: int) -> float:
    """How much busier the busiest minute is than the busiest hour, in the days of which minutes are kept."""
    since = until - MINUTES_KEPT
    hour = max((asked for at, (asked, _) in counts.items() if at >= since), default=0)
    minute = insight.busiest_minute(which, since, until)
    return minute * 60 / hour if hour else 1.0


def plain(found: Outlook) -> dict[str, Any]:
    """As the API tells it."""
    return asdict(found)
