"""Turning a scikit-learn estimator into ONNX, and proving on real rows that both forms answer the same.

Conversion never fails a run: what cannot be converted, or answers differently, is served natively, with the
reason recorded. Knows nothing of files.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from tulle.pipeline.model_score import Matrix, OnnxScorer, optional
from tulle.pipeline.model_signature import Conversion

SINGLE_ROWS = 32


def convert(
    estimator: Any, rows: Matrix, *, labels: Matrix, probabilities: Matrix | None, tolerance: float
) -> tuple[bytes | None, Conversion]:
    """The ONNX form of `estimator` if it gives `labels` and `probabilities` for `rows`, with the report.

    Double input is tried first (nothing is rounded on the way in), then float.
    """
    reasons = []
    for double in (True, False):
        word: Literal["double", "float"] = "double" if double else "float"
        try:
            model = _to_onnx(estimator, rows.shape[1], double=double, classifier=probabilities is not None)
            difference = _difference(OnnxScorer(model, double=double), rows, labels, probabilities)
        except Exception as exc:  # noqa: BLE001  converters fail in many ways; each one means: serve natively
            reasons.append(f"{word} input: {_first_line(exc)}")
            continue
        if difference <= tolerance:
            return model, Conversion("onnx", len(rows), tolerance, word, float(difference))
        reasons.append(f"{word} input: answers differ by up to {difference:.3g} on {len(rows)} rows")
    return None, Conversion("native", len(rows), tolerance, reason="; ".join(reasons))


def _to_onnx(estimator: Any, width: int, *, double: bool, classifier: bool) -> bytes:
    kinds = optional("skl2onnx.common.data_types")
    kind = kinds.DoubleTensorType if double else kinds.FloatTensorType
    converters, shapes = _mended()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = optional("skl2onnx").convert_sklearn(
            estimator,
            name="model",  # the default is a random name: equal models must have equal bytes
            initial_types=[("features", kind([None, width]))],
            options={id(estimator): {"zipmap": False}} if classifier else None,
            custom_conversion_functions=converters,
            custom_shape_calculators=shapes,
        )
    return bytes(converted.SerializeToString())


def _mended() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Converters of histogram gradient boosting: skl2onnx's own, but their numbers are plain.

    skl2onnx 1.20 hands numpy scalars on as attributes, which onnx from 1.20 on refuses; without this the most
    used of scikit-learn's tree models would be served natively, at more than a hundred times the cost.
    """
    names = optional("skl2onnx._supported_operators").sklearn_operator_name_map
    registered = optional("skl2onnx.common._registration")
    ensemble = optional("sklearn.ensemble")
    kinds = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)
    converters = {kind: _with_plain_numbers(registered.get_converter(names[kind])) for kind in kinds}
    return converters, {kind: registered.get_shape_calculator(names[kind]) for kind in kinds}


def _with_plain_numbers(converter: Any) -> Any:
    def convert_plainly(scope: Any, operator: Any, container: Any) -> None:
        add_node = container.add_node

        def add_plain_node(kind: Any, inputs: Any, outputs: Any, **attributes: Any) -> Any:
            plain = {name: _plain(value) for name, value in attributes.items()}
            return add_node(kind, inputs, outputs, **plain)

        container.add_node = add_plain_node
        try:
            converter(scope, operator, container)
        finally:
            del container.add_node  # the method of its class shows again

    return convert_plainly


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple) and any(isinstance(one, np.ndarray | np.generic) for one in value):
        return np.ravel(value).tolist()
    return value


def _difference(scorer: OnnxScorer, rows: Matrix, labels: Matrix, probabilities: Matrix | None) -> float:
    """The greatest difference between both forms; infinite when a class differs."""
    batch = _apart(
        scorer.labels(rows) if probabilities is None else scorer.probabilities(rows), labels, probabilities
    )
    # A batch and a single row take different paths in the runtime, so both are compared.
    few = slice(0, SINGLE_ROWS)
    singles = np.array([scorer.single(row) for row in rows[few]])
    single = _apart(
        singles.reshape(-1) if probabilities is None else singles,
        labels[few],
        None if probabilities is None else probabilities[few],
    )
    return max(batch, single)


def _apart(found: Matrix, labels: Matrix, probabilities: Matrix | None) -> float:
    if probabilities is None:
        apart = np.abs(found.astype(np.float64) - labels) / np.maximum(1.0, np.abs(labels))
    elif found.shape != probabilities.shape or np.any(found.argmax(axis=1) != probabilities.argmax(axis=1)):
        return float("inf")
    else:
        apart = np.abs(found - probabilities)
    return float(np.max(apart)) if np.all(np.isfinite(apart)) else float("inf")


def _first_line(exc: Exception) -> str:
    text = str(exc).strip().partition("\n")[0]
    return f"{type(exc).__name__}: {text[:200]}"
