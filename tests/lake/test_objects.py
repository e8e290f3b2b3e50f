"""What the completed objects part can do: conditions, moves, issued addresses, metadata, quotas."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tulle.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    Invalid,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
)
from tulle.lake import addresses
from tulle.lake.objects import SMALL_BYTES
from tulle.lake.repository import Lake, Repository, open_lake
from tulle.lake.writing import Writer
from tulle.state.db import Database

DATABASES = ("sqlite", "postgres")


def test_a_put_may_demand_what_it_replaces(repository: Repository) -> None:
    first = repository.put("main", "a", b"1")
    with pytest.raises(PreconditionFailed, match="expected"):
        repository.put("main", "a", b"2", if_match="0" * 32)
    with pytest.raises(PreconditionFailed, match="there is nothing"):
        repository.put("main", "b", b"2", if_match=first.etag)
    second = repository.put("main", "a", b"2", if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        repository.put("main", "a", b"3", if_match=first.etag)
    assert repository.get("main", "a") == b"2"
    repository.commit("main", "one")
    repository.copy("main", "main", "a", "c", if_absent=True)
    with pytest.raises(AlreadyExists):
        repository.copy("main", "main", "a", "c", if_absent=True)
    repository.put("main", "a", b"4", if_match=second.etag)


def test_data_must_be_what_was_stated(repository: Repository) -> None:
    good_md5, good_sha = hashlib.md5(b"12").hexdigest(), hashlib.sha256(b"12").hexdigest()
    repository.put("main", "a", b"12", md5=good_md5, sha256=good_sha)
    repository.put("main", "a", iter([b"1", b"2"]), md5=good_md5, sha256=good_sha)
    for data in (b"13", iter([b"1", b"3"])):
        with pytest.raises(Invalid, match="MD5"):
            repository.put("main", "b", data, md5=good_md5)
        with pytest.raises(Invalid, match="SHA-256"):
            repository.put("main", "b", b"13", sha256=good_sha)
    assert not repository.exists("main", "b")
    assert repository.put("main", "p", b"12", etag="abc-2").etag == "abc-2"


def test_a_move_copies_nothing_and_leaves_nothing(repository: Repository) -> None:
    put = repository.put("main", "a", b"1", metadata={"k": "v"})
    repository.commit("main", "one")
    moved = repository.move("main", "a", "b/c")
    assert (moved.address, moved.metadata) == (put.address, {"k": "v"})
    assert {(change.kind, change.path) for change in repository.status("main")} == {
        ("removed", "a"),
        ("added", "b/c"),
    }
    for source, destination, error in (("none", "x", NotFound), ("b/c", "b/c", Invalid)):
        with pytest.raises(error):
            repository.move("main", source, destination)
    repository.put("main", "d", b"2")
    with pytest.raises(AlreadyExists):
        repository.move("main", "b/c", "d", if_absent=True)


def test_a_move_takes_what_is_there_when_it_happens(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = type(repository.writer)
    stage, other = writer.stage_move, iter([b"2", b"3"])

    def raced(self: Writer, *arguments: Any) -> bool:
        for data in other:
            repository.put("main", "a", data)
            break
        return stage(self, *arguments)

    monkeypatch.setattr(writer, "stage_move", raced)
    repository.put("main", "a", b"1")
    repository.move("main", "a", "b")
    assert repository.get("main", "b") == b"3"
    assert not repository.exists("main", "a")

    repository.put("main", "a", b"1")
    other = iter(itertools.cycle([b"2", b"3"]))
    with pytest.raises(Conflict, match="changes all the time"):
        repository.move("main", "a", "c")
    assert repository.exists("main", "a")
    assert not repository.exists("main", "c")


@pytest.mark.parametrize("metadata", [{"k": "a\0b"}, {"k\0": "v"}])
def test_metadata_holds_no_nul(repository: Repository, metadata: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="NUL"):
        repository.put("main", "a", b"1", metadata=metadata)
    repository.put("main", "a", b"1")
    with pytest.raises(Invalid, match="NUL"):
        repository.commit("main", "m", metadata=metadata)


@pytest.mark.parametrize("date", [-1.0, 253_402_300_800.0, float("nan"), float("inf")])
def test_commits_have_dates_that_can_be_written(repository: Repository, date: float) -> None:
    repository.put("main", "a", b"1")
    with pytest.raises(Invalid, match="date"):
        repository.commit("main", "m", date=date)
    assert repository.commit("main", "m", date=253_402_300_799.0).date == 253_402_300_799.0


@pytest.mark.parametrize("ref", ["main~99999999999", "main" + "~" * 65, "main^" + "9" * 30])
def test_expressions_have_bounds(repository: Repository, ref: str) -> None:
    with pytest.raises(Invalid):
        repository.resolve(ref)


def test_metadata_alone_can_change(repository: Repository) -> None:
    put = repository.put("main", "a", b"1", metadata={"k": "v"})
    changed = repository.set_object_metadata("main", "a", {"k": "w"})
    assert (changed.address, repository.stat("main", "a").metadata) == (put.address, {"k": "w"})
    assert changed.modified > put.modified
    copied = repository.copy("main", "main", "a", "b", metadata={"new": "x"}, content_type="text/csv")
    assert (copied.metadata, copied.content_type) == ({"new": "x"}, "text/csv")


def test_several_deletions_tell_what_was_not_there(repository: Repository) -> None:
    repository.put_many("main", [(name, b"") for name in "abc"])
    assert repository.delete_many("main", ["a", "nope", "b"]) == ["nope"]
    assert [entry.path for entry in repository.entries("main")] == ["c"]


def test_an_entry_is_deleted_only_while_it_is_there(repository: Repository) -> None:
    old = repository.put("main", "a", b"1")
    new = repository.put("main", "a", b"2")
    assert not repository.delete_entry("main", old)
    assert repository.get("main", "a") == b"2"
    repository.commit("main", "one")
    assert repository.delete_entry("main", new)
    assert not repository.exists("main", "a")
    assert not repository.delete_entry("main", new)


def test_what_is_done_with_a_put_can_undo_it(repository: Repository, database: Database) -> None:
    def note(cx: Connection) -> None:
        addresses.add(cx, repository.record.id, "data/x", "main", "a", 9e9)

    def refuse(cx: Connection) -> None:
        note(cx)
        raise NotFound("no")

    def noted() -> bool:
        with database.read() as cx:
            return "data/x" in addresses.live(cx, repository.record.id)

    with pytest.raises(NotFound):
        repository.put("main", "a", b"1", also=refuse)
    assert not repository.exists("main", "a")
    assert not noted()
    repository.put("main", "a", b"1", also=note)
    assert repository.get("main", "a") == b"1"
    assert noted()


def test_one_path_can_be_reset_alone(repository: Repository) -> None:
    repository.put_many("main", [("a", b"1"), ("ab", b"2")])
    repository.reset("main", path="a")
    assert [entry.path for entry in repository.entries("main")] == ["ab"]


def test_an_issued_address_is_linked_once(repository: Repository, database: Database) -> None:
    place = repository.issue_address("main", "big.bin")
    assert place.path is not None
    place.path.write_bytes(b"12345")
    with database.read() as cx:
        assert addresses.live(cx, repository.record.id) == [place.address]
    with pytest.raises(Invalid, match="5 bytes"):
        repository.link_issued("main", "big.bin", place.address, size=4)
    entry = repository.link_issued("main", "big.bin", f"local://{place.path}", size=5, etag="e")
    assert (repository.get("main", "big.bin"), entry.etag) == (b"12345", "e")
    with pytest.raises(NotFound, match="linked already"):
        repository.link_issued("main", "other", place.address)
    unasked = repository.new_data_path()
    assert unasked.path is not None
    unasked.path.write_bytes(b"x")
    with pytest.raises(NotFound, match="not issued"):
        repository.link_issued("main", "other", unasked.address)
    late = repository.issue_address("main", "late", seconds=-1)
    assert late.path is not None
    late.path.write_bytes(b"x")
    with pytest.raises(NotFound):
        repository.link_issued("main", "late", late.address)


def test_an_address_of_somebody_else_is_not_linked(repository: Repository, lake: Lake) -> None:
    other = lake.create_repository("secrets")
    hidden = other.put("main", "key", b"secret")
    with pytest.raises((NotFound, Invalid)):
        repository.link_issued("main", "x", other.physical_address(hidden))
    with pytest.raises((NotFound, Invalid)):
        repository.link_issued("main", "x", f"lake:{other.record.storage}/{hidden.address}")


def test_nothing_is_written_into_a_read_only_repository(lake: Lake) -> None:
    lake.create_repository("fixed")
    repository = lake.repository("fixed")
    repository.put("main", "a", b"1")
    repository.set_read_only(True)
    for write in (
        lambda: repository.put("main", "a", b"2"),
        lambda: repository.commit("main", "x"),
        lambda: repository.create_branch("b"),
        lambda: repository.create_tag("t", "main"),
        lambda: repository.delete("main", "a"),
        lambda: repository.reset("main"),
        lambda: lake.delete_repository("fixed"),
    ):
        with pytest.raises(Denied, match="read-only"):
            write()
    assert lake.repository("fixed").read_only
    lake.repository("fixed", force=True).commit("main", "forced")
    repository.set_read_only(False)
    repository.put("main", "a", b"3")


def test_protected_branches_change_by_merges_only(repository: Repository) -> None:
    repository.create_branch("try")
    repository.create_branch("release-1")
    repository.protect(["main", "release-*"])
    assert repository.protection() == ("main", "release-*")
    for branch in ("main", "release-1"):
        for write in (
            lambda b=branch: repository.put(b, "a", b"1"),
            lambda b=branch: repository.delete_prefix(b, ""),
            lambda b=branch: repository.commit(b, "x", allow_empty=True),
            lambda b=branch: repository.hard_reset(b, "try"),
        ):
            with pytest.raises(Denied, match="protected"):
                write()
    with pytest.raises(Denied, match="protected"):
        repository.delete_branch("release-1")
    repository.put("try", "a", b"1")
    repository.commit("try", "one")
    assert repository.merge("try", "main").commit.message.startswith("Merge")
    with pytest.raises(PreconditionFailed):
        repository.protect([], expected=["main"])
    repository.protect([], expected=["main", "release-*"])
    repository.put("main", "b", b"")


def test_a_quota_bounds_what_is_written(repository: Repository) -> None:
    repository.put("main", "a", b"12345")
    quota = repository.set_quota(max_bytes=8, max_objects=3)
    assert (quota.used_bytes, quota.used_objects) == (5, 1)
    repository.put("main", "b", b"123")
    with pytest.raises(LimitExceeded, match="quota of 8 bytes"):
        repository.put("main", "c", b"1")
    repository.copy("main", "main", "a", "copy")  # copies no bytes
    assert repository.quota().used_bytes == 8
    repository.set_quota(max_objects=2)
    with pytest.raises(LimitExceeded, match="quota of 2 objects"):
        repository.put("main", "c", b"")
    repository.set_quota()
    repository.put("main", "c", b"1234567890")
    with pytest.raises(Invalid):
        repository.set_quota(max_bytes=-1)


def test_what_is_said_about_a_repository(lake: Lake) -> None:
    repository = lake.create_repository("told", metadata={"a": "1", "b": "2"})
    repository.set_metadata({"c": "3"}, remove=["a"])
    assert lake.repository("told").metadata == {"b": "2", "c": "3"} == repository.metadata
    rules = {"default_retention_days": 7, "branches": [{"branch_id": "main", "retention_days": 30}]}
    repository.set_retention(rules)
    assert lake.repository("told").retention() == rules
    for wrong in (
        {"default_retention_days": 0},
        {"default_retention_days": 1, "branches": [{"branch_id": ""}]},
    ):
        with pytest.raises(Invalid):
            repository.set_retention(wrong)
    repository.set_retention(None)
    assert repository.retention() is None


def test_repositories_over_other_places(database: Database, tmp_path: Path) -> None:
    lake = open_lake(database, f"local://{tmp_path / 'own'}", stores=[f"local://{tmp_path / 'allowed'}"])
    inside = lake.create_repository("inside", namespace="local://deep/er")
    assert inside.storage_namespace.startswith(f"local://{tmp_path}/own/deep/er/inside-")
    outside = lake.create_repository("outside", namespace=f"local://{tmp_path}/allowed/x")
    outside.put("main", "a", b"1")
    assert list((tmp_path / "allowed" / "x").rglob("data/*/*"))
    for denied in (
        f"local://{tmp_path}/elsewhere",
        f"local://{tmp_path}/allowed-not/x",
        f"local://{tmp_path}/allowed/../elsewhere",
        "s3://bucket/prefix",
        "s3://bucket",
    ):
        with pytest.raises(Denied, match="not among the places"):
            lake.create_repository("denied", namespace=denied)
    for wrong in ("nothing", "local://../up", "://x"):
        with pytest.raises(Invalid):
            lake.create_repository("wrong", namespace=wrong)
    # Another repository's data, also when it is elsewhere, and also after it was deleted.
    copied = inside.copy("main", "main", "a", "copied", source=outside)
    assert copied.address.startswith("lake:outside-")
    lake.delete_repository("outside")
    fresh = open_lake(database, f"local://{tmp_path / 'own'}", stores=[f"local://{tmp_path / 'allowed'}"])
    assert fresh.repository("inside").get("main", "copied") == b"1"


def test_a_bare_repository_has_no_branch(lake: Lake) -> None:
    repository = lake.create_repository("bare", bare=True)
    assert repository.branches() == []
    with pytest.raises(NotFound):
        repository.resolve("main")


def test_repositories_are_found_by_prefix_and_by_text(lake: Lake) -> None:
    for name in ("alpha", "alpine", "beta", "gamma"):
        lake.create_repository(name)
    assert [r.name for r in lake.repositories(prefix="al")] == ["alpha", "alpine"]
    assert [r.name for r in lake.repositories(after="alpine", limit=1)] == ["beta"]
    assert [r.name for r in lake.repositories(search="amm")] == ["gamma"]


def test_hidden_branches_and_pages_of_names(repository: Repository) -> None:
    repository.create_branch("tx-1", hidden=True)
    repository.create_branch("b1")
    repository.create_branch("b2")
    assert [b.name for b in repository.branches(show_hidden=False)] == ["b1", "b2", "main"]
    assert [b.name for b in repository.branches(prefix="b", after="b1")] == ["b2"]
    for name in ("v1.0", "v1.1", "w"):
        repository.create_tag(name, "main")
    assert [t.name for t in repository.tags(prefix="v", limit=1)] == ["v1.0"]
    assert repository.resolve("v1.1~0") == repository.resolve("main")
    assert repository.tag("w").name == "w"
    with pytest.raises(NotFound) as refused:
        repository.tag("v10")
    assert refused.value.hint == "did you mean 'v1.0'?"


def test_what_has_no_etag_has_one_to_match(lake: Lake, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_bytes(b"1")
    lake.stores.linkable = (f"local://{tmp_path}/out/",)
    linked = repository.link("main", "a", f"local://{tmp_path}/out/x")
    assert (linked.etag, linked.tag) == ("", "x-1")
    with pytest.raises(PreconditionFailed):
        repository.put("main", "a", b"2", if_match="y-1")
    repository.put("main", "a", b"2", if_match='"x-1"')


@pytest.mark.parametrize("bound", [-1, 2**63])
def test_bounds_have_bounds(repository: Repository, bound: int) -> None:
    with pytest.raises(Invalid, match="quota"):
        repository.set_quota(max_bytes=bound)
    with pytest.raises(Invalid, match="days"):
        repository.set_retention({"default_retention_days": bound})
    with pytest.raises(Invalid, match="days"):
        rule = {"branch_id": "main", "retention_days": bound}
        repository.set_retention({"default_retention_days": 1, "branches": [rule]})


@pytest.mark.parametrize("size", [1, SMALL_BYTES + 1])
def test_what_is_refused_leaves_no_data(lake: Lake, repository: Repository, size: int) -> None:
    data = b"x" * size
    repository.put("main", "a", b"1")

    def kept() -> int:
        return len(list(repository.reader.blobs.list(f"{repository.record.storage}/data")))

    before = kept()
    with pytest.raises(AlreadyExists):
        repository.put("main", "a", data, if_absent=True)
    with pytest.raises(PreconditionFailed):
        repository.put("main", "a", data, if_match="x")
    with pytest.raises(NotFound):
        repository.put("none", "a", data)
    other = lake.repository("sales")  # who opened it before does not know
    other.protect(["main"])
    with pytest.raises(Denied, match="protected"):
        repository.put("main", "a", data)
    other.protect([])
    other.set_read_only(True)
    with pytest.raises(Denied, match="read-only"):
        repository.put("main", "a", data)
    other.set_read_only(False)
    other.set_quota(max_bytes=size)
    with pytest.raises(LimitExceeded):
        repository.put("main", "a", data)
    assert kept() == before
    assert repository.get("main", "a") == b"1"


def test_what_passes_a_quota_is_refused_before_it_is_read(repository: Repository) -> None:
    repository.set_quota(max_bytes=3)
    repository.put("main", "a", b"123")
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        read.append(1)
        yield b"4"

    with pytest.raises(LimitExceeded):
        repository.put("main", "b", pieces())
    assert not read
