"""Routes of the HTTP API and of the portal, each made when it is first asked for.

FastAPI reads a function's parameters, and makes a validator of each, when the function is declared: for the
hundreds of the whole application that takes longer than anything else a command does, and a command asks for
one or two. So what is declared here is only kept, with its path; the first request that fits makes
FastAPI's own route of it, which does all the rest. Knows nothing of what is behind a path.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, params
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Declared:
    """One function with its path, and what was said at its declaration, as FastAPI names it."""

    path: str
    endpoint: Callable[..., Any]
    how: Mapping[str, Any]
    tags: Sequence[str]
    guards: Sequence[params.Depends]  # before those of the function's own
    in_schema: bool


class Routes:
    """Functions that answer requests, by method and path; declared as at FastAPI's router.

    `dependencies` are asked before each of them.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: Sequence[str] = (),
        dependencies: Sequence[params.Depends] = (),
        include_in_schema: bool = True,
    ) -> None:
        self._prefix = prefix
        self._tags = tuple(tags)
        self._guards = tuple(dependencies)
        self._in_schema = include_in_schema
        self._declared: list[_Declared] = []

    def get(self, path: str, **how: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare what answers GET."""
        return self._declaring("GET", path, how)

    def post(self, path: str, **how: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare what answers POST."""
        return self._declaring("POST", path, how)

    def put(self, path: str, **how: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare what answers PUT."""
        return self._declaring("PUT", path, how)

    def patch(self, path: str, **how: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare what answers PATCH."""
        return self._declaring("PATCH", path, how)

    def delete(self, path: str, **how: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare what answers DELETE."""
        return self._declaring("DELETE", path, how)

    def include(self, others: Routes) -> None:
        """Take up the routes of others as one's own, below one's own prefix and behind one's own guards."""
        self._declared += [self._own(one) for one in others._declared]

    def made_late(self) -> Iterator[LateRoute]:
        """The routes, in the order of their declaration."""
        return map(LateRoute, self._declared)

    def _declaring(self, method: str, path: str, how: Mapping[str, Any]) -> Callable[[Endpoint], Endpoint]:
        def declare(endpoint: Endpoint) -> Endpoint:
            said = {**how, "methods": [method]}
            self._declared.append(self._own(_Declared(path, endpoint, said, (), (), in_schema=True)))
            return endpoint

        return declare

    def _own(self, one: _Declared) -> _Declared:
        return _Declared(
            self._prefix + one.path,
            one.endpoint,
            one.how,
            (*self._tags, *one.tags),
            (*self._guards, *one.guards),
            self._in_schema and one.in_schema,
        )


class LateRoute(BaseRoute):
    """A route that is FastAPI's from the first request on that fits its path."""

    def __init__(self, declared: _Declared) -> None:
        self.path_format = declared.path
        self._declared = declared
        self._start, _, rest = declared.path.partition("{")
        # A parameter is one part of a path, but for those that say they are many.
        self._parts = None if ":path}" in rest else declared.path.split("/")

    @functools.cached_property
    def route(self) -> APIRoute:
        """The route itself. What FastAPI cannot read of the declaration is its own error, at the first request."""
        one = self._declared
        router = APIRouter(
            tags=list(one.tags),
            dependencies=list(one.guards),
            include_in_schema=one.in_schema,
        )
        router.add_api_route(one.path, one.endpoint, **one.how)
        made = router.routes[0]
        assert isinstance(made, APIRoute)
        return made

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it is this route that was asked for."""
        if scope["type"] != "http" or not self._may_be(_path_within(scope)):
            return Match.NONE, {}
        return self.route.matches(scope)

    def _may_be(self, path: str) -> bool:
        """Whether a path may be one of this route's; FastAPI's route knows, and is not made to be asked in vain."""
        if not path.startswith(self._start):
            return False
        if self._parts is None:
            return True
        parts = path.split("/")
        return len(parts) == len(self._parts) and all(
            mine == its or "{" in mine for mine, its in zip(self._parts, parts, strict=True)
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self.route.handle(scope, receive, send)


class RoutedLate(FastAPI):
    """An application whose document of its API tells of late routes, too."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; makes every route."""
        if not self.openapi_schema:
            routes = [one.route if isinstance(one, LateRoute) else one for one in self.routes]
            self.openapi_schema = get_openapi(title=self.title, version=self.version, routes=routes)
        return self.openapi_schema

    def include(
        self, routes: Routes, *, dependencies: Sequence[params.Depends] = (), include_in_schema: bool = True
    ) -> None:
        """Answer what is asked of these routes; `dependencies` are asked before each."""
        guarded = Routes(dependencies=dependencies, include_in_schema=include_in_schema)
        guarded.include(routes)
        self.router.routes.extend(guarded.made_late())


def _path_within(scope: Scope) -> str:
    """The path of a request below where the application stands (ASGI's `root_path`)."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
