"""Many users of one lake at the same time: nothing acknowledged is lost, nobody sees half of anything."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import update

from tulle.errors import AlreadyExists, Conflict, Invalid, Unavailable
from tulle.lake import locks, refs, staging
from tulle.lake.blobs import open_blobs
from tulle.lake.manifest import Manifest, ManifestStore
from tulle.lake.moves import Mover
from tulle.lake.publish import GateCall
from tulle.lake.ranges import row_of
from tulle.lake.repository import Lake, Repository
from tulle.state.db import Database, open_database
from tulle.state.tables import lake_branches

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def other(database: Database, repository: Repository, tmp_path: Path) -> Iterator[Repository]:
    """The same repository the way another process has it: own connections, own caches."""
    opened = open_database(str(database.engine.url))
    yield Lake(opened, open_blobs(f"local://{tmp_path / 'objects'}")).repository(repository.name)
    opened.close()


@contextmanager
def running(*works: Callable[[], None]) -> Iterator[None]:
    """Run each in a thread; whatever one of them raises is raised at the end."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  carried over to the test's own thread
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def test_drafts_and_staged_writes_side_by_side_are_committed_once(
    repository: Repository, other: Repository
) -> None:
    both = (repository, other)

    def draft(name: str, target: Repository) -> Callable[[], None]:
        def work() -> None:
            for number in range(12):
                drafted = target.draft("main")
                drafted.put_many([(f"{name}/{number}/{part}", b"x") for part in "ab"])
                target.commit_draft("main", drafted, f"{name}/{number}")

        return work

    def stage(name: str, target: Repository) -> Callable[[], None]:
        def work() -> None:
            for number in range(24):
                target.put("main", f"{name}/{number}", b"x")
                if number % 4 == 3:
                    with suppress(Invalid):  # a draft took it along
                        target.commit("main", "staged")

        return work

    with running(
        *(draft(f"draft{n}", target) for n, target in enumerate(both)),
        *(stage(f"staged{n}", target) for n, target in enumerate(both)),
    ):
        pass
    with suppress(Invalid):
        repository.commit("main", "the rest")
    wanted = {f"draft{n}/{number}/{part}" for n in range(2) for number in range(12) for part in "ab"}
    wanted |= {f"staged{n}/{number}" for n in range(2) for number in range(24)}
    assert {entry.path for entry in repository.entries("main@")} == wanted
    commits = repository.log("main", limit=1000)
    told = [
        change.path
        for commit in commits
        if commit.parents
        for change in repository.diff(commit.parents[0], commit.id)
    ]
    assert sorted(told) == sorted(wanted), "each in one commit"
    messages = [commit.message for commit in commits]
    assert sum(message.startswith("draft") for message in messages) == 24


def test_writes_racing_commits_are_kept_and_seen(repository: Repository, other: Repository) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()
    readings = commits = 0

    def write(name: str, target: Repository) -> Callable[[], None]:
        def work() -> None:
            for number in range(40):
                target.put("main", f"{name}/{number}", b"x")
                acknowledged.append(f"{name}/{number}")

        return work

    def commit() -> None:
        nonlocal commits
        while not stop.is_set():
            try:
                other.commit("main", "whatever is there")
                commits += 1
            except Invalid:
                time.sleep(0.001)

    def read() -> None:
        nonlocal readings
        while not stop.is_set():
            before = list(acknowledged)
            seen = {entry.path for entry in repository.entries("main")}
            listed = {entry.path for entry in other.list("main", limit=1000).entries}
            assert set(before) <= seen
            assert set(before) <= listed
            if before:
                assert other.exists("main", before[-1])
            readings += 1

    with running(commit, read):
        try:
            with running(write("one", repository), write("two", other)):
                pass
        finally:
            stop.set()
    expected = sorted(acknowledged)
    assert [entry.path for entry in repository.entries("main")] == expected
    if repository.status("main"):
        repository.commit("main", "the rest")
    assert [entry.path for entry in repository.entries("main@")] == expected
    assert commits > 1
    assert readings > 1
    added = [
        c.path
        for commit in repository.log("main", limit=1000)
        if commit.parents
        for c in repository.diff(commit.parents[0], commit.id)
    ]
    assert sorted(added) == expected, "each write is in exactly one commit"


