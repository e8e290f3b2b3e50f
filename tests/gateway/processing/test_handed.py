"""The encrypted file that processors read: handed over whole, and only where it is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.errors import Broken
from tulle.gateway import private_file
from tulle.gateway.processing.handed import (
    FILE,
    KEY_FILE,
    Handed,
    HandedConnection,
    Hands,
    place_of,
    read,
    write,
)
from tulle.state.secrets import open_secrets

HANDED = Handed({place_of("", "crm"): HandedConnection("https://crm.example.com", password="a word of ours")})


def test_it_is_read_again_when_it_was_written_and_shows_no_secret(tmp_path: Path) -> None:
    file, secrets = tmp_path / FILE, open_secrets(tmp_path / KEY_FILE)
    hands = Hands(file, secrets)
    assert (hands.now(), hands.turn) == (Handed(), 0)
    write(file, HANDED, secrets)
    assert (hands.now(), hands.turn) == (HANDED, 1)
    before = file.stat().st_ino
    write(file, HANDED, secrets)
    assert file.stat().st_ino == before  # the same is not written again
    assert b"a word of ours" not in file.read_bytes()
    with pytest.raises(Broken, match="encrypted with another key"):
        read(file, open_secrets(tmp_path / "another.key"))


def test_what_cannot_be_synced_does_not_take_the_place_of_what_was_handed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut it would be empty, and whoever needs it refused until it is written again."""
    file, secrets = tmp_path / FILE, open_secrets(tmp_path / KEY_FILE)
    write(file, HANDED, secrets)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(private_file.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write(file, Handed(), secrets)
    assert read(file, secrets) == HANDED
    assert [one.name for one in file.parent.iterdir() if one.name.startswith(".")] == []
