"""The OpenAPI 3.1 document of a service, from what its package says of its endpoints.

Pure but for reading model signatures. Schemas have the types of the model's features and the data set's
columns; examples are the saved test queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.pipeline.model_signature import SIGNATURE, Feature, Signature, read_signature
from tulle.serving.access import Access
from tulle.serving.compose import ComposeEntry
from tulle.serving.compose_declared import reaches_out
from tulle.serving.declared import TestQuery
from tulle.serving.explaining import LEAST_STEPS, MOST_STEPS
from tulle.serving.finder import NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT, FinderEntry
from tulle.serving.forecast import ForecastEntry
from tulle.serving.function import FunctionEntry
from tulle.serving.index import Column
from tulle.serving.keyed_rows import ALL, DEFAULT, FORBIDDEN, IGNORE
from tulle.serving.lookup import LookupEntry
from tulle.serving.openapi_access import with_access
from tulle.serving.predict import PredictEntry, class_text
from tulle.serving.query import QueryEntry
from tulle.serving.query_declared import QueryParameter

Json = dict[str, Any]
_USUAL = Access()

_TYPES: Mapping[str, Json] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "decimal": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "timestamp": {"type": "string", "format": "date-time"},
    "binary": {"type": "string", "contentEncoding": "base64"},
}
_PYTHON = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_ERRORS: dict[str, str] = {
    "400": "The request is not understood, or a value is missing, unknown or of the wrong type",
    "401": "Missing or wrong credentials",
    "403": "Not allowed: no contract for this service, or a token without its scopes",
    "413": "The request is too large",
    "429": "The caller's rate limit is used up",
    "500": "The endpoint failed",
    "503": "The service does not answer now",
}
_CONTEXT: Json = {
    "type": "object",
    "description": "What gave the answer, made from what",
    "properties": {
        "serviceId": {"type": "string"},
        "endpointId": {"type": "string"},
        "serviceGeneration": {"type": "string"},
        "packageVersion": {"type": "string"},
        "packageDigest": {"type": "string"},
        "dataCommits": {"type": "object", "additionalProperties": {"type": "string"}},
        "model": {"type": "string"},
        "requestId": {"type": "string"},
    },
    "required": ["serviceId", "endpointId", "serviceGeneration", "requestId"],
}
_ERROR: Json = {
    "type": "object",
    "properties": {
        "errorType": {"type": "string", "description": "a word for programs, for example NoMatch"},
        "message": {"type": "string"},
        "detailedMessage": {"type": "string", "description": "the message, and what to do about it"},
        "requestId": {"type": "string"},
    },
    "required": ["errorType", "message", "detailedMessage", "requestId"],
}
_TIMING: Json = {
    "type": "object",
    "description": "microseconds spent in each step",
    "additionalProperties": {"type": "number"},
}


def document(
    service: str,
    *,
    version: str,
    description: str,
    paths: Iterable[Mapping[str, Any]],
    access: Access = _USUAL,
) -> Json:
    """The whole document; `paths` are what the endpoints' kinds describe."""
    items: Json = {}
    for one in paths:
        items.update(one)
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": service,
            "version": version,
            "description": description or f"The service {service}",
        },
        "servers": [{"url": f"/public/api/v1/{service}"}],
        "paths": items,
        "components": {
            "schemas": {"Error": _ERROR, "ApiContext": _CONTEXT, "Timing": _TIMING},
            "responses": {
                f"Error{status}": {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for status, text in (
                    _ERRORS
                    | {
                        "404": "Nothing is known of the key",
                        "422": "There is no answer for these values",
                        "502": "What the endpoint calls elsewhere gave no answer that can be used",
                        "504": "The endpoint took too long",
                        "508": "Services call one another in a circle",
                    }
                ).items()
            },
        },
    }
    return with_access(made, access)


