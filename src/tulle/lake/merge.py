"""Three-way merge of changes. Pure: two lists of changes against the same base go in, a decision comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tulle.lake.entry import Change, Entry, change_between

Strategy = Literal["source-wins", "dest-wins"]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merge does to the destination: per path the entry it gets, or None where it goes.

    `conflicts` are the paths both sides changed in different ways, in order; the plan holds only what the
    strategy decided for them.
    """

    writes: Mapping[str, Entry | None]
    conflicts: tuple[str, ...]


def three_way(
    source: Iterable[Change], destination: Iterable[Change], strategy: Strategy | None = None
) -> MergePlan:
    """Merge what the source changed into what the destination changed, both since their base.

    Without a strategy conflicts are only listed. The same change on both sides is no conflict.
    """
    theirs = {change.path: change for change in destination}
    writes: dict[str, Entry | None] = {}
    conflicts: list[str] = []
    for change in source:
        other = theirs.get(change.path)
        if other is None:
            writes[change.path] = change.right
        elif change_between(other.right, change.right) is not None:
            conflicts.append(change.path)
            if strategy == "source-wins":
                writes[change.path] = change.right
    return MergePlan(writes, tuple(sorted(conflicts)))
