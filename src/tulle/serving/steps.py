"""Carrying out the steps of a composition: in order, beside one another, by case, for each entry of a list.

A step that has its value at once is a plain call; only what waits is awaited, since a composition of what answers in
microseconds must not cost more than that. Knows nothing of what is called, nor of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from msgspec import UNSET

from tulle.serving.asked import Asked
from tulle.serving.failing import Failing
from tulle.serving.kept import Kept
from tulle.serving.path_values import condition_of, list_of, made_of
from tulle.serving.request import RequestError

USUAL_ITEMS = 100
AT_ONCE = 8  # entries of a `map`
_AGAIN_SECONDS = 0.05  # before the first retry; twice as long before each further one


Values = dict[str, Any]
# Puts its value among the others; what is not done at once is awaited.
Step = Callable[[Values, Asked], Awaitable[None] | None]


class Target(Protocol):
    """What a step calls."""

    name: str

    def content(self, sent: Any) -> bytes:
        """What is sent."""

    def key(self, content: bytes) -> bytes:
        """What tells calls apart whose answers may differ: what is sent, and what it is answered from."""

    @property
    def ask(self) -> Callable[[bytes, Asked], Any]:
        """The value of the answer, or a coroutine that gives it. RequestError."""

    def may_retry(self, error: RequestError) -> bool:
        """Whether a call that failed so may be made again."""


class Telling(NamedTuple):
    """A value, and what the trace tells of how it was come by."""

    value: Any
    more: dict[str, Any]


TargetOf = Callable[[Mapping[str, Any]], Target]  # of a step


def sequence(said: Sequence[Mapping[str, Any]], target_of: TargetOf) -> Step:
    """Declared steps as what carries them out one after the other."""
    steps = [_step(one, target_of) for one in said]

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        for number, step in enumerate(steps):
            waited = step(values, asked)
            if waited is not None:
                return _rest(waited, steps[number + 1 :], values, asked)
        return None

    return carried_out


async def _rest(waited: Awaitable[None], steps: Sequence[Step], values: Values, asked: Asked) -> None:
    await waited
    for step in steps:
        further = step(values, asked)
        if further is not None:
            await further


def _step(said: Mapping[str, Any], target_of: TargetOf) -> Step:
    name = said["name"]
    if "value" in said:
        made = made_of(said["value"])

        def work(values: Values, _asked: Asked) -> Awaitable[None] | None:
            values[name] = made(values)
            return None

        return _guarded(said, work)
    if "parallel" in said:
        return _guarded(said, _beside(name, said["parallel"], target_of))
    if "switch" in said:
        return _guarded(said, _switch(name, said["switch"], target_of))
    call = _Call(said, target_of(said))
    return _mapped(said, call) if "map" in said else call.step()


def _guarded(said: Mapping[str, Any], work: Step) -> Step:
    """A step that calls nothing itself, its errors named; what becomes of them as it declares."""
    failing = Failing(said)

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        try:
            waited = work(values, asked)
        except RequestError as error:
            failing.put(error, values, asked)
            return None
        return waited if waited is None else later(waited, values, asked)

    async def later(waited: Awaitable[None], values: Values, asked: Asked) -> None:
        try:
            await waited
        except RequestError as error:
            failing.put(error, values, asked)

    return carried_out


def _beside(name: str, said: Sequence[Mapping[str, Any]], target_of: TargetOf) -> Step:
    steps, names = [_step(one, target_of) for one in said], [one["name"] for one in said]

    def gather(values: Values) -> None:
        values[name] = {one: values[one] for one in names if one in values}

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        waiting: list[Awaitable[None]] = []
        try:
            for step in steps:
                waited = step(values, asked)
                if waited is not None:
                    waiting.append(waited)  # those made before an error are closed
        except BaseException:
            for one in waiting:
                if isinstance(one, Coroutine):
                    one.close()
            raise
        if waiting:
            return later(waiting, values)
        gather(values)
        return None

    async def later(waiting: Sequence[Awaitable[None]], values: Values) -> None:
        await _all_of(waiting)
        gather(values)

    return carried_out


async def _all_of(waiting: Iterable[Awaitable[Any]]) -> list[Any]:
    """What all give, when they are done; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_awaited(one)) for one in waiting]
    except ExceptionGroup as errors:
        raise _first(errors) from None
    return [task.result() for task in tasks]


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """The error to tell of several: one that nobody expects before those that are a request's."""
    _, others = errors.split(RequestError)
    error: Exception = others or errors
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _awaited(one: Awaitable[Any]) -> Any:
    return await one


def _switch(name: str, said: Sequence[Mapping[str, Any]], target_of: TargetOf) -> Step:
    ways = [
        (
            condition_of(one["when"]) if "when" in one else None,
            sequence(one["steps"], target_of),
            one["steps"][-1]["name"],
        )
        for one in said
    ]

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        for holds, steps, last in ways:
            if holds is None or holds(values):
                inner = dict(values)  # what is inside stays inside
                waited = steps(inner, asked)
                if waited is not None:
                    return later(waited, values, inner, last)
                values[name] = inner.get(last)
                return None
        values[name] = None
        return None

    async def later(waited: Awaitable[None], values: Values, inner: Values, last: str) -> None:
        await waited
        values[name] = inner.get(last)

    return carried_out


