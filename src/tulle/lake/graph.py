"""The commit graph: ancestry and merge bases, by generation numbers. Pure: commits come from a function."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from tulle.lake.entry import Commit

Lookup = Callable[[str], Commit]


def ancestors(start: str, lookup: Lookup) -> Iterator[Commit]:
    """`start` and everything it was built on, each once, children before parents."""
    queue = [_key(lookup(start))]
    seen = {start}
    while queue:
        _, _, id_ = heapq.heappop(queue)
        commit = lookup(id_)
        yield commit
        for parent in commit.parents:
            if parent not in seen:
                seen.add(parent)
                heapq.heappush(queue, _key(lookup(parent)))


def first_parents(start: str, lookup: Lookup) -> Iterator[Commit]:
    """`start` and the line it was on: first parents only, children before parents."""
    commit = lookup(start)
    yield commit
    while commit.parents:
        commit = lookup(commit.parents[0])
        yield commit


def merge_base(left: str, right: str, lookup: Lookup) -> str | None:
    """The nearest commit that both sides were built on, or None when their histories never met.

    Where several are equally good, the one with the highest generation, then the latest date, is taken.
    """
    sides = {left: 1}
    sides[right] = sides.get(right, 0) | 2
    queue = [_key(lookup(id_)) for id_ in sides]
    heapq.heapify(queue)
    while queue:
        _, _, id_ = heapq.heappop(queue)
        side = sides[id_]
        if side == 3:
            return id_
        for parent in lookup(id_).parents:
            known = sides.get(parent, 0)
            if known | side != known:
                sides[parent] = known | side
                if not known:
                    heapq.heappush(queue, _key(lookup(parent)))
    return None


def meeting_point(left: str, right: str, lookup: Lookup) -> tuple[Sequence[Commit], Sequence[Commit]] | None:
    """The commits of both first-parent lines down to (without) the first they share; None if they share none.

    What differs between the contents of `left` and `right` is among the deltas of these commits, because the
    delta of a commit is what it changed against its first parent.
    """
    lines: tuple[list[Commit], list[Commit]] = ([], [])
    heads: list[Commit | None] = [lookup(left), lookup(right)]
    while heads[0] is not None and heads[1] is not None:
        if heads[0].id == heads[1].id:
            return lines
        # Step on the side that is further from the root, both when level.
        generations = (heads[0].generation, heads[1].generation)
        for side in (0, 1):
            head = heads[side]
            if head is not None and generations[side] == max(generations):
                lines[side].append(head)
                heads[side] = lookup(head.parents[0]) if head.parents else None
    return None


def _key(commit: Commit) -> tuple[int, float, str]:
    return (-commit.generation, -commit.date, commit.id)
