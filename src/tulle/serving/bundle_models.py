"""What an endpoint with a model puts into a package: the model, its look-ups, and a request that shows it is well.

Knows nothing of how features are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.pipeline.model_signature import Series
from tulle.serving import decide
from tulle.serving.bundle import Bundle, answered, check_queries, invalid
from tulle.serving.bundle_look_ups import bundle_enrichment, first_key
from tulle.serving.declared import PredictSpec
from tulle.serving.finder import FinderEntry
from tulle.serving.forecast import ForecastEntry, record_of_series
from tulle.serving.forecast_declared import ForecastSpec
from tulle.serving.predict import PredictEntry
from tulle.serving.predict_features import record_of
from tulle.serving.request import RequestError


def bundle_predict(spec: PredictSpec, bundle: Bundle) -> PredictEntry:
    """Add what a prediction endpoint needs; Invalid, with places, when model, data sets or columns are not there."""
    signature = bundle.model(spec.model, spec.places.get("model"))
    if signature.series is not None:
        message = f"endpoint '{spec.name}': model '{spec.model}' forecasts series"
        raise invalid(message, spec.places.get("model"), "make the endpoint one of `type: forecast`")
    commits = {bundle.product: bundle.commits[bundle.product]}
    entries = []
    for enrichment in spec.enrich:
        product = enrichment.product or bundle.product
        entry, commit = bundle_enrichment(enrichment, product, signature, bundle)
        entries.append(entry)
        if commit:
            commits[entry.origin] = commit
    for prop, wrong, hint in decide.problems(spec.threshold, spec.overrides, signature):
        raise invalid(f"endpoint '{spec.name}': {wrong}", spec.places.get(prop), hint)
    if spec.shown is not None and (problem := spec.shown.problem(signature.feature_names, spec.model)):
        raise invalid(f"endpoint '{spec.name}': {problem[0]}", spec.places.get("show_features"), problem[1])
    if spec.explaining is not None:
        bundle.background(spec.model, signature)
    record = record_of(signature, entries)
    check_queries(spec.test_queries, "features", record, spec.places)
    return PredictEntry(
        name=spec.name,
        model=f"models/{spec.model}",
        commits=dict(sorted(commits.items())),
        enrich=tuple(entries),
        bounds=spec.bounds,
        explaining=spec.explaining,
        threshold=spec.threshold,
        overrides=spec.overrides,
        shown=spec.shown,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=_probe(spec, entries, bundle),
    )


def bundle_forecast(spec: ForecastSpec, bundle: Bundle) -> ForecastEntry:
    """Add what an endpoint needs that forecasts; Invalid, with places, when there is no such model."""
    place = spec.places.get("model")
    signature = bundle.model(spec.model, place)
    if signature.series is None:
        message = (
            f"endpoint '{spec.name}': model '{spec.model}' does not forecast, its task is {signature.task}"
        )
        raise invalid(message, place, "make the endpoint one of `type: predict`")
    record = record_of_series(signature)
    for query in spec.test_queries:
        if query.expect is not None and "error" in query.expect:
            continue
        try:
            for row in query.body["items"]:
                record.convert(row)
        except RequestError as error:
            message = f"test query '{query.name}': {error.message}"
            raise invalid(message, spec.places.get("test_queries"), None) from None
    return ForecastEntry(
        name=spec.name,
        model=f"models/{spec.model}",
        commits={bundle.product: bundle.commits[bundle.product]},
        bounds=spec.bounds,
        description=spec.description,
        test_queries=spec.test_queries,
        probe=answered(spec.test_queries)
        or {"items": _past(bundle.sample_rows(spec.model), signature.series)},
    )


def _past(rows: Sequence[dict[str, Any]], series: Series) -> list[dict[str, Any]]:
    """The rows of a series of the sample as a request has them: where there are externals, the last are the future."""
    if not series.externals:
        return list(rows)
    future = [{**row, series.target: None} for row in rows[-series.horizon :]]
    return [*rows[: -series.horizon], *future]


def _probe(spec: PredictSpec, entries: Sequence[FinderEntry], bundle: Bundle) -> Mapping[str, Any]:
    """A request that is sure to be answered: a test query, else a looked-up key, else a row of the sample."""
    if (chosen := answered(spec.test_queries)) and not any(entry.store for entry in entries):
        return chosen
    sample = dict(bundle.sample(spec.model))
    for entry in entries:
        if entry.store:  # a database that is lost does not make the worker ill
            continue
        key = first_key(entry, bundle)
        if key:
            looked_up = {column.name for column in entry.columns}
            sample = {name: value for name, value in sample.items() if name not in looked_up} | key
    return {"features": sample}
