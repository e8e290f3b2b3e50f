"""Compositions: steps that call other endpoints of the same service, one answer made of theirs.

Calls stay in the process: an endpoint is called as a request would call it, without the way through the gateway. Knows
nothing of what the endpoints do.
"""

from __future__ import annotations

from asyncio import Semaphore
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from tulle.serving.asked import MOST_CALLS, Asked, is_told_once
from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import Answer, Endpoint, Headed, Header, Query, Trace
from tulle.serving.inner_call import InnerCall
from tulle.serving.outer_call import HttpCall, ServiceCall
from tulle.serving.outside import Door
from tulle.serving.path_values import made_of
from tulle.serving.query import record_of
from tulle.serving.query_declared import QueryParameter
from tulle.serving.request import DECODE_ERRORS, UNWRITABLE, RequestError, parse_json
from tulle.serving.step_call import Step, Target
from tulle.serving.step_form import Said, calls_at_once, every
from tulle.serving.steps import sequence

# The end of a request header: whatever it holds, the answer tells of every step. Of `tulle-steps` and `x-tulle-steps`
# the gateway lets the first one through.
TRACE = b"tulle-steps"
_encode = msgspec.json.Encoder().encode


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
    callees: Mapping[str, str] = field(default_factory=dict)  # service/endpoint that it calls → its kind


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
        self._steps: Step = _not_bound
        self._door = Door(None)
        # Where everything must be sent, a body that fits is taken as it is.
        is_whole = bool(entry.input) and all(p.required for p in entry.input)
        self._decode = msgspec.json.Decoder(self.record.whole()).decode if is_whole else None
        self._output = made_of(entry.output)
        self._trace = trace
        self._context = b""
        self._by_name = not is_told_once(entry.steps)
        self._has_turns = calls_at_once(entry.steps) > MOST_CALLS

    def bind(
        self, endpoints: Mapping[str, Endpoint], door: Door | None = None, *, anew: bool = False
    ) -> None:
        """Tell it the endpoints of the service, when all are loaded, and again when what they answer from is newer;
        compositions before it are bound. `door`: the way out, for one that calls what is elsewhere; `anew`: they are
        others than before."""
        self._door = door or self._door
        is_first, self.endpoints = anew or not self.endpoints, endpoints
        commits = [endpoints[name].commits for name in called(self.entry.steps)]
        self.commits = dict(sorted((k, v) for each in commits for k, v in each.items()))
        self._context = self._trace.context(self.name, self.commits).encode()
        if is_first:
            self._steps = sequence(self.entry.steps, self._target)

    def _target(self, said: Said, is_kept: bool) -> Target:
        seconds = said.get("timeout")
        if "http" in said:
            return HttpCall(said["http"], self._door, seconds)
        if said["call"] in self.entry.callees:
            return ServiceCall(said["call"], self.entry.callees[said["call"]], self._door, seconds)
        return InnerCall(self.endpoints[said["call"]], for_all=is_kept)

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
        values: dict[str, Any] = {"input": self._input(body)}
        asked = Asked(request_id, headers, Semaphore(MOST_CALLS) if self._has_turns else None)
        context, commits, mixed = self._context, self.commits, None
        waited = self._steps(values, asked)
        if waited is not None:
            await waited
        try:
            response = _encode(self._output(values))
        except UNWRITABLE as exc:
            raise RequestError(422, "NotJson", f"the answer cannot be written as JSON: {exc}") from None
        failed = b',"failed":' + _encode(asked.failed) if asked.failed else b""
        for name, _ in headers:
            if name.endswith(TRACE):
                failed += b',"steps":' + _encode(asked.steps())
                break
        if commits is not self.commits:  # something newer came while it ran: steps may have read either
            both = {name: (commits.get(name, newer), newer) for name, newer in self.commits.items()}
            mixed = {name: new if old == new else f"{old}+{new}" for name, (old, new) in both.items()}
            context = self._trace.context(self.name, mixed).encode()
        total = (perf_counter_ns() - start) // 1000
        return Answer(
            b'{"response":%b%b,"timing":{%b"total":%d},%b%b"}}'
            % (response, failed, asked.timing(by_name=self._by_name), total, context, request_id.encode()),
            commits=mixed,
        )

    def _input(self, body: bytes) -> Any:
        """What was sent, as it was sent: what it is handed on to reads it again."""
        if self._decode is not None:
            try:
                self._decode(body)
                return msgspec.json.decode(body)
            except DECODE_ERRORS:
                pass  # the slow way tells what is wrong, or finds that it may be
        sent = parse_json(body)
        values = self.record.convert(sent)
        missing = [p.name for p, v in zip(self.entry.input, values, strict=True) if p.required and v is UNSET]
        if missing:
            raise RequestError(400, "MissingParameters", f"parameters are missing: {', '.join(missing)}")
        return {p.name: sent.get(p.name, p.default) for p in self.entry.input}


def _not_bound(_values: Any, _asked: Asked) -> None:
    raise RequestError(503, "NotReady", "the composition is not ready yet")


def load_compose(entry: ComposeEntry, folder: Path, trace: Trace) -> Compose:  # noqa: ARG001  the same for every kind
    """The composition; what it calls is set when all endpoints are loaded."""
    return Compose(entry, trace)


def called(steps: Sequence[Said]) -> Iterator[str]:
    """The endpoints of this service that steps call."""
    for _, step in every(steps):
        if "call" in step and "/" not in step["call"]:
            yield step["call"]
