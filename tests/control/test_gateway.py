"""The gateway's versions as who runs it meets them: on the real Envoy, with the control plane's own library and doors."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import CliRunner
from tests.control.test_deployments import active, with_versions
from tests.gateway.conftest import basic, wait_until
from tests.pipeline.conftest import Mesh
from tests.system.conftest import free_port

from tulle.cli import gateway as commands
from tulle.control import gateway, service_policies
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.deploy.local import Process
from tulle.errors import Broken, Conflict, NotFound, Unavailable
from tulle.gateway import application_secret, applications, contract, envoy_files
from tulle.gateway.envoy import Gateway
from tulle.gateway.envoy_process import ASKED, EnvoyProcess
from tulle.gateway.policy import GatewayPolicy, RateLimit
from tulle.gateway.versions import recorded
from tulle.gateway.versions.told import told
from tulle.serving import generation
from tulle.serving.traffic import single
from tulle.state.tables import gateway_parts

pytestmark = pytest.mark.system
SHUT = "[{policy: ip-deny, addresses: [127.0.0.1]}]"
PLENTY = RateLimit.parse("1000/1s")


@dataclass
class Run:
    """A mesh with one service, and its gateway; nothing answers behind it, so 503 is what passes."""

    workspace: Workspace
    board: Switchboard
    secrets: dict[str, str]

    def ask(self, client: str = "shop") -> int:
        port = self.workspace.settings.gateway_port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/public/api/v1/calc/who/run", b"{}", self.credentials(client))
            return connection.getresponse().status
        finally:
            connection.close()

    def credentials(self, client: str) -> Mapping[str, str]:
        return basic(*self.secrets[client].split(":"))

    def register(self, name: str) -> None:
        made = applications.register(self.workspace.database, name, owner="ann", services={"calc": PLENTY})
        self.secrets[name] = f"{made.client_id}:{made.client_secret}"

    def shut(self, text: str | None) -> None:
        service_policies.set_policies(self.workspace, "calc", text, actor="ann")
        self.board.settle()

    def newest(self) -> int:
        return int(gateway.versions(self.workspace)[0]["number"])

    def rollback(self, number: int | None = None, **more: str) -> None:
        gateway.rollback(self.workspace, self.board, number, **more)
        self.board.settle()

    def resume(self) -> None:
        gateway.resume(self.workspace)
        self.board.settle()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    workspace = with_versions(Mesh(tmp_path_factory.mktemp("gateway") / "mesh"), 2)
    workspace = replace(workspace, settings=replace(workspace.settings, gateway_port=free_port()))
    active(workspace, single("v1"))
    run = Run(workspace, Switchboard(workspace), {})
    run.register("shop")
    own = Gateway(workspace.settings)
    own.prepare()
    run.board.settle()
    command = own.command()
    with (workspace.settings.log_folder / "gateway.log").open("ab") as log:
        process = subprocess.Popen(command.argv, cwd=command.cwd, stdout=log, stderr=log)
    try:
        wait_until(own.ready, "starting the gateway")
        yield run
    finally:
        process.terminate()
        process.wait()
        own.process.forget()
        workspace.database.close()


@pytest.fixture
def run(started: Run) -> Run:
    """It, pinned to nothing, with the service open."""
    if gateway.view(started.workspace, started.board)["pin"] is not None:
        gateway.resume(started.workspace)
    started.shut(None)
    assert started.ask() == 503
    return started


def test_each_change_is_a_version_that_says_who_and_what(run: Run) -> None:
    before = run.newest()
    run.shut(SHUT)
    assert run.ask() == 403
    found = gateway.show(run.workspace, run.newest())
    assert found["number"] == before + 1
    assert (found["by"], found["reason"]) == ("ann", "service.policies_changed calc")
    assert [one["sentence"] for one in found["changes"]] == ["service calc changed: policy 1 (ip-deny) added"]
    (service,) = found["content"]["services"]
    assert service["policies"] == [{"policy": "ip-deny", "addresses": ["127.0.0.1"]}]
    told = json.dumps(gateway.show(run.workspace))
    for secret in run.secrets.values():
        assert secret.partition(":")[2] not in told
    run.board.settle()
    assert run.newest() == before + 1
    with pytest.raises(NotFound, match="no version 99999"):
        gateway.show(run.workspace, 99_999)


def test_what_one_version_changed_is_told_also_while_another_one_is_in_force(run: Run) -> None:
    run.shut(SHUT)
    number = run.newest()
    run.rollback()
    found = gateway.diff(run.workspace, run.board, second=number)
    assert (found["from"], found["to"]) == (number - 1, number)
    assert [one["sentence"] for one in found["changes"]] == ["service calc changed: policy 1 (ip-deny) added"]
    first = recorded.versions(run.workspace.database, limit=500)[-1].number
    with pytest.raises(NotFound, match=f"no version before {first} is kept"):
        gateway.diff(run.workspace, run.board, second=first)
    with pytest.raises(NotFound, match="no version 99999"):
        gateway.diff(run.workspace, run.board, second=99_999)


def test_a_rollback_holds_until_it_is_resumed_and_what_comes_waits(run: Run) -> None:
    run.shut(SHUT)
    run.rollback(reason="everybody is shut out", by="bob")
    assert run.ask() == 503
    run.shut("[{policy: ip-deny, addresses: [127.0.0.1, 192.0.2.1]}]")  # said again meanwhile
    assert run.ask() == 503
    found = gateway.view(run.workspace, run.board)
    assert (found["pin"]["by"], found["pin"]["reason"]) == ("bob", "everybody is shut out")
    assert [one["sentence"] for one in found["waiting"]] == ["service calc changed: policy 1 (ip-deny) added"]
    assert found["version"]["causes"][-1]["kind"] == "gateway.pinned"
    assert gateway.diff(run.workspace, run.board)["to"] is None
    pin = told(run.workspace.settings)
    assert pin is not None
    assert "rolled back to version" in pin.sentence
    with pytest.raises(Conflict, match="is pinned to version"):
        gateway.rollback(run.workspace, run.board, found["pin"]["version"])
    run.resume()
    assert run.ask() == 403
    assert told(run.workspace.settings) is None


def test_who_is_revoked_while_it_is_pinned_is_refused_at_once(run: Run) -> None:
    for name in ("eve", "mallory"):
        run.register(name)
    run.board.settle()
    number = run.newest()
    run.shut(SHUT)
    applications.revoke(run.workspace.database, "mallory")  # before: a rollback does not bring it back
    run.rollback(number)
    assert (run.ask("eve"), run.ask("mallory")) == (503, 401)
    began = time.monotonic()
    applications.revoke(run.workspace.database, "eve")
    run.board.settle()
    wait_until(lambda: run.ask("eve") == 401, "refusing who was revoked")
    assert time.monotonic() - began < 5
    made = application_secret.rotate(run.workspace.database, "shop")
    run.secrets["shop"] = f"{made.client_id}:{made.client_secret}"
    run.board.settle()
    assert run.ask() == 503  # a new secret opens
    contract.withdraw(run.workspace.database, "shop", "calc")
    run.board.settle()
    assert run.ask() == 403
    contract.grant(run.workspace.database, "shop", "calc", PLENTY)
    run.resume()


def test_a_service_is_stopped_and_another_generation_answers_while_it_is_pinned(run: Run) -> None:
    run.shut(SHUT)
    run.rollback()
    active(run.workspace, single("v2"))
    run.board.settle()
    (service,) = gateway.show(run.workspace)["content"]["services"]
    assert service["answered_by"] == str(single("v2"))
    assert service["policies"] == []
    generation.enable(run.workspace.database, "calc", False)
    run.board.settle()
    assert (run.ask(), gateway.show(run.workspace)["content"]["services"][0]["stopped"]) == (503, "disabled")
    generation.enable(run.workspace.database, "calc", True)


def test_a_version_that_envoy_would_refuse_is_not_rolled_back_to(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.shut(SHUT)
    render = envoy_files.static_twin

    def broken(policy: GatewayPolicy, *rest: Any) -> object:
        made = render(policy, *rest)
        if policy.services and not policy.services[0].policies:
            made["static_resources"]["clusters"].append({"name": "x", "connect_timeout": "soon"})
        return made

    monkeypatch.setattr(envoy_files, "static_twin", broken)
    with pytest.raises(Broken, match="Envoy refuses the gateway's configuration"):
        run.rollback()
    assert gateway.view(run.workspace, run.board)["pin"] is None
    assert run.ask() == 403
    assert gateway.check(run.board)["would_publish"]
    service_policies.set_policies(run.workspace, "calc", None)
    found = gateway.check(run.board)
    assert not found["would_publish"]
    (problem,) = found["problems"]
    assert problem["service"] == "calc"
    assert "duration must start with an integer" in problem["message"]


def test_why_it_cannot_be_taken_over_is_told_before_anything_is_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that the two processes would share may be another user's, or not there: it was started without."""
    running = Process("gateway", "gateway", "running", 1, None, 0, "")
    monkeypatch.setattr(gateway.local, "processes", lambda _settings: {"gateway": running})
    process, own = EnvoyProcess(run.workspace.settings), os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: own + 1)
        with pytest.raises(Conflict, match=f"shared_memory_{process._number}0 was made by another user"):
            gateway.restart(run.workspace)
    process._shared.rename(aside := process._shared.with_name(f"aside-{process._number}"))
    try:
        with pytest.raises(Conflict, match="something was in the way when it started"):
            gateway.restart(run.workspace)
    finally:
        aside.rename(process._shared)
    (in_the_way := run.workspace.settings.state_folder / ASKED).mkdir()
    with pytest.raises(Unavailable, match=r"\.tulle could not be written .*; nothing was changed"):
        gateway.restart(run.workspace)
    in_the_way.rmdir()
    assert process.asked() == ""


