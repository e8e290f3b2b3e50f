"""What a product says of an endpoint that forecasts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tulle.errors import Place
from tulle.serving.bounds import Bounds
from tulle.serving.declared import BOUNDS_SCHEMA, PREDICT_SCHEMA, TestQuery, parse_bounds, queries_schema
from tulle.serving.keyed_rows import PlaceOf, places_of


def _queries() -> Mapping[str, Any]:
    """Saved requests, whose rows are a list."""
    schema = queries_schema("rows")
    items = schema["items"]
    rows = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    return {**schema, "items": {**items, "properties": {**items["properties"], "rows": rows}}}


FORECAST_SCHEMA: Mapping[str, Any] = {
    "required": ["model"],
    "properties": {
        "model": {
            **PREDICT_SCHEMA["properties"]["model"],
            "description": "a model that forecasts, saved by a run of this product: models/<model>",
        },
        **BOUNDS_SCHEMA,
        "test_queries": _queries(),
    },
}


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    """An endpoint that forecasts: a model of this product."""

    name: str
    model: str
    bounds: Bounds = Bounds()
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["forecast"] = "forecast"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property


def parse_forecast(raw: Mapping[str, Any], place: PlaceOf) -> ForecastSpec:
    """The value of checked properties."""
    return ForecastSpec(
        name=raw["name"],
        model=raw["model"],
        bounds=parse_bounds(raw),
        description=raw.get("description", ""),
        test_queries=tuple(
            TestQuery(
                one["name"], {"items": one["rows"]}, one.get("expect"), float(one.get("tolerance", 1e-6))
            )
            for one in raw.get("test_queries", ())
        ),
        places=places_of(raw, place),
    )
