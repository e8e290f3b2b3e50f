"""The probabilities and classes of several rows at once, as answers need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from tulle.pipeline.model_own import OwnModel
from tulle.pipeline.model_score import NativeScorer, Scorer
from tulle.pipeline.model_signature import Signature

Scored = tuple[Sequence[float], Any]  # probabilities or the number; the class, UNSET where they say it


class WithKeys(tuple[Sequence[float], Any]):
    """What a predictor of a product's own says of a row, with the keys it adds to the answer."""

    keys: Mapping[str, Any]


def scored(scorer: Scorer, signature: Signature, rows: Sequence[Sequence[Any]]) -> list[Scored]:
    """What a model says of each row."""
    if isinstance(scorer, NativeScorer) and isinstance(scorer.estimator, OwnModel):
        return _own(scorer, signature, rows)
    labels: Sequence[Any] = [UNSET] * len(rows)
    if signature.clusters:
        return _clustered(scorer, signature, rows)
    if not signature.classes:
        return [([float(value)], UNSET) for value in scorer.labels(rows)]
    if not (signature.has_probabilities and signature.argmax):
        labels = [plain_label(value) for value in scorer.labels(rows)]
    if not signature.has_probabilities:
        return [([0.0], label) for label in labels]
    return list(zip(scorer.probabilities(rows).tolist(), labels, strict=True))


def _clustered(scorer: Scorer, signature: Signature, rows: Sequence[Sequence[Any]]) -> list[Scored]:
    """Of a clustering: the distances, and the cluster where they do not say it."""
    labels: Sequence[Any] = [UNSET] * len(rows)
    if not (signature.has_distances and signature.argmax):
        labels = [signature.clusters[int(value)] for value in scorer.labels(rows)]
    if not signature.has_distances:
        return [([0.0], label) for label in labels]
    return list(zip(scorer.probabilities(rows).tolist(), labels, strict=True))


def _own(scorer: NativeScorer, signature: Signature, rows: Sequence[Sequence[Any]]) -> list[Scored]:
    """One call gives all that a predictor says."""
    said = scorer.estimator.said(scorer.input_of(rows))
    found: list[Scored] = []
    for number, value in enumerate(said.labels.tolist()):
        pair: Scored = ([float(value)], UNSET) if not signature.classes else ([0.0], value)
        if signature.has_probabilities:
            if said.probabilities is None:
                raise ValueError("predict gave no probabilities, which it did when the model was saved")
            pair = (said.probabilities[number].tolist(), value)
        if said.keys is not None and said.keys[number]:
            pair = WithKeys(pair)
            pair.keys = said.keys[number]
        found.append(pair)
    return found


def nearest_cluster(signature: Signature, distances: Sequence[float]) -> Any:
    """The cluster that a row is nearest to."""
    return signature.clusters[min(range(len(distances)), key=distances.__getitem__)]


def plain_label(value: Any) -> Any:
    """A class as JSON has it."""
    return value.item() if hasattr(value, "item") else value
