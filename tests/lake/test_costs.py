"""What operations cost, counted in objects written and read, so that no noise can hide a change."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from tulle.lake.blobs import BlobInfo, Blobs, open_blobs
from tulle.lake.hooks.run import Hooks
from tulle.lake.repository import Lake, Link, Repository
from tulle.state.db import Database


class CountingBlobs:
    """Counts what goes to and comes from the store, by kind."""

    def __init__(self, inner: Blobs) -> None:
        self.inner = inner
        self.put_names: list[str] = []
        self.got_names: list[str] = []
        self.written = 0

    def put(self, path: str, data: object) -> int:
        size = self.inner.put(path, data)  # type: ignore[arg-type]
        self.put_names.append(path.split("/")[2])
        self.written += size
        return size

    def get(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        self.got_names.append(path.split("/")[2])
        return self.inner.get(path, start, end)

    def stat(self, path: str, *, settle: bool = False) -> BlobInfo:
        return self.inner.stat(path, settle=settle)

    def refresh(self, path: str, data: bytes) -> None:
        self.put_names.append(path.split("/")[2])  # in a store it is a PUT
        self.written += len(data)
        self.inner.refresh(path, data)

    def delete(self, path: str) -> None:
        self.inner.delete(path)

    def list(self, folder: str = "") -> Iterator[BlobInfo]:
        return self.inner.list(folder)

    def url(self, path: str, *, for_writing: bool = False) -> str:
        return self.inner.url(path, for_writing=for_writing)

    def reset(self) -> None:
        self.put_names, self.got_names, self.written = [], [], 0


def links(numbers: list[int] | range, version: int = 0) -> Iterator[Link]:
    for number in numbers:
        yield Link(f"t/part={number // 1000:06d}/{number:010d}", f"s3://w/v{version}/{number:010d}", number)


@pytest.fixture
def blobs(tmp_path: Path) -> CountingBlobs:
    return CountingBlobs(open_blobs(f"local://{tmp_path / 'objects'}"))


@pytest.fixture
def lake(database: Database, blobs: CountingBlobs) -> Lake:
    return Lake(database, blobs, external=["s3://w/"])


def filled(lake: Lake, size: int) -> Repository:
    repository = lake.create_repository(f"rows-{size}")
    repository.link_many("main", links(range(size)))
    repository.commit("main", "import")
    repository.fold("main")
    return repository


@pytest.mark.parametrize("size", [12_000, 90_000])
@pytest.mark.parametrize("batch", [100, 1000])
def test_a_commit_costs_what_it_changes_not_what_there_is(
    lake: Lake, blobs: CountingBlobs, size: int, batch: int
) -> None:
    repository = filled(lake, size)
    changed = random.Random(1).sample(range(size), 1000)
    blobs.reset()
    for at in range(0, 1000, batch):
        repository.link_many("main", links(changed[at : at + batch], 1))
    repository.commit("main", "1,000 scattered changes")
    assert len(blobs.put_names) <= 3
    assert blobs.got_names == []
    assert blobs.written <= 150 * 1000 + 8192


def test_an_import_writes_each_row_once(lake: Lake, blobs: CountingBlobs) -> None:
    repository = lake.create_repository("import")
    repository.link_many("main", links(range(50_000)))
    ranges = blobs.put_names.count("ranges")
    repository.commit("main", "import")
    assert blobs.put_names.count("ranges") == ranges
    assert blobs.put_names.count("metaranges") == 1
    assert blobs.written <= 35 * 50_000  # bytes an entry by reference


def test_a_small_commit_is_one_object(lake: Lake, blobs: CountingBlobs) -> None:
    repository = filled(lake, 5000)
    blobs.reset()
    repository.put("main", "a", b"1")
    repository.commit("main", "one change")
    assert [name for name in blobs.put_names if not name.startswith("2")] == ["manifests"]
    assert blobs.put_names == [blobs.put_names[0], "manifests"]


def test_branches_and_tags_cost_no_object(lake: Lake, blobs: CountingBlobs) -> None:
    repository = filled(lake, 3000)
    blobs.reset()
    repository.create_branch("try")
    repository.create_tag("v1", "try")
    repository.hard_reset("try", "main~1")
    repository.delete_branch("try")
    assert (blobs.put_names, blobs.got_names) == ([], [])


def test_merging_into_what_did_not_move_takes_the_layers_over(lake: Lake, blobs: CountingBlobs) -> None:
    repository = filled(lake, 20_000)
    repository.create_branch("try")
    for version in (1, 2):
        repository.link_many("try", links(range(0, 20_000, 40), version))
        repository.commit("try", f"version {version}")
    blobs.reset()
    repository.merge("try", "main")
    assert len(blobs.put_names) <= 2
    assert blobs.got_names == []
    assert repository.diff("main", "try") == []


def test_reading_one_path_cold_asks_for_few_objects(
    lake: Lake, database: Database, blobs: CountingBlobs
) -> None:
    repository = filled(lake, 60_000)
    for version in range(3):
        repository.put("main", f"t/new-{version}", b"1")
        repository.commit("main", f"{version}")
    cold = Lake(database, blobs).repository("rows-60000")
    blobs.reset()
    cold.stat("main", "t/part=000030/0000030123")
    assert sorted(blobs.got_names) == ["manifests", "metaranges", "ranges"]
    blobs.reset()
    cold.list("main", "t/part=000030/", limit=1000)
    assert blobs.got_names.count("manifests") == blobs.got_names.count("metaranges") == 0
    assert len(blobs.got_names) <= 2


def test_a_diff_reads_what_lies_between(lake: Lake, database: Database, blobs: CountingBlobs) -> None:
    repository = filled(lake, 60_000)
    repository.link_many("main", links(range(30_000, 30_500), 1))  # side by side: one range, or two
    repository.commit("main", "clustered")
    cold = Lake(database, blobs).repository("rows-60000")
    blobs.reset()
    assert len(cold.diff("main~1", "main")) == 500
    assert blobs.got_names.count("manifests") == 2
    assert blobs.got_names.count("metaranges") == 1
    assert blobs.got_names.count("ranges") <= 3  # the delta's own, and those that hold a changed path


def test_a_fold_rewrites_only_what_is_touched(lake: Lake, blobs: CountingBlobs) -> None:
    repository = filled(lake, 90_000)
    repository.link_many("main", links(range(40_000, 40_500), 1))
    repository.commit("main", "clustered")
    blobs.reset()
    assert repository.fold("main")
    assert blobs.put_names.count("ranges") <= 3
    assert not repository.fold("main")


def test_with_hooks_but_no_action_files_a_commit_costs_no_more(lake: Lake, blobs: CountingBlobs) -> None:
    lake.hooks = Hooks(lake, {})
    repository = filled(lake, 12_000)
    repository.link_many("main", links(range(1), 1))
    repository.commit("main", "what the branch holds is known now")
    repository.link_many("main", links(random.Random(1).sample(range(12_000), 1000), 2))
    blobs.reset()
    repository.commit("main", "1,000 scattered changes")
    assert len(blobs.put_names) <= 3
    assert blobs.got_names == []


def test_a_branch_and_a_fast_forward_write_one_ref(
    lake: Lake, database: Database, blobs: CountingBlobs
) -> None:
    repository = filled(lake, 5000)
    written: list[str] = []

    def note(_cx: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith(("INSERT INTO lake_branches", "DELETE FROM lake_branches")):
            written.append(statement)
        if statement.startswith("UPDATE lake_branches") and "commit_id=" in statement:
            written.append(statement)  # else it is the lock that is taken or let go of

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        blobs.reset()
        repository.create_branch("ahead")
        assert len(written) == 1
        assert (blobs.put_names, blobs.got_names) == ([], [])
        repository.link_many("ahead", links(range(500), 1))
        repository.commit("ahead", "500 changes")
        written.clear()
        blobs.reset()
        repository.merge("ahead", "main", fast_forward="only")
        assert len(written) == 1
        assert blobs.put_names == []
        assert repository.resolve("main") == repository.resolve("ahead")
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_after_a_commit_a_reader_asks_for_no_staged_rows(lake: Lake, database: Database) -> None:
    repository = lake.create_repository("quiet")
    repository.put("main", "a", b"1")
    repository.commit("main", "one")
    repository.stat("main", "a")
    statements: list[str] = []

    def listen(connection: sqlite3.Connection, *_rest: object) -> None:
        connection.set_trace_callback(statements.append)  # SQLite's own: not all go through SQLAlchemy

    def leave(connection: sqlite3.Connection, *_rest: object) -> None:
        connection.set_trace_callback(None)

    event.listen(database.engine, "checkout", listen)
    event.listen(database.engine, "checkin", leave)
    repository.stat("main", "a")
    event.remove(database.engine, "checkout", listen)
    event.remove(database.engine, "checkin", leave)
    asked = [statement for statement in statements if statement.startswith("SELECT")]
    assert len(asked) == 1, statements


def test_a_page_over_much_that_was_removed_takes_few_looks(lake: Lake, database: Database) -> None:
    repository = lake.create_repository("emptied")
    repository.put_many("main", [(f"a/{number:05}", b"") for number in range(3000)])
    repository.put("main", "b", b"1")
    repository.commit("main", "one")
    for start in range(0, 3000, 200):  # fewer than what is staged as a run
        repository.delete_many("main", [f"a/{number:05}" for number in range(start, start + 200)])
    statements: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    found = repository.list("main", limit=1)
    event.remove(database.engine, "before_cursor_execute", note)
    assert [entry.path for entry in found.entries] == ["b"]
    assert len(statements) < 20
