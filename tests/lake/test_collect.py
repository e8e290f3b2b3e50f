import random
import signal
import time

import pyarrow as pa
import pytest
from sqlalchemy import update
from tests.lake.forking import forking

from tulle.errors import AlreadyExists, Broken, Conflict, Gone, Invalid, NotFound
from tulle.lake import collect, quarantine, upkeep, uploads
from tulle.lake.blobs import LocalBlobs
from tulle.lake.collect import collect as collected
from tulle.lake.repository import open_lake
from tulle.state import tasks
from tulle.state.tables import lake_commits

DATABASES = ("sqlite", "postgres")

DAY = 86_400.0
RULES = {"default_retention_days": 10, "branches": [{"branch_id": "long", "retention_days": 100}]}


@pytest.fixture(params=["local", "memory"])
def lake(database, tmp_path, request):
    return open_lake(
        database, f"local://{tmp_path / 'objects'}" if request.param == "local" else "memory:///"
    )


def ago(days):
    return time.time() - days * DAY


def names(repository, folder="data"):
    storage = repository.record.storage
    return {
        blob.path.removeprefix(f"{storage}/")
        for blob in repository.reader.blobs.list(f"{storage}/{folder}".rstrip("/"))
    }


def put(repository, branch, path, data, days=0.0):
    entry = repository.put(branch, path, data)
    repository.commit(branch, f"{path}", date=ago(days))
    return entry.address


def sweep(lake, name="sales", **kwargs):
    return collected(lake, name, grace_seconds=0, **kwargs)


def removed(report, kind="data"):
    return report.removed[kind].count if kind in report.removed else 0


def test_without_rules_only_what_nothing_names_is_removed(lake):
    repository = lake.create_repository("sales")
    kept = put(repository, "main", "a", b"1", days=1000)
    kept2 = put(repository, "main", "a", b"2", days=900)
    orphan = repository.put("main", "b", b"3").address
    repository.reset("main")
    report = sweep(lake)
    assert names(repository) == {kept, kept2}
    assert removed(report) == 1
    assert report.removed["data"].samples == (orphan,)
    assert report.expired == 0
    assert repository.get("main~1", "a") == b"1"


def test_past_retention_data_goes_and_the_head_and_the_first_older_commit_stay(lake):
    repository = lake.create_repository("sales")
    addresses = [put(repository, "main", "a", str(days).encode(), days=days) for days in (50, 40, 30, 5, 1)]
    repository.set_retention(RULES)
    report = sweep(lake)
    assert report.expired == 3  # the first commit of the repository is young, but the line ends before it
    assert names(repository) == set(addresses[2:])
    assert repository.get("main", "a") == b"1"
    assert repository.get("main~2", "a") == b"30"
    with pytest.raises(Gone, match="collected by retention on"):
        repository.get("main~3", "a")
    assert len(repository.log("main")) == 6
    assert len(repository.log("main", paths=["a"])) == 5
    assert [change.path for change in repository.diff("main~4", "main")] == ["a"]


def test_a_branch_has_its_own_days_and_an_old_head_is_whole(lake):
    repository = lake.create_repository("sales")
    repository.create_branch("long")
    repository.create_branch("still")
    old = [put(repository, "long", "a", str(days).encode(), days=days) for days in (300, 200, 90, 50)]
    still = [put(repository, "still", path, path.encode(), days=400) for path in "xyz"]
    repository.set_retention(RULES)
    sweep(lake)
    assert names(repository) == {*old[1:], *still}
    assert [repository.get("still", path) for path in "xyz"] == [b"x", b"y", b"z"]


def test_a_tag_keeps_its_content(lake):
    repository = lake.create_repository("sales")
    addresses = [put(repository, "main", "a", str(days).encode(), days=days) for days in (50, 40, 30)]
    repository.create_tag("v1", "main~2")
    repository.set_retention(RULES)
    sweep(lake)
    assert names(repository) == {addresses[0], addresses[2]}
    assert repository.get("v1", "a") == b"50"


