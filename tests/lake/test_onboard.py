"""Importing existing objects without copying them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import obstore
import pyarrow as pa
import pytest

from tulle.errors import Conflict, Denied, Invalid, NotFound
from tulle.lake import onboard
from tulle.lake.blobs import StoreBlobs
from tulle.lake.onboard import ImportStatus, Source
from tulle.lake.repository import Lake, Repository, open_lake
from tulle.state import tasks
from tulle.state.db import Database
from tulle.state.tables import tasks as task_table

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that may be imported from."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


@pytest.fixture
def lake(database: Database, tmp_path: Path, outside: Path) -> Lake:
    """A lake that may import from that folder and from memory."""
    return open_lake(
        database, f"local://{tmp_path / 'objects'}", stores=[f"local://{outside}", "memory:///src"]
    )


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def run(lake: Lake, sources: list[Source], *, branch: str = "main") -> ImportStatus:
    id_ = onboard.start(lake, "sales", branch, sources, "Import", actor="ada")
    assert tasks.run_one(lake.database, onboard.handlers(lake), "worker")
    return onboard.status(lake, "sales", branch, id_)


def paths(repository: Repository, ref: str = "main", prefix: str = "") -> list[str]:
    return [entry.path for entry in repository.entries(ref, prefix)]


class TestAFolder:
    def test_arrives_as_one_commit_and_nothing_is_copied(
        self, lake: Lake, repository: Repository, outside: Path, tmp_path: Path
    ) -> None:
        fill(outside, {"a/b.txt": b"1", "a.txt": b"22", "a-b/c": b"3", "ü": b"4"})
        before = repository.commit_info("main")
        ended = run(lake, [Source(f"local://{outside}", "raw")])
        assert (ended.status, ended.completed, ended.ingested_objects) == ("done", True, 4)
        assert (ended.added, ended.changed, ended.removed, ended.unchanged) == (4, 0, 0, False)
        commit = repository.commit_info("main")
        assert ended.commit == commit
        assert (commit.message, commit.committer, commit.parents) == ("Import", "ada", (before.id,))
        assert commit.metadata["tulle-import"] == ended.id
        assert paths(repository) == ["raw/a-b/c", "raw/a.txt", "raw/a/b.txt", "raw/ü"]
        entry = repository.stat("main", "raw/a.txt")
        assert entry.address == f"local://{outside}/a.txt"
        assert entry.checksum == ""
        assert entry.modified == pytest.approx((outside / "a.txt").stat().st_mtime, abs=1e-5)
        assert repository.get("main", "raw/a.txt") == b"22"
        assert not list((tmp_path / "objects").glob("*/data"))

    def test_imported_again_brings_changes_only(
        self, lake: Lake, repository: Repository, outside: Path
    ) -> None:
        fill(outside, {"a": b"1", "b": b"2", "c": b"3"})
        run(lake, [Source(f"local://{outside}", "raw/")])
        repository.put("main", "other", b"stays")
        before = repository.commit("main", "other")
        again = run(lake, [Source(f"local://{outside}/", "raw/")])
        assert (again.unchanged, again.completed, again.commit) == (True, True, before)
        assert repository.commit_info("main") == before
        (outside / "a").unlink()
        fill(outside, {"b": b"22", "d": b"4"})
        third = run(lake, [Source(f"local://{outside}/", "raw/")])
        assert (third.added, third.changed, third.removed) == (1, 1, 1)
        assert [(c.kind, c.path) for c in repository.diff("main~1", "main")] == [
            ("removed", "raw/a"),
            ("changed", "raw/b"),
            ("added", "raw/d"),
        ]

    def test_replaces_what_was_below_its_destination_and_nothing_else(
        self, lake: Lake, repository: Repository, outside: Path
    ) -> None:
        repository.put_many("main", [("raw/old", b"1"), ("raw-2", b"2"), ("raw", b"3"), ("z", b"4")])
        repository.commit("main", "before")
        fill(outside, {"new": b"1"})
        run(lake, [Source(f"local://{outside}", "raw")])
        assert paths(repository) == ["raw", "raw-2", "raw/new", "z"]

    def test_empty_empties_its_destination(self, lake: Lake, repository: Repository, outside: Path) -> None:
        repository.put("main", "raw/old", b"1")
        repository.commit("main", "before")
        assert run(lake, [Source(f"local://{outside}", "raw")]).removed == 1
        assert paths(repository) == []

    def test_links_inside_are_followed_to_files(
        self, lake: Lake, repository: Repository, outside: Path
    ) -> None:
        fill(outside, {"a": b"1"})
        (outside / "link").symlink_to("a")
        run(lake, [Source(f"local://{outside}", "")])
        assert repository.stat("main", "link").address == f"local://{outside}/a"

    def test_of_odd_things_is_refused_as_a_whole(
        self, lake: Lake, repository: Repository, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_bytes(b"s")
        fill(outside, {"fine": b"1"})
        (outside / "out").symlink_to(tmp_path / "secret")
        (outside / "out2").symlink_to("..")
        os.mkfifo(outside / "pipe")
        (outside / os.fsdecode(b"caf\xe9")).write_bytes(b"1")
        deep = outside
        for _ in range(6):
            deep = deep / ("d" * 200)
            deep.mkdir()
        fill(deep, {"f": b"1"})
        ended = run(lake, [Source(f"local://{outside}", "raw")])
        assert (ended.status, ended.completed, ended.commit) == ("failed", False, None)
        assert isinstance(ended.error, Invalid)
        text = ended.error.message
        assert "2 symbolic link(s) that lead out of the folder" in text
        assert "1 special file(s) or link(s) to folders" in text
        assert "1 name(s) that are not UTF-8" in text
        assert "longer than 1024 bytes" in text
        assert any("out2" in problem.message for problem in ended.error.problems)
        assert paths(repository) == []


class TestOtherSources:
    def test_an_object_store(self, lake: Lake, repository: Repository) -> None:
        store = lake.external_blobs("memory:///src/sales")
        assert isinstance(store, StoreBlobs)
        for key in ("a/b", "a.c", "b"):
            store.put(key, key.encode())
        ended = run(lake, [Source("memory:///src/sales/", "raw/")])
        assert ended.ingested_objects == 3
        assert paths(repository) == ["raw/a.c", "raw/a/b", "raw/b"]
        entry = repository.stat("main", "raw/b")
        assert (entry.address, entry.size) == ("memory:///src/sales/b", 1)
        assert entry.etag
        assert '"' not in entry.etag
        obstore.put(store._store, "b", b"longer")
        assert run(lake, [Source("memory:///src/sales/", "raw/")]).changed == 1

    def test_a_store_that_does_not_list_in_order(
        self, lake: Lake, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = lake.external_blobs("memory:///src/odd")
        for key in "abcdefg":
            store.put(key, b"1")
        real = StoreBlobs.list_after

        def shuffled(self, after, rows):  # type: ignore[no-untyped-def]
            items = [item for items in real(self, after, rows) for item in items]
            yield items[4:]
            yield items[:4]
            yield items[3:5]

        monkeypatch.setattr(StoreBlobs, "list_after", shuffled)
        monkeypatch.setattr(onboard, "UNORDERED_ROWS", 2)
        assert run(lake, [Source("memory:///src/odd", "")]).added == 7
        assert paths(repository) == list("abcdefg")

    def test_markers_of_folders_are_no_objects(
        self, lake: Lake, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = lake.external_blobs("memory:///src/marked")
        store.put("empty", b"")
        store.put("full", b"1")
        real = StoreBlobs.list_after

        def marked(self, after, rows):  # type: ignore[no-untyped-def]
            for items in real(self, after, rows):
                yield [items[0], {**items[0], "path": "folder"}, *items[1:]]  # S3 has `folder/`

        monkeypatch.setattr(StoreBlobs, "list_after", marked)
        assert run(lake, [Source("memory:///src/marked", "")]).added == 2
        assert paths(repository) == ["empty", "full"]

    def test_another_repository(self, lake: Lake, repository: Repository) -> None:
        other = lake.create_repository("other")
        other.put("main", "in/a", b"1", metadata={"k": "v"}, content_type="text/x")
        other.put("main", "in/b", b"2")
        other.put("main", "out", b"3")
        other.commit("main", "data")
        other.put("main", "in/staged", b"4")
        ended = run(lake, [Source("lakefs://other/main/in", "from")])
        assert ended.added == 2
        assert paths(repository) == ["from/a", "from/b"]
        entry = repository.stat("main", "from/a")
        assert entry.address.startswith(f"lake:{other.record.storage}/data/")
        assert (entry.metadata, entry.content_type) == ({"k": "v"}, "text/x")
        assert entry.checksum == other.stat("main", "in/a").checksum
        assert repository.get("main", "from/a") == b"1"
        lake.create_repository("third")
        onboard.start(lake, "third", "main", [Source("lakefs://sales/main/from", "")], "again")
        tasks.run_one(lake.database, onboard.handlers(lake), "worker")
        assert lake.repository("third").stat("main", "a").address == entry.address

    def test_back_into_the_repository_it_came_from(self, lake: Lake, repository: Repository) -> None:
        repository.put("main", "x/a", b"1")
        repository.commit("main", "data")
        other = lake.create_repository("other")
        other.copy("main", "main", "x/a", "a", source=repository)
        other.commit("main", "copy")
        run(lake, [Source("lakefs://other/main/", "y/")])
        assert repository.stat("main", "y/a").address == repository.stat("main", "x/a").address

    def test_single_objects_beside_prefixes(self, lake: Lake, repository: Repository, outside: Path) -> None:
        fill(outside, {"p/1": b"1", "p/2": b"2", "q/3": b"333"})
        lake.external_blobs("memory:///src/m").put("k", b"44444")
        repository.put_many("main", [("one/more", b"0"), ("top", b"0")])
        repository.commit("main", "before")
        ended = run(
            lake,
            [
                Source(f"local://{outside}/p", "p/"),
                Source(f"local://{outside}/p/1", "p/1", "object"),
                Source(f"local://{outside}/q/3", "one", "object"),
                Source("memory:///src/m/k", "p/k", "object"),
            ],
        )
        assert ended.completed
        assert paths(repository) == ["one", "one/more", "p/1", "p/2", "p/k", "top"]
        assert [repository.stat("main", path).size for path in ("one", "p/k")] == [3, 5]

    def test_an_object_that_is_not_there(self, lake: Lake, repository: Repository, outside: Path) -> None:
        ended = run(lake, [Source(f"local://{outside}/no", "no", "object")])
        assert isinstance(ended.error, NotFound)
        assert repository.files("main") == []


class TestWhatMayBeRead:
    @pytest.mark.parametrize(
        "url",
        [
            "local:///etc",
            "s3://bucket/x",
            "local://{outside}/../objects",
            "local://{outside}/etc",
            "memory:///other",
        ],
    )
    def test_is_said_by_the_mesh(self, lake: Lake, repository: Repository, outside: Path, url: str) -> None:
        (outside / "etc").symlink_to("/etc")
        with pytest.raises(Denied):
            onboard.start(lake, "sales", "main", [Source(url.format(outside=outside), "x")], "m")
        assert repository.files("main") == []

    def test_is_not_the_lakes_own_place(self, database: Database, tmp_path: Path) -> None:
        lake = open_lake(database, f"local://{tmp_path / 'objects'}", stores=[f"local://{tmp_path}"])
        lake.create_repository("sales")
        for place in (tmp_path, tmp_path / "objects", tmp_path / "objects" / "sales"):
            with pytest.raises(Denied, match="lake itself"):
                onboard.start(lake, "sales", "main", [Source(f"local://{place}", "x")], "m")

    def test_an_object_through_a_link_out_of_the_place(
        self, lake: Lake, repository: Repository, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_bytes(b"s")
        (outside / "link").symlink_to(tmp_path / "secret")
        source = Source(f"local://{outside}/link", "x", "object")
        with pytest.raises(Denied):
            onboard.start(lake, "sales", "main", [source], "m")
        (outside / "link").unlink()
        id_ = onboard.start(lake, "sales", "main", [source], "m")
        (outside / "link").symlink_to(tmp_path / "secret")
        tasks.run_one(lake.database, onboard.handlers(lake), "worker")
        assert isinstance(onboard.status(lake, "sales", "main", id_).error, Invalid)
        assert repository.files("main") == []


class TestAnImport:
    def test_of_nonsense_is_refused_at_once(self, lake: Lake, repository: Repository, outside: Path) -> None:
        good = Source(f"local://{outside}", "x")
        for sources, message, kind in [
            ([], "m", Invalid),
            ([good], " ", Invalid),
            ([Source(good.path, "/x")], "m", Invalid),
            ([Source(good.path, "", "object")], "m", Invalid),
            ([Source(good.path, "x", "folder")], "m", Invalid),  # type: ignore[arg-type]
            ([Source("plain", "x")], "m", Invalid),
            ([Source("lakefs://sales", "x")], "m", Invalid),
            ([Source("lakefs://nobody/main/", "x")], "m", NotFound),
        ]:
            with pytest.raises(kind):
                onboard.start(lake, "sales", "main", sources, message)
        with pytest.raises(NotFound):
            onboard.start(lake, "sales", "nowhere", [good], "m")
        repository.protect(["main"])
        with pytest.raises(Denied, match="protected"):
            onboard.start(lake, "sales", "main", [good], "m")

    def test_can_be_cancelled(self, lake: Lake, repository: Repository, outside: Path) -> None:
        fill(outside, {"a": b"1"})
        id_ = onboard.start(lake, "sales", "main", [Source(f"local://{outside}", "x")], "m")
        onboard.cancel(lake, "sales", "main", id_)
        assert not tasks.run_one(lake.database, onboard.handlers(lake), "worker")
        assert onboard.status(lake, "sales", "main", id_).status == "cancelled"
        assert repository.files("main") == []
        with pytest.raises(Conflict):
            onboard.cancel(lake, "sales", "main", id_)
        with pytest.raises(NotFound):
            onboard.status(lake, "sales", "other", id_)

    def test_can_be_cancelled_under_way(
        self, lake: Lake, repository: Repository, outside: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(outside, {f"{number}": b"1" for number in range(8)})
        id_ = onboard.start(lake, "sales", "main", [Source(f"local://{outside}", "x")], "m")
        real = onboard.rows_of

        def cancelling(*args):  # type: ignore[no-untyped-def]
            onboard.cancel(lake, "sales", "main", id_)
            return real(*args)

        monkeypatch.setattr(onboard, "rows_of", cancelling)
        tasks.run_one(lake.database, onboard.handlers(lake), "worker")
        assert onboard.status(lake, "sales", "main", id_).status == "cancelled"
        assert repository.files("main") == []

    def test_waits_for_what_is_staged_to_be_committed(
        self, lake: Lake, repository: Repository, outside: Path
    ) -> None:
        repository.put("main", "staged", b"1")
        assert isinstance(run(lake, [Source(f"local://{outside}", "x")]).error, Conflict)

    def test_taken_up_after_its_commit_finds_it(
        self, lake: Lake, repository: Repository, outside: Path
    ) -> None:
        fill(outside, {"a": b"1"})
        id_ = onboard.start(lake, "sales", "main", [Source(f"local://{outside}", "x")], "m")
        task = tasks.take(lake.database, ["import"], "first")
        assert task is not None
        onboard.handlers(lake)["import"](tasks.Running(lake.database, task))  # and dies before it tells
        commit = repository.commit_info("main")
        repository.put("main", "x/later", b"1")
        head = repository.commit("main", "later")
        with lake.database.write() as cx:
            cx.execute(task_table.update().values(owner_until=0))
        assert tasks.run_one(lake.database, onboard.handlers(lake), "second")
        ended = onboard.status(lake, "sales", "main", id_)
        assert (ended.completed, ended.commit, ended.ingested_objects) == (True, commit, 1)
        assert repository.commit_info("main") == head


CHILD = """
import sys, time
from tulle.lake import onboard, listing
from tulle.lake.repository import open_lake
from tulle.state import tasks
from tulle.state.db import open_database

