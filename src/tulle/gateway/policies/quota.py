"""`quota`: requests in windows that survive a restart. Carried out by `gateway.processing.quota`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Named, Need, Registry, Settings, Unfit
from tulle.gateway.policies.rate_limit import demand_each_holds
from tulle.gateway.policies.steps import step_kind
from tulle.spec.rate_limit import RATE_SCHEMA

_AT_ONCE: Final = 2  # a fixed window may be used up at its end, and the next one at its beginning
_LIMITS: Final[Json] = {
    "type": ["string", "array"],
    "minItems": 1,
    "maxItems": 10,
    "items": RATE_SCHEMA,
    "x-expected": "requests/period, or a list of such",
    "x-example": "[1000/1d]",
}
_PROPERTIES: Final[Json] = {
    "limits": {**_LIMITS, "description": "requests/period, such as 10000/1d; each has to have room"},
    "tiers": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 100,
        "additionalProperties": _LIMITS,
        "description": "limits of those whose contract has a tier; others have `limits`, or 403 without any",
    },
    "contract": {
        "type": "boolean",
        "description": "each application has the windows of its own contract that are a minute or longer (false)",
    },
    "window": {
        "enum": ["fixed", "sliding"],
        "description": "whether a window begins with its first request or moves with time (fixed)",
    },
    "key": {
        "type": "array",
        "minItems": 1,
        "maxItems": 10,
        "items": {"type": "string", "minLength": 1, "maxLength": 600, "x-example": "client"},
        "description": "of whom: client, tier, address, path, method, `header:<name>`, `query:<name>`, "
        "`claim:<name>`, `body:<JSON path>`, several together ([client])",
    },
    "expose_headers": {
        "type": "boolean",
        "description": "tell x-ratelimit-limit, -remaining and -reset (seconds) of the tightest window (true)",
    },
}


def _names(settings: Settings) -> Iterator[Named]:
    return (Named("tier", tier, ("tiers", tier)) for tier in settings.get("tiers", ()))


def _needs(settings: Settings) -> Iterator[Need]:
    if settings.get("contract"):
        yield Need("contract", "contract", ("contract",))
    if "tiers" in settings:
        yield Need("contract", "tiers", ("tiers",))
    for number, part in enumerate(settings.get("key", ())):
        if part == "tier":
            yield Need("contract", part, ("key", number), is_doubtful=True)
        elif part.startswith("claim:"):
            yield Need("claims", part, ("key", number), is_doubtful=True)


def _demand_meant(settings: Settings) -> None:
    if "limits" in settings:
        demand_each_holds(settings["limits"], "limits", at_once=_AT_ONCE)
    for tier, limits in settings.get("tiers", {}).items():
        demand_each_holds(limits, "tiers", tier, at_once=_AT_ONCE)
    parts = settings.get("key", ())
    for number, part in enumerate(parts):
        if part in parts[:number]:
            raise Unfit(f"'{part}' is in the key twice", "key", number, hint="leave one out")


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "quota",
            "So many requests in fixed or sliding windows, counted through restarts; others are answered 429.",
            _PROPERTIES,
            anew=_demand_meant,
            names=_names,
            needs=_needs,
            rules={"anyOf": [{"required": ["limits"]}, {"required": ["tiers"]}, {"required": ["contract"]}]},
            example="policy: quota\nlimits: [100/1s, 10000/1d]\ntiers: {gold: [100000/1d]}\nkey: [client]",
        )
    )