def describe_predict(entry: PredictEntry, folder: Path) -> Mapping[str, Any]:
    """The paths of a prediction endpoint."""
    signature = read_signature((folder / entry.model / SIGNATURE).read_bytes())
    features = _features(entry, signature)
    result = _prediction(signature, entry.enrich)
    if entry.overrides:
        result["properties"]["override"] = _OVERRIDE
    asked = {"explanations": _EXPLANATIONS} if entry.explaining is not None else {}
    if entry.explaining is not None:
        parts = {
            "type": "object",
            "description": "what features add",
            "additionalProperties": {"type": "number"},
        }
        result["properties"]["explanations"] = parts
    one = _object({"features": features, **asked}, required=["features"])
    item = _object({"features": features}, required=["features"])
    many = _object({"items": {"type": "array", "items": item}, **asked}, required=["items"])
    answer = _answer("result", result)
    answers = _answer("results", {"type": "array", "items": {"anyOf": [result, _IGNORED]}})
    summary = entry.description or f"Predict with the model {signature.name}"
    examples = _examples(entry.test_queries)
    paths = {
        f"/{entry.name}/predict": _post(
            f"{entry.name}-predict", summary, one, answer, examples, more=("404", "422")
        ),
        f"/{entry.name}/predict-multi": _post(
            f"{entry.name}-predict-multi",
            f"{summary}: many at once",
            many,
            answers,
            _many(entry.test_queries),
        ),
    }
    if signature.task != "effect":
        return paths
    return paths | {
        path.replace("/predict", "/predict-effect"): _as_effect(item) for path, item in paths.items()
    }


def _as_effect(item: Json) -> Json:
    """The same under the name by which effects are asked for."""
    post = item["post"]
    return {"post": {**post, "operationId": post["operationId"].replace("-predict", "-predict-effect")}}


def describe_forecast(entry: ForecastEntry, folder: Path) -> Mapping[str, Any]:
    """The path of an endpoint that forecasts."""
    signature = read_signature((folder / entry.model / SIGNATURE).read_bytes())
    series = signature.series
    assert series is not None
    row = _object(
        {
            f.name: _type(f.type, nullable=f.name not in {series.time, *series.identifiers})
            for f in signature.features
        },
        required=[series.time, *series.identifiers],
    ) | {"additionalProperties": False}
    ahead = f" Rows without {series.target} tell the externals of the next {series.horizon} steps."
    row["description"] = f"A row of a series, one a {series.step}." + (ahead if series.externals else "")
    known = {f.name: _type(f.type) for f in signature.features if f.name in series.identifiers}
    item = _object(
        {
            "time": {"type": "string", "format": "date-time"},
            "forecast": {"type": "number"},
            "quantiles": {"type": "array", "items": {"type": "number"}},
            "quantilesValues": {"type": "array", "items": {"type": "number"}},
            "timeseriesIdentifier": _object(known, required=list(known)),
            "ignored": {"type": "boolean"},
        },
        required=["time", "forecast", "ignored", "timeseriesIdentifier"],
    )
    items = {"type": "array", "minItems": 1, "items": row}
    answer = _answer("results", {"type": "array", "items": {"anyOf": [item, _IGNORED]}})
    summary = entry.description or f"Forecast {series.target}, {series.horizon} steps of {series.step} ahead"
    return {
        f"/{entry.name}/forecast": _post(
            f"{entry.name}-forecast",
            summary,
            _object({"items": items}, required=["items"]),
            answer,
            _examples(entry.test_queries),
            more=("422", "504"),
        )
    }


