"""`header-injection` and `header-removal`: headers that are set or taken away, of requests and of answers.

A value may hold what is known of the request: `${client}`, `${address}`, `${request_id}`, `${service}`. Headers by
which the gateway itself speaks to workers, and those that say where a message ends, are not for a policy to change.

Many servers read `_` in a name as `-` (RFC 3875 section 4.1.18 makes one variable of both): of requests what a caller
writes with `_` goes with the name that a policy sets or takes away. Not the other way round: what is needed has no `_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tulle.errors import did_you_mean
from tulle.gateway.envoy_values import CLIENT_HEADER, Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot, Unfit

_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,4000}")
_BLANK: Final = re.compile(r"\$\{([^}]*)\}")
_KNOWN: Final[Mapping[str, str]] = {
    "client": f"%REQ({CLIENT_HEADER})%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request_id": "%REQ(x-request-id)%",
    "service": "%METADATA(ROUTE:tulle:service)%",
}
_OURS: Final = ("x-tulle-", "x_tulle_", "x-envoy-")
_FRAMING: Final = frozenset(
    {
        *("connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "x-request-id"),
    }
)
# what tells who the caller is: set by a policy it would never reach a worker
_CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "client_id", "client_secret"})
# what the gateway says of itself in every answer, whatever a service or a policy did
_ITS_OWN: Final = frozenset({"server", "date"})


@dataclass(frozen=True, slots=True)
class Injection:
    """Values by header, in lower case, as they are written."""

    request: Mapping[str, str] = field(default_factory=dict)
    response: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Removal:
    """Headers in lower case; one that ends in a star is every header that begins so."""

    request: tuple[str, ...] = ()
    response: tuple[str, ...] = ()


def _read_injection(settings: Settings) -> Injection:
    found: dict[str, dict[str, str]] = {}
    for side, headers in settings.items():
        found[side] = {}
        for name, value in headers.items():
            _check_name(name, name, side, name)
            if side == "request" and name.lower() in _CREDENTIALS:
                hint = "give the worker its own credentials another way, such as a connection"
                raise Unfit(f"the header '{name}' ends at the gateway", side, name, hint=hint)
            if _VALUE.fullmatch(value) is None:
                raise Unfit(f"the value of '{name}' is not plain text on one line", side, name)
            for unknown in set(_BLANK.findall(value)) - _KNOWN.keys():
                hint = did_you_mean(unknown, _KNOWN) or f"one of {', '.join(_KNOWN)}"
                raise Unfit(f"nothing is known as ${{{unknown}}}", side, name, hint=hint)
            found[side][name.lower()] = value
    return Injection(**found)


def _read_removal(settings: Settings) -> Removal:
    found: dict[str, tuple[str, ...]] = {}
    for side, names in settings.items():
        for number, name in enumerate(names):
            _check_name(name.removesuffix("*"), name, side, number)
            if name.endswith("*") and any(one.startswith(name[:-1].lower()) for one in (*_FRAMING, *_OURS)):
                hint = "write more of the name before the star"
                raise Unfit(f"'{name}' takes away headers that a request needs", side, number, hint=hint)
        found[side] = tuple(name.lower() for name in names)
    return Removal(**found)


def _check_name(name: str, written: str, side: str, key: str | int) -> None:
    low, path = name.lower(), (side, key)
    if _NAME.fullmatch(low) is None:
        hint = (
            "a name without spaces: x-team"
            if name
            else "write the beginning of names before the star: x-debug-*"
        )
        raise Unfit(f"'{written}' is no name of a header", *path, hint=hint)
    if low in _FRAMING or low.startswith(_OURS):
        raise Unfit(
            f"the header '{name}' is the gateway's own", *path, hint="choose another name, such as x-team"
        )


def _demand_some_use(settings: Settings) -> None:
    """Refuse what does nothing. It was taken once, and does nothing still where it is recorded."""
    for number, name in enumerate(settings.get("response", ())):
        if name.lower().removesuffix("*") in _ITS_OWN:
            key = name if isinstance(settings["response"], Mapping) else number
            message = f"every answer has the gateway's own '{name}', whatever a service says"
            raise Unfit(message, "response", key, hint="leave it out")


def _filled(value: str) -> str:
    """A value in Envoy's words: what is known in place of blanks, all else as it is."""
    parts = _BLANK.split(value)
    return "".join(_KNOWN[part] if n % 2 else part.replace("%", "%%") for n, part in enumerate(parts))


def _set(headers: Mapping[str, str]) -> list[Json]:
    return [
        {
            "append": {
                "header": {"key": name, "value": _filled(value)},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for name, value in headers.items()
    ]


def _removed(names: Iterable[str]) -> list[Json]:
    return [
        {"remove_on_match": {"key_matcher": {"prefix": name[:-1]}}}
        if name.endswith("*")
        else {"remove": name}
        for name in names
    ]


def _misspelt(names: Iterable[str]) -> list[Json]:
    """Takes away what a server may read as one of these."""
    found: list[Json] = []
    for name in names:
        parts = [re.escape(part) for part in name.removesuffix("*").split("-")]
        if len(parts) > 1:
            regex = "[-_]".join(parts) + (".*" if name.endswith("*") else "")
            found.append({"remove_on_match": {"key_matcher": {"safe_regex": {"regex": regex}}}})
    return found


def mutation(name: str, *, request: list[Json], response: list[Json]) -> Json:
    """The filter that changes headers."""
    mutations: Json = {"request_mutations": request, "response_mutations": response}
    config = typed(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={side: changes for side, changes in mutations.items() if changes},
    )
    return {"name": name, "typed_config": config}


def _inject(injection: Injection, spot: Spot) -> Parts:
    name = spot.name_of("header-injection")
    request = [*_misspelt(injection.request), *_set(injection.request)]
    made = mutation(name, request=request, response=_set(injection.response))
    return Parts(filters=[made])


def _remove(removal: Removal, spot: Spot) -> Parts:
    name = spot.name_of("header-removal")
    request = [*_misspelt(removal.request), *_removed(removal.request)]
    made = mutation(name, request=request, response=_removed(removal.response))
    return Parts(filters=[made])


def _sides(side: Json) -> Json:
    return {
        "request": {**side, "description": f"{side['description']}, on the way to the service"},
        "response": {**side, "description": f"{side['description']}, on the way to the caller"},
    }


_SET: Final[Json] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 50,
    "additionalProperties": {"type": "string"},
    "description": "headers to set",
}
_TAKEN: Final[Json] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 50,
    "items": {"type": "string"},
    "description": "headers to take away; 'x-debug-*' is every one that begins so",
}


def register(registry: Registry) -> None:
    """Make both kinds known."""
    more: dict[str, Any] = {"phase": "known", "rules": {"minProperties": 2}, "anew": _demand_some_use}
    registry.add(
        Kind(
            "header-injection",
            "Sets headers of requests, before the service has them, and of answers.",
            _sides(_SET),
            read=_read_injection,
            render=_inject,
            example="policy: header-injection\nresponse: {x-served-by: '${service}'}",
            **more,
        )
    )
    registry.add(
        Kind(
            "header-removal",
            "Takes headers away from requests and answers.",
            _sides(_TAKEN),
            read=_read_removal,
            render=_remove,
            example="policy: header-removal\nresponse: [x-powered-by, 'x-debug-*']",
            **more,
        )
    )
