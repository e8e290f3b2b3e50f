"""Trees of XGBoost and LightGBM as ONNX: equal answers on rows with and without values, and what cannot be."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tulle.pipeline.model_file import save_model
from tulle.pipeline.model_score import OnnxScorer
from tulle.pipeline.model_signature import load_scorer
from tulle.pipeline.model_trees import Unconvertible, as_onnx, trees_of

Rows = np.ndarray[Any, Any]


def rows(count: int = 600) -> Rows:
    random = np.random.default_rng(3)
    found = random.normal(size=(count, 5)).round(3)
    found[::7, 3] = np.nan
    found[::5, 0] = np.nan
    return found


X = rows()
TWO = (np.nan_to_num(X[:, 1]) > 0).astype(int)
THREE = TWO + (X[:, 2] > 0)
NUMBER = np.exp(X[:, 1]) + 1


@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (xgb.XGBClassifier(n_estimators=15), TWO),
        (xgb.XGBClassifier(n_estimators=10), THREE),
        (xgb.XGBClassifier(n_estimators=10, num_parallel_tree=2, base_score=0.3), TWO),
        (xgb.XGBRegressor(n_estimators=10), NUMBER * 1000),
        (xgb.XGBRegressor(n_estimators=10, objective="count:poisson"), NUMBER),
        (xgb.XGBRFRegressor(n_estimators=10), NUMBER),
        (lgb.LGBMClassifier(n_estimators=15, verbose=-1), TWO),
        (lgb.LGBMClassifier(n_estimators=10, verbose=-1), THREE),
        (lgb.LGBMRegressor(n_estimators=10, verbose=-1), NUMBER * 1000),
        (lgb.LGBMRegressor(n_estimators=10, objective="tweedie", verbose=-1), NUMBER),
        (lgb.LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, verbose=-1), TWO),
    ],
)
def test_trees_answer_as_the_library_does(estimator: Any, target: Rows) -> None:
    estimator.fit(X, target)
    trees = trees_of(estimator)
    classifier = hasattr(estimator, "predict_proba")
    scorer = OnnxScorer(as_onnx(trees, classifier=classifier), double=trees.double)
    unseen = np.vstack([rows(1000) * 3, np.full((1, 5), np.nan), np.zeros((1, 5))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = estimator.predict_proba(unseen) if classifier else estimator.predict(unseen)
    found = scorer.probabilities(unseen) if classifier else scorer.labels(unseen)
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    single = scorer.single(unseen[3].tolist())
    assert np.allclose(single, expected[3], rtol=1e-5, atol=1e-6)


def test_only_the_best_trees_answer_after_early_stopping() -> None:
    estimator = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=3, learning_rate=0.9)
    noise = np.random.default_rng(0).integers(0, 2, len(X))
    estimator.fit(X[:300], noise[:300], eval_set=[(X[300:], noise[300:])], verbose=False)
    trees = trees_of(estimator)
    assert len(set(trees.nodes["treeids"])) == estimator.best_iteration + 1 < 60
    scorer = OnnxScorer(as_onnx(trees, classifier=True), double=False)
    assert np.allclose(scorer.probabilities(X), estimator.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "what"),
    [
        (xgb.XGBClassifier(n_estimators=3, booster="dart"), "dart"),
        (lgb.LGBMRegressor(n_estimators=3, zero_as_missing=True, verbose=-1), "zeros"),
        (lgb.LGBMClassifier(n_estimators=3, objective="multiclassova", verbose=-1), "multiclassova"),
    ],
)
def test_what_the_operator_cannot_say_is_said(estimator: Any, what: str, tmp_path: Path) -> None:
    target = THREE if "ova" in what else TWO
    estimator.fit(X, target)
    with pytest.raises(Unconvertible, match=what):
        trees_of(estimator)
    table = pa.table({f"f{i}": pa.array(X[:, i], from_pandas=True) for i in range(5)})
    saved = save_model(tmp_path, "m", estimator, features=table.column_names, sample=table, metrics={})
    assert saved.signature.conversion.form == "native"
    assert what in str(saved.signature.conversion.reason)
    assert load_scorer(tmp_path, saved.signature).labels(X[:4]).tolist() == estimator.predict(X[:4]).tolist()


@pytest.mark.parametrize(
    "last", [xgb.XGBClassifier(n_estimators=5), lgb.LGBMClassifier(n_estimators=5, verbose=-1)]
)
def test_a_pipeline_that_ends_in_them_is_converted_whole(last: Any, tmp_path: Path) -> None:
    full = np.nan_to_num(X)
    named = isinstance(last, lgb.LGBMClassifier)  # XGBoost's classes are numbers
    estimator = make_pipeline(StandardScaler(), last).fit(
        full, np.where(TWO == 1, "yes", "no") if named else TWO
    )
    table = pa.table({f"f{i}": full[:, i] for i in range(5)})
    saved = save_model(tmp_path, "m", estimator, features=table.column_names, sample=table, metrics={})
    assert saved.signature.conversion.form == "onnx", saved.signature.conversion.reason
    assert saved.signature.classes == (("no", "yes") if named else (0, 1))
    library = type(last).__module__.partition(".")[0]
    assert saved.signature.libraries[library]
    found = load_scorer(tmp_path, saved.signature).probabilities(full)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.allclose(found, estimator.predict_proba(full), atol=1e-5)