def test_nobody_takes_up_an_expired_commit(lake):
    repository = lake.create_repository("sales")
    other = lake.create_repository("other")
    for days in (50, 40, 30):
        put(repository, "main", "a", str(days).encode(), days=days)
    old = repository.resolve("main~1")
    repository.set_retention(RULES)
    sweep(lake)
    tries = [
        lambda: repository.create_branch("x", old),
        lambda: repository.create_tag("x", old),
        lambda: repository.hard_reset("main", old),
        lambda: repository.merge(old, "main"),
        lambda: repository.merge(old, "main", fast_forward="allow", allow_empty=True),
        lambda: repository.revert("main", "main"),
        lambda: repository.cherry_pick("main", old),
        lambda: repository.copy("main", old, "a", "b"),
        lambda: other.copy("main", old, "a", "b", source=repository),
        lambda: repository.stat(old, "a"),
        lambda: repository.list(old),
        lambda: repository.get(old, "a"),
    ]
    for action in tries:
        with pytest.raises(Gone):
            action()
    repository.amend("main", message="again")
    assert repository.get("main", "a") == b"30"


def test_lines_that_forked_before_the_retention_still_merge(lake):
    repository = lake.create_repository("sales")
    put(repository, "main", "a", b"0", days=60)
    put(repository, "main", "both", b"0", days=55)
    repository.create_branch("dev")
    put(repository, "main", "m1", b"1", days=50)
    put(repository, "main", "m2", b"2", days=40)
    put(repository, "dev", "d1", b"1", days=49)
    put(repository, "dev", "d2", b"2", days=39)
    repository.set_retention(RULES)
    assert sweep(lake).expired > 3
    repository.merge("dev", "main")
    assert {entry.path: repository.get("main", entry.path) for entry in repository.entries("main")} == {
        "a": b"0",
        "both": b"0",
        "m1": b"1",
        "m2": b"2",
        "d1": b"1",
        "d2": b"2",
    }


def test_what_other_repositories_name_is_kept(lake):
    repository = lake.create_repository("sales")
    other = lake.create_repository("other")
    first = put(repository, "main", "a", b"1", days=50)
    second = put(repository, "main", "a", b"2", days=40)
    third = put(repository, "main", "a", b"3", days=30)
    other.copy("main", "main~2", "a", "committed", source=repository)
    other.commit("main", "copy")
    other.copy("main", "main~1", "a", "staged", source=repository)
    repository.set_retention(RULES)
    assert sweep(lake).expired > 0
    assert names(repository) == {first, second, third}
    assert other.get("main", "committed") == b"1"
    assert other.get("main", "staged") == b"2"
    other.reset("main")
    sweep(lake)
    assert names(repository) == {first, third}


@pytest.mark.parametrize(
    "spelling", ["local://{}/a/", "local://{}/./a/", "local://{}//a/", "local://{}/linked/", "file://{}/a/"]
)
def test_what_another_repository_names_by_a_url_is_kept_however_it_is_spelled(database, tmp_path, spelling):
    place = tmp_path / "outside"
    (place / "a").mkdir(parents=True)
    (place / "linked").symlink_to(place / "a")
    lake = open_lake(database, f"local://{tmp_path / 'objects'}", stores=[f"local://{place}/"])
    owner = lake.create_repository("owner", namespace=f"local://{place}/a")
    other = lake.create_repository("other")
    for name in ("one", "two"):
        file = owner.location(owner.put("main", name, name.encode()))
        url = file.replace(f"{place}/a/", spelling.format(place))
        if name == "one":
            other.link("main", name, url)
        else:
            other.link_table("main", pa.table({"path": [name], "address": [url], "size": [3]}))
    other.commit("main", "links")
    owner.reset("main")
    for _ in range(2):
        sweep(lake, "owner")
    assert [other.get("main", name) for name in ("one", "two")] == [b"one", b"two"]
    with pytest.raises(Invalid, match="itself"):
        kept = owner.put("main", "kept", b"1")
        owner.link("main", "again", owner.location(kept).replace(f"{place}/a/", spelling.format(place)))