def describe_lookup(entry: LookupEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The paths of a lookup endpoint."""
    rows = entry.rows
    key = _object(_properties(rows.key), required=[column.name for column in rows.key])
    key["additionalProperties"] = False
    row = _object(_properties(rows.columns, nullable=True), required=[column.name for column in rows.columns])
    one = _object({"data": key}, required=["data"])
    many = _object({"items": {"type": "array", "items": one}}, required=["items"])
    found = _object({"data": row, **_told_of(rows, row)}, required=["data"])
    summary = (
        entry.description or f"Look up a row of {rows.data_set} by {', '.join(c.name for c in rows.key)}"
    )
    result = {"anyOf": [found, _IGNORED]} if IGNORE in {rows.no_match, rows.several, rows.too_old} else found
    answer = _answer("results", {"type": "array", "items": result, "minItems": 1, "maxItems": 1})
    answers = _answer("results", {"type": "array", "items": {"anyOf": [found, _IGNORED]}})
    examples = _examples(entry.test_queries)
    return {
        f"/{entry.name}/lookup": _post(
            f"{entry.name}-lookup", summary, one, answer, examples, more=("404", "422")
        ),
        f"/{entry.name}/lookup-multi": _post(
            f"{entry.name}-lookup-multi", f"{summary}: many at once", many, answers, _many(entry.test_queries)
        ),
    }


def describe_function(entry: FunctionEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The path of a function endpoint."""
    properties: Json = {}
    for parameter in entry.parameters:
        word = _PYTHON.get(parameter.type)
        kinds = [word, "null"] if word and parameter.nullable else word
        properties[parameter.name] = {"type": kinds} if kinds else {}
    arguments = _object(properties, required=[p.name for p in entry.parameters if p.required])
    arguments["additionalProperties"] = entry.is_open
    summary = entry.description or f"Call the function {entry.function}"
    return {
        f"/{entry.name}/run": _post(
            f"{entry.name}-run",
            summary,
            arguments,
            _answer("response", {"description": "what the function returned"}),
            _examples(entry.test_queries),
            more=("504",),
        )
    }


_FAILED: Json = {
    "type": "array",
    "description": "the steps that failed and were left out",
    "items": {
        "type": "object",
        "properties": {
            "step": {"type": "string"},
            "item": {"type": "integer", "description": "which entry of a map"},
            "status": {"type": "integer"},
            "errorType": {"type": "string"},
            "message": {"type": "string"},
        },
        "required": ["step", "status", "errorType", "message"],
    },
}


def describe_compose(entry: ComposeEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The path of a composition."""
    summary = entry.description or f"The composition {entry.name}"
    answer = _answer("response", {"description": "what the composition makes of the answers of its steps"})
    answer["properties"]["failed"] = _FAILED
    answer["properties"]["steps"] = {
        "type": "array",
        "description": "every call, where the header tulle-steps asks for it",
        "items": {"type": "object"},
    }
    outside = ("502", "508") if reaches_out(entry.steps) else ()
    return {
        f"/{entry.name}/run": _post(
            f"{entry.name}-run",
            summary,
            _parameters(entry.input),
            answer,
            _examples(entry.test_queries),
            more=("404", "422", "504", *outside),
        )
    }


def _parameters(parameters: Sequence[QueryParameter]) -> Json:
    """What callers send by name."""
    properties: Json = {}
    for parameter in parameters:
        nullable = not parameter.required and parameter.default is None
        properties[parameter.name] = _type(parameter.type, nullable=nullable)
        if parameter.description:
            properties[parameter.name]["description"] = parameter.description
        if parameter.default is not None:
            properties[parameter.name]["default"] = parameter.default
    schema = _object(properties, required=[p.name for p in parameters if p.required])
    return schema | {"additionalProperties": False}


def describe_query(entry: QueryEntry, folder: Path) -> Mapping[str, Any]:  # noqa: ARG001  the same for every kind
    """The paths of a query endpoint."""
    parameters = _parameters(entry.parameters)
    summary = entry.description or f"The rows of the query {entry.name}"
    column = _object({"name": {"type": "string"}, "type": {"type": "string"}}, required=["name", "type"])
    typed = [_type(column.type, nullable=True) for column in entry.columns]
    forms: dict[str, Json] = {
        "query": {"items": {"type": ["string", "null"]}},
        "rows": {"prefixItems": typed},
    }
    words = {"query": "every value as text", "rows": "values with their types"}
    paths: Json = {}
    for action, form in forms.items():
        answer = _answer("rows", {"type": "array", "items": {"type": "array", **form}})
        answer["properties"]["columns"] = {"type": "array", "items": column}
        answer["properties"]["truncated"] = {"const": True, "description": "there are more rows"}
        paths[f"/{entry.name}/{action}"] = _post(
            f"{entry.name}-{action}",
            f"{summary}: {words[action]}",
            parameters,
            answer,
            _examples(entry.test_queries),
            more=("422", "504"),
        )
    return paths


def _told_of(rows: FinderEntry, row: Json) -> Json:
    """What is said of a row beside its values; nothing where it is always there and of no age."""
    if rows.several == FORBIDDEN and not rows.timed and rows.no_match != DEFAULT:
        return {}
    said: Json = {"status": {"enum": [PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE]}}
    if rows.timed:
        said["eventTime"] = {
            "type": "string",
            "format": "date-time",
            "description": "since when the row holds",
        }
    if rows.several == ALL:
        said["found"] = {"type": "integer", "description": "how many rows there are"}
        said["rows"] = {"type": "array", "items": row, "description": "the first of them"}
    return said


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
            "status": {"enum": [PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE]},
            "eventTime": {"type": "string", "format": "date-time"},
        },
        "required": ["dataSet", "status"],
    },
}

_IGNORED: Json = {
    "type": "object",
    "description": "an item that has no answer; the others do",
    "properties": {
        "ignored": {"const": True},
        "ignoreReason": {"type": "string"},
        "error": {
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "errorType": {"type": "string"},
                "message": {"type": "string"},
                "detailedMessage": {"type": "string"},
            },
        },
    },
    "required": ["ignored", "ignoreReason"],
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
            properties.setdefault(column.name, _type(column.type) | {"description": source})
    always = [feature.name for feature in signature.features if feature.name not in looked_up]
    schema = _object(properties, required=always) | {"additionalProperties": False}
    if keys:
        everything = [feature.name for feature in signature.features]
        schema["anyOf"] = [{"required": sorted(set(keys))}, {"required": everything}]
        schema["description"] = (
            f"Send {' and '.join(dict.fromkeys(keys))} alone and the features are looked up; features you send win"
        )
    return schema


def _feature(feature: Feature) -> Json:
    schema = _type(feature.type, nullable=feature.nullable)
    if feature.minimum is not None and feature.maximum is not None:
        schema["description"] = f"seen in training: {feature.minimum} to {feature.maximum}"
    elif feature.categories:
        schema["description"] = "seen in training: " + ", ".join(feature.categories)
        schema["examples"] = list(feature.categories[:3])
    return schema


def _prediction(signature: Signature, enrich: Sequence[FinderEntry]) -> Json:
    told = {"lookups": _LOOKUPS} if any(one.timed or one.no_match == DEFAULT for one in enrich) else {}
    if signature.clusters:
        cluster: Json = {"prediction": {"enum": list(signature.clusters)}, "ignored": {"type": "boolean"}}
        if signature.has_distances:
            names = [class_text(value) for value in signature.clusters]
            far = {"type": "number", "minimum": 0}
            cluster["distances"] = _object(dict.fromkeys(names, far), required=names)
        return _object(cluster | told, required=["prediction"])
    if not signature.classes:
        number: Json = {"prediction": {"type": "number"}, "ignored": {"type": "boolean"}}
        if signature.task == "effect":
            number["effect"] = {"type": "number", "description": "what the treatment changes for this row"}
            number["effectPercentile"] = {"type": "integer", "minimum": 1, "maximum": 100}
        return _object(number | told, required=["prediction"])
    properties: Json = {"prediction": {"enum": list(signature.classes)}, "ignored": {"type": "boolean"}}
    if signature.percentiles:
        properties["probaPercentile"] = {"type": "integer", "minimum": 1, "maximum": 100}
    if signature.has_probabilities:
        names = [class_text(value) for value in signature.classes]
        share = {"type": "number", "minimum": 0, "maximum": 1}
        properties["probas"] = _object(dict.fromkeys(names, share), required=names)
    return _object(properties | told, required=["prediction"])


def _properties(columns: Sequence[Column], *, nullable: bool = False) -> Json:
    return {column.name: _type(column.type, nullable=nullable) for column in columns}


def _type(mesh_type: str, *, nullable: bool = False) -> Json:
    schema = dict(_TYPES.get(mesh_type.partition("(")[0], {}))
    if nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def _object(properties: Json, *, required: Sequence[str] = ()) -> Json:
    schema: Json = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def _answer(name: str, schema: Json) -> Json:
    return _object(
        {
            name: schema,
            "timing": {"$ref": "#/components/schemas/Timing"},
            "apiContext": {"$ref": "#/components/schemas/ApiContext"},
        },
        required=[name, "apiContext"],
    )


def _post(
    name: str, summary: str, request: Json, answer: Json, examples: Json, more: Sequence[str] = ()
) -> Json:
    content: Json = {"schema": request}
    if examples:
        content["examples"] = examples
    errors = sorted({*_ERRORS, *more})
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "200": {"description": "The answer", "content": {"application/json": {"schema": answer}}},
                **{status: {"$ref": f"#/components/responses/Error{status}"} for status in errors},
            },
        }
    }


def _examples(queries: Sequence[TestQuery]) -> Json:
    return {query.name: {"summary": query.name, "value": query.body} for query in queries}


def _many(queries: Sequence[TestQuery]) -> Json:
    if not queries:
        return {}
    return {
        "all": {"summary": "all of the saved queries", "value": {"items": [query.body for query in queries]}}
    }
