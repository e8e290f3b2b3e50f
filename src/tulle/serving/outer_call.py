"""Calling other services through the gateway, and HTTP APIs by connections of the mesh, from a composition's step.

Every call is made under this service's own identity, never with what its caller sent. Knows nothing of steps' order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from tulle.serving.asked import Asked
from tulle.serving.inner_call import DEPTH, main_part, request_of
from tulle.serving.outside import UNREACHABLE, Door, Got, Way
from tulle.serving.request import UNWRITABLE, RequestError, shown
from tulle.serving.step_call import Telling
from tulle.serving.step_form import IDEMPOTENT, method_of
from tulle.serving.tracing import passed_on

DEEPEST = 8
USUAL_SECONDS = 30.0
_ACTIONS = {
    "predict": "predict",
    "forecast": "forecast",
    "lookup": "lookup",
    "query": "rows",
    "function": "run",
    "compose": "run",
}
HARMLESS = frozenset({"predict", "forecast", "lookup", "query"})  # they answer and do nothing else
# Errors after which it is certain that nothing was done, so that asking again does no harm.
_NOT_DONE = frozenset({UNREACHABLE, "TooManyRequests", "QueueFull", "NoProcessFree", "NotStarted"})
# What belongs to a caller's trace is passed on, nothing else of theirs.
_TRACE = {b"traceparent": "traceparent", b"tracestate": "tracestate", b"baggage": "baggage"}
_AGAIN = (0.2, 0.5, 1.0)  # seconds: the gateway knows new credentials a moment after they were written
_NOT_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"}
)
_PLAIN = "/%:@!&'()*+,;=~[]"  # of a path that was declared: what is in it is as it was written
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,4096}")
_encode = msgspec.json.Encoder(decimal_format="number").encode


class ServiceCall:
    """An endpoint of another service as a step calls it."""

    waits = True

    def __init__(self, target: str, kind: str, door: Door, seconds: float | None = None) -> None:
        """`target` is service/endpoint."""
        self.name = target
        self._service, _, self._endpoint = target.partition("/")
        self._kind, self._door = kind, door
        self.may_repeat = kind in HARMLESS
        self._seconds = seconds or USUAL_SECONDS

    def content(self, sent: Any) -> bytes:
        """The body."""
        return _written(request_of(self._kind, sent))

    def key(self, content: bytes) -> bytes:
        """What is sent: of what the other answers from, nothing is known before it has."""
        return content

    def may_retry(self, error: RequestError) -> bool:
        """Where asking twice does no harm: it did nothing yet, or does nothing but answer."""
        return error.error_type in _NOT_DONE or (self.may_repeat and error.status >= 500)

    def ask(self, content: bytes, asked: Asked) -> Any:
        """A coroutine that gives the value of the answer."""
        return self._asked(content, asked)

    async def _asked(self, content: bytes, asked: Asked) -> Telling:
        depth = _depth(asked) + 1
        if depth > DEEPEST:
            message = f"{DEEPEST} services have called one another until here"
            raise RequestError(508, "TooDeep", message, "Do they call one another in a circle?")
        traced = [(_TRACE[n], v.decode("latin-1")) for n, v in asked.headers if n in _TRACE]
        headers = [
            ("content-type", "application/json"),
            ("x-request-id", asked.id),
            (DEPTH, str(depth)),
            *(
                (name, passed_on(value) if name == "traceparent" else value)
                for name, value in traced
                if _VALUE.fullmatch(value)
            ),
        ]
        got = await self._got(content, headers)
        if got.status != 200:
            raise self._refusal(got)
        told = {
            "service": self._service,
            "generation": got.headers.get("x-tulle-generation", ""),
            "commits": got.headers.get("x-tulle-data-commit", ""),
            "requestId": got.headers.get("x-request-id", ""),
        }
        return Telling(
            main_part(self._kind, asked.receive(got.body)),
            {name: value for name, value in told.items() if value},
        )

    async def _got(self, content: bytes, headers: Sequence[tuple[str, str]]) -> Got:
        for wait in (*_AGAIN, None):
            by = self._door.by()
            got = await self._door.send(
                "POST",
                f"{by.gateway}/public/api/v1/{self._service}/{self._endpoint}/{_ACTIONS[self._kind]}",
                headers=[*headers, ("client_id", by.client_id), ("client_secret", by.client_secret)],
                content=content,
                seconds=self._seconds,
                allowed=None,
                what=f"service '{self._service}'",
            )
            if got.status != 401 or wait is None:
                return got
            await asyncio.sleep(wait)  # refused before anything was done
        raise AssertionError

    def _refusal(self, got: Got) -> RequestError:
        """What the other said, as this service's callers can understand it."""
        try:
            said = msgspec.json.decode(got.body, type=_Said)
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = _Said("Failed", f"HTTP {got.status}")
        what = f"service '{self._service}'"
        if got.status in {401, 403}:
            message = f"{what} does not let this service call it"
            return RequestError(502, "NoContract", message, "Its owner gives this service a contract")
        if got.status == 429:
            return RequestError(
                503, "TooManyRequests", f"{what} is asked more often than the contract allows"
            )
        if got.status == 404 and said.error_type in {"UnknownService", "UnknownEndpoint"}:
            return RequestError(502, said.error_type, f"{what}: {said.message}")
        if got.status < 400:  # of a function that answers with a status of its own
            return RequestError(502, "UnexpectedStatus", f"{what} answered {got.status}, expected 200")
        return RequestError(got.status, said.error_type, f"{what}: {said.message}")