def test_uploads_addresses_and_large_batches_are_kept(lake):
    repository = lake.create_repository("sales")
    upload = uploads.start(repository, "main", "big")
    part = uploads.put_part(repository, upload, 1, b"part")
    issued = repository.issue_address("main", "issued")
    repository.reader.blobs.put(f"{repository.record.storage}/{issued.address}", b"issued")
    expired = repository.issue_address("main", "late", seconds=-1)
    repository.reader.blobs.put(f"{repository.record.storage}/{expired.address}", b"late")
    repository.put_many("main", [(f"many/{number:04}", b"m") for number in range(300)])
    report = sweep(lake)
    assert report.removed["data"].samples == (expired.address,)
    assert removed(report) == 1
    repository.link_issued("main", "issued", issued.address, size=6)
    assert repository.get("main", "many/0007") == b"m"
    assert uploads.complete(repository, upload, [part]).size == 4
    uploads_left = names(repository, "uploads")
    assert not uploads_left


def test_uploads_nobody_adds_to_are_given_up(lake, monkeypatch):
    repository = lake.create_repository("sales")
    old = uploads.start(repository, "main", "old")
    uploads.put_part(repository, old, 1, b"part")
    sweep(lake)
    assert [upload.id for upload in uploads.uploads(repository)] == [old.id]
    monkeypatch.setattr(collect, "UPLOAD_SECONDS", 0.0)
    collected(lake, "sales", grace_seconds=0.0, dry_run=True)
    assert [upload.id for upload in uploads.uploads(repository)] == [old.id]
    sweep(lake)
    assert list(uploads.uploads(repository)) == []
    assert not names(repository, "uploads")


def test_nothing_young_is_removed_and_nothing_at_once(lake, monkeypatch):
    repository = lake.create_repository("sales")
    orphan = repository.put("main", "b", b"3").address
    repository.reset("main")
    assert not collected(lake, "sales").removed
    assert names(repository) == {orphan}
    report = collected(lake, "sales", grace_seconds=500)
    assert not report.waiting
    monkeypatch.setattr(collect, "now", lambda: time.time() + 600)
    report = collected(lake, "sales", grace_seconds=500)
    assert not report.removed
    assert report.waiting["data"].count == 1
    monkeypatch.setattr(collect, "now", lambda: time.time() + 1200)
    assert removed(collected(lake, "sales", grace_seconds=500)) == 1
    assert not names(repository)


def test_a_candidate_named_again_is_none(lake):
    repository = lake.create_repository("sales")
    orphan = repository.put("main", "b", b"3").address
    repository.reset("main")
    time.sleep(0.3)
    assert collected(lake, "sales", grace_seconds=0.2).waiting["data"].count == 1
    repository.link("main", "again", orphan)
    time.sleep(0.3)
    report = collected(lake, "sales", grace_seconds=0.2)
    assert "data" not in report.removed
    assert repository.get("main", "again") == b"3"


def test_a_candidate_that_is_old_cannot_be_linked(lake, monkeypatch):
    repository = lake.create_repository("sales")
    orphan = repository.put("main", "b", b"3").address
    repository.reset("main")
    time.sleep(0.3)
    collected(lake, "sales", grace_seconds=0.2)
    monkeypatch.setattr("tulle.lake.writing.YOUNG_SECONDS", 0.0)
    with pytest.raises(Gone, match="about to be collected"):
        repository.link("main", "again", orphan)
    fresh = repository.put("main", "c", b"4").address
    repository.link("main", "again", fresh)


def test_a_dry_run_tells_the_same_and_changes_nothing(lake):
    repository = lake.create_repository("sales")
    for days in (50, 40, 30):
        put(repository, "main", "a", str(days).encode(), days=days)
    repository.set_retention(RULES)
    before = names(repository, "")
    dry = sweep(lake, dry_run=True)
    assert names(repository, "") == before
    assert repository.get("main~1", "a") == b"40"
    wet = sweep(lake)
    assert (dry.expired, dry.kept_commits) == (wet.expired, wet.kept_commits)
    assert dry.removed == wet.removed
    assert removed(wet) == 2
    assert wet.removed["data"].bytes == 4


def test_a_second_collection_finds_nothing_more(lake):
    repository = lake.create_repository("sales")
    for days in (50, 40, 30):
        put(repository, "main", "a", str(days).encode(), days=days)
    repository.fold("main")
    repository.set_retention(RULES)
    sweep(lake)
    again = sweep(lake)
    assert not again.removed
    assert again.expired == 0


