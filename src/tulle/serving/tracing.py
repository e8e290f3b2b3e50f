"""Spans of a worker: one for each request whose trace is sampled, and its parts, sent to a collector by OTLP over HTTP.

Nothing is done for a request that is not sampled, and what is done for one that is, is a note: a thread takes the parts
out of the answer's own `timing` and sends. Spans that the collector does not take are dropped and counted; no request
waits. The id of a span follows from that of its parent, so that whatever calls another service on behalf of a request
knows it without being told. Knows nothing of what requests mean.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Awaitable, Container, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from tulle.serving.asked import TOTAL
from tulle.serving.connection import Answering, Reply, Request
from tulle.serving.endpoint import Header, Trace

PARENT: Final = b"traceparent"
STATE: Final = b"tracestate"
MOST_STATE: Final = 2048  # bytes
PAUSE_SECONDS: Final = 0.5
MOST_WAITING: Final = 2048  # spans of requests; more are dropped
AT_ONCE: Final = 256
TIMEOUT: Final = 3.0
_PARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_TIMING: Final = b'"timing":{'
_log = logging.getLogger("tulle.serving")


class Parent(NamedTuple):
    """What a request says of its trace."""

    trace: str
    span: str
    is_sampled: bool
    state: str = ""  # `tracestate` of the request


class _Noted(NamedTuple):
    parent: Parent
    began: int  # nanoseconds since the epoch
    spent: int
    method: str
    path: str
    is_route: bool
    status: int
    request_id: str
    body: bytes


def parent_of(value: bytes) -> Parent | None:
    """A header `traceparent`; None for what is none."""
    found = _PARENT.fullmatch(value)
    if found is None:
        return None
    trace, span, flags = (part.decode() for part in found.groups())
    if trace == "0" * 32 or span == "0" * 16:
        return None
    return Parent(trace, span, bool(int(flags, 16) & 1))


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The id of the trace that a request is part of; empty where it is of none."""
    for name, value in headers:
        if name == PARENT and (parent := parent_of(value)) is not None:
            return parent.trace
    return ""


def span_of(parent: Parent, name: str = "") -> str:
    """The id of the span of a request, or of a part of it."""
    return hashlib.blake2b(f"{parent.trace}{parent.span}{name}".encode(), digest_size=8).hexdigest()


def passed_on(value: str) -> str:
    """The `traceparent` of what a worker calls for a request: its own span is the parent of that."""
    parent = parent_of(value.encode("latin-1"))
    if parent is None:
        return value
    return f"00-{parent.trace}-{span_of(parent)}-{'01' if parent.is_sampled else '00'}"


