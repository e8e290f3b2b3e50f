"""What a training is asked to do: a value, read from what a request or a command says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec

from tulle.errors import Invalid, did_you_mean

TRAIN = "train"  # what a run's option `only` says
MOST_SECONDS = 24 * 3600
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Task = Literal["binary", "multiclass", "regression"]
METRICS: Mapping[str, tuple[Task, ...]] = {
    "roc_auc": ("binary", "multiclass"),
    "average_precision": ("binary",),
    "log_loss": ("binary", "multiclass"),
    "accuracy": ("binary", "multiclass"),
    "macro_f1": ("binary", "multiclass"),
    "rmse": ("regression",),
    "mae": ("regression",),
    "r2": ("regression",),
}
USUAL_METRIC: Mapping[Task, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}


@dataclass(frozen=True, slots=True)
class Training:
    """Which model is trained on what, for how long, and how it is judged."""

    model: str
    data_set: str
    target: str
    features: tuple[str, ...] = ()  # none: all that can be ones
    task: Task | None = None  # None: by the target's values
    metric: str | None = None  # None: the usual one of the task
    seconds: float = 60.0  # of the search; what is done before and after comes on top
    hold_out: float = 0.2  # the share of rows that are kept from training
    split_by: str | None = None  # a column of times or numbers: the latest rows are kept; None: by chance
    seed: int = 0

    def as_options(self) -> dict[str, Any]:
        """What a run is told."""
        return asdict(self)


def read_training(said: Mapping[str, Any]) -> Training:
    """The training that is asked for; Invalid for what cannot be one."""
    try:
        asked = msgspec.convert(dict(said), Training)
    except msgspec.ValidationError as exc:
        raise Invalid(f"the training is not understood: {exc}") from exc
    if not _NAME.fullmatch(asked.model):
        raise Invalid(f"the model name '{asked.model}' must be snake_case, like 'high_value'")
    if not 1 <= asked.seconds <= MOST_SECONDS:
        raise Invalid(f"a training takes from 1 to {MOST_SECONDS:,} seconds, not {asked.seconds:g}")
    if not 0.05 <= asked.hold_out <= 0.5:
        raise Invalid(f"from 0.05 to 0.5 of the rows are kept from training, not {asked.hold_out:g}")
    if asked.metric is not None and asked.metric not in METRICS:
        hint = did_you_mean(asked.metric, METRICS) or f"there are {', '.join(METRICS)}"
        raise Invalid(f"there is no metric '{asked.metric}' to train for", hint=hint)
    if asked.metric and asked.task:
        check_metric(asked.metric, asked.task)
    if asked.target in asked.features:
        raise Invalid(f"'{asked.target}' is the target and cannot be a feature of the model as well")
    if asked.target == asked.split_by:
        raise Invalid(f"'{asked.target}' is the target: rows cannot be split by what is to be predicted")
    if twice := [name for number, name in enumerate(asked.features) if name in asked.features[:number]]:
        raise Invalid(f"the feature '{twice[0]}' is named twice")
    return asked


def check_metric(metric: str, task: Task) -> None:
    """Refuse a metric that says nothing of a task."""
    if task not in METRICS[metric]:
        known = [name for name, tasks in METRICS.items() if task in tasks]
        raise Invalid(f"'{metric}' is no metric of a {task} model", hint=f"there are {', '.join(known)}")


def column_of(name: str, known: Sequence[str], data_set: str) -> str:
    """A column that is there; else Invalid with the nearest one."""
    if name not in known:
        raise Invalid(f"data set '{data_set}' has no column '{name}'", hint=did_you_mean(name, known))
    return name
