"""What counts of calls and deployments tell together: services and versions of APIs nobody uses, and what may come.

Reads counts, deployments and APIs; changes none. Knows no door.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from tulle.catalog.asked import Asked, asked_there, everything_asked, names_there
from tulle.config import Settings
from tulle.errors import Conflict, Invalid, NotFound, did_you_mean
from tulle.gateway.apis.records import Life
from tulle.gateway.applications import PORTAL
from tulle.observe.calls import DAY, MINUTES_KEPT, Calls
from tulle.observe.insight import Insight, Which
from tulle.observe.patterns import HOUR, Capacity, Patterns, capacity, patterns
from tulle.spec import environment as declared
from tulle.spec.environment import production
from tulle.state.db import Database

AIM: Final = 0.6  # load of a worker, as autoscaling has it
PATTERN_DAYS: Final = 28
_LEAST_MICROSECONDS: Final = 50.0  # what a request costs a worker at least


@dataclass(frozen=True, slots=True)
class Unused:
    """A service that nobody asked for so many days, or a `version` of an API: in no environment, so it names none.

    `last` is None where it was never seen asked; `deployed_at` is when a version was published.
    """

    service: str
    environment: str
    days: int
    last: float | None
    deployed_at: float
    proposal: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The patterns of one service or API, and the workers its busiest hour to come asks for where that can be said.

    Of an API that can never be said: its workers are those of the service behind it, or nobody's here.
    """

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


def unused(settings: Settings, database: Database, calls: Calls, *, days: int, now: float) -> list[Unused]:
    """Deployed services and versions of APIs that nobody but the portal asked for so many days, the longest first.

    Conflict while the counts do not reach back so far.
    """
    state = calls.state()
    if state is None or now - state.begun < days * DAY:
        known = 0 if state is None else int((now - state.begun) // DAY)
        raise Conflict(
            f"calls are counted for {known} days, which says nothing of {days}",
            hint="ask for fewer days, or later",
        )
    last = Insight(calls).last_asked(but=f"{PORTAL}-")
    everything = everything_asked(settings, database)
    used = _used(everything, last)

    def idle_since(asked: int | None, begun: float) -> int:
        since = max(begun, state.begun) if asked is None else float(asked + DAY)
        return 0 if begun > now - days * DAY else int((now - since) // DAY)

    found = []
    for (name, environment), one in everything.items():
        deployed = one.deployment
        if deployed is None or deployed.active is None or deployed.ending is not None:
            continue
        asked = used.get((name, environment))
        idle = idle_since(asked, deployed.changed_at)
        where = f" --environment {environment}" if environment else ""
        proposal = f"tulle service deprecate {name}{where}"
        found.append(Unused(name, environment, idle, _or_none(asked), deployed.changed_at, proposal))
    for name, version, life in _published(everything):
        # What was counted without a version may have been of this one.
        asked = max(
            (at for (of, _, its), at in last.items() if of == name and its in {version, ""}), default=None
        )
        idle = idle_since(asked, life.changed_at)
        proposal = f"tulle api deprecate {name} {version}"
        found.append(Unused(name, "", idle, _or_none(asked), life.changed_at, proposal, version))
    return sorted(
        (one for one in found if one.days >= days),
        key=lambda one: (-one.days, one.service, one.environment, one.version),
    )


def _used(
    everything: Mapping[tuple[str, str], Asked], last: Mapping[tuple[str, str, str], int]
) -> Mapping[tuple[str, str], int]:
    """When each deployed service was last asked: at its own address, or as what answers an API."""
    found: dict[tuple[str, str], int] = {}
    for (name, environment, version), at in last.items():
        one = everything.get((name, environment))
        names = {name}
        if one is not None:
            names |= {of.target.service for of in one.instances if version in {"", of.version.version}}
        for each in names:
            found[each, environment] = max(at, found.get((each, environment), 0))
    return found


def _published(everything: Mapping[tuple[str, str], Asked]) -> Iterator[tuple[str, str, Life]]:
    """The versions of APIs that are in use as far as anybody said, each once."""
    seen: set[tuple[str, str]] = set()
    for one in (each for asked in everything.values() for each in asked.instances):
        key = (one.api.name, one.version.version)
        if one.life.status == "published" and key not in seen:
            seen.add(key)
            yield (*key, one.life)


def _or_none(at: int | None) -> float | None:
    return None if at is None else float(at)


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
    """Patterns and forecast of one service or API. NotFound, Invalid.

    A worker is given `rate_per_worker` requests a second; else as many as leave it idle for two fifths of the time, by
    how long requests took in hours that were not busy.
    """
    if rate_per_worker is not None and not 0 < rate_per_worker < 1e6:
        raise Invalid(
            f"{rate_per_worker} requests a second of a worker, expected more than 0 and less than 1,000,000"
        )
    key = environment_key(settings, environment)
    found_there = asked_there(settings, database, service, key)
    if found_there is None:
        names = sorted(names_there(settings, database, key))
        hint = did_you_mean(service, names) or f"there: {', '.join(names) or 'nothing'}"
        where = f" in {environment}" if environment else ""
        raise NotFound(f"there is no API '{service}'{where}, nor such a service that is deployed", hint=hint)
    deployed = found_there.deployment
    until = int(now) // HOUR * HOUR
    since = until - PATTERN_DAYS * DAY
    insight, which = Insight(calls), Which(service, key)
    counts = insight.hours(which, since, until)
    found = patterns({at: asked for at, (asked, _) in counts.items()}, since, until)
    if found.forecast is None or deployed is None:
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
