"""Multipart uploads of the lake itself: crash-safe at every step, nothing left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from tulle.lake import uploads
from tulle.lake.repository import Lake, Repository
from tulle.state.db import now

DATABASES = ("sqlite", "postgres")


def blobs(repository: Repository) -> set[str]:
    folder = f"{repository.record.storage}/{uploads.FOLDER}"
    return {info.path for info in repository.reader.blobs.list(folder)}


def in_use(repository: Repository) -> set[str]:
    return uploads.blobs_in_use(repository.reader.database)


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


@pytest.mark.parametrize("step", ["rows", "staged", "dropped"])
def test_a_crash_at_any_step(repository: Repository, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whatever dies, the object is whole or absent, and a collector can tell what is left from what is needed."""
    upload = uploads.start(repository, "main", "a")
    part = uploads.put_part(repository, upload, 1, b"data")

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "rows":
            patch.setattr(uploads, "_locked", killed)
            with pytest.raises(Killed):
                uploads.put_part(repository, upload, 1, b"other")
        elif step == "staged":
            patch.setattr(uploads, "drop", killed)
            with pytest.raises(Killed):
                uploads.complete(repository, upload, [part])
            assert repository.get("main", "a") == b"data"
        else:
            patch.setattr(type(repository.reader.blobs), "delete", killed)
            with pytest.raises(Killed):
                uploads.complete(repository, upload, [part])
            assert repository.get("main", "a") == b"data"
    assert in_use(repository) <= blobs(repository)
    if step == "dropped":
        assert not in_use(repository)
        return
    assert uploads.parts(repository, upload) == [part]
    uploads.complete(repository, upload, [part])
    assert repository.get("main", "a") == b"data"
    assert not in_use(repository)


def test_abandoned_uploads_are_found(repository: Repository) -> None:
    old = uploads.start(repository, "main", "old")
    busy = uploads.start(repository, "main", "busy")
    limit = now()
    uploads.put_part(repository, busy, 1, b"1")
    young = uploads.start(repository, "main", "young")
    assert uploads.stale(repository, limit) == [old]
    uploads.drop(repository, old)
    assert [upload.path for upload in uploads.uploads(repository)] == [busy.path, young.path]


def test_uploads_come_in_the_order_of_keys(repository: Repository) -> None:
    repository.create_branch("main-2")
    for branch, path in (("main", "b"), ("main", "a"), ("main-2", "z"), ("main", "a")):
        uploads.start(repository, branch, path)
    found = [f"{upload.branch}/{upload.path}" for upload in uploads.uploads(repository)]
    assert found == ["main-2/z", "main/a", "main/a", "main/b"]
