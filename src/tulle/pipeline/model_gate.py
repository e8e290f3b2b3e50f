"""The gate a trained model passes before it is kept: no metric is worse than in its baseline. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from tulle.errors import Invalid, Problem, did_you_mean

_LOWER_IS_BETTER = re.compile(r"(loss|error|mae|mse|rmse|mape|brier|brier_score)$")


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of a metric is the better one, by its name."""
    return bool(_LOWER_IS_BETTER.search(metric))


def gate(
    name: str, metrics: Mapping[str, float], baseline: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics and baseline as plain numbers; raises Invalid when a metric is worse than its baseline."""
    measured, stated = _numbers(name, "metric", metrics), _numbers(name, "baseline", baseline)
    problems: list[Problem] = []
    for metric, bound in stated.items():
        if metric not in measured:
            problems.append(Problem(f"no metric '{metric}' was given", hint=did_you_mean(metric, measured)))
            continue
        value = measured[metric]
        lower = is_lower_better(metric)
        if value > bound if lower else value < bound:
            better = "lower" if lower else "higher"
            problems.append(
                Problem(f"{metric} is {value:.6g}, worse than the baseline {bound:.6g} ({better} is better)")
            )
    if problems:
        raise Invalid(
            f"model '{name}' does not reach its baseline: " + "; ".join(p.message for p in problems),
            hint="the model was not saved; what is served stays as it is",
            problems=problems,
        )
    return measured, stated


def _numbers(name: str, what: str, values: Mapping[str, float]) -> dict[str, float]:
    for key, value in values.items():
        try:
            usable = math.isfinite(float(value))
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise Invalid(f"the {what} '{key}' of model '{name}' is {value!r}, expected a number")
    return {key: float(values[key]) for key in sorted(values)}
