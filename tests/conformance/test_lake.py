"""What a lake must do, run on each database and each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore
from tests.lake.databases import Postgres

from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, PreconditionFailed
from tulle.lake.blobs import Blobs, StoreBlobs, open_blobs
from tulle.lake.repository import Lake, Repository
from tulle.state.db import Database, open_database

KEYS = ["a", "a b", "a%20b", "a+b", "a/b", "a/é", "a/日本", "b//c", "z/\U0001f40b"]


@pytest.fixture(params=["local", "memory", "obstore on disk"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "local":
        return open_blobs(f"local://{tmp_path / 'store'}")
    if request.param == "memory":
        return open_blobs("memory:///")
    (tmp_path / "disk").mkdir()
    return StoreBlobs(LocalStore(tmp_path / "disk"), f"file://{tmp_path / 'disk'}")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def one_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """One database for all tests of a kind: each has a repository of its own."""
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('conformance') / 'state.db'}")
        yield opened
        opened.close()
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.make()
    opened = open_database(url)
    yield opened
    opened.close()
    server.drop(url)


@pytest.fixture
def repository(one_database: Database, blobs: Blobs) -> Iterator[Repository]:
    lake = Lake(one_database, blobs)
    yield lake.create_repository("sales", metadata={"a": "ü"})
    lake.delete_repository("sales", force=True)


def paths(repository: Repository, ref: str) -> list[str]:
    return [entry.path for entry in repository.entries(ref)]


def test_what_is_put_is_there_staged_and_committed(repository: Repository) -> None:
    for key in KEYS:
        repository.put("main", key, key.encode(), content_type="text/x", metadata={"k": key})
    for ref in ("main", repository.commit("main", "all").id):
        assert paths(repository, ref) == sorted(KEYS, key=str.encode)
        for key in KEYS:
            entry = repository.stat(ref, key)
            assert (entry.content_type, entry.metadata, entry.size) == (
                "text/x",
                {"k": key},
                len(key.encode()),
            )
            assert repository.get(ref, key) == key.encode()


def test_pages_go_on_where_they_ended(repository: Repository) -> None:
    repository.put_many("main", [(f"n/{number:03}", b"x") for number in range(300)])
    repository.commit("main", "n")
    repository.put("main", "n/150x", b"staged")
    repository.delete("main", "n/007")
    expected = sorted({f"n/{n:03}" for n in range(300) if n != 7} | {"n/150x"})
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = repository.list("main", "n/", after, limit=41)
        found += [entry.path for entry in page.entries]
        after = page.next
    assert found == expected
    assert repository.list("main", delimiter="/").prefixes == ("n/",)


def test_conditions(repository: Repository) -> None:
    first = repository.put("main", "a", b"1", if_absent=True)
    with pytest.raises(AlreadyExists):
        repository.put("main", "a", b"2", if_absent=True)
    with pytest.raises(PreconditionFailed):
        repository.put("main", "a", b"2", if_match="0" * 32)
    repository.put("main", "a", b"2", if_match=first.etag)
    assert repository.get("main", "a") == b"2"


def test_history(repository: Repository) -> None:
    repository.put("main", "a", b"1")
    one = repository.commit("main", "one")
    repository.create_branch("try")
    repository.put("try", "b", b"2")
    two = repository.commit("try", "two", metadata={"by": "é"})
    assert [c.path for c in repository.diff("main", "try")] == ["b"]
    merged = repository.merge("try", "main").commit
    assert merged.parents == (one.id, two.id)
    assert [c.message for c in repository.log("main")][1:] == ["two", "one", "Repository created"]
    repository.create_tag("v1.0", "main")
    repository.revert("main", two.id)
    assert paths(repository, "main") == ["a"]
    assert paths(repository, "v1.0") == ["a", "b"]
    repository.hard_reset("main", "v1.0")
    assert repository.resolve("main") == merged.id
    assert repository.reflog("main", limit=1)[0].operation == "hard reset"
    with pytest.raises(Invalid):
        repository.commit("main", "nothing")


def test_both_sides_changed(repository: Repository) -> None:
    repository.create_branch("try")
    for branch in ("main", "try"):
        repository.put(branch, "a", branch.encode())
        repository.commit(branch, branch)
    with pytest.raises(Conflict):
        repository.merge("try", "main")
    assert [c.path for c in repository.conflicts("try", "main")] == ["a"]
    repository.merge("try", "main", choices={"a": "source"})
    assert repository.get("main", "a") == b"try"


def test_names_are_listed_by_their_bytes(repository: Repository) -> None:
    names = ["B", "a", "a-b", "a_b", "ab", "Z9", "z", "_x"]
    for name in names:
        repository.create_branch(name)
        repository.create_tag(f"t.{name}", "main")
    everything = sorted([*names, "main"], key=str.encode)
    assert [branch.name for branch in repository.branches()] == everything
    assert [branch.name for branch in repository.branches(after="a-b", limit=3)] == everything[
        everything.index("a-b") + 1 :
    ][:3]
    assert [b.name for b in repository.branches("a")] == ["a", "a-b", "a_b", "ab"]
    assert [tag.name for tag in repository.tags()] == sorted(f"t.{name}" for name in names)


def test_metadata_only_operations(repository: Repository) -> None:
    repository.put("main", "a", b"1")
    repository.copy("main", "main", "a", "copies/a")
    repository.move("main", "a", "moved/a +%")
    assert paths(repository, "main") == ["copies/a", "moved/a +%"]
    assert repository.get("main", "moved/a +%") == b"1"
    repository.set_object_metadata("main", "copies/a", {"x": "y"})
    assert repository.stat("main", "copies/a").metadata == {"x": "y"}
    assert repository.delete_many("main", ["copies/a", "nothing"]) == ["nothing"]
    with pytest.raises(NotFound):
        repository.get("main", "copies/a")
    repository.reset("main")
    assert paths(repository, "main") == []


def test_reading_goes_on_over_commits_and_folds(repository: Repository) -> None:
    repository.put_many("main", [(f"{number}", b"x") for number in range(50)])
    repository.commit("main", "fifty")
    reading = repository.entries("main")
    next(reading)
    repository.put("main", "0", b"y")
    repository.commit("main", "other")
    repository.fold("main")
    assert len(list(reading)) == 49


@pytest.mark.parametrize("text", ["nul \0", "half \ud800"])
def test_text_that_some_database_cannot_keep_is_refused_by_all(repository: Repository, text: str) -> None:
    for refused in (
        lambda: repository.commit("main", text, allow_empty=True),
        lambda: repository.commit("main", "x", committer=text, allow_empty=True),
        lambda: repository.put("main", "a", b"", content_type=text),
        lambda: repository.put("main", text, b""),
    ):
        with pytest.raises(Invalid):
            refused()
    assert repository.status("main") == []
