"""What a control plane tells of how far it has come, as others read it."""

from __future__ import annotations

import os
from pathlib import Path

from tulle.config import Settings
from tulle.gateway.settled import Settled, Telling, file_of, forget, settled


def test_what_is_told_is_read_and_written_only_when_it_is_new(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    assert settled(settings) is None
    telling = Telling(settings)
    telling.tell(is_published=False, starting=("calc",), trouble="x" * 5000)
    assert settled(settings) == Settled(os.getpid(), False, ("calc",), "x" * 1000)
    telling.tell(is_published=True, starting=(), trouble="")
    assert settled(settings) == Settled(os.getpid(), True)
    assert file_of(settings).stat().st_mode & 0o777 == 0o600
    file_of(settings).unlink()
    telling.tell(is_published=True, starting=(), trouble="")
    assert settled(settings) is None, "nothing is new"
    telling.tell(is_published=True, starting=("calc",), trouble="")
    assert settled(settings) is not None
    forget(settings)
    assert settled(settings) is None
    forget(settings)


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    settings.run_folder.mkdir(parents=True)
    for text in (b"", b"[]", b'{"pid": "x"}', b"\xff"):
        file_of(settings).write_bytes(text)
        assert settled(settings) is None
