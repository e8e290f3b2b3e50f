"""Branches are linearizable on both databases; and the checker that says so can say no."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lake import hammer
from tests.lake.linearizable import Branch, Operation, told, unexplained

from tulle.lake.collect import collections
from tulle.lake.repository import Lake, Repository

DATABASES = ("sqlite", "postgres")


def history(*lines: str) -> list[Operation]:
    """`0-2 a put k 1`: from 0 to 2, a put 1 at k."""
    found = []
    for line in lines:
        times, who, *rest = line.split()
        start, end = map(float, times.split("-"))
        kind, key, *value = rest
        found.append(
            Operation(who, kind, start, end, key, value[0] if value and value[0] != "None" else None)
        )
    return found


@pytest.mark.parametrize(
    "good",
    [
        ["0-1 a put k 1", "2-3 b get k 1"],
        ["0-3 a put k 1", "1-2 b get k 1"],
        ["0-3 a put k 1", "1-2 b get k None"],
        ["0-9 a put k 1", "1-2 b get k None", "3-4 c get k 1"],
        ["0-5 a put k 1", "0-5 b put k 2", "6-7 c get k 1", "8-9 d get k 1"],
        ["0-5 a put k 1", "0-5 b put k 2", "1-2 c get k 1", "3-4 d get k 2"],
        ["0-5 a put k 1", "6-7 a delete k", "8-9 b get k None"],
    ],
)
def test_what_can_have_happened_is_explained(good: list[str]) -> None:
    assert unexplained(history(*good), Branch()) is None


@pytest.mark.parametrize(
    ("bad", "left"),
    [
        (["0-1 a put k 1", "2-3 a get k None"], "get"),  # does not read its own write
        (["0-1 a put k 1", "2-3 a put k 2", "4-5 b get k 1"], "get"),  # an old value
        (["0-9 a put k 1", "1-2 b get k 1", "3-4 c get k None"], "get"),  # back in time
        (["0-5 a put k 1", "0-5 b put k 2", "6-7 c get k 1", "8-9 d get k 2"], "get"),  # two orders
        (["0-1 a put k 1", "2-3 b delete k", "4-5 c exists k"], "exists"),  # back again
    ],
)
def test_what_cannot_have_happened_is_found(bad: list[str], left: str) -> None:
    found = unexplained(history(*bad), Branch())
    assert found is not None
    assert found[-1].kind == left, told(found)


def op(kind: str, start: float, end: float, key: str = "", value: object = None) -> Operation:
    return Operation("a", kind, start, end, key, value)


@pytest.mark.parametrize(
    "bad",
    [
        # two commits on one parent: the branch was moved without looking
        [
            op("seal", 0, 5, "one", {}),
            op("seal", 0, 5, "two", {}),
            op("publish", 0, 5, "one", ("", {})),
            op("publish", 0, 5, "two", ("", {})),
        ],
        # the head goes back
        [op("seal", 0, 1, "one", {}), op("publish", 0, 1, "one", ("", {})), op("head", 2, 3, value="")],
        # a commit without a write that was acknowledged before it began
        [op("put", 0, 1, "k", "1"), op("seal", 2, 3, "one", {}), op("publish", 2, 3, "one", ("", {}))],
        # a listing that misses what was acknowledged, while a commit is under way
        [
            op("put", 0, 1, "k", "1"),
            op("seal", 2, 9, "one", {"k": "1"}),
            op("publish", 2, 9, "one", ("", {})),
            op("list", 4, 5, value={}),
        ],
        # a listing of two moments
        [
            op("put", 0, 1, "a", "1"),
            op("put", 2, 3, "b", "1"),
            op("put", 4, 9, "a", "2"),
            op("put", 10, 11, "b", "2"),
            op("list", 0, 12, value={"a": "1", "b": "2"}),
        ],
        # two that put where nothing was
        [op("put if absent", 0, 5, "k", "1"), op("put if absent", 0, 5, "k", "2")],
        # two that put where the same was
        [
            op("put", 0, 1, "k", "1"),
            op("put if match", 2, 5, "k", ("1", "2")),
            op("put if match", 2, 5, "k", ("1", "3")),
        ],
        # refused although it was there all the time
        [op("put", 0, 1, "k", "1"), op("not", 2, 3, "k", "1")],
        # a move took what somebody else had replaced
        [op("put", 0, 1, "k", "1"), op("put", 2, 3, "k", "2"), op("move", 4, 5, "k", ("to", "1"))],
        # a move that left it where it was
        [op("put", 0, 1, "k", "1"), op("move", 2, 3, "k", ("to", "1")), op("get", 4, 5, "k", "1")],
        # refused although nothing was there
        [op("put if absent", 0, 5, "k", None)],
        # published without having been sealed
        [op("publish", 0, 5, "one", ("", {}))],
    ],
)
def test_what_a_branch_cannot_have_done_is_found(bad: list[Operation]) -> None:
    assert unexplained(bad, Branch()) is not None


def test_a_commit_may_miss_what_was_put_while_it_was_under_way() -> None:
    good = [
        op("seal", 0, 9, "one", {}),
        op("publish", 0, 9, "one", ("", {})),
        op("put", 2, 3, "k", "1"),
        op("head", 4, 5, value=""),
        op("list", 10, 11, value={"k": "1"}),
        op("head", 10, 11, value="one"),
    ]
    assert unexplained(good, Branch()) is None


moments = st.tuples(st.integers(0, 8), st.integers(0, 4))
steps = st.builds(
    lambda kind, moment, value: op(
        kind, moment[0], moment[0] + moment[1], "k", value if kind != "delete" else None
    ),
    st.sampled_from(["put", "get", "get", "put if absent", "delete"]),
    moments,
    st.sampled_from(["1", "2"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=5))
def test_the_search_finds_what_trying_every_order_finds(drawn: list[Operation]) -> None:
    def explains(order: tuple[Operation, ...]) -> bool:
        state: Branch | None = Branch()
        for position, operation in enumerate(order):
            if any(later.end < operation.start for later in order[position:]):
                return False
            if (state := state.after(operation)) is None:
                return False
        return True

    wanted = any(explains(order) for order in itertools.permutations(drawn))
    assert (unexplained(drawn, Branch()) is None) == wanted


@pytest.mark.parametrize(("rounds", "grace"), [(12, None), (40, 2.0)], ids=["", "collecting"])
def test_branches_hammered_by_several_processes_are_linearizable(
    database_url: str, lake: Lake, repository: Repository, tmp_path: Path, rounds: int, grace: float | None
) -> None:
    first = repository.create_branch("trunk").commit_id
    place = hammer.Place(database_url, f"local://{tmp_path / 'objects'}", repository.name)
    histories = hammer.run(place, processes=2, rounds=rounds, grace=grace)
    for branch, done in histories.items():
        assert {"list", "head", "publish"} <= {operation.kind for operation in done}
        found = unexplained(done, Branch(head=first))
        assert found is None, f"no order explains what {branch} did:\n{told(found)}"
    # And in the end everything is there, in a line of commits without a gap.
    for branch, done in histories.items():
        line = [commit.id for commit in repository.log(branch, limit=10_000, first_parent=True)]
        assert sorted(line[:-1]) == sorted(o.key for o in done if o.kind == "publish")
        assert line[-1] == first
        for entry in repository.entries(branch):
            assert hashlib.sha256(repository.get(branch, entry.path)).hexdigest() == entry.checksum
    if grace is not None:
        ended = collections(lake, repository.name)
        assert {collection.status for collection in ended} == {"done"}
        assert sum(tally.count for collection in ended for tally in collection.removed.values()) > 0
