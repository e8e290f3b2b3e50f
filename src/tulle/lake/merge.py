"""Three-way merge of changes. Pure: two lists of changes against the same base go in, a decision comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tulle.errors import Invalid
from tulle.lake.entry import Change, Entry, change_between

Strategy = Literal["source-wins", "dest-wins"]
WAYS: Mapping[Strategy, Literal["source", "dest"]] = {"source-wins": "source", "dest-wins": "dest"}
Choices = Mapping[str, Literal["source", "dest"]]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merge does to the destination: per path the entry it gets, or None where it goes.

    `conflicts` are the paths both sides changed in different ways, in order, `undecided` those of them that
    neither a choice nor the strategy decided.
    """

    writes: Mapping[str, Entry | None]
    conflicts: tuple[str, ...]
    undecided: tuple[str, ...]


def three_way(
    source: Iterable[Change],
    destination: Iterable[Change],
    strategy: Strategy | None = None,
    choices: Choices | None = None,
) -> MergePlan:
    """Merge what the source changed into what the destination changed, both since their base.

    A conflict goes the way `choices` says for its path, else the way of the strategy; without either it is only
    listed. The same change on both sides is no conflict. Invalid for a choice at a path without a conflict.
    """
    theirs = {change.path: change for change in destination}
    chosen = dict(choices or {})
    writes: dict[str, Entry | None] = {}
    conflicts: list[str] = []
    undecided: list[str] = []
    for change in source:
        other = theirs.get(change.path)
        if other is None:
            writes[change.path] = change.right
        elif change_between(other.right, change.right) is not None:
            conflicts.append(change.path)
            way = chosen.pop(change.path, None) or (strategy and WAYS[strategy])
            if way is None:
                undecided.append(change.path)
            elif way == "source":
                writes[change.path] = change.right
    if chosen:
        raise Invalid(f"a choice was made for '{min(chosen)}', where there is no conflict")
    return MergePlan(writes, tuple(sorted(conflicts)), tuple(sorted(undecided)))
