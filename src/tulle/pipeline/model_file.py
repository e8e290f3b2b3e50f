"""Saving a trained model with everything that is needed to serve it, once it has passed its quality gate.

A saved model is a folder:

    model.joblib     the estimator itself
    model.onnx       its ONNX form, only when that gives the same answers (`model_onnx`)
    signature.json   task, classes, features with types and ranges, metrics, versions (`model_signature`)
    sample.parquet   up to 1,000 rows of the features, for examples and warm-up

The bytes depend on the model and the sample alone, so saving an equal model again changes nothing in a lake.
Runs inside the run process: it trusts the estimator. Knows nothing of the lake, runs or requests.
"""

from __future__ import annotations

import importlib.machinery
import io
import math
import pickle
import platform
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tulle.errors import Invalid, Problem, did_you_mean
from tulle.pipeline.model_onnx import convert
from tulle.pipeline.model_score import Matrix, NativeScorer, is_numeric, optional
from tulle.pipeline.model_signature import (
    MODEL,
    ONNX,
    SAMPLE,
    SIGNATURE,
    Class,
    Conversion,
    Feature,
    Signature,
    Task,
)

SAMPLE_ROWS = 1000
TOLERANCE = 1e-5
MOST_CATEGORIES = 50
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_LOWER_IS_BETTER = re.compile(r"(loss|error|mae|mse|rmse|mape|brier|brier_score)$")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A saved model: its folder, the names of its files, and its signature."""

    name: str
    folder: Path
    files: tuple[str, ...]
    signature: Signature


def save_model(
    folder: Path,
    name: str,
    estimator: Any,
    *,
    features: Sequence[str],
    sample: Any,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float] | None = None,
) -> ModelFile:
    """Write the model's files into `folder` (made if missing; the folder is the model, `models/<name>`).

    `estimator` is a fitted scikit-learn style estimator; `sample` a pyarrow Table or pandas DataFrame that
    has the features (other columns are left out); `metrics` are its measured qualities. A metric that is
    worse than the same one in `baseline` raises Invalid and writes nothing: higher is better, except for
    names ending in loss, error, mae, mse, rmse, mape, brier or brier_score.

    Null features: where the sample has nulls and the model predicts them, a null is later passed as NaN;
    for all other features it is refused. Raises Invalid for everything the caller can mend.
    """
    if not _NAME.match(name):
        raise Invalid(f"the model name '{name}' must be snake_case, like 'high_value'")
    table = _feature_table(sample, _feature_order(estimator, features), name)
    measured, stated = _gate(name, metrics, baseline or {})
    scorer, rows = _native(name, estimator, table, sample)
    labels = scorer.labels(rows)
    classes = _classes(name, estimator)
    probabilities = scorer.probabilities(rows) if classes and hasattr(estimator, "predict_proba") else None
    argmax = probabilities is not None and _agree(classes, probabilities, labels)
    onnx: bytes | None = None
    if scorer.frame:
        conversion = Conversion("native", reason="ONNX takes numbers only; the model needs named columns")
    elif probabilities is not None and not argmax:
        conversion = Conversion("native", reason="the predicted class is not always the most probable one")
    elif probabilities is None and classes:
        conversion = Conversion("native", reason="the classifier gives no probabilities")
    else:
        onnx, conversion = convert(
            estimator, np.asarray(rows), labels=labels, probabilities=probabilities, tolerance=TOLERANCE
        )
    signature = Signature(
        name=name,
        task=_task(classes),
        estimator=_estimator_name(estimator),
        features=tuple(_feature(table.column(column), column) for column in table.column_names),
        classes=classes,
        class_type=_class_type(classes),
        has_probabilities=probabilities is not None,
        argmax=argmax,
        percentiles=_percentiles(classes, probabilities),
        frame=scorer.frame,
        conversion=conversion,
        sample_rows=min(SAMPLE_ROWS, table.num_rows),
        metrics=measured,
        baseline=stated,
        libraries=_libraries(frame=scorer.frame, onnx=onnx is not None),
    )
    return _write(folder, name, estimator, onnx, signature, table)


# ── the sample ───────────────────────────────────────────────────────────────────────────────────────────


def _feature_order(estimator: Any, features: Sequence[str]) -> list[str]:
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


def _feature_table(sample: Any, features: Sequence[str], model: str) -> pa.Table:
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
    columns = [pc.if_else(pc.is_nan(c), None, c) if pa.types.is_floating(c.type) else c for c in columns]
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


def _feature_type(name: str, kind: pa.DataType) -> str:
    word = mesh_type(kind)
    if word is None or word == "binary":
        hint = "the sample has no value in it" if pa.types.is_null(kind) else None
        raise Invalid(f"feature '{name}' has the type {kind}, which no request can carry", hint=hint)
    return word


def _feature(column: pa.ChunkedArray, name: str) -> Feature:
    kind = _feature_type(name, column.type)
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


def _matrix(table: pa.Table) -> Matrix:
    columns = [pc.cast(column, pa.float64()).to_numpy() for column in table.columns]
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


# ── the estimator ────────────────────────────────────────────────────────────────────────────────────────


def _native(name: str, estimator: Any, table: pa.Table, sample: Any) -> tuple[NativeScorer, Any]:
    """The scorer of the native form and the sample's rows as it takes them."""
    types = [_feature_type(column.name, column.type) for column in table.schema]
    attempts: list[tuple[bool, Any]] = [(True, [tuple(row.values()) for row in table.to_pylist()])]
    if all(is_numeric(kind) for kind in types):
        attempts.insert(0, (False, _matrix(table)))
    failure: Exception | None = None
    for frame, rows in attempts:
        scorer = NativeScorer(estimator, table.column_names, types, frame=frame)
        try:
            labels = scorer.labels(rows)
        except Exception as exc:  # noqa: BLE001  any estimator, any failure: reported below
            failure = failure or exc
            continue
        _same_as_given(name, estimator, sample, table.column_names, labels)
        return scorer, rows
    raise Invalid(
        f"model '{name}' cannot predict the rows of its own sample: {failure}",
        hint="pass the sample as the model was trained with it; impute nulls inside the model",
    ) from failure


