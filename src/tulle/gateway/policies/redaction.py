"""`redaction`: fields of answers that not everybody may see. Carried out by `gateway.processing.redaction`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Named, Need, Registry, Settings, Unfit
from tulle.gateway.policies.steps import step_kind

_NAMES: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1000,
    "items": {"type": "string", "minLength": 1, "maxLength": 200},
}
_FIELD: Final[Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {
            "type": "string",
            "x-example": "$.results[*].data.ssn",
            "description": "a JSON path (RFC 9535), without filters and slices",
        },
        "action": {
            "enum": ["remove", "mask", "hash", "null", "constant"],
            "description": "what becomes of it (remove)",
        },
        "keep_last": {
            "type": "integer",
            "minimum": 0,
            "maximum": 1000,
            "description": "characters at the end that a mask leaves",
        },
        "value": {"description": "the constant"},
        "hash_group": {
            "type": "string",
            "maxLength": 100,
            "description": "fields of one group have equal hashes for equal values",
        },
        "except": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "description": "who sees it as it is: any of these",
            "properties": {
                "clients": _NAMES,
                "tiers": _NAMES,
                "claims": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 20,
                    "additionalProperties": _NAMES,
                },
            },
        },
    },
}
_PROPERTIES: Final[Json] = {
    "fields": {
        "type": "array",
        "minItems": 1,
        "maxItems": 200,
        "items": _FIELD,
        "description": "what is redacted: each a `path`, an `action` (remove, mask, hash, null, constant) with "
        "`keep_last`, `value` or `hash_group`, and under `except` the `clients`, `tiers` and `claims` that see it",
    },
    "other_content": {
        "enum": ["refuse", "pass"],
        "description": "what becomes of answers that are not JSON (refuse)",
    },
}


def _names(settings: Settings) -> Iterator[Named]:
    for number, one in enumerate(settings["fields"]):
        seen_by = one.get("except", {})
        at = ("fields", number, "except")
        for position, name in enumerate(seen_by.get("clients", ())):
            yield Named("client", name, (*at, "clients", position))
        for position, name in enumerate(seen_by.get("tiers", ())):
            yield Named("tier", name, (*at, "tiers", position))


def _needs(settings: Settings) -> Iterator[Need]:
    for number, one in enumerate(settings["fields"]):
        seen_by, at = one.get("except", {}), ("fields", number, "except")
        if "tiers" in seen_by:
            yield Need("contract", "tiers", (*at, "tiers"), is_doubtful=True)
        if "claims" in seen_by:
            yield Need("claims", "claims", (*at, "claims"), is_doubtful=True)


_OF_ACTIONS: Final = {"keep_last": "mask", "value": "constant", "hash_group": "hash"}


def _demand_meant(settings: Settings) -> None:
    for number, one in enumerate(settings["fields"]):
        action = one.get("action", "remove")
        for setting, of in _OF_ACTIONS.items():
            if setting in one and action != of:
                message = f"'{setting}' is for what is done by '{of}', and this is done by '{action}'"
                hint = f"say `action: {of}`, or leave `{setting}` out"
                raise Unfit(message, "fields", number, setting, hint=hint)


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "redaction",
            "Fields of answers are removed, masked, hashed or replaced, but for those who may see them.",
            _PROPERTIES,
            anew=_demand_meant,
            names=_names,
            needs=_needs,
            required=("fields",),
            not_after=("caching",),
            example="policy: redaction\nfields:\n  - {path: '$.results[*].data.ssn', action: mask, keep_last: 4}\n"
            "  - {path: '$..salary', except: {tiers: [internal], claims: {role: [hr]}}}",
        )
    )