def _mapped(said: Mapping[str, Any], call: _Call) -> Step:
    items, name, word = made_of(said["map"]), said["name"], said.get("as", "item")
    most = said.get("most", USUAL_ITEMS)

    async def carried_out(values: Values, asked: Asked) -> None:
        found = list_of(items(values), said["map"], most)
        turn = asyncio.Semaphore(AT_ONCE)

        async def later(number: int, item: Any) -> Any:
            async with turn:
                given = call.value({**values, word: item}, asked, number)
                return await given if type(given) is CoroutineType else given

        if call.waits:
            given = await _all_of(later(number, item) for number, item in enumerate(found))
        else:
            given = [await later(number, item) for number, item in enumerate(found)]
        values[name] = [value for value in given if value is not UNSET]

    return _guarded({"name": name}, carried_out)


def http_parts(said: Mapping[str, Any]) -> dict[str, Any]:
    """What of a step's HTTP request is made of values; the rest is as it is declared."""
    http = said.get("http", {})
    return {part: http[part] for part in ("path", "query", "headers", "body") if part in http}


class _Call:
    """A call, with its patience, its second chances and what it remembers."""

    def __init__(self, said: Mapping[str, Any], target: Target) -> None:
        self._name, self._word, self._target = said["name"], said["name"].encode(), target
        self._sent = made_of(http_parts(said) if "http" in said else said.get("with", {}))
        self._timeout: float | None = said.get("timeout")
        self._tries = 1 + int(said.get("retry", 0))
        self._failing = Failing(said)
        self._kept = Kept(said.get("cache", 0.0))
        self.waits = bool(getattr(target, "waits", True))

    def step(self) -> Step:
        """What calls and puts the value among the others, straight on unless answers are kept."""
        if self._kept.seconds:
            return self.carried_out
        name, word, sent = self._name, self._word, self._sent
        content_of, ask = self._target.content, self._target.ask

        def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
            start, content = perf_counter_ns(), b""
            try:
                content = content_of(sent(values))
                value = ask(content, asked)
            except RequestError as error:
                return self._put(self._failed(error, _This(values, asked, start, content=content)), values)
            if type(value) is CoroutineType:
                this = _This(values, asked, start, content=content)
                return self._put_later(self._value_later(value, this), values)
            asked.told.append((word, perf_counter_ns() - start, None))
            values[name] = value
            return None

        return carried_out

    def carried_out(self, values: Values, asked: Asked) -> Awaitable[None] | None:
        """Call, and put the value of the answer among the others."""
        return self._put(self.value(values, asked), values)

    def _put(self, value: Any, values: Values) -> Awaitable[None] | None:
        if type(value) is CoroutineType:
            return self._put_later(value, values)
        if value is not UNSET:
            values[self._name] = value
        return None

    async def _put_later(self, coroutine: Awaitable[Any], values: Values) -> None:
        value = await coroutine
        if value is not UNSET:
            values[self._name] = value

    def value(self, values: Values, asked: Asked, item: int | None = None) -> Any:
        """The value, or a coroutine that gives it; UNSET where it failed and is left out. RequestError."""
        this = _This(values, asked, perf_counter_ns(), item)
        try:
            this.content = self._target.content(self._sent(values))
            if self._kept.seconds:
                this.key = self._target.key(this.content)
                if (known := self._kept.get(this.key)) is not UNSET:
                    asked.told.append((self._word, perf_counter_ns() - this.start, {"cached": True}))
                    return known
            value = self._target.ask(this.content, asked)
        except RequestError as error:
            return self._failed(error, this)
        if type(value) is CoroutineType:
            return self._value_later(value, this)
        self._kept.put(this.key, value)
        asked.told.append((self._word, perf_counter_ns() - this.start, None))
        return value

    def _failed(self, error: RequestError, this: _This) -> Any:
        if self._tries > 1 and this.content and self._target.may_retry(error):
            return self._value_later(_raising(error), this)
        self._tell_failure(this, error, 1)
        return self._failing.value(error, this.values, this.asked, this.item)

    async def _value_later(self, waited: Awaitable[Any], this: _This) -> Any:
        asked = this.asked
        for attempt in range(1, self._tries + 1):
            try:
                value = await self._in_time(waited)
            except RequestError as error:
                if attempt == self._tries or not self._target.may_retry(error):
                    self._tell_failure(this, error, attempt)
                    return self._failing.value(error, this.values, asked, this.item)
            else:
                more: dict[str, Any] = {} if attempt == 1 else {"attempts": attempt - 1}  # that failed
                if isinstance(value, Telling):
                    more |= value.more
                    value = value.value
                asked.told.append((self._word, perf_counter_ns() - this.start, more))
                self._kept.put(this.key, value)
                return value
            await asyncio.sleep(_AGAIN_SECONDS * 2 ** (attempt - 1))
            waited = self._asked(this.content, asked)
        raise AssertionError("a call has an answer or an error")

    async def _asked(self, content: bytes, asked: Asked) -> Any:
        given = self._target.ask(content, asked)
        return await given if type(given) is CoroutineType else given

    async def _in_time(self, waited: Awaitable[Any]) -> Any:
        if self._timeout is None:
            return await waited
        try:
            return await asyncio.wait_for(waited, self._timeout)
        except TimeoutError:
            message = f"'{self._target.name}' took longer than {self._timeout:g} seconds"
            raise RequestError(504, "TookTooLong", message) from None

    def _tell_failure(self, this: _This, error: RequestError, attempts: int) -> None:
        more = {"status": error.status, "error": error.error_type, "attempts": attempts}
        if self._failing.fallback is not None:
            more["fallback"] = True
        this.asked.told.append((self._word, perf_counter_ns() - this.start, more))


@dataclass(slots=True)
class _This:
    """One call that is under way. What it was answered from is noted before it is asked."""

    values: Values
    asked: Asked
    start: int
    item: int | None = None
    content: bytes = b""
    key: bytes = b""


async def _raising(error: RequestError) -> Any:
    raise error
