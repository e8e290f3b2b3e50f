"""Paths that somebody may read as another one, in Envoy's words: they are refused before anything is done with them.

An operation is told by its path as it is written. Servers differ in what they take for the same path: some decode
`%3A`, or `%2561` twice, some leave out `;parameters` or dots at the end, some do not look at case. Such a form of a
path that has policies of its own would pass with those of all others, so it is answered 400. So are, where operations
have policies, ways up and characters that nobody means (RFC 3629 section 10 tells what becomes of bytes that are no
UTF-8), and to whom we do not know `/..;/`, which some take for a way up. Pure. Knows no policy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from tulle.gateway.envoy_access import off
from tulle.gateway.envoy_apis import match_of
from tulle.gateway.envoy_policies import ServicePart
from tulle.gateway.envoy_values import AUTH, CONTRACT, LIMITS, NORMALISE, Json
from tulle.gateway.policy import ManagedService

_WAY_UP: Final = r"[^?]*/[.][.]?(;|%3[bB]).*"
# By what Envoy does not decode: `.` encoded twice or at undue length, control characters, bytes that UTF-8 never has. A
# percent sign before two digits is written `%25` and these, so the latter are looked for as they are alone.
_MEANT_BY_NOBODY: Final = (
    r"(?i:[^?]*(?:"
    r"/(?:[.]|%(?:25)+2e|%(?:25)*(?:c0|e0%(?:25)*80|f0%(?:25)*80%(?:25)*80)%(?:25)*ae){1,2}"
    r"(?:[/;?]|%(?:25)+(?:2f|5c|3b)|$)"
    r"|%(?:[01][0-9a-f]|7f|c[01]|f[5-9a-f]|e0%[89]|f0%8))"
    r".*)"
)


def ways_up(service: ManagedService) -> list[Json]:
    """Where a service that is not ours answers: what it may take for a way out of its part of the paths."""
    if service.front is None or service.front.external is None:
        return []
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": _WAY_UP}}}
    return [_refused(service, "way up", [path])]


def with_likenesses(
    service: ManagedService, parts: Sequence[ServicePart]
) -> Iterator[tuple[Sequence[ServicePart], Sequence[Json]]]:
    """The parts of a service in their order, some at a time, each time with what is to be refused behind them.

    A path that is written as one of an equally narrow part is that part's, so those come first.
    """
    address = service.address.rstrip("/")
    if any(part.operation.path for part in parts):
        path = {"name": ":path", "string_match": {"safe_regex": {"regex": _MEANT_BY_NOBODY}}}
        yield (), [_refused(service, "meant by nobody", [path])]
    for _, level in itertools.groupby(parts, lambda part: part.operation.narrowness):
        some = list(level)
        alike = [
            _refused(service, f"like {part.operation}", part.match(address, alike=True))
            for part in some
            if part.operation.path
        ]
        yield some, alike


def _refused(service: ManagedService, what: str, headers: Sequence[Json]) -> Json:
    about = {"service": service.name, "environment": service.environment, "reason": "path"}
    return {
        "name": f"{service.path} {what}",
        "match": match_of(service, headers),
        "metadata": {"filter_metadata": {"tulle": {key: value for key, value in about.items() if value}}},
        "direct_response": {"status": 400},
        "typed_per_filter_config": {name: off() for name in (NORMALISE, AUTH, CONTRACT, LIMITS)},
    }
