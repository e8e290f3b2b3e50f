"""The picture as geometry: layered, nothing overlaps, edges meet what they join."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.catalog.lineage import Box, Edge, Graph, Item, Picture, PlacedBox, draw

SOURCE = Box("source:log", "source", "log.csv")
SALES = Box(
    "product:sales", "product", "sales", "shop", "/products/sales", (Item("data:sales", "sales", "data-set"),)
)
PEOPLE = Box("product:people", "product", "people", items=(Item("data:people", "people", "data-set"),))
SERVICE = Box("service:ask", "service", "ask", items=(Item("endpoint:ask", "ask", "lookup"),))
MESH = Graph(
    (SOURCE, SALES, PEOPLE, SERVICE),
    (
        Edge("source:log", "data:sales"),
        Edge("data:sales", "data:people"),
        Edge("data:people", "endpoint:ask"),
        Edge("data:sales", "endpoint:ask"),
    ),
)


def boxes(picture: Picture) -> dict[str, PlacedBox]:
    return {placed.box.key: placed for placed in picture.boxes}


def test_everything_stands_right_of_what_it_comes_from() -> None:
    at = boxes(draw(MESH))
    assert at["source:log"].x < at["product:sales"].x < at["product:people"].x < at["service:ask"].x


def test_an_edge_runs_from_item_to_item() -> None:
    picture = draw(MESH)
    at = boxes(picture)
    curve = next(c for c in picture.curves if c.words == "sales: sales → people: people")
    numbers = [float(n) for n in re.findall(r"[\d.]+", curve.path)]
    left, right = at["product:sales"].items[0], at["product:people"].items[0]
    assert numbers[:2] == [left.x + left.width, left.y + left.height / 2]
    assert numbers[-2:] == [right.x, right.y + right.height / 2]


def test_only_what_hangs_together_with_the_current_box_is_near() -> None:
    other = Box("product:other", "product", "other", items=(Item("data:other", "other", "data-set"),))
    graph = Graph((*MESH.boxes, other), (*MESH.edges, Edge("data:sales", "data:other")))
    picture = draw(graph, "product:people")
    near = {key for key, placed in boxes(picture).items() if placed.is_near}
    assert near == {"source:log", "product:sales", "product:people", "service:ask"}
    assert [key for key, placed in boxes(picture).items() if placed.is_current] == ["product:people"]
    assert {c.words for c in picture.curves if not c.is_near} == {"sales: sales → other: other"}


def test_without_a_current_box_all_is_near() -> None:
    assert all(placed.is_near for placed in draw(MESH).boxes)
    assert all(placed.is_near for placed in draw(MESH, "product:gone").boxes)


def test_an_edge_to_nothing_is_left_out() -> None:
    picture = draw(Graph((SALES,), (Edge("data:sales", "data:gone"), Edge("data:gone", "data:sales"))))
    assert picture.curves == ()


def test_an_empty_mesh_is_an_empty_picture() -> None:
    assert draw(Graph()).boxes == ()


def test_a_long_name_is_cut_and_kept_whole_beside_it() -> None:
    placed = draw(Graph((Box("product:x", "product", "a-very-long-name-for-a-product"),))).boxes[0]
    assert placed.title.endswith("…")
    assert placed.box.title == "a-very-long-name-for-a-product"


@st.composite
def graphs(draw_: st.DrawFn) -> Graph:
    count = draw_(st.integers(1, 9))
    kinds = draw_(st.lists(st.sampled_from(["source", "product", "service"]), min_size=count, max_size=count))
    made = [
        Box(
            f"b{i}",
            kind,
            f"box {i}",
            items=tuple(Item(f"b{i}i{j}", f"item {j}", "data-set") for j in range(i % 4)),
        )
        for i, kind in enumerate(kinds)
    ]
    keys = [b.key for b in made] + [item.key for b in made for item in b.items]
    pairs = draw_(st.lists(st.tuples(st.sampled_from(keys), st.sampled_from(keys)), max_size=20))
    return Graph(tuple(made), tuple(Edge(*pair) for pair in pairs))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_nothing_overlaps_and_all_is_inside_the_picture(graph: Graph) -> None:
    """Also for circles and for edges inside a box, which no valid mesh has."""
    picture = draw(graph, "b0")
    assert len(picture.boxes) == len(graph.boxes)
    for a, b in itertools.combinations(picture.boxes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart
    for placed in picture.boxes:
        assert placed.x >= 0
        assert placed.y >= 0
        assert placed.x + placed.width <= picture.width
        assert placed.y + placed.height <= picture.height
        for item in placed.items:
            assert placed.y <= item.y
            assert item.y + item.height <= placed.y + placed.height
