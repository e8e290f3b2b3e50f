"""`custom`: a policy of one's own in Python. Carried out by `gateway.processing.plugin`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Kind, Named, Registry, Settings
from tulle.gateway.processing.plan import StepPlan

_PROPERTIES: Final[Json] = {
    "plugin": {
        "type": "string",
        "minLength": 1,
        "maxLength": 100,
        "description": "its name, as an installed package has it in the group `tulle.processor_policies`",
    },
    "settings": {"type": "object", "description": "what its class is made with"},
    "timeout": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 30,
        "description": "seconds that it may take for one request, and once more for its answer (1)",
    },
    "processes": {
        "type": "integer",
        "minimum": 1,
        "maximum": 16,
        "description": "in which it runs, each at one request at a time (2)",
    },
    "memory_mb": {
        "type": "integer",
        "minimum": 32,
        "maximum": 4096,
        "description": "of each of them; one that has more is replaced (256)",
    },
}


def _read(settings: Settings) -> StepPlan:
    return StepPlan("custom", "custom", dict(settings))


def _step(plan: StepPlan) -> Json:
    return {"kind": plan.kind, "settings": plan.settings}


def _names(settings: Settings) -> Iterator[Named]:
    yield Named("plugin", settings["plugin"], ("plugin",))


def register(registry: Registry) -> None:
    """Make the kind known. Whether a package brings the policy, and it can be made, is asked elsewhere."""
    registry.add(
        Kind(
            "custom",
            "A class of one's own looks at requests, and at answers if it wants to.",
            _PROPERTIES,
            "processor",
            _read,
            step=_step,
            names=_names,
            required=("plugin",),
            example="policy: custom\nplugin: office-hours\nsettings: {from: 8, to: 18}\ntimeout: 0.5",
        )
    )
