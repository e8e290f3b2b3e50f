"""Compositions: steps that call other endpoints of the same service, one answer made of theirs.

Calls stay in the process: an endpoint is called as a request would call it, without the way through the gateway. Knows
nothing of what the endpoints do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import Answer, Endpoint, Given, Headed, Header, Query, Trace
from tulle.serving.path_values import condition_of, list_of, made_of
from tulle.serving.query import record_of
from tulle.serving.query_declared import QueryParameter
from tulle.serving.request import RequestError, parse_json

TRACE = b"x-tulle-steps"  # a request header: whatever it holds, the answer tells of every step
USUAL_ITEMS = 100
AT_ONCE = 8  # entries of a `map`
_CACHED = 10_000  # answers of a step
_log = logging.getLogger("tulle.serving")
_AGAIN_SECONDS = 0.05  # before the first retry; twice as long before each further one

Step = Callable[[dict[str, Any]], Coroutine[Any, Any, Any]]
Endpoints = Callable[[], Mapping[str, Endpoint]]


@dataclass(frozen=True, slots=True)
class ComposeEntry:
    """What a package's manifest says of a composition: its steps as they were declared."""

    name: str
    steps: tuple[Mapping[str, Any], ...]
    output: Any
    input: tuple[QueryParameter, ...] = ()
    description: str = ""
    type: Literal["compose"] = "compose"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Request:
    """What the steps of one request know of it."""

    id: str
    headers: Sequence[Header]
    told: list[dict[str, Any]] = field(default_factory=list)


_REQUEST: ContextVar[_Request] = ContextVar("composition")


