"""Many routes found by their address: a map from the beginnings of paths, in place of a list that is gone through.

Envoy asks the routes of a list one after the other, so with a thousand APIs a request met thousands of them. Pure.
Knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tulle.gateway.envoy_values import Json, header_input, typed

LONGEST_LIST: Final = 40  # addresses; fewer are as quick in a list


def indexed(found: Mapping[str, Sequence[Json]], always: Sequence[Json]) -> Json:
    """The part of a virtual host that holds routes: those `found` by address, in the order they are tried, and others.

    A path has the routes of the longest address it begins with, then those of addresses that this one begins with, as
    they would be tried in a list; an address may begin a longer word, so what is for every path comes last in each.
    """
    if len(found) <= LONGEST_LIST:
        return {"routes": [*(route for routes in found.values() for route in routes), *always]}
    known = set(found)
    order = {address: number for number, address in enumerate(found)}
    lists: dict[str, Json] = {}
    for address in found:
        shorter = [address[:end] for end in range(1, len(address)) if address[:end] in known]
        tried = sorted((address, *shorter), key=order.__getitem__)
        lists[address] = _list([*(route for one in tried for route in found[one]), *always])
    return {
        "matcher": {
            "matcher_tree": {"input": header_input(":path"), "prefix_match_map": {"map": lists}},
            "on_no_match": _list(always),
        }
    }


def _list(routes: Sequence[Json]) -> Json:
    content = typed("envoy.config.route.v3.RouteList", routes=list(routes))
    return {"action": {"name": "routes", "typed_config": content}}