def test_commits_and_merges_on_one_branch_take_turns(repository: Repository, other: Repository) -> None:
    for number in range(6):
        repository.create_branch(f"side-{number}")
        repository.put(f"side-{number}", f"side/{number}", b"x")
        repository.commit(f"side-{number}", f"side {number}")

    def merge(target: Repository, numbers: range) -> Callable[[], None]:
        return lambda: [target.merge(f"side-{number}", "main") for number in numbers] and None  # type: ignore[return-value]

    with running(merge(repository, range(3)), merge(other, range(3, 6))):
        pass
    assert [entry.path for entry in repository.entries("main")] == [f"side/{n}" for n in range(6)]
    line = repository.log("main", limit=100)
    assert len([commit for commit in line if len(commit.parents) == 2]) == 6


def test_of_many_who_put_if_absent_one_succeeds(repository: Repository, other: Repository) -> None:
    won: list[int] = []

    def put(number: int) -> Callable[[], None]:
        def work() -> None:
            try:
                (repository, other)[number % 2].put("main", "lock", str(number).encode(), if_absent=True)
                won.append(number)
            except AlreadyExists:
                pass

        return work

    with running(*(put(number) for number in range(8))):
        pass
    assert len(won) == 1
    assert repository.get("main", "lock") == str(won[0]).encode()


