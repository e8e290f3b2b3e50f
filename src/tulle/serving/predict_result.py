"""What an answer says of one prediction: the class with its probabilities, the number, the cluster or the effect; JSON.

Knows nothing of requests, and nothing of how a model is evaluated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from tulle.pipeline.model_score import Scorer
from tulle.pipeline.model_signature import Signature
from tulle.serving.decide import Override, Rules
from tulle.serving.request import NO_PREDICTION, RequestError
from tulle.serving.score import Scored, WithKeys, nearest_cluster, plain_label

EFFECT = "effect"  # the task of models that say what a treatment changes


class Results:
    """How the predictions of one endpoint are told."""

    def __init__(
        self,
        signature: Signature,
        scorer: Scorer | None,
        threshold: float | None,
        overrides: Sequence[Override],
    ) -> None:
        """`scorer` is asked for labels that probabilities do not say; None where another process has the model."""
        self._signature = signature
        self._scorer = scorer
        self._threshold = threshold
        self._rules = Rules(tuple(overrides), signature.feature_names) if overrides else None
        self._classes = [msgspec.json.encode(value).decode() for value in signature.classes]
        self._shares = [
            ("," if i else "") + msgspec.json.encode(class_text(value)).decode() + ":"
            for i, value in enumerate(signature.classes)
        ]

    def label_of(self, said: Scored, row: Sequence[Any]) -> Any:
        """The class, or the number, that a row is predicted to have."""
        numbers, label = said
        if self._rules is not None and (rule := self._rules.applied(row)) is not None:
            return rule.prediction
        if self._threshold is not None:
            return self._signature.classes[numbers[1] >= self._threshold]
        if label is not UNSET:
            return label
        if self._signature.clusters:
            return nearest_cluster(self._signature, numbers)
        if not self._signature.classes:
            return numbers[0]
        return self._signature.classes[max(range(len(numbers)), key=numbers.__getitem__)]

    def of(self, answer: Sequence[float], row: Sequence[Any], label: Any = UNSET) -> str:
        """The result of one row from its probabilities (or its number), and its class where that is known.

        RequestError where the model has no answer.
        """
        result = self._of_the_model(answer, row, label)
        return result if self._rules is None else self._rules.overridden(result, row)

    def _of_the_model(self, answer: Sequence[float], row: Sequence[Any], label: Any) -> str:
        total = sum(answer)
        if total - total != 0:  # infinite or no number, which JSON cannot carry
            raise RequestError(
                422, NO_PREDICTION, "the model has no answer for these values", "Are some of them extreme?"
            )
        classes = self._classes
        if not classes:
            if self._signature.clusters:
                return self._result_of_clusters(answer, row, label)
            if self._signature.task == EFFECT:
                effect, place = answer[0], bisect_right(self._signature.percentiles, answer[0]) + 1
                return f'{{"prediction":{effect!r},"effect":{effect!r},"effectPercentile":{place},"ignored":false}}'
            return f'{{"prediction":{answer[0]!r},"ignored":false}}'
        if len(classes) == 2 and self._signature.argmax:
            low, high = answer
            second = high > low if self._threshold is None else high >= self._threshold
            return (
                f'{{"prediction":{classes[second]},'
                f'"probaPercentile":{bisect_right(self._signature.percentiles, high) + 1},'
                f'"probas":{{{self._shares[0]}{low!r}{self._shares[1]}{high!r}}},"ignored":false}}'
            )
        return self._result_of_classes(answer, row, label)

    def _result_of_clusters(self, distances: Sequence[float], row: Sequence[Any], label: Any) -> str:
        """The nearest cluster, and how far each is where the model tells it."""
        signature = self._signature
        if label is UNSET:
            if signature.has_distances and signature.argmax:
                label = nearest_cluster(signature, distances)
            else:
                assert self._scorer is not None
                label = signature.clusters[int(self._scorer.labels([row])[0])]
        told = ""
        if signature.has_distances:
            named = zip(map(class_text, signature.clusters), distances, strict=True)
            told = f'"distances":{msgspec.json.encode(dict(named)).decode()},'
        return f'{{"prediction":{msgspec.json.encode(label).decode()},{told}"ignored":false}}'

    def _result_of_classes(self, answer: Sequence[float], row: Sequence[Any], label: Any) -> str:
        signature = self._signature
        if self._threshold is not None:
            label = self._classes[answer[1] >= self._threshold]
        elif signature.argmax:
            label = self._classes[max(range(len(answer)), key=answer.__getitem__)]
        else:
            if label is UNSET:
                assert self._scorer is not None
                label = plain_label(self._scorer.labels([row])[0])
            label = msgspec.json.encode(label).decode()
        if not signature.has_probabilities:
            return f'{{"prediction":{label},"ignored":false}}'
        percentile = ""
        if signature.percentiles:
            percentile = f'"probaPercentile":{bisect_right(signature.percentiles, answer[1]) + 1},'
        probas = "".join(f"{share}{p!r}" for share, p in zip(self._shares, answer, strict=True))
        return f'{{"prediction":{label},{percentile}"probas":{{{probas}}},"ignored":false}}'


def with_keys(result: str, said: Scored) -> str:
    """A result with the keys that a predictor of a product's own adds to it."""
    if not isinstance(said, WithKeys):
        return result
    return f'{result[:-1]},"customKeys":{msgspec.json.encode(said.keys).decode()}}}'


def class_text(value: object) -> str:
    """A class as the name of a member: what a caller reads in `probas`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
