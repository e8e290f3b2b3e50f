"""How good a model is on rows it has not seen: metrics beside those of no model, curves, what each feature is worth.

Everything is measured on the hold-out. Pure: an estimator and rows in, plain values out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tulle.pipeline.model_gate import is_lower_better
from tulle.pipeline.model_score import Matrix, optional
from tulle.pipeline.training import Task

POINTS = 100  # of a curve
MOST_ROWS = 2000  # for importance: each feature is shuffled and all of them predicted again
BINS = 10

Curves = dict[str, Any]


def measured(task: Task, estimator: Any, rows: Any, truth: Matrix) -> dict[str, float]:
    """The metrics of a task, by name."""
    metrics = optional("sklearn.metrics")
    predicted = estimator.predict(rows)
    if task == "regression":
        return {
            "rmse": float(np.sqrt(np.mean((predicted - truth) ** 2))),
            "mae": float(np.mean(np.abs(predicted - truth))),
            "r2": float(metrics.r2_score(truth, predicted)),
        }
    shares, classes = estimator.predict_proba(rows), list(estimator.classes_)
    found = {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "macro_f1": float(metrics.f1_score(truth, predicted, average="macro", zero_division=0)),
        "log_loss": float(metrics.log_loss(truth, shares, labels=classes)),
    }
    if task == "binary":
        second = truth == classes[1]
        found["average_precision"] = float(metrics.average_precision_score(second, shares[:, 1]))
        found["brier_score_loss"] = float(np.mean((shares[:, 1] - second) ** 2))
        if second.any() and not second.all():
            found["roc_auc"] = float(metrics.roc_auc_score(second, shares[:, 1]))
    elif len(np.unique(truth)) == len(classes):
        found["roc_auc"] = float(metrics.roc_auc_score(truth, shares, multi_class="ovr", labels=classes))
    return found


def without_model(task: Task, target: Matrix) -> Any:
    """What one gets without any model: the mean, or how frequent each class is."""
    dummy = optional("sklearn.dummy")
    made = dummy.DummyRegressor() if task == "regression" else dummy.DummyClassifier(strategy="prior")
    return made.fit(np.zeros((len(target), 1)), target)


def curves(task: Task, estimator: Any, rows: Any, truth: Matrix) -> Curves:
    """What tells more than a number: ROC, precision and recall, calibration, confusion; or residuals."""
    metrics = optional("sklearn.metrics")
    predicted = estimator.predict(rows)
    if task == "regression":
        residuals = truth - predicted
        counts, edges = np.histogram(residuals, bins=2 * BINS)
        some = _some(len(truth), 2 * POINTS)
        return {
            "residuals": {"edges": _numbers(edges), "counts": counts.tolist()},
            "predicted": {"x": _numbers(truth[some]), "y": _numbers(predicted[some])},
        }
    classes = list(estimator.classes_)
    matrix = metrics.confusion_matrix(truth, predicted, labels=classes).tolist()
    found: Curves = {"confusion": {"classes": [_plain(one) for one in classes], "counts": matrix}}
    if task == "binary":
        second, share = truth == classes[1], estimator.predict_proba(rows)[:, 1]
        if second.any() and not second.all():
            wrong, right, _ = metrics.roc_curve(second, share)
            precision, recall, _ = metrics.precision_recall_curve(second, share)
            found["roc"] = _thinned(wrong, right)
            found["precision_recall"] = _thinned(recall[::-1], precision[::-1])
        found["calibration"] = _calibration(second, share)
    return found


def _calibration(second: Matrix, share: Matrix) -> dict[str, list[float]]:
    """The rows in ten equal parts by their probability: what was said of each, and what came true."""
    parts = [part for part in np.array_split(np.argsort(share, kind="stable"), BINS) if len(part)]
    return {
        "x": _numbers([share[part].mean() for part in parts]),
        "y": _numbers([second[part].mean() for part in parts]),
    }


def importance(
    task: Task, estimator: Any, rows: Any, truth: Matrix, features: Sequence[str], metric: str, seed: int
) -> list[dict[str, Any]]:
    """By how much the metric gets worse when a feature is shuffled, the greatest first, with its spread."""
    some = _some(len(truth), MOST_ROWS)
    given = rows.iloc[some] if hasattr(rows, "iloc") else rows[some]
    sign = -1.0 if is_lower_better(metric) else 1.0

    def score(model: Any, shuffled: Any, expected: Matrix) -> float:
        return sign * measured(task, model, shuffled, expected).get(metric, 0.0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optional("sklearn.inspection").permutation_importance(
            estimator,
            given,
            truth[some],
            scoring=score,
            n_repeats=3,
            random_state=seed,
        )
    told: list[dict[str, Any]] = [
        {"feature": name, "importance": round(float(mean), 6), "spread": round(float(spread), 6)}
        for name, mean, spread in zip(features, found.importances_mean, found.importances_std, strict=True)
    ]
    return sorted(told, key=lambda one: -one["importance"])


def _some(count: int, most: int) -> Matrix:
    """Numbers of at most so many rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _thinned(x: Matrix, y: Matrix) -> dict[str, list[float]]:
    some = _some(len(x), POINTS)
    return {"x": _numbers(x[some]), "y": _numbers(y[some])}


def _numbers(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
