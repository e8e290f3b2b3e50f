"""A used token stays used, whatever becomes of the process; what cannot be kept lets nobody on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tulle.errors import LimitExceeded, Unavailable
from tulle.gateway.processing.used_tokens import UsedTokens


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_each_is_used_once_of_each_policy_and_again_when_it_is_over() -> None:
    clock = Clock()
    used = UsedTokens(None, clock=clock)
    assert used.use("p", "a", 1060)
    assert not used.use("p", "a", 1060)
    assert used.use("p", "b", 1060)
    assert used.use("q", "a", 1060)
    clock.at = 1060.5  # not looked for what is over yet, or it is
    assert used.use("p", "a", 1120)
    assert not used.use("p", "a", 1120)
    used.close()


def test_what_was_used_is_known_after_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "tokens.db"
    child = os.fork()
    if child == 0:
        UsedTokens(file, clock=Clock()).use("p", "a", 2000)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    used = UsedTokens(file, clock=Clock())
    assert not used.use("p", "a", 2000)
    assert used.use("p", "b", 2000)
    used.close()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"\0a" not in file.read_bytes()


def test_so_many_are_held_of_a_policy_and_those_that_are_over_make_room(tmp_path: Path) -> None:
    clock = Clock()
    used = UsedTokens(tmp_path / "tokens.db", most=3, clock=clock)
    for name, until in (("a", 1010), ("b", 1020), ("c", 1030)):
        assert used.use("p", name, until)
    with pytest.raises(LimitExceeded, match="3 used tokens"):
        used.use("p", "d", 1040)
    assert used.use("q", "d", 1040)  # another policy's
    used.close()
    used = UsedTokens(tmp_path / "tokens.db", most=3, clock=clock)  # the count is known again
    with pytest.raises(LimitExceeded):
        used.use("p", "d", 1040)
    clock.at = 1015
    assert used.use("p", "d", 1040)
    with pytest.raises(LimitExceeded):
        used.use("p", "e", 1040)
    used.close()


def test_a_damaged_file_or_none_at_all_lets_nobody_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "tokens.db"
    damaged.write_bytes(b"no database, " * 1000)
    used = UsedTokens(damaged)
    for _ in range(2):
        with pytest.raises(Unavailable):
            used.use("p", "a", 1e12)
    assert "move a damaged file away" in caplog.text.replace("\n", " ")
    assert len(caplog.records) == 1  # not one a request
    damaged.unlink()
    assert used.use("p", "a", 1e12)  # without a restart
    used.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        UsedTokens(tmp_path / "file" / "tokens.db").use("p", "a", 1e12)
