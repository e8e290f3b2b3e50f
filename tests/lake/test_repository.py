"""The door: what a user of the lake sees."""

from __future__ import annotations

import pytest

from tulle.errors import Conflict
from tulle.lake.repository import Repository


def test_branch_commit_merge_and_read(repository: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a/one", b"1")
    repository.put("try", "a/two", b"2")
    repository.commit("try", "first")
    assert not repository.exists("main", "a/one")
    result = repository.merge("try", "main")
    assert not result.unchanged
    assert repository.get("main", "a/one") == b"1"
    assert [entry.path for entry in repository.list("main").entries] == ["a/one", "a/two"]
    assert repository.list("main", delimiter="/").prefixes == ("a/",)
    assert repository.merge("try", "main").unchanged


def test_conflicts_are_listed_and_strategies_decide_them(repository: Repository) -> None:
    repository.put("main", "a", b"base")
    repository.commit("main", "base")
    repository.create_branch("try")
    repository.put("try", "a", b"theirs")
    repository.commit("try", "theirs")
    repository.put("main", "a", b"ours")
    repository.commit("main", "ours")
    with pytest.raises(Conflict) as caught:
        repository.merge("try", "main")
    assert [problem.message for problem in caught.value.problems] == ["a"]
    assert repository.get("main", "a") == b"ours"
    assert repository.merge("try", "main", strategy="source-wins").decided_conflicts == ("a",)
    assert repository.get("main", "a") == b"theirs"
    repository.revert("main", "main", parent_number=1)
    assert repository.get("main", "a") == b"ours"
