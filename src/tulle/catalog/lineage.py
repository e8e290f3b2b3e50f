"""The lineage picture as geometry: what flows from source files over data sets and products to services.

Pure: nodes and edges in, positions and curves out; a template draws them. Layered from left to right: every
product stands right of all it takes from, sources left of what they feed, services right of what feeds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tulle.catalog.layered import Arrangement, Node, arrange

BOX_WIDTH = 188
COLUMN_GAP = 54
ROW_GAP = 26
HEADER = 50
ITEM = 30
PADDING = 10
MARGIN = 14
_TITLE_CHARACTERS = 20
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
    near = _near(current, arrows) if current in {box.key for box in graph.boxes} else None
    at = _arranged(graph.boxes, tuple((e.source, e.target) for e in edges))
    placed = {
        box.key: _place(
            box, _left(at.column[box.key]), at.top[box.key] + MARGIN, is_current=box.key == current, near=near
        )
        for box in graph.boxes
    }
    drawn = [_curve(e, placed, owner, at.lanes.get((e.source, e.target), ()), near) for e in edges]
    curves = sorted(drawn, key=lambda curve: curve.is_near)
    lanes = [y + MARGIN for way in at.lanes.values() for _, y in way]
    bottom = max([*(p.y + p.height for p in placed.values()), *lanes], default=float(MARGIN))
    width = 2 * MARGIN + at.columns * BOX_WIDTH + max(0, at.columns - 1) * COLUMN_GAP
    return Picture(width, bottom + MARGIN, tuple(placed.values()), tuple(curves))


@lru_cache(maxsize=8)
def _arranged(boxes: tuple[Box, ...], edges: tuple[tuple[str, str], ...]) -> Arrangement:
    """The same for every page of a mesh, whatever is highlighted: worth remembering for a large one."""
    return arrange([_node(box) for box in boxes], edges, ROW_GAP)


def _left(column: int) -> float:
    return MARGIN + column * (BOX_WIDTH + COLUMN_GAP)


def _node(box: Box) -> Node:
    ports = {item.key: HEADER + i * ITEM + (ITEM - 4) / 2 for i, item in enumerate(box.items)}
    return Node(box.key, _height(box), {box.key: HEADER / 2, **ports})


def _owners(boxes: Iterable[Box]) -> dict[str, str]:
    owner: dict[str, str] = {}
    for box in boxes:
        owner[box.key] = box.key
        owner.update((item.key, box.key) for item in box.items)
    return owner


def _height(box: Box) -> float:
    return HEADER + len(box.items) * ITEM + (PADDING if box.items else 0)


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
    edge: Edge,
    placed: Mapping[str, PlacedBox],
    owner: Mapping[str, str],
    lanes: Sequence[tuple[int, float]],
    near: frozenset[str] | None,
) -> Curve:
    left, right = placed[owner[edge.source]], placed[owner[edge.target]]
    y, from_name, inset = _anchor(left, edge.source)
    end_y, to_name, outset = _anchor(right, edge.target)
    x, end_x = left.x + left.width - inset, right.x + outset
    parts = [f"M{x:g} {y:g}"]
    for column, lane in lanes:
        parts += [_bend(x, y, _left(column), lane + MARGIN), f"H{_left(column) + BOX_WIDTH:g}"]
        x, y = _left(column) + BOX_WIDTH, lane + MARGIN
    parts.append(_bend(x, y, end_x, end_y))
    is_near = near is None or (left.box.key in near and right.box.key in near)
    return Curve(" ".join(parts), is_near, f"{from_name} → {to_name}")


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    reach = max(28.0, (to_x - x) / 2)
    return f"C{x + reach:g} {y:g} {to_x - reach:g} {to_y:g} {to_x:g} {to_y:g}"


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
