"""Asking a model that forecasts: series in, how each goes on out; and the times that lie ahead.

Runs wherever such a model is tried or served. Imported by every worker, so it needs nothing that files need. Knows
nothing of requests.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tulle.errors import Invalid
from tulle.pipeline.model_score import optional
from tulle.pipeline.model_signature import Series

_STEP = re.compile(r"([1-9][0-9]{0,3}) (second|minute|hour|day|weekday|week|month|year)s?")
MOST_FILLED = 10_000  # steps of a series that are missing and made up for
_FRIDAY = 4
_DELTAS = {
    "second": dt.timedelta(seconds=1),
    "minute": dt.timedelta(minutes=1),
    "hour": dt.timedelta(hours=1),
    "day": dt.timedelta(days=1),
    "week": dt.timedelta(weeks=1),
}
Told = tuple[list[float], list[list[float]]]  # numbers; quantiles of each


def times_ahead(past: Sequence[Mapping[str, Any]], series: Series) -> list[dict[str, Any]]:
    """The rows of the future of a series without externals: their times. Invalid beyond the year 9999."""
    last = past[-1]
    day = _day_of([row[series.time] for row in past], series.step)
    try:
        times = [next_time(last[series.time], series.step, n + 1, day) for n in range(series.horizon)]
    except (OverflowError, ValueError) as exc:
        raise Invalid(f"{series.horizon} steps after {last[series.time]} lie beyond the calendar") from exc
    return [{**{name: last[name] for name in series.identifiers}, series.time: moment} for moment in times]


def next_time(moment: Any, step: str, times: int = 1, day: int = 0) -> Any:
    """The time so many steps later; Invalid for no step.

    Months keep to the `day`, that of `moment` where none is said: one after the 31st is the last of the month.
    """
    match = _STEP.fullmatch(step)
    if not match:
        raise Invalid(
            f"'{step}' is no step", hint="for example '1 day', '1 weekday', '15 minutes', '3 months'"
        )
    count, unit = int(match[1]) * times, match[2]
    if unit in _DELTAS:
        if not isinstance(moment, dt.datetime) and unit in {"second", "minute", "hour"}:
            raise Invalid(f"a step of {step} needs times, and these are dates")
        return moment + count * _DELTAS[unit]
    if unit == "weekday":
        return _weekdays_later(moment, count)
    months = moment.month - 1 + count * (12 if unit == "year" else 1)
    year, month = moment.year + months // 12, months % 12 + 1
    most = calendar.monthrange(year, month)[1]
    return moment.replace(year=year, month=month, day=min(day or moment.day, most))


def _weekdays_later(moment: Any, count: int) -> Any:
    """So many days from Monday to Friday later; Saturday and Sunday count as the Friday before them."""
    place = min(moment.weekday(), _FRIDAY)
    weeks, rest = divmod(place + count, 5)
    return moment + dt.timedelta(days=7 * weeks + rest - moment.weekday())


def _day_of(times: Sequence[Any], step: str) -> int:
    """On which day of the month the times of a series are: where all are as near to it as their month lets them be,
    the last one's own may be too early. 0 where that says nothing."""
    if not step.endswith(("month", "months", "year", "years")):
        return 0
    day: int = max(moment.day for moment in times)
    fits = all(moment.day == min(day, calendar.monthrange(moment.year, moment.month)[1]) for moment in times)
    return day if fits else 0


def evenly(past: Sequence[Mapping[str, Any]], series: Series) -> list[Mapping[str, Any]]:
    """A past without gaps: at steps that are missing, the target lies on the line between its neighbours.

    Where times are not whole steps apart, nothing is missing. Invalid where more is missing than anybody meant.
    """
    day = _day_of([row[series.time] for row in past], series.step)
    found: list[Mapping[str, Any]] = [past[0]]
    filled = 0
    for before, after in pairwise(past):
        start, end = before[series.time], after[series.time]
        missing, moment = [], next_time(start, series.step, 1, day)
        while moment < end:
            missing.append(moment)
            filled += 1
            if filled > MOST_FILLED:
                raise Invalid(f"more than {MOST_FILLED:,} steps of {series.step} are missing in the series")
            moment = next_time(start, series.step, len(missing) + 1, day)
        if moment == end:
            low, high = float(before[series.target]), float(after[series.target])
            for place, at in enumerate(missing, 1):
                value = low + (high - low) * place / (len(missing) + 1)
                row = dict.fromkeys(before) | {name: before[name] for name in series.identifiers}
                found.append({**row, series.time: at, series.target: value})
        found.append(after)
    return found


def forecast(
    model: Any, series: Series, past: Sequence[Mapping[str, Any]], future: Sequence[Mapping[str, Any]]
) -> Told:
    """What a model says of one series; ValueError when that is not what it promised, Invalid when it cannot be asked.

    A model that counts steps (`even`) is given a past in which none is missing.
    """
    if getattr(model, "even", False):
        past = evenly(past, series)
    ahead = [{name: value for name, value in row.items() if name != series.target} for row in future]
    given: Any = (list(past), ahead)
    if getattr(model, "takes", "rows") == "frame":
        pandas = optional("pandas")
        given = tuple(pandas.DataFrame(rows) for rows in given)
    said = model.forecast(*given, series.target)
    numbers, quantiles = said if isinstance(said, tuple) else (said, None)
    values = np.asarray(numbers, dtype=np.float64).reshape(-1)
    if len(values) != len(future) or not np.isfinite(values).all():
        raise ValueError(f"it gave {len(values)} numbers for {len(future)} steps, or some that are none")
    if not series.quantiles:
        return values.tolist(), []
    spread = np.asarray(quantiles, dtype=np.float64)
    if spread.shape != (len(future), len(series.quantiles)) or not np.isfinite(spread).all():
        raise ValueError(f"its quantiles have the shape {spread.shape}, or are no numbers")
    return values.tolist(), spread.tolist()
