"""What the completed history can do: amend, cherry-pick, fast-forward, choices, conflicts, filtered logs, pages."""

from __future__ import annotations

import pytest

from tulle.errors import Conflict, Invalid, Unavailable
from tulle.lake import locks, upkeep
from tulle.lake.repository import Lake, Repository

DATABASES = ("sqlite", "postgres")


def commit(repository: Repository, branch: str, message: str, **content: bytes | None) -> str:
    """Commit what `content` says, None where a path goes."""
    for path, data in content.items():
        if data is None:
            repository.delete(branch, path)
        else:
            repository.put(branch, path, data)
    return repository.commit(branch, message).id


def shown(repository: Repository, ref: str) -> dict[str, bytes]:
    return {entry.path: repository.get(ref, entry.path) for entry in repository.entries(ref)}


def test_amending_replaces_the_last_commit(repository: Repository) -> None:
    first = commit(repository, "main", "one", a=b"1")
    old = commit(repository, "main", "tow", b=b"2")
    repository.put("main", "c", b"3")
    repository.delete("main", "b")
    new = repository.amend("main", message="two", metadata={"why": "typo"})
    assert new.parents == (first,)
    assert (new.message, new.metadata) == ("two", {"why": "typo"})
    assert shown(repository, "main@") == {"a": b"1", "c": b"3"} == shown(repository, "main")
    assert shown(repository, old) == {"a": b"1", "b": b"2"}
    assert [change.path for change in repository.diff(first, "main")] == ["c"]
    assert repository.status("main") == []
    assert repository.reflog("main")[0].operation == "amend"
    assert repository.amend("main", message="two!").metadata == {"why": "typo"}


def test_amending_needs_a_difference_and_a_commit(repository: Repository) -> None:
    with pytest.raises(Invalid, match="first commit"):
        repository.amend("main", message="x")
    commit(repository, "main", "one", a=b"1")
    with pytest.raises(Invalid, match="nothing to amend"):
        repository.amend("main")
    with pytest.raises(Invalid, match="needs a message"):
        repository.amend("main", message=" ")


def test_amending_a_merge_keeps_both_parents(repository: Repository) -> None:
    repository.create_branch("try")
    commit(repository, "try", "theirs", b=b"2")
    commit(repository, "main", "ours", a=b"1")
    merged = repository.merge("try", "main").commit
    repository.put("main", "c", b"3")
    amended = repository.amend("main", message="merged better")
    assert amended.parents == merged.parents
    assert shown(repository, "main@") == {"a": b"1", "b": b"2", "c": b"3"}


def test_cherry_picking_does_what_a_commit_did(repository: Repository) -> None:
    commit(repository, "main", "base", a=b"1", z=b"z")
    repository.create_branch("try")
    commit(repository, "try", "first", b=b"2")
    picked = repository.commit_info(commit(repository, "try", "second", a=b"changed", z=None))
    new = repository.cherry_pick("main", "try")
    assert new.message == "second"
    assert new.metadata == {"cherry-pick-origin": picked.id, "cherry-pick-committer": ""}
    assert shown(repository, "main@") == {"a": b"changed"}
    with pytest.raises(Invalid, match="already"):
        repository.cherry_pick("main", "try")
    commit(repository, "main", "other", a=b"other")
    commit(repository, "try", "third", a=b"third")
    with pytest.raises(Conflict, match="'a'"):
        repository.cherry_pick("main", "try")
    repository.put("main", "staged", b"")
    with pytest.raises(Conflict, match="staged"):
        repository.cherry_pick("main", "try~1")


def test_fast_forward_moves_the_branch_and_makes_no_commit(repository: Repository) -> None:
    repository.create_branch("try")
    head = commit(repository, "try", "one", a=b"1")
    result = repository.merge("try", "main", fast_forward="allow")
    assert repository.resolve("main") == head == result.commit.id
    assert repository.merge("try", "main", fast_forward="only").unchanged
    commit(repository, "main", "own", b=b"2")
    commit(repository, "try", "two", c=b"3")
    with pytest.raises(Conflict, match="cannot be moved forward"):
        repository.merge("try", "main", fast_forward="only")
    assert len(repository.merge("try", "main", fast_forward="allow").commit.parents) == 2
    with pytest.raises(Invalid, match="fast-forward"):
        repository.merge("try", "main", fast_forward="maybe")  # type: ignore[arg-type]


def diverged(repository: Repository) -> None:
    commit(repository, "main", "base", a=b"1", b=b"1", c=b"1")
    repository.create_branch("try")
    commit(repository, "try", "theirs", a=b"theirs", b=b"theirs", c=None)
    commit(repository, "main", "ours", a=b"ours", b=b"ours", c=b"ours")


