"""What a gateway must know of a generation: how long answers take, what may be made twice, who may call it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.serving.access import Access, access_of
from tulle.serving.bounds import Bounds
from tulle.serving.compose import ComposeEntry, called
from tulle.serving.compose_declared import reaches_out
from tulle.serving.function import FunctionEntry
from tulle.serving.kinds import Entry, kind_of
from tulle.serving.manifest import MANIFEST, Manifest, read_manifest
from tulle.serving.outer_call import USUAL_SECONDS as OUTSIDE_SECONDS
from tulle.serving.step_form import AT_ONCE, USUAL_ITEMS, Said, within

USUAL_SECONDS = 30.0
_MOST_SECONDS = 3600.0
_MORE_SECONDS = 5.0  # than the endpoint itself allows: its own answer tells more than the gateway's


@dataclass(frozen=True, slots=True)
class Needs:
    """`may_repeat`: what a worker's end interrupts may be asked of another one."""

    seconds: float = USUAL_SECONDS
    may_repeat: bool = True
    access: Access = Access()
    policies: tuple[Mapping[str, Any], ...] = ()  # as written


def needs_of(folder: Path) -> Needs:
    """The needs of an unpacked package; Broken when it cannot be read."""
    manifest = read_manifest(folder / MANIFEST)
    entries = {e.name: e for e in (kind_of(raw).read(raw) for raw in manifest.endpoints)}
    seconds = [_seconds(entry, entries) for entry in entries.values()]
    return Needs(
        min(_MOST_SECONDS, max(seconds, default=USUAL_SECONDS)),
        all(_may_repeat(entry, entries) for entry in entries.values()),
        access_of(manifest.access),
        manifest.policies,
    )


def repeatable(manifest: Manifest) -> frozenset[str]:
    """The endpoints of a package that may be asked the same again without harm."""
    entries = {e.name: e for e in (kind_of(raw).read(raw) for raw in manifest.endpoints)}
    return frozenset(name for name, entry in entries.items() if _may_repeat(entry, entries))


def _seconds(entry: Entry, entries: Mapping[str, Entry]) -> float:
    if isinstance(entry, ComposeEntry):
        return max(USUAL_SECONDS, _steps(entry.steps, entries) + _MORE_SECONDS)
    bounds = getattr(entry, "bounds", None)
    if not isinstance(bounds, Bounds):
        return USUAL_SECONDS
    return max(USUAL_SECONDS, bounds.wait_seconds + bounds.seconds + _MORE_SECONDS)


def _steps(steps: Sequence[Said], entries: Mapping[str, Entry]) -> float:
    """How long steps may take that are carried out one after the other."""
    return sum(_step(step, entries) for step in steps)


def _step(step: Said, entries: Mapping[str, Entry]) -> float:
    if "call" in step or "http" in step:
        inner = entries.get(step.get("call", ""))
        once = float(step.get("timeout") or (_seconds(inner, entries) if inner else OUTSIDE_SECONDS))
    else:
        beside = [_step(one, entries) for one in step.get("parallel", ())]
        others = [_steps(some, entries) for path, some in within(step) if path != ("parallel",)]
        once = min(max([*beside, *others], default=0.0), float(step.get("timeout", math.inf)))
    turns = math.ceil(step.get("most", USUAL_ITEMS) / AT_ONCE) if "map" in step else 1
    return once * (1 + int(step.get("retry", 0))) * turns


def _may_repeat(entry: Entry, entries: Mapping[str, Entry]) -> bool:
    """Functions do what they do; so does what a composition calls."""
    match entry:
        case FunctionEntry():
            return entry.again
        case ComposeEntry():
            # What others do when they are asked twice is not known here.
            known = not reaches_out(entry.steps)
            return known and all(_may_repeat(entries[name], entries) for name in called(entry.steps))
    return True
