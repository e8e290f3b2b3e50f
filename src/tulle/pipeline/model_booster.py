"""Boosters of XGBoost and LightGBM as they train natively, made to look like estimators.

A booster knows its objective and not its classes, and gives probabilities where an estimator gives a class. Knows
nothing of files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tulle.errors import Invalid
from tulle.pipeline.model_score import Matrix, optional
from tulle.pipeline.model_signature import Class

_CLASSIFY = ("binary:logistic", "multi:softprob", "multi:softmax", "binary", "multiclass", "multiclassova")
_NO_NUMBERS = ("binary:hinge", "binary:logitraw", "rank:", "survival:", "lambdarank", "rank_xendcg")


class BoosterRegressor:
    """A booster that gives numbers."""

    def __init__(self, booster: Any) -> None:
        self.own_booster = booster
        names = booster.feature_names if _is_xgboost(booster) else booster.feature_name()
        names = list(names or ())
        if names and not all(name == f"Column_{number}" for number, name in enumerate(names)):
            self.feature_names_in_ = names
        self.n_features_in_ = booster.num_features() if _is_xgboost(booster) else booster.num_feature()

    def predict(self, matrix: Any) -> Matrix:
        """The number of each row."""
        return self._raw(matrix)

    def _raw(self, matrix: Any) -> Matrix:
        booster = self.own_booster
        rows = np.asarray(matrix, dtype=np.float64)
        if not _is_xgboost(booster):
            return np.asarray(booster.predict(rows))
        given = optional("xgboost").DMatrix(rows, feature_names=booster.feature_names)
        best = booster.attr("best_iteration")
        until = (0, 0) if best is None else (0, int(best) + 1)
        return np.asarray(booster.predict(given, iteration_range=until, output_margin=self._is_margin()))

    def _is_margin(self) -> bool:
        return False


class BoosterClassifier(BoosterRegressor):
    """A booster that gives probabilities of classes."""

    def __init__(self, booster: Any, objective: str, classes: Sequence[Class]) -> None:
        super().__init__(booster)
        self._objective = objective
        self.classes_ = np.asarray(list(classes))

    def predict_proba(self, matrix: Any) -> Matrix:
        """The probabilities, shape (rows, classes)."""
        found = self._raw(matrix)
        if self._is_margin():
            found = np.exp(found - found.max(axis=1, keepdims=True))
            return np.asarray(found / found.sum(axis=1, keepdims=True))
        return found if found.ndim == 2 else np.column_stack([1 - found, found])

    def predict(self, matrix: Any) -> Matrix:
        """The most probable class of each row."""
        return np.asarray(self.classes_[self.predict_proba(matrix).argmax(axis=1)])

    def _is_margin(self) -> bool:
        return self._objective == "multi:softmax"  # it gives classes otherwise


def booster_model(name: str, booster: Any, classes: Sequence[Class] | None) -> BoosterRegressor:
    """A booster as an estimator; Invalid when what it gives is no number and no probability."""
    if _is_xgboost(booster):
        said = json.loads(booster.save_config())["learner"]
        objective = said["objective"]["name"]
        count = int(said["learner_model_param"]["num_class"])
    else:
        objective = str(booster.dump_model(num_iteration=1).get("objective", "")).partition(" ")[0]
        count = booster.num_model_per_iteration()
    if objective.startswith(_NO_NUMBERS):
        raise Invalid(
            f"model '{name}' has the objective {objective}, whose numbers are neither predictions nor probabilities",
            hint="train it with an objective such as binary:logistic, multi:softprob or reg:squarederror",
        )
    if objective not in _CLASSIFY:
        if classes:
            raise Invalid(f"model '{name}' has the objective {objective} and no classes: leave `classes` out")
        return BoosterRegressor(booster)
    count = max(2, count)
    if classes is not None and len(classes) != count:
        raise Invalid(f"model '{name}' has {count} classes, `classes` names {len(classes)}")
    return BoosterClassifier(booster, objective, tuple(classes or range(count)))


def _is_xgboost(booster: Any) -> bool:
    return type(booster).__module__.partition(".")[0] == "xgboost"
