"""When a product runs by itself: `schedule:` of its data-product component, as a value and as moments in time.

Cron follows the wall clock of the schedule's time zone the way Debian's cron does: a time of day that a clock
change leaves out is made up for right after the change, one that comes twice fires once, and what goes by minutes
or hours (`*/15 * * * *`) goes on evenly. Pure: the clock is given.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from tulle.errors import Invalid, Place, did_you_mean

CATCH_UP = ("latest", "all", "none")
IF_RUNNING = ("queue", "skip")
MAIN = "main"
DURATION = r"^[0-9]{1,6}(s|m|h|d|w)$"
DURATION_WORDS = "a number with s, m, h, d or w, such as 30m or 1d"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = 3650 * 86_400  # what is said in good earnest; ages after that are beyond the calendar
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def duration(text: str) -> int:
    """Seconds of a duration such as `30m`. Invalid when it is none."""
    if not re.fullmatch(DURATION, text):
        raise Invalid(f"'{text}' is no duration", hint=f"write {DURATION_WORDS}")
    return int(text[:-1]) * _UNITS[text[-1]]


def _duration(description: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "string",
        "pattern": DURATION,
        "x-expected": DURATION_WORDS,
        "description": description,
        **more,
    }


SCHEDULE: dict[str, Any] = {
    "type": "object",
    "description": "when the product runs by itself: by the clock, after its upstream, or by the age of its data",
    "additionalProperties": False,
    "minProperties": 1,
    "x-expected": "a mapping with cron, on or fresh_within",
    "properties": {
        "cron": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "minute, hour, day of month, month, day of week, such as 30 6 * * 1-5",
        },
        "time_zone": {
            "type": "string",
            "minLength": 1,
            "maxLength": 64,
            "default": "UTC",
            "description": "the zone whose wall clock cron means, such as Europe/Berlin",
        },
        "on": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "description": "a product"},
            "minItems": 1,
            "uniqueItems": True,
            "description": "products after whose publishing it runs; an input port must take from each",
        },
        "fresh_within": _duration("it runs when what is published was last confirmed longer ago than this"),
        "late_after": _duration(
            "data older than this is late, which is alerted; default: twice fresh_within, else never"
        ),
        "catch_up": {
            "enum": list(CATCH_UP),
            "default": "latest",
            "description": "fires missed while nothing ran: only the latest is made up for, all, or none",
        },
        "retries": {
            "type": "integer",
            "minimum": 0,
            "maximum": 20,
            "default": 0,
            "description": "how often a run is tried again that failed for a reason that may pass",
        },
        "retry_delay": _duration("how long to wait before the next try", default="5m"),
        "timeout": _duration("a run that takes longer is ended; the warehouse's bound holds too"),
        "if_running": {
            "enum": list(IF_RUNNING),
            "default": "queue",
            "description": "at a fire while the product runs: one run waits its turn, or the fire is skipped",
        },
        "paused": {
            "type": "boolean",
            "default": False,
            "description": "whether it fires not at all for the time being",
        },
        "environments": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 63, "description": "a branch"},
            "minItems": 1,
            "uniqueItems": True,
            "default": [MAIN],
            "description": "the environments in which it runs, by the names of their branches",
        },
    },
}


ALERTS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "string",
        "pattern": r"^[a-z0-9][a-z0-9-]{0,62}$",
        "x-expected": "the name of an alert channel in mesh.yaml",
        "description": "a channel",
    },
    "uniqueItems": True,
    "description": "alert channels of mesh.yaml that are told of this product beside those told of all",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a product runs by itself; durations in seconds, 0 for none."""

    cron: str = ""
    time_zone: str = "UTC"
    on: tuple[str, ...] = ()  # upstream products
    fresh_within: int = 0
    late_after: int = 0
    catch_up: str = "latest"
    retries: int = 0
    retry_delay: int = 300
    timeout: int = 0
    if_running: str = "queue"
    paused: bool = False
    environments: tuple[str, ...] = (MAIN,)
    place: Place | None = field(default=None, compare=False, repr=False)

    def after(self, moment: float) -> float | None:
        """The first fire by the clock after `moment` (seconds since the epoch); None without cron."""
        return next(self.fires(moment), None)

    def fires(self, moment: float) -> Iterator[float]:
        """The fires by the clock after `moment`, one after another."""
        if not self.cron:
            return
        # Whole seconds; what is exactly at `moment` has been.
        start = dt.datetime.fromtimestamp(int(moment), _zone(self.time_zone))
        last = moment
        for fire in CronSim(self.cron, start):
            at = fire.timestamp()
            if at > last:
                yield at
                last = at

    @property
    def sentence(self) -> str:
        """When it runs, in words."""
        parts = []
        if self.cron:
            parts.append(f"at '{self.cron}' ({self.time_zone})")
        if self.on:
            parts.append(f"after {' or '.join(self.on)} published")
        if self.fresh_within:
            parts.append(f"when older than {words(self.fresh_within)}")
        return ", ".join(parts) or "never by itself"


def words(seconds: float) -> str:
    """A duration the way documents write it, in its largest whole unit."""
    whole = int(seconds)
    unit = next((u for u in "wdhm" if whole and whole % _UNITS[u] == 0), "s")
    return f"{whole // _UNITS[unit]}{unit}"


