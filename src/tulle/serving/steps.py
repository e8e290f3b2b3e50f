"""Carrying out the steps of a composition: in order, beside one another, by case, as one, for each entry of a list.

A step that has its value at once is a plain call; only what waits is awaited, since a composition of what answers in
microseconds must not cost more than that. Knows nothing of what is called, nor of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from types import CoroutineType
from typing import Any

from msgspec import UNSET

from tulle.serving.asked import Asked, inside_of, is_one
from tulle.serving.failing import Failing
from tulle.serving.path_values import condition_of, list_of, made_of
from tulle.serving.request import RequestError
from tulle.serving.step_call import Call, Step, Target, TargetOf, Values, drop
from tulle.serving.step_form import AT_ONCE, USUAL_ITEMS, Said
from tulle.serving.step_group import Group


@dataclass(frozen=True, slots=True)
class _Making:
    """What steps are made with; `before` is what their words begin with where they are told of."""

    target_of: TargetOf
    before: str = ""
    is_kept: bool = False  # what they make is taken again for others
    targets: list[Target] = field(default_factory=list)  # that have been made


def sequence(said: Sequence[Said], target_of: TargetOf) -> Step:
    """Declared steps as what carries them out one after the other."""
    return _sequence(said, _Making(target_of))


def _sequence(said: Sequence[Said], making: _Making) -> Step:
    steps = [_step(one, making) for one in said]

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


def _step(said: Said, making: _Making) -> Step:
    word = making.before + said["name"]
    if "call" in said or "http" in said:
        target = making.target_of(said, making.is_kept or "cache" in said)
        making.targets.append(target)
        call = Call(said, target, word)
        return _mapped(said, call, word) if "map" in said else call.step()
    if not is_one(said):
        return _guarded(said, _work(said, making), word)
    inner = replace(making, is_kept=making.is_kept or "cache" in said, targets=[])
    group = Group(said, _work(said, inner), inner.targets, word)
    making.targets.extend(inner.targets)
    return _mapped(said, group, word) if "map" in said else group.carried_out


def _work(said: Said, making: _Making) -> Step:
    """What puts the value of a step that calls nothing itself among the others."""
    name = said["name"]
    making = replace(making, before=inside_of(said, making.before))
    if "steps" in said:
        return _within(name, said["steps"], making)
    if "parallel" in said:
        return _beside(name, said["parallel"], making)
    if "switch" in said:
        return _switch(name, said["switch"], making)
    made = made_of(said["value"])

    def work(values: Values, _asked: Asked) -> Awaitable[None] | None:
        values[name] = made(values)
        return None

    return work


def _within(name: str, said: Sequence[Said], making: _Making) -> Step:
    """Steps as one: what is made in them is known in them alone, but for the last."""
    steps, last = _sequence(said, making), said[-1]["name"]

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        inner = dict(values)
        waited = steps(inner, asked)
        if waited is not None:
            return later(waited, values, inner)
        values[name] = inner.get(last)
        return None

    async def later(waited: Awaitable[None], values: Values, inner: Values) -> None:
        await waited
        values[name] = inner.get(last)

    return carried_out


def _guarded(said: Said, work: Step, word: str) -> Step:
    """A step that calls nothing itself, its errors named; what becomes of them as it declares."""
    failing = Failing(said, word)

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


def _beside(name: str, said: Sequence[Said], making: _Making) -> Step:
    steps, names = [_step(one, making) for one in said], [one["name"] for one in said]

    def gather(values: Values) -> None:
        values[name] = {one: values[one] for one in names if one in values}

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        waiting: list[Awaitable[None]] = []
        try:
            for step in steps:
                waited = step(values, asked)
                if waited is not None:
                    waiting.append(waited)  # those made before an error are dropped
        except BaseException:
            drop(waiting)
            raise
        if waiting:
            return later(waiting, values)
        gather(values)
        return None

    async def later(waiting: list[Awaitable[None]], values: Values) -> None:
        await _all_of(waiting)
        gather(values)

    return carried_out


async def _all_of(waiting: list[Awaitable[Any]]) -> list[Any]:
    """What all give, when they are done; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_awaited(one)) for one in waiting]
    except ExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        drop(waiting)  # what was ended before it began
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


def _switch(name: str, said: Sequence[Said], making: _Making) -> Step:
    ways = [
        (condition_of(one["when"]) if "when" in one else None, _within(name, one["steps"], making))
        for one in said
    ]

    def carried_out(values: Values, asked: Asked) -> Awaitable[None] | None:
        for holds, steps in ways:
            if holds is None or holds(values):
                return steps(values, asked)
        values[name] = None
        return None

    return carried_out


def _mapped(said: Said, one: Call | Group, word: str) -> Step:
    items, name, entry = made_of(said["map"]), said["name"], said.get("as", "item")
    most = said.get("most", USUAL_ITEMS)

    async def carried_out(values: Values, asked: Asked) -> None:
        found = list_of(items(values), said["map"], most)
        asked.enter(len(found))
        turn = asyncio.Semaphore(AT_ONCE)

        async def later(number: int, item: Any) -> Any:
            async with turn:
                given = one.value({**values, entry: item}, asked, number)
                return await given if type(given) is CoroutineType else given

        if one.waits:
            given = await _all_of([later(number, item) for number, item in enumerate(found)])
        else:
            given = [await later(number, item) for number, item in enumerate(found)]
        values[name] = [value for value in given if value is not UNSET]

    return _guarded({"name": name}, carried_out, word)