def test_manifests_and_trees_that_folds_replaced_are_removed(lake):
    repository = lake.create_repository("sales")
    repository.put("main", "a", b"1")
    repository.commit("main", "a")
    repository.fold("main")
    report = sweep(lake)
    assert removed(report, "manifests") == 1
    repository.fold("main")
    assert repository.get("main", "a") == b"1"


def test_a_damaged_store_ends_it_with_nothing_removed(lake):
    repository = lake.create_repository("sales")
    repository.put("main", "a", b"1")
    repository.commit("main", "a")
    orphan = repository.put("main", "b", b"3").address
    repository.reset("main")
    with repository.reader.database.read() as cx:
        from tulle.lake import refs

        manifest = refs.get_manifest_name(cx, repository.record.id, repository.resolve("main"))
    repository.reader.blobs.delete(f"{repository.record.storage}/_tulle/manifests/{manifest}")
    with pytest.raises(Broken, match="nothing is removed"):
        sweep(lake)
    assert orphan in names(repository)


def test_a_gates_commit_left_behind_is_forgotten(lake):
    repository = lake.create_repository("sales")
    repository.create_branch("try")
    put(repository, "try", "a", b"1")
    seen = []

    def gate(call):
        sweep(lake)
        seen.append(repository.get(call.commit.id, "a"))
        raise KeyError

    with pytest.raises(KeyError):
        repository.merge("try", "main", gate=gate)
    assert seen == [b"1"]
    with repository.reader.database.write() as cx:  # as a process that was killed leaves it
        cx.execute(
            update(lake_commits).where(lake_commits.c.id == repository.resolve("try")).values(published=True)
        )
        commit = repository.reader.commit(repository.resolve("try"))
        from dataclasses import replace

        from tulle.lake import refs

        name = refs.get_manifest_name(cx, repository.record.id, commit.id)
        refs.add_commit(cx, repository.record.id, replace(commit, id="f" * 64), name, published=False)
    sweep(lake)
    with pytest.raises(NotFound):
        repository.reader.content("f" * 64)


def test_one_collection_at_a_time(lake):
    lake.create_repository("sales")
    id_ = collect.start(lake, "sales")
    with pytest.raises(Conflict, match=id_):
        collect.start(lake, "sales")
    assert tasks.run_one(lake.database, collect.handlers(lake), "me")
    assert collect.status(lake, "sales", id_).status == "done"
    assert [run.id for run in collect.collections(lake, "sales")] == [id_]
    with pytest.raises(Invalid, match="too short"):
        collect.start(lake, "sales", grace_seconds=5)


