"""Why a row is predicted as it is: how much each feature adds to the answer, against what is usual.

Shapley values by sampling (Štrumbelj and Kononenko, 2014): features are put in one after another, in a random
order, into a random usual row, and what each adds is averaged; they add up to the answer less the usual answer.
ICE: the answer less the mean of the answers with the feature at each of its usual values. What is usual is a few
quantiles of each feature, so no row of the training data is kept. Equal rows have equal explanations. Pure: others
score the rows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from tulle.pipeline.model_signature import Signature
from tulle.serving.explaining import LEAST_STEPS, MOST_STEPS, Explaining, Method
from tulle.serving.score import Scored, nearest_cluster

BACKGROUND = "background.json"
QUANTILES = 20
MOST_VALUES = 10_000_000  # of the rows that one explanation has scored: a wide model takes fewer steps


class Asked(msgspec.Struct, gc=False):
    """What a caller says of it; nulls, which the stock client always sends, mean as the endpoint is set."""

    enabled: bool | None = None
    method: Literal["SHAPLEY", "ICE", "shapley", "ice"] | None = None
    number: int | None = msgspec.field(name="nExplanations", default=None)
    steps: int | None = msgspec.field(name="nMonteCarloSteps", default=None)

    def over(self, usual: Explaining) -> Explaining:
        """How it is to be explained."""
        return Explaining(
            usual.enabled if self.enabled is None else self.enabled,
            usual.method if self.method is None else _METHODS[self.method.lower()],
            usual.features if self.number is None else max(1, self.number),
            usual.steps if self.steps is None else min(MOST_STEPS, max(LEAST_STEPS, self.steps)),
        )


_METHODS: Mapping[str, Method] = {"shapley": "shapley", "ice": "ice"}


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows to be scored, and what is made of the scores: each feature's part, the largest first."""

    rows: list[list[Any]]
    parts: Callable[[Sequence[Scored]], dict[str, float]]


class Explainer:
    """Explains the rows of one model."""

    def __init__(self, signature: Signature, background: Sequence[Sequence[Any]]) -> None:
        """`background`: the usual values of each feature."""
        self._names = signature.feature_names
        self._usual = background
        self._signature = signature

    def plan(self, row: Sequence[Any], said: Scored, how: Explaining) -> Plan:
        """How to explain a row that the model answered with `said`."""
        value = self._value_of(said)
        if how.method == "ice":
            return self._ice(row, value, how.features)
        return self._shapley(row, value, how)

    def _shapley(self, row: Sequence[Any], value: Callable[[Scored], float], how: Explaining) -> Plan:
        count = len(self._names)
        steps = max(1, min(how.steps, MOST_VALUES // (count * (count + 1))))
        chance = random.Random(_seed(row))  # noqa: S311  equal rows are explained alike; nothing is secret
        rows: list[list[Any]] = []
        orders: list[list[int]] = []
        for _ in range(steps):
            order = list(range(count))
            chance.shuffle(order)
            filled = [chance.choice(values) for values in self._usual]
            rows.append(list(filled))
            for position in order:
                filled[position] = row[position]
                rows.append(list(filled))
            orders.append(order)

        def parts(scores: Sequence[Scored]) -> dict[str, float]:
            values = [value(score) for score in scores]
            totals = [0.0] * count
            for step, order in enumerate(orders):
                first = step * (count + 1)
                for place, position in enumerate(order):
                    totals[position] += values[first + place + 1] - values[first + place]
            return self._largest([total / steps for total in totals], how.features)

        return Plan(rows, parts)

    def _ice(self, row: Sequence[Any], value: Callable[[Scored], float], features: int) -> Plan:
        rows = [list(row)]
        most = max(1, MOST_VALUES // len(self._names) ** 2)
        compared = [_spread(usual, most) for usual in self._usual]
        for position, usual in enumerate(compared):
            for other in usual:
                changed = list(row)
                changed[position] = other
                rows.append(changed)

        def parts(scores: Sequence[Scored]) -> dict[str, float]:
            values = [value(score) for score in scores]
            found, first = [], 1
            for usual in compared:
                found.append(values[0] - sum(values[first : first + len(usual)]) / len(usual))
                first += len(usual)
            return self._largest(found, features)

        return Plan(rows, parts)

    def _value_of(self, said: Scored) -> Callable[[Scored], float]:
        """What is explained: a number, the probability of the second of two classes or of the predicted one."""
        signature = self._signature
        if signature.clusters:
            return self._nearness(said)
        if not signature.classes:
            return lambda score: score[0][0]
        if not signature.has_probabilities:
            return lambda score: float(score[1] == said[1])
        if len(signature.classes) == 2:
            return lambda score: score[0][1]
        numbers, label = said
        chosen = numbers.index(max(numbers)) if label is UNSET else list(signature.classes).index(label)
        return lambda score: score[0][chosen]

    def _nearness(self, said: Scored) -> Callable[[Scored], float]:
        """Of a clustering: how near a row is to the cluster it is put into, or whether it is in it."""
        signature = self._signature
        numbers, label = said
        if not signature.has_distances:
            return lambda score: float(score[1] == label)
        chosen = list(signature.clusters).index(
            nearest_cluster(signature, numbers) if label is UNSET else label
        )
        return lambda score: -score[0][chosen]

    def _largest(self, parts: Sequence[float], features: int) -> dict[str, float]:
        ordered = sorted(zip(self._names, parts, strict=True), key=lambda pair: -abs(pair[1]))
        return {name: float(f"{part:.9g}") for name, part in ordered[:features]}


def _spread(values: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many of some values, evenly spread."""
    if len(values) <= most:
        return values
    return [values[round((len(values) - 1) * (i + 0.5) / most)] for i in range(most)]


def usual_values(columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """A few values of each column, as they are distributed in it; nulls among them where there are."""
    found = []
    for column in columns:
        present = sorted(value for value in column if value is not None)
        values = [*present, *([None] * (len(column) - len(present)))]
        if not values:
            found.append([None])
            continue
        last = len(values) - 1
        found.append([values[round(last * (i + 0.5) / QUANTILES)] for i in range(QUANTILES)])
    return found


def _seed(row: Sequence[Any]) -> int:
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(row), digest_size=8).digest())
