"""What deleted repositories left goes when it is asked for, and nothing that anybody still needs."""

import contextlib
import random
import signal
import time

import pytest
from sqlalchemy import update
from tests.lake.forking import forking

from tulle.errors import AlreadyExists, Broken, Conflict, Denied, Gone, Invalid, NotFound, Unavailable
from tulle.lake import dump, leftovers, onboard, quarantine
from tulle.lake.blobs import LocalBlobs
from tulle.lake.onboard import Source
from tulle.lake.repository import open_lake
from tulle.state import tasks

DATABASES = ("sqlite", "postgres")


@pytest.fixture(params=["local", "memory"])
def lake(database, tmp_path, request):
    (tmp_path / "outside").mkdir()
    return open_lake(
        database,
        f"local://{tmp_path / 'objects'}" if request.param == "local" else "memory:///",
        stores=[f"local://{tmp_path}/outside/"],
    )


def names(repository, folder=""):
    storage = repository.record.storage
    return {
        blob.path.removeprefix(f"{storage}/")
        for blob in repository.reader.blobs.list(f"{storage}/{folder}".rstrip("/"))
        if not blob.path.startswith(f"{storage}/_tulle/collections/")
    }


def filled(lake, name, files=3, **kwargs):
    repository = lake.create_repository(name, **kwargs)
    for number in range(files):
        repository.put("main", f"f{number}", f"{name} {number}".encode())
    repository.commit("main", "files")
    return repository


def sweep(lake, **kwargs):
    return leftovers.collect(lake, grace_seconds=0, **kwargs)


def test_all_of_a_deleted_repository_goes_and_others_stay(lake):
    gone, other = filled(lake, "gone"), filled(lake, "other")
    assert not sweep(lake).removed
    before = names(other)
    everything = len(names(gone))
    lake.delete_repository("gone")
    report = sweep(lake)
    assert names(gone) == set()
    assert sum(tally.count for tally in report.removed.values()) == everything
    assert report.removed["data"].count == 3
    assert report.removed["data"].samples[0].startswith(f"{gone.record.storage}/data/")
    assert (report.storages, report.left) == (1, {})
    assert names(other) == before
    assert other.get("main", "f1") == b"other 1"
    assert not sweep(lake).removed


def test_one_of_the_same_name_made_since_is_left_alone(lake):
    old = filled(lake, "sales")
    lake.delete_repository("sales")
    new = filled(lake, "sales")
    sweep(lake)
    assert names(old) == set()
    assert new.get("main", "f2") == b"sales 2"


def test_what_others_copied_and_imported_stays_until_they_let_go(lake):
    gone, copier = filled(lake, "gone", files=4), lake.create_repository("copier")
    copier.copy("main", "main", "f0", "committed", source=gone)
    copier.commit("main", "copy")
    copier.copy("main", "main", "f1", "staged", source=gone)
    copier.put_many("main", [(f"many/{n:04}", b"m") for n in range(300)])
    copier.create_branch("taken")
    onboard.start(lake, "copier", "taken", [Source("lakefs://gone/main/f2", "in/f2", "object")], "Import")
    assert tasks.run_one(lake.database, onboard.handlers(lake), "me")
    assert copier.get("taken", "in/f2") == b"gone 2"
    addresses = {gone.stat("main", f"f{n}").address for n in range(3)}
    lake.delete_repository("gone")
    report = sweep(lake)
    assert names(gone, "data") == addresses
    assert report.removed["data"].count == 1
    assert copier.get("main", "committed") == b"gone 0"
    assert copier.get("main", "staged") == b"gone 1"
    copier.reset("main")
    sweep(lake)
    assert len(names(gone, "data")) == 2
    lake.delete_repository("copier")
    sweep(lake)
    assert names(gone) == names(copier) == set()


@pytest.mark.parametrize("lake", ["local"], indirect=True)
def test_what_was_linked_as_an_outside_file_stays(lake, tmp_path):
    gone, other = (
        filled(lake, "gone", namespace=f"local://{tmp_path}/outside/in"),
        lake.create_repository("other"),
    )
    path = gone.reader.blobs.url(f"{gone.record.storage}/{gone.stat('main', 'f1').address}")
    other.link("main", "linked", f"local://{path}")
    lake.delete_repository("gone")
    assert sweep(lake).removed["data"].count == 2
    assert other.get("main", "linked") == b"gone 1"


