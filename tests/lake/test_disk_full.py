"""The disk fills up at any point: a clear error, nothing lost, and work goes on when there is room again."""

from __future__ import annotations

import errno
import os

import pytest
from sqlalchemy import event

from tulle.errors import LimitExceeded, Unavailable
from tulle.lake.blobs import LocalBlobs
from tulle.lake.repository import Repository
from tulle.state.db import Database


def test_the_store_is_full(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.put("main", "a", b"1")
    real, left = LocalBlobs._write, 0

    def write(blobs: LocalBlobs, file: object, data: object) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(blobs, file, data)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(LocalBlobs, "_write", write)
        with pytest.raises(LimitExceeded, match="disk full"):
            repository.put("main", "b", b"2")
        with pytest.raises(LimitExceeded, match="disk full"):
            repository.commit("main", "one")
    assert [entry.path for entry in repository.entries("main")] == ["a"]
    repository.commit("main", "one")
    assert repository.get("main@", "a") == b"1"


def test_the_database_is_full(repository: Repository, database: Database) -> None:
    repository.put("main", "a", b"1")
    database.close()  # connections made from now on have no room to grow

    def no_room(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]  # as many as there are

    event.listen(database.engine, "connect", no_room)
    acknowledged = ["a"]
    with pytest.raises(LimitExceeded, match="disk full: the control-plane database"):
        for number in range(10_000):
            repository.put("main", f"{number}/{'x' * 900}", b"2")
            acknowledged.append(f"{number}/{'x' * 900}")
    assert sorted(entry.path for entry in repository.entries("main")) == sorted(acknowledged)
    event.remove(database.engine, "connect", no_room)
    database.close()
    repository.commit("main", "there is room again")
    assert len(list(repository.entries("main@"))) == len(acknowledged)


def test_the_store_is_read_only(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.put("main", "a", b"1")

    def write(blobs: LocalBlobs, file: object, data: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(LocalBlobs, "_write", write)
        with pytest.raises(Unavailable, match="Read-only file system"):
            repository.put("main", "b", b"2")
        with pytest.raises(Unavailable, match="Read-only file system"):
            repository.commit("main", "one")
        assert repository.get("main", "a") == b"1"
    repository.commit("main", "one")
    assert [entry.path for entry in repository.entries("main@")] == ["a"]
