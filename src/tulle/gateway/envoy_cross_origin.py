"""Answers that the gateway gives itself, made readable to web pages of other origins; in Envoy's words.

Envoy's own filter for these pages looks away from routes that answer by themselves: what a page asks before it calls,
and what it is answered there, refusals by other filters among it, would stay closed to it. Pure. Knows nothing of who
may call, and not how a policy says which pages there are: that is read from what the policy `cors` made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tulle.gateway.envoy_policies import ServicePart
from tulle.gateway.envoy_values import READABLE, Json, header_input, typed
from tulle.gateway.policy import ManagedService

_OF_PAGES: Final = typed("envoy.extensions.filters.http.cors.v3.CorsPolicy")["@type"]
_METHODS: Final = ("", "OPTIONS")  # of operations that a browser's question is one of
_HTTP: Final = "envoy.extensions.filters.http"


def asked_before(service: ManagedService, part: ServicePart, route: Callable[..., Json]) -> Iterator[Json]:
    """The route of what a browser asks before a page calls; the filter answers it, so it leads nowhere.

    There is none where all that do not name a generation lead to a service of the mesh: the filter sees to it there.
    """
    name = _name_of_pages(part)
    if name is not None and not _leads(service) and part.operation.method in _METHODS:
        method = {"name": ":method", "string_match": {"exact": "OPTIONS"}}
        wanted = {"name": "access-control-request-method", "string_match": {"safe_regex": {"regex": ".+"}}}
        these = {"name": "origin", "string_match": _of_these(part.settings[name])}
        nowhere: Mapping[str, Any] = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}
        yield route("asked by browsers", method, wanted, these, **nowhere)


def readable(part: ServicePart, routes: Iterator[Json]) -> Iterator[Json]:
    """These routes; those that answer by themselves have what pages read in place of what Envoy's own filter wants."""
    name = _name_of_pages(part)
    if name is None:
        yield from routes
        return
    told = _told(part.settings[name])
    for one in routes:
        if "direct_response" in one:
            filters = {key: value for key, value in one["typed_per_filter_config"].items() if key != name}
            yield {**one, "typed_per_filter_config": {**filters, READABLE: told}}
        else:
            yield one


def filter_of_pages() -> Json:
    """The filter that does so where a route says for which pages.

    It is the first of all, so that whatever is answered is read, and what these pages may read no policy takes away.
    """
    nobody = typed("envoy.extensions.common.matching.v3.ExtensionWithMatcher")
    nobody["extension_config"] = {"name": READABLE, "typed_config": typed(f"{_HTTP}.composite.v3.Composite")}
    return {"name": READABLE, "typed_config": nobody, "disabled": True}


def _leads(service: ManagedService) -> bool:
    """Whether each request of a browser before a call would lead somewhere."""
    if service.traffic is not None and service.traffic.mode == "sticky":
        return False  # what has no key is answered here
    return service.stopped is None and (service.front is None or bool(service.front.serves))


def _name_of_pages(part: ServicePart) -> str | None:
    """The filter for which the part's settings say which pages may call; None where nothing says any."""
    return next((name for name, said in part.settings.items() if said.get("@type") == _OF_PAGES), None)


def _told(pages: Json) -> Json:
    """What a route says of these pages; requests of others meet no filter."""
    headers = {"access-control-allow-origin": "%REQ(origin)%"}
    if pages["allow_credentials"]:
        headers["access-control-allow-credentials"] = "true"
    if "expose_headers" in pages:
        headers["access-control-expose-headers"] = pages["expose_headers"].replace("%", "%%")
    changes = [
        {
            "append": {
                "header": {"key": key, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for key, value in headers.items()
    ]
    change = typed(f"{_HTTP}.header_mutation.v3.HeaderMutation", mutations={"response_mutations": changes})
    put_in = typed(
        f"{_HTTP}.composite.v3.ExecuteFilterAction", typed_config={"name": "told", "typed_config": change}
    )
    these = {"single_predicate": {"input": header_input("origin"), "value_match": _of_these(pages)}}
    found = {"predicate": these, "on_match": {"action": {"name": "told", "typed_config": put_in}}}
    return typed(
        "envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute",
        xds_matcher={"matcher_list": {"matchers": [found]}},
    )


def _of_these(pages: Json) -> Json:
    """What an origin of these pages is; in one expression, as Envoy makes it for each route."""
    forms = [
        re.escape(one["exact"]) if "exact" in one else one["safe_regex"]["regex"]
        for one in pages["allow_origin_string_match"]
    ]
    return {"safe_regex": {"google_re2": {}, "regex": "|".join(forms)}}
