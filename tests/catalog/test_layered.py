"""The arrangement of a graph: columns by the longest path, lanes around boxes, few crossings, no overlaps."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.catalog.layered import LANE, Arrangement, Node, arrange

GAP = 20.0


def node(key: str, *ports: str, height: float = 40.0) -> Node:
    return Node(key, height, {key: height / 2, **{port: 10.0 + 5 * i for i, port in enumerate(ports)}})


def crossings(at: Arrangement, edges: list[tuple[str, str]]) -> int:
    """Between neighbouring columns, edges that joined things cross."""
    count = 0
    for (a, b), (c, d) in itertools.combinations(edges, 2):
        if at.column[a] == at.column[c] and at.column[b] == at.column[d]:
            count += (at.top[a] - at.top[c]) * (at.top[b] - at.top[d]) < 0
    return count


def test_nothing_is_an_empty_arrangement() -> None:
    assert arrange([], [], GAP).columns == 0


def test_a_box_stands_right_of_all_it_comes_from_by_the_longest_way() -> None:
    at = arrange(
        [node("d"), node("c"), node("b"), node("a")], [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")], GAP
    )
    assert at.column == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_what_comes_from_nowhere_stands_next_to_its_first_use() -> None:
    at = arrange([node(k) for k in "abcx"], [("a", "b"), ("b", "c"), ("x", "c")], GAP)
    assert at.column["x"] == 1


def test_a_long_edge_takes_a_lane_that_no_box_is_in() -> None:
    nodes = [node("a"), node("b", height=120), node("c")]
    at = arrange(nodes, [("a", "b"), ("b", "c"), ("a", "c")], GAP)
    ((column, y),) = at.lanes["a", "c"]
    assert column == 1
    assert y < at.top["b"] or y > at.top["b"] + 120
    assert at.lanes["a", "b"] == ()


def test_edges_that_leave_one_port_share_a_lane_and_others_do_not() -> None:
    nodes = [node("a", "a1", "a2"), node("b"), node("c", "c1", "c2")]
    edges = [("a", "b"), ("b", "c"), ("a1", "c1"), ("a1", "c2"), ("a2", "c2")]
    at = arrange(nodes, edges, GAP)
    assert at.lanes["a1", "c1"] == at.lanes["a1", "c2"]
    assert abs(at.lanes["a2", "c2"][0][1] - at.lanes["a1", "c1"][0][1]) >= LANE


def test_crossings_that_can_be_avoided_are() -> None:
    nodes = [node(k) for k in ("a", "b", "c", "x", "y", "z")]
    edges = [("a", "z"), ("b", "y"), ("c", "x")]
    assert crossings(arrange(nodes, edges, GAP), edges) == 0


def test_a_box_stands_at_the_height_of_what_it_comes_from() -> None:
    at = arrange([node("a"), node("b")], [("a", "b")], GAP)
    assert at.top["a"] == at.top["b"]


def test_a_circle_is_arranged_too() -> None:
    at = arrange([node("a"), node("b"), node("c")], [("a", "b"), ("b", "c"), ("c", "a")], GAP)
    assert at.column == {"a": 0, "b": 1, "c": 2}


def test_a_chain_of_a_thousand_is_no_deeper_than_the_stack() -> None:
    names = [f"n{i}" for i in range(1000)]
    at = arrange([node(name) for name in names], list(itertools.pairwise(names)), GAP)
    assert at.column["n999"] == 999


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Node], list[tuple[str, str]]]:
    count = draw(st.integers(1, 10))
    nodes = [node(f"n{i}", f"n{i}p", height=20.0 + 15 * (i % 4)) for i in range(count)]
    ports = [port for one in nodes for port in one.ports]
    pair = st.tuples(st.sampled_from(ports), st.sampled_from(ports))
    return nodes, draw(st.lists(pair, max_size=18))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_boxes_and_lanes_keep_apart_and_the_same_graph_looks_the_same(
    graph: tuple[list[Node], list[tuple[str, str]]],
) -> None:
    nodes, edges = graph
    at = arrange(nodes, edges, GAP)
    assert at == arrange(nodes, edges, GAP)
    spans = {(at.column[n.key], at.top[n.key], at.top[n.key] + n.height) for n in nodes}
    assert len(spans) == len(nodes)
    assert min(top for _, top, _ in spans) >= 0
    spans |= {(column, y - LANE / 2, y + LANE / 2) for way in at.lanes.values() for column, y in way}
    for (one, top, bottom), (other, other_top, other_bottom) in itertools.combinations(sorted(spans), 2):
        assert one != other or bottom <= other_top + 0.2 or other_bottom <= top + 0.2
