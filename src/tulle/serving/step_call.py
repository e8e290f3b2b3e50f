"""A step of a composition that calls something: with its patience, its second chances, and what it remembers.

A value that is there at once is given at once; only what waits is awaited, since a composition of what answers in
microseconds must not cost more than that. Knows nothing of what is called, nor of other steps.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from time import perf_counter_ns
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from msgspec import UNSET

from tulle.serving.asked import Asked
from tulle.serving.failing import Failing
from tulle.serving.kept import Kept
from tulle.serving.path_values import made_of
from tulle.serving.request import RequestError
from tulle.serving.step_form import Said, http_parts

_AGAIN_SECONDS = 0.05  # before the first retry; twice as long before each further one

Values = dict[str, Any]
# Puts its value among the others; what is not done at once is awaited.
Step = Callable[[Values, Asked], Awaitable[None] | None]


class Target(Protocol):
    """What a step calls."""

    name: str
    may_repeat: bool  # whether it may be called again after it has answered

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


TargetOf = Callable[[Said, bool], Target]  # of a step; and whether its answer is kept for others


class Call:
    """A call, with its patience, its second chances and what it remembers."""

    def __init__(self, said: Said, target: Target, word: str) -> None:
        """`word` is what it is called where steps are told of."""
        self._name, self._word, self._target = said["name"], word.encode(), target
        self._sent = made_of(http_parts(said) if "http" in said else said.get("with", {}))
        self._timeout: float | None = said.get("timeout")
        self._tries = 1 + int(said.get("retry", 0))
        self._failing = Failing(said, word)
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
            return self._value_later(raising(error), this)
        self._tell_failure(this, error, 1)
        return self._failing.value(error, this.values, this.asked, this.item)

    async def _value_later(self, waited: Coroutine[Any, Any, Any], this: _This) -> Any:
        asked = this.asked
        for attempt in range(1, self._tries + 1):
            try:
                value = await self._in_turn(waited, asked)
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
            await a_moment(attempt)
            waited = self._asked(this.content, asked)
        raise AssertionError("a call has an answer or an error")

    async def _in_turn(self, waited: Coroutine[Any, Any, Any], asked: Asked) -> Any:
        """What is awaited, while no more calls of the request are under way than there may be."""
        if asked.turn is None:
            return await in_time(waited, self._timeout, self._target.name)
        try:
            await asked.turn.acquire()
        except BaseException:
            drop(waited)
            raise
        try:
            return await in_time(waited, self._timeout, self._target.name)
        finally:
            asked.turn.release()

    async def _asked(self, content: bytes, asked: Asked) -> Any:
        given = self._target.ask(content, asked)
        return await given if type(given) is CoroutineType else given

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


async def raising(error: RequestError) -> Any:
    """A failure that is known already, where one is awaited."""
    raise error


async def a_moment(attempt: int) -> None:
    """The pause after an attempt that failed, of which this is the how manieth."""
    await asyncio.sleep(_AGAIN_SECONDS * 2 ** (attempt - 1))


def drop(waited: Any) -> None:
    """End what has not begun, and what it would have awaited; what has begun is left alone."""
    if isinstance(waited, CoroutineType):
        if inspect.getcoroutinestate(waited) == inspect.CORO_CREATED:
            inside = list(inspect.getcoroutinelocals(waited).values())
            waited.close()
            drop(inside)
    elif isinstance(waited, list):
        for one in waited:
            drop(one)


async def in_time(waited: Awaitable[Any], seconds: float | None, what: str) -> Any:
    """What is awaited. RequestError when it takes longer."""
    if seconds is None:
        return await waited
    try:
        async with asyncio.timeout(seconds):  # which begins at once, so that nothing is left that never began
            return await waited
    except TimeoutError:
        message = f"'{what}' took longer than {seconds:g} seconds"
        raise RequestError(504, "TookTooLong", message) from None
