"""Functions: arguments in by name, what a Python function of the product returns out.

The function runs in a process of its own (`pool`): the worker checks the arguments and never imports the file. What it
takes was read from its signature when the package was made (`function_code`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import msgspec

from tulle.errors import did_you_mean
from tulle.serving.bounds import Bounds
from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import Answer, Headed, Query, Trace
from tulle.serving.function_code import Asked, Done, Parameter
from tulle.serving.pool import pool_of
from tulle.serving.request import MOST_TOLD, RequestError, all_told, parse_json, shown

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "an object",
}
_WITHOUT_BODY = {204, 205, 304}  # as HTTP has it
# Headers a function is not told: credentials end at the gateway, the rest is ours.
_HIDDEN = (
    b"authorization",
    b"cookie",
    b"proxy-authorization",
    b"x-api-key",
    b"client_secret",
    b"client-secret",
)


@dataclass(frozen=True, slots=True)
class FunctionEntry:
    """What a package's manifest says of a function endpoint."""

    name: str
    file: str  # in the package
    function: str
    parameters: tuple[Parameter, ...]
    is_open: bool = False  # takes further arguments of any name
    bounds: Bounds = Bounds()
    again: bool = False
    commits: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    type: Literal["function"] = "function"
    test_queries: tuple[TestQuery, ...] = ()
    probe: Mapping[str, Any] | None = None  # None: there is no call that is sure to be answered


class Function:
    """A function endpoint."""

    kind = "function"
    main = "run"

    def __init__(self, entry: FunctionEntry, folder: Path, trace: Trace) -> None:
        self.name = entry.name
        self.commits = entry.commits
        self.entry = entry
        self._generation = trace.generation
        self.pool = pool_of(folder, entry.name, entry.bounds)
        self._known = {parameter.name: parameter for parameter in entry.parameters}
        self._context = trace.context(entry.name, entry.commits)

    @property
    def actions(self) -> Mapping[str, Headed]:
        """run"""
        return {"run": Headed(self.run)}

    async def ready(self) -> None:
        """Start its processes. RequestError when they cannot be."""
        await self.pool.ready()

    def close(self) -> None:
        """End its processes."""
        self.pool.close()

    @property
    def queries(self) -> Mapping[str, Query]:
        """Functions are asked by POST only: nobody knows what they do."""
        return {}

    async def run(self, body: bytes, request_id: str, headers: Sequence[tuple[bytes, bytes]]) -> Answer:
        """Call the function with the members of the body, {"name": value, …}."""
        start = perf_counter_ns()
        self._check(parse_json(body))
        told = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers if k not in _HIDDEN}
        asked = Asked(body if body.strip() else b"{}", request_id, self.name, self._generation, told)
        done = msgspec.msgpack.decode(
            await self.pool.ask(msgspec.msgpack.encode(asked), again=self.entry.again), type=Done
        )
        if done.error_type:
            raise RequestError(done.status, done.error_type, done.message, done.detail)
        if done.content_type:
            body = b"" if done.status in _WITHOUT_BODY else done.body
            return Answer(body, done.status, done.content_type, done.headers)
        wait = (perf_counter_ns() - start) // 1000 - done.microseconds
        timing = f'"timing":{{"wait":{wait},"functionInternal":{done.microseconds}}}'
        return Answer(b'{"response":' + done.body + f',{timing},{self._context}{request_id}"}}}}'.encode())

    def _check(self, arguments: Any) -> None:
        if not isinstance(arguments, dict):
            raise RequestError(
                400, "InvalidRequest", f"the body is {shown(arguments)}, expected an object of arguments"
            )
        problems = []
        for name, value in arguments.items():
            parameter = self._known.get(name)
            if parameter is not None:
                problems += _problem(parameter, value)
            elif not self.entry.is_open:
                hint = did_you_mean(name, self._known) if len(problems) < MOST_TOLD else None
                problems.append(f"unknown argument '{name[:60]}'" + (f" ({hint})" if hint else ""))
        missing = [p.name for p in self.entry.parameters if p.required and p.name not in arguments]
        problems += [f"argument '{name}' is missing" for name in missing]
        if problems:
            known = ", ".join(self._known) or "none"
            raise RequestError(400, "InvalidArguments", all_told(problems), f"Its arguments: {known}")


def _problem(parameter: Parameter, value: Any) -> list[str]:
    if not parameter.type or (value is None and parameter.nullable):
        return []
    fits = isinstance(value, _KINDS[parameter.type])
    if fits and (not isinstance(value, bool) or parameter.type == "bool"):
        return []
    return [f"argument '{parameter.name}' is {shown(value)}, expected {_WORDS[parameter.type]}"]


def load_function(entry: FunctionEntry, folder: Path, trace: Trace) -> Function:
    """The endpoint with its processes, none of which is started yet."""
    return Function(entry, folder, trace)
