"""The kinds of endpoint a service may have, in one registry: declared how, packaged how, answering how.

A further kind is one more entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tulle.errors import Broken, did_you_mean
from tulle.serving.bundle import Bundle
from tulle.serving.bundle_calls import bundle_compose, bundle_function, bundle_query
from tulle.serving.bundle_look_ups import bundle_lookup
from tulle.serving.bundle_models import bundle_forecast, bundle_predict
from tulle.serving.compose import ComposeEntry, load_compose
from tulle.serving.compose_declared import COMPOSE_SCHEMA, ComposeSpec, parse_compose
from tulle.serving.database_query import load_query
from tulle.serving.declared import (
    FUNCTION_SCHEMA,
    LOOKUP_SCHEMA,
    PREDICT_SCHEMA,
    FunctionSpec,
    LookupSpec,
    PredictSpec,
    parse_function,
    parse_lookup,
    parse_predict,
)
from tulle.serving.endpoint import Endpoint, Trace
from tulle.serving.forecast import ForecastEntry, forecast_apart, load_forecast
from tulle.serving.forecast_declared import FORECAST_SCHEMA, ForecastSpec, parse_forecast
from tulle.serving.function import FunctionEntry, load_function
from tulle.serving.function_code import function_apart
from tulle.serving.keyed_rows import PlaceOf
from tulle.serving.lookup import LookupEntry, load_lookup
from tulle.serving.openapi_calls import describe_compose, describe_function
from tulle.serving.openapi_predict import describe_forecast, describe_predict
from tulle.serving.openapi_rows import describe_lookup, describe_query
from tulle.serving.predict import PredictEntry
from tulle.serving.predict_apart import load_predict, predict_apart
from tulle.serving.query import QueryEntry, query_apart
from tulle.serving.query_declared import QUERY_SCHEMA, QuerySpec, parse_query

Spec = PredictSpec | LookupSpec | FunctionSpec | QuerySpec | ComposeSpec | ForecastSpec
Entry = PredictEntry | LookupEntry | FunctionEntry | QueryEntry | ComposeEntry | ForecastEntry


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of endpoint."""

    name: str
    actions: tuple[str, ...]  # the last parts of its addresses, the usual one first
    schema: Mapping[str, Any]  # the properties it has in services/<service>.yaml
    parse: Callable[[Mapping[str, Any], PlaceOf], Spec]  # checked properties → what is declared
    bundle: Callable[[Any, Bundle], Entry]  # what is declared → what the package says of it
    describe: Callable[[Any, Path], Mapping[str, Any]]  # … and the package's folder → OpenAPI path items
    entry: type[Entry]
    load: Callable[[Any, Path, Trace], Endpoint]  # … → what answers
    # … → what is done in processes of its own, where users' code is run
    apart: Callable[[Any, Path], Callable[[bytes], bytes]] | None = None

    def read(self, raw: Mapping[str, Any]) -> Entry:
        """What a manifest says of an endpoint of this kind; Broken when it does not hold."""
        try:
            return msgspec.convert(raw, self.entry)
        except msgspec.ValidationError as exc:
            raise Broken(
                f"the package's endpoint '{raw.get('name')}' cannot be read: {exc}",
                hint="it was built by another version of Tulle: package the service again",
            ) from exc


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "predict",
            ("predict", "predict-multi"),
            PREDICT_SCHEMA,
            parse_predict,
            bundle_predict,
            describe_predict,
            PredictEntry,
            load_predict,
            predict_apart,
        ),
        Kind(
            "forecast",
            ("forecast",),
            FORECAST_SCHEMA,
            parse_forecast,
            bundle_forecast,
            describe_forecast,
            ForecastEntry,
            load_forecast,
            forecast_apart,
        ),
        Kind(
            "lookup",
            ("lookup", "lookup-multi"),
            LOOKUP_SCHEMA,
            parse_lookup,
            bundle_lookup,
            describe_lookup,
            LookupEntry,
            load_lookup,
        ),
        Kind(
            "function",
            ("run",),
            FUNCTION_SCHEMA,
            parse_function,
            bundle_function,
            describe_function,
            FunctionEntry,
            load_function,
            lambda entry, folder: function_apart(folder, entry.file, entry.function),
        ),
        Kind(
            "query",
            ("query", "rows"),
            QUERY_SCHEMA,
            parse_query,
            bundle_query,
            describe_query,
            QueryEntry,
            load_query,
            query_apart,
        ),
        Kind(
            "compose",
            ("run",),
            COMPOSE_SCHEMA,
            parse_compose,
            bundle_compose,
            describe_compose,
            ComposeEntry,
            load_compose,
        ),
    )
}


def kind_of(raw: Mapping[str, Any]) -> Kind:
    """The kind of an endpoint in a manifest; Broken when this version of Tulle does not know it."""
    name = str(raw.get("type"))
    if name not in KINDS:
        raise Broken(
            f"the package has an endpoint of the unknown kind '{name}'",
            hint=did_you_mean(name, KINDS) or "it was built by a newer version",
        )
    return KINDS[name]