@pytest.mark.parametrize("lake", ["local"], indirect=True)
def test_a_repository_made_over_a_folder_of_a_deleted_one_stays(lake):
    gone = filled(lake, "gone")
    inner = filled(lake, "inner", namespace=f"local://{gone.record.storage}/data")
    assert (gone.reader.blobs.folder / gone.record.storage / "data" / inner.record.storage).is_dir()
    lake.delete_repository("gone")
    report = sweep(lake)
    assert report.removed["data"].count == 3
    assert inner.get("main", "f0") == b"inner 0"
    lake.delete_repository("inner")
    sweep(lake)
    assert names(inner) == set()


def test_nothing_goes_at_once_nor_when_it_is_young(lake):
    gone = filled(lake, "gone")
    lake.delete_repository("gone")
    assert not leftovers.collect(lake).waiting
    report = leftovers.collect(lake, grace_seconds=0.0, dry_run=True)
    assert report.removed
    time.sleep(0.4)
    first = leftovers.collect(lake, grace_seconds=0.3)
    assert not first.removed
    assert first.waiting["data"].count == 3
    assert len(names(gone, "data")) == 3
    time.sleep(0.4)
    assert leftovers.collect(lake, grace_seconds=0.3).removed["data"].count == 3
    assert names(gone) == set()


def test_a_dry_run_tells_the_same_and_changes_nothing(lake):
    gone = filled(lake, "gone")
    dump.dump(lake, "gone")
    lake.delete_repository("gone")
    before = names(gone)
    dry = sweep(lake, dry_run=True)
    assert names(gone) == before
    wet = sweep(lake)
    assert dry.removed == wet.removed
    assert wet.removed["dumps"].count == 3
    assert names(gone) == set()


def test_a_candidate_that_is_old_cannot_be_linked(lake, monkeypatch):
    gone, other = filled(lake, "gone"), lake.create_repository("other")
    address = f"lake:{gone.record.storage}/{gone.stat('main', 'f0').address}"
    lake.delete_repository("gone")
    time.sleep(0.3)
    leftovers.collect(lake, grace_seconds=0.2)
    monkeypatch.setattr("tulle.lake.writing.YOUNG_SECONDS", 0.0)
    with pytest.raises(Gone, match="about to be collected"):
        other.link("main", "late", address)


def test_what_was_named_anew_since_stays(lake):
    gone, other = filled(lake, "gone"), lake.create_repository("other")
    address = f"lake:{gone.record.storage}/{gone.stat('main', 'f0').address}"
    lake.delete_repository("gone")
    time.sleep(0.3)
    leftovers.collect(lake, grace_seconds=0.2)
    other.link("main", "again", address)
    time.sleep(0.3)
    assert leftovers.collect(lake, grace_seconds=0.2).removed["data"].count == 2
    assert other.get("main", "again") == b"gone 0"


def test_a_dump_of_late_keeps_everything_and_one_restored_is_no_leftover(lake):
    gone = filled(lake, "gone")
    lake.delete_repository("gone")
    gone = filled(lake, "gone")
    ids = dump.dump(lake, "gone")
    lake.delete_repository("gone")
    left = leftovers.collect(lake, grace_seconds=3600).left
    assert left == {gone.record.storage: "it was dumped lately, perhaps to be restored"}
    time.sleep(0.4)
    assert leftovers.collect(lake, grace_seconds=0.3).waiting["dumps"].count == 3
    lake.create_repository("back", bare=True)
    dump.restore(lake, "back", ids)
    time.sleep(0.4)
    leftovers.collect(lake, grace_seconds=0.3)
    assert lake.repository("back").get("main", "f0") == b"gone 0"
    lake.delete_repository("back")  # what was a candidate before it was restored is none yet
    assert not leftovers.collect(lake, grace_seconds=0.3).removed
    time.sleep(0.4)
    assert leftovers.collect(lake, grace_seconds=0.3).removed["data"].count == 3
    lake.create_repository("again", bare=True)
    with pytest.raises(NotFound, match="there is no dump"):
        dump.restore(lake, "again", ids)


def test_what_was_unneeded_before_it_was_restored_waits_anew(lake):
    gone = filled(lake, "gone")
    ids = dump.dump(lake, "gone")
    lake.delete_repository("gone")
    time.sleep(0.4)
    assert leftovers.collect(lake, grace_seconds=0.3).waiting["data"].count == 3
    lake.create_repository("back", bare=True)
    dump.restore(lake, "back", ids)
    lake.delete_repository("back")
    time.sleep(0.4)
    report = leftovers.collect(lake, grace_seconds=0.3)
    assert "data" not in report.removed
    assert len(names(gone, "data")) == 3


