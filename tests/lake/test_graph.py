"""The commit graph: ancestry, merge bases, where two lines meet."""

from __future__ import annotations

import itertools
import random

from tulle.lake import graph
from tulle.lake.entry import Commit


class Graph:
    """Commits by name: `add("c", "a", "b")` has parents a and b."""

    def __init__(self) -> None:
        self.commits: dict[str, Commit] = {}

    def add(self, name: str, *parents: str) -> None:
        generation = 1 + max((self.commits[p].generation for p in parents), default=0)
        self.commits[name] = Commit(name, parents, name, "", float(len(self.commits)), {}, generation)

    def lookup(self, name: str) -> Commit:
        return self.commits[name]


def forked() -> Graph:
    """On one line r a b m c, on another r x y z; m has the parents b and y."""
    made = Graph()
    for name, *parents in ("r", "ar", "ba", "xr", "yx", "zy", "mby", "cm"):
        made.add(name, *parents)
    return made


def test_ancestors_come_children_first_and_once() -> None:
    made = forked()
    order = [commit.id for commit in graph.ancestors("c", made.lookup)]
    assert sorted(order) == sorted("cmbayxr")
    assert all(order.index(child) < order.index(p) for child in order for p in made.commits[child].parents)


def test_merge_base() -> None:
    made = forked()
    expected = {"cz": "y", "bz": "r", "cc": "c", "cm": "m", "ya": "r", "mz": "y", "rc": "r"}
    for pair, base in expected.items():
        assert graph.merge_base(pair[0], pair[1], made.lookup) == base
        assert graph.merge_base(pair[1], pair[0], made.lookup) == base


def test_histories_that_never_met() -> None:
    made = forked()
    made.add("other")
    assert graph.merge_base("c", "other", made.lookup) is None
    assert graph.meeting_point("c", "other", made.lookup) is None


def test_meeting_point_follows_first_parents() -> None:
    made = forked()
    lines = graph.meeting_point("c", "z", made.lookup)
    assert lines is not None
    assert [[commit.id for commit in line] for line in lines] == [["c", "m", "b", "a"], ["z", "y", "x"]]
    assert graph.meeting_point("c", "b", made.lookup) == ([made.lookup("c"), made.lookup("m")], [])
    assert graph.meeting_point("c", "c", made.lookup) == ([], [])


def test_agrees_with_sets_on_random_graphs() -> None:
    choose = random.Random(7)
    for _ in range(40):
        made = Graph()
        made.add("0")
        for number in range(1, 25):
            parents = choose.sample(sorted(made.commits), k=min(len(made.commits), choose.choice([1, 1, 2])))
            made.add(str(number), *parents)
        above = {name: {commit.id for commit in graph.ancestors(name, made.lookup)} for name in made.commits}
        for left, right in itertools.product(made.commits, repeat=2):
            common = above[left] & above[right]
            base = graph.merge_base(left, right, made.lookup)
            assert base in common
            assert not any(base != other and base in above[other] for other in common), "a nearer one exists"
