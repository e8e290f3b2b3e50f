"""Arranging a graph in columns: what goes where so that few edges cross and none runs behind a box.

The classic way for layered graphs: columns by the longest path, lanes for edges that pass a column, an order
that crosses few edges, then heights as near as possible to what is joined. Pure; knows boxes by height and
ports only. The same graph always gives the same arrangement, also when it has circles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Final

LANE: Final = 8.0  # height an edge takes in a column that it passes
_ROUNDS: Final = 8
_MOST_EDGES: Final = 1500  # beyond, the order is left as it comes: counting crossings is quadratic


@dataclass(frozen=True, slots=True)
class Node:
    """A box: its height, and the heights within it at which edges meet it, by key (its own key is one)."""

    key: str
    height: float
    ports: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The column (from 0) and top of each node, and the lanes of edges: a (column, y) for each column passed."""

    column: Mapping[str, int]
    top: Mapping[str, float]
    lanes: Mapping[tuple[str, str], tuple[tuple[int, float], ...]]

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return max(self.column.values(), default=-1) + 1


@dataclass(slots=True, eq=False)
class _Slot:
    """A place in a column: a box, or the lane of the edges that leave one port."""

    key: str
    column: int
    height: float
    ports: Mapping[str, float]
    is_lane: bool = False
    top: float = 0.0
    before: list[tuple[_Slot, float, float]] = field(default_factory=list)  # neighbour, its port, our port
    after: list[tuple[_Slot, float, float]] = field(default_factory=list)


def arrange(nodes: Sequence[Node], edges: Iterable[tuple[str, str]], gap: float) -> Arrangement:
    """Arrange `nodes`, at least `gap` apart in a column; `edges` join ports by key, which all must exist."""
    if not nodes:
        return Arrangement({}, {}, {})
    owner = {port: node.key for node in nodes for port in node.ports}
    known = [edge for edge in dict.fromkeys(edges) if owner[edge[0]] != owner[edge[1]]]
    columns = _columns([node.key for node in nodes], [(owner[s], owner[t]) for s, t in known])
    slots = {node.key: _Slot(node.key, columns[node.key], node.height, node.ports) for node in nodes}
    lanes: dict[str, _Slot] = {}
    ways = {edge: _way(edge, slots[owner[edge[0]]], slots[owner[edge[1]]], lanes) for edge in known}
    for (source, target), way in ways.items():
        _link(way, source, target)
    table: list[list[_Slot]] = [[] for _ in range(max(columns.values()) + 1)]
    for slot in (*slots.values(), *lanes.values()):
        table[slot.column].append(slot)
    if len(known) <= _MOST_EDGES:
        table = _ordered(table)
    _align(table, gap)
    return Arrangement(
        columns,
        {key: slot.top for key, slot in slots.items()},
        {edge: tuple((s.column, s.top + LANE / 2) for s in way[1:-1]) for edge, way in ways.items()},
    )


# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────


