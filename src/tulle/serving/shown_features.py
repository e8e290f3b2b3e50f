"""Which features a prediction tells beside its answer, as the model was given them: those looked up, too.

None unless the endpoint names them, one by one: what somebody adds to a look-up later is not shown by itself.
Knows nothing of how features are found, and nothing of classifications.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tulle.errors import did_you_mean
from tulle.serving.request import RequestError

SHOWN_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["features"],
    "description": "features that answers tell as the model was given them; without it none",
    "properties": {
        "features": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 200},
            "minItems": 1,
            "uniqueItems": True,
            "description": "their names; whoever may call sees them",
        },
        "enabled": {
            "type": "boolean",
            "description": 'always; else when a request asks by "showFeatures": true (default false)',
        },
    },
}
ASKED_FOR = "showFeatures"  # the member of a request


@dataclass(frozen=True, slots=True)
class ShownFeatures:
    """What an endpoint may tell: `enabled` always, else when it is asked."""

    features: tuple[str, ...]
    enabled: bool = False

    def problem(self, known: Sequence[str], model: str) -> tuple[str, str | None] | None:
        """What is wrong with the names for a model with these features, and a hint."""
        for name in self.features:
            if name not in known:
                return f"'{name}' is no feature of model '{model}'", did_you_mean(name, known)
        return None


class Shows:
    """Telling the features of one endpoint."""

    def __init__(self, shown: ShownFeatures | None, features: Sequence[str]) -> None:
        """`features` are the model's, in the order of its rows."""
        self.always = shown is not None and shown.enabled
        self._is_declared = shown is not None
        self._places = [(name, features.index(name)) for name in (shown.features if shown else ())]

    def wanted(self, asked: bool | None) -> bool:
        """Whether features are told to who asks, or does not. RequestError where there are none to be told."""
        if asked and not self._is_declared:
            raise RequestError(
                501,
                "FeaturesNotShown",
                "this endpoint does not tell its features",
                f"Leave '{ASKED_FOR}' out, or name them in `show_features:` of the endpoint",
            )
        return self.always if asked is None else asked

    def text(self, row: Sequence[Any]) -> str:
        """The features of a row, as a further member of a result's object."""
        told = {name: row[place] for name, place in self._places}
        return f',"features":{msgspec.json.encode(told).decode()}'
