"""Conversion: ONNX only where it gives the same answers, and else the reason why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tulle.pipeline.model_onnx import convert
from tulle.pipeline.model_score import OnnxScorer


def data() -> tuple[Any, Any]:
    rows = np.random.default_rng(3).normal(size=(300, 4)).round(2)
    return rows, (rows[:, 0] + rows[:, 1] > 0.5).astype(int)


def converted(estimator: Any, rows: Any, target: Any, tolerance: float = 1e-5) -> tuple[bytes | None, Any]:
    estimator.fit(rows, target)
    probabilities = estimator.predict_proba(rows) if hasattr(estimator, "classes_") else None
    return convert(
        estimator,
        rows,
        labels=estimator.predict(rows),
        probabilities=probabilities,
        tolerance=tolerance,
    )


def test_an_exact_form_is_found_with_double_input() -> None:
    rows, target = data()
    model, report = converted(LogisticRegression(), rows, target)
    assert model is not None
    assert (report.form, report.input, report.rows, report.reason) == ("onnx", "double", 300, None)
    assert report.max_difference < 1e-12


def test_trees_are_converted_with_float_input() -> None:
    rows, target = data()
    model, report = converted(GradientBoostingClassifier(n_estimators=5), rows, target)
    assert model is not None
    assert report.input == "float"
    assert 0 < report.max_difference <= 1e-5


@pytest.mark.parametrize("classes", [2, 3])
def test_histogram_gradient_boosting_is_converted_with_its_nulls(classes: int) -> None:
    rows, target = data()
    target = target + (rows[:, 2] > 0.5) * (classes - 2)
    rows[::7, 3] = np.nan
    model, report = converted(HistGradientBoostingClassifier(max_iter=10), rows, target)
    assert model is not None, report.reason
    assert report.max_difference <= 1e-5
    model, report = converted(HistGradientBoostingRegressor(max_iter=10), rows, rows[:, 0])
    assert model is not None, report.reason


@pytest.mark.parametrize(
    "kind", [RandomForestRegressor, GradientBoostingClassifier, HistGradientBoostingRegressor]
)
def test_values_that_no_row_had_are_on_the_same_side_of_a_threshold(kind: Any) -> None:
    rows = np.random.default_rng(4).integers(1, 9, size=(200, 2)) / 10
    target = (rows[:, 0] > rows[:, 1]).astype(int)
    estimator = kind(random_state=0).fit(rows, target)
    model, report = converted(estimator, rows, target)
    assert model is not None, report.reason
    halves = np.array([[(a + 0.5) / 10, (b + 0.5) / 10] for a in range(1, 9) for b in range(1, 9)])
    scorer = OnnxScorer(model, double=report.input == "double")
    if hasattr(estimator, "predict_proba"):
        assert np.allclose(scorer.probabilities(halves), estimator.predict_proba(halves), atol=1e-5)
    else:
        assert np.allclose(scorer.labels(halves), estimator.predict(halves), atol=1e-5)


def test_regressions_are_compared_relative_to_their_size() -> None:
    rows, target = data()
    model, report = converted(RandomForestRegressor(5, random_state=0), rows, 1e6 * rows[:, 0] + target)
    assert model is not None
    assert report.max_difference <= 1e-5


def test_answers_that_differ_too_much_are_not_served() -> None:
    rows, target = data()
    model, report = converted(GradientBoostingClassifier(n_estimators=5), rows, target, tolerance=1e-12)
    assert model is None
    assert report.form == "native"
    assert "float input: answers differ by up to" in report.reason
    assert report.reason.endswith("on 300 rows")


def test_a_class_that_differs_is_enough() -> None:
    rows, target = data()
    estimator = LogisticRegression().fit(rows, target)
    probabilities = estimator.predict_proba(rows)
    probabilities[7] = probabilities[7][::-1]
    model, report = convert(
        estimator, rows, labels=estimator.predict(rows), probabilities=probabilities, tolerance=2.0
    )
    assert model is None
    assert "differ by up to inf" in report.reason


def test_what_no_converter_knows_is_no_error() -> None:
    rows, target = data()
    estimator = make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression())
    model, report = converted(estimator, rows, target)
    assert model is None
    assert report.reason.startswith("double input: ")
    assert "; float input: " in report.reason


@pytest.mark.parametrize("estimator", [LogisticRegression(), GradientBoostingClassifier(n_estimators=5)])
def test_a_single_row_and_a_batch_give_the_same(estimator: Any) -> None:
    rows, target = data()
    model, report = converted(estimator, rows, target)
    assert model is not None
    scorer = OnnxScorer(model, double=report.input == "double")
    batch = scorer.probabilities(rows)
    for i in (0, 1, 150, 299):
        assert scorer.single(rows[i].tolist()) == pytest.approx(batch[i].tolist(), abs=1e-7)
    first = scorer.single(rows[0])
    scorer.single(rows[1])
    assert first == scorer.single(rows[0])


def test_a_form_for_which_others_would_wait_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, target = data()
    estimator = LogisticRegression()
    assert converted(estimator, rows, target)[0] is not None
    monkeypatch.setattr("tulle.pipeline.model_onnx.MOST_SECONDS", 1e-9)  # no model is as quick as that
    model, report = converted(estimator, rows, target)
    assert (model, report.form, report.rows) == (None, "native", 300)
    assert report.reason == "one row takes 0 ms, and others would wait: it runs in a process of its own"