database, objects, outside = sys.argv[1:]
listing.BATCH_ROWS = 500
onboard.CHECKPOINT_SECONDS = onboard.REPORT_SECONDS = 0
real = onboard.rows_of
def slow(*args):
    time.sleep(0.02)
    return real(*args)
onboard.rows_of = slow
lake = open_lake(open_database(database, migrate=False), objects, stores=["local://" + outside])
tasks.run_one(lake.database, onboard.handlers(lake), "child")
"""


def test_killed_in_the_middle_goes_on_where_it_was(
    lake: Lake,
    repository: Repository,
    database: Database,
    outside: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{number % 7}/{number:05d}" for number in range(12_000)]
    for folder in range(7):
        (outside / str(folder)).mkdir()
    for name in names:
        os.close(os.open(outside / name, os.O_CREAT | os.O_WRONLY))
    id_ = onboard.start(lake, "sales", "main", [Source(f"local://{outside}", "raw")], "Import")
    arguments = [str(database.engine.url), f"local://{tmp_path / 'objects'}", str(outside)]
    with subprocess.Popen([sys.executable, "-c", CHILD, *arguments]) as child:
        try:
            deadline = time.monotonic() + 20
            while not any(
                line["mark"]["tree"] for line in tasks.get(database, id_).progress.get("lines", ())
            ):
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            child.kill()
    task = tasks.get(database, id_)
    assert task.status == "running"
    mark = task.progress["lines"][0]["mark"]
    assert 0 < mark["rows"] < len(names)
    assert repository.files("main") == []
    with database.write() as cx:
        cx.execute(task_table.update().values(owner_until=0))
    listed = []
    real = onboard.rows_of

    def noted(batch: pa.RecordBatch, *args):  # type: ignore[no-untyped-def]
        listed.extend(batch.column(0).to_pylist())
        return real(batch, *args)

    monkeypatch.setattr(onboard, "rows_of", noted)
    assert tasks.run_one(database, onboard.handlers(lake), "second")
    ended = onboard.status(lake, "sales", "main", id_)
    assert (ended.completed, ended.ingested_objects, ended.added) == (True, 12_000, 12_000)
    assert paths(repository) == sorted(f"raw/{name}" for name in names)
    assert len(listed) == len(names) - mark["rows"]