def _columns(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The column of each: right of all it comes from; what comes from nowhere stands next to its first use."""
    after: dict[str, list[str]] = {name: [] for name in names}
    before: dict[str, list[str]] = {name: [] for name in names}
    for source, target in _without_circles(names, edges):
        after[source].append(target)
        before[target].append(source)
    column = dict.fromkeys(names, 0)
    for name in TopologicalSorter(before).static_order():
        column[name] = max((column[b] + 1 for b in before[name]), default=0)
    for name, targets in after.items():
        if targets and not before[name]:
            column[name] = min(column[t] for t in targets) - 1
    return column


def _without_circles(names: Iterable[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges but for those that lead back to where a walk along them came from."""
    after: dict[str, list[str]] = {}
    for source, following in edges:
        after.setdefault(source, []).append(following)
    kept: list[tuple[str, str]] = []
    walked: set[str] = set()  # on the way from the start to here
    seen: set[str] = set()
    for first in names:
        if first in seen:
            continue
        seen.add(first)
        walked.add(first)
        walk = [(first, iter(after.get(first, ())))]
        while walk:
            name, targets = walk[-1]
            target: str | None = next(targets, None)
            if target is None:
                walked.discard(name)
                walk.pop()
            elif target not in walked:
                kept.append((name, target))
                if target not in seen:
                    seen.add(target)
                    walked.add(target)
                    walk.append((target, iter(after.get(target, ()))))
    return kept


# ── lanes ────────────────────────────────────────────────────────────────────────────────────────────────


def _way(edge: tuple[str, str], source: _Slot, target: _Slot, lanes: dict[str, _Slot]) -> list[_Slot]:
    """What an edge goes through; edges that leave one port share their lanes until they part."""
    way = [source]
    for column in range(source.column + 1, target.column):
        key = f"{edge[0]}@{column}"
        if key not in lanes:
            lanes[key] = _Slot(key, column, LANE, {key: LANE / 2}, is_lane=True)
        way.append(lanes[key])
    return [*way, target]


def _link(way: Sequence[_Slot], source: str, target: str) -> None:
    if way[0].column >= way[-1].column:
        return  # it leads back: drawn, but moving nothing
    ends = [way[0].ports[source], *(LANE / 2 for _ in way[1:-1]), way[-1].ports[target]]
    for (left, left_port), (right, right_port) in pairwise(zip(way, ends, strict=True)):
        joint = (right, right_port, left_port)
        if joint not in left.after:
            left.after.append(joint)
            right.before.append((left, left_port, right_port))


# ── order within columns ─────────────────────────────────────────────────────────────────────────────────


def _ordered(table: list[list[_Slot]]) -> list[list[_Slot]]:
    """Each column in the order that was found to cross the fewest edges."""
    best, fewest = [list(column) for column in table], _crossings(table)
    for attempt in range(_ROUNDS):
        if fewest == 0:
            break
        forward = attempt % 2 == 0
        for column in table if forward else reversed(table):
            _sort(column, table, forward=forward)
        if (crossings := _crossings(table)) < fewest:
            best, fewest = [list(column) for column in table], crossings
    return best


def _sort(column: list[_Slot], table: Sequence[Sequence[_Slot]], *, forward: bool) -> None:
    rank = {slot: float(i) for other in table for i, slot in enumerate(other)}

    def middle(slot: _Slot) -> float:
        near = slot.before if forward else slot.after
        if not near:
            return rank[slot]
        return sum(rank[other] + port / (other.height + 1) for other, port, _ in near) / len(near)

    column.sort(key=middle)


def _crossings(table: Sequence[Sequence[_Slot]]) -> int:
    rank = {slot: i for column in table for i, slot in enumerate(column)}
    count = 0
    for column in table:
        ends = sorted(
            ((rank[left], left_port), (rank[right], right_port))
            for left in column
            for right, right_port, left_port in left.after
        )
        for position, (start, end) in enumerate(ends):
            count += sum(start < later and end > other for later, other in ends[position + 1 :])
    return count


# ── heights ──────────────────────────────────────────────────────────────────────────────────────────────


def _align(table: Sequence[Sequence[_Slot]], gap: float) -> None:
    """Move everything as near as possible to what it is joined with, without overlaps; the top is 0."""
    for column in table:
        _settle(column, gap, lambda _: 0.0)
    for attempt in range(2 * _ROUNDS):
        forward = attempt % 2 == 0
        for column in table if forward else reversed(table):
            _settle(column, gap, lambda slot, f=forward: _wanted(slot, slot.before if f else slot.after))  # type: ignore[misc]
    for column in table:
        _settle(column, gap, lambda slot: _wanted(slot, [*slot.before, *slot.after]))
    top = min(slot.top for column in table for slot in column)
    for column in table:
        for slot in column:
            slot.top = round(slot.top - top, 1)


def _wanted(slot: _Slot, near: Sequence[tuple[_Slot, float, float]]) -> float:
    if not near:
        return slot.top
    return sum(other.top + port - own for other, port, own in near) / len(near)


def _settle(column: Sequence[_Slot], gap: float, wanted: Callable[[_Slot], float]) -> None:
    """The places nearest to those wanted (least squares) that keep order and distance: neighbours are pooled."""
    offsets, total = [], 0.0
    for slot, following in zip(column, [*column[1:], None], strict=True):
        offsets.append(total)
        both_lanes = slot.is_lane and following is not None and following.is_lane
        total += slot.height + (LANE / 2 if both_lanes else gap)
    pools: list[tuple[float, int]] = []  # sum, count
    for slot, offset in zip(column, offsets, strict=True):
        total, count = wanted(slot) - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            above, members = pools.pop()
            total, count = total + above, count + members
        pools.append((total, count))
    places = [total / count for total, count in pools for _ in range(count)]
    for slot, offset, place in zip(column, offsets, places, strict=True):
        slot.top = place + offset