def test_a_put_while_a_merge_is_judged_stays_staged(repository: Repository, other: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")

    def gate(_call: GateCall) -> None:
        other.put("main", "late", b"1")

    result = repository.merge("try", "main", gate=gate)
    assert [c.path for c in repository.diff(result.commit.parents[0], result.commit.id)] == ["a"]
    assert [c.path for c in repository.status("main")] == ["late"]


def test_who_would_move_the_branch_waits_for_the_gate(repository: Repository, other: Repository) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")
    order: list[str] = []
    judging = threading.Event()

    def gate(call: GateCall) -> None:
        judging.set()
        time.sleep(0.2)
        assert repository.resolve("main") == call.before
        order.append("judged")

    def commit() -> None:
        judging.wait(5)
        other.put("main", "b", b"1")
        other.commit("main", "after the merge")
        order.append("committed")

    with running(commit):
        merged = repository.merge("try", "main", gate=gate).commit
    assert order == ["judged", "committed"]
    assert repository.commit_info("main").parents == (merged.id,)


def test_a_branch_held_too_long_is_an_error_that_names_the_holder(
    database: Database, repository: Repository, tmp_path: Path
) -> None:
    impatient = Lake(database, open_blobs(f"local://{tmp_path / 'objects'}"), wait_seconds=0.05)
    owner = locks.new_owner()
    with database.write() as cx:
        assert locks.try_lock(cx, repository._id, "main", owner) is None
    with pytest.raises(Unavailable, match=r"branch 'main' is being changed by process \d+ on"):
        impatient.repository("sales").commit("main", "x", allow_empty=True)
    with database.write() as cx:
        locks.unlock(cx, repository._id, "main", owner)
    impatient.repository("sales").commit("main", "x", allow_empty=True)


def test_a_lock_that_was_lost_is_noticed_and_nothing_is_published(
    database: Database, repository: Repository, other: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")
    # Over at once and not renewed, as if the holder had been stopped for long.
    monkeypatch.setattr(locks, "LOCK_SECONDS", -1.0)
    monkeypatch.setattr(Mover, "_keep", lambda *_: None)

    def gate(_call: GateCall) -> None:
        other.commit("main", "overtook", allow_empty=True)

    with pytest.raises(Conflict, match="moved by somebody else"):
        repository.merge("try", "main", gate=gate)
    assert [commit.message for commit in repository.log("main")] == ["overtook", "Repository created"]


@pytest.mark.parametrize("what", ["lock_owner", "commit_id"])
def test_a_branch_moves_only_by_its_holder_from_where_it_was(
    database: Database, repository: Repository, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    repository.put("main", "a", b"1")
    here, root = repository.commit("main", "one").id, repository.resolve("main~1")
    real = ManifestStore.put

    def put(store: ManifestStore, manifest: Manifest) -> str:
        with database.write() as cx:  # behind the back of who holds the branch
            changed = (
                {"lock_owner": "elsewhere/1/1/x", "lock_until": time.time() + 60}
                if what == "lock_owner"
                else {"commit_id": root}
            )
            cx.execute(update(lake_branches).values(changed))
        return real(store, manifest)

    repository.put("main", "b", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(ManifestStore, "put", put)
        with pytest.raises(Conflict, match="moved by somebody else"):
            repository.commit("main", "two")
    assert repository.resolve("main") == (here if what == "lock_owner" else root)
    assert repository.get("main", "b") == b"1"


def test_the_lock_of_a_dead_process_is_broken_at_once(database: Database, repository: Repository) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "from tulle.lake import locks; print(locks.new_owner())"],
        capture_output=True,
        text=True,
        check=True,
    )
    with database.write() as cx:
        assert locks.try_lock(cx, repository._id, "main", child.stdout.strip()) is None
    began = time.monotonic()
    repository.commit("main", "x", allow_empty=True)
    assert time.monotonic() - began < 5


def test_a_held_lock_is_kept_alive(
    repository: Repository, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.2)
    own = locks.Keeper()  # that of this process may be asleep for as long as locks last otherwise
    monkeypatch.setattr(locks, "_keeper", lambda _pid: own)
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")
    holders: list[str | None] = []

    def gate(_call: GateCall) -> None:
        time.sleep(0.5)
        with database.write() as cx:
            holders.append(locks.try_lock(cx, repository._id, "main", locks.new_owner()))

    repository.merge("try", "main", gate=gate)
    assert holders[0] is not None


def test_a_lock_that_cannot_be_renewed_is_told_of(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.1)
    own = locks.Keeper()  # that of this process may be asleep for as long as locks last otherwise
    monkeypatch.setattr(locks, "_keeper", lambda _pid: own)
    repository.create_branch("try")
    repository.put("try", "a", b"1")
    repository.commit("try", "try")

    def busy(*_: object) -> None:
        raise Unavailable("the database is busy")

    monkeypatch.setattr(locks, "keep_lock", busy)
    repository.merge("try", "main", gate=lambda _call: time.sleep(0.2))
    assert "the lock on branch main could not be renewed: the database is busy" in caplog.text


def test_failed_commits_do_not_pile_up(
    repository: Repository, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise Unavailable("the store is down")

    with monkeypatch.context() as patched:
        patched.setattr(ManifestStore, "put", fail)
        for number in range(8):
            repository.put("main", "same", str(number).encode())
            repository.put("main", f"{number}", b"x")
            with pytest.raises(Unavailable):
                repository.commit("main", "fails")
    with database.read() as cx:
        assert len(refs.get_branch(cx, repository._id, "main").staged) <= 3
    assert repository.get("main", "same") == b"7"
    repository.commit("main", "works")
    assert [entry.path for entry in repository.entries("main@")] == [*map(str, range(8)), "same"]
    assert repository.get("main@", "same") == b"7"


def test_a_commit_waits_for_a_write_that_is_under_way_and_takes_it(
    database: Database, repository: Repository, other: Repository
) -> None:
    repository.put("main", "a", b"1")  # so that the branch has a place for writes
    entry = repository.writer.store("late", b"2")
    with ThreadPoolExecutor(1) as pool:
        with database.write() as cx:
            staging.stage_rows(cx, repository.record.id, "main", [row_of(entry)])
            commit = pool.submit(other.commit, "main", "both")
            with pytest.raises(TimeoutError):
                commit.result(0.3)
        made = commit.result(20)
    assert [e.path for e in repository.entries(made.id)] == ["a", "late"]


def test_of_many_who_want_one_name_one_gets_it(repository: Repository, other: Repository) -> None:
    def make(number: int) -> str:
        target = (repository, other)[number // 2 % 2]
        try:
            if number % 2:
                target.create_tag("wanted", "main")
            else:
                target.create_branch("wanted")
        except AlreadyExists:
            return "refused"
        return "tag" if number % 2 else "branch"

    with ThreadPoolExecutor(8) as pool:
        made = sorted(pool.map(make, range(8)))
    assert made.count("refused") == 7
    kinds = [ref.name for ref in (*repository.branches(), *repository.tags())]
    assert kinds.count("wanted") == 1


def test_many_may_make_sure_of_a_branch_at_once(repository: Repository, other: Repository) -> None:
    def make(number: int) -> str:
        return (repository, other)[number % 2].create_branch("wanted", exist_ok=True).commit_id

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(make, range(8))) == {repository.resolve("main")}
