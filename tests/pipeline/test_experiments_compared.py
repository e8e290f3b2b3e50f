"""Experiments beside one another: what differs, what is best, and whether they saw the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.errors import Invalid
from tulle.pipeline.experiment import Experiment
from tulle.pipeline.experiments_compared import MOST, best_of, compared


def trained(name: str, **said: Any) -> Experiment:
    document = {
        "data_set": "totals",
        "data_commit": "c0",
        "data_identity": "d0",
        "estimator": "LGBMClassifier",
        "metric": "roc_auc",
        "metrics": {"roc_auc": 0.9, "log_loss": 0.3},
        "asked": {"seed": 0, "target": "spent"},
        "leaderboard": [{"kind": "lgbm", "score": 0.9, "tried": 3, "parameters": {"num_leaves": 8}}],
        "importance": [{"feature": "total", "importance": 0.2, "spread": 0.01}],
        "curves": {"roc": {"x": [0, 1], "y": [0, 1]}},
        **said,
    }
    return Experiment(name, "people", "main", "spends", "c1", "roc_auc", 0.9, 1.0, document)


def test_only_what_differs_is_told_of_what_was_asked_and_set() -> None:
    other = trained(
        "b",
        metrics={"roc_auc": 0.8, "log_loss": 0.2},
        asked={"seed": 3, "target": "spent"},
        leaderboard=[{"kind": "rf", "score": 0.8, "tried": 1, "parameters": {"trees": 4}}],
        data_commit="c9",
        curves={},
    )
    found = compared([trained("a"), other, trained("c", importance=[])])
    assert [one["id"] for one in found["experiments"]] == ["a", "b", "c"]
    assert found["metrics"] == {"roc_auc": [0.9, 0.8, 0.9], "log_loss": [0.3, 0.2, 0.3]}
    assert found["best"] == {"roc_auc": [0, 2], "log_loss": [1]}
    assert found["asked"] == {"seed": [0, 3, 0]}
    assert found["parameters"] == {
        "kind": ["lgbm", "rf", "lgbm"],
        "num_leaves": [8, None, 8],
        "trees": [None, 4, None],
    }
    assert found["made"] == {"data_commit": ["c0", "c9", "c0"]}
    assert found["importance"] == {"total": [0.2, 0.2, None]}
    assert found["curves"]["roc"][1] is None
    assert found["same_rows"]
    assert not compared([trained("a"), trained("b", data_identity="d1")])["same_rows"]
    assert not compared([trained("a", data_identity=None), trained("b", data_identity=None)])["same_rows"]


def test_none_is_best_where_there_is_nothing_to_choose() -> None:
    assert best_of("rmse", [2.0, 1.0, None]) == [1]
    assert best_of("r2", [2.0, None]) == []
    assert best_of("r2", [2.0, 2.0]) == []


def test_two_to_eight_different_ones_are_compared() -> None:
    for some in ([], ["a"], ["a"] * 2, [str(n) for n in range(MOST + 1)]):
        with pytest.raises(Invalid):
            compared([trained(name) for name in some])