def schedule_of(says: Mapping[str, Any], place: Place | None = None) -> Schedule:
    """The schedule that checked properties say."""
    fresh = duration(says["fresh_within"]) if "fresh_within" in says else 0
    return Schedule(
        cron=" ".join(says.get("cron", "").split()),
        time_zone=says.get("time_zone", "UTC"),
        on=tuple(says.get("on", ())),
        fresh_within=fresh,
        late_after=duration(says["late_after"]) if "late_after" in says else 2 * fresh,
        catch_up=says.get("catch_up", "latest"),
        retries=says.get("retries", 0),
        retry_delay=duration(says.get("retry_delay", "5m")),
        timeout=duration(says["timeout"]) if "timeout" in says else 0,
        if_running=says.get("if_running", "queue"),
        paused=says.get("paused", False),
        environments=tuple(says.get("environments", (MAIN,))),
        place=place,
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a schedule: in which property, and what to do about it."""

    message: str
    steps: tuple[str | int, ...]
    hint: str


def faults(says: Any) -> Iterator[Fault]:
    """What is wrong with the properties of a schedule beyond their schema."""
    if not isinstance(says, dict):
        return
    zone, cron = says.get("time_zone", "UTC"), says.get("cron")
    zone_holds = isinstance(zone, str) and _is_zone(zone)
    if isinstance(zone, str) and not zone_holds:
        hint = did_you_mean(zone, available_timezones()) or "a name such as Europe/Berlin"
        if hint.startswith("known:"):
            hint = "use a name of the IANA database, such as Europe/Berlin, America/New_York or UTC"
        yield Fault(f"there is no time zone '{zone}'", ("time_zone",), hint)
    if isinstance(cron, str) and (fault := _cron_fault(cron, zone if zone_holds else "UTC")):
        yield fault
    if not {"cron", "on", "fresh_within"} & says.keys():
        yield Fault("the schedule says no time to run", (), "give it cron, on or fresh_within")
    if "time_zone" in says and "cron" not in says:
        yield Fault("a time zone without cron means nothing", ("time_zone",), "add cron, or leave it out")
    for name in ("fresh_within", "late_after", "retry_delay", "timeout"):
        said = str(says.get(name))
        if name != "retry_delay" and re.fullmatch(r"0+[smhdw]", said):
            yield Fault(f"{name} is no time at all", (name,), "leave it out, or give it 1m or more")
        if _is_duration(said) and duration(said) > _LONGEST:
            yield Fault(f"{name} is longer than ten years", (name,), "leave it out, or give it 3650d or less")
    fresh, late = str(says.get("fresh_within")), str(says.get("late_after"))
    if _is_duration(fresh) and _is_duration(late) and duration(late) < duration(fresh):
        message = f"data is late after {late}, before it is made anew after {fresh}"
        yield Fault(message, ("late_after",), f"give late_after at least {fresh}")


def _is_duration(text: str) -> bool:
    return re.fullmatch(DURATION, text) is not None


def _cron_fault(cron: str, zone: str) -> Fault | None:
    fields = cron.split()
    if cron.strip() in _NICKNAMES:
        return Fault(
            f"'{cron.strip()}' is written out in a schedule", ("cron",), f"write {_NICKNAMES[cron.strip()]}"
        )
    if len(fields) != 5:
        hint = "write minute, hour, day of month, month and day of week, such as 30 6 * * 1-5"
        return Fault(f"cron has {len(fields)} fields, expected 5", ("cron",), hint)
    try:
        start = dt.datetime(2024, 1, 1, tzinfo=_zone(zone))
        found = next(iter(CronSim(cron, start)), None)
    except CronSimError as error:
        part = str(error).removeprefix("Bad ")
        if _fits_one_by_one(fields):
            found = None
        else:
            number = _FIELDS.index(part) if part in _FIELDS else 0
            message = f"cron has '{fields[number]}' as its {part}, which is none"
            return Fault(message, ("cron",), f"{_RANGES[number]}; lists 1,2, ranges 1-5 and steps */10 too")
    if found is None:
        return Fault(
            f"cron '{cron}' never fires", ("cron",), "no such day exists; look at day of month and month"
        )
    return None


def _fits_one_by_one(fields: list[str]) -> bool:
    """Whether each field is good by itself, so that only their combination is not."""
    for position, text in enumerate(fields):
        alone = ["*"] * 5
        alone[position] = text
        try:
            CronSim(" ".join(alone), dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
        except CronSimError:
            return False
    return True


_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_RANGES = (
    "a minute is 0 to 59",
    "an hour is 0 to 23",
    "a day is 1 to 31, L for the last",
    "a month is 1 to 12 or JAN to DEC",
    "a day of the week is 0 to 7 or SUN to SAT",
)


@lru_cache(maxsize=700)
def _zone(name: str) -> dt.tzinfo:
    # Of UTC, cronsim knows only this one; it needs no rules of change.
    return dt.UTC if name == "UTC" else ZoneInfo(name)


def _is_zone(name: str) -> bool:
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
