"""Searching for the best model within a time: the one place that knows FLAML.

It tries gradient boosting (LightGBM, XGBoost where it is installed), forests and linear models, cheap settings first,
and judges each by cross-validation on the rows for training. Knows neither where rows come from nor what becomes of
the model.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tulle.errors import Invalid
from tulle.pipeline.model_score import Matrix, optional
from tulle.pipeline.training import Task

PARTS = 5  # of the rows, each judged by a model of the others
# Our metric: what it is called there, and how its loss becomes the metric again.
_METRICS: Mapping[str, tuple[str, float, float]] = {
    "roc_auc": ("roc_auc", 1.0, -1.0),
    "average_precision": ("ap", 1.0, -1.0),
    "log_loss": ("log_loss", 0.0, 1.0),
    "accuracy": ("accuracy", 1.0, -1.0),
    "macro_f1": ("macro_f1", 1.0, -1.0),
    "rmse": ("rmse", 0.0, 1.0),
    "mae": ("mae", 0.0, 1.0),
    "r2": ("r2", 1.0, -1.0),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """The best that was found of one kind of model, and how it did in cross-validation."""

    kind: str
    score: float
    parameters: Mapping[str, Any]
    tried: int


@dataclass(frozen=True, slots=True)
class Found:
    """The best model, fitted on all the rows it was given, and what else was tried, best first."""

    estimator: Any
    leaderboard: tuple[Candidate, ...]
    tried: int


def search(
    rows: Matrix,
    target: Matrix,
    *,
    task: Task,
    metric: str,
    seconds: float,
    in_order: bool,
    seed: int,
    threads: int,
) -> Found:
    """Search for `seconds`; `in_order`: rows are in the order of time, and are judged by what comes later.

    Invalid when nothing could be fitted in that time.
    """
    flaml = optional("flaml")
    numbers = np.unique(target, return_inverse=True)[1] if task != "regression" else target
    # As many parts as the rarest class has rows, so that each has some of it.
    rarest = int(np.bincount(numbers).min()) if task != "regression" and not in_order else PARTS
    name, offset, sign = _METRICS[metric]
    if metric == "roc_auc" and task == "multiclass":
        name = "roc_auc_ovr"
    kinds = ["lgbm", "rf", "extra_tree"]
    plain = task == "regression" or np.array_equal(np.unique(target), np.arange(len(np.unique(target))))
    if importlib.util.find_spec("xgboost") is not None and plain:  # its classes are numbers from 0
        kinds.append("xgboost")
    if task != "regression" and not np.isnan(rows).any():
        kinds.append("lrl1")
    searched = flaml.AutoML()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = Path(folder) / "trials.log"
        logging.getLogger("flaml").setLevel(logging.ERROR)
        try:
            searched.fit(
                X_train=rows,
                y_train=numbers,
                task="regression" if task == "regression" else "classification",
                metric=name,
                time_budget=seconds,
                estimator_list=kinds,
                eval_method="cv",
                n_splits=max(2, min(PARTS, rarest)),
                split_type="time" if in_order else "auto",
                auto_augment=False,  # rows of rare classes would be on both sides of a split, and only there
                seed=seed,
                n_jobs=threads,
                verbose=0,
                log_file_name=str(log),
                log_type="all",
            )
        except (ValueError, IndexError) as exc:  # a part of the rows in which a class is missing, mostly
            raise Invalid(
                f"the search failed on these rows: {exc}",
                hint="every part that is judged needs rows of every class: split by chance, or take more rows",
            ) from exc
        tried = _tried(log)
        if searched.model is None:
            raise Invalid(
                f"no model could be fitted in {seconds:g} seconds", hint="give it more time, or fewer rows"
            )
        best = searched.model.estimator
        # Anew, with the classes as they are called: it was searched with numbers for them.
        estimator = optional("sklearn.base").clone(best).fit(rows, target)
    leaders = [
        Candidate(
            kind,
            float(offset + sign * loss),
            {key: _plain(value) for key, value in (searched.best_config_per_estimator[kind] or {}).items()},
            tried.get(kind, 0),
        )
        for kind, loss in searched.best_loss_per_estimator.items()
        if loss is not None and np.isfinite(loss)
    ]
    leaders.sort(key=lambda one: sign * one.score)
    return Found(estimator, tuple(leaders), sum(tried.values()))


def _tried(log: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        kind = json.loads(line).get("learner")
        if kind:
            found[kind] = found.get(kind, 0) + 1
    return found


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def kinds_told(leaderboard: Sequence[Candidate]) -> str:
    """The leaderboard in one line, for a log."""
    return ", ".join(f"{one.kind} {one.score:.4g} ({one.tried} tried)" for one in leaderboard)
