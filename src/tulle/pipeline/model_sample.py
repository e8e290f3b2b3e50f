"""The sample a model is saved with: its features as a table of the mesh's own types, and what is seen in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tulle.errors import Invalid, Problem, did_you_mean
from tulle.pipeline.model_score import Matrix
from tulle.pipeline.model_signature import Feature

MOST_CATEGORIES = 50


def feature_order(estimator: Any, features: Sequence[str]) -> list[str]:
    """The features in the order the estimator was trained with, when it knows that order."""
    named = [str(column) for column in getattr(estimator, "feature_names_in_", ())]
    count = getattr(estimator, "n_features_in_", None)
    if len(set(features)) != len(features) or not features:
        raise Invalid(f"'features' must name each feature once, got {list(features)}")
    if named and set(named) != set(features):
        problems = [
            *(
                Problem(f"the model was not trained with feature '{f}'", hint=did_you_mean(f, named))
                for f in features
                if f not in named
            ),
            *(Problem(f"feature '{n}' of the model is missing") for n in named if n not in features),
        ]
        raise Invalid("'features' are not the ones the model was trained with", problems=problems)
    if count is not None and count != len(features):
        raise Invalid(f"the model was trained with {count} features, 'features' names {len(features)}")
    return named or list(features)


def feature_table(sample: Any, features: Sequence[str], model: str) -> pa.Table:
    """The features of the sample as a table with the mesh's own types."""
    table = sample if isinstance(sample, pa.Table) else pa.Table.from_pandas(sample, preserve_index=False)
    problems = [
        Problem(f"the sample has no column '{name}'", hint=did_you_mean(name, table.column_names))
        for name in features
        if name not in table.column_names
    ]
    if problems:
        raise Invalid(f"the sample of model '{model}' lacks features", problems=problems)
    if table.num_rows == 0:
        raise Invalid(f"the sample of model '{model}' has no rows")
    columns = [table.column(name).combine_chunks() for name in features]
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in columns]
    # No request can carry what is no number, or infinite.
    columns = [pc.if_else(pc.is_finite(c), c, None) if pa.types.is_floating(c.type) else c for c in columns]
    return pa.table(columns, names=list(features))


_WORDS: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "double"),
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_string_view, "string"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "timestamp"),
    (pa.types.is_binary, "binary"),
    (pa.types.is_large_binary, "binary"),
    (pa.types.is_binary_view, "binary"),
)


def mesh_type(kind: pa.DataType) -> str | None:
    """The mesh's own word for an Arrow type, or None when it has none (lists, structs, nulls)."""
    if pa.types.is_dictionary(kind):
        return mesh_type(kind.value_type)
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return next((word for holds, word in _WORDS if holds(kind)), None)


def feature_type(name: str, kind: pa.DataType) -> str:
    """The mesh's word for the type of a feature; Invalid when no request can carry it."""
    word = mesh_type(kind)
    if word is None or word == "binary":
        hint = "the sample has no value in it" if pa.types.is_null(kind) else None
        raise Invalid(f"feature '{name}' has the type {kind}, which no request can carry", hint=hint)
    return word


def feature_of(column: pa.ChunkedArray, name: str) -> Feature:
    """What the signature says of a feature, from what the sample has of it."""
    kind = feature_type(name, column.type)
    nullable = column.null_count > 0
    if kind == "string":
        seen = pc.unique(column.drop_null()).to_pylist()
        categories = tuple(sorted(seen)) if len(seen) <= MOST_CATEGORIES else None
        return Feature(name, kind, nullable, categories=categories)
    if kind == "boolean":
        return Feature(name, kind, nullable)
    bounds = pc.min_max(column).as_py()
    low, high = (_plain(bounds[end]) for end in ("min", "max"))
    return Feature(name, kind, nullable, low, high)


def _plain(value: Any) -> int | float | str | None:
    """A bound as JSON has it: numbers stay, decimals become numbers, dates and times ISO text."""
    if value is None or isinstance(value, int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else float(value)


def matrix_of(table: pa.Table) -> Matrix:
    """The columns of a table of numbers, shape (rows, columns); nulls are NaN."""
    # Whole numbers of more than 53 bits are rounded, as they are when a request brings them.
    columns = [pc.cast(column, pa.float64(), safe=False).to_numpy() for column in table.columns]
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


def spread(table: pa.Table, rows: int) -> pa.Table:
    """At most `rows` rows, evenly spread over the table, always the same ones."""
    if table.num_rows <= rows:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, rows).astype(np.int64)))