def test_one_whom_the_task_was_taken_from_stops(lake, monkeypatch):
    gone = filled(lake, "gone")
    filled(lake, "gone-too")
    lake.delete_repository("gone")
    lake.delete_repository("gone-too")
    before = names(gone)
    real = tasks.Running.report

    def report(self, progress):
        if progress["phase"] == "remove":
            raise Conflict("taken over by another worker")
        real(self, progress)

    monkeypatch.setattr(tasks.Running, "report", report)
    with pytest.raises(Conflict, match="taken over"):
        sweep(lake)
    assert names(gone) == before


def test_one_restored_at_the_last_moment_is_left(lake, monkeypatch):
    gone = filled(lake, "gone")
    ids = dump.dump(lake, "gone")
    lake.delete_repository("gone")
    lake.create_repository("back", bare=True)
    real = leftovers._Leftovers._give_up

    def give_up(self, *args):
        if not lake.repository("back").branches():
            dump.restore(lake, "back", ids)
        return real(self, *args)

    monkeypatch.setattr(leftovers._Leftovers, "_give_up", give_up)
    report = sweep(lake)
    assert report.left == {gone.record.storage: "it is a repository's again, restored from a dump"}
    assert lake.repository("back").get("main", "f2") == b"gone 2"


def test_a_restore_that_comes_too_late_changes_nothing(lake, monkeypatch):
    filled(lake, "gone")
    ids = dump.dump(lake, "gone")
    lake.delete_repository("gone")
    lake.create_repository("back", bare=True)
    real = dump._part

    def part(*args):
        found = real(*args)
        if args[2] == "commits":  # it has read everything, and has not begun to write
            sweep(lake)
        return found

    monkeypatch.setattr(dump, "_part", part)
    with pytest.raises(NotFound, match="there is no dump"):
        dump.restore(lake, "back", ids)
    assert lake.repository("back").branches() == []


def test_a_damaged_repository_ends_it_with_nothing_removed(lake):
    gone, other = filled(lake, "gone"), filled(lake, "other", files=300)
    for blob in list(other.reader.blobs.list(f"{other.record.storage}/_tulle/manifests")):
        other.reader.blobs.delete(blob.path)
    before = names(gone)
    lake.delete_repository("gone")
    again = type(lake)(lake.database, lake.stores)
    with pytest.raises(Broken, match="nothing is removed"):
        sweep(again)
    assert names(gone) == before


def test_a_store_that_fails_keeps_no_other_from_being_collected(lake, tmp_path, monkeypatch):
    away = filled(lake, "away", namespace=f"local://{tmp_path}/outside/x")
    gone = filled(lake, "gone")
    lake.delete_repository("away")
    lake.delete_repository("gone")
    real = LocalBlobs.list

    def refused(self, folder=""):
        if folder.startswith(away.record.storage):
            raise Unavailable("the disk is not there")
        return real(self, folder)

    monkeypatch.setattr(LocalBlobs, "list", refused)
    report = sweep(lake)
    assert report.left == {away.record.storage: "the disk is not there"}
    assert names(gone) == set()
    monkeypatch.undo()
    sweep(lake)
    assert names(away) == set()


def test_one_at_a_time_as_a_task(lake):
    filled(lake, "gone")
    lake.delete_repository("gone")
    id_ = leftovers.start(lake)
    with pytest.raises(Conflict, match=id_):
        leftovers.start(lake)
    assert leftovers.status(lake, id_).status == "waiting"
    assert tasks.run_one(lake.database, leftovers.handlers(lake), "me")
    assert [(run.id, run.status) for run in leftovers.collections(lake)] == [(id_, "done")]
    with pytest.raises(Invalid, match="too short"):
        leftovers.start(lake, grace_seconds=5)
    with lake.database.write() as cx:
        other = tasks.ask(cx, "something", "x", {})
    with pytest.raises(NotFound):
        leftovers.status(lake, other)


def test_what_is_in_hand_is_said(lake, monkeypatch):
    gone = filled(lake, "gone")
    path = f"{gone.record.storage}/{gone.stat('main', 'f0').address}"
    lake.delete_repository("gone")
    seen = []
    kind = type(gone.reader.blobs)
    real = kind.delete

    def delete(self, name):
        if name == path:
            seen.append(quarantine._in_hand(lake.database, path))
        real(self, name)

    monkeypatch.setattr(kind, "delete", delete)
    sweep(lake)
    assert seen == [True]


