"""Steps of a composition that are carried out as one: within a time, again when they fail, kept for a while.

What is made in them is not seen before all of it is there, so that nothing of an attempt that failed is left. Knows
nothing of what steps do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from types import CoroutineType
from typing import Any

import msgspec
from msgspec import UNSET

from tulle.serving.asked import Asked
from tulle.serving.failing import Failing
from tulle.serving.kept import Kept
from tulle.serving.path_values import made_of, paths_of
from tulle.serving.request import UNWRITABLE, RequestError
from tulle.serving.step_call import Step, Target, Values, a_moment, in_time, raising
from tulle.serving.step_form import Said, every, seen, templates

_encode = msgspec.json.Encoder(decimal_format="number").encode


class Group:
    """Steps within one, with their patience, their second chances and what they remember."""

    def __init__(self, said: Said, work: Step, targets: Sequence[Target], word: str) -> None:
        """`work` puts the values of the steps and of the whole among the others; `targets` are all that they call."""
        self._name, self._word, self._work, self._targets = said["name"], word.encode(), work, targets
        self._names = (said["name"], *(seen(said.get("parallel", ())) if "map" not in said else ()))
        self._timeout: float | None = said.get("timeout")
        self._may_repeat = all(target.may_repeat for target in targets)
        self._tries = 1 + int(said.get("retry", 0))
        self._failing = Failing(said, word)
        self._kept = Kept(said.get("cache", 0.0))
        self._takes = [made_of(path) for path in taken_by(said)] if self._kept.seconds else []
        self.waits = any(getattr(target, "waits", True) for target in targets)

    def carried_out(self, values: Values, asked: Asked) -> Awaitable[None] | None:
        """Carry the steps out, and put what is known after them among the values."""
        given = self._given(values, asked, None)
        if type(given) is CoroutineType:
            return _put_later(given, values)
        values.update(given)
        return None

    def value(self, values: Values, asked: Asked, item: int | None = None) -> Any:
        """The value, or a coroutine that gives it; UNSET where it failed and is left out. RequestError."""
        given = self._given(values, asked, item)
        if type(given) is CoroutineType:
            return self._value_later(given)
        return given.get(self._name, UNSET)

    async def _value_later(self, given: Awaitable[Values]) -> Any:
        return (await given).get(self._name, UNSET)

    def _given(self, values: Values, asked: Asked, item: int | None) -> Any:
        """What is known after it by name, or a coroutine that gives that."""
        this = _This(values, asked, perf_counter_ns(), item, asked.replaced)
        if self._kept.seconds:
            this.key = self._key(values)
            if this.key and (known := self._kept.get(this.key)) is not UNSET:
                asked.told.append((self._word, perf_counter_ns() - this.start, {"cached": True}))
                return known
        inner = dict(values)
        try:
            waited = self._work(inner, asked)
        except RequestError as error:
            if self._tries > 1 and self._may_retry(error):
                return self._later(raising(error), inner, this)
            return self._failed(this, error, 1)
        return self._done(this, inner, 1) if waited is None else self._later(waited, inner, this)

    async def _later(self, waited: Awaitable[Any], inner: Values, this: _This) -> Values:
        for attempt in range(1, self._tries + 1):
            try:
                await in_time(waited, self._timeout, self._word.decode())
            except RequestError as error:
                if attempt == self._tries or not self._may_retry(error):
                    return self._failed(this, error, attempt)
            else:
                return self._done(this, inner, attempt)
            await a_moment(attempt)
            inner, this.replaced = dict(this.values), this.asked.replaced
            waited = self._again(inner, this.asked)
        raise AssertionError("steps have a value or an error")

    async def _again(self, inner: Values, asked: Asked) -> None:
        waited = self._work(inner, asked)
        if waited is not None:
            await waited

    def _may_retry(self, error: RequestError) -> bool:
        """Not where the caller is to blame, nor where something within may have been done that must not be twice."""
        return self._may_repeat and error.status >= 500

    def _done(self, this: _This, inner: Values, attempt: int) -> Values:
        given = {name: inner[name] for name in self._names if name in inner}
        if (
            this.key and this.asked.replaced == this.replaced
        ):  # what stands in for a failure is not taken again
            self._kept.put(this.key, given)
        more = {} if attempt == 1 else {"attempts": attempt - 1}  # that failed
        this.asked.told.append((self._word, perf_counter_ns() - this.start, more))
        return given

    def _failed(self, this: _This, error: RequestError, attempts: int) -> Values:
        more = {"status": error.status, "error": error.error_type, "attempts": attempts}
        if self._failing.fallback is not None:
            more["fallback"] = True
        this.asked.told.append((self._word, perf_counter_ns() - this.start, more))
        value = self._failing.value(error, this.values, this.asked, this.item)
        return {} if value is UNSET else {self._name: value}

    def _key(self, values: Values) -> bytes:
        """What tells apart what may have other values: what is taken, and what the calls within are answered from."""
        taken: list[Any] = []
        for made in self._takes:
            try:
                taken.append([made(values)])
            except RequestError:  # not there, which is not the same as null
                taken.append([])
        try:
            return _encode(taken) + b"".join(target.key(b"") for target in self._targets)
        except UNWRITABLE:
            return b""  # nothing is kept


def taken_by(said: Said) -> list[str]:
    """The paths that a step and those within it follow; of what an expression reads the whole value.

    Of names that are given within there is nothing yet when it begins.
    """
    found = {
        path
        for _, step in every([said])
        for part, one in templates(step)
        if part != ("map",) or step is not said  # of a list that it is carried out for, the entry
        for path in paths_of(one)
    }
    return sorted(found)


async def _put_later(given: Awaitable[Values], values: Values) -> None:
    values.update(await given)


@dataclass(slots=True)
class _This:
    """One time that is under way. What it was answered from is noted before anything is asked."""

    values: Values
    asked: Asked
    start: int
    item: int | None
    replaced: int
    key: bytes = b""
