"""Autoscaling: more workers at once, fewer after a while, never out of bounds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.control.test_deployments import active, with_versions
from tests.pipeline.conftest import Mesh

from tulle.control import autoscale, deployment
from tulle.control.autoscale import DOWN_SECONDS, EVERY_SECONDS, UP_SECONDS, Autoscaler
from tulle.deploy import local
from tulle.deploy.local import Process
from tulle.serving import generation
from tulle.serving.generation import Bounds
from tulle.serving.traffic import single

KEY = ("calc", "", "v1")


@pytest.fixture
def scaler(tmp_path: Path) -> Autoscaler:
    return Autoscaler(with_versions(Mesh(tmp_path / "mesh"), 1))


def test_a_load_that_lasts_asks_for_more(scaler: Autoscaler) -> None:
    assert [scaler.asked(KEY, 1, 0.9, at) for at in (0.0, 1.0, UP_SECONDS)] == [1, 1, 2]
    assert scaler.asked(KEY, 2, 1.9, 3.0) == 2  # and what came is given time
    assert scaler.asked(KEY, 2, 1.9, 3.0 + UP_SECONDS) == 4
    assert scaler.asked(KEY, 4, 9.0, 10.0) == 4
    assert scaler.asked(KEY, 4, 1.0, 11.0) == 4  # it was but a moment
    assert scaler.asked(KEY, 4, 9.0, 11.5) == 4
    assert scaler.asked(KEY, 4, 9.0, 11.5 + UP_SECONDS) == 15


def test_a_calm_that_lasts_lets_one_go(scaler: Autoscaler) -> None:
    assert [scaler.asked(KEY, 3, 0.1, at) for at in (0.0, DOWN_SECONDS - 1)] == [3, 3]
    assert scaler.asked(KEY, 3, 0.1, DOWN_SECONDS) == 2
    assert scaler.asked(KEY, 2, 0.1, DOWN_SECONDS + 1) == 2
    assert scaler.asked(KEY, 2, 0.7, 2 * DOWN_SECONDS) == 2  # one alone would have too much
    assert scaler.asked(KEY, 2, 0.1, 2 * DOWN_SECONDS + 2) == 2
    assert scaler.asked(KEY, 2, 0.1, 3 * DOWN_SECONDS + 2) == 1
    assert [scaler.asked(KEY, 1, 0.0, at) for at in (200.0, 400.0)] == [1, 1]


def test_a_worker_that_computes_gets_company_up_to_the_bound(
    scaler: Autoscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = scaler._workspace
    monkeypatch.setattr(autoscale, "FULL", 0.05)  # on a busy machine a process gets less than it would use
    active(workspace, single("v1"))
    deployment.bound(workspace, "calc", Bounds(1, 2))
    busy = subprocess.Popen([sys.executable, "-S", "-E", "-c", "while True: pass"])
    try:
        found = Process("calc/v1/0", "service", "running", busy.pid, None, 0, "")
        monkeypatch.setattr(local, "processes", lambda _: {found.name: found})
        deadline = time.monotonic() + 60
        while generation.deployment(workspace.database, "calc").workers_of("v1", 1) == 1:
            assert time.monotonic() < deadline
            scaler.look()
            time.sleep(0.2)
        assert [pid for pid, _ in scaler._used] == [busy.pid]
        monkeypatch.setattr(local, "processes", lambda _: {})
        time.sleep(EVERY_SECONDS)
        scaler.look()
        assert scaler._used == {}  # what ended is forgotten
    finally:
        busy.kill()
        busy.wait()
    assert generation.deployment(workspace.database, "calc").scale == {"v1": 2}
    deployment.bound(workspace, "calc", Bounds())
    scaler.look()
    assert generation.deployment(workspace.database, "calc").workers_of("v1", 1) == 1
