"""The door: what a user of the lake sees."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from tulle.lake import reading
from tulle.lake.repository import Commit, GateCall, Lake, Link, Repository, open_lake
from tulle.state.db import Database
from tulle.state.tables import lake_staged

DATABASES = ("sqlite", "postgres")


def paths(repository: Repository, ref: str) -> list[str]:
    return [entry.path for entry in repository.entries(ref)]


# ── repositories ─────────────────────────────────────────────────────────────────────────────────────────


def test_repositories_are_made_found_and_forgotten(lake: Lake) -> None:
    made = lake.create_repository("sales", metadata={"domain": "sales"})
    lake.create_repository("customers")
    assert [repository.name for repository in lake.repositories()] == ["customers", "sales"]
    assert lake.repository("sales").metadata == {"domain": "sales"}
    assert [commit.message for commit in made.log("main")] == ["Repository created"]
    with pytest.raises(AlreadyExists, match="'sales'"):
        lake.create_repository("sales")
    with pytest.raises(NotFound, match="'salse'") as caught:
        lake.repository("salse")
    assert caught.value.hint == "did you mean 'sales'?"


def test_a_forgotten_repository_keeps_its_data_and_a_new_one_never_meets_it(lake: Lake) -> None:
    old = lake.create_repository("sales")
    old.put("main", "a", b"1")
    old.commit("main", "first")
    old.put("main", "b", b"staged")
    (file,) = old.files("main@")
    lake.delete_repository("sales")
    assert Path(file).read_bytes() == b"1"
    assert lake.repositories() == []
    with pytest.raises(NotFound):
        old.put("main", "c", b"")
    new = lake.create_repository("sales")
    assert paths(new, "main") == []
    with pytest.raises(NotFound):
        lake.delete_repository("none")


@pytest.mark.parametrize("name", ["", "ab", "Sales", "-sales", "sa_les", "sa/les", "a" * 64, "säles", "a\n"])
def test_names_a_repository_may_not_have(lake: Lake, name: str) -> None:
    with pytest.raises(Invalid, match="repository's name"):
        lake.create_repository(name)


# ── branches, tags and refs ──────────────────────────────────────────────────────────────────────────────


def test_branches(repository: Repository) -> None:
    head = repository.resolve("main")
    assert repository.create_branch("run-1") == repository.branch("run-1")
    repository.create_branch("Run-2", "run-1")
    assert [branch.name for branch in repository.branches()] == ["Run-2", "main", "run-1"]
    assert [branch.name for branch in repository.branches("run-")] == ["run-1"]
    assert {branch.commit_id for branch in repository.branches()} == {head}
    with pytest.raises(AlreadyExists, match="'run-1'"):
        repository.create_branch("run-1")
    assert repository.create_branch("run-1", exist_ok=True).commit_id == head
    repository.delete_branch("run-1")
    with pytest.raises(NotFound, match="'run-1'"):
        repository.branch("run-1")
    with pytest.raises(Denied, match="default branch"):
        repository.delete_branch("main")
    with pytest.raises(NotFound, match="nowhere"):
        repository.create_branch("other", "nowhere")
    with pytest.raises(NotFound):
        repository.delete_branch("nowhere")


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "a~1", "a@", "a..b", "x" * 256, "a\n"])
def test_names_a_branch_or_tag_may_not_have(repository: Repository, name: str) -> None:
    with pytest.raises(Invalid, match="name of a branch"):
        repository.create_branch(name)
    with pytest.raises(Invalid, match="name of a tag"):
        repository.create_tag(name, "main")


def test_tags(repository: Repository) -> None:
    tag = repository.create_tag("v1", "main")
    repository.put("main", "a", b"1")
    repository.commit("main", "later")
    assert repository.tags() == [tag]
    assert repository.resolve("v1") == tag.commit_id != repository.resolve("main")
    for taken in ("v1", "main"):
        with pytest.raises(AlreadyExists, match=taken):
            repository.create_tag(taken, "main")
    with pytest.raises(AlreadyExists, match="tag 'v1'"):
        repository.create_branch("v1")
    with pytest.raises(NotFound, match="no branch 'v1'"):
        repository.put("v1", "a", b"2")
    repository.delete_tag("v1")
    with pytest.raises(NotFound) as caught:
        repository.delete_tag("v2")
    assert "v2" in str(caught.value)


def test_ref_expressions(repository: Repository) -> None:
    ids = [repository.resolve("main")]
    for number in range(3):
        repository.put("main", f"{number}", b"x")
        ids.append(repository.commit("main", f"{number}").id)
    repository.create_branch("side", "main~1")
    repository.put("side", "s", b"x")
    side = repository.commit("side", "side").id
    merge = repository.merge("side", "main").commit.id
    expected = {
        "main": merge,
        "main@": merge,
        "main~": ids[3],
        "main~1": ids[3],
        "main~~": ids[2],
        "main~4": ids[0],
        "main^": ids[3],
        "main^1": ids[3],
        "main^2": side,
        "main^2~1": ids[2],
        "main^0": merge,
        "main~0": merge,
        merge: merge,
        merge[:20]: merge,
        f"{merge[:20]}^2": side,
    }
    for ref, id_ in expected.items():
        assert repository.resolve(ref) == id_, ref
    for missing in ("main~5", "main^3", "nothing", "0" * 64, "0000000"):
        with pytest.raises(NotFound):
            repository.resolve(missing)
    for unreadable in ("", "main@~1", "main~1@", "@", "~1", "a b", "main~x", f"{merge}@", "../x", "main\n"):
        with pytest.raises(Invalid):
            repository.resolve(unreadable)


def test_an_unknown_ref_suggests_a_near_one(repository: Repository) -> None:
    repository.create_tag("release", "main")
    with pytest.raises(NotFound) as caught:
        repository.stat("relaese", "a")
    assert caught.value.hint == "did you mean 'release'?"


# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b",
        "a b",
        "ü/日本/🙂",
        "100%",
        "%2F",
        "a+b",
        "a//b",
        "/lead",
        "trail/",
        "..",
        "../x",
        "a\nb",
        "\x01",
        "x" * 1024,
    ],
)
def test_any_path_round_trips(repository: Repository, path: str) -> None:
    data = path.encode()
    repository.put("main", path, data)
    assert repository.get("main", path) == data
    repository.commit("main", "one")
    assert repository.get("main@", path) == data
    assert paths(repository, "main@") == [path]
    assert [entry.path for entry in repository.list("main", prefix=path[:1]).entries] == [path]
    repository.fold("main")
    assert repository.get("main", path) == data
    (file,) = repository.files("main")
    assert Path(file).read_bytes() == data
    assert re.fullmatch(r"[\w./-]+", file), "what users call things never names a file"


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 1025, "é" * 513, "\ud800"])
def test_paths_that_may_not_be(repository: Repository, path: str) -> None:
    for work in (
        lambda: repository.put("main", path, b""),
        lambda: repository.get("main", path),
        lambda: repository.exists("main", path),
        lambda: repository.delete("main", path),
        lambda: repository.link("main", path, "data/x"),
    ):
        with pytest.raises(Invalid):
            work()


def test_an_entry_says_what_was_put(repository: Repository, tmp_path: Path) -> None:
    file = tmp_path / "some.bin"
    file.write_bytes(b"x" * 5_000_000)
    before = time.time()
    entry = repository.put("main", "a", file, content_type="text/x", metadata={"who": "me"})
    assert entry == repository.stat("main", "a")
    assert (entry.size, entry.content_type, entry.metadata) == (5_000_000, "text/x", {"who": "me"})
    assert entry.checksum == hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry.etag == hashlib.md5(file.read_bytes()).hexdigest()
    assert before - 0.001 <= entry.modified <= time.time()
    repository.commit("main", "one")
    assert repository.stat("main", "a") == entry
    assert repository.get("main", "a") == file.read_bytes()
    assert b"".join(repository.open("main", "a", 4_999_998)) == b"xx"
    assert repository.put("main", "b", iter([b"1", b"2"])).size == 2
    with pytest.raises(NotFound, match="no file"):
        repository.put("main", "c", tmp_path / "none")
    assert not repository.exists("main", "c")


def test_prefixes_are_text(repository: Repository) -> None:
    for work in (
        lambda: repository.list("main", "\ud800"),
        lambda: repository.list("main", "", "\ud800"),
        lambda: repository.entries("main", "\ud800"),
        lambda: repository.reset("main", "\ud800"),
        lambda: repository.delete_prefix("main", "\ud800"),
        lambda: repository.list("main", None),  # type: ignore[arg-type]
    ):
        with pytest.raises(Invalid, match="path"):
            work()


def test_a_part_of_a_large_batch_can_be_reset(repository: Repository) -> None:
    repository.put_many(
        "main", ((f"{'keep' if number % 2 else 'drop'}/{number:04d}", b"") for number in range(600))
    )
    repository.reset("main", "drop/")
    assert len(paths(repository, "main")) == 300
    repository.put("main", "keep/0001", b"newer")
    repository.reset("main", "keep/01")
    assert len(paths(repository, "main")) == 250
    assert repository.get("main", "keep/0001") == b"newer"


def test_metadata_is_text_of_a_bounded_size(repository: Repository) -> None:
    for metadata in ({"a": 1}, {1: "a"}, {"a": "x" * 20_000}):
        with pytest.raises(Invalid, match="metadata"):
            repository.put("main", "a", b"", metadata=metadata)  # type: ignore[dict-item]
    assert paths(repository, "main") == []


def test_put_if_absent(repository: Repository) -> None:
    repository.put("main", "a", b"1", if_absent=True)
    with pytest.raises(AlreadyExists, match="'a'"):
        repository.put("main", "a", b"2", if_absent=True)
    repository.commit("main", "one")
    with pytest.raises(AlreadyExists, match="'a'"):
        repository.put("main", "a", b"2", if_absent=True)
    repository.delete("main", "a")
    repository.put("main", "a", b"3", if_absent=True)
    assert repository.get("main", "a") == b"3"


def test_what_is_not_there(repository: Repository) -> None:
    for work in (
        lambda: repository.get("main", "none"),
        lambda: repository.stat("main@", "none"),
        lambda: repository.delete("main", "none"),
        lambda: repository.copy("main", "main", "none", "b"),
        lambda: repository.get("nowhere", "a"),
        lambda: repository.put("nowhere", "a", b""),
        lambda: repository.delete("nowhere", "a"),
        lambda: repository.delete_prefix("nowhere", ""),
        lambda: repository.put_many("nowhere", []),
        lambda: repository.list("nowhere"),
        lambda: repository.status("nowhere"),
        lambda: repository.reset("nowhere"),
        lambda: repository.commit("nowhere", "x"),
        lambda: repository.merge("main", "nowhere"),
        lambda: repository.merge("nowhere", "main"),
    ):
        with pytest.raises(NotFound):
            work()
    assert repository.delete_prefix("main", "none") == 0


def test_staged_over_committed_and_committed_alone(repository: Repository) -> None:
    repository.put_many("main", [("a", b"1"), ("b", b"1")])
    repository.commit("main", "one")
    repository.put("main", "a", b"2")
    repository.put("main", "c", b"2")
    repository.delete("main", "b")
    assert paths(repository, "main") == ["a", "c"]
    assert paths(repository, "main@") == ["a", "b"]
    assert paths(repository, "main~0") == ["a", "b"]
    assert repository.get("main", "a") == b"2"
    assert repository.get("main@", "a") == b"1"
    assert [(c.kind, c.path) for c in repository.status("main")] == [
        ("changed", "a"),
        ("removed", "b"),
        ("added", "c"),
    ]
    repository.reset("main", "c")
    assert [c.path for c in repository.status("main")] == ["a", "b"]
    repository.reset("main")
    assert repository.status("main") == []
    assert repository.get("main", "a") == b"1"


def test_listing_pages_and_folders(repository: Repository) -> None:
    names = ["a/1", "a/2", "a/b/3", "b/4", "c", "d/", "d/e"]
    repository.put_many("main", [(name, b"") for name in names])
    page = repository.list("main", delimiter="/")
    assert [e.path for e in page.entries] == ["c"]
    assert page.prefixes == ("a/", "b/", "d/")
    assert page.next is None
    page = repository.list("main", "a/", delimiter="/")
    assert ([e.path for e in page.entries], page.prefixes) == (["a/1", "a/2"], ("a/b/",))
    page = repository.list("main", limit=3)
    assert ([e.path for e in page.entries], page.next) == (["a/1", "a/2", "a/b/3"], "a/b/3")
    page = repository.list("main", after="a/b/3", limit=4)
    assert ([e.path for e in page.entries], page.next) == (["b/4", "c", "d/", "d/e"], None)
    page = repository.list("main", delimiter="/", after="a/", limit=1)
    assert (page.prefixes, page.next) == (("b/",), "b/")
    assert [e.path for e in repository.list("main", "d/").entries] == ["d/", "d/e"]
    assert repository.list("main", "zzz").entries == ()
    assert repository.list("main", "b/", after="c").entries == ()
    for limit in (0, -1, 10_001):
        with pytest.raises(Invalid, match="page"):
            repository.list("main", limit=limit)


# ── links and copies ─────────────────────────────────────────────────────────────────────────────────────


def test_an_engine_writes_to_the_store_and_links(repository: Repository) -> None:
    place = repository.new_data_path(".parquet")
    assert place.path is not None
    place.path.write_bytes(b"rows")
    entry = repository.link("main", "orders/part-0.parquet", place.address, metadata={"rows": "1"})
    assert (entry.size, entry.checksum) == (4, "")
    assert repository.files("main", "orders/") == [str(place.path)] == [place.url]
    repository.commit("main", "orders")
    assert repository.get("main@", "orders/part-0.parquet") == b"rows"
    assert repository.new_data_path().address != repository.new_data_path().address


def test_files_come_in_path_order(repository: Repository) -> None:
    places = [repository.new_data_path() for _ in range(3)]
    for number, place in enumerate(places):
        assert place.path is not None
        place.path.write_bytes(bytes([number]))
    links = [Link(f"t/part-{n}", place.address) for n, place in zip((2, 0, 1), places, strict=True)]
    repository.link_many("main", links)
    assert [Path(file).read_bytes() for file in repository.files("main", "t/")] == [b"\1", b"\2", b"\0"]
    assert repository.files("main", "u/") == []


def test_links_to_what_is_not_there_or_not_allowed(repository: Repository) -> None:
    place = repository.new_data_path()
    with pytest.raises(NotFound):
        repository.link("main", "a", place.address)
    assert place.path is not None
    place.path.write_bytes(b"1234")
    with pytest.raises(Invalid, match="4 bytes, but 5"):
        repository.link("main", "a", place.address, size=5)
    with pytest.raises(Invalid, match="checksum"):
        repository.link("main", "a", place.address, checksum="abc")
    for address in (
        "../x",
        "data/../../x",
        "_tulle/ranges/x",
        "lake:x/_tulle/y",
        "/etc/passwd",
        "x",
        "data/",
    ):
        with pytest.raises(Invalid):
            repository.link("main", "a", address)
    for address in ("local:///etc/passwd", "file:///etc/passwd", "s3://bucket/key"):
        with pytest.raises(Invalid, match="outside"):
            repository.link("main", "a", address, size=1)
    with pytest.raises(NotFound):  # of several, all or none
        repository.link_many("main", [Link("a", place.address), Link("b", "data/none")])
    assert paths(repository, "main") == []


def test_links_to_allowed_places_outside(database: Database, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big.csv").write_bytes(b"a,b")
    lake = open_lake(database, f"local://{tmp_path / 'objects'}", external=[f"local://{outside}/"])
    repository = lake.create_repository("sales")
    entry = repository.link("main", "big.csv", f"local://{outside}/big.csv")
    assert entry.size == 3
    assert repository.get("main", "big.csv") == b"a,b"
    assert repository.files("main") == [str(outside / "big.csv")]
    with pytest.raises(Invalid, match="outside"):
        repository.link("main", "x", f"local://{tmp_path}/state.db")


def test_copies_share_the_data(lake: Lake, repository: Repository) -> None:
    repository.put("main", "a", b"1", metadata={"k": "v"})
    repository.commit("main", "one")
    repository.copy("main", "main~0", "a", "b")
    other = lake.create_repository("other")
    other.copy("main", "main", "b", "c", source=repository)
    other.commit("main", "copied")
    assert other.get("main@", "c") == b"1"
    assert other.stat("main", "c").metadata == {"k": "v"}
    assert other.files("main") == repository.files("main", "a") == repository.files("main", "b")
    third = lake.create_repository("third")
    third.copy("main", "main", "c", "d", source=other)
    repository.copy("main", "main", "d", "back", source=third)
    assert third.get("main", "d") == repository.get("main", "back") == b"1"


# ── commits ──────────────────────────────────────────────────────────────────────────────────────────────


def test_commit_says_what_it_was_told(repository: Repository) -> None:
    parent = repository.resolve("main")
    repository.put("main", "a", b"1")
    made = repository.commit("main", "Ünï ✓", committer="ada", metadata={"run": "7"}, date=1_700_000_000.25)
    assert made == Commit(made.id, (parent,), "Ünï ✓", "ada", 1_700_000_000.25, {"run": "7"}, 2)
    assert repository.commit_info("main") == repository.commit_info(made.id[:16]) == made
    assert len(made.id) == 64


def test_what_was_committed_is_staged_no_more(repository: Repository, database: Database) -> None:
    repository.put_many("main", [(f"{number}", b"x") for number in range(5)])
    repository.commit("main", "one")
    repository.put("main", "more", b"x")
    repository.reset("main")
    repository.create_branch("try")
    repository.put("try", "more", b"x")
    repository.delete_branch("try")
    with database.read() as cx:
        assert cx.execute(select(func.count()).select_from(lake_staged)).scalar() == 0


def test_nothing_to_commit(repository: Repository) -> None:
    with pytest.raises(Invalid, match="nothing to commit"):
        repository.commit("main", "x")
    repository.put("main", "a", b"1")
    repository.commit("main", "one")
    repository.put("main", "a", b"1")
    assert repository.status("main") == []
    with pytest.raises(Invalid, match="nothing to commit"):
        repository.commit("main", "again")
    made = repository.commit("main", "marker", allow_empty=True)
    assert repository.diff(made.parents[0], made.id) == []
    for message in ("", "  \n"):
        with pytest.raises(Invalid, match="message"):
            repository.commit("main", message)


def test_log_by_prefix_and_page(repository: Repository) -> None:
    made = []
    for number in range(6):
        repository.put("main", f"{'even' if number % 2 == 0 else 'odd'}/x", str(number).encode())
        made.append(repository.commit("main", f"change {number}").id)
    even = repository.log("main", prefix="even/")
    assert [commit.message for commit in even] == ["change 4", "change 2", "change 0"]
    assert [c.message for c in repository.log("main", prefix="even/", limit=1, after=even[0].id)] == [
        "change 2"
    ]
    assert [c.message for c in repository.log("main", limit=2)] == ["change 5", "change 4"]
    assert [c.message for c in repository.log("main~4", limit=2)] == ["change 1", "change 0"]


def test_diff_two_dots_and_three(repository: Repository) -> None:
    repository.put("main", "a", b"1")
    repository.commit("main", "base")
    repository.create_branch("try")
    repository.put("try", "b", b"1")
    repository.commit("try", "try")
    repository.put("main", "c", b"1")
    repository.commit("main", "main")
    repository.put("main", "staged", b"is not compared")
    assert [(c.kind, c.path) for c in repository.diff("main", "try")] == [("added", "b"), ("removed", "c")]
    assert [(c.kind, c.path) for c in repository.diff("main", "try", three_dot=True)] == [("added", "b")]
    assert repository.diff("main", "try", prefix="c")[0].left == repository.stat("main", "c")
    assert repository.merge_base("main", "try") == repository.resolve("main~1")


def test_comparing_contents_finds_what_comparing_deltas_finds(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.put_many("main", [(f"{folder}/{n}", b"1") for folder in "abc" for n in range(3)])
    repository.commit("main", "base")
    repository.create_branch("try")
    for branch, change in (("main", b"2"), ("try", b"3")):
        repository.put(branch, "a/1", change)
        repository.put(branch, f"b/only {branch}", change)
        repository.delete(branch, "c/0")
        repository.commit(branch, branch)
    for fold in ((), ("main",), ("main", "try")):
        for ref in fold:
            repository.fold(ref)
        for prefix in ("", "a/", "b/", "c/", "b/only t"):
            by_deltas = repository.diff("main", "try", prefix=prefix)
            with monkeypatch.context() as patched:
                patched.setattr(reading, "LONG_LINE", 0)
                assert repository.diff("main", "try", prefix=prefix) == by_deltas
                assert repository.diff("main", "main", prefix=prefix) == []
            assert all(change.path.startswith(prefix) for change in by_deltas)
        assert [(c.kind, c.path) for c in repository.diff("main", "try")] == [
            ("changed", "a/1"),
            ("removed", "b/only main"),
            ("added", "b/only try"),
        ]


# ── merges ───────────────────────────────────────────────────────────────────────────────────────────────


def test_merge_makes_one_commit(repository: Repository) -> None:
    repository.create_branch("try")
    before = repository.resolve("main")
    for name in ("a", "b"):
        repository.put("try", name, b"1")
        repository.commit("try", name)
    result = repository.merge("try", "main", committer="ada", metadata={"k": "v"})
    assert result.commit.parents == (before, repository.resolve("try"))
    assert (result.commit.committer, result.commit.metadata) == ("ada", {"k": "v"})
    assert result.commit.message == "Merge 'try' into 'main'"
    assert [c.path for c in repository.diff(before, "main")] == ["a", "b"]
    again = repository.merge("try", "main")
    assert again.unchanged
    assert again.commit == result.commit
    repository.put("try", "c", b"1")
    repository.commit("try", "c")
    assert repository.merge("try", "main", squash=True).commit.parents == (result.commit.id,)
    with pytest.raises(Invalid, match="merge strategy"):
        repository.merge("try", "main", strategy="mine")  # type: ignore[arg-type]


def test_merge_of_what_came_to_nothing(repository: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "add")
    repository.delete("try", "a")
    repository.commit("try", "remove")
    before = repository.resolve("main")
    assert repository.merge("try", "main").unchanged
    assert repository.resolve("main") == before


def test_conflicts_are_listed_and_strategies_decide_them(repository: Repository) -> None:
    repository.put_many("main", [("a", b"base"), ("b", b"base")])
    repository.commit("main", "base")
    repository.create_branch("try")
    repository.put_many("try", [("a", b"theirs"), ("b", b"theirs"), ("c", b"theirs")])
    repository.commit("try", "theirs")
    repository.put("main", "a", b"ours")
    repository.delete("main", "b")
    repository.commit("main", "ours")
    before = repository.resolve("main")
    with pytest.raises(Conflict, match="2 path") as caught:
        repository.merge("try", "main")
    assert [problem.message for problem in caught.value.problems] == ["a", "b"]
    assert repository.resolve("main") == before
    repository.create_branch("mine")
    assert repository.merge("try", "mine", strategy="dest-wins").decided_conflicts == ("a", "b")
    assert {e.path: repository.get("mine", e.path) for e in repository.entries("mine")} == {
        "a": b"ours",
        "c": b"theirs",
    }
    repository.merge("try", "main", strategy="source-wins")
    assert {e.path: repository.get("main", e.path) for e in repository.entries("main")} == dict.fromkeys(
        "abc", b"theirs"
    )
    repository.revert("main", "main", parent_number=1)
    assert repository.get("main", "a") == b"ours"
    assert not repository.exists("main", "c")


def test_a_destination_with_staged_changes_is_refused(repository: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")
    repository.put("main", "mine", b"1")
    for work in (
        lambda: repository.merge("try", "main"),
        lambda: repository.revert("main", "main"),
        lambda: repository.hard_reset("main", "try"),
    ):
        with pytest.raises(Conflict, match="staged changes, for example 'mine'") as caught:
            work()
        assert caught.value.hint == "commit or reset them first"
    assert repository.get("main", "mine") == b"1"
    repository.reset("main")
    repository.merge("try", "main")


def test_a_removal_staged_for_nothing_does_not_hide_what_is_merged(repository: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")
    repository.put("main", "a", b"x")
    repository.delete("main", "a")
    repository.merge("try", "main")
    assert repository.get("main", "a") == b"1"


def test_revert_and_hard_reset(repository: Repository) -> None:
    root = repository.resolve("main")
    repository.put("main", "a", b"1")
    repository.commit("main", "one")
    repository.put("main", "b", b"1")
    repository.commit("main", "two")
    reverted = repository.revert("main", "main~1", committer="ada")
    assert reverted.message.startswith("Revert ")
    assert paths(repository, "main") == ["b"]
    with pytest.raises(Invalid, match="already"):
        repository.revert("main", "main~2")
    with pytest.raises(Invalid, match="first of its repository"):
        repository.revert("main", root)
    repository.put("main", "b", b"2")
    repository.commit("main", "three")
    with pytest.raises(Conflict) as caught:
        repository.revert("main", "main~2")
    assert [problem.message for problem in caught.value.problems] == ["b"]
    repository.hard_reset("main", root)
    assert paths(repository, "main") == []
    assert repository.resolve("main") == root
    assert repository.get(reverted.id, "b") == b"1"


# ── gates ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gate_sees_what_would_be_published_once(repository: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    source = repository.commit("try", "try").id
    before = repository.resolve("main")
    calls: list[GateCall] = []

    def gate(call: GateCall) -> None:
        calls.append(call)
        assert repository.get(call.commit.id, "a") == b"1"
        assert repository.resolve(call.commit.id) == call.commit.id
        assert repository.resolve("main") == before
        assert paths(repository, "main") == []
        assert call.commit.id not in [commit.id for commit in repository.log("main")]

    result = repository.merge("try", "main", gate=gate)
    assert calls == [GateCall("sales", "main", source, before, result.commit)]
    assert repository.resolve("main") == result.commit.id
    assert repository.merge("try", "main", gate=gate).unchanged
    assert len(calls) == 1


def test_a_veto_changes_nothing(repository: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")
    before = repository.resolve("main")
    judged: list[str] = []

    def gate(call: GateCall) -> None:
        judged.append(call.commit.id)
        raise Denied("a check failed")

    with pytest.raises(Denied, match="a check failed"):
        repository.merge("try", "main", gate=gate)
    assert repository.resolve("main") == before
    assert paths(repository, "main") == []
    with pytest.raises(NotFound):
        repository.resolve(judged[0])
    assert not repository.merge("try", "main").unchanged
