"""What an endpoint of any kind can be sent, so that rows of a data set become requests to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.errors import Invalid, did_you_mean
from tulle.pipeline.model_signature import SIGNATURE, read_signature
from tulle.serving.compose_declared import ComposeSpec
from tulle.serving.declared import FunctionSpec, LookupSpec, PredictSpec, rows_of
from tulle.serving.forecast_declared import ForecastSpec
from tulle.serving.keyed_rows import ERROR
from tulle.serving.kinds import Spec
from tulle.serving.query_declared import QuerySpec

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sendable:
    """The word under which test queries have what is sent, and the names in it; `alternatives`: any one set does."""

    endpoint: str
    word: str
    alternatives: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()

    def bodies(self, rows: Sequence[Row], columns: Mapping[str, str]) -> tuple[str, list[dict[str, Any]]]:
        """What is sent for each row, equal ones once. Invalid, telling which names no column has."""
        known = set(rows[0]) if rows else set()
        taken = {*self.optional, *(name for names in self.alternatives for name in names)}
        for name, column in columns.items():
            if name not in taken:
                hint = did_you_mean(name, taken)
                raise Invalid(f"endpoint '{self.endpoint}' takes no '{name}'", hint=hint)
            if column not in known:
                raise Invalid(f"the data set has no column '{column}'", hint=did_you_mean(column, known))
        source = {name: columns.get(name, name) for name in taken}
        fitting = [names for names in self.alternatives if all(source[name] in known for name in names)]
        if not fitting:
            missing = min(
                ([name for name in names if source[name] not in known] for names in self.alternatives),
                key=len,
            )
            raise Invalid(
                f"the data set has no column for {', '.join(missing)} of endpoint '{self.endpoint}'",
                hint=f"say which: --column {missing[0]}=COLUMN; it has: {', '.join(sorted(known))}",
            )
        names = [*fitting[0], *(name for name in self.optional if source[name] in known)]
        made = [{name: row[source[name]] for name in dict.fromkeys(names)} for row in rows]
        return self.word, [body for number, body in enumerate(made) if body not in made[:number]]


def sendable(spec: Spec, endpoints: Sequence[Mapping[str, Any]], folder: Path | None) -> Sendable:
    """What an endpoint takes, by what is declared of it, and for a model's features and a function's arguments by its
    last package. Invalid when that is needed and there is none.
    """
    packaged = next((one for one in endpoints if one["name"] == spec.name), {})
    match spec:
        case LookupSpec():
            keyed = [(name, rows.missing_key == ERROR) for rows in rows_of(spec) for name, _ in rows.key]
            needed = tuple(dict.fromkeys(name for name, is_needed in keyed if is_needed))
            return Sendable(
                spec.name, "data", (needed,), tuple({name: 0 for name, _ in keyed if name not in needed})
            )
        case QuerySpec() | ComposeSpec():
            parameters = spec.parameters if isinstance(spec, QuerySpec) else spec.input
            if isinstance(spec, QuerySpec) and packaged:
                needed = tuple(p["name"] for p in packaged["parameters"] if p.get("required", True))
            else:
                needed = tuple(p.name for p in parameters if p.required)
            optional = tuple(p.name for p in parameters if not p.required)
            return Sendable(
                spec.name, "parameters" if isinstance(spec, QuerySpec) else "input", (needed,), optional
            )
        case PredictSpec():
            keys = tuple(dict.fromkeys(name for rows in spec.enrich for name, _ in rows.key))
            if folder is None or not packaged:
                if keys:
                    return Sendable(spec.name, "features", (keys,))
                raise _not_packaged(spec.name)
            signature = read_signature((folder / str(packaged["model"]) / SIGNATURE).read_bytes())
            looked_up = {c["name"] for one in packaged.get("enrich", ()) for c in one["columns"]}
            rest = tuple(name for name in signature.feature_names if name not in looked_up)
            by_key = ((*keys, *rest),) if keys else ()
            return Sendable(spec.name, "features", (*by_key, tuple(signature.feature_names)))
        case ForecastSpec():
            raise Invalid(
                f"endpoint '{spec.name}' forecasts series, so no single row is a request of it",
                hint="write its test queries in the service's file",
            )
        case FunctionSpec():
            if not packaged:
                raise _not_packaged(spec.name)
            arguments = packaged["parameters"]
            needed = tuple(p["name"] for p in arguments if p["required"])
            optional = tuple(p["name"] for p in arguments if not p["required"])
            return Sendable(spec.name, "arguments", (needed,), optional)


def _not_packaged(name: str) -> Invalid:
    return Invalid(
        f"what endpoint '{name}' takes is known when it is packaged", hint="package the service first"
    )
