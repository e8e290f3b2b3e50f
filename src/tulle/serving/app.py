"""A loaded service as one function: a request in, an answer out.

A framework would cost more than the model (docs/decisions/serving-package.md), so this is the whole of it:
one dictionary of routes, headers made beforehand, one JSON form of every error. Knows nothing of sockets and processes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tulle.errors import nearest
from tulle.serving import open_inference
from tulle.serving.connection import Head, Reply, Request
from tulle.serving.endpoint import (
    NODE_HEADERS,
    Answer,
    Endpoint,
    Given,
    Headed,
    Header,
    error_body,
    is_safe_id,
)
from tulle.serving.feedback import FEEDBACK_PATH, Feedback
from tulle.serving.index import READ_ERRORS
from tulle.serving.loaded import Loaded
from tulle.serving.noting import CALLER, HOST, WAY, Noted, note_routes
from tulle.serving.recorder import Recorder
from tulle.serving.request import RequestError
from tulle.serving.swagger import swagger
from tulle.serving.tracing import trace_of

PREFIX = "/public/api/v1/"
TEST_PATH = "/testQueries"  # of its socket alone: the gateway leads nobody to it
# Of headers that a function sets: what a name is, what no value holds, and what is ours to say.
_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,100}")
_BREAKS = re.compile(rb"[\r\n\0]")
_OURS = {
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"x-request-id",
    b"x-tulle-generation",
    b"x-tulle-data-commit",
    b"dss-api-version",
    b"dss-version",
    b"upgrade",
    b"keep-alive",
    b"te",
}
Who = tuple[bytes | None, bytes | None, bytes | None]  # caller, way and host, as the gateway tells them
_log = logging.getLogger("tulle.serving")


Plain = Callable[[Any, str], Given]  # content, request id → answer


class Route:
    """One path: what it does, the headers of its answers, and what it has counted."""

    __slots__ = (
        "action",
        "errors",
        "head",
        "headed",
        "method",
        "nanoseconds",
        "noted",
        "requests",
    )

    def __init__(self, method: str, action: Headed | Plain, head: Head) -> None:
        self.method = method
        self.headed = action.call if isinstance(action, Headed) else None
        self.action: Plain = _unused if isinstance(action, Headed) else action
        self.head = head
        self.requests = 0
        self.nanoseconds = 0
        self.errors: dict[int, int] = {}
        self.noted: Noted | None = None  # None: not in the query log


class App:
    """What one loaded service answers, by path."""

    def __init__(
        self,
        service: Loaded,
        *,
        max_request_bytes: int,
        recorder: Recorder | None = None,
        damaged: Callable[[], None] = lambda: None,
    ) -> None:
        """`recorder` keeps the queries; without one none is kept. `damaged`: told that an index cannot be read."""
        self._damaged = damaged
        self.service = service
        self._recorder = recorder
        self.max_request_bytes = max_request_bytes
        self.home = PREFIX + service.manifest.service
        self._started = time.time()
        self._ids = count()
        self._id_prefix = secrets.token_hex(8)
        self._plain = self._head({})
        self.routes: dict[str, Route] = {}
        for endpoint in service.endpoints.values():
            self._add(endpoint)
        self._route("GET", f"{self.home}/openapi.json", lambda _body, _id: service.openapi, self._plain)
        old = msgspec.json.encode(swagger(msgspec.json.decode(service.openapi)))
        self._route("GET", f"{self.home}/swagger", lambda _body, _id: old, self._plain)
        for path, (method, action) in open_inference.routes(service).items():
            self._route(method, self.home + path, action, self._plain)
        for path in ("/isAlive", "/isAlive/"):
            self._route("GET", path, Headed(self._is_alive), self._plain)
        self._route("GET", "/metrics", self._metrics, self._plain)
        self._route("GET", TEST_PATH, Headed(self._tested), self._plain)
        service.followers.append(self.renew)
        if recorder is not None:
            self._route("POST", self.home + FEEDBACK_PATH, Feedback(recorder).headed, self._plain)
            note_routes(recorder, service, self.home, self.routes)

    def _add(self, endpoint: Endpoint) -> None:
        head = self._head(endpoint.commits)
        for name, action in endpoint.actions.items():
            self._route("POST", f"{self.home}/{endpoint.name}/{name}", action, head)
        for name, query in endpoint.queries.items():
            self._route("GET", f"{self.home}/{endpoint.name}/{name}", query, head)

    def renew(self, names: Collection[str]) -> None:
        """Say of what endpoints answer that it is from the commits that they have now."""
        for name in names:
            head, home = self._head(self.service.endpoints[name].commits), f"{self.home}/{name}/"
            for path, route in self.routes.items():
                if path.startswith(home):
                    route.head = head

    def _route(self, method: str, path: str, action: Any, head: Head) -> None:
        self.routes[path] = Route(method, action, head)

    def _head(self, commits: Mapping[str, str]) -> Head:
        headers = [
            (b"content-type", b"application/json"),
            *NODE_HEADERS,
            (b"x-tulle-generation", self.service.trace.generation.encode()),
        ]
        if commits:
            listed = ",".join(f"{name}@{commit}" for name, commit in commits.items())
            headers.append((b"x-tulle-data-commit", listed.encode()))
        return Head(headers)

    def ask(self, request: Request) -> Reply | Awaitable[Reply]:
        """Answer one request: at once, or after what takes a while. Whatever happens there is an answer."""
        said = dict(request.headers)
        request_id = said.get(b"x-request-id", b"").decode("latin-1")
        if not request_id or not is_safe_id(request_id):
            request_id = f"{self._id_prefix}-{next(self._ids):x}"
        caller, way, host = said.get(CALLER), said.get(WAY), said.get(HOST)
        path, content = request.path, request.content
        route = self.routes.get(path)
        start = 0
        try:
            if route is None or route.method != request.method or content is None:
                route = self._found(path)
                self._check(route, request)
            asked: Any = _pairs(request.query) if request.method == "GET" else content
            start = time.perf_counter_ns()
            if route.headed is not None:
                made: Given = route.headed(asked, request_id, request.headers)
            else:
                made = route.action(asked, request_id)
            if not isinstance(made, bytes):
                return self._later(route, made, start, request_id, (caller, way, host), asked, request)
            spent = time.perf_counter_ns() - start
            route.nanoseconds += spent
            route.requests += 1
            noted = route.noted
            if noted is not None:
                noted.note_answered(start, spent, request_id, caller, way, host, asked, made)
            return Reply(route.head, made, request_id)
        except Exception as exc:  # noqa: BLE001  whatever an endpoint raises, the caller gets an answer
            return self._refused(exc, route, start, request_id, (caller, way, host), content, request)

    async def _later(
        self,
        route: Route,
        made: Awaitable[Answer],
        start: int,
        request_id: str,
        who: Who,
        asked: Any,
        request: Request,
    ) -> Reply:
        """The answer that takes a while."""
        head = route.head
        try:
            given = await made
            if given.commits is not None or given.content_type != "application/json" or given.headers:
                head = self._own_head(given, head)
            spent = time.perf_counter_ns() - start
            route.nanoseconds += spent
            route.requests += 1
            if route.noted is not None:
                route.noted.note(start, spent, request_id, given.status, *who, asked, given.body, given.rows)
            return Reply(head, given.body, request_id, given.status)
        except asyncio.CancelledError:  # the process ends, and this takes longer than that waits
            message = "the service was stopped before it had the answer"
            stopped = RequestError(503, "Stopped", message, "What was asked for may have been done")
            return self._refused(stopped, route, start, request_id, who, asked, request)
        except Exception as exc:  # noqa: BLE001  as above
            return self._refused(exc, route, start, request_id, who, asked, request)

    def _own_head(self, given: Answer, usual: Head) -> Head:
        """The headers of an answer that brings its own; `usual`: its endpoint's when it was asked."""
        if given.commits is not None:
            usual = self._head(given.commits)
        own = {
            name.lower().encode("latin-1", "replace"): value.encode("latin-1", "replace")
            for name, value in given.headers.items()
        }
        own[b"content-type"] = given.content_type.encode("latin-1", "replace")
        safe = [
            (n, v) for n, v in own.items() if _NAME.fullmatch(n) and not _BREAKS.search(v) and n not in _OURS
        ]
        said = {name for name, _ in safe}
        return Head([*safe, *(header for header in usual.headers if header[0] not in said)])

    def _check(self, route: Route, request: Request) -> None:
        if route.method != request.method:
            raise RequestError(
                405, "MethodNotAllowed", f"{request.method} is not answered here", f"Use {route.method}"
            )
        if request.content is None:
            limit = self.max_request_bytes
            raise RequestError(413, "RequestTooLarge", f"the request body is larger than {limit} bytes")

    def _found(self, path: str) -> Route:
        """The route of a path, also with doubled slashes, or the error that tells which paths there are."""
        clean = _clean(path)
        if clean in self.routes:
            return self.routes[clean]
        shown, name = clean[:200], self.service.manifest.service
        if clean.startswith(PREFIX) and clean.removeprefix(PREFIX).split("/")[0] != name:
            raise RequestError(404, "UnknownService", f"'{shown}' is not a path of service '{name}'")
        own = f"{self.home}/v2"  # told by their protocol
        public = sorted(
            known for known in self.routes if known.startswith(PREFIX) and not known.startswith(own)
        )
        near = nearest(shown, public)
        advice = f"Did you mean '{near}'? " if near else ""
        advice += f"The service answers at: {', '.join(public)}"
        raise RequestError(404, "UnknownEndpoint", f"there is no '{shown}'", advice)

    def _refused(
        self,
        exc: Exception,
        route: Route | None,
        start: int,
        request_id: str,
        who: Who,
        asked: Any,
        request: Request,
    ) -> Reply:
        """The answer to a request that failed."""
        if isinstance(exc, RequestError):
            error = exc
        elif isinstance(exc, READ_ERRORS):
            _log.error("request %s: what an endpoint reads is damaged: %s", request_id, exc)
            self._damaged()
            advice = "Try again in a moment: the worker starts anew"
            error = RequestError(503, "IndexDamaged", "what the endpoint reads is damaged", advice)
        else:
            _log.error("request %s failed", request_id, exc_info=exc)
            error = RequestError(
                500, "EvaluationFailed", "the endpoint failed on this request", "Its log says why"
            )
        head = self._plain if route is None else route.head
        if route is not None:
            route.errors[error.status] = route.errors.get(error.status, 0) + 1
        if error.status == 405 and route is not None:
            head = Head([*head.headers, (b"allow", route.method.encode())])
        if error.status == 503:
            head = Head([*head.headers, (b"retry-after", b"1")])
        is_open = _clean(request.path).startswith(f"{self.home}/v2/")
        told = open_inference.told if is_open else error_body
        answer = told(error, request_id, trace_of(request.headers))
        if route is not None and route.noted is not None:
            now = time.perf_counter_ns()
            spent = now - start if start else 0
            route.noted.note(start or now, spent, request_id, error.status, *who, asked, answer, None)
        return Reply(head, answer, request_id, error.status)

    async def _is_alive(self, _pairs: Any, _request_id: str, _headers: Sequence[Header]) -> Answer:
        failed = await self.service.health()
        if failed:
            told = "; ".join(f"{name}: {why}" for name, why in failed.items())
            raise RequestError(503, "NotAlive", "endpoints do not answer", told)
        trace = self.service.trace
        alive = {
            "alive": True,
            "service": trace.service,
            "generation": trace.generation,
            "endpoints": sorted(self.service.endpoints),
        }
        return Answer(msgspec.json.encode(alive))

    async def _tested(self, pairs: Any, _request_id: str, _headers: Sequence[Header]) -> Answer:
        """The verdicts of its test queries: asked in place, so that none is in the query log."""
        said = dict(pairs)
        try:
            most, seconds = int(said["most"]), float(said["seconds"])
        except (KeyError, ValueError):
            raise RequestError(400, "InvalidRequest", "'most' and 'seconds' are numbers") from None
        return Answer(msgspec.json.encode(await self.service.test(most=most, seconds=seconds)))

    def _metrics(self, _pairs: Any, _request_id: str) -> bytes:
        """What was counted since the start; times in microseconds of the endpoint alone."""
        trace = self.service.trace
        return msgspec.json.encode(
            {
                "service": trace.service,
                "generation": trace.generation,
                "version": trace.version,
                "upSeconds": round(time.time() - self._started, 1),
                "log": None
                if self._recorder is None
                else {"written": self._recorder.written, "dropped": self._recorder.dropped},
                "paths": {
                    path.removeprefix(self.home + "/"): {
                        "answered": route.requests,
                        "microseconds": route.nanoseconds // 1000,
                        "errors": {str(status): number for status, number in sorted(route.errors.items())},
                    }
                    for path, route in self.routes.items()
                    if path.startswith(self.home)
                },
            }
        )


def _unused(_content: Any, _request_id: str) -> bytes:
    raise AssertionError("what is headed is called with headers")


def _clean(path: str) -> str:
    """A path with doubled slashes as one, and none at the end."""
    return "/" + "/".join(part for part in path.split("/") if part)


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise RequestError(400, "InvalidRequest", "the query string is not understood") from None