def test_conflicts_are_listed_with_what_each_side_holds(repository: Repository) -> None:
    diverged(repository)
    found = repository.conflicts("try", "main")
    assert [conflict.path for conflict in found] == ["a", "b", "c"]
    sides = [found[2].base, found[2].source, found[2].destination]
    assert [side and side.size for side in sides] == [1, None, 4]
    assert repository.conflicts("main", "main") == []
    assert repository.conflicts("try", "main", limit=1) == found[:1]
    assert repository.conflicts("try", "main", after="a", limit=1) == found[1:2]
    assert repository.conflicts("try", "main", after="c") == []


def test_each_conflict_goes_the_way_that_was_chosen(repository: Repository) -> None:
    diverged(repository)
    with pytest.raises(Conflict) as refused:
        repository.merge("try", "main", choices={"a": "source"})
    assert [problem.message for problem in refused.value.problems] == ["b", "c"]
    with pytest.raises(Invalid, match="no conflict"):
        repository.merge("try", "main", strategy="source-wins", choices={"nowhere": "dest"})
    with pytest.raises(Invalid, match="no choice"):
        repository.merge("try", "main", choices={"a": "ours"})  # type: ignore[dict-item]
    result = repository.merge("try", "main", strategy="dest-wins", choices={"a": "source", "c": "source"})
    assert shown(repository, "main@") == {"a": b"theirs", "b": b"ours"}
    assert result.decided_conflicts == ("a", "b", "c")


def test_an_empty_merge_is_a_commit_only_where_it_was_asked_for(repository: Repository) -> None:
    repository.create_branch("try")
    assert repository.merge("try", "main").unchanged
    merged = repository.merge("try", "main", allow_empty=True)
    assert not merged.unchanged
    assert len(merged.commit.parents) == 2


def test_logs_by_path_and_by_line(repository: Repository) -> None:
    one = commit(repository, "main", "one", **{"x/1": b"1"})
    repository.create_branch("try")
    two = commit(repository, "try", "two", **{"x/2": b"2", "y": b"y"})
    three = commit(repository, "main", "three", y=b"Y")
    merged = repository.merge("try", "main", strategy="source-wins").commit.id

    def ids(**how: object) -> list[str]:
        return [found.id for found in repository.log("main", **how)]  # type: ignore[arg-type]

    assert set(ids(paths=["y"])) == {two, three}
    assert set(ids(prefixes=["x/"])) == {one, two}
    assert ids(prefixes=["x/2"], paths=["x/1"])[-1] == one
    assert ids(first_parent=True)[:3] == [merged, three, one]
    assert ids(first_parent=True, stop_at=three) == [merged, three]
    assert ids(since=repository.commit_info(merged).date) == [merged]
    assert ids(first_parent=True, after=merged, limit=1) == [three]


def test_pages_of_differences_join_to_the_whole(repository: Repository) -> None:
    for number in range(7):
        repository.put("main", f"p/{number}", b"x")
    repository.put("main", "q", b"x")
    staged: list[str] = []
    more = True
    while more:
        page, more = repository.changes_of("main", prefix="p/", after=staged[-1] if staged else "", limit=3)
        staged += [change.path for change in page]
    assert staged == [f"p/{number}" for number in range(7)]
    repository.commit("main", "one")
    compared: list[str] = []
    more = True
    while more:
        page, more = repository.diff_page("main~1", "main", after=compared[-1] if compared else "", limit=3)
        compared += [change.path for change in page]
    assert compared == [*staged, "q"]
    assert repository.diff_page("main~1", "main", limit=8)[1] is False


def test_the_actor_commits_and_is_in_the_reflog(lake: Lake) -> None:
    lake.create_repository("acted", actor="ann")
    repository = lake.repository("acted", actor="ben")
    repository.create_branch("try")
    commit(repository, "try", "one", a=b"1")
    repository.delete_branch("try")
    assert [(move.operation, move.actor) for move in repository.reflog("try")] == [
        ("delete", "ben"),
        ("commit", "ben"),
        ("create", "ben"),
    ]
    assert repository.reflog("main")[0].actor == "ann"
    assert repository.acting_as("cem").actor == "cem"


def test_a_commit_that_was_made_is_told_though_its_lock_stays(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_arguments: object) -> None:
        raise Unavailable("the control-plane database is busy")

    repository.put("main", "a", b"1")
    monkeypatch.setattr(locks, "unlock", busy)
    monkeypatch.setattr(upkeep, "is_due", lambda *_arguments: True)
    commit = repository.commit("main", "one")
    assert repository.resolve("main") == commit.id


def test_a_log_ends_where_it_is_told_though_that_is_older_than_since(repository: Repository) -> None:
    for number in range(4):
        repository.put("main", "a", b"%d" % number)
        repository.commit("main", f"{number}", date=1000.0 * number + 1000)
    told = repository.log("main", since=2500.0, stop_at="main~2")
    assert [commit.message for commit in told] == ["3", "2"]
