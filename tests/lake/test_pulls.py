"""Pull requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tulle.errors import Conflict, Denied, Invalid, NotFound
from tulle.lake import pulls
from tulle.lake.publish import GateCall
from tulle.lake.pulls import Pull
from tulle.lake.repository import Lake, Repository

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def repository(lake: Lake) -> Repository:
    """A repository whose branch `work` is ahead of main, in the hands of ada."""
    made = lake.create_repository("sales")
    made.put("main", "a", b"1")
    made.commit("main", "base")
    made.create_branch("work", "main")
    made.put("work", "b", b"2")
    made.commit("work", "work")
    return lake.repository("sales", actor="ada")


@pytest.fixture
def pull(repository: Repository) -> Pull:
    """An open pull request of work into main."""
    return pulls.create(repository, "Work", "work", "main", description="Why")


class TestAPull:
    def test_is_kept_as_it_was_asked_for(self, repository: Repository, pull: Pull) -> None:
        assert pulls.get(repository, pull.id) == pull
        assert (pull.status, pull.title, pull.description, pull.author) == ("open", "Work", "Why", "ada")
        assert (pull.source, pull.destination, pull.closed_at, pull.merged_commit_id) == (
            "work",
            "main",
            None,
            None,
        )

    def test_of_nonsense_is_refused(self, repository: Repository) -> None:
        for title, source, kind in [
            ("t", "main", Invalid),
            (" ", "work", Invalid),
            ("t" * 1025, "work", Invalid),
            ("\0", "work", Invalid),
            ("t", "nowhere", NotFound),
        ]:
            with pytest.raises(kind):
                pulls.create(repository, title, source, "main")
        with pytest.raises(NotFound):
            pulls.create(repository, "t", "main", "nowhere")
        assert pulls.find(repository) == []

    def test_belongs_to_one_repository(self, lake: Lake, pull: Pull) -> None:
        with pytest.raises(NotFound):
            pulls.get(lake.create_repository("other"), pull.id)

    def test_can_be_told_otherwise_closed_and_opened_again(self, repository: Repository, pull: Pull) -> None:
        changed = pulls.change(repository, pull.id, title="Better", description="")
        assert (changed.title, changed.description, changed.status) == ("Better", "", "open")
        closed = pulls.change(repository, pull.id, status="closed")
        assert closed.status == "closed"
        assert closed.closed_at is not None
        with pytest.raises(Conflict, match="closed"):
            pulls.merge(repository, pull.id)
        assert pulls.change(repository, pull.id, status="open").closed_at is None
        for wrong in ("merged", "nonsense"):
            with pytest.raises(Invalid):
                pulls.change(repository, pull.id, status=wrong)
        with pytest.raises(Invalid):
            pulls.change(repository, pull.id, title="")
        with pytest.raises(NotFound):
            pulls.change(repository, "nobody", title="x")


def test_lists_come_in_pages_by_time(repository: Repository) -> None:
    made = [pulls.create(repository, f"{number}", "work", "main") for number in range(5)]
    assert pulls.find(repository) == made
    assert pulls.find(repository, limit=2) == made[:2]
    assert pulls.find(repository, after=made[1].id, limit=2) == made[2:4]
    assert pulls.find(repository, newest_first=True, after=made[3].id) == made[2::-1]
    assert pulls.find(repository, prefix=made[2].id) == [made[2]]
    closed = pulls.change(repository, made[0].id, status="closed")
    merged = pulls.merge(repository, made[1].id)
    assert pulls.find(repository, status="open") == made[2:]
    assert pulls.find(repository, status="closed") == [closed, merged]
    with pytest.raises(Invalid):
        pulls.find(repository, status="merged")


class TestAMerge:
    def test_merges_and_says_by_which_commit(self, repository: Repository, pull: Pull) -> None:
        merged = pulls.merge(repository, pull.id)
        commit = repository.commit_info("main")
        assert (merged.status, merged.merged_commit_id) == ("merged", commit.id)
        assert merged.closed_at is not None
        assert (commit.message, commit.committer) == ("Work\n\nWhy", "ada")
        assert commit.metadata == {"tulle-pull": pull.id}
        assert len(commit.parents) == 2
        assert repository.get("main", "b") == b"2"
        with pytest.raises(Conflict, match="merged"):
            pulls.merge(repository, pull.id)
        with pytest.raises(Conflict, match="merged"):
            pulls.change(repository, pull.id, status="open")
        assert pulls.change(repository, pull.id, title="New").title == "New"

    def test_can_squash_and_take_a_side(self, repository: Repository, pull: Pull) -> None:
        repository.put("main", "b", b"other")
        repository.commit("main", "other")
        with pytest.raises(Conflict):
            pulls.merge(repository, pull.id)
        assert pulls.get(repository, pull.id).status == "open"
        pulls.merge(repository, pull.id, squash=True, strategy="source-wins", message="In one")
        commit = repository.commit_info("main")
        assert (commit.message, len(commit.parents)) == ("In one", 1)
        assert repository.get("main", "b") == b"2"

    def test_that_a_gate_refuses_leaves_it_open(self, repository: Repository, pull: Pull) -> None:
        def refuse(call: GateCall) -> None:
            raise Denied("no")

        with pytest.raises(Denied):
            pulls.merge(repository, pull.id, gate=refuse)
        assert pulls.get(repository, pull.id).status == "open"
        assert not repository.exists("main", "b")

    def test_of_nothing_is_refused(self, repository: Repository, pull: Pull) -> None:
        repository.merge("work", "main")
        with pytest.raises(Invalid, match="already"):
            pulls.merge(repository, pull.id)
        assert pulls.get(repository, pull.id).status == "open"

    @pytest.mark.parametrize("squash", [False, True])
    def test_that_could_not_be_noted_is_found_again(
        self, repository: Repository, pull: Pull, squash: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(pulls, "_note", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                pulls.merge(repository, pull.id, squash=squash)
        commit = repository.commit_info("main")
        repository.put("main", "later", b"1")
        head = repository.commit("main", "later")
        merged = pulls.merge(repository, pull.id)
        assert (merged.status, merged.merged_commit_id) == ("merged", commit.id)
        assert repository.commit_info("main") == head

    def test_that_was_closed_meanwhile_is_not_done(
        self, repository: Repository, pull: Pull, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = repository.merge

        def closing(*args: Any, **options: Any) -> Any:
            pulls.change(repository, pull.id, status="closed")
            return real(*args, **options)

        monkeypatch.setattr(repository, "merge", closing)
        with pytest.raises(Conflict, match="closed meanwhile"):
            pulls.merge(repository, pull.id)
        assert not repository.exists("main", "b")

    @pytest.mark.parametrize("squash", [False, True])
    def test_by_many_at_once_is_done_once(self, repository: Repository, pull: Pull, squash: bool) -> None:
        def one(_: int) -> str | None:
            try:
                return pulls.merge(repository, pull.id, squash=squash).merged_commit_id
            except Conflict as exc:
                assert "is merged" in exc.message
                return None

        with ThreadPoolExecutor(4) as pool:
            told = set(pool.map(one, range(4))) - {None}
        commit = repository.commit_info("main")
        assert told == {commit.id}
        assert pulls.get(repository, pull.id).merged_commit_id == commit.id
        assert [c.metadata.get("tulle-pull") for c in repository.log("main", first_parent=True)][:2] == [
            pull.id,
            None,
        ]
