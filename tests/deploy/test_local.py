"""What is known of a mesh that runs, from the files it keeps."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import psutil
import pytest

from tulle.cli.mesh import show_status
from tulle.config import Settings
from tulle.deploy import local
from tulle.gateway.envoy_process import EnvoyProcess
from tulle.gateway.trust.keeper import Keeper
from tulle.spec.mesh import load_settings
from tulle.state.db import open_database


def test_settings_that_changed_since_the_start_are_told(tmp_path: Path) -> None:
    document = tmp_path / "mesh.yaml"
    document.write_text("name: small\n")
    settings = load_settings(tmp_path)
    began = psutil.Process().create_time()
    os.utime(document, (began + 60, began + 60))
    assert not local.runs_by_older_settings(settings), "a mesh that is down has read nothing"
    local.note_start(settings, os.getpid())
    assert local.runs_by_older_settings(settings)
    local.note_taken_up(settings, document.stat().st_mtime_ns)
    assert not local.runs_by_older_settings(settings), "all of it was taken up since"
    os.utime(document, (began + 61, began + 61))
    assert local.runs_by_older_settings(settings), "and it was changed again"
    os.utime(document, (began + 0.5, began + 0.5))
    assert not local.runs_by_older_settings(settings), "written just before the start, by another clock"
    os.utime(document, (began - 60, began - 60))
    assert not local.runs_by_older_settings(settings)


def test_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "mesh.yaml"
    document.write_text("name: small\n")
    settings = load_settings(tmp_path)
    local.note_start(settings, os.getpid())
    one = local.Process("gateway", "gateway", "running", None, None, 0, "")
    monkeypatch.setattr(local, "processes", lambda _settings: {"gateway": one})
    later = psutil.Process().create_time() + 60
    os.utime(document, (later, later))
    show_status(settings)
    assert "mesh.yaml was changed since it was read: `tulle gateway reload`" in capsys.readouterr().out


def test_the_status_says_that_nobody_stopped_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mesh.yaml").write_text("name: small\n")
    settings = load_settings(tmp_path)
    show_status(settings)
    assert capsys.readouterr().out == "mesh 'small' is down: start it with `tulle up`\n"
    local.table(settings).parent.mkdir(parents=True)
    me = psutil.Process()
    about = {"pid": me.pid, "pid_created": me.create_time() - 60, "processes": {}}
    local.table(settings).write_text(json.dumps(about))
    show_status(settings)
    said = "is down, though nobody stopped it: its supervisor was killed, or the machine was: start it"
    assert said in capsys.readouterr().out
    local.note_start(settings, me.pid)
    assert not local.ended_unasked(settings), "it is on its way again"


def test_the_status_says_why_a_process_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mesh.yaml").write_text("name: small\n")
    settings = load_settings(tmp_path)
    log = tmp_path / "service-offers.log"
    log.write_text("2026-01-01 INFO begins\n2026-01-01 ERROR the index is cut short\n2026-01-01 INFO ends\n")
    me = psutil.Process()
    row = {
        "kind": "service",
        "url": None,
        "log": str(log),
        "restarts": 4,
        "last_exit": 3,
        "pid_created": None,
    }
    rows = {
        "offers/v1/0": {**row, "pid": None, "state": "restarting"},
        "offers/v1/1": {**row, "pid": me.pid, "pid_created": me.create_time(), "state": "running"},
    }
    local.table(settings).parent.mkdir(parents=True)
    about = {"pid": me.pid, "pid_created": me.create_time(), "processes": rows}
    local.table(settings).write_text(json.dumps(about))
    assert [one.why for one in local.processes(settings).values()] == ["the index is cut short", ""]
    show_status(settings)
    said = capsys.readouterr().out
    assert "offers/v1/0  restarting" in said
    assert said.count("the index is cut short (`tulle logs offers`)") == 1


def test_what_the_gateways_processes_shared_goes_with_a_mesh_whose_supervisor_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, other = (Settings(folder=tmp_path / name) for name in ("own", "other"))
    files = [EnvoyProcess(one)._shared for one in (settings, other)]
    try:
        for file in files:
            file.touch(0o600)
        assert not local.stop(settings)
        assert [file.exists() for file in files] == [True, True], "that mesh never ran"
        settings.run_folder.mkdir(parents=True)
        with (settings.run_folder / "supervisor.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert not local.stop(settings)
            assert files[0].exists(), "it starts again meanwhile"
        with monkeypatch.context() as patch:
            own = os.geteuid()
            patch.setattr(os, "geteuid", lambda: own + 1)
            local.stop(settings)
        assert files[0].exists(), "another user made it"
        local.stop(settings)
        assert [file.exists() for file in files] == [False, True]
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def test_the_status_says_which_certificates_are_about_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mesh.yaml").write_text("name: small\nmutual_tls: true\n")
    settings = load_settings(tmp_path)
    monkeypatch.setattr(
        local, "processes", lambda _: {"gateway": local.Process("g", "g", "running", 1, None, 0, "")}
    )
    keeper = Keeper(settings, open_database(settings.database_url))
    at = time.time()
    keeper.keep({("fresh", "")}, at)
    show_status(settings)
    assert "certificate" not in capsys.readouterr().out
    for name, hours in (("late", 15), ("ended", 30)):
        own = keeper.identity((name, ""))
        pair = keeper.authorities.issue(own, at - hours * 3600)
        whole = json.loads((settings.state_folder / "run/trust/gateway.json").read_text())
        whole["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"] = pair.certificate
        (settings.state_folder / f"run/trust/{own.file_name}.json").write_text(json.dumps(whole))
    show_status(settings)
    said = capsys.readouterr().out
    assert "service/late could not be made anew; it ends in 9.0 h" in said
    assert "service/ended has ended" in said
    assert "gateway has" not in said