class _Said(msgspec.Struct):
    error_type: str = msgspec.field(name="errorType", default="Failed")
    message: str = ""


def _depth(asked: Asked) -> int:
    for name, value in asked.headers:
        if name == DEPTH.encode():
            return int(value) if value.isdigit() and len(value) < 4 else DEEPEST
    return 0


class HttpCall:
    """A request to an HTTP API by a connection of the mesh; what is sent is made of values, where it goes is not."""

    waits = True

    def __init__(self, said: Mapping[str, Any], door: Door, seconds: float | None = None) -> None:
        self._connection: str = said["connection"]
        self._method: str = method_of(said)
        self.may_repeat = self._method in IDEMPOTENT
        self._expect = frozenset(said.get("expect", ()))
        self._null_on = frozenset(said.get("null_on", ()))
        self._door = door
        self._seconds = seconds or USUAL_SECONDS
        self.name = f"connection '{self._connection}'"

    def content(self, sent: Any) -> bytes:
        """All that is sent, which is not the body alone."""
        return _written(sent)

    def key(self, content: bytes) -> bytes:
        """What is sent: it is all there is to tell calls apart."""
        return content

    def may_retry(self, error: RequestError) -> bool:
        """Where nothing was sent, or a method does the same when it is done twice."""
        return error.error_type == UNREACHABLE or (self.may_repeat and error.status >= 500)

    def ask(self, content: bytes, asked: Asked) -> Any:
        """A coroutine that gives the value of the answer. Nothing of the caller goes outside."""
        return self._asked(msgspec.json.decode(content), asked)

    async def _asked(self, sent: Mapping[str, Any], asked: Asked) -> Telling:
        by = self._door.by()
        way = by.connections.get(self._connection)
        if way is None:
            message = f"the mesh has no connection '{self._connection}' for this service"
            hint = f"`tulle connection set {self._connection} --kind http …`"
            raise RequestError(503, UNREACHABLE, message, hint)
        if way.why_not:
            hint = "name one that signs in by auth=bearer, basic or header"
            raise RequestError(503, UNREACHABLE, f"{self.name} {way.why_not}", hint)
        body = _written(sent["body"]) if "body" in sent else b""
        got = await self._door.send(
            self._method,
            address(way, sent.get("path", ()), sent.get("query", {})),
            headers=_headers(way, sent.get("headers", {}), has_body="body" in sent),
            content=body,
            seconds=self._seconds,
            allowed=by.allowed,
            what=self.name,
        )
        asked.receive(got.body)
        return Telling(self._value(got), {"connection": self._connection, "answered": got.status})

    def _value(self, got: Got) -> Any:
        if got.status in self._null_on:
            return None
        if not (got.status in self._expect if self._expect else 200 <= got.status < 300):
            further = ", and no redirect is followed" if 300 <= got.status < 400 else ""
            raise RequestError(502, "UnexpectedStatus", f"{self.name} answered {got.status}{further}")
        if not got.body.strip():
            return None
        try:
            return msgspec.json.decode(got.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RequestError(502, "NotJson", f"{self.name} answered what is no JSON") from None


def address(way: Way, path: str | Sequence[Any], query: Mapping[str, Any]) -> str:
    """The URL below a connection's address. A path is text as it was declared, or segments that values are made of.

    RequestError for a segment that would lead elsewhere, or a value that has no place in an address.
    """
    try:
        return _address(way, path, query)
    except UnicodeEncodeError:
        raise RequestError(422, "InvalidAddress", "half a character cannot be a part of an address") from None


def _address(way: Way, path: str | Sequence[Any], query: Mapping[str, Any]) -> str:
    declared = [quote(path, safe=_PLAIN)] if isinstance(path, str) else None
    parts = declared or [quote(_segment(one), safe="") for one in path]
    url = way.address.rstrip("/") + "".join(f"/{part.strip('/')}" for part in parts if part.strip("/"))
    pairs = [
        (name, _text(one))
        for name, value in query.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    return f"{url}?{urlencode(pairs)}" if pairs else url


def _segment(value: Any) -> str:
    text = _text(value)
    if text in {"", ".", ".."}:
        raise RequestError(422, "InvalidAddress", f"{shown(value)} cannot be a part of an address")
    return text


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise RequestError(422, "InvalidAddress", f"{shown(value)} is no text or number")


def _headers(way: Way, declared: Mapping[str, Any], *, has_body: bool) -> list[tuple[str, str]]:
    """Those that sign in win over those that are declared, which are none that the connection itself needs."""
    own = {name.lower() for name in way.headers} | _NOT_OURS | {"accept", "user-agent", "content-type"}
    found = [("accept", "application/json"), ("user-agent", "tulle")]
    if has_body:
        found.append(("content-type", "application/json"))
    for name, value in declared.items():
        text = _text(value).strip(" \t")  # which is no part of a value
        if not _VALUE.fullmatch(text):
            raise RequestError(422, "InvalidHeader", f"the value of header '{name}' cannot be sent")
        if name.lower() not in own:
            found.append((name, text))
    return [*found, *way.headers.items()]


def _written(sent: Any) -> bytes:
    try:
        return _encode(sent)
    except UNWRITABLE as exc:
        raise RequestError(422, "NotJson", f"what is sent cannot be written as JSON: {exc}") from None
