"""Blobs on this disk: durability, refusals of the operating system, what a killed writer leaves."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from tulle.errors import Broken, Denied, LimitExceeded, NotFound, Unavailable
from tulle.lake.blobs import LocalBlobs, read_chunks, read_external, stat_external


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "store")


def test_file_and_every_new_folder_are_synced(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    blobs.put("one/two/file", b"x")
    top = blobs.folder
    assert any(name.startswith(str(top / "_tmp")) for name in synced), "the content, before it gets its name"
    assert [Path(name) for name in synced[-1:]] == [top / "one/two"], "the folder, after the name is there"
    assert {top, top / "one"} <= set(map(Path, synced)), "the folders that got a new folder"
    synced.clear()
    (top / "one/two/linked").write_bytes(b"from an engine")
    blobs.stat("one/two/linked", settle=True)
    assert [Path(name) for name in synced] == [top / "one/two/linked", top / "one/two", top / "one", top]


def test_disk_full_is_said_and_nothing_is_left(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs.put("before", b"1")

    # /dev/full answers every write the way a full disk does.
    def write(_self: LocalBlobs, file: Path, data: bytes) -> int:
        file.symlink_to("/dev/full")
        with file.open("wb") as stream:
            stream.write(data)
            stream.flush()
        return len(data)

    monkeypatch.setattr(LocalBlobs, "_write", write)
    with pytest.raises(LimitExceeded, match="disk full") as caught:
        blobs.put("after", b"x" * 10_000)
    assert "free some disk space" in str(caught.value.hint)
    assert [info.path for info in blobs.list()] == ["before"]
    assert list((blobs.folder / "_tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, LimitExceeded),
        (errno.EDQUOT, LimitExceeded),
        (errno.EACCES, Denied),
        (errno.EIO, Unavailable),
    ],
)
def test_refusals_are_translated(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(kind):
        blobs.put("a/b", b"x")


def test_what_killed_writers_left_is_swept_after_a_day(blobs: LocalBlobs) -> None:
    fresh, old = blobs.folder / "_tmp/fresh", blobs.folder / "_tmp/old"
    for file in (fresh, old):
        file.write_bytes(b"half")
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    LocalBlobs(blobs.folder)
    assert fresh.exists()
    assert not old.exists()
    assert list(blobs.list()) == []


def test_a_folder_removed_meanwhile_is_made_again(blobs: LocalBlobs) -> None:
    blobs.put("a/b/c", b"1")
    blobs.delete("a/b/c")
    (blobs.folder / "a/b").rmdir()
    blobs.put("a/b/c", b"2")
    assert blobs.get("a/b/c") == b"2"


def test_a_blob_shorter_than_recorded_is_not_read_silently(blobs: LocalBlobs) -> None:
    blobs.put("a", b"123")
    with pytest.raises(Broken, match="ends at byte 3, expected 10"):
        list(read_chunks(blobs, "a", 10))


def test_objects_outside(tmp_path: Path) -> None:
    file = tmp_path / "some file"
    file.write_bytes(b"0123456789")
    assert stat_external(f"local://{file}") == 10
    assert b"".join(read_external(f"local://{file}", 10, 2, 5)) == b"234"
    assert stat_external(f"file://{tmp_path}/some file") == 10
    assert b"".join(read_external(f"file://{tmp_path}/some file", 10)) == b"0123456789"
    with pytest.raises(NotFound):
        stat_external(f"local://{tmp_path}/none")
    with pytest.raises(NotFound):
        stat_external(f"file://{tmp_path}/none")