def _same_as_given(name: str, estimator: Any, sample: Any, features: Sequence[str], labels: Matrix) -> None:
    """Refuse a model that answers differently on the sample as given than on what a request can carry."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = sample.select(features) if isinstance(sample, pa.Table) else sample[list(features)]
            expected = np.asarray(estimator.predict(given)).reshape(-1)
    except Exception:  # noqa: BLE001  not every estimator takes every kind of table: nothing to compare
        return
    different = int(np.sum(expected != labels)) if expected.dtype.kind not in "fc" else 0
    if expected.dtype.kind == "f":
        different = int(np.sum(~np.isclose(expected, labels, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)))
    if different:
        raise Invalid(
            f"model '{name}' answers {different} of {len(labels)} rows differently when its features are "
            "sent as JSON values",
            hint="train it on plain numbers and text instead of categorical or special column types",
        )


def _classes(name: str, estimator: Any) -> tuple[Class, ...]:
    found = getattr(estimator, "classes_", None)
    if found is None:
        return ()
    if isinstance(found, list):
        raise Invalid(f"model '{name}' predicts {len(found)} targets at once; one is supported")
    classes = tuple(value.item() if hasattr(value, "item") else value for value in found)
    if len(classes) < 2 or not all(isinstance(value, str | int | float | bool) for value in classes):
        raise Invalid(f"model '{name}' has the classes {classes}; expected two or more texts or numbers")
    return classes


def _task(classes: tuple[Class, ...]) -> Task:
    if not classes:
        return "regression"
    return "binary" if len(classes) == 2 else "multiclass"


def _class_type(classes: tuple[Class, ...]) -> str | None:
    if not classes:
        return None
    return {bool: "boolean", int: "integer", float: "double", str: "string"}[type(classes[0])]


def _agree(classes: tuple[Class, ...], probabilities: Matrix, labels: Matrix) -> bool:
    return bool(np.all(np.asarray(classes)[probabilities.argmax(axis=1)] == labels))


def _percentiles(classes: tuple[Class, ...], probabilities: Matrix | None) -> tuple[float, ...]:
    if len(classes) != 2 or probabilities is None:
        return ()
    return tuple(float(q) for q in np.quantile(probabilities[:, 1], np.arange(1, 100) / 100))


def _estimator_name(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    if steps:
        return f"{type(estimator).__name__}({', '.join(type(step).__name__ for _, step in steps)})"
    return type(estimator).__name__


def _libraries(*, frame: bool, onnx: bool) -> dict[str, str]:
    packages = ["scikit-learn", "numpy", "joblib"]
    packages += ["pandas"] if frame else []
    packages += ["onnx", "onnxruntime", "skl2onnx"] if onnx else []
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in packages}


# ── the quality gate ─────────────────────────────────────────────────────────────────────────────────────


def _gate(
    name: str, metrics: Mapping[str, float], baseline: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics and baseline as plain numbers; raises Invalid when a metric is worse than its baseline."""
    measured, stated = _numbers(name, "metric", metrics), _numbers(name, "baseline", baseline)
    problems: list[Problem] = []
    for metric, bound in stated.items():
        if metric not in measured:
            problems.append(Problem(f"no metric '{metric}' was given", hint=did_you_mean(metric, measured)))
            continue
        value = measured[metric]
        lower = bool(_LOWER_IS_BETTER.search(metric))
        if value > bound if lower else value < bound:
            better = "lower" if lower else "higher"
            problems.append(
                Problem(f"{metric} is {value:.6g}, worse than the baseline {bound:.6g} ({better} is better)")
            )
    if problems:
        raise Invalid(
            f"model '{name}' does not reach its baseline: " + "; ".join(p.message for p in problems),
            hint="the model was not saved; what is served stays as it is",
            problems=problems,
        )
    return measured, stated


