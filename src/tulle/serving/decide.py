"""What is predicted, where that is not simply the most probable class: a threshold, and overrides for some rows.

An override is a rule over features that says the prediction itself, whatever the model does; the answer tells that it
was applied, and what the model had said. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tulle.errors import did_you_mean
from tulle.pipeline.model_signature import Signature
from tulle.serving.path_values import TESTS, Made, condition_of


@dataclass(frozen=True, slots=True)
class Override:
    """A rule: what is predicted when every feature it names is as it says (equals, not, above, below, in, exists)."""

    name: str
    when: Mapping[str, Mapping[str, Any]]
    prediction: Any


OVERRIDES_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "description": "rules that say the prediction for some rows; the first that holds",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "when", "prediction"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 100, "description": "told in the answer"},
            "when": {
                "type": "object",
                "minProperties": 1,
                "description": "features and what they must be; all of them",
                "additionalProperties": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": False,
                    "properties": {
                        **{test: {} for test in TESTS},
                        "in": {"type": "array"},
                        "exists": {"type": "boolean"},
                    },
                },
            },
            "prediction": {"type": ["string", "number", "boolean"], "description": "a class, or a number"},
        },
    },
}


def problems(
    threshold: float | None, overrides: Sequence[Override], signature: Signature
) -> Iterator[tuple[str, str, str | None]]:
    """What does not fit the model: the property, what is wrong with it, and a hint."""
    if threshold is not None and (len(signature.classes) != 2 or not signature.has_probabilities):
        what = f"a threshold is for two classes with probabilities, which model '{signature.name}' has not"
        yield "threshold", what, None
    for override in overrides:
        for feature in override.when:
            if feature not in signature.feature_names:
                hint = did_you_mean(feature, signature.feature_names)
                yield "overrides", f"override '{override.name}': '{feature}' is no feature of the model", hint
        known = signature.classes or signature.clusters
        is_number = isinstance(override.prediction, int | float) and not isinstance(override.prediction, bool)
        if known and not any(_is_same(override.prediction, one) for one in known):
            classes = ", ".join(repr(value) for value in known)
            what = f"override '{override.name}': {override.prediction!r} is no class of the model"
            yield "overrides", what, f"its classes: {classes}"
        elif not known and not is_number:
            what = (
                f"override '{override.name}': {override.prediction!r} is no number, which the model predicts"
            )
            yield "overrides", what, None


def _is_same(one: Any, other: Any) -> bool:
    """Whether they are one class: Python takes true for 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


class Rules:
    """Overrides, compiled."""

    def __init__(self, overrides: Sequence[Override], features: Sequence[str]) -> None:
        self._features = tuple(features)
        self._rules = [(one, [_condition(*pair) for pair in one.when.items()]) for one in overrides]

    def applied(self, row: Sequence[Any]) -> Override | None:
        """The first rule that holds for a row."""
        values = dict(zip(self._features, msgspec.to_builtins(list(row)), strict=True))
        return next((one for one, tests in self._rules if all(holds(values) for holds in tests)), None)

    def overridden(self, result: str, row: Sequence[Any]) -> str:
        """A result as it is told when a rule holds, else as it is."""
        rule = self.applied(row)
        if rule is None:
            return result
        said = msgspec.json.decode(result)
        raw = {"prediction": said["prediction"]}
        if "probas" in said:
            raw["probabilities"] = said["probas"]
        told = {
            "ruleMatched": True,
            "appliedRule": rule.name,
            "rawResult": raw,
            "predictionChanged": rule.prediction != said["prediction"],
        }
        return msgspec.json.encode({**said, "prediction": rule.prediction, "override": told}).decode()


def _condition(feature: str, tests: Mapping[str, Any]) -> Made:
    holds = condition_of({"value": "$it", **tests})
    return lambda values: holds({"it": values[feature]})
