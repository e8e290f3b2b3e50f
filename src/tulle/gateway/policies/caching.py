"""`caching`: answers are kept and given again. Carried out by `gateway.processing.answer_cache`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Named, Registry, Settings, Unfit
from tulle.gateway.policies.steps import step_kind

_TEXTS: Final[Json] = {
    "type": "array",
    "maxItems": 50,
    "items": {"type": "string", "minLength": 1, "maxLength": 500},
}
_PROPERTIES: Final[Json] = {
    "ttl": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 31_536_000,
        "description": "seconds for which an answer is kept at most (600)",
    },
    "methods": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["GET", "POST"]},
        "description": "of which requests: GET, POST or both ([GET])",
    },
    "statuses": {
        "type": "array",
        "minItems": 1,
        "maxItems": 20,
        "items": {"type": "integer", "minimum": 200, "maximum": 599},
        "description": "which answers ([200])",
    },
    "key": {
        "type": "object",
        "additionalProperties": False,
        "description": "by what requests are the same, beside method and path: `headers` (none), names in the "
        "`query` (all), JSON paths into the `body` (all of it)",
        "properties": {"headers": _TEXTS, "query": _TEXTS, "body": _TEXTS},
    },
    "shared": {
        "type": "boolean",
        "description": "give an answer to other callers than the one it was for (false)",
    },
    "max_entries": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1_000_000,
        "description": "answers that are kept (10000)",
    },
    "max_bytes": {
        "type": "integer",
        "minimum": 1024,
        "maximum": 1 << 30,
        "description": "bytes of all of them (64 MB)",
    },
    "use_cache_control": {
        "type": "boolean",
        "description": "heed cache-control of requests and answers (true)",
    },
    "invalidate": {
        "type": "object",
        "additionalProperties": False,
        "required": ["header", "clients"],
        "description": "a `header` by which these `clients` have the answer to their request forgotten, or `all`",
        "properties": {"header": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,100}$"}, "clients": _TEXTS},
    },
}


def _names(settings: Settings) -> Iterator[Named]:
    clients = settings.get("invalidate", {}).get("clients", ())
    return (Named("client", name, ("invalidate", "clients", n)) for n, name in enumerate(clients))


def _demand_meant(settings: Settings) -> None:
    if settings.get("key", {}).get("body") and "POST" not in settings.get("methods", ("GET",)):
        message = "only a POST has a body that is part of the key, and none is kept"
        raise Unfit(message, "key", "body", hint="say `methods: [POST]`, or leave `body` out")
    if "clients" in settings.get("invalidate", {}) and not settings["invalidate"]["clients"]:
        message = "nobody may have an answer forgotten"
        raise Unfit(message, "invalidate", "clients", hint="name a client, or leave `invalidate` out")


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        step_kind(
            "caching",
            "Answers are kept and given again, also those to a POST; never to other callers unless it is said.",
            _PROPERTIES,
            anew=_demand_meant,
            names=_names,
            once=True,
            example="policy: caching\nttl: 60\nmethods: [POST]\nkey: {body: ['$.features.customer']}\n"
            "operations: [{method: POST, path: /score/predict}]",
        )
    )