def _numbers(name: str, what: str, values: Mapping[str, float]) -> dict[str, float]:
    for key, value in values.items():
        try:
            usable = math.isfinite(float(value))
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise Invalid(f"the {what} '{key}' of model '{name}' is {value!r}, expected a number")
    return {key: float(values[key]) for key in sorted(values)}


# ── the files ────────────────────────────────────────────────────────────────────────────────────────────


def _write(
    folder: Path, name: str, estimator: Any, onnx: bytes | None, signature: Signature, table: pa.Table
) -> ModelFile:
    joblib = optional("joblib")
    _check_importable(name, estimator)
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(estimator, folder / MODEL)
    (folder / ONNX).unlink(missing_ok=True)
    if onnx is not None:
        (folder / ONNX).write_bytes(onnx)
    text = msgspec.json.format(msgspec.json.encode(signature, order="sorted"), indent=2)
    (folder / SIGNATURE).write_bytes(text + b"\n")
    pq.write_table(_spread(table, SAMPLE_ROWS), folder / SAMPLE, compression="zstd")
    files = (MODEL, *([ONNX] if onnx is not None else []), SIGNATURE, SAMPLE)
    return ModelFile(name, folder, files, signature)


def _spread(table: pa.Table, rows: int) -> pa.Table:
    """At most `rows` rows, evenly spread over the table, always the same ones."""
    if table.num_rows <= rows:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, rows).astype(np.int64)))


class _Names(pickle.Pickler):
    """Notes the module of every class and function a pickle would refer to."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.modules: dict[str, str] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) or callable(obj):
            module, qualified = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "")
            if module:
                self.modules.setdefault(str(module), str(qualified))
        return NotImplemented


def _check_importable(name: str, estimator: Any) -> None:
    """Refuse an estimator that the serving process could not load: it has no access to the product's code."""
    names = _Names()
    try:
        names.dump(estimator)
    except (pickle.PicklingError, TypeError, AttributeError) as exc:
        raise Invalid(
            f"model '{name}' cannot be saved: {exc}",
            hint="use estimators and functions of installed packages, no lambdas or local classes",
        ) from exc
    for module, qualified in sorted(names.modules.items()):
        root = module.partition(".")[0]
        installed = root in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(root)
        if root == "__main__" or not installed:
            raise Invalid(
                f"model '{name}' uses '{qualified}' from the file that trains it, which services cannot load",
                hint="use estimators and functions of installed packages",
            )
