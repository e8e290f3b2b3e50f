"""When a mesh is ready, and the words for what it waits for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tulle.cli.mesh import show_status
from tulle.config import Settings
from tulle.deploy import local
from tulle.deploy.local import Process
from tulle.deploy.readiness import await_ready, in_short, troubles, waiting
from tulle.errors import Unavailable
from tulle.gateway.settled import Settled, file_of


class Started:
    """A mesh whose processes are said by the test."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(folder=folder)
        self.settings.run_folder.mkdir(parents=True)
        self.processes: dict[str, Process] = {}
        patch.setattr(local, "processes", lambda _settings: self.processes)
        for name in ("control_plane", "s3_door", "gateway"):
            self.runs(name, "running", kind=name)

    def runs(self, name: str, state: str, restarts: int = 0, why: str = "", kind: str = "service") -> None:
        self.processes[name] = Process(name, kind, state, 7, None, restarts, "", why)

    def told(self, **words: object) -> None:
        found = Settled(**{"pid": 7, "is_published": True, **words})  # type: ignore[arg-type]
        file_of(self.settings).write_bytes(msgspec.json.encode(found))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(tmp_path, monkeypatch)


def test_it_is_when_all_runs_and_what_is_recorded_is_in_force(started: Started) -> None:
    behind = ("what is recorded is not in force at the gateway yet",)
    assert waiting(started.settings) == behind
    started.told(pid=6)
    assert waiting(started.settings) == behind, "it was another control plane that said so"
    started.told()
    assert waiting(started.settings) == ()
    await_ready(started.settings, look=lambda: None)
    del started.processes["gateway"]
    assert waiting(started.settings) == ("gateway is starting",)
    started.runs("gateway", "running")
    started.runs("control_plane", "restarting", 5, "the disk is full", kind="control_plane")
    assert waiting(started.settings) == ("control_plane is started again (the disk is full)",)


def test_workers_are_waited_for_but_those_that_cannot_be_kept_running(started: Started) -> None:
    started.told()
    started.runs("calm/v1/0", "starting")
    started.runs("calm/v1/1", "restarting", 2)
    started.runs("calm/v0/0", "stopping")
    started.runs("gateway/before", "stopping", kind="gateway")
    assert waiting(started.settings) == ("calm/v1/0 is starting", "calm/v1/1 is started again")
    started.runs("calm/v1/0", "running")
    started.runs("calm/v1/1", "restarting", 3, "the index is cut short")
    assert waiting(started.settings) == (), "which the status tells"


def test_what_keeps_it_is_told_and_what_is_closed_with_a_fault_is_not_waited_for(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    started.told(is_published=False, trouble="disk full: the gateway's files")
    said = "what is recorded is not in force at the gateway yet: disk full: the gateway's files"
    assert waiting(started.settings) == (said,)
    assert troubles(started.settings) == ()
    started.told(starting=("calm", "other@test"))
    deployments = ("the deployment of calm is starting", "the deployment of other@test is starting")
    assert waiting(started.settings) == deployments
    show_status(started.settings)
    assert [line[4:] for line in capsys.readouterr().out.splitlines()[-2:]] == list(deployments)
    started.told(trouble="the certificate cannot be read")
    assert (waiting(started.settings), troubles(started.settings)) == (
        (),
        ("the certificate cannot be read",),
    )
    show_status(started.settings)
    assert "not yet as it should be: the certificate cannot be read" in capsys.readouterr().out


def test_who_waits_is_told_for_what_when_its_time_is_over(started: Started) -> None:
    for number in range(7):
        started.runs(f"calm/v1/{number}", "starting")
    started.told()
    with pytest.raises(Unavailable) as caught:
        await_ready(started.settings, seconds=0, look=lambda: None)
    assert "the mesh is not ready after 0 s: calm/v1/0 is starting; " in caught.value.message
    assert caught.value.message.endswith("; and 2 more")
    assert "`tulle status`" in (caught.value.hint or "")
    assert in_short(("a", "b")) == "a; b"
    with pytest.raises(ZeroDivisionError):
        await_ready(started.settings, look=lambda: print(1 / 0))
