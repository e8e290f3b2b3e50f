"""What the kinds that the processor carries out have in common: settings are read by making the step itself.

So what a list may say and what the processor can do is one thing. Knows no single kind.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.kind import Kind, Settings, Unfit
from tulle.gateway.processing.plan import ChainPlan, StepPlan

_READ_BEFORE: Final = 5000  # settings that are known to be fine; a list is read each time that it is rendered


def step_kind(
    name: str, summary: str, properties: Json, *, example: str, read_as: Settings | None = None, **more: Any
) -> Kind:
    """A kind that is a step of the processor of the same name.

    `read_as` are settings that are there by the time it is carried out, and stand for those until then.
    """

    def read(settings: Settings) -> StepPlan:
        plan = StepPlan(name, name, msgspec.to_builtins(settings))
        tried = StepPlan(name, name, {**(read_as or {}), **plan.settings})
        if (wrong := _wrong(msgspec.json.encode(tried))) is not None:
            message, hint = wrong
            raise Unfit(message, hint=hint)
        return plan

    return Kind(name, summary, properties, "processor", read, step=_step, example=example, **more)


def checked_step(name: str, settings: Settings) -> Json:
    """A step as the processor is told of it. Unfit when it cannot be made."""
    plan = StepPlan(name, name, dict(settings))
    if (wrong := _wrong(msgspec.json.encode(plan))) is not None:
        message, hint = wrong
        raise Unfit(message, hint=hint)
    return _step(plan)


def _step(plan: StepPlan) -> Json:
    return {"kind": plan.kind, "settings": plan.settings}


@lru_cache(maxsize=_READ_BEFORE)
def _wrong(encoded: bytes) -> tuple[str, str | None] | None:
    """What is wrong with a step that is made of this, and what to do; None when it can be made."""
    from tulle.gateway.processing import kinds  # noqa: PLC0415  heavy, and many meshes have no such policy

    plan = msgspec.json.decode(encoded, type=StepPlan)
    try:
        kinds.step_of(plan, ChainPlan("", (plan,)), kinds.Stores.passing()).close()
    except Invalid as exc:
        return exc.message.removeprefix(": "), exc.hint
    return None
