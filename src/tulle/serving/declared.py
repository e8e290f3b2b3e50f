"""What a product says of an endpoint in `services/<service>.yaml`, one kind of endpoint after the other.

Each kind has a frozen value, the JSON Schema of its properties, and a function from the checked properties to
the value. Pure: knows nothing of files, models or data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tulle.errors import Place
from tulle.serving.bounds import Bounds
from tulle.serving.decide import OVERRIDES_SCHEMA, Override
from tulle.serving.explaining import LEAST_STEPS, MOST_STEPS, Explaining
from tulle.serving.keyed_rows import (
    NEEDED_TOGETHER,
    KeyedRows,
    PlaceOf,
    keyed_rows_schema,
    parse_keyed_rows,
    places_of,
)
from tulle.serving.shown_features import SHOWN_SCHEMA, ShownFeatures

_EXPECT = {
    "type": "object",
    "minProperties": 1,
    "description": "members the answer must have; {error: <errorType>} when it must be refused",
}
_TOLERANCE = {
    "type": "number",
    "minimum": 0,
    "description": "how far numbers may be apart (default 0.000001)",
}


def queries_schema(values: str) -> Mapping[str, Any]:
    """The JSON Schema of saved requests; `values` is what a request holds."""
    return {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", values],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                values: {"type": "object"},
                "expect": _EXPECT,
                "tolerance": _TOLERANCE,
            },
        },
    }


@dataclass(frozen=True, slots=True)
class TestQuery:
    """A request saved with the endpoint: run before and after deployment, shown as an example."""

    __test__ = False  # not a test case of pytest's

    name: str
    body: Mapping[str, Any]
    expect: Mapping[str, Any] | None = None
    tolerance: float = 1e-6


@dataclass(frozen=True, slots=True)
class PredictSpec:
    """A prediction endpoint: a model of this product, enriched from data sets."""

    name: str
    model: str
    enrich: tuple[KeyedRows, ...] = ()
    bounds: Bounds = Bounds()  # of the processes of a model that is not converted
    explaining: Explaining | None = None  # None: it cannot
    threshold: float | None = None
    overrides: tuple[Override, ...] = ()
    shown: ShownFeatures | None = None
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["predict"] = "predict"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


@dataclass(frozen=True, slots=True)
class LookupSpec:
    """A lookup endpoint: rows of a data set by key, or of several whose columns stand in one answer."""

    name: str
    rows: KeyedRows
    joined: tuple[KeyedRows, ...] = ()  # further ones, each with a key and policies of its own
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["lookup"] = "lookup"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function endpoint: a Python function in the product's `functions/`."""

    name: str
    file: str
    function: str
    bounds: Bounds = Bounds()
    retry: bool = False  # it may be called twice for one request
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["function"] = "function"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


def rows_of(spec: object) -> tuple[KeyedRows, ...]:
    """Where an endpoint of any kind finds rows by a key."""
    match spec:
        case LookupSpec():
            return (spec.rows, *spec.joined)
        case PredictSpec():
            return spec.enrich
        case _:
            return ()


_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": 3600}
_MEMORY = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,5} ?[MG]B$",
    "x-expected": "a size such as 512MB or 2GB",
}
BOUNDS_SCHEMA: Mapping[str, Any] = {
    "pool": {
        "type": "object",
        "additionalProperties": False,
        "description": "the processes in which it runs, a request each at a time",
        "properties": {
            "floor": {"type": "integer", "minimum": 0, "maximum": 64, "description": "at least (default 1)"},
            "ceil": {"type": "integer", "minimum": 1, "maximum": 64, "description": "at most (default 4)"},
            "queue": {
                "type": "integer",
                "minimum": 0,
                "maximum": 10_000,
                "description": "requests that may wait for one; a further one is refused (default 32)",
            },
            "wait": _SECONDS | {"description": "seconds after which one that waits is refused (default 10)"},
        },
    },
    "timeout": _SECONDS
    | {"description": "seconds a request may take, then its process is stopped (default 30)"},
    "memory": _MEMORY | {"description": "what a process may use before it is replaced (default 1GB)"},
}

PREDICT_SCHEMA: Mapping[str, Any] = {
    "required": ["model"],
    "properties": {
        "model": {
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]{0,62}$",
            "x-expected": "the snake_case name of a model",
            "description": "a model that a run of this product saved: models/<model>",
        },
        "enrich": {
            "type": "array",
            "description": "data sets in which features are looked up that a caller leaves out",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["data_set", "key"],
                "properties": keyed_rows_schema(endpoint=False),
                "dependentRequired": NEEDED_TOGETHER,
            },
        },
        "threshold": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "from which probability the second of two classes is predicted (default: the more probable)",
        },
        "overrides": OVERRIDES_SCHEMA,
        "explanations": {
            "type": "object",
            "additionalProperties": False,
            "description": "how much each feature adds to an answer; without it none is explained",
            "properties": {
                "enabled": {
                    "type": "boolean",
                    "description": "always; else when a request asks for it (default false)",
                },
                "method": {"enum": ["shapley", "ice"], "description": "default: shapley"},
                "features": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1000,
                    "description": "how many are told, those that add most (default 5)",
                },
                "steps": {
                    "type": "integer",
                    "minimum": LEAST_STEPS,
                    "maximum": MOST_STEPS,
                    "description": "of sampling, with shapley (default 100)",
                },
            },
        },
        "show_features": SHOWN_SCHEMA,
        **BOUNDS_SCHEMA,
        "test_queries": queries_schema("features"),
    },
}

