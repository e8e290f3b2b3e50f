"""What Envoy says of configurations that it only looks at."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tulle.errors import Broken, Unavailable
from tulle.gateway import envoy_validation
from tulle.gateway.envoy_validation import TooSlow, Validation, validate
from tulle.gateway.envoy_values import FOLDER


def look(folder: Path, config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    validate(folder, "config.json")


def test_what_is_wrong_is_told_in_its_own_words(tmp_path: Path) -> None:
    look(tmp_path, {})
    with pytest.raises(Broken, match=r"Envoy refuses .*no_such_field"):
        look(tmp_path, {"no_such_field": 1})


def test_where_it_cannot_be_run_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_validation, "binary", lambda: tmp_path / "nowhere")
    with pytest.raises(Unavailable, match="could not be run"):
        look(tmp_path, {})


def test_what_is_not_read_in_time_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_validation, "VALIDATE_SECONDS", 0.001)
    with pytest.raises(TooSlow, match="did not validate"):
        look(tmp_path, {})


_OTHERS: set[psutil.Process] = set()  # the Envoys that wait for other tests


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _OTHERS.clear()
    _OTHERS.update(waiting())
    (tmp_path / FOLDER).mkdir(parents=True)
    return tmp_path


def waiting() -> list[psutil.Process]:
    """The Envoys that this test has started, and that are there."""
    found = set(psutil.Process().children()) - _OTHERS
    return [one for one in found if "/dev/fd/" in " ".join(one.cmdline())]


def read(validation: Validation, name: str, **more: Any) -> None:
    validation.look(json.dumps({"node": {"id": name}, **more}).encode())


def test_one_that_waits_reads_what_comes_and_another_one_is_got_ready(root: Path) -> None:
    (root / FOLDER).rmdir()  # what is read is not written anywhere
    validation = Validation(root)
    for name in ("first", "second"):
        validation.get_ready()
        validation.get_ready()
        assert len(waiting()) == 1
        read(validation, name)
        assert waiting() == []
    validation.get_ready()
    with pytest.raises(Broken, match=r"Envoy refuses .*no_such_field"):
        read(validation, "third", no_such_field=1)
    with pytest.raises(FileNotFoundError):  # none waits any more
        read(validation, "third")


def test_what_was_fine_is_not_read_again_and_what_was_not_is(root: Path) -> None:
    validation = Validation(root)
    read(validation, "first")
    validation.get_ready()
    read(validation, "first")
    assert len(waiting()) == 1
    for _ in range(2):
        with pytest.raises(Broken, match="no_such_field"):
            read(validation, "second", no_such_field=1)


def test_without_one_that_waits_it_is_read_all_the_same(root: Path) -> None:
    validation = Validation(root)
    read(validation, "first")
    validation.get_ready()
    [one] = waiting()
    one.kill()
    read(validation, "second")
    with pytest.raises(Broken, match="no_such_field"):
        read(validation, "third", no_such_field=1)
    validation.get_ready()  # that one was ended by somebody says nothing of the next one
    assert len(waiting()) == 1
    assert list((root / FOLDER).iterdir()) == []


def test_what_no_pipe_holds_is_read_from_a_file(root: Path) -> None:
    validation, large = Validation(root), "n" * 2_000_000
    validation.get_ready()
    read(validation, large)
    validation.get_ready()
    with pytest.raises(Broken, match="no_such_field"):
        read(validation, large, no_such_field=1)
    assert waiting() == []
    assert list((root / FOLDER).iterdir()) == []


def test_one_that_waits_and_is_not_done_in_time_is_told_and_ended(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = Validation(root)
    validation.get_ready()
    [one] = waiting()
    one.suspend()
    monkeypatch.setattr(envoy_validation, "VALIDATE_SECONDS", 0.01)
    with pytest.raises(TooSlow, match="did not validate"):
        read(validation, "first")
    assert not one.is_running()


def test_one_that_does_not_stay_is_not_started_over_and_over(root: Path) -> None:
    validation = Validation(root)
    for _ in range(3):
        validation.get_ready()
        for one in waiting():
            one.kill()
            one.wait()
    validation.get_ready()
    assert waiting() == []
    read(validation, "first")


def test_where_none_can_be_started_ahead_who_asks_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_validation, "binary", lambda: root / "nowhere")
    validation = Validation(root)
    validation.get_ready()
    with pytest.raises(Unavailable, match="could not be run"):
        read(validation, "first")


def test_one_that_waits_ends_with_whoever_has_it(root: Path) -> None:
    validation = Validation(root)
    validation.get_ready()
    [one] = waiting()
    del validation
    gc.collect()
    assert not one.is_running()


@pytest.mark.parametrize("how", ["by itself", "killed"])
def test_one_that_waits_ends_with_the_process_that_started_it(root: Path, how: str) -> None:
    program = (
        "import pathlib, psutil, sys, time\n"
        "from tulle.gateway.envoy_validation import Validation\n"
        "validation = Validation(pathlib.Path(sys.argv[1]))\n"
        "validation.get_ready()\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", program, str(root)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        one = psutil.Process(int(owner.stdout.readline()))
        if how == "killed":
            os.kill(owner.pid, signal.SIGKILL)
        owner.communicate(timeout=20)
    psutil.wait_procs([one], timeout=20)
    assert not one.is_running()
