"""Files that are put in their place at once: whole, synced first, and their owner's."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tulle.gateway import private_file
from tulle.gateway.private_file import replace_private, write_passing


def test_it_is_for_its_owner_only_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    for content in (b"one", b"two"):
        replace_private(file, content)
        assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_synced_takes_nobodys_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed before it is on the disk may be empty after a power cut."""
    file = tmp_path / "file.json"
    replace_private(file, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(private_file.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            replace_private(file, b"after")
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_in_the_way_beside_it_is_not_written_through(tmp_path: Path) -> None:
    file, other = tmp_path / "file.json", tmp_path / "other"
    other.write_bytes(b"of somebody")
    beside = private_file.beside(file)
    beside.symlink_to(other)
    replace_private(file, b"whole")
    assert (file.read_bytes(), other.read_bytes()) == (b"whole", b"of somebody")


def test_what_is_read_once_is_for_its_owner_only_too(tmp_path: Path) -> None:
    file, other = tmp_path / "file.json", tmp_path / "other"
    file.symlink_to(other)
    write_passing(file, b"passing")
    assert (file.read_bytes(), stat.S_IMODE(file.lstat().st_mode)) == (b"passing", 0o600)
    assert not other.exists()
