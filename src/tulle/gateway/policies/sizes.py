"""`body-limit` and `header-limit`: how large a request may be.

Both can only be narrower than what the gateway allows at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tulle.gateway.envoy_values import HEADER_LIMIT, Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Refusal, Registry, Settings, Spot


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Bytes of a request's body."""

    max_bytes: int


@dataclass(frozen=True, slots=True)
class HeaderLimit:
    """How many headers, bytes of all their names and values, bytes of one of them, and bytes of path and query."""

    max_count: int | None = None
    max_bytes: int | None = None
    max_header_bytes: int | None = None
    max_url_bytes: int | None = None


def _number(description: str, least: int, most: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most, "description": description}


_BODY: Final[Json] = {"max_bytes": _number("bytes of a request's body", 1, 1 << 30)}
_HEADERS: Final[Json] = {
    "max_count": _number("headers of a request", 5, 100),
    "max_bytes": _number("bytes of all names and values together", 256, 32_768),
    "max_header_bytes": _number("bytes of one name with its value", 64, 32_768),
    "max_url_bytes": _number("bytes of path and query", 64, 32_768),
}


def _limit_body(limit: BodyLimit, _: Spot) -> Parts:
    return Parts(max_request_bytes=limit.max_bytes)


def _limit_headers(limit: HeaderLimit, _: Spot) -> Parts:
    said = {name: getattr(limit, name) for name in _HEADERS if getattr(limit, name) is not None}
    lua = typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", name=HEADER_LIMIT, filter_context=said)
    return Parts(settings={HEADER_LIMIT: lua})


def _read_body(settings: Settings) -> BodyLimit:
    return BodyLimit(**settings)


def _read_headers(settings: Settings) -> HeaderLimit:
    return HeaderLimit(**settings)


def register(registry: Registry) -> None:
    """Make both kinds known."""
    registry.add(
        Kind(
            "body-limit",
            "Requests with a larger body are answered 413.",
            _BODY,
            "route",
            _read_body,
            render=_limit_body,
            required=("max_bytes",),
            example="policy: body-limit\nmax_bytes: 65536",
        )
    )
    registry.add(
        Kind(
            "header-limit",
            "Requests with more or longer headers, or a longer address, are refused before anything else is looked at.",
            _HEADERS,
            "route",
            _read_headers,
            render=_limit_headers,
            rules={"minProperties": 2},
            once=True,
            refusals=(
                Refusal(
                    "response.code == 414",
                    414,
                    "AddressTooLong",
                    "Path and query are longer than the service accepts",
                    "Send what is long in the body",
                ),
                Refusal(
                    "response.code == 431 && response.code_details == 'lua_response'",
                    431,
                    "HeadersTooLarge",
                    "The request has more or longer headers than the service accepts",
                    "Send fewer or shorter ones",
                ),
            ),
            example="policy: header-limit\nmax_count: 40\nmax_url_bytes: 2048",
        )
    )
