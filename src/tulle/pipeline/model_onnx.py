"""Turning a model into ONNX, and proving on real rows that both forms answer the same.

Estimators of scikit-learn are turned by skl2onnx; boosted trees of XGBoost and LightGBM, and scikit-learn's own by
histograms, alone or last in a pipeline, by `model_trees`; what came as ONNX already only gets the usual inputs and
outputs.

Conversion never fails a run: what cannot be converted, or answers differently, is served natively, with the
reason recorded. Knows nothing of files.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from math import inf
from time import perf_counter
from typing import Any, Literal

import numpy as np

from tulle.pipeline.model_score import Matrix, OnnxScorer, optional
from tulle.pipeline.model_signature import Conversion
from tulle.pipeline.model_sizes import operator_sized_by_values
from tulle.pipeline.model_trees import Unconvertible, add_trees, as_onnx, is_boosted, trees_of

SINGLE_ROWS = 32
MOST_BETWEEN = 1000  # rows between those of the sample
TIMED_ROWS = 10  # the quickest of which counts: a busy machine makes no model slow
MOST_SECONDS = 0.005  # of a row, in the worker itself; a process of its own costs less than a tenth of that


def convert(
    estimator: Any,
    rows: Matrix,
    *,
    labels: Matrix,
    probabilities: Matrix | None,
    tolerance: float,
    nearest: bool = False,
) -> tuple[bytes | None, Conversion]:
    """The ONNX form of `estimator` if it gives `labels` and `probabilities` for `rows`, with the report.

    `nearest`: the probabilities are distances, and the smallest counts. One for which others would wait is none.
    """
    model, made = _same(estimator, rows, labels, probabilities, tolerance, nearest)
    if model is not None and (reason := _holds_up(model, rows, double=made.input == "double")):
        return None, Conversion("native", made.rows, made.tolerance, reason=reason)
    return model, made


def _same(
    estimator: Any,
    rows: Matrix,
    labels: Matrix,
    probabilities: Matrix | None,
    tolerance: float,
    nearest: bool,
) -> tuple[bytes | None, Conversion]:
    """The ONNX form that answers the same.

    Double input is tried first (nothing is rounded on the way in), then float. One that moreover answers the same
    between the values of `rows`, where trees have their thresholds, is taken before one that does not.
    """
    reasons = []
    almost: tuple[bytes, Conversion] | None = None
    between = _between(estimator, rows, probabilities is not None, nearest)
    for double in _precisions(estimator):
        word: Literal["double", "float"] = "double" if double else "float"
        try:
            model = _to_onnx(
                estimator, rows.shape[1], double=double, classifier=probabilities is not None and not nearest
            )
            scorer = OnnxScorer(model, double=double, example=rows[0])
            difference = _difference(scorer, rows, labels, probabilities, nearest)
            beyond = _difference(scorer, *between, nearest) if between is not None else 0.0
        except Exception as exc:  # noqa: BLE001  converters fail in many ways; each one means: serve natively
            reasons.append(f"{word} input: {_first_line(exc)}")
            continue
        if difference <= tolerance:
            made = model, Conversion("onnx", len(rows), tolerance, word, float(difference))
            if beyond <= tolerance:
                return made
            almost = almost or made
            continue
        reasons.append(f"{word} input: answers differ by up to {difference:.3g} on {len(rows)} rows")
    return almost or (None, Conversion("native", len(rows), tolerance, reason="; ".join(reasons)))


def _holds_up(model: bytes, rows: Matrix, *, double: bool) -> str:
    """Why an ONNX form may not answer within the worker, where all other requests wait for it; empty where it may.

    What takes long does so in a process of its own, which may be stopped. With a loop in it nobody knows how long a
    row takes: the row may say. Nor how much memory, where the size of something follows a value of the row.
    """
    read = optional("onnx").load_from_string(model)
    if any(map(_loops, (read.graph, *read.functions))):
        return "its graph has a loop, which may take as long as it likes: it runs in a process of its own"
    if operator := operator_sized_by_values(read):
        return (
            f"its graph has '{operator}', which takes as much memory as a value of a row says: "
            "it runs in a process of its own"
        )
    scorer = OnnxScorer(model, double=double, example=rows[0])
    least = inf
    for row in rows[:TIMED_ROWS].tolist():
        start = perf_counter()
        scorer.single(row)
        least = min(least, perf_counter() - start)
    if least <= MOST_SECONDS:
        return ""
    return f"one row takes {least * 1000:.0f} ms, and others would wait: it runs in a process of its own"


def _loops(graph: Any) -> bool:
    """Whether a graph, or one inside a node of it, has a loop."""
    for node in graph.node:
        if node.op_type == "Loop":
            return True
        inner = [one for part in node.attribute for one in (part.g, *part.graphs)]
        if any(map(_loops, inner)):
            return True
    return False


def _between(
    estimator: Any, rows: Matrix, has_numbers: bool, nearest: bool
) -> tuple[Matrix, Matrix, Matrix | None] | None:
    """Some rows with each value half way to the next greater one of its column, and what the estimator says of them.

    Most thresholds of a tree lie there, and whether such a value is rounded before it is compared decides the answer.
    None where the estimator takes no such values.
    """
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_BETWEEN)).astype(np.int64))]
    moved = np.array(some, dtype=np.float64)
    for column in moved.T:
        known = np.unique(column[~np.isnan(column)])
        if len(known) < 2:
            continue
        after = np.minimum(np.searchsorted(known, column) + 1, len(known) - 1)
        halves = (column + known[after]) / 2
        column[:] = np.floor(halves) if np.all(known == np.floor(known)) else halves
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = np.asarray(estimator.predict(moved)).reshape(-1)
            numbers = None
            if has_numbers:
                numbers = np.asarray((estimator.transform if nearest else estimator.predict_proba)(moved))
    except Exception:  # noqa: BLE001  an encoder that knows its values only, say
        return None
    return moved, labels, numbers


def _precisions(estimator: Any) -> tuple[bool, ...]:
    """Whether to try input in double precision, and then in single: trees are compared in one of them only."""
    if not is_boosted(estimator):
        return True, False
    try:
        return (trees_of(estimator).double,)
    except Unconvertible:  # told when it is tried
        return (True,)


def _to_onnx(estimator: Any, width: int, *, double: bool, classifier: bool) -> bytes:
    if hasattr(estimator, "own_onnx"):
        return bytes(estimator.own_onnx(width, double=double))
    if is_boosted(estimator):
        return as_onnx(trees_of(estimator), classifier=classifier)
    kinds = optional("skl2onnx.common.data_types")
    kind = kinds.DoubleTensorType if double else kinds.FloatTensorType
    _register_boosted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = optional("skl2onnx").convert_sklearn(
            estimator,
            name="model",  # the default is a random name: equal models must have equal bytes
            initial_types=[("features", kind([None, width]))],
            options={id(estimator): {"zipmap": False}} if classifier else None,
            custom_conversion_functions=dict.fromkeys(_histograms(), _convert_boosted),
            custom_shape_calculators=dict.fromkeys(_histograms(), _shape_boosted),
        )
    return bytes(converted.SerializeToString())


def _histograms() -> Iterator[type]:
    """Histogram gradient boosting, which skl2onnx knows and we convert ourselves: it rounds thresholds."""
    ensemble = optional("sklearn.ensemble")
    yield from (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)


def _register_boosted() -> None:
    """Make the converter's own registry know the trees of others, for pipelines that end in them."""
    known = optional("skl2onnx._supported_operators").sklearn_operator_name_map
    for kind in _boosted_kinds():
        if kind not in known:
            options = {"zipmap": [True, False]} if hasattr(kind, "predict_proba") else None
            optional("skl2onnx").update_registered_converter(
                kind, f"Tulle{kind.__name__}", _shape_boosted, _convert_boosted, options=options
            )


