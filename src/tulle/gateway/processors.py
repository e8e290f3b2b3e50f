"""The processors of one gateway, from outside: what they would refuse, and what they have taken.

A plan is checked before it is published, by the code that would carry it out. A processor that does not run takes it
when it starts; until then requests that need it end with 503. Knows nothing of Envoy's files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tulle.errors import Broken, Invalid, Unavailable
from tulle.gateway.admin import Admin
from tulle.gateway.envoy_values import processor_socket
from tulle.gateway.processing.plan import ChainPlan

CONFIRM_SECONDS: Final = 8.0
_MOST_KNOWN: Final = 20_000  # chains that are known to be fine


class State(msgspec.Struct, frozen=True):
    """What a processor tells of itself: the plan in force, how many it refused, and why the last one."""

    version: str
    refused: int
    problem: str
    pid: int


class Processors:
    """So many processors, in the folder that they run in."""

    def __init__(self, folder: Path, count: int) -> None:
        self._doors = [Admin(folder, processor_socket(number)) for number in range(count)]
        self._fine: set[str] = set()

    def check(self, chains: Sequence[ChainPlan]) -> None:
        """Broken, naming the service, when a chain cannot be carried out."""
        unknown = {chain.key: chain for chain in chains if chain.key not in self._fine}
        if not unknown:
            return
        from tulle.gateway.processing import kinds  # noqa: PLC0415  heavy, and few services have steps

        for key, chain in unknown.items():
            try:
                kinds.check([chain])
            except Invalid as exc:
                raise Broken(
                    f"the processor refuses the policies of {exc.message}",
                    hint=exc.hint or "nothing was published; the last good configuration stays in force",
                ) from exc
            self._fine.add(key)
        if len(self._fine) > _MOST_KNOWN:
            self._fine = {chain.key for chain in chains}

    def states(self) -> list[State | None]:
        """What each says now, None of one that does not run."""
        return [_state(door) for door in self._doors]

    def confirm(self, content: bytes, *, wait: float) -> None:
        """Wait until those that run have taken the plan that was just written.

        Where it has steps, one that does not run is waited for, so many seconds: it is started because of the plan.
        Broken when one refuses it, Unavailable when one does not take it in time.
        """
        document = msgspec.json.decode(content)
        version = document["version_info"]
        began = time.monotonic()
        patience = wait if document["resources"] else 0.0
        for door in self._doors:
            while True:
                state, waited = _state(door), time.monotonic() - began
                if state is None and waited >= patience:
                    break  # it takes the plan when it starts
                if state is not None and state.version == version:
                    break
                if state is not None and state.problem:
                    raise Broken(
                        f"the gateway's processor refused its new plan: {state.problem}",
                        hint="the last good configuration stays in force; `tulle logs processor` shows more",
                    )
                if waited > CONFIRM_SECONDS:
                    raise Unavailable(
                        f"the gateway's processor has not taken its new plan after {CONFIRM_SECONDS:.0f} s",
                        hint="the last good configuration stays in force; `tulle logs processor` shows more",
                    )
                time.sleep(0.02)


def _state(door: Admin) -> State | None:
    try:
        return msgspec.json.decode(door.get("/"), type=State)
    except (Unavailable, msgspec.MsgspecError):
        return None
