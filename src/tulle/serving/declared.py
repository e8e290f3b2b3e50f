"""What a product says of an endpoint in `services/<service>.yaml`, one kind of endpoint after the other.

Each kind has a frozen value, the JSON Schema of its properties, and a function from the checked properties to
the value. Pure: knows nothing of files, models or data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tulle.errors import Place
from tulle.serving.keyed_rows import (
    NEEDED_TOGETHER,
    KeyedRows,
    PlaceOf,
    keyed_rows_schema,
    parse_keyed_rows,
    places_of,
)

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


def _queries(values: str) -> Mapping[str, Any]:
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
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["predict"] = "predict"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


@dataclass(frozen=True, slots=True)
class LookupSpec:
    """A lookup endpoint: rows of a data set by key."""

    name: str
    rows: KeyedRows
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["lookup"] = "lookup"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


def rows_of(spec: object) -> tuple[KeyedRows, ...]:
    """Where an endpoint of any kind finds rows by a key."""
    match spec:
        case LookupSpec():
            return (spec.rows,)
        case PredictSpec():
            return spec.enrich
        case _:
            return ()


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
        "test_queries": _queries("features"),
    },
}

LOOKUP_SCHEMA: Mapping[str, Any] = {
    "required": ["data_set", "key"],
    "properties": {**keyed_rows_schema(endpoint=True), "test_queries": _queries("data")},
    "dependentRequired": NEEDED_TOGETHER,
}


def parse_predict(raw: Mapping[str, Any], place: PlaceOf) -> PredictSpec:
    """The value of checked properties."""
    return PredictSpec(
        name=raw["name"],
        model=raw["model"],
        enrich=tuple(
            parse_keyed_rows(one, place, ("enrich", i)) for i, one in enumerate(raw.get("enrich", ()))
        ),
        description=raw.get("description", ""),
        test_queries=_test_queries(raw, "features"),
        places=places_of(raw, place),
    )


def parse_lookup(raw: Mapping[str, Any], place: PlaceOf) -> LookupSpec:
    """The value of checked properties."""
    return LookupSpec(
        name=raw["name"],
        rows=parse_keyed_rows(raw, place),
        description=raw.get("description", ""),
        test_queries=_test_queries(raw, "data"),
        places=places_of(raw, place),
    )


def _test_queries(raw: Mapping[str, Any], values: str) -> tuple[TestQuery, ...]:
    return tuple(
        TestQuery(one["name"], {values: one[values]}, one.get("expect"), float(one.get("tolerance", 1e-6)))
        for one in raw.get("test_queries", ())
    )