def test_a_pin_whose_version_is_lost_still_refuses_who_is_revoked(run: Run) -> None:
    run.register("carl")
    run.board.settle()
    run.shut(SHUT)
    run.rollback()
    with run.workspace.database.write() as cx:
        cx.execute(gateway_parts.delete())
    board = Switchboard(run.workspace)  # another control plane, which has to read it
    board.settle()
    assert run.ask("carl") == 503
    applications.revoke(run.workspace.database, "carl")
    board.settle()
    wait_until(lambda: run.ask("carl") == 401, "refusing who was revoked")


def test_the_commands_say_it_in_a_terminal(run: Run) -> None:
    settings = run.workspace.settings
    (settings.folder / "mesh.yaml").write_text(
        (settings.folder / "mesh.yaml").read_text() + f"gateway_port: {settings.gateway_port}\n"
    )
    run.shut(SHUT)

    def tulle(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(commands.gateway, args, obj=settings.folder)
        assert done.exit_code == code, done.output
        return done.output

    newest = run.newest()
    assert "+ policy" not in tulle("versions")
    assert f"version {newest}" in tulle("status")
    assert "policy 1 (ip-deny) added" in tulle("diff")
    assert "service.policies_changed calc by ann" in tulle("show", str(newest))
    assert "all of it would be published" in tulle("check")
    assert "nothing to take up" in tulle("reload", "--dry-run")
    said = tulle("rollback", "--reason", "shut out")
    assert f"rolled back to version {newest - 1}" in said
    assert "shut out" in said
    assert "(`tulle gateway resume`)" in tulle("status")
    assert json.loads(tulle("diff", "--json"))["to"] is None
    alone = json.loads(tulle("diff", "--to", str(newest), "--json"))
    assert (alone["from"], alone["to"]) == (newest - 1, newest)
    assert alone["changes"] == json.loads(tulle("diff", str(newest - 1), str(newest), "--json"))["changes"]
    refused = CliRunner().invoke(commands.gateway, ["diff", "1", "--to", "2"], obj=settings.folder)
    assert "--to says what one version changed" in str(refused.exception)
    assert json.loads(tulle("versions", "--json"))[0]["pinned"] is False
    assert "no more" in tulle("resume")
