"""Saving a model that forecasts, and asking it: series in, how each goes on out.

It is saved as other models are (`model_file`), and tried on its sample first. Runs in the run process and in the
process that serves it. Knows nothing of requests.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tulle.errors import Invalid
from tulle.pipeline.model_file import ModelFile, checked_name, libraries, write_model
from tulle.pipeline.model_gate import gate
from tulle.pipeline.model_sample import feature_of, feature_table
from tulle.pipeline.model_score import is_numeric, optional
from tulle.pipeline.model_signature import Conversion, Series, Signature

MOST_AHEAD = 1000
_STEP = re.compile(r"([1-9][0-9]{0,3}) (second|minute|hour|day|week|month|year)s?")
_DELTAS = {
    "second": dt.timedelta(seconds=1),
    "minute": dt.timedelta(minutes=1),
    "hour": dt.timedelta(hours=1),
    "day": dt.timedelta(days=1),
    "week": dt.timedelta(weeks=1),
}
Told = tuple[list[float], list[list[float]]]  # numbers; quantiles of each


def save_forecaster(
    folder: Path,
    name: str,
    model: Any,
    *,
    sample: Any,
    time: str,
    target: str,
    horizon: int,
    step: str,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float] | None = None,
    identifiers: Sequence[str] = (),
    externals: Sequence[str] = (),
) -> ModelFile:
    """Write the files of a model that has `forecast` (`tulle.sdk.forecast`); Invalid for what the caller can mend.

    `sample`: rows of some series, from which it is tried: `time` and `target`, `identifiers` that tell series apart,
    `externals` that are known ahead. It says `horizon` steps ahead, each of `step` (such as `1 day`).
    """
    checked_name(name)
    if not hasattr(model, "forecast"):
        raise Invalid(f"model '{name}' is a {type(model).__name__}, which has no forecast")
    if not 1 <= horizon <= MOST_AHEAD:
        raise Invalid(f"a forecast is from 1 to {MOST_AHEAD} steps ahead, not {horizon}")
    next_time(dt.datetime(2000, 1, 1), step)  # noqa: DTZ001  whether it is one
    columns = [time, target, *identifiers, *externals]
    if len(set(columns)) != len(columns):
        raise Invalid(f"time, target, identifiers and externals are different columns, not {columns}")
    table = feature_table(sample, columns, name)
    features = tuple(feature_of(table.column(column), column) for column in columns)
    if features[0].type not in {"date", "timestamp"}:
        raise Invalid(f"the time '{time}' is {features[0].type}, expected a date or a timestamp")
    if not is_numeric(features[1].type):
        raise Invalid(f"the target '{target}' is {features[1].type}, expected a number")
    quantiles = tuple(float(q) for q in getattr(model, "quantiles", ()))
    least = int(getattr(model, "least", 1))
    series = Series(time, target, tuple(identifiers), tuple(externals), horizon, step, quantiles, least)
    chosen = _tried(name, model, table, series)
    measured, stated = gate(name, metrics, baseline or {})
    signature = Signature(
        name=name,
        task="forecast",
        estimator=type(model).__name__,
        features=features,
        classes=(),
        class_type=None,
        has_probabilities=False,
        argmax=False,
        percentiles=(),
        frame=getattr(model, "takes", "rows") == "frame",
        conversion=Conversion("native", reason="a model that forecasts runs as it is"),
        sample_rows=chosen.num_rows,
        metrics=measured,
        baseline=stated,
        libraries=libraries(model, frame=getattr(model, "takes", "rows") == "frame", onnx=False),
        series=series,
    )
    return write_model(folder, name, model, None, signature, chosen, None)


def _tried(name: str, model: Any, table: pa.Table, series: Series) -> pa.Table:
    """The rows of one series that was forecast: the longest one. Invalid when it cannot be."""
    grouped: dict[tuple[Any, ...], list[int]] = {}
    rows = table.to_pylist()
    for place, row in enumerate(rows):
        if row[series.time] is None or row[series.target] is None:
            raise Invalid(
                f"row {place} of the sample of model '{name}' has no '{series.time}' or '{series.target}'"
            )
        grouped.setdefault(tuple(row[one] for one in series.identifiers), []).append(place)
    longest = max(grouped.values(), key=list.__len__)
    places = sorted(longest, key=lambda place: rows[place][series.time])
    ahead = series.horizon if series.externals else 0
    if len(places) < series.least + ahead:
        raise Invalid(
            f"no series of the sample of model '{name}' has {series.least + ahead} rows, which it needs to be tried"
        )
    ordered = [rows[place] for place in places]
    past = ordered[: len(ordered) - ahead]
    future = ordered[len(ordered) - ahead :] if ahead else times_ahead(past[-1], series)
    try:
        forecast(model, series, past, future)
    except Exception as exc:
        raise Invalid(
            f"model '{name}' cannot forecast a series of its own sample: {type(exc).__name__}: {exc}"
        ) from exc
    return table.take(pa.array(places[-1000:]))


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
