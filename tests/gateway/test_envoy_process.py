"""The real Envoy under the real supervisor: taken over, killed and stopped under load, and what is lost by it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from tests.gateway.conftest import API, CONTRACTS, WORKERS, Mesh, as_client, policy
from tests.gateway.test_envoy import Load

from tulle.config import Settings
from tulle.deploy import gateway as gateway_process
from tulle.deploy import local
from tulle.deploy.local import Process
from tulle.deploy.supervise import Supervisor
from tulle.errors import Broken
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_process import EnvoyProcess
from tulle.gateway.envoy_values import FOLDER

pytestmark = pytest.mark.system

BACK_SECONDS = 5  # generous: the benchmark `kills` holds it to one, on a machine with nothing else to do


@dataclass
class Supervised:
    """A gateway that a supervisor keeps running, as `tulle up` does; it takes its steps when the test says so."""

    mesh: Mesh
    supervisor: Supervisor

    @property
    def process(self) -> Process:
        return local.processes(self.mesh.settings)["gateway"]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, what
            self.supervisor.tick()
            time.sleep(0.02)

    def take_over(self) -> None:
        before = self.process.pid
        word = self.mesh.gateway.process.ask_for_takeover()
        self.until(lambda: (found := self.process).asked == word and found.state == "running", "taking over")
        assert self.process.trouble == ""
        assert self.process.pid != before


@pytest.fixture(scope="module")
def supervised(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Supervised]:
    settings = Settings(folder=tmp_path_factory.mktemp("supervised"))
    settings = replace(settings, gateway_port=free_port(), gateway_drain_seconds=2)
    mesh = Mesh(settings, Gateway(settings))
    for name in ("first-1", "first-2"):
        mesh.start_worker(name, f"run/w/{name}.sock")
    mesh.gateway.publish(
        policy({"first": WORKERS["first"]}, {("app-a", "first"): CONTRACTS["app-a", "first"]})
    )
    gateway = mesh.gateway
    supervisor = Supervisor(
        local.table(settings),
        lambda: [gateway_process.wanted(settings, gateway)],
        about=local.about(settings),
    )
    found = Supervised(mesh, supervisor)
    found.until(
        lambda: "gateway" in local.processes(settings) and found.process.state == "running", "starting"
    )
    yield found
    supervisor.stop_all()
    gateway.process.forget()
    for name in list(mesh.workers):
        mesh.kill_worker(name)


def test_a_restart_loses_no_request_and_ends_none(supervised: Supervised) -> None:
    mesh, slow = supervised.mesh, []
    asking = threading.Thread(
        target=lambda: slow.append(mesh.ask(API + "first/slow", as_client("app-a")).status)
    )
    with Load(mesh) as load:
        asking.start()
        time.sleep(0.2)
        supervised.take_over()
        asked = len(load.answers)
        supervised.until(lambda: len(load.answers) > asked + 50, "answers of the new one")
        supervised.until(
            lambda: "gateway/before" not in local.processes(mesh.settings), "the end of the old one"
        )
        assert mesh.gateway.publish(policy({"first": WORKERS["first"]}, {})).confirmed
        mesh.gateway.publish(
            policy({"first": WORKERS["first"]}, {("app-a", "first"): CONTRACTS["app-a", "first"]})
        )
        supervised.take_over()  # and once more, from the one that took over
    asking.join()
    assert slow == [200]  # it was under way with the old one
    # while it had no contract it was refused: nothing else happened to any request
    assert {status for status, _ in load.answers} <= {200, 403}
    assert supervised.process.restarts == 0


def test_nobody_else_may_take_over_and_it_is_told_nothing_of_our_environment(supervised: Supervised) -> None:
    folder = supervised.mesh.settings.state_folder / Path(FOLDER)
    sockets = [one for one in folder.iterdir() if one.name.startswith("takeover_")]
    assert sockets
    assert {one.stat().st_mode & 0o777 for one in sockets} == {0o600}
    own = str(supervised.mesh.gateway.process._number)
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
    assert [name for name in names if name.startswith("@") and own in name] == []
    process = psutil.Process(supervised.process.pid)
    assert "PATH" in process.environ()
    assert not {name for name in process.environ() if name.startswith(("PYTEST", "TULLE"))}


def test_one_that_is_killed_under_load_is_back_with_what_it_had(
    supervised: Supervised,
) -> None:
    mesh = supervised.mesh
    supervised.until(lambda: supervised.process.state == "running", "running")
    with Load(mesh) as load:
        pid, restarts = supervised.process.pid, supervised.process.restarts
        assert pid is not None
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        supervised.until(lambda: supervised.process.restarts > restarts, "noticing")
        supervised.until(lambda: load.answers[-1][0] == 200 and supervised.process.pid != pid, "answers")
        assert time.monotonic() - killed < BACK_SECONDS
        supervised.until(lambda: supervised.process.state == "running", "running again")
        ok = len([one for one in load.answers if one[0] == 200])
        supervised.until(
            lambda: len([one for one in load.answers if one[0] == 200]) > ok + 50, "more answers"
        )
    assert {status for status, _ in load.answers} <= {200, 0}  # 0: there was nobody


def test_who_should_take_over_and_cannot_changes_nothing(supervised: Supervised) -> None:
    mesh = supervised.mesh
    bootstrap = mesh.settings.run_folder / "gateway" / "bootstrap.json"
    whole = bootstrap.read_bytes()
    supervised.until(lambda: "gateway/before" not in local.processes(mesh.settings), "the end of the old one")
    with Load(mesh) as load:
        pid = supervised.process.pid
        bootstrap.write_bytes(b"{")
        word = mesh.gateway.process.ask_for_takeover()
        supervised.until(
            lambda: supervised.process.asked == word and supervised.process.state == "running", "giving up"
        )
        assert "so the one before goes on" in supervised.process.trouble
        assert supervised.process.pid == pid
        with pytest.raises(Broken, match="Envoy refuses the gateway's configuration"):
            mesh.gateway.process.check()  # which is asked before, so that it does not come so far
        bootstrap.write_bytes(whole)
        mesh.gateway.process.check()
        asked = len(load.answers)
        supervised.until(lambda: len(load.answers) > asked + 50, "more answers")
    assert {status for status, _ in load.answers} == {200}
    os.kill(pid or 0, signal.SIGKILL)  # Envoy lets itself be taken over no more once that has failed
    supervised.until(lambda: supervised.process.pid not in {pid, None}, "starting anew")
    supervised.until(lambda: supervised.process.state == "running", "starting anew")
    supervised.take_over()


@pytest.fixture
def in_the_way(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Mesh, Path]]:
    """A gateway that does not run, and the file that it would share with who takes over, which does not exist."""
    settings = replace(Settings(folder=tmp_path), gateway_port=free_port())
    mesh = Mesh(settings, Gateway(settings))
    file = Path("/dev/shm") / f"envoy_shared_memory_{mesh.gateway.process._number}0"
    assert not file.exists()
    yield mesh, file
    mesh.stop()
    file.unlink(missing_ok=True)


def test_nobody_keeps_it_from_starting_by_making_the_file_that_it_shares(
    in_the_way: tuple[Mesh, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, file = in_the_way
    process, own = mesh.gateway.process, os.geteuid()
    assert process.can_be_taken_over
    file.touch(0o600)
    assert process.can_be_taken_over  # left by one before that was killed
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "geteuid", lambda: own + 1
        )  # whoever runs the tests can make files of one user only
        assert not process.can_be_taken_over
        assert process.hindrance() == f"{file} was made by another user, number {own}"
        file.unlink()
        file.symlink_to("/etc/passwd")  # where it leads to does not count
        assert str(own) in EnvoyProcess(mesh.settings).hindrance()
    file.unlink()
    # What was started without could not be taken over, nor is it to be started anew because the way is free.
    assert "--disable-hot-restart" in process.command().argv
    assert "--base-id" not in process.command().argv
    mesh.gateway.prepare()
    assert gateway_process.wanted(mesh.settings, mesh.gateway).takeover is None
    mesh.start()
    assert not file.exists()
    assert not EnvoyProcess(mesh.settings).shares()  # as another process of the mesh asks
    mesh.stop()
    assert EnvoyProcess(mesh.settings).can_be_taken_over


def test_it_is_stopped_after_what_was_under_way_had_its_answer(supervised: Supervised) -> None:
    mesh, slow = supervised.mesh, []
    # what the one before is doing Envoy counts as well, and hears of every five seconds
    supervised.until(lambda: "gateway/before" not in local.processes(mesh.settings), "the end of the old one")
    asking = threading.Thread(
        target=lambda: slow.append(mesh.ask(API + "first/slow", as_client("app-a")).status)
    )
    asking.start()
    time.sleep(0.3)
    supervised.supervisor.stop_all()
    asking.join()
    assert slow == [200]
