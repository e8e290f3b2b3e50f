"""Experiments beside one another: how good each is, what was asked otherwise, and of which data each is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tulle.errors import Invalid
from tulle.pipeline.experiment import Experiment
from tulle.pipeline.model_gate import is_lower_better

MOST = 8  # that are compared at once: more are beyond reading
_MADE = ("data_set", "target", "data_commit", "code_version", "estimator", "task", "metric", "rows", "form")


def as_plain(one: Experiment, *, whole: bool = False) -> dict[str, Any]:
    """An experiment in short, or all of it."""
    told = {
        "id": one.id,
        "product": one.product,
        "environment": one.environment,
        "model": one.model,
        "commit": one.commit,
        "metric": one.metric,
        "score": one.score,
        "created_at": one.created_at,
        "data_set": one.document.get("data_set"),
        "data_commit": one.document.get("data_commit"),
        "estimator": one.document.get("estimator"),
    }
    return told | {"document": dict(one.document)} if whole else told


def compared(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Two or more experiments, each thing told as a list in their order; null where one has nothing to tell.

    `metrics`, `importance` and `curves` are of all of them; `asked`, `made` and `parameters` (of the model that was
    found) hold only what is not the same in all. `best` names, by metric, the places of those that are best in it.
    Invalid for fewer than two, more than `MOST`, or the same one twice.
    """
    ids = [one.id for one in experiments]
    if not 2 <= len(ids) <= MOST:
        raise Invalid(f"{len(ids)} experiments cannot be compared", hint=f"choose from 2 to {MOST}")
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise Invalid(f"experiment '{twice}' is named twice", hint="choose different ones")
    documents = [one.document for one in experiments]
    metrics = _beside(documents, lambda document: document.get("metrics") or {})
    importance = _beside(
        documents,
        lambda document: {one["feature"]: one["importance"] for one in document.get("importance") or ()},
    )
    identities = {document.get("data_identity") for document in documents}
    return {
        "experiments": [as_plain(one) for one in experiments],
        "metrics": metrics,
        "best": {name: best_of(name, values) for name, values in metrics.items()},
        "asked": _differing(_beside(documents, lambda document: document.get("asked") or {})),
        "made": _differing(_beside(documents, lambda document: {name: document.get(name) for name in _MADE})),
        "parameters": _differing(_beside(documents, _parameters)),
        "importance": importance,
        "curves": _beside(documents, lambda document: document.get("curves") or {}),
        "same_rows": len(identities) == 1 and None not in identities,
    }


def best_of(metric: str, values: Sequence[float | None]) -> list[int]:
    """The places of the best values of a metric; none where all are equal, or but one is known."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(set(known)) == 1:
        return []
    best = min(known) if is_lower_better(metric) else max(known)
    return [place for place, value in enumerate(values) if value == best]


def _parameters(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the best model of a search, which is the one that was kept."""
    leaderboard = document.get("leaderboard") or ()
    return {"kind": leaderboard[0]["kind"], **leaderboard[0]["parameters"]} if leaderboard else {}


def _beside(
    documents: Sequence[Mapping[str, Any]], part: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, list[Any]]:
    parts = [part(document) for document in documents]
    names = dict.fromkeys(name for one in parts for name in one)
    return {name: [one.get(name) for one in parts] for name in names}


def _differing(beside: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: values for name, values in beside.items() if any(one != values[0] for one in values)}
