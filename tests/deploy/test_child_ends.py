"""Waiting for the end of a child."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tulle.deploy.child_ends import ChildEnds


def test_it_waits_for_an_end_and_no_longer() -> None:
    ends = ChildEnds()
    with subprocess.Popen(["sleep", "60"]) as one, subprocess.Popen(["sleep", "60"]) as other:
        began = time.monotonic()
        ends.wait([one.pid, other.pid], 0.05)
        assert time.monotonic() - began >= 0.05
        one.kill()
        ends.wait([one.pid, other.pid], 60)
        assert one.poll() is not None
        assert other.poll() is None
        other.kill()
        ends.wait([other.pid], 60)
        assert other.poll() is not None
    ends.close()
    assert ends._files == {}


def test_without_children_or_where_the_kernel_tells_nothing_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, rested = ChildEnds(), list[float]()
    monkeypatch.setattr(time, "sleep", rested.append)
    ends.wait([], 0.2)

    def none_left(_pid: int) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    ends.wait([os.getpid()], 0.3)
    monkeypatch.delattr(os, "pidfd_open")
    ends.wait([os.getpid()], 0.4)
    assert rested == [0.2, 0.3, 0.4]