def _boosted_kinds() -> Iterator[type]:
    """The estimators of XGBoost and LightGBM, as far as these are loaded: a pipeline that has one has loaded it."""
    for library, names in (
        ("xgboost", ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor")),
        ("lightgbm", ("LGBMClassifier", "LGBMRegressor")),
    ):
        module = sys.modules.get(library)
        yield from (getattr(module, name) for name in names if hasattr(module, name))


def _convert_boosted(scope: Any, operator: Any, container: Any) -> None:
    def add(kind: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        attributes.setdefault("op_domain", "")
        attributes.setdefault("op_version", 18 if not attributes["op_domain"] else 3)
        container.add_node(kind, inputs, outputs, name=scope.get_unique_operator_name(kind), **attributes)

    outputs = [one.full_name for one in operator.outputs]
    trees = trees_of(operator.raw_operator)
    add_trees(trees, add, operator.inputs[0].full_name, outputs[0], outputs[1] if len(outputs) > 1 else None)


def _shape_boosted(operator: Any) -> None:
    kinds = optional("skl2onnx.common.data_types")
    rows = operator.inputs[0].get_first_dimension()
    if len(operator.outputs) > 1:
        operator.outputs[0].type = kinds.Int64TensorType([rows])
        operator.outputs[1].type = kinds.FloatTensorType(
            [rows, max(2, trees_of(operator.raw_operator).targets)]
        )
    else:
        operator.outputs[0].type = kinds.FloatTensorType([rows, 1])


def _difference(
    scorer: OnnxScorer, rows: Matrix, labels: Matrix, probabilities: Matrix | None, nearest: bool
) -> float:
    """The greatest difference between both forms; infinite when a class differs."""
    batch = _apart(
        scorer.labels(rows) if probabilities is None else scorer.probabilities(rows),
        labels,
        probabilities,
        nearest,
    )
    # A batch and a single row take different paths in the runtime, so both are compared.
    few = slice(0, SINGLE_ROWS)
    singles = np.array([scorer.single(row) for row in rows[few]])
    single = _apart(
        singles.reshape(-1) if probabilities is None else singles,
        labels[few],
        None if probabilities is None else probabilities[few],
        nearest,
    )
    return max(batch, single)


def _apart(found: Matrix, labels: Matrix, numbers: Matrix | None, nearest: bool) -> float:
    if numbers is None:
        apart = np.abs(found.astype(np.float64) - labels) / np.maximum(1.0, np.abs(labels))
    elif found.shape != numbers.shape:
        return float("inf")
    elif nearest:
        if np.any(found.argmin(axis=1) != numbers.argmin(axis=1)):
            return float("inf")
        apart = np.abs(found - numbers) / np.maximum(1.0, numbers)
    elif np.any(found.argmax(axis=1) != numbers.argmax(axis=1)):
        return float("inf")
    else:
        apart = np.abs(found - numbers)
    return float(np.max(apart)) if np.all(np.isfinite(apart)) else float("inf")


def _first_line(exc: Exception) -> str:
    text = str(exc).strip().partition("\n")[0]
    return f"{type(exc).__name__}: {text[:200]}"
