"""What a gateway must know of a generation: how long answers may take, and whether a request may be made twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tulle.serving.bounds import Bounds
from tulle.serving.compose import ComposeEntry
from tulle.serving.function import FunctionEntry
from tulle.serving.kinds import Entry, kind_of
from tulle.serving.manifest import MANIFEST, read_manifest

USUAL_SECONDS = 30.0
_MORE_SECONDS = 5.0  # than the endpoint itself allows: its own answer tells more than the gateway's


@dataclass(frozen=True, slots=True)
class Needs:
    """`may_repeat`: what a worker's end interrupts may be asked of another one."""

    seconds: float = USUAL_SECONDS
    may_repeat: bool = True


def needs_of(folder: Path) -> Needs:
    """The needs of an unpacked package; Broken when it cannot be read."""
    entries = [kind_of(raw).read(raw) for raw in read_manifest(folder / MANIFEST).endpoints]
    return Needs(max(map(_seconds, entries), default=USUAL_SECONDS), all(map(_may_repeat, entries)))


def _seconds(entry: Entry) -> float:
    bounds = getattr(entry, "bounds", None)
    if not isinstance(bounds, Bounds):
        return USUAL_SECONDS
    return max(USUAL_SECONDS, bounds.wait_seconds + bounds.seconds + _MORE_SECONDS)


def _may_repeat(entry: Entry) -> bool:
    """Functions do what they do; so does what a composition calls."""
    match entry:
        case FunctionEntry():
            return entry.again
        case ComposeEntry():
            return False
    return True
