"""What a product says of an endpoint in `services/<service>.yaml`, one kind of endpoint after the other.

Each kind has a frozen value, the JSON Schema of its properties, and a function from the checked properties to
the value. Pure: knows nothing of files, models or data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tulle.errors import Place

Policy = Literal["error", "ignore"]
PlaceOf = Callable[[tuple[str | int, ...]], Place]  # where a property of the endpoint stands

_DATA_SET = {
    "type": "string",
    "pattern": "^[a-z][a-z0-9_]{0,62}$",
    "x-expected": "the snake_case name of a data set",
}
_PRODUCT = {
    "type": "string",
    "pattern": "^[a-z0-9][a-z0-9-]{2,62}$",
    "x-expected": "the kebab-case name of a product",
}
_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True}
_KEY = {
    "anyOf": [{"type": "string", "minLength": 1}, _NAMES],
    "x-expected": "the name of a column or a list of them",
}
_POLICY = {"enum": ["error", "ignore"]}
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
class Enrichment:
    """Where features that a caller leaves out are looked up; `product` empty means this one."""

    product: str
    data_set: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()  # empty: every feature of the model that the data set has
    missing_key: Policy = "error"
    no_match: Policy = "error"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


@dataclass(frozen=True, slots=True)
class PredictSpec:
    """A prediction endpoint: a model of this product, enriched from data sets."""

    name: str
    model: str
    enrich: tuple[Enrichment, ...] = ()
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["predict"] = "predict"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


@dataclass(frozen=True, slots=True)
class LookupSpec:
    """A lookup endpoint: rows of a data set by key; `product` empty means this one."""

    name: str
    data_set: str
    key: tuple[str, ...]
    product: str = ""
    columns: tuple[str, ...] = ()  # empty: all
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["lookup"] = "lookup"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


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
                "properties": {
                    "product": _PRODUCT | {"description": "whose data set it is; default: this product"},
                    "data_set": _DATA_SET,
                    "key": _KEY | {"description": "the columns a caller sends to have its row found"},
                    "columns": _NAMES | {"description": "features to take from it; default: all it has"},
                    "missing_key": _POLICY | {"description": "when features and key are missing"},
                    "no_match": _POLICY | {"description": "when there is no row with the key"},
                },
            },
        },
        "test_queries": _queries("features"),
    },
}

LOOKUP_SCHEMA: Mapping[str, Any] = {
    "required": ["data_set", "key"],
    "properties": {
        "product": _PRODUCT | {"description": "whose data set it is; default: this product"},
        "data_set": _DATA_SET,
        "key": _KEY | {"description": "the columns a caller sends to have a row found"},
        "columns": _NAMES | {"description": "the columns an answer has; default: all"},
        "test_queries": _queries("data"),
    },
}


def parse_predict(raw: Mapping[str, Any], place: PlaceOf) -> PredictSpec:
    """The value of checked properties."""
    return PredictSpec(
        name=raw["name"],
        model=raw["model"],
        enrich=tuple(
            Enrichment(
                product=one.get("product", ""),
                data_set=one["data_set"],
                key=_names(one["key"]),
                columns=tuple(one.get("columns", ())),
                missing_key=one.get("missing_key", "error"),
                no_match=one.get("no_match", "error"),
                places=_places(one, place, ("enrich", i)),
            )
            for i, one in enumerate(raw.get("enrich", ()))
        ),
        description=raw.get("description", ""),
        test_queries=_test_queries(raw, "features"),
        places=_places(raw, place),
    )


def parse_lookup(raw: Mapping[str, Any], place: PlaceOf) -> LookupSpec:
    """The value of checked properties."""
    return LookupSpec(
        name=raw["name"],
        data_set=raw["data_set"],
        key=_names(raw["key"]),
        product=raw.get("product", ""),
        columns=tuple(raw.get("columns", ())),
        description=raw.get("description", ""),
        test_queries=_test_queries(raw, "data"),
        places=_places(raw, place),
    )


def _places(raw: Mapping[str, Any], place: PlaceOf, path: tuple[str | int, ...] = ()) -> Mapping[str, Place]:
    """Where each property stands; the whole under the name ""."""
    return {"": place(path)} | {name: place((*path, name)) for name in raw}


def _names(key: str | list[str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key)


def _test_queries(raw: Mapping[str, Any], values: str) -> tuple[TestQuery, ...]:
    return tuple(
        TestQuery(one["name"], {values: one[values]}, one.get("expect"), float(one.get("tolerance", 1e-6)))
        for one in raw.get("test_queries", ())
    )
