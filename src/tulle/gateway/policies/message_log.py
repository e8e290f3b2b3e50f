"""`message-log`: what else the access log tells of a request: headers and parameters by name.

What is named is told, nothing else, and what holds secrets cannot be named. A line is written whether the request was
let in or not. Bodies are not told: that is the policy `body-log`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from tulle.gateway.envoy_values import MESSAGES, Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot, Unfit
from tulle.gateway.processing.secret_names import is_secret

_NAME: Final = re.compile(r"[A-Za-z0-9_.~-]{1,100}")


@dataclass(frozen=True, slots=True)
class MessageLog:
    """Names of headers of requests and answers, in lower case, and of parameters of the query."""

    request: tuple[str, ...] = ()
    response: tuple[str, ...] = ()
    query: tuple[str, ...] = ()


def _names(description: str) -> Json:
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": 30,
        "uniqueItems": True,
        "items": {"type": "string"},
        "description": description,
    }


_PROPERTIES: Final[Json] = {
    "request": _names("headers of requests, by name"),
    "response": _names("headers of answers, by name"),
    "query": _names("parameters of the query, by name"),
}


def _read(settings: Settings) -> MessageLog:
    found: dict[str, tuple[str, ...]] = {}
    for side, names in settings.items():
        for number, name in enumerate(names):
            if _NAME.fullmatch(name) is None:
                raise Unfit(f"'{name}' is no name that can be noted", side, number)
            if is_secret(name):
                hint = "secrets are never logged; note what tells of it another way, such as an id"
                raise Unfit(f"'{name}' may hold a secret", side, number, hint=hint)
        found[side] = tuple(name if side == "query" else name.lower() for name in names)
    return MessageLog(**found)


def _render(log: MessageLog, _: Spot) -> Parts:
    said = {side: ",".join(names) for side in _PROPERTIES if (names := getattr(log, side))}
    lua = typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", name=MESSAGES, filter_context=said)
    return Parts(settings={MESSAGES: lua})


def _tells(log: MessageLog) -> Collection[str]:
    return {f"header:{name}" for name in (*log.request, *log.response)} | {
        f"query:{name}" for name in log.query
    }


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "message-log",
            "The access log also tells these headers and parameters of each request.",
            _PROPERTIES,
            "route",
            _read,
            render=_render,
            tells=_tells,
            rules={"minProperties": 2},
            once=True,
            example="policy: message-log\nrequest: [user-agent, x-team]\nresponse: [content-type]\nquery: [page]",
        )
    )
