"""Asking a model that forecasts: series in, how each goes on out; and the times that lie ahead.

Runs wherever such a model is tried or served. Imported by every worker, so it needs nothing that files need. Knows
nothing of requests.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tulle.errors import Invalid
from tulle.pipeline.model_score import optional
from tulle.pipeline.model_signature import Series

_STEP = re.compile(r"([1-9][0-9]{0,3}) (second|minute|hour|day|week|month|year)s?")
_DELTAS = {
    "second": dt.timedelta(seconds=1),
    "minute": dt.timedelta(minutes=1),
    "hour": dt.timedelta(hours=1),
    "day": dt.timedelta(days=1),
    "week": dt.timedelta(weeks=1),
}
Told = tuple[list[float], list[list[float]]]  # numbers; quantiles of each


def times_ahead(last: Mapping[str, Any], series: Series) -> list[dict[str, Any]]:
    """The rows of the future of a series without externals: their times."""
    moment, found = last[series.time], []
    for _ in range(series.horizon):
        moment = next_time(moment, series.step)
        found.append({**{name: last[name] for name in series.identifiers}, series.time: moment})
    return found


def next_time(moment: Any, step: str) -> Any:
    """The time one step later; a month later than the 31st is the last of the month. Invalid for no step."""
    match = _STEP.fullmatch(step)
    if not match:
        raise Invalid(f"'{step}' is no step", hint="for example '1 day', '15 minutes', '3 months'")
    count, unit = int(match[1]), match[2]
    if unit in _DELTAS:
        if not isinstance(moment, dt.datetime) and unit in {"second", "minute", "hour"}:
            raise Invalid(f"a step of {step} needs times, and these are dates")
        return moment + count * _DELTAS[unit]
    months = moment.month - 1 + count * (12 if unit == "year" else 1)
    year, month = moment.year + months // 12, months % 12 + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


def forecast(
    model: Any, series: Series, past: Sequence[Mapping[str, Any]], future: Sequence[Mapping[str, Any]]
) -> Told:
    """What a model says of one series; ValueError when that is not what it promised."""
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
