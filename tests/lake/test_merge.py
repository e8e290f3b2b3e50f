"""Three-way merge of changes."""

from __future__ import annotations

from tulle.lake.entry import Change, Entry, change_between
from tulle.lake.merge import three_way


def entry(path: str, content: str, address: str = "x") -> Entry:
    return Entry(path, address, 1, checksum=content * 64)


def change(path: str, before: str, after: str) -> Change:
    found = change_between(entry(path, before) if before else None, entry(path, after) if after else None)
    assert found is not None
    return found


def test_what_only_one_side_changed_is_taken() -> None:
    plan = three_way(
        [change("new", "", "a"), change("gone", "a", ""), change("edited", "a", "b")],
        [change("other", "a", "b")],
    )
    assert plan.writes == {"new": entry("new", "a"), "gone": None, "edited": entry("edited", "b")}
    assert plan.conflicts == ()


def test_the_same_change_on_both_sides_is_none() -> None:
    both = [change("a", "", "a"), change("b", "a", "")]
    assert three_way(both, both).writes == {}
    assert three_way(both, both).conflicts == ()


def test_conflicts_and_who_wins() -> None:
    source = [change("edit", "a", "b"), change("deleted there", "a", "b"), change("deleted here", "a", "")]
    destination = [
        change("edit", "a", "c"),
        change("deleted there", "a", ""),
        change("deleted here", "a", "c"),
    ]
    conflicts = ("deleted here", "deleted there", "edit")
    assert three_way(source, destination).conflicts == conflicts
    assert three_way(source, destination).writes == {}
    assert three_way(source, destination, "dest-wins").writes == {}
    won = three_way(source, destination, "source-wins")
    assert won.conflicts == conflicts
    assert won.writes == {
        "edit": entry("edit", "b"),
        "deleted there": entry("deleted there", "b"),
        "deleted here": None,
    }


def test_equal_bytes_at_different_addresses_are_equal() -> None:
    assert change_between(entry("a", "b", "here"), entry("a", "b", "there")) is None
    unknown = Entry("a", "here", 1)
    assert change_between(unknown, Entry("a", "there", 1)) is not None
    assert change_between(unknown, Entry("a", "here", 1, modified=5.0)) is None
    assert change_between(unknown, Entry("a", "here", 1, content_type="text/plain")) is not None
    assert change_between(unknown, Entry("a", "here", 1, metadata={"k": "v"})) is not None
