"""A disk without room: what is refused, what is told, and in which words."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tulle.cli.mesh import show_status, start_detached
from tulle.config import Settings
from tulle.deploy import local, room
from tulle.errors import LimitExceeded, Unavailable


@contextmanager
def no_file_beyond(count: int) -> Iterator[None]:
    """The kernel lets no file of this process have more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_mesh_does_not_start_where_nothing_can_be_written(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    room.check_room(settings)
    assert list(settings.run_folder.iterdir()) == []
    with no_file_beyond(1000):
        for act in (lambda: room.check_room(settings), lambda: start_detached(settings)):
            with pytest.raises(
                LimitExceeded, match=r"disk full: .*\.tulle could not be written .*File too large"
            ):
                act()
    assert list(settings.run_folder.iterdir()) == [], "nothing is left, and nothing was started"


def test_what_else_keeps_it_from_writing_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / ".tulle").write_text("a file")
    with pytest.raises(Unavailable, match="could not be written") as refused:
        room.check_room(Settings(folder=tmp_path))
    assert "who owns it" in str(refused.value.hint)
    full = room.refusal(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), tmp_path)
    assert isinstance(full, LimitExceeded)


def test_the_status_says_that_it_may_be_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(folder=tmp_path)
    assert room.told_short(settings) == ""
    one = local.Process("gateway", "gateway", "restarting", None, None, 0, "")
    monkeypatch.setattr(local, "processes", lambda _settings: {"gateway": one})
    for left, is_told in ((room.LITTLE, False), (4096, True)):
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _folder, left=left: SimpleNamespace(free=left))
        show_status(settings)
        said = capsys.readouterr().out
        assert ("the disk is full (4,096 bytes left" in said) == is_told
