"""Telling a living holder of a lock from a dead one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from tulle.lake import locks


def test_a_process_is_known_as_long_as_it_lives() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{locks._process(child.pid)}/x"
    assert not locks._is_dead(owner)
    assert locks.described(owner) == f"process {child.pid} on {owner.split('/', maxsplit=1)[0]}"
    assert child.stdin is not None
    child.stdin.close()
    deadline = time.monotonic() + 10
    while not locks._is_dead(owner) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert locks._is_dead(owner), "also while nobody has waited for it"
    child.wait()
    assert locks._is_dead(owner)


def test_another_process_with_the_same_number_is_not_the_holder() -> None:
    mine = locks.new_owner()
    assert not locks._is_dead(mine)
    host, pid, started, last = mine.rsplit("/", 3)
    assert int(pid) == os.getpid()
    assert locks._is_dead(f"{host}/{pid}/{int(started) - 1}/{last}")
    assert not locks._is_dead(f"elsewhere/{pid}/1/{last}"), "of another machine we cannot know"
    assert locks.new_owner() != mine


def test_where_no_thread_can_be_begun_the_next_holder_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, renewed = locks.Keeper(), threading.Event()
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.04)
    with monkeypatch.context() as patched:

        def none(_self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError), keeper.keeping(lambda: None):
            pass
    with keeper.keeping(renewed.set):
        assert renewed.wait(30)
