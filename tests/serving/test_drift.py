"""Measures of drift and of performance, against those of other libraries."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn import metrics

from tulle.serving.drift import LEAST_ROWS, NULL, OTHERS, class_name, drift_of, performance

RANDOM = np.random.default_rng(7)
BEFORE = RANDOM.normal(0, 1, 2000)


@pytest.mark.parametrize(("moved", "verdict"), [(0.0, "stable"), (0.4, "moving"), (1.0, "drifted")])
def test_numbers_that_move(moved: float, verdict: str) -> None:
    after = RANDOM.normal(moved, 1, 3000)
    found = drift_of("x", BEFORE.tolist(), after.tolist())
    assert (found.kind, found.test, found.verdict) == ("number", "ks", verdict)
    wanted = stats.ks_2samp(BEFORE, after, method="asymp")
    assert found.statistic == pytest.approx(wanted.statistic)
    assert found.p == pytest.approx(wanted.pvalue, rel=0.15, abs=1e-6)
    then, now = ([one.then for one in found.bins], [one.now for one in found.bins])
    assert len(found.bins) == 10
    assert sum(then) == pytest.approx(1)
    assert sum(now) == pytest.approx(1)
    assert found.jensen_shannon == pytest.approx(float(jensenshannon(then, now, base=2)) ** 2, abs=1e-12)
    assert found.psi == pytest.approx(sum((b - a) * np.log(b / a) for a, b in zip(then, now, strict=True)))


def test_categories_that_move() -> None:
    then = ["a"] * 600 + ["b"] * 300 + [None] * 100
    now = ["a"] * 200 + ["b"] * 300 + ["new"] * 500
    found = drift_of("x", then, now)
    assert (found.kind, found.test, found.verdict) == ("category", "chi2", "drifted")
    told = {one.label: (one.then, one.now) for one in found.bins}
    assert told == {"a": (0.6, 0.2), "b": (0.3, 0.3), "new": (0, 0.5), NULL: (0.1, 0)}
    statistic, p, *_ = stats.chi2_contingency([[600, 300, 0, 100], [200, 300, 500, 0]], correction=False)
    assert (found.statistic, found.p) == (pytest.approx(statistic), pytest.approx(p))
    little = drift_of("x", ["a"] * 55 + ["b"] * 45, ["a"] * 45 + ["b"] * 55)
    _, p, *_ = stats.chi2_contingency([[55, 45], [45, 55]], correction=False)
    assert little.p == pytest.approx(p)
    many = drift_of("x", [f"c{number % 40}" for number in range(400)], [True, False] * 50)
    assert {one.label for one in many.bins} >= {"true", "false", OTHERS}


def test_little_and_nothing() -> None:
    assert drift_of("x", [1.0] * 100, [9.0] * (LEAST_ROWS - 1)).verdict == "unknown"
    assert drift_of("x", [1.0] * 100, [1.0] * 100).verdict == "stable"
    assert drift_of("x", [1, None] * 50, [None] * 100).verdict == "drifted"
    nothing = drift_of("x", [], [1, 2])
    assert (nothing.psi, nothing.statistic, nothing.verdict) == (0.0, None, "unknown")
    assert drift_of("x", ["a"], []).p is None


def test_how_good_classes_were() -> None:
    true = RANDOM.integers(0, 2, 500)
    score = np.round(np.clip(true * 0.3 + RANDOM.uniform(0, 0.7, 500), 0.01, 0.99), 2)
    probas = [{"0": 1 - s, "1": s} for s in score]
    found = performance(true.tolist(), (score > 0.5).astype(int).tolist(), probas, of_classes=True)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(true, score > 0.5))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(true, score))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(true, score))
    told_otherwise = [bool(one) if number % 2 else str(one) for number, one in enumerate(true)]
    again = performance(told_otherwise, (score > 0.5).astype(int).tolist(), probas, of_classes=True)
    assert again == found
    assert performance(["x", "y"], ["x", "x"], [None, None], of_classes=True) == {"accuracy": 0.5}
    one_class = performance([1, 1], [1, 1], [{"0": 0.1, "1": 0.9}] * 2, of_classes=True)
    assert "roc_auc" not in one_class
    assert performance([], [], [], of_classes=True) == {}
    # classes or clusters whose names are numbers are no further apart for that
    assert performance([1, 2, 30], [1, 2, 3], [None] * 3, of_classes=True) == {
        "accuracy": pytest.approx(2 / 3)
    }
    assert [class_name(value) for value in (1, "1", 1.0, True, "true", "maybe", 1.5)] == [
        *["1"] * 5,
        "maybe",
        "1.5",
    ]


def test_how_good_numbers_were() -> None:
    true, said = RANDOM.normal(0, 3, 100), RANDOM.normal(0, 3, 100)
    found = performance(true.tolist(), said.tolist(), [None] * 100, of_classes=False)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(true, said))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(true, said))
    assert found["r2"] == pytest.approx(metrics.r2_score(true, said))
    assert "r2" not in performance([1, 1], [1, 2], [None, None], of_classes=False)
    assert performance(["high"], [2.0], [None], of_classes=False) == {}
    assert performance([2.0], ["high"], [None], of_classes=False) == {}


def test_a_constant_that_moves_either_way() -> None:
    for now in (3.0, 7.0):
        found = drift_of("x", [5.0] * 200, [now] * 200)
        assert found.verdict == "drifted"
        assert [one.label for one in found.bins] == ["< 5", "5", "> 5"]
    assert drift_of("x", [5.0] * 200, [5.0000001] * 100 + [4.9999999] * 100).bins[0].now == 0
    heavy = [0.0] * 500 + [float(number) for number in range(500)]
    assert drift_of("x", heavy, heavy).verdict == "stable"
    assert drift_of("x", heavy, [-1.0, *heavy[1:]] * 1).verdict == "stable"
    assert drift_of("x", heavy, [-1.0] * 500 + heavy[500:]).verdict == "drifted"


def test_chance_is_no_drift() -> None:
    """Few rows in many bins: a large PSI is usual though nothing moved, and is told where something did."""
    random = np.random.default_rng(3)
    names = [f"c{number}" for number in range(20)]
    then = random.choice(names, 2000).tolist()
    few = [drift_of("x", then, random.choice(names, LEAST_ROWS).tolist()) for _ in range(50)]
    assert sum(one.psi > 0.25 for one in few) > 25
    assert sum(one.verdict == "stable" for one in few) > 45
    moved = drift_of("x", then, random.choice(names[:4], LEAST_ROWS).tolist())
    assert (moved.verdict, moved.chance < 1e-6) == ("drifted", True)


def test_whatever_is_told_the_rest_is_measured() -> None:
    huge = 10**400
    told = [1.0, 2.0, "n/a", huge, 1e300, None, [1]]
    found = performance(told, [1.0, 3.0, *[1.0] * 5], [None] * 7, of_classes=False)
    assert found == pytest.approx({"rmse": 0.5**0.5, "mae": 0.5, "r2": -1.0})
    for number in (huge, 10**9999):
        found = performance([number, "yes"], ["yes", "yes"], [None, None], of_classes=True)
        assert found == {"accuracy": 0.5}
    assert drift_of("x", [1.0] * 60, [huge, *[1.0] * 59]).bins[-1].now == pytest.approx(1 / 60)


def test_times_are_as_the_log_has_them() -> None:
    then = [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.date(2026, 1, 1)] * 50
    assert drift_of("x", then, ["2026-01-01T00:00:00Z", "2026-01-01"] * 50).verdict == "stable"