class Compose:
    """A composition."""

    kind = "compose"
    main = "run"

    def __init__(self, entry: ComposeEntry, trace: Trace) -> None:
        self.name = entry.name
        self.commits: Mapping[str, str] = {}
        self.entry = entry
        self.endpoints: Mapping[str, Endpoint] = {}  # of the service
        self.record = record_of(entry.input)
        self._steps = _sequence([_step(one, lambda: self.endpoints) for one in entry.steps])
        self._output = made_of(entry.output)
        self._trace = trace
        self._context = ""

    def bind(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Tell it the endpoints of the service, when all are loaded; compositions before it are bound."""
        self.endpoints = endpoints
        commits = [endpoints[name].commits for name in called(self.entry.steps)]
        self.commits = dict(sorted((k, v) for each in commits for k, v in each.items()))
        self._context = self._trace.context(self.name, self.commits)

    @property
    def actions(self) -> Mapping[str, Headed]:
        """run"""
        return {"run": Headed(self.run)}

    @property
    def queries(self) -> Mapping[str, Query]:
        """By POST only: what is sent may be personal data, which has no place in an address."""
        return {}

    async def ready(self) -> None:
        """It is, as soon as what it calls is."""

    def close(self) -> None:
        """Nothing is to be ended."""

    async def run(self, body: bytes, request_id: str, headers: Sequence[Header]) -> Answer:
        """Carry the steps out with what is sent, {"name": value, …}."""
        start = perf_counter_ns()
        values: dict[str, Any] = {"input": self._input(parse_json(body))}
        request = _Request(request_id, headers)
        context, commits = self._context, self.commits
        token = _REQUEST.set(request)
        try:
            await self._steps(values)
            response = msgspec.json.encode(self._output(values))
        finally:
            _REQUEST.reset(token)
        timing = {one["name"]: one["microseconds"] for one in request.told}
        timing["total"] = (perf_counter_ns() - start) // 1000
        told = (
            b',"steps":' + msgspec.json.encode(request.told) if any(n == TRACE for n, _ in headers) else b""
        )
        mixed = None
        if commits is not self.commits:  # something newer came while it ran: steps may have read either
            both = {name: (commits.get(name, newer), newer) for name, newer in self.commits.items()}
            mixed = {name: new if old == new else f"{old}+{new}" for name, (old, new) in both.items()}
            context = self._trace.context(self.name, mixed)
        tail = b',"timing":' + msgspec.json.encode(timing) + f',{context}{request_id}"}}}}'.encode()
        return Answer(b'{"response":' + response + told + tail, commits=mixed)

    def _input(self, sent: Any) -> dict[str, Any]:
        values = self.record.convert(sent)
        missing = [p.name for p, v in zip(self.entry.input, values, strict=True) if p.required and v is UNSET]
        if missing:
            raise RequestError(400, "MissingParameters", f"parameters are missing: {', '.join(missing)}")
        # As they were sent: what they are handed on to reads them again.
        return {p.name: sent.get(p.name, p.default) for p in self.entry.input}


def load_compose(entry: ComposeEntry, folder: Path, trace: Trace) -> Compose:  # noqa: ARG001  the same for every kind
    """The composition; what it calls is set when all endpoints are loaded."""
    return Compose(entry, trace)


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────


def _step(said: Mapping[str, Any], endpoints: Endpoints) -> Step:
    """A declared step as what carries it out and puts its value among the others."""
    name = said["name"]
    if "value" in said:
        work: Step = _valued(said)
    elif "parallel" in said:
        work = _beside(
            [_step(one, endpoints) for one in said["parallel"]], [one["name"] for one in said["parallel"]]
        )
    elif "switch" in said:
        work = _switch(said["switch"], endpoints)
    elif "map" in said:
        work = _mapped(said, _Call(said, endpoints))
    else:
        work = _Call(said, endpoints)

    async def carried_out(values: dict[str, Any]) -> Any:
        try:
            values[name] = value = await work(values)
        except RequestError as error:
            if error.message.startswith("step '"):
                raise
            message = f"step '{name}': {error.message}"
            raise RequestError(error.status, error.error_type, message, error.advice) from None
        return value

    return carried_out


def _sequence(steps: Sequence[Step]) -> Step:
    async def carried_out(values: dict[str, Any]) -> Any:
        value = None
        for step in steps:
            value = await step(values)
        return value

    return carried_out


def _valued(said: Mapping[str, Any]) -> Step:
    made = made_of(said["value"])

    async def carried_out(values: dict[str, Any]) -> Any:
        return made(values)

    return carried_out


def _beside(steps: Sequence[Step], names: Sequence[str]) -> Step:
    async def carried_out(values: dict[str, Any]) -> Any:
        # The first that fails ends the others.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step(values)) for step in steps]
        return {name: task.result() for name, task in zip(names, tasks, strict=True)}

    async def first_error(values: dict[str, Any]) -> Any:
        try:
            return await carried_out(values)
        except* RequestError as errors:
            error = errors.exceptions[0]
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
        raise error

    return first_error


def _switch(branches: Sequence[Mapping[str, Any]], endpoints: Endpoints) -> Step:
    ways = [
        (
            condition_of(one["when"]) if "when" in one else None,
            _sequence([_step(step, endpoints) for step in one["steps"]]),
        )
        for one in branches
    ]

    async def carried_out(values: dict[str, Any]) -> Any:
        for holds, steps in ways:
            if holds is None or holds(values):
                return await steps(dict(values))  # what is inside stays inside
        return None

    return carried_out


def _mapped(said: Mapping[str, Any], call: _Call) -> Step:
    items, word = made_of(said["map"]), said.get("as", "item")
    most = said.get("most", USUAL_ITEMS)

    async def carried_out(values: dict[str, Any]) -> Any:
        found = list_of(items(values), said["map"], most)
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(item: Any) -> Any:
            async with turn:
                return await call({**values, word: item})

        return list(await asyncio.gather(*map(one, found)))

    return carried_out


class _Call:
    """A call of another endpoint, with its patience, its second chances and what it remembers."""

    def __init__(self, said: Mapping[str, Any], endpoints: Endpoints) -> None:
        self._name, self._target = said["name"], said["call"]
        self._endpoints = endpoints
        self._sent = made_of(said.get("with", {}))
        self._timeout: float | None = said.get("timeout")
        self._tries = 1 + int(said.get("retry", 0))
        self._fallback = made_of(said["fallback"]) if "fallback" in said else None
        self._seconds: float = said.get("cache", 0.0)
        self._cached: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()

    async def __call__(self, values: dict[str, Any]) -> Any:
        start = perf_counter_ns()
        told: dict[str, Any] = {"name": self._name, "status": 200, "microseconds": 0}
        try:
            return await self._value(values, told)
        finally:
            told["microseconds"] = (perf_counter_ns() - start) // 1000
            _REQUEST.get().told.append(told)

    async def _value(self, values: dict[str, Any], told: dict[str, Any]) -> Any:
        endpoint = self._endpoints()[self._target]
        body = msgspec.json.encode(_wrapped(endpoint, self._sent(values)))
        # What was answered from another commit is not taken again.
        key = body + repr(endpoint.commits).encode() if self._seconds else body
        if self._seconds and (known := self._known(key)) is not UNSET:
            told["cached"] = True
            return known
        for attempt in range(1, self._tries + 1):
            try:
                value = await self._asked(endpoint, body)
            except RequestError as error:
                told |= {"status": error.status, "error": error.error_type, "attempts": attempt}
                if attempt < self._tries and error.status >= 500:
                    await asyncio.sleep(_AGAIN_SECONDS * 2 ** (attempt - 1))
                    continue
                if self._fallback is None:
                    raise
                told["fallback"] = True
                return self._fallback(values)
            told["status"] = 200
            if self._seconds:
                self._remember(key, value)
            return value
        raise AssertionError("a call has an answer or an error")

    async def _asked(self, endpoint: Endpoint, body: bytes) -> Any:
        request = _REQUEST.get()
        action = endpoint.actions["rows" if endpoint.kind == "query" else endpoint.main]
        if isinstance(action, Headed):
            waited: Awaitable[Answer] = action.call(body, request.id, request.headers)
        else:
            given = _at_once(action, body, request.id)
            if isinstance(given, bytes):
                return _main_part(endpoint, given)
            waited = given
        try:
            answer = await asyncio.wait_for(waited, self._timeout)
        except TimeoutError:
            message = f"'{self._target}' took longer than {self._timeout:g} seconds"
            raise RequestError(504, "TookTooLong", message) from None
        return _main_part(endpoint, answer.body)

    def _known(self, body: bytes) -> Any:
        until, value = self._cached.get(body, (0.0, UNSET))
        return value if until > time.monotonic() else UNSET

    def _remember(self, body: bytes, value: Any) -> None:
        self._cached[body] = (time.monotonic() + self._seconds, value)
        self._cached.move_to_end(body)
        if len(self._cached) > _CACHED:
            self._cached.popitem(last=False)


def _at_once(action: Callable[[bytes, str], Given], body: bytes, request_id: str) -> Given:
    try:
        return action(body, request_id)
    except RequestError:
        raise
    except Exception as exc:
        _log.exception("request %s failed", request_id)
        raise RequestError(500, "EvaluationFailed", "the endpoint failed on this request") from exc


def called(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The endpoints that steps call."""
    for step in steps:
        if "call" in step:
            yield step["call"]
        yield from called(step.get("parallel", ()))
        for branch in step.get("switch", ()):
            yield from called(branch["steps"])


def _wrapped(endpoint: Endpoint, sent: Any) -> Any:
    """The body of a request with these values."""
    word = {"predict": "features", "lookup": "data"}.get(endpoint.kind)
    return {word: sent} if word else sent


def _main_part(endpoint: Endpoint, answer: bytes) -> Any:
    """What later steps see of an answer."""
    read = msgspec.json.decode(answer)
    match endpoint.kind:
        case "predict":
            return read["result"]
        case "lookup":
            (found,) = read["results"]
            return found if "rows" in found else found["data"]
        case "query":
            names = [column["name"] for column in read["columns"]]
            return [dict(zip(names, row, strict=True)) for row in read["rows"]]
    return read["response"]
