"""Merging and folding layers: content and commit stay, the base is what a fresh import would give."""

from __future__ import annotations

import random

import pytest

from tulle.errors import LimitExceeded
from tulle.lake import ranges, upkeep
from tulle.lake.entry import Entry
from tulle.lake.manifest import Manifest
from tulle.lake.ranges import Range, Row, row_of, tombstone
from tulle.lake.repository import Lake, Repository, open_lake
from tulle.lake.runs import RunRef, RunStore, TreeWriter
from tulle.state.db import Database


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "CUT_EVERY", 16)
    monkeypatch.setattr(ranges, "MIN_ROWS", 4)
    monkeypatch.setattr(ranges, "MAX_ROWS", 64)


@pytest.fixture
def lake(database: Database) -> Lake:
    return open_lake(database, "memory:///")  # hundreds of tiny ranges: syncing each would take long


def manifest_of(repository: Repository, ref: str = "main@") -> Manifest:
    return repository.reader.content(repository.resolve(ref)).manifest


def stage(repository: Repository, rows: dict[str, int | None]) -> None:
    made: list[Row] = [
        tombstone(path.encode()) if version is None else row_of(Entry(path, f"data/{version}", 1))
        for path, version in rows.items()
    ]
    repository.writer.stage_rows("main", made)


def fresh_tree(store: RunStore, truth: dict[str, int]) -> RunRef:
    writer = TreeWriter(store)
    writer.add(Range.of([row_of(Entry(p, f"data/{v}", 1)) for p, v in sorted(truth.items())]))
    return writer.finish()


@pytest.mark.parametrize("seed", range(4))
def test_a_folded_base_has_no_history(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(upkeep, "SMALL_ROWS", 10**9)
    monkeypatch.setattr(upkeep, "MAX_LAYERS", 10**9)
    choose = random.Random(seed)
    truth: dict[str, int] = {}
    for version in range(12):
        low = choose.randrange(900)
        pool = range(1000) if choose.random() < 0.5 else range(low, low + 60)
        change: dict[str, int | None] = {}
        for number in choose.sample(pool, choose.randrange(1, 60)):
            path = f"p/{number:04d}"
            change[path] = None if path in truth and choose.random() < 0.4 else version
        stage(repository, change)
        repository.commit("main", f"{version}", allow_empty=True)
        for path, value in change.items():
            if value is None:
                truth.pop(path)
            else:
                truth[path] = value
        if choose.random() < 0.5:
            repository.fold("main")
            assert manifest_of(repository).base == fresh_tree(repository.reader.runs, truth)
    repository.fold("main")
    assert manifest_of(repository).base == fresh_tree(repository.reader.runs, truth)
    assert {e.path: int(e.address[5:]) for e in repository.entries("main@")} == truth
    stage(repository, dict.fromkeys(truth))
    repository.commit("main", "nothing left")
    repository.fold("main")
    assert manifest_of(repository).base == fresh_tree(repository.reader.runs, {})


def test_on_nothing_a_batch_with_removals_leaves_none_in_the_base(repository: Repository) -> None:
    stage(repository, {f"p/{n:04d}": None if n % 2 else 0 for n in range(400)})
    repository.commit("main", "import")
    base = manifest_of(repository).base
    assert base is not None
    assert (base.place, base.rows, base.deleted) == ("tree", 200, 0)
    assert len(list(repository.entries("main@"))) == 200


def test_a_fold_is_for_the_same_commit(repository: Repository) -> None:
    stage(repository, {f"p/{n:04d}": 0 for n in range(300)})
    made = repository.commit("main", "one")
    stage(repository, {"p/0001": 1})
    later = repository.commit("main", "two")
    before = [(e.path, e.address) for e in repository.entries("main@")]
    assert repository.fold(made.id) or manifest_of(repository, made.id).layers == ()
    assert repository.fold("main")
    assert repository.resolve("main") == later.id
    assert repository.commit_info("main") == later
    assert manifest_of(repository).commit == later
    assert [(e.path, e.address) for e in repository.entries("main@")] == before
    assert [c.path for c in repository.diff("main~1", "main")] == ["p/0001"]


def test_layers_stay_few_whatever_the_number_of_commits(repository: Repository) -> None:
    stage(repository, {f"p/{n:05d}": 0 for n in range(3000)})
    repository.commit("main", "import")
    most = 0
    for version in range(1, 60):
        stage(repository, {f"p/{version:05d}": version})
        repository.commit("main", f"{version}")
        most = max(most, len(manifest_of(repository).layers))
    assert 2 <= most <= upkeep.LAYERS_IN_A_TIER
    assert [e.address for e in repository.entries("main", "p/0005")][:10] == [
        f"data/{n}" for n in range(50, 60)
    ]


def test_layers_are_folded_when_they_outgrow_the_base(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "SMALL_ROWS", 50)
    stage(repository, {f"p/{n:04d}": 0 for n in range(1000)})
    repository.commit("main", "import")
    assert manifest_of(repository).layers == ()
    stage(repository, {f"p/{n:04d}": 1 for n in range(0, 1000, 11)})
    repository.commit("main", "9 %")
    assert len(manifest_of(repository).layers) == 1
    stage(repository, {f"p/{n:04d}": 2 for n in range(0, 1000, 50)})
    repository.commit("main", "2 % more")
    assert manifest_of(repository).layers == ()
    assert manifest_of(repository).base is not None


def test_a_commit_stands_when_keeping_up_fails(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "SMALL_ROWS", 1)

    def full(*_: object) -> None:
        raise LimitExceeded("disk full")

    monkeypatch.setattr(TreeWriter, "finish", full)
    stage(repository, {f"p/{n}": 0 for n in range(5)})
    made = repository.commit("main", "one")
    assert repository.resolve("main") == made.id
    assert "stay as they are: disk full" in caplog.text
    monkeypatch.undo()
    assert len(list(repository.entries("main@"))) == 5
    repository.commit("main", "the lock was let go of", allow_empty=True)


def test_readers_of_an_older_manifest_go_on(repository: Repository) -> None:
    stage(repository, {f"p/{n}": 0 for n in range(20)})
    repository.commit("main", "one")
    view = repository.reader.snapshot("main")
    repository.fold("main")
    assert len(list(view.entries())) == 20


def test_large_layers_beside_the_base_are_taken_over_unread(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth: dict[str, int] = {}
    store = repository.reader.runs
    monkeypatch.setattr(upkeep, "SMALL_ROWS", 10**9)
    for version, prefix in enumerate(("d", "f", "b", "d1")):
        rows: dict[str, int | None] = {f"{prefix}/{number:04d}": version for number in range(600)}
        stage(repository, rows)
        repository.commit("main", prefix)
        truth.update(dict.fromkeys(rows, version))
        loaded: list[str] = []
        real = RunStore.range

        def noted(self: RunStore, id_: str, real=real, loaded=loaded) -> Range:  # type: ignore[no-untyped-def]
            loaded.append(id_)
            found: Range = real(self, id_)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(RunStore, "range", noted)
            repository.fold("main")
        base = manifest_of(repository).base
        assert base is not None
        assert base.id == fresh_tree(store, truth).id
        assert len(set(loaded)) < (10 if prefix != "d1" else 60)  # in the middle cuts must meet again first
