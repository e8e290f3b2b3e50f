"""Evaluating a trained model, in either of its two forms, on rows of features.

The same code scores when a model is saved (the parity test) and when it is served, so what was tested is what
answers. Knows nothing of files, requests or where the features come from.
"""

from __future__ import annotations

import datetime as dt
import importlib
import math
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

from tulle.errors import Unavailable

NUMERIC = ("integer", "double", "boolean", "decimal")
Matrix = np.ndarray[Any, np.dtype[Any]]


def is_numeric(mesh_type: str) -> bool:
    """Whether values of a mesh column type can go into a matrix of numbers."""
    return mesh_type.partition("(")[0] in NUMERIC


class Scorer(Protocol):
    """One loaded model."""

    def probabilities(self, rows: Sequence[Sequence[Any]]) -> Matrix:
        """Probabilities of a classifier, shape (rows, classes), in the order of its classes."""

    def labels(self, rows: Sequence[Sequence[Any]]) -> Matrix:
        """The predicted class or number of each row, shape (rows,)."""

    def single(self, row: Sequence[Any]) -> list[float]:
        """The probabilities of one row, or for a regressor its number; quicker, and for one thread only.

        Of a clustering, the distances are in the place of probabilities.
        """


class OnnxScorer:
    """A model in ONNX form: one float matrix in, labels and probabilities (or numbers) out; one thread."""

    def __init__(self, model: bytes, *, double: bool, example: Sequence[float] | None = None) -> None:
        """`example`: a row that it answers, zeros where nothing is said: not every encoder knows a zero."""
        onnxruntime = optional("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what it warns of is checked by the parity test
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._dtype = np.float64 if double else np.float32
        self._input = self._session.get_inputs()[0].name
        outputs = [output.name for output in self._session.get_outputs()]
        self._label, self._probabilities = outputs[:1], outputs[1:2]
        width = self._session.get_inputs()[0].shape[1]
        # One row uses these two buffers over and over: half the cost of a call that makes new ones.
        self._row = np.zeros((1, width), dtype=self._dtype)
        if example is not None:
            self._row[0] = example
        last = self._probabilities or self._label
        self._answer = np.ascontiguousarray(self._session.run(last, {self._input: self._row})[0])
        self._binding = self._session.io_binding()
        self._binding.bind_cpu_input(self._input, self._row)
        self._binding.bind_output(
            last[0], "cpu", 0, self._answer.dtype, self._answer.shape, self._answer.ctypes.data
        )

    def probabilities(self, rows: Sequence[Sequence[Any]] | Matrix) -> Matrix:
        """Probabilities of a classifier, shape (rows, classes)."""
        return self._run(self._probabilities, rows)

    def labels(self, rows: Sequence[Sequence[Any]] | Matrix) -> Matrix:
        """The number of a regressor (or class of a classifier) for each row, shape (rows,)."""
        return self._run(self._label, rows).reshape(-1)

    def single(self, row: Sequence[Any]) -> list[float]:
        """The probabilities of one row, or for a regressor its number; not safe for several threads."""
        self._row[0] = row
        self._session.run_with_iobinding(self._binding)
        return cast("list[float]", self._answer[0].tolist())

    def _run(self, outputs: list[str], rows: Sequence[Sequence[Any]] | Matrix) -> Matrix:
        # None becomes NaN in a float array, which is what a null feature means to a model.
        matrix = np.asarray(rows, dtype=self._dtype)
        result: Matrix = self._session.run(outputs, {self._input: matrix})[0]
        return result


class NativeScorer:
    """A scikit-learn style estimator; takes a matrix of numbers or, when it needs column names, a frame."""

    def __init__(self, estimator: Any, features: Sequence[str], types: Sequence[str], *, frame: bool) -> None:
        self.estimator = estimator
        self._features = list(features)
        self._types = list(types)
        self.frame = frame
        # What says more than the label: probabilities, or of a clustering the distances.
        names = ("predict_proba", "transform")
        self._numbers = next((name for name in names if hasattr(estimator, name)), None)

    @property
    def has_numbers(self) -> bool:
        """Whether there are probabilities, or distances, beside the label."""
        return self._numbers is not None

    @property
    def has_distances(self) -> bool:
        """Whether what is beside the label are distances."""
        return self._numbers == "transform"

    def probabilities(self, rows: Sequence[Sequence[Any]] | Matrix) -> Matrix:
        """Probabilities of a classifier, shape (rows, classes); distances of a clustering."""
        return self._call(self._numbers or "predict_proba", rows)

    def labels(self, rows: Sequence[Sequence[Any]] | Matrix) -> Matrix:
        """The predicted class or number of each row, shape (rows,)."""
        return self._call("predict", rows).reshape(-1)

    def single(self, row: Sequence[Any]) -> list[float]:
        """The probabilities of one row, or for an estimator without them its number."""
        if self._numbers is None:
            return [float(self.labels([row])[0])]
        return cast("list[float]", self.probabilities([row])[0].tolist())

    def _call(self, method: str, rows: Sequence[Sequence[Any]] | Matrix) -> Matrix:
        with warnings.catch_warnings():
            # Trained on a table, fed a matrix: the order of the columns was checked when the model was saved.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return np.asarray(getattr(self.estimator, method)(self.input_of(rows)))

    def input_of(self, rows: Sequence[Sequence[Any]] | Matrix) -> Any:
        """Rows as the estimator takes them: a matrix, a frame, or for some predictors a list of dicts."""
        if not self.frame:
            return np.asarray(rows, dtype=np.float64)
        if getattr(self.estimator, "takes", "frame") == "rows":
            return [dict(zip(self._features, row, strict=True)) for row in rows]
        pd = optional("pandas")
        columns = zip(*rows, strict=True)
        return pd.DataFrame(
            {
                name: _series(pd, kind, values)
                for name, kind, values in zip(self._features, self._types, columns, strict=True)
            }
        )


def _series(pd: Any, mesh_type: str, values: Sequence[Any]) -> Any:
    """A column of a frame: numbers as float64, times as datetime64, text as object; nulls as NaN."""
    if is_numeric(mesh_type):
        return pd.Series([None if v is None else float(v) for v in values], dtype="float64")
    if mesh_type in {"date", "timestamp"}:
        stamps = [
            v if v is None or isinstance(v, dt.datetime) else dt.datetime(v.year, v.month, v.day)  # noqa: DTZ001
            for v in values
        ]
        return pd.Series(pd.to_datetime(stamps))
    return pd.Series([math.nan if v is None else v for v in values], dtype="object")


def optional(module: str) -> Any:
    """Import a module that only models need; raises Unavailable, naming it, when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        package = module.partition(".")[0]
        wanted = _FROM.get(package, "'tulle[ml]'")
        raise Unavailable(
            f"the package '{package}' is needed for this model and is not installed",
            hint=f"pip install {wanted}",
        ) from exc


# What to install, where it is not the extra `ml`.
_FROM = {name: f"'tulle[{name}]'" for name in ("pandas", "polars", "xgboost", "lightgbm", "mlflow")} | {
    "flaml": "'tulle[automl]'",
    "torch": "torch",
}
