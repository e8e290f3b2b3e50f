"""Answers that the gateway gives itself, made readable to web pages of other origins; in Envoy's words.

Envoy's own filter for these pages looks away from routes that answer by themselves: what a page asks before it calls,
and what it is answered there, would stay closed to it. Pure. Knows nothing of who may call, and not how a policy says
which pages there are: that is read from what the policy `cors` made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tulle.gateway.envoy_policies import ServicePart
from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.policy import ManagedService

_OF_PAGES: Final = typed("envoy.extensions.filters.http.cors.v3.CorsPolicy")["@type"]


def asked_before(service: ManagedService, part: ServicePart, route: Callable[..., Json]) -> Iterator[Json]:
    """The route of what a browser asks before a page calls; the filter answers it, so it leads nowhere."""
    pages = _pages(service, part)
    if pages is not None and part.operation.is_any:
        method = {"name": ":method", "string_match": {"exact": "OPTIONS"}}
        wanted = {"name": "access-control-request-method", "string_match": {"safe_regex": {"regex": ".+"}}}
        nowhere: Mapping[str, Any] = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}
        yield route("asked by browsers", method, wanted, _of_these(pages), **nowhere)


def readable(service: ManagedService, part: ServicePart, routes: Iterator[Json]) -> Iterator[Json]:
    """These routes, and before each that answers by itself the same for requests of the pages, which may read it."""
    pages = _pages(service, part)
    if pages is None:
        yield from routes
        return
    told = {"access-control-allow-origin": "%REQ(origin)%"}
    if pages["allow_credentials"]:
        told["access-control-allow-credentials"] = "true"
    if "expose_headers" in pages:
        told["access-control-expose-headers"] = pages["expose_headers"]
    more = [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in told.items()
    ]
    for one in routes:
        if "direct_response" in one:
            match = one["match"]
            yield {
                **one,
                "match": {**match, "headers": [*match.get("headers", []), _of_these(pages)]},
                "response_headers_to_add": [*one.get("response_headers_to_add", []), *more],
            }
        yield one


def _pages(service: ManagedService, part: ServicePart) -> Json | None:
    """What `cors` says of the pages that may call, by what routes have for its filter.

    None where nothing says anything, and where all requests lead to a service of the mesh, as the filter does it all.
    """
    if service.stopped is None and (service.front is None or service.front.serves):
        return None
    return next((said for said in part.settings.values() if said.get("@type") == _OF_PAGES), None)


def _of_these(pages: Json) -> Json:
    """Of requests from these pages."""
    forms = [
        re.escape(one["exact"]) if "exact" in one else one["safe_regex"]["regex"]
        for one in pages["allow_origin_string_match"]
    ]
    return {"name": "origin", "string_match": {"safe_regex": {"regex": "|".join(forms)}}}