def test_a_range_made_again_while_a_sweep_has_it_in_hand_survives(lake, database):
    """A writer that finds a name taken makes it young and waits for the sweep that may have looked before."""
    repository = lake.create_repository("sales")
    repository.put_many("main", [(f"many/{number:04}", b"m") for number in range(300)])
    run = repository.reader.manifests  # the staged run is a range file
    (path,) = (
        blob.path for blob in repository.reader.blobs.list(f"{repository.record.storage}/_tulle/ranges")
    )
    assert run is not None
    data = repository.reader.blobs.get(path)
    assert not quarantine._in_hand(database, path)
    with database.write() as cx:
        id_ = tasks.ask(cx, quarantine.KIND, repository.record.storage, {})
    task = tasks.take(database, [quarantine.KIND], "me")
    running = tasks.Running(database, task)
    running.report({"in_hand": [path]})
    import threading

    writer = threading.Thread(target=quarantine.reuse, args=(database, repository.reader.blobs, path, data))
    writer.start()
    time.sleep(0.1)
    assert writer.is_alive()
    repository.reader.blobs.delete(path)  # the sweep had looked before the writer came
    running.report({"in_hand": []})
    writer.join(5)
    assert not writer.is_alive()
    assert repository.reader.blobs.get(path) == data
    assert id_ == task.id
    running.report({"in_hand": [path]})
    with database.write() as cx:  # killed: whoever sweeps has stopped before its lease is over
        cx.execute(update(tasks.tasks).values(owner_until=time.time() - 1))
    quarantine.reuse(database, repository.reader.blobs, path, data)


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_against_a_simple_oracle(lake, seed, monkeypatch):  # noqa: C901, PLR0912  one action each
    chance = random.Random(seed)
    monkeypatch.setattr("tulle.lake.staging.LARGE_BATCH", 3)
    monkeypatch.setattr(upkeep, "LAYERS_IN_A_TIER", 3)
    monkeypatch.setattr(upkeep, "SMALL_ROWS", 12)
    repositories = [lake.create_repository(name) for name in ("sales", "other")]
    held = {}
    for step in range(90):
        repository = chance.choice(repositories)
        branch = chance.choice([each.name for each in repository.branches()])
        paths = [f"p{chance.randrange(8)}" for _ in range(chance.choice((1, 1, 4)))]
        action = chance.choice(
            [
                "put",
                "put",
                "put",
                "commit",
                "commit",
                "commit",
                "branch",
                "delete",
                "merge",
                "fold",
                "copy",
                "reset",
                "tag",
                "remove",
                "hard",
            ]
        )
        try:
            if action == "put":
                repository.put_many(branch, [(path, f"{seed} {step} {path}".encode()) for path in paths])
            elif action == "commit":
                repository.commit(
                    branch, "c", date=ago(chance.uniform(0, 60) if step > 80 else 60 - step / 2)
                )
            elif action == "branch":
                repository.create_branch(f"b{step}", branch)
            elif action == "delete" and branch != "main":
                repository.delete_branch(branch)
            elif action == "merge":
                repository.merge(chance.choice(repository.branches()).name, branch, strategy="source-wins")
            elif action == "fold":
                repository.fold(branch)
            elif action == "copy":
                origin = chance.choice(repositories)
                repository.copy(branch, "main", paths[0], f"copied{step}", source=origin)
            elif action == "reset":
                repository.reset(branch)
            elif action == "tag":
                repository.create_tag(f"t{step}", branch)
            elif action == "remove":
                repository.delete(branch, paths[0])
            elif action == "hard":
                repository.hard_reset(branch, f"{branch}~1")
        except (Conflict, Invalid, NotFound, AlreadyExists):
            continue
        if step % 30 == 29:
            chance.choice(repositories).set_retention(RULES)
            sweep(lake, chance.choice(("sales", "other")))
    before = {repository.name: state_of(repository) for repository in repositories}
    for repository in repositories:
        repository.set_retention({"default_retention_days": 20, "branches": []})
        sweep(lake, repository.name)
    for repository in repositories:  # what one gave up may have been all that kept another's data
        sweep(lake, repository.name)
    fresh = open_lake(lake.database, lake.default_namespace)
    fresh.stores = lake.stores
    needed = {repository.record.storage: set() for repository in repositories}
    for repository in repositories:
        again = type(lake)(lake.database, lake.stores).repository(repository.name)
        for ref, content in state_of(again).items():
            assert content == before[repository.name][ref]
        for id_ in kept_commits(again):
            for entry in again.reader.content(id_).view.entries():
                need(needed, again, entry)
        for branch in again.branches():
            for change in again.status(branch.name):
                if change.right:
                    need(needed, again, change.right)
        assert set(state_of(again)) == set(before[repository.name])
        held[repository.name] = again
    for name, repository in held.items():
        there = names(repository)
        assert needed[repository.record.storage] <= there, name
        # Staged rows that other staged rows hide are kept until they are committed.
        hidden = there - needed[repository.record.storage]
        assert len(hidden) <= staged_rows(repositories), (name, hidden)


def state_of(repository):
    refs = [branch.name for branch in repository.branches()] + [tag.name for tag in repository.tags()]
    return {
        ref: {entry.path: repository.get(ref, entry.path) for entry in repository.entries(ref)}
        for ref in refs
    }


def need(needed, repository, entry):
    storage, address = repository.record.storage, entry.address
    if address.startswith("lake:"):
        storage, _, address = address.removeprefix("lake:").partition("/")
    needed[storage].add(address)


