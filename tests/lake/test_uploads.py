"""Multipart uploads of the lake itself: crash-safe at every step, nothing left behind."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, LimitExceeded, NotFound, TulleError
from tulle.lake import collect, uploads
from tulle.lake.entry import Entry
from tulle.lake.repository import Lake, Repository, open_lake
from tulle.lake.uploads import Upload
from tulle.state.db import Database, now, open_database
from tulle.state.tables import lake_parts

DATABASES = ("sqlite", "postgres")
CHILD = Path(__file__).parent / "upload_crash_child.py"


def blobs(repository: Repository) -> set[str]:
    folder = f"{repository.record.storage}/{uploads.FOLDER}"
    return {info.path for info in repository.reader.blobs.list(folder)}


def in_use(repository: Repository) -> set[str]:
    with repository.reader.database.read() as cx:
        return set(cx.execute(select(lake_parts.c.blob)).scalars())


def test_an_upload_becomes_an_object(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a/b", content_type="x/y", metadata={"k": "v"})
    second = uploads.put_part(repository, upload, 2, iter([b"wo", b"rld"]))
    first = uploads.put_part(repository, upload, 1, b"hello ")
    assert uploads.parts(repository, upload) == [first, second]
    assert uploads.parts(repository, upload, after=1) == [second]
    assert uploads.find(repository, upload.id) == upload
    assert blobs(repository) == in_use(repository) == {first.blob, second.blob}
    entry = uploads.complete(repository, upload, [first, second])
    assert repository.get("main", "a/b") == b"hello world"
    assert (entry.content_type, entry.metadata, entry.size) == ("x/y", {"k": "v"}, 11)
    assert entry.checksum == hashlib.sha256(b"hello world").hexdigest()
    assert entry.etag == uploads.etag_of([first.etag, second.etag])
    assert entry.etag.endswith("-2")
    assert not blobs(repository)
    assert not uploads.uploads(repository)
    with pytest.raises(NotFound):
        uploads.find(repository, upload.id)


def test_a_part_replaces_the_one_of_its_number(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a")
    old = uploads.put_part(repository, upload, 1, b"old")
    new = uploads.put_part(repository, upload, 1, b"new")
    assert blobs(repository) == {new.blob}
    with pytest.raises(Conflict):
        uploads.complete(repository, upload, [old])  # chosen before it was replaced
    assert not repository.exists("main", "a")
    uploads.complete(repository, upload, [new])
    assert repository.get("main", "a") == b"new"


def test_what_cannot_be_is_refused(lake: Lake, repository: Repository) -> None:
    with pytest.raises(NotFound):
        uploads.start(repository, "nope", "a")
    with pytest.raises(Invalid):
        uploads.start(repository, "main", "")
    upload = uploads.start(repository, "main", "a")
    for number in (0, 10_001):
        with pytest.raises(Invalid):
            uploads.put_part(repository, upload, number, b"")
    with pytest.raises(Invalid):
        uploads.complete(repository, upload, [])
    with pytest.raises(NotFound):
        uploads.find(lake.create_repository("other"), upload.id)
    with pytest.raises(NotFound):
        uploads.find(repository, upload.id, "main", "b")
    repository.protect(["main"])
    with pytest.raises(Denied):
        uploads.start(repository, "main", "a")
    part = uploads.put_part(repository, upload, 1, b"1")
    with pytest.raises(Denied):  # protected since it was begun
        uploads.complete(repository, upload, [part])


def test_conditions_are_held_to_at_the_end(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a")
    part = uploads.put_part(repository, upload, 1, b"1")
    repository.put("main", "a", b"quicker")
    with pytest.raises(AlreadyExists):
        uploads.complete(repository, upload, [part], if_absent=True)
    assert uploads.parts(repository, upload) == [part]
    uploads.complete(repository, upload, [part], if_match=repository.stat("main", "a").etag)
    assert repository.get("main", "a") == b"1"


def test_a_check_can_refuse_what_was_joined(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a")
    part = uploads.put_part(repository, upload, 1, b"1")
    seen = bytearray()

    def refuse() -> None:
        raise Invalid("no")

    with pytest.raises(Invalid):
        uploads.complete(repository, upload, [part], watch=seen.extend, check=refuse)
    assert seen == b"1"
    assert not repository.exists("main", "a")
    assert not list(repository.reader.blobs.list(f"{repository.record.storage}/data"))


def test_a_torn_part_is_not_kept(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a")

    def torn() -> Iterator[bytes]:
        yield b"x" * 100
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        uploads.put_part(repository, upload, 1, torn())
    assert not blobs(repository)
    assert not uploads.parts(repository, upload)


def test_a_part_that_comes_after_the_end_is_not_kept(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a")
    uploads.drop(repository, upload)
    with pytest.raises(NotFound):
        uploads.put_part(repository, upload, 1, b"late")
    assert not blobs(repository)
    uploads.drop(repository, upload)  # no error


@pytest.mark.parametrize("same", [True, False], ids=["same parts", "other parts"])
def test_of_two_who_complete_an_upload_one_does(repository: Repository, same: bool) -> None:
    upload = uploads.start(repository, "main", "a")
    parts = [uploads.put_part(repository, upload, number, b"%d" % number) for number in (1, 2)]
    lists = [parts, parts] if same else [parts[:1], parts[1:]]
    both = threading.Barrier(2)  # each has read its parts before one is staged

    def complete(chosen: list[uploads.Part]) -> Entry | TulleError:
        try:
            return uploads.complete(repository, upload, chosen, check=lambda: both.wait(30))
        except TulleError as exc:
            return exc

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(complete, lists))
    done = [(one, chosen) for one, chosen in zip(results, lists, strict=True) if isinstance(one, Entry)]
    assert len(done) == 1
    assert [type(one) for one in results if not isinstance(one, Entry)] == [NotFound]
    entry, chosen = done[0]
    assert repository.stat("main", "a") == entry
    assert repository.get("main", "a") == b"".join(b"%d" % part.number for part in chosen)
    assert (blobs(repository), in_use(repository)) == (set(), set())


def test_a_part_that_comes_while_others_are_joined_is_not_lost_in_silence(repository: Repository) -> None:
    upload = uploads.start(repository, "main", "a")
    part = uploads.put_part(repository, upload, 1, b"old")
    with pytest.raises(Conflict):
        uploads.complete(
            repository, upload, [part], check=lambda: uploads.put_part(repository, upload, 1, b"new")
        )
    assert not repository.exists("main", "a")
    uploads.complete(repository, upload, uploads.parts(repository, upload))
    assert repository.get("main", "a") == b"new"


def test_a_crash_of_a_part_leaves_the_part_before_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = uploads.start(repository, "main", "a")
    part = uploads.put_part(repository, upload, 1, b"data")

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_locked", killed)
        with pytest.raises(Killed):
            uploads.put_part(repository, upload, 1, b"other")
    assert in_use(repository) <= blobs(repository)
    uploads.complete(repository, upload, uploads.parts(repository, upload))
    assert repository.get("main", "a") == b"data"
    assert part.blob not in in_use(repository)


def test_wherever_the_process_is_killed_an_upload_is_under_way_or_complete(
    database: Database, database_kind: str, database_url: str, tmp_path: Path
) -> None:
    repository = open_lake(database, f"local://{tmp_path / 'objects'}").create_repository("sales")
    upload = uploads.start(repository, "main", "a")
    parts = [uploads.put_part(repository, upload, number, b"%d" % number) for number in (1, 2)]
    database.close()
    urls = [database_url] if database_kind == "postgres" else []
    subprocess.run([sys.executable, str(CHILD), str(tmp_path), "1", *urls], check=True, timeout=120)
    points = [place for place in tmp_path.iterdir() if place.name.isdigit()]
    ends = [_state_after(place, upload, parts) for place in points]
    assert {"under way", "complete"} == set(ends)


def _state_after(place: Path, upload: Upload, parts: list[uploads.Part]) -> str:
    database = open_database((place / "url").read_text(), migrate=False)
    lake = open_lake(database, f"local://{place / 'objects'}")
    repository = lake.repository("sales")
    told = (place / "done").read_text() != ""
    if repository.exists("main", "a"):
        state = "complete"
        with pytest.raises(NotFound):
            uploads.find(repository, upload.id)
        assert not in_use(repository)
    else:
        assert not told
        state = "under way"
        assert uploads.uploads(repository) == [upload]
        assert uploads.parts(repository, upload) == parts
        uploads.complete(repository, upload, parts)
    assert repository.get("main", "a") == b"12"
    for _ in range(2):
        collect.collect(lake, "sales", grace_seconds=0)
    assert not blobs(repository)
    assert repository.get("main", "a") == b"12"
    database.close()
    return state


def test_abandoned_uploads_are_found(repository: Repository) -> None:
    old = uploads.start(repository, "main", "old")
    busy = uploads.start(repository, "main", "busy")
    limit = now()
    uploads.put_part(repository, busy, 1, b"1")
    young = uploads.start(repository, "main", "young")
    assert uploads.stale(repository, limit) == [old]
    uploads.drop(repository, busy, unless_since=limit)  # a part came while that was asked
    assert uploads.parts(repository, busy)
    uploads.drop(repository, old)
    assert [upload.path for upload in uploads.uploads(repository)] == [busy.path, young.path]


def test_uploads_come_in_the_order_of_keys(repository: Repository) -> None:
    repository.create_branch("main-2")
    for branch, path in (("main", "b"), ("main", "a"), ("main-2", "z"), ("main", "a")):
        uploads.start(repository, branch, path)
    found = uploads.uploads(repository)
    assert [upload.key for upload in found] == ["main-2/z", "main/a", "main/a", "main/b"]
    assert found[1].created_at < found[2].created_at
    assert [upload.key for upload in uploads.uploads(repository, limit=2)] == ["main-2/z", "main/a"]


def test_uploads_behind_a_place(repository: Repository, lake: Lake) -> None:
    """Against what a plain list says, with places that are there and places that are not."""
    for branch in ("main-2", "ma", "ü"):
        repository.create_branch(branch)
    uploads.start(lake.create_repository("other"), "main", "a")
    chance = random.Random(7)
    for _ in range(60):
        path = "".join(chance.choice("ab/\x7fé") for _ in range(chance.randint(1, 3)))
        uploads.start(repository, chance.choice(["main", "main-2", "ma", "ü"]), path)
    model = sorted(uploads.uploads(repository), key=lambda upload: (upload.key.encode(), upload.id))
    assert len(model) == 60
    keys = [upload.key.encode() for upload in model] + [b"", b"main", b"main/", b"main0", b"zz", b"\xff"]
    for _ in range(400):
        prefix = chance.choice(keys).decode("utf-8", "ignore")[: chance.randint(0, 8)].encode()
        place = chance.choice(keys), chance.choice([*(upload.id for upload in model), ""])
        if chance.random() < 0.5:
            one = chance.choice(model)
            place = one.key.encode(), one.id
        limit = chance.randint(1, 70)
        expected = [
            upload
            for upload in model
            if upload.key.encode().startswith(prefix) and (upload.key.encode(), upload.id) > place
        ]
        assert uploads.uploads(repository, prefix, place, limit) == expected[:limit]


def test_parts_count_for_a_quota(repository: Repository) -> None:
    repository.set_quota(max_bytes=10)
    one, two = uploads.start(repository, "main", "one"), uploads.start(repository, "main", "two")
    uploads.put_part(repository, one, 1, b"123456")
    uploads.put_part(repository, one, 1, b"1234567")  # in place of the other
    for upload in (one, two):
        with pytest.raises(LimitExceeded, match="quota"):
            uploads.put_part(repository, upload, 2, b"1234")
    assert len(blobs(repository)) == 1
    uploads.put_part(repository, two, 1, b"123")
    uploads.complete(repository, one, uploads.parts(repository, one))
    assert repository.get("main", "one") == b"1234567"
    assert repository.quota().used_bytes == 7
