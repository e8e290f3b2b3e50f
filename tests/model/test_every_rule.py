"""One history by hand that makes every rule of the machine do what it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.model import machine
from tests.model.test_lake_model import LakeMachine

from tulle.state.db import open_database

HAPPENS = {
    "AlreadyExists",
    "Conflict",
    "Conflict both changed",
    "Conflict moved forward",
    "Conflict staged",
    "Denied",
    "Denied no",
    "Invalid",
    "Invalid already",
    "Invalid first commit",
    "Invalid no conflict",
    "Invalid not in path order",
    "Invalid nothing to amend",
    "Invalid nothing to commit",
    "Invalid was stated",
    "NotFound",
    "NotFound linked already",
    "NothingThereError",
    "PreconditionFailed",
    "branch deleted",
    "cherry-pick",
    "choices",
    "conflicts",
    "copied across",
    "copied back",
    "data collected",
    "draft of nothing new",
    "fast-forward",
    "folders",
    "import",
    "import of nothing new",
    "issued address linked",
    "leftovers collected",
    "merge",
    "object history",
    "pull request merged",
    "reset of one object",
    "revert",
    "right etag",
    "squash",
    "tag deleted",
    "upload completed",
}


@pytest.fixture
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeMachine]:
    """A machine in a new lake, taken down and checked at the end."""
    file = tmp_path_factory.mktemp("model") / "empty.db"
    open_database(f"sqlite:///{file}").close()
    machine.empty_databases.append(file)
    made = LakeMachine()
    yield made
    machine.empty_databases.clear()


def test_every_rule_can_happen(driven: LakeMachine) -> None:
    done: set[str] = set()

    def do(rule: Callable[..., None], *arguments: object) -> None:
        done.add(rule.__name__)
        rule(*arguments)
        driven.names_and_branches_are_as_the_model_says()

    def head(branch: str) -> str:
        return driven.model.heads[branch]

    _objects(driven, do)
    _linking(driven, do)
    _names(driven, do, head)
    _merging(driven, do, head)
    _pulls(driven, do)
    _whole(driven, do, head)
    driven.teardown()
    assert done == {rule.function.__name__ for rule in driven.setup_state().rules}
    assert HAPPENS - set(driven.happened) == set()


def _objects(m: LakeMachine, do: Callable[..., None]) -> None:
    do(m.hard_reset, "main", next(iter(m.model.commits)), False)
    do(m.amend, "main", "too early", None, "", {})
    do(m.edit_and_commit, "main", {"a": b"", "a/1": None})
    do(m.commit, "main", "nothing", "", {}, False, None)
    do(m.put, "main", "a/1", b"x")
    do(m.put_with, "main", 0, b"yy", {"k": "v"}, "text/csv", "match", True)
    do(m.put_with, "main", 0, b"yy", {}, "", "mismatch", False)
    do(m.put_with, "main", 0, b"yy", {}, "", "absent", False)
    do(m.put_damaged, "main", "a/1", b"x", "sha256")
    do(m.put_many, "main", [("a", b""), ("a/", b"x"), ("a/2", b"yy"), ("b/1", b"x"), ("b/1", b"zzz")])
    do(m.status_in_pages, "main", "a", 2)
    do(m.commit, "main", "change", "bob", {"k": "v"}, False, 1)
    do(m.amend, "main", None, None, "", {})
    do(m.amend, "main", None, {"k": "w"}, "bob", {"a/1": b"zzz", "ab": b"x"})
    do(m.delete, "main", 0)
    do(m.delete, "main", 39)
    do(m.delete_many, "main", ["a/2", "zz"])
    do(m.delete_entry, "main", 0, True)
    do(m.delete_entry, "main", 0, False)
    do(m.put, "main", "d", b"x")
    do(m.reset_path, "main", 3, {})
    do(m.reset_path, "main", 0, {"a": b"x", "a/": b"x", "a/1": b"zzz"})
    do(m.reset, "main", "a/")
    do(m.delete_prefix, "main", "b")
    do(m.reset, "main", None)
    do(m.copy, "main", "main", 0, "d", {"k": "w"}, None, "")
    do(m.copy, "main", "main", 0, "d", None, "text/csv", "absent")
    do(m.copy, "main", "main", 0, "nothing", None, None, "mismatch")
    do(m.move, "main", 0, "c/%+ ", False)
    do(m.move, "main", 0, "d", True)
    do(m.set_object_metadata, "main", 1, {"k": "v"})
    do(m.copy_from_the_other, "main", 0, "z/z/z", 0, False)
    do(m.copy_from_the_other, "main", 0, "b/2", 0, True)
    do(m.commit, "main", "change", "", {}, False, None)
    do(m.take_the_other_in_hand)
    do(m.copy_from_the_other, "main", -1, "d", 0, False)
    do(m.take_the_other_in_hand)
    do(m.commit_draft, "main", {"a/1": b"yy", "d": None}, "b", {"k": "v"})
    do(m.put, "main", "b/2", b"x")
    do(m.commit_draft, "main", {"b/1": b"x"}, None, {})
    do(m.commit_draft, "main", {"zz": None}, None, {})
    do(m.list_in_pages, "main", "", "", 2, True)
    do(m.read_part, "main", 0, 1, 2)


def _linking(m: LakeMachine, do: Callable[..., None]) -> None:
    do(m.link, "main", "a", b"x", "plain", "told", "text/csv", {"k": "v"})
    do(m.link, "main", "a", b"x", "both", "wrong", "", {})
    do(m.link_again, "main", "ab", 0)
    do(m.link_many, "main", [("a/1", b"x"), ("a/2", b"yy")], True)
    do(m.link_many, "main", [("a/1", b"x"), ("a/2", b"yy")], False)
    do(m.link_table, "main", [("b/1", b"x"), ("b/2", b"yy"), ("b/1", b"zzz")])
    for is_right in (False, True):
        do(m.issue_address, "main", "a", b"x")
        do(m.link_issued, "main", "a", 0, "", is_right, is_right)
    do(m.start_upload, "main", "d", "text/csv", {"k": "v"}, {})
    do(m.complete_upload, 0, "", {1}, False)
    do(m.put_part, 0, 2, b"yy", True)
    do(m.put_part, 0, 1, b"x", False)
    do(m.complete_upload, 0, "", set(), True)
    do(m.complete_upload, 0, "mismatch", set(), False)
    do(m.complete_upload, 0, "", {1, 2}, False)
    do(m.start_upload, "main", "d", "", {}, {3: b"x"})
    do(m.abort_upload, 0)
    do(m.commit, "main", "other", "", {}, False, None)
    do(m.list_in_pages, "main@", "a", "a/1", 1, False)


def _names(m: LakeMachine, do: Callable[..., None], head: Callable[[str], str]) -> None:
    do(m.delete_branch, "one")
    do(m.create_branch, "one", "main", True, False)
    do(m.create_branch, "one", "main", False, False)
    do(m.create_branch, "two", "main", False, False)
    do(m.delete_branch, "two")
    do(m.delete_branch, "main")
    do(m.create_tag, "v1", "main")
    do(m.create_tag, "v1", "one")
    do(m.delete_tag, "v1")
    do(m.create_tag, "v2", head("main"))
    do(m.expression, "main", [("~", 1), ("^", 1)])
    do(m.expression, "v2", [("^", 2)])
    do(m.names_in_pages, 1, "", False)
    do(m.reflog, "two", 1)


def _merging(m: LakeMachine, do: Callable[..., None], head: Callable[[str], str]) -> None:
    def merge(destination: str, source: str, **ways: object) -> None:
        given = {
            "strategy": None,
            "choosing": "nothing",
            "squash": False,
            "fast_forward": "never",
            "allow_empty": False,
            "veto": False,
            "committer": "",
            "metadata": {},
            "protected": False,
            "tidy": False,
        }
        do(m.merge_with, destination, source, *(given | ways).values())

    def change(branch: str, path: str, data: bytes) -> str:
        do(m.put, branch, path, data)
        do(m.commit, branch, f"{path} on {branch}", "", {}, False, None)
        return head(branch)

    first = change("one", "d", b"zzz")
    merge("main", "one", veto=True)
    merge("main", "one", fast_forward="only", protected=True)
    change("one", "d", b"yy")
    change("main", "d", b"x")
    merge("main", "one", fast_forward="only")
    do(m.conflicts, "one", "main", "a", 1)
    merge("main", "one")
    merge("main", "one", choosing="one too many")
    do(m.put, "main", "a", b"")
    merge("main", "one")
    do(m.reset, "main", None)
    merge("main", "one", choosing="dest", squash=True, allow_empty=True)
    merge("main", "one", choosing="source", squash=True)
    merge("main", "one", strategy="dest-wins")
    merge("main", "one", allow_empty=True)
    do(m.merge, "main", "one", {}, {}, "dest-wins", "")
    do(m.revert, "main", head("main"), 0, False, False)
    do(m.revert, "main", first, 0, False, False)
    last = change("main", "ab", b"zzz")
    do(m.revert, "main", last, 0, False, False)
    do(m.revert, "main", last, 0, False, False)
    do(m.cherry_pick, "one", last, 0, {"k": "v"}, False)
    do(m.cherry_pick, "one", last, 0, None, False)
    do(m.diff, "one", "main", "", True, 2)
    do(m.log, "main", True, 2, first, last)
    do(m.log, "main", False, 2, None, first)
    do(m.history_of_objects, "main", ["d"], ["a/"], False)
    do(m.replace_prefixes, "main", ["a/"], {"a/1": b"x", "a/b/1": b"yy", "d": b""}, False, 1, True, False)
    do(m.replace_prefixes, "main", ["a/"], {"a/1": b"x", "a/b/1": b"yy", "d": b""}, False, 1, False, False)
    do(m.replace_prefixes, "main", ["a"], {"a": b"zzz", "a/1": b""}, False, 1, False, False)
    do(m.replace_prefixes, "main", [], {}, True, 2, False, False)
    do(m.hard_reset, "one", last, False)
    do(m.put, "one", "a", b"zzz")
    do(m.hard_reset, "one", last, False)
    do(m.reset, "one", None)


def _pulls(m: LakeMachine, do: Callable[..., None]) -> None:
    do(m.open_pull, "one", "one", "", {})
    do(m.open_pull, "one", "main", "why", {"z/z/z": b"x", "a": None})
    do(m.change_pull, 0, "New", "closed")
    do(m.merge_pull, 0, None, False, False, False)
    do(m.change_pull, 0, None, "open")
    do(m.put, "one", "z/z/z", b"new")
    do(m.commit, "one", "for the request", "", {}, False, None)
    do(m.merge_pull, 0, "source-wins", False, True, False)
    do(m.merge_pull, 0, "source-wins", False, False, False)
    do(m.merge_pull, 0, "source-wins", False, False, False)
    do(m.change_pull, 0, None, "closed")


def _whole(m: LakeMachine, do: Callable[..., None], head: Callable[[str], str]) -> None:
    do(m.fold, head("main"))
    do(m.refused_where_protected, "one", "a", b"x")
    do(m.refused_where_read_only, "main", "a", b"x")
    do(m.reset, "main", None)
    do(m.collect, True, False, 1)
    do(m.collect, False, False, 2)
    do(m.collect, False, True, 2)
    do(m.make_the_other_again)
    do(m.collect_leftovers, 2)
    do(m.reopen)
