"""Drafts: changes put together aside, and on a branch by one commit."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tulle.errors import Denied, LimitExceeded, NotFound
from tulle.lake import writing
from tulle.lake.hooks.event import Event
from tulle.lake.publish import Publisher
from tulle.lake.repository import Link, Repository


def test_nobody_sees_a_draft_before_it_is_committed(repository: Repository) -> None:
    repository.put("main", "old/a", b"1")
    repository.commit("main", "old")
    draft = repository.draft("main")
    draft.put("new/a", b"2")
    draft.put_many([("new/b", b"3"), ("old/b", b"4")])
    draft.delete_prefix("old/")
    draft.put("old/c", b"5")
    assert [e.path for e in draft.entries()] == ["new/a", "new/b", "old/c"]
    assert [e.path for e in draft.entries("old/")] == ["old/c"]
    assert draft.get("new/a") == b"2"
    with pytest.raises(NotFound):
        draft.get("old/a")
    assert [e.path for e in repository.entries("main")] == ["old/a"]
    commit = repository.commit_draft("main", draft, "new", committer="ann", metadata={"k": "v"})
    assert [e.path for e in repository.entries("main")] == ["new/a", "new/b", "old/c"]
    assert repository.get("main", "old/c") == b"5"
    assert (commit.message, commit.committer, commit.metadata) == ("new", "ann", {"k": "v"})
    assert repository.commit_info("main") == commit
    assert repository.reflog("main")[0].operation == "commit"


def test_a_draft_of_what_is_there_makes_no_commit(repository: Repository) -> None:
    repository.put("main", "a", b"1")
    head = repository.commit("main", "a").id
    draft = repository.draft("main")
    draft.put("a", b"1")
    draft.delete("never")
    assert repository.commit_draft("main", draft, "nothing").id == head
    assert [move.operation for move in repository.reflog("main")].count("commit") == 1


def test_what_is_staged_is_committed_with_a_draft(repository: Repository) -> None:
    draft = repository.draft("main")
    draft.put("a", b"drafted")
    repository.put("main", "a", b"staged")
    repository.put("main", "b", b"staged")
    repository.commit_draft("main", draft, "both")
    assert repository.get("main@", "a") == b"drafted"
    assert repository.get("main@", "b") == b"staged"
    assert repository.status("main") == []


def test_data_in_place_is_linked(repository: Repository) -> None:
    draft = repository.draft("main")
    place = draft.new_data_path()
    assert place.path is not None
    place.path.write_bytes(b"rows")
    (entry,) = draft.link_many([Link("t/part.parquet", place.address, 4)])
    assert draft.location(entry) == str(place.path)
    repository.commit_draft("main", draft, "rows")
    assert repository.get("main", "t/part.parquet") == b"rows"


def test_data_of_a_draft_that_takes_long_is_not_collected(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "now", lambda: time.time() - 100_000)
    draft = repository.draft("main")
    place = draft.new_data_path()
    assert place.path is not None
    place.path.write_bytes(b"rows")
    draft.link_many([Link("t/part.parquet", place.address, 4)])
    draft.put("small", b"1")
    draft.delete("never")
    for entry in draft.entries():
        os.utime(draft.location(entry), (0, 0))
    monkeypatch.undo()
    began = time.time()
    repository.commit_draft("main", draft, "at last")
    for path in ("t/part.parquet", "small"):
        file = Path(repository.location(repository.stat("main", path)))
        assert file.stat().st_mtime > began - 2, path

    monkeypatch.setattr(writing, "now", lambda: time.time() - 100_000)
    late = repository.draft("main")
    entry = late.put("lost", b"1")
    monkeypatch.undo()
    Path(late.location(entry)).unlink()
    with pytest.raises(NotFound):
        repository.commit_draft("main", late, "too late")
    assert not repository.exists("main", "lost")


def test_drafts_side_by_side_all_land(repository: Repository) -> None:
    repository.create_branch("work")

    def land(number: int) -> None:
        draft = repository.draft("work")
        draft.put(f"part/{number}", b"%d" % number)
        repository.commit_draft("work", draft, f"part {number}")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(land, range(12)))
    assert [e.path for e in repository.entries("work")] == sorted(f"part/{n}" for n in range(12))
    assert len([m for m in repository.reflog("work") if m.operation == "commit"]) == 12


def test_a_draft_goes_where_commits_may_go(repository: Repository) -> None:
    draft = repository.draft("main")
    draft.put("a", b"1234")
    repository.set_quota(max_bytes=3)
    with pytest.raises(LimitExceeded):
        repository.commit_draft("main", draft, "too much")
    repository.set_quota()
    repository.protect(["main"])
    with pytest.raises(Denied, match="protected"):
        repository.commit_draft("main", draft, "not here")
    assert list(repository.entries("main")) == []


def test_hooks_judge_a_draft(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Watching:
        def before(self, event: Event) -> None:
            told.append(event.kind)
            if event.commit is not None and event.commit.message == "bad":
                raise Denied("no")

        def after(self, _cx: object, event: Event) -> None:
            told.append(event.kind)

    monkeypatch.setattr(Publisher, "_wants_of", lambda *_: Watching())
    draft = repository.draft("main")
    draft.put("a", b"1")
    with pytest.raises(Denied):
        repository.commit_draft("main", draft, "bad")
    assert not repository.exists("main", "a")
    repository.commit_draft("main", draft, "good")
    assert told == ["pre-commit", "pre-commit", "post-commit"]
    assert repository.get("main", "a") == b"1"


def test_only_what_is_kept_counts_for_a_quota(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.put("main", "old", b"12")
    repository.commit("main", "before")
    repository.set_quota(max_bytes=100)

    def used() -> tuple[int, int]:
        quota = repository.quota()
        return quota.used_bytes, quota.used_objects

    class Refusing:
        def before(self, event: Event) -> None:
            raise Denied(event.kind)

        def after(self, _cx: object, _event: Event) -> None:
            raise AssertionError

    draft = repository.draft("main")
    draft.put("a", b"123")
    draft.delete("old")
    draft.delete("none")
    with monkeypatch.context() as refused:
        refused.setattr(Publisher, "_wants_of", lambda *_: Refusing())
        with pytest.raises(Denied):
            repository.commit_draft("main", draft, "refused")
    assert used() == (2, 1)
    repository.commit_draft("main", draft, "good")
    assert used() == (5, 2)
    repository.commit_draft("main", draft, "again, nothing differs")
    assert used() == (5, 2)
    repository.put("main", "staged", b"1234")
    more = repository.draft("main")
    more.put("b", b"1")
    repository.commit_draft("main", more, "with what is staged")
    assert used() == (10, 4), "each once"
