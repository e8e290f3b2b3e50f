"""Saving a model that forecasts.

It is saved as other models are (`model_file`), and tried on its sample first, as it will be asked (`model_ahead`). Runs
in the run process. Knows nothing of requests.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tulle.errors import Invalid
from tulle.pipeline.model_ahead import forecast, next_time, times_ahead
from tulle.pipeline.model_file import ModelFile, checked_name, libraries, write_model
from tulle.pipeline.model_gate import gate
from tulle.pipeline.model_sample import feature_of, feature_table
from tulle.pipeline.model_score import is_numeric
from tulle.pipeline.model_signature import Conversion, Series, Signature

MOST_AHEAD = 1000


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
    future = ordered[len(ordered) - ahead :] if ahead else times_ahead(past, series)
    try:
        forecast(model, series, past, future)
    except Exception as exc:
        raise Invalid(
            f"model '{name}' cannot forecast a series of its own sample: {type(exc).__name__}: {exc}"
        ) from exc
    return table.take(pa.array(places[-1000:]))
