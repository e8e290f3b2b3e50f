"""Many routes found by their address: a map from the beginnings of paths, in place of a list that is gone through.

Envoy asks the routes of a list one after the other, so with a thousand APIs a request met thousands of them. Pure.
Knows nothing of services.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tulle.gateway.envoy_values import VIRTUAL_HOST, Json, header_input, typed
from tulle.gateway.envoy_wire import contents, field, fields, packed, written

LONGEST_LIST: Final = 40  # addresses; fewer are as quick in a list


def indexed(found: Mapping[str, Sequence[Json]], always: Sequence[Json]) -> Json:
    """The part of a virtual host that holds routes: those `found` by address, in the order they are tried, and others.

    A path has the routes of the longest address it begins with, then those of addresses that this one begins with, as
    they would be tried in a list; an address may begin a longer word, so what is for every path comes last in each.
    """
    if len(found) <= LONGEST_LIST:
        return {"routes": [*(route for routes in found.values() for route in routes), *always]}
    lists = {
        address: _list([*(route for one in tried for route in found[one]), *always])
        for address, tried in _tried(found)
    }
    return {
        "matcher": {
            "matcher_tree": {"input": header_input(":path"), "prefix_match_map": {"map": lists}},
            "on_no_match": _list(always),
        }
    }


Entries = dict[
    str, tuple[Sequence[bytes], bytes]
]  # by address: of which lists of routes it was made, and what


def indexed_bytes(
    found: Mapping[str, Sequence[bytes]], always: Sequence[bytes], kept: Entries | None = None
) -> bytes:
    """As `indexed`, of routes as bytes: the fields of a virtual host that hold them.

    Each of `found` and `always` is some routes as a list of them holds them (`listed`). What is made for an address is
    `kept` for the next time, and taken from there where it would be the same.
    """
    if len(found) <= LONGEST_LIST:
        everything = b"".join([*(part for parts in found.values() for part in parts), *always])
        return in_host(everything)
    before = {} if kept is None else dict(kept)
    entries: Entries = {}
    for address, tried in _tried(found):
        of = [*(part for one in tried for part in found[one]), *always]
        known = before.get(address)
        entries[address] = known if known is not None and known[0] == of else (of, _entry(address, of))
    if kept is not None:
        kept.clear()
        kept.update(entries)
    # A message's field that is said twice is both together.
    tree = written(_TREE, {"input": header_input(":path")}) + field(
        _TREE, "prefix_match_map", b"".join(made for _, made in entries.values())
    )
    matcher = field(_MATCHER, "matcher_tree", tree) + field(
        _MATCHER, "on_no_match", _leading_to(b"".join(always))
    )
    return field(VIRTUAL_HOST, "matcher", matcher)


def _entry(address: str, lists: Sequence[bytes]) -> bytes:
    """An address with its routes, as a field of the map."""
    leading = field(_ENTRY, "value", _leading_to(b"".join(lists)))
    return field(f"{_TREE}.MatchMap", "map", field(_ENTRY, "key", address.encode()) + leading)


def listed(routes: Sequence[Json]) -> bytes:
    """Some routes as a list of them holds them."""
    return fields(_LIST, "routes", [written(_ROUTE, route) for route in routes])


def in_host(routes: bytes) -> bytes:
    """The same as a virtual host holds them, in whose messages they have another number."""
    return fields(VIRTUAL_HOST, "routes", contents(_LIST, "routes", routes))


_ROUTE: Final = "envoy.config.route.v3.Route"
_LIST: Final = "envoy.config.route.v3.RouteList"
_MATCHER: Final = "xds.type.matcher.v3.Matcher"
_TREE: Final = f"{_MATCHER}.MatcherTree"
_ENTRY: Final = f"{_TREE}.MatchMap.MapEntry"
_EXTENSION: Final = "xds.core.v3.TypedExtensionConfig"


def _leading_to(routes: bytes) -> bytes:
    """What a matcher does where it has found a list."""
    action = field(_EXTENSION, "name", b"routes") + field(_EXTENSION, "typed_config", packed(_LIST, routes))
    return field(f"{_MATCHER}.OnMatch", "action", action)


def _tried(addresses: Mapping[str, object]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each address with those whose routes are tried for a path that begins so, in order."""
    order = {address: number for number, address in enumerate(addresses)}
    for address in addresses:
        shorter = [address[:end] for end in range(1, len(address)) if address[:end] in order]
        yield address, sorted((address, *shorter), key=order.__getitem__) if shorter else (address,)


def _list(routes: Sequence[Json]) -> Json:
    content = typed(_LIST, routes=list(routes))
    return {"action": {"name": "routes", "typed_config": content}}