_ROWS = keyed_rows_schema(endpoint=True)
MOST_JOINED = 20
LOOKUP_SCHEMA: Mapping[str, Any] = {
    "properties": {
        **_ROWS,
        "lookups": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_JOINED,
            "description": "several data sets whose columns stand in one answer, in place of `data_set` and the rest",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["data_set", "key"],
                "properties": _ROWS,
                "dependentRequired": NEEDED_TOGETHER,
            },
        },
        "test_queries": queries_schema("data"),
    },
    "dependentRequired": NEEDED_TOGETHER,
    "if": {"required": ["lookups"]},
    "then": {
        "properties": {
            name: {"not": {}, "x-expected": "nothing here: each of `lookups` says its own"} for name in _ROWS
        }
    },
    "else": {
        "required": ["data_set", "key"],
        "properties": {"key": {"description": _ROWS["key"]["description"]}},
    },
}


FUNCTION_SCHEMA: Mapping[str, Any] = {
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "pattern": "^[a-z_][a-z0-9_]{0,62}[.]py$",
            "x-expected": "the name of a Python file in functions/",
            "description": "a file in functions/",
        },
        "function": {
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$",
            "x-expected": "the name of a function",
            "description": "a function in it; default: the endpoint's name, with '_' for '-'",
        },
        "retry": {
            "type": "boolean",
            "description": "whether it may be called again when its process dies (default false)",
        },
        **BOUNDS_SCHEMA,
        "test_queries": queries_schema("arguments"),
    },
}


def parse_function(raw: Mapping[str, Any], place: PlaceOf) -> FunctionSpec:
    """The value of checked properties."""
    return FunctionSpec(
        name=raw["name"],
        file=raw["file"],
        function=raw.get("function", raw["name"].replace("-", "_")),
        bounds=parse_bounds(raw),
        retry=raw.get("retry", False),
        description=raw.get("description", ""),
        test_queries=tuple(
            TestQuery(one["name"], one["arguments"], one.get("expect"), float(one.get("tolerance", 1e-6)))
            for one in raw.get("test_queries", ())
        ),
        places=places_of(raw, place),
    )


def parse_bounds(raw: Mapping[str, Any]) -> Bounds:
    """The bounds of the processes of an endpoint; `ceil` is never below `floor`."""
    usual, pool = Bounds(), raw.get("pool", {})
    floor = pool.get("floor", usual.floor)
    size = raw.get("memory", "1GB").replace(" ", "")
    return Bounds(
        floor=floor,
        ceil=max(floor, 1, pool.get("ceil", usual.ceil)),
        queue=pool.get("queue", usual.queue),
        wait_seconds=pool.get("wait", usual.wait_seconds),
        seconds=raw.get("timeout", usual.seconds),
        memory=int(size[:-2]) << (30 if size.endswith("GB") else 20),
    )


def parse_predict(raw: Mapping[str, Any], place: PlaceOf) -> PredictSpec:
    """The value of checked properties."""
    return PredictSpec(
        name=raw["name"],
        model=raw["model"],
        enrich=tuple(
            parse_keyed_rows(one, place, ("enrich", i)) for i, one in enumerate(raw.get("enrich", ()))
        ),
        bounds=parse_bounds(raw),
        explaining=Explaining(**raw["explanations"]) if "explanations" in raw else None,
        threshold=raw.get("threshold"),
        overrides=tuple(Override(o["name"], o["when"], o["prediction"]) for o in raw.get("overrides", ())),
        shown=_shown(raw.get("show_features")),
        description=raw.get("description", ""),
        test_queries=_test_queries(raw, "features"),
        places=places_of(raw, place),
    )


def _shown(raw: Mapping[str, Any] | None) -> ShownFeatures | None:
    return None if raw is None else ShownFeatures(tuple(raw["features"]), raw.get("enabled", False))


def parse_lookup(raw: Mapping[str, Any], place: PlaceOf) -> LookupSpec:
    """The value of checked properties."""
    said = raw.get("lookups", ())
    rows, *joined = [parse_keyed_rows(one, place, ("lookups", i)) for i, one in enumerate(said)] or [
        parse_keyed_rows(raw, place)
    ]
    return LookupSpec(
        name=raw["name"],
        rows=rows,
        joined=tuple(joined),
        description=raw.get("description", ""),
        test_queries=_test_queries(raw, "data"),
        places=places_of(raw, place),
    )


def _test_queries(raw: Mapping[str, Any], values: str) -> tuple[TestQuery, ...]:
    return tuple(
        TestQuery(one["name"], {values: one[values]}, one.get("expect"), float(one.get("tolerance", 1e-6)))
        for one in raw.get("test_queries", ())
    )
