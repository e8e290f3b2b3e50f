"""Boosters as they are trained natively: their classes, their probabilities, and what they may not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from tulle.errors import Invalid
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_signature import load_scorer

X = np.random.default_rng(5).normal(size=(300, 3)).round(3)
NAMES = ["a", "b", "c"]
TWO = (X[:, 0] > 0).astype(int)
THREE = TWO + (X[:, 1] > 0)


def save(folder: Path, booster: Any, **more: Any) -> ModelFile:
    table = pa.table({name: X[:, i] for i, name in enumerate(NAMES)})
    return save_model(folder, "m", booster, features=NAMES, sample=table, metrics={}, **more)


def of_xgboost(objective: str, target: Any, **more: Any) -> Any:
    matrix = xgb.DMatrix(X, label=target, feature_names=NAMES)
    return xgb.train({"objective": objective, **more}, matrix, num_boost_round=5)


def of_lightgbm(objective: str, target: Any, **more: Any) -> Any:
    data = lgb.Dataset(X, label=target, feature_name=NAMES)
    return lgb.train({"objective": objective, "verbose": -1, **more}, data, num_boost_round=5)


@pytest.mark.parametrize("train", [of_xgboost, of_lightgbm])
def test_two_classes_have_probabilities_and_may_have_names(train: Any, tmp_path: Path) -> None:
    objective = "binary:logistic" if train is of_xgboost else "binary"
    booster = train(objective, TWO)
    saved = save(tmp_path, booster, classes=["stays", "goes"])
    assert (saved.signature.task, saved.signature.classes) == ("binary", ("stays", "goes"))
    assert saved.signature.conversion.form == "onnx", saved.signature.conversion.reason
    given = xgb.DMatrix(X, feature_names=NAMES) if train is of_xgboost else X
    found = load_scorer(tmp_path, saved.signature).probabilities(X)
    assert np.allclose(found[:, 1], booster.predict(given), atol=1e-6)
    assert save(tmp_path / "n", booster).signature.classes == (0, 1)


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_several_classes_of_xgboost(objective: str, tmp_path: Path) -> None:
    booster = of_xgboost(objective, THREE, num_class=3)
    signature = save(tmp_path, booster).signature
    assert (signature.task, signature.classes, signature.argmax) == ("multiclass", (0, 1, 2), True)
    found = load_scorer(tmp_path, signature).probabilities(X)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)
    said = booster.predict(xgb.DMatrix(X, feature_names=NAMES))
    assert found.argmax(axis=1).tolist() == (said if said.ndim == 1 else said.argmax(axis=1)).tolist()


def test_numbers_have_no_classes(tmp_path: Path) -> None:
    signature = save(tmp_path, of_lightgbm("regression", X[:, 0] * 10)).signature
    assert (signature.task, signature.classes) == ("regression", ())
    with pytest.raises(Invalid, match="no classes"):
        save(tmp_path / "n", of_xgboost("reg:squarederror", X[:, 0]), classes=["a", "b"])


def test_scores_that_are_neither_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="binary:hinge"):
        save(tmp_path, of_xgboost("binary:hinge", TWO))
    with pytest.raises(Invalid, match="2 classes, `classes` names 3"):
        save(tmp_path, of_xgboost("binary:logistic", TWO), classes=["a", "b", "c"])
