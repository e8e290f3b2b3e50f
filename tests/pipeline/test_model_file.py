"""Saving models: what is written, when ONNX answers, what the quality gate refuses."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from tulle.errors import Invalid
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_signature import load_scorer, read_signature

FEATURES = ["recency", "frequency", "spend"]


def purchases(rows: int = 400) -> pa.Table:
    random = np.random.default_rng(7)
    return pa.table(
        {
            "customer_id": [f"{i:05}" for i in range(rows)],
            "recency": random.integers(0, 300, rows),
            "frequency": random.integers(1, 30, rows),
            "spend": random.gamma(2.0, 40.0, rows).round(2),
        }
    )


def matrix(table: pa.Table) -> np.ndarray[Any, Any]:
    return np.column_stack([table.column(name).to_numpy() for name in FEATURES])


def target(table: pa.Table) -> np.ndarray[Any, Any]:
    return (table.column("spend").to_numpy() * table.column("frequency").to_numpy() > 1000).astype(int)


def save(folder: Path, estimator: Any, table: pa.Table | pd.DataFrame, **more: Any) -> ModelFile:
    options: dict[str, Any] = {"features": FEATURES, "metrics": {"roc_auc": 0.9}} | more
    return save_model(folder, "high_value", estimator, sample=table, **options)


def test_a_pipeline_is_served_as_onnx_with_double_input_and_equal_probabilities(tmp_path: Path) -> None:
    table = purchases()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix(table), target(table))
    saved = save(tmp_path / "m", estimator, table, metrics={"roc_auc": 0.9, "log_loss": 0.2})
    signature = read_signature((tmp_path / "m/signature.json").read_bytes())
    assert signature == saved.signature
    assert saved.files == ("model.joblib", "model.onnx", "signature.json", "sample.parquet")
    assert (signature.task, signature.classes, signature.class_type) == ("binary", (0, 1), "integer")
    assert signature.feature_names == tuple(FEATURES)
    assert [f.type for f in signature.features] == ["integer", "integer", "double"]
    assert not any(f.nullable for f in signature.features)
    assert signature.features[1].minimum == 1
    assert signature.metrics == {"log_loss": 0.2, "roc_auc": 0.9}
    assert signature.estimator == "Pipeline(StandardScaler, LogisticRegression)"
    conversion = signature.conversion
    assert (conversion.form, conversion.input, conversion.rows) == ("onnx", "double", 400)
    assert conversion.max_difference is not None
    assert conversion.max_difference < 1e-12
    rows = matrix(table)[:5]
    found = load_scorer(tmp_path / "m", signature).probabilities(rows)
    assert np.allclose(found, estimator.predict_proba(rows), atol=1e-12)
    assert len(signature.percentiles) == 99
    assert list(signature.percentiles) == sorted(signature.percentiles)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(10, random_state=0, max_depth=6),
        GradientBoostingClassifier(n_estimators=10, random_state=0),
    ],
)
def test_tree_models_fall_back_to_float_input_when_double_does_not_agree(
    tmp_path: Path, estimator: Any
) -> None:
    table = purchases()
    labels = np.where(target(table) == 1, "high", "usual")
    saved = save(tmp_path, estimator.fit(matrix(table), labels), table)
    assert saved.signature.classes == ("high", "usual")
    assert saved.signature.class_type == "string"
    assert saved.signature.conversion.form == "onnx"
    assert saved.signature.conversion.max_difference is not None
    assert saved.signature.conversion.max_difference <= 1e-5
    rows = matrix(table)
    found = load_scorer(tmp_path, saved.signature).probabilities(rows)
    assert np.abs(found - estimator.predict_proba(rows)).max() <= 1e-5


def test_a_regression_has_no_classes_and_answers_numbers(tmp_path: Path) -> None:
    table = purchases()
    estimator = LinearRegression().fit(matrix(table), table.column("spend").to_numpy() * 3)
    saved = save(tmp_path, estimator, table, metrics={"mae": 1.0}, baseline={"mae": 2.0})
    assert (saved.signature.task, saved.signature.classes) == ("regression", ())
    assert not saved.signature.has_probabilities
    assert saved.signature.conversion.form == "onnx"
    found = load_scorer(tmp_path, saved.signature).labels(matrix(table)[:3])
    assert np.allclose(found, estimator.predict(matrix(table)[:3]))


def test_text_features_are_served_natively_in_a_frame(tmp_path: Path) -> None:
    table = purchases()
    cohort = pa.array(["a", "b", "c", None] * 100)
    seen = pa.array([dt.date(1998, 1, 1 + i % 28) for i in range(400)])
    table = table.append_column("cohort", cohort).append_column("seen", seen)
    frame = table.to_pandas()
    estimator = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["cohort"]), ("passthrough", ["spend"])
        ),
        LogisticRegression(),
    )
    estimator.fit(frame[["cohort", "spend"]], target(table))
    saved = save(tmp_path, estimator, frame, features=["cohort", "spend"])
    assert saved.signature.frame
    assert saved.signature.conversion.form == "native"
    assert saved.signature.features[0].categories == ("a", "b", "c")
    assert saved.signature.features[0].nullable
    assert "pandas" in saved.signature.libraries
    assert not (tmp_path / "model.onnx").exists()
    found = load_scorer(tmp_path, saved.signature).probabilities([("b", 10.0), (None, 99.0)])
    expected = estimator.predict_proba(pd.DataFrame({"cohort": ["b", None], "spend": [10.0, 99.0]}))
    assert np.allclose(found, expected)


def test_nulls_in_the_sample_are_nan_for_a_model_that_takes_them(tmp_path: Path) -> None:
    table = purchases()
    spend = pa.array([None if i % 9 == 0 else v for i, v in enumerate(table.column("spend").to_pylist())])
    table = table.set_column(3, "spend", spend)
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(matrix(table), target(purchases()))
    saved = save(tmp_path, estimator, table)
    assert [f.nullable for f in saved.signature.features] == [False, False, True]
    found = load_scorer(tmp_path, saved.signature).probabilities([(3, 2, None)])
    assert np.allclose(found, estimator.predict_proba(np.array([[3, 2, np.nan]])), atol=1e-5)


def test_nulls_the_model_does_not_take_are_refused_when_saving(tmp_path: Path) -> None:
    table = purchases()
    estimator = LogisticRegression(max_iter=1000).fit(matrix(table), target(table))
    table = table.set_column(3, "spend", pa.array([None, *table.column("spend").to_pylist()[1:]]))
    with pytest.raises(Invalid, match="cannot predict the rows of its own sample"):
        save(tmp_path, estimator, table)


def test_the_quality_gate_tells_metric_value_and_baseline_and_writes_nothing(tmp_path: Path) -> None:
    table = purchases()
    estimator = LogisticRegression(max_iter=1000).fit(matrix(table), target(table))
    with pytest.raises(Invalid) as caught:
        save(
            tmp_path / "m",
            estimator,
            table,
            metrics={"roc_auc": 0.61, "log_loss": 0.9, "accuracy": 0.8},
            baseline={"roc_auc": 0.7, "log_loss": 0.5, "accuracy": 0.8, "recal": 0.1},
        )
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [
        "log_loss is 0.9, worse than the baseline 0.5 (lower is better)",
        "no metric 'recal' was given",
        "roc_auc is 0.61, worse than the baseline 0.7 (higher is better)",
    ]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("metric", ["log_loss", "mean_absolute_error", "mae", "rmse", "brier", "brier_score"])
def test_of_errors_and_losses_less_is_better(tmp_path: Path, metric: str) -> None:
    table = purchases()
    estimator = LogisticRegression(max_iter=1000).fit(matrix(table), target(table))
    save(tmp_path, estimator, table, metrics={metric: 0.1}, baseline={metric: 0.2})
    with pytest.raises(Invalid, match=f"{metric} is 0.3, worse than the baseline 0.2"):
        save(tmp_path, estimator, table, metrics={metric: 0.3}, baseline={metric: 0.2})


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    table = purchases()
    estimator = LogisticRegression(max_iter=1000).fit(matrix(table), target(table))
    with pytest.raises(Invalid, match="the metric 'roc_auc' of model 'high_value' is nan, expected a number"):
        save(tmp_path, estimator, table, metrics={"roc_auc": float("nan")})


def test_features_that_the_model_or_sample_does_not_have_are_named(tmp_path: Path) -> None:
    table = purchases()
    estimator = LogisticRegression(max_iter=1000).fit(table.select(FEATURES), target(table))
    with pytest.raises(Invalid) as caught:
        save(tmp_path, estimator, table, features=["recency", "frequency", "spent"])
    assert caught.value.problems[0].hint == "did you mean 'spend'?"
    with pytest.raises(Invalid) as caught:
        save(tmp_path, estimator, table.drop_columns(["spend"]))
    assert caught.value.problems[0].message == "the sample has no column 'spend'"
    with pytest.raises(Invalid, match="trained with 3 features, 'features' names 2"):
        save(tmp_path, LogisticRegression().fit(matrix(table), target(table)), table, features=FEATURES[:2])


def test_the_order_of_named_features_is_the_models(tmp_path: Path) -> None:
    table = purchases()
    estimator = LogisticRegression(max_iter=1000).fit(table.select(FEATURES), target(table))
    saved = save(tmp_path, estimator, table, features=FEATURES[::-1])
    assert saved.signature.feature_names == tuple(FEATURES)


def test_saving_an_equal_model_again_gives_equal_bytes(tmp_path: Path) -> None:
    table = purchases(1500)
    for folder in ("one", "two"):
        estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(matrix(table), target(table))
        save(tmp_path / folder, estimator, table)
    for name in ("model.joblib", "model.onnx", "signature.json", "sample.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    kept = pq.read_table(tmp_path / "one/sample.parquet")
    assert (kept.num_rows, kept.column_names) == (1000, FEATURES)


def test_a_function_of_the_training_file_is_refused(tmp_path: Path) -> None:
    table = purchases()
    scope: dict[str, Any] = {"__name__": "transform_high_value"}
    exec("def double(x):\n    return x * 2", scope)
    estimator = make_pipeline(FunctionTransformer(scope["double"]), LogisticRegression(max_iter=1000))
    estimator.fit(matrix(table), target(table))
    with pytest.raises(Invalid, match="high_value"):
        save(tmp_path, estimator, table)


def test_the_signature_is_plain_json(tmp_path: Path) -> None:
    table = purchases()
    save(tmp_path, LogisticRegression(max_iter=1000).fit(matrix(table), target(table)), table)
    document = json.loads((tmp_path / "signature.json").read_text())
    assert document["format"] == 1
    assert document["features"][0] == {
        "name": "recency",
        "type": "integer",
        "nullable": False,
        "minimum": 0,
        "maximum": document["features"][0]["maximum"],
        "categories": None,
    }
    assert set(document["libraries"]) >= {"python", "scikit-learn", "numpy", "onnxruntime"}


def test_whole_numbers_of_more_than_53_bits_are_rounded_as_in_requests(tmp_path: Path) -> None:
    ids = [2**53 + 1 + 2 * n for n in range(40)]
    table = pa.table(
        {"id": pa.array(ids, pa.int64()), "odd": [math.inf if n % 9 == 0 else n for n in range(40)]}
    )
    rows = np.column_stack([np.array(ids, dtype=float), np.arange(40.0)])
    estimator = HistGradientBoostingRegressor(max_iter=5).fit(rows, np.arange(40.0))
    saved = save_model(tmp_path, "m", estimator, features=["id", "odd"], sample=table, metrics={})
    odd = saved.signature.features[1]
    assert (odd.nullable, odd.maximum) == (True, 39)
    assert json.loads((tmp_path / "signature.json").read_text())["features"][0]["maximum"] == ids[-1]


def test_a_name_ends_where_it_ends(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="snake_case"):
        save_model(tmp_path, "m\n", object(), features=["a"], sample=pa.table({"a": [1]}), metrics={})
