"""Which handler answers a request: the routes of all modules in one tree of path segments.

A request costs one step per segment however many routes there are. Knows no operation.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tulle.errors import Invalid
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, text_of

PREFIX = "/api/v1"

Handler = Callable[[Call], Outgoing]

# The modules whose ROUTES make the API.
MODULES = (
    "system",
    "repositories",
    "branches",
    "stale",
    "commits",
    "merges",
    "objects",
    "uploading",
    "staging",
    "settings",
    "signed",
    "auth",
    "actions",
    "exports",
    "audit",
    "imports",
    "pulls",
    "gc",
    "leftovers",
    "dump",
    "metadata",
)


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: `path` is that of the OpenAPI document, `operation` its operationId.

    `public`: answered without asking who calls.
    """

    method: str
    path: str
    handler: Handler
    operation: str
    public: bool = False


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    methods: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)


class Router:
    """A tree of routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self.routes = tuple(routes)
        for route in self.routes:
            self._add(route)

    def find(self, method: str, raw_path: bytes) -> tuple[Route, Mapping[str, str]] | None:
        """The route and the path's parameters, decoded. Invalid when a parameter is no UTF-8."""
        found = _walk(self._root, _segments(raw_path), 0, ())
        entry = found[0].methods.get(method) if found is not None else None
        if found is None or entry is None:
            return None
        route, names = entry
        return route, {name: text_of(value, "path") for name, value in zip(names, found[1], strict=True)}

    def methods(self, raw_path: bytes) -> tuple[str, ...]:
        """What can be done at a path; nothing when there is no such path."""
        found = _walk(self._root, _segments(raw_path), 0, ())
        return tuple(sorted(found[0].methods)) if found is not None else ()

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment.encode(), _Node())
        if route.method in node.methods:
            raise Invalid(f"{route.method} {route.path} is routed twice")
        node.methods[route.method] = (route, tuple(names))


def _segments(raw_path: bytes) -> list[bytes]:
    return raw_path.strip(b"/").split(b"/")


def _walk(
    node: _Node, segments: list[bytes], at: int, values: tuple[bytes, ...]
) -> tuple[_Node, tuple[bytes, ...]] | None:
    if at == len(segments):
        return (node, values) if node.methods else None
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _walk(literal, segments, at + 1, values)
        if found is not None:
            return found
    if node.parameter is not None and segment:
        return _walk(node.parameter, segments, at + 1, (*values, segment))
    return None


def all_routes() -> list[Route]:
    """The routes of every module; what is unsupported counts only where nothing else is at its place."""
    routes: list[Route] = []
    from tulle.lake.rest import unsupported  # noqa: PLC0415  it is made of what is here

    for name in MODULES:
        routes.extend(importlib.import_module(f"tulle.lake.rest.{name}").ROUTES)
    known = {(route.method, route.path) for route in routes}
    return routes + [route for route in unsupported.ROUTES if (route.method, route.path) not in known]
