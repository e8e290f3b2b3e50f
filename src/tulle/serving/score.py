"""The probabilities and classes of several rows at once, as answers need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from tulle.pipeline.model_score import Scorer
from tulle.pipeline.model_signature import Signature

Scored = tuple[Sequence[float], Any]  # probabilities or the number; the class, UNSET where they say it


def scored(scorer: Scorer, signature: Signature, rows: Sequence[Sequence[Any]]) -> list[Scored]:
    """What a model says of each row."""
    labels: Sequence[Any] = [UNSET] * len(rows)
    if not signature.classes:
        return [([float(value)], UNSET) for value in scorer.labels(rows)]
    if not (signature.has_probabilities and signature.argmax):
        labels = [plain_label(value) for value in scorer.labels(rows)]
    if not signature.has_probabilities:
        return [([0.0], label) for label in labels]
    return list(zip(scorer.probabilities(rows).tolist(), labels, strict=True))


def plain_label(value: Any) -> Any:
    """A class as JSON has it."""
    return value.item() if hasattr(value, "item") else value
