"""Servers as processes of their own: started, waited for, looked at, and ended with all they started."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

START_SECONDS = 180
# One thread for each model call, in favour of the peers: with more, one call for one row waits for the others.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@contextmanager
def server(
    argv: Sequence[str], folder: Path, answers: Callable[[], bool], environment: Mapping[str, str] = {}
) -> Iterator[psutil.Process]:
    """A server that answers; ended with its children afterwards. What it writes is in `folder`/server.log."""
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **ONE_THREAD, **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = psutil.Process(process.pid)
    try:
        _wait(process, answers, log)
        yield started
    finally:
        _end(started)
        process.wait()


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not answers():
        if process.poll() is not None or time.monotonic() > until:
            said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            sys.exit(f"the server did not come up; its last words:\n{said}")
        time.sleep(0.02)


def _end(process: psutil.Process) -> None:
    family = [process, *children(process)]
    for wait in (20, 5):
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.terminate() if wait == 20 else one.kill()
        _, family = psutil.wait_procs(family, timeout=wait)


def children(process: psutil.Process) -> list[psutil.Process]:
    """All that a process has started, and what those have."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Processor time that processes and their children have taken so far."""
    spent = 0.0
    for one in processes:
        for each in [one, *children(one)]:
            with contextlib.suppress(psutil.Error):
                times = each.cpu_times()
                spent += times.user + times.system
    return spent


def pss(process: psutil.Process) -> int:
    """Bytes of memory of a process and its children; what several share is divided among them."""
    return sum(one.memory_full_info().pss for one in [process, *children(process)])


def posts(url: str, body: str, headers: Mapping[str, str] | None = None) -> Callable[[], bool]:
    """Whether a real request is answered there."""
    headers = headers or {"content-type": "application/json"}

    def answers() -> bool:
        try:
            return httpx.post(url, content=body, headers=dict(headers), timeout=20).status_code == 200
        except httpx.HTTPError:
            return False

    return answers


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