@pytest.mark.parametrize("seed", range(5))
def test_random_copying_against_a_simple_oracle(lake, seed, monkeypatch):
    """After some are deleted, of their data exactly what the others still hold is there, and all of it is read."""
    chance = random.Random(seed)
    monkeypatch.setattr("tulle.lake.staging.LARGE_BATCH", 4)
    repositories = [lake.create_repository(f"r-{number}") for number in range(4)]
    for step in range(80):
        repository, origin = chance.choice(repositories), chance.choice(repositories)
        branch = chance.choice(repository.branches()).name
        action = chance.choice(
            ["put", "put", "copy", "copy", "copy", "commit", "branch", "fold", "reset", "drop"]
        )
        with contextlib.suppress(Conflict, Invalid, NotFound, AlreadyExists, Denied):
            if action == "put":
                files = [
                    (f"p{chance.randrange(6)}", f"{seed} {step} {n}".encode())
                    for n in range(chance.choice((1, 5)))
                ]
                repository.put_many(branch, files)
            elif action == "copy":
                repository.copy(
                    branch, "main", f"p{chance.randrange(6)}", f"c{chance.randrange(9)}", source=origin
                )
            elif action == "commit":
                repository.commit(branch, "c")
            elif action == "branch":
                repository.create_branch(f"b{step}", branch)
            elif action == "fold":
                repository.fold(branch)
            elif action == "reset":
                repository.reset(branch)
            else:
                repository.delete_branch(branch)
    gone, kept = repositories[:2], repositories[2:]
    before = {repository.name: everything(repository) for repository in kept}
    for repository in gone:
        lake.delete_repository(repository.name)
    sweep(lake)
    fresh = type(lake)(lake.database, lake.stores)
    assert {repository.name: everything(fresh.repository(repository.name)) for repository in kept} == before
    for repository in gone:
        prefix = f"lake:{repository.record.storage}/"
        needed = {
            a.removeprefix(prefix) for held in before.values() for _, _, a, _ in held if a.startswith(prefix)
        }
        assert needed <= names(repository), seed
        # Staged rows that others hide are kept until they are committed.
        assert len(names(repository) - needed) <= 20
        assert names(repository) == names(repository, "data")


def everything(repository):
    """What every commit there is and every branch hold: ref, path, address, content."""
    commits = {c.id for b in repository.branches() for c in repository.log_iter(b.name)}
    return {
        (ref, entry.path, entry.address, repository.get(ref, entry.path))
        for ref in (*commits, *(branch.name for branch in repository.branches()))
        for entry in repository.entries(ref)
    }


IMPORTS = """
import os, signal, sys
from tulle.lake import leftovers, sweep
from tulle.lake.blobs import LocalBlobs
from tulle.lake.repository import open_lake
from tulle.state.db import open_database
from tulle.state.tasks import Running
"""
CHILD = """
folder, point = sys.argv[1], int(sys.argv[2])
count = 0
def around(real):
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count > point:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return wrapped
LocalBlobs.delete = around(LocalBlobs.delete)
LocalBlobs.put = around(LocalBlobs.put)
Running.report = around(Running.report)
lake = open_lake(open_database(sys.argv[3], migrate=False), f"local://{folder}/objects")
sweep.THREADS = 1
leftovers.collect(lake, grace_seconds=0)
"""


@pytest.mark.parametrize("lake", ["local"], indirect=True)
def test_killed_anywhere_it_is_taken_up_again(lake, tmp_path):
    other = lake.create_repository("other")
    ends = set()
    with forking(IMPORTS) as turn:
        for point in range(14):
            gone = filled(lake, f"gone{point}")
            dump.dump(lake, gone.name)
            other.copy("main", "main", "f0", f"kept{point}", source=gone)
            lake.delete_repository(gone.name)
            ends.add(turn(CHILD, str(tmp_path), str(point), str(lake.database.engine.url)))
            with lake.database.write() as cx:  # its lease is over
                cx.execute(update(tasks.tasks).values(owner_until=0.0))
            while tasks.run_one(lake.database, leftovers.handlers(lake), "next"):
                pass
            assert len(names(gone)) == 1
            assert other.get("main", f"kept{point}") == f"{gone.name} 0".encode()
    assert -signal.SIGKILL in ends
    assert ends <= {0, -signal.SIGKILL}
