"""What OpenAPI says of endpoints that answer by a model: predictions and forecasts.

Pure but for reading the model's signature: schemas have the types of its features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.pipeline.model_signature import SIGNATURE, Feature, Signature, read_signature
from tulle.serving.endpoint import MOST_ITEMS
from tulle.serving.explaining import LEAST_STEPS, MOST_STEPS
from tulle.serving.finder import STATUSES, FinderEntry
from tulle.serving.forecast import ForecastEntry
from tulle.serving.keyed_rows import DEFAULT
from tulle.serving.openapi_parts import (
    IGNORED,
    Json,
    answer_of,
    examples_of,
    many_of,
    may_be_ignored,
    object_of,
    of_stores,
    post_of,
    type_of,
)
from tulle.serving.predict import PredictEntry
from tulle.serving.predict_result import class_text
from tulle.serving.shown_features import ASKED_FOR

_EXPLANATIONS: Json = {
    "type": ["object", "null"],
    "description": "whether and how the prediction is explained; what is null or left out is as the endpoint is set",
    "properties": {
        "enabled": {"type": ["boolean", "null"]},
        "method": {"enum": ["SHAPLEY", "ICE", None]},
        "nExplanations": {"type": ["integer", "null"], "description": "how many features"},
        "nMonteCarloSteps": {"type": ["integer", "null"], "minimum": LEAST_STEPS, "maximum": MOST_STEPS},
    },
}
_OVERRIDE: Json = {
    "type": "object",
    "description": "the rule that said the prediction, and what the model had said",
    "properties": {
        "ruleMatched": {"const": True},
        "appliedRule": {"type": "string"},
        "rawResult": {"type": "object"},
        "predictionChanged": {"type": "boolean"},
    },
}
_LOOKUPS: Json = {
    "type": "array",
    "description": "what was looked up for this prediction",
    "items": {
        "type": "object",
        "properties": {
            "dataSet": {"type": "string"},
            "status": {"enum": list(STATUSES)},
            "eventTime": {"type": "string", "format": "date-time"},
        },
        "required": ["dataSet", "status"],
    },
}


def describe_predict(entry: PredictEntry, folder: Path) -> Mapping[str, Any]:
    """The paths of a prediction endpoint."""
    signature = read_signature((folder / entry.model / SIGNATURE).read_bytes())
    features = _features(entry, signature)
    result = _prediction(signature, entry.enrich)
    if entry.overrides:
        result["properties"]["override"] = _OVERRIDE
    asked: Json = {"explanations": _EXPLANATIONS} if entry.explaining is not None else {}
    if entry.explaining is not None:
        parts = {
            "type": "object",
            "description": "what features add",
            "additionalProperties": {"type": "number"},
        }
        result["properties"]["explanations"] = parts
    if entry.shown is not None:
        words = "whether the answer tells features as the model was given them"
        asked[ASKED_FOR] = {"type": ["boolean", "null"], "default": entry.shown.enabled, "description": words}
        kinds = {feature.name: feature.type for feature in signature.features}
        told = {name: type_of(kinds[name], nullable=True) for name in entry.shown.features}
        result["properties"]["features"] = object_of(told, required=list(told))
    one = object_of({"features": features, **asked}, required=["features"])
    item = object_of({"features": features}, required=["features"])
    many = object_of(
        {"items": {"type": "array", "maxItems": MOST_ITEMS, "items": item}, **asked}, required=["items"]
    )
    may_lack = any(map(may_be_ignored, entry.enrich))
    answer = answer_of("result", {"anyOf": [result, IGNORED]} if may_lack else result)
    answers = answer_of("results", {"type": "array", "items": {"anyOf": [result, IGNORED]}})
    summary = entry.description or f"Predict with the model {signature.name}"
    examples = examples_of(entry.test_queries)
    paths = {
        f"/{entry.name}/predict": post_of(
            f"{entry.name}-predict",
            summary,
            one,
            answer,
            examples,
            more=("404", "422", *of_stores(entry.enrich)),
        ),
        f"/{entry.name}/predict-multi": post_of(
            f"{entry.name}-predict-multi",
            f"{summary}: many at once",
            many,
            answers,
            many_of(entry.test_queries),
        ),
    }
    if signature.task != "effect":
        return paths
    return paths | {_as_effect(path): _renamed(item) for path, item in paths.items()}


def _as_effect(name: str) -> str:
    """The name by which effects are asked for: of a path or an operation, whose end alone is the action."""
    before, word, after = name.rpartition("predict")
    return f"{before}{word}-effect{after}"


def _renamed(item: Json) -> Json:
    post = item["post"]
    return {"post": {**post, "operationId": _as_effect(post["operationId"])}}


def describe_forecast(entry: ForecastEntry, folder: Path) -> Mapping[str, Any]:
    """The path of an endpoint that forecasts."""
    signature = read_signature((folder / entry.model / SIGNATURE).read_bytes())
    series = signature.series
    assert series is not None
    row = object_of(
        {
            f.name: type_of(f.type, nullable=f.name not in {series.time, *series.identifiers})
            for f in signature.features
        },
        required=[series.time, *series.identifiers],
    ) | {"additionalProperties": False}
    ahead = f" Rows without {series.target} tell the externals of the next {series.horizon} steps."
    row["description"] = f"A row of a series, one a {series.step}." + (ahead if series.externals else "")
    known = {f.name: type_of(f.type) for f in signature.features if f.name in series.identifiers}
    item = object_of(
        {
            "time": {"type": "string", "format": "date-time"},
            "forecast": {"type": "number"},
            "quantiles": {"type": "array", "items": {"type": "number"}},
            "quantilesValues": {"type": "array", "items": {"type": "number"}},
            "timeseriesIdentifier": object_of(known, required=list(known)),
            "ignored": {"type": "boolean"},
        },
        required=["time", "forecast", "ignored", "timeseriesIdentifier"],
    )
    items = {"type": "array", "minItems": 1, "items": row}
    answer = answer_of("results", {"type": "array", "items": {"anyOf": [item, IGNORED]}})
    summary = entry.description or f"Forecast {series.target}, {series.horizon} steps of {series.step} ahead"
    return {
        f"/{entry.name}/forecast": post_of(
            f"{entry.name}-forecast",
            summary,
            object_of({"items": items}, required=["items"]),
            answer,
            examples_of(entry.test_queries),
            more=("422", "504"),
        )
    }


def _features(entry: PredictEntry, signature: Signature) -> Json:
    properties = {feature.name: _feature(feature) for feature in signature.features}
    looked_up: set[str] = set()
    keys = []
    for one in entry.enrich:
        looked_up |= {column.name for column in one.columns}
        source = f"looks the features up in {one.data_set} of {one.product}"
        for column in one.key:
            keys.append(column.name)
            properties.setdefault(column.name, type_of(column.type) | {"description": source})
    always = [feature.name for feature in signature.features if feature.name not in looked_up]
    schema = object_of(properties, required=always) | {"additionalProperties": False}
    if keys:
        everything = [feature.name for feature in signature.features]
        schema["anyOf"] = [{"required": sorted(set(keys))}, {"required": everything}]
        schema["description"] = (
            f"Send {' and '.join(dict.fromkeys(keys))} alone and the features are looked up; features you send win"
        )
    return schema


def _feature(feature: Feature) -> Json:
    schema = type_of(feature.type, nullable=feature.nullable)
    if feature.minimum is not None and feature.maximum is not None:
        schema["description"] = f"seen in training: {feature.minimum} to {feature.maximum}"
    elif feature.categories:
        schema["description"] = "seen in training: " + ", ".join(feature.categories)
        schema["examples"] = list(feature.categories[:3])
    return schema


def _is_told(rows: FinderEntry) -> bool:
    """Whether an answer tells how a row was found, since that may differ."""
    unavailable = rows.store.unavailable if rows.store else ""
    return rows.timed or DEFAULT in {rows.missing_key, rows.no_match, unavailable}


def _prediction(signature: Signature, enrich: Sequence[FinderEntry]) -> Json:
    told = {"lookups": _LOOKUPS} if any(map(_is_told, enrich)) else {}
    if signature.clusters:
        cluster: Json = {"prediction": {"enum": list(signature.clusters)}, "ignored": {"type": "boolean"}}
        if signature.has_distances:
            names = [class_text(value) for value in signature.clusters]
            far = {"type": "number", "minimum": 0}
            cluster["distances"] = object_of(dict.fromkeys(names, far), required=names)
        return object_of(cluster | told, required=["prediction"])
    if not signature.classes:
        number: Json = {"prediction": {"type": "number"}, "ignored": {"type": "boolean"}}
        if signature.task == "effect":
            number["effect"] = {"type": "number", "description": "what the treatment changes for this row"}
            number["effectPercentile"] = {"type": "integer", "minimum": 1, "maximum": 100}
        return object_of(number | told, required=["prediction"])
    properties: Json = {"prediction": {"enum": list(signature.classes)}, "ignored": {"type": "boolean"}}
    if signature.percentiles:
        properties["probaPercentile"] = {"type": "integer", "minimum": 1, "maximum": 100}
    if signature.has_probabilities:
        names = [class_text(value) for value in signature.classes]
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties["probas"] = object_of(dict.fromkeys(names, share), required=names)
    return object_of(properties | told, required=["prediction"])