def kept_commits(repository):
    """The oracle's own reading of the rules, over the door alone."""
    limit = ago(20)
    kept = {repository.resolve(tag.name) for tag in repository.tags()}
    lines = set()
    for branch in repository.branches():
        within = True
        for commit in repository.log_iter(f"{branch.name}@", first_parent=True):
            lines.add(commit.id)
            if within:
                kept.add(commit.id)
            within = within and commit.date >= limit
    from sqlalchemy import select

    with repository.reader.database.read() as cx:
        rows = cx.execute(
            select(lake_commits).where(lake_commits.c.repository_id == repository.record.id)
        ).all()
    kept |= {row.id for row in rows if row.id not in lines and row.date / 1e6 >= limit}
    # What a rule gave up before stays given up.
    return {row.id for row in rows if row.id in kept and not row.manifest.startswith("expired ")}


def staged_rows(repositories):
    return sum(
        len(chunk.batch.column(0))
        for repository in repositories
        for branch in repository.branches()
        for chunk in rows_staged(repository, branch.name)
    )


def rows_staged(repository, branch):
    from tulle.lake import refs, staging
    from tulle.lake.view import View

    with repository.reader.database.read() as cx:
        state = refs.get_branch(cx, repository.record.id, branch)
        return [
            chunk
            for item in state.staged
            for chunk in View(staging.open_items(cx, repository.reader.runs, [item])).chunks(tombstones=True)
        ]


@pytest.mark.parametrize("lake", ["local"], indirect=True)
def test_writers_between_mark_and_sweep_lose_nothing(lake, monkeypatch):
    """At every step of a collection somebody commits, merges, folds, copies; nothing they made is lost."""
    repository = lake.create_repository("sales")
    for days in (50, 40, 30):
        put(repository, "main", "a", str(days).encode(), days=days)
    repository.put("main", "orphan", b"x")
    repository.reset("main")
    repository.set_retention(RULES)
    time.sleep(0.25)
    collected(lake, "sales", grace_seconds=0.2)
    time.sleep(0.25)
    expected = {}
    count = 0
    real = tasks.Running.report

    def report(self, progress):
        nonlocal count
        real(self, progress)
        count += 1
        expected[f"n{count}"] = str(count).encode()
        repository.put("main", f"n{count}", expected[f"n{count}"])
        repository.commit("main", f"during {count}")
        repository.copy("main", "main", f"n{count}", f"c{count}")
        expected[f"c{count}"] = expected[f"n{count}"]
        repository.create_branch(f"b{count}", "main")
        repository.commit("main", f"copied {count}")
        repository.fold("main")

    monkeypatch.setattr(tasks.Running, "report", report)
    done = collected(lake, "sales", grace_seconds=0.2)
    assert removed(done) == 3
    assert count >= 4
    expected["a"] = b"30"
    again = type(lake)(lake.database, lake.stores).repository("sales")
    assert {entry.path: again.get("main", entry.path) for entry in again.entries("main")} == expected


IMPORTS = """
import os, signal, sys
from tulle.lake import collect, sweep
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
collect.collect(lake, "sales", grace_seconds=0)
"""


@pytest.mark.parametrize("lake", ["local"], indirect=True)
def test_killed_anywhere_it_is_taken_up_again(lake, tmp_path, monkeypatch):
    repository = lake.create_repository("sales")
    kept = [put(repository, "main", "a", str(days).encode(), days=days) for days in (90, 80, 50, 40, 30)][-1]
    repository.set_retention(RULES)
    monkeypatch.setattr(tasks, "LEASE_SECONDS", 0.0)
    ends = set()
    with forking(IMPORTS) as turn:
        for point in range(16):
            ends.add(turn(CHILD, str(tmp_path), str(point), str(lake.database.engine.url)))
            with lake.database.write() as cx:  # its lease is over
                cx.execute(update(tasks.tasks).values(owner_until=0.0))
            while tasks.run_one(lake.database, collect.handlers(lake), "next"):
                pass
            again = type(lake)(lake.database, lake.stores).repository("sales")
            assert again.get("main", "a") == b"30"
            assert names(repository) == {kept}
            put(repository, "main", f"more{point}", b"x")
            kept_now = repository.stat("main", f"more{point}").address
            repository.hard_reset("main", "main~1")
            assert kept_now in names(repository)
            with lake.database.write() as cx:
                cx.execute(
                    update(lake_commits).where(lake_commits.c.message == f"more{point}").values(date=0)
                )
    assert isinstance(repository.reader.blobs, LocalBlobs)
    assert -signal.SIGKILL in ends
    assert ends <= {0, -signal.SIGKILL}
