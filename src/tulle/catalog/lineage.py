"""The lineage picture as geometry: what flows from source files over data sets and products to services.

Pure: nodes and edges in, positions and curves out; a template draws them. Layered from left to right: every
product stands right of all it takes from, sources left of what they feed, services right of what feeds them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

BOX_WIDTH = 188
COLUMN_GAP = 54
ROW_GAP = 26
HEADER = 50
ITEM = 30
PADDING = 10
MARGIN = 14
_TITLE_CHARACTERS = 22
_ITEM_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Item:
    """Something inside a box: a data set, a model, an endpoint."""

    key: str
    label: str
    kind: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A source, a product or a service, with what is inside. `key` tells boxes and items apart."""

    key: str
    kind: str  # source | product | service
    title: str
    subtitle: str = ""
    href: str = ""
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """Data flows from one box or item to another."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Graph:
    """What is to be drawn."""

    boxes: tuple[Box, ...] = ()
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacedItem:
    """An item and where it is; the label is cut to its width."""

    item: Item
    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class PlacedBox:
    """A box and where it is. `is_near`: the current product depends on it, it on the product, or it is that."""

    box: Box
    title: str
    x: float
    y: float
    width: float
    height: float
    items: tuple[PlacedItem, ...]
    is_current: bool
    is_near: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """An edge as an SVG path; `words` say it for those who do not see it."""

    path: str
    is_near: bool
    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it; lengths in pixels."""

    width: float
    height: float
    boxes: tuple[PlacedBox, ...] = ()
    curves: tuple[Curve, ...] = ()


def draw(graph: Graph, current: str = "") -> Picture:
    """Place everything. `current` is the key of the box to highlight; empty: all of it stands out the same."""
    owner = _owners(graph.boxes)
    edges = [e for e in dict.fromkeys(graph.edges) if e.source in owner and e.target in owner]
    arrows = {(owner[e.source], owner[e.target]) for e in edges if owner[e.source] != owner[e.target]}
    columns = _columns(graph.boxes, arrows)
    near = _near(current, arrows) if current in {box.key for box in graph.boxes} else None
    layers = _ordered(graph.boxes, columns, arrows)
    heights = [_stack_height(layer) for layer in layers]
    tallest = max(heights, default=0.0)
    placed: dict[str, PlacedBox] = {}
    for number, layer in enumerate(layers):
        y = MARGIN + (tallest - heights[number]) / 2
        for box in layer:
            x = MARGIN + number * (BOX_WIDTH + COLUMN_GAP)
            placed[box.key] = _place(box, x, y, is_current=box.key == current, near=near)
            y += _height(box) + ROW_GAP
    curves = sorted((_curve(e, placed, owner, near) for e in edges), key=lambda curve: curve.is_near)
    width = 2 * MARGIN + len(layers) * BOX_WIDTH + max(0, len(layers) - 1) * COLUMN_GAP
    return Picture(width, tallest + 2 * MARGIN, tuple(placed.values()), tuple(curves))


def _owners(boxes: Iterable[Box]) -> dict[str, str]:
    owner: dict[str, str] = {}
    for box in boxes:
        owner[box.key] = box.key
        owner.update((item.key, box.key) for item in box.items)
    return owner


def _columns(boxes: Sequence[Box], arrows: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The column of every box, counted from 0."""
    before: dict[str, set[str]] = defaultdict(set)
    after: dict[str, set[str]] = defaultdict(set)
    for source, target in arrows:
        before[target].add(source)
        after[source].add(target)
    column = {box.key: 0 for box in boxes}
    for _ in boxes:  # the longest path has as many steps at most; a circle ends there too
        changed = False
        for box in boxes:
            wanted = max((column[b] + 1 for b in before[box.key]), default=0)
            if box.kind != "source" and wanted > column[box.key] and wanted < len(boxes) + 1:
                column[box.key], changed = wanted, True
        if not changed:
            break
    has_sources = any(box.kind == "source" for box in boxes)
    for box in boxes:
        if box.kind == "source" and after[box.key]:
            column[box.key] = max(0, min(column[a] for a in after[box.key]) - 1)
        elif box.kind == "product" and not before[box.key] and has_sources:
            column[box.key] = max(column[box.key], 1)
    used = sorted(set(column.values()))
    return {key: used.index(number) for key, number in column.items()}


def _ordered(
    boxes: Sequence[Box], columns: Mapping[str, int], arrows: Iterable[tuple[str, str]]
) -> list[list[Box]]:
    """The boxes of each column from top to bottom: each near the middle of what it is connected with."""
    layers: list[list[Box]] = [[] for _ in range(max(columns.values(), default=-1) + 1)]
    for box in boxes:
        layers[columns[box.key]].append(box)
    linked: dict[str, set[str]] = defaultdict(set)
    for source, target in arrows:
        linked[target].add(source)
        linked[source].add(target)
    for sweep in (layers, layers[::-1], layers):
        position = {box.key: i / len(layer) for layer in layers for i, box in enumerate(layer)}
        for layer in sweep:

            def middle(box: Box, position: Mapping[str, float] = position) -> float:
                near = [position[k] for k in linked[box.key] if columns[k] != columns[box.key]]
                return sum(near) / len(near) if near else position[box.key]

            layer.sort(key=middle)
    return layers


def _height(box: Box) -> float:
    return HEADER + len(box.items) * ITEM + (PADDING if box.items else 0)


def _stack_height(layer: Sequence[Box]) -> float:
    return sum(map(_height, layer)) + ROW_GAP * max(0, len(layer) - 1)


def _place(box: Box, x: float, y: float, *, is_current: bool, near: frozenset[str] | None) -> PlacedBox:
    items = tuple(
        PlacedItem(
            item,
            _cut(item.label, _ITEM_CHARACTERS),
            x + PADDING,
            y + HEADER + number * ITEM,
            BOX_WIDTH - 2 * PADDING,
            ITEM - 4,
        )
        for number, item in enumerate(box.items)
    )
    is_near = near is None or box.key in near
    title = _cut(box.title, _TITLE_CHARACTERS)
    return PlacedBox(box, title, x, y, BOX_WIDTH, _height(box), items, is_current, is_near)


def _curve(
    edge: Edge, placed: Mapping[str, PlacedBox], owner: Mapping[str, str], near: frozenset[str] | None
) -> Curve:
    left, right = placed[owner[edge.source]], placed[owner[edge.target]]
    y1, from_name, inset = _anchor(left, edge.source)
    y2, to_name, outset = _anchor(right, edge.target)
    x1, x2 = left.x + left.width - inset, right.x + outset
    bend = max(28.0, (x2 - x1) / 2)
    path = f"M{x1:g} {y1:g} C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    is_near = near is None or (left.box.key in near and right.box.key in near)
    return Curve(path, is_near, f"{from_name} → {to_name}")


def _anchor(box: PlacedBox, key: str) -> tuple[float, str, float]:
    """The height at which an edge meets the box, what it meets, and how far inside the box that is."""
    for item in box.items:
        if item.item.key == key:
            return item.y + item.height / 2, f"{box.box.title}: {item.item.label}", PADDING
    return box.y + HEADER / 2, box.box.title, 0.0


def _near(current: str, arrows: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The box itself, all it comes from and all that comes from it."""
    arrows = list(arrows)
    found = {current}
    for forward in (True, False):
        edge = {current}
        while edge:
            step = {t if forward else s for s, t in arrows if (s if forward else t) in edge}
            edge = step - found
            found |= edge
    return frozenset(found)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