class Tracer:
    """Sends the spans of one worker."""

    def __init__(self, url: str, trace: Trace) -> None:
        self._url = urlsplit(url)
        self._trace = trace
        self._waiting: deque[_Noted] = deque()
        self._stop = threading.Event()
        self._said = ""
        self.sent = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self) -> None:
        """Send what is there, once."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2 * TIMEOUT)

    def around(self, answer: Answering, routes: Container[str]) -> Answering:
        """The same, with a span for each request that is sampled, named after one of the `routes`."""

        def traced(request: Request) -> Reply | Awaitable[Reply]:
            parent = _sampled(request.headers)
            if parent is None:
                return answer(request)
            began = time.time_ns()
            made = answer(request)
            if type(made) is Reply:
                self._note(parent, began, request, made, request.path in routes)
                return made
            waited = cast("Awaitable[Reply]", made)
            return self._later(parent, began, request, waited, request.path in routes)

        return traced

    async def _later(
        self, parent: Parent, began: int, request: Request, made: Awaitable[Reply], is_route: bool
    ) -> Reply:
        reply = await made
        self._note(parent, began, request, reply, is_route)
        return reply

    def _note(self, parent: Parent, began: int, request: Request, reply: Reply, is_route: bool) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        asked = request.method, request.path, is_route
        spent = time.time_ns() - began
        self._waiting.append(_Noted(parent, began, spent, *asked, reply.status, reply.request_id, reply.body))

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            self._send()
        self._send()

    def _send(self) -> None:
        while self._waiting:
            noted = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            try:
                self._post(msgspec.json.encode(self._told(noted)))
                self.sent += len(noted)
                self._said = ""
            except Exception as exc:  # noqa: BLE001  whatever it is, requests are answered
                self.dropped += len(noted)
                if str(exc) != self._said:  # once, not twice a second
                    self._said = str(exc)
                    _log.warning("traces are not taken, requests are answered all the same: %s", exc)
                return

    def _post(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(
            self._url.hostname or "", self._url.port or 80, timeout=TIMEOUT
        )
        try:
            connection.request("POST", self._url.path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read(1 << 16)
            if answer.status >= 300:
                raise OSError(f"the collector answered {answer.status}")
        finally:
            connection.close()

    def _told(self, noted: Sequence[_Noted]) -> dict[str, Any]:
        about = {"service.name": self._trace.service, "service.version": self._trace.version}
        spans = [span for one in noted for span in self._spans(one)]
        scope = {"scope": {"name": "tulle"}, "spans": spans}
        return {"resourceSpans": [{"resource": {"attributes": _attributes(about)}, "scopeSpans": [scope]}]}

    def _spans(self, one: _Noted) -> list[dict[str, Any]]:
        own = span_of(one.parent)
        method = one.method if one.method in _METHODS else "_OTHER"
        # A path that is not there is whatever a caller wrote, and makes no name.
        name = f"{method} {one.path}" if one.is_route else method
        about = {
            "tulle.generation": self._trace.generation,
            "tulle.request_id": one.request_id,
            "http.request.method": method,
            "http.response.status_code": one.status,
            "url.path": one.path[:200],
        }
        if one.is_route:
            about["http.route"] = one.path
        if one.status >= 500:
            about["error.type"] = str(one.status)
        whole = _span(one.parent.trace, own, one.parent.span, name, one.began, one.spent, about)
        whole["kind"] = 2  # of a server
        if one.parent.state:
            whole["traceState"] = one.parent.state
        if one.status >= 500:
            whole["status"] = {"code": 2}
        found, at = [whole], one.began
        steps = _steps(one.body) if one.status == 200 else {}
        is_sequence = sum(steps.values()) * 1000 <= one.spent
        for step, micros in steps.items():
            id_ = span_of(one.parent, f"/{step}")
            found.append(_span(one.parent.trace, id_, own, step[:200], at, micros * 1000, {}))
            at += (
                micros * 1000 if is_sequence else 0
            )  # of steps side by side only how long they took is known
        return found


def _sampled(headers: Sequence[Header]) -> Parent | None:
    said = next((value for name, value in headers if name == PARENT), None)
    parent = parent_of(said) if said is not None else None
    if parent is None or not parent.is_sampled:
        return None
    states = [value for name, value in headers if name == STATE]  # several are one list (W3C)
    state = b",".join(states)[:MOST_STATE].decode("latin-1") if states else ""
    return parent._replace(state=state) if state else parent


def _steps(body: bytes) -> dict[str, int]:
    """The parts of an answer that tells them, in microseconds."""
    begin = body.rfind(_TIMING)
    end = body.find(b"}", begin)
    if begin < 0 or end < 0:
        return {}
    try:
        found = msgspec.json.decode(body[begin + len(_TIMING) - 1 : end + 1])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    whole = TOTAL.decode()
    return {
        name: int(took) for name, took in found.items() if isinstance(took, int | float) and name != whole
    }


def _span(
    trace: str, own: str, parent: str, name: str, began: int, spent: int, about: Mapping[str, object]
) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": own,
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(began),
        "endTimeUnixNano": str(began + spent),
        "attributes": _attributes(about),
    }


def _attributes(about: Mapping[str, object]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in about.items()
    ]
