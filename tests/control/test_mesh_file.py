"""mesh.yaml taken up while the mesh runs: as a whole or not at all, with what Envoy says of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import delete
from tests.control.test_deployments import active, with_versions
from tests.pipeline.conftest import SALES, Mesh

from tulle.catalog.routes import RoutedLate
from tulle.cli import connect
from tulle.cli import gateway as commands
from tulle.control import gateway, gateway_api, mesh_file, watches
from tulle.control.apply import apply_plan
from tulle.control.check_mesh import check_mesh
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import Broken, Invalid
from tulle.gateway import applications, contract_step, envoy_files
from tulle.gateway.contract_record import Place
from tulle.gateway.policy import GatewayPolicy
from tulle.gateway.versions.recorded import policy_of_version
from tulle.sdk.client import Client
from tulle.serving.traffic import single
from tulle.spec.mesh import load_settings
from tulle.spec.tier import mesh_tiers
from tulle.state import log
from tulle.state.tables import contracts

pytestmark = pytest.mark.system
WALLS = "policies:\n  walls: {mandatory: true, policies: [{policy: ip-deny, addresses: [192.0.2.1]}]}\n"
FREE = "tiers:\n- {name: free, limits: [5/1s], approval: automatic}\n"


class Run:
    """A mesh with one service, its file, and its switchboard."""

    def __init__(self, mesh: Mesh, workspace: Workspace) -> None:
        self.mesh, self.workspace, self.board = mesh, workspace, Switchboard(workspace)
        self.first = (mesh.folder / "mesh.yaml").read_text()
        applications.register(workspace.database, "till")

    def write(self, text: str) -> None:
        (self.mesh.folder / "mesh.yaml").write_text(self.first + text)

    def take_up(self, text: str | None = None, *, is_dry: bool = False) -> dict[str, Any]:
        if text is not None:
            self.write(text)
        found = mesh_file.take_up(self.workspace, self.board, by="ann", is_dry=is_dry)
        self.board.settle()
        return found

    def refused(self, text: str) -> list[str]:
        before = self.workspace.settings
        with pytest.raises(Invalid) as caught:
            self.take_up(text)
        assert self.workspace.settings is before
        return [str(problem) for problem in caught.value.problems]

    def version(self) -> Any:
        return gateway.show(self.workspace)

    def kinds(self) -> list[str]:
        """The policies of the service, as they were published last."""
        return [one["policy"] for one in self.version()["content"]["services"][0]["policies"]]

    def limits(self) -> list[str]:
        number = self.version()["number"]
        held = policy_of_version(self.workspace.database, number).contracts
        return [str(window) for one in held if one.tier for window in one.windows]

    def ask(self, tier: str = "free") -> None:
        (wanted,) = [one for one in mesh_tiers(self.workspace.settings) if one.name == tier]
        client = applications.get(self.workspace.database, "till").client_id
        contract_step.ask(self.workspace.database, client, Place("api", "calc"), wanted, purpose="tests")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    mesh = Mesh(tmp_path_factory.mktemp("reload") / "mesh")
    workspace = with_versions(mesh, 1)
    active(workspace, single("v1"))
    yield Run(mesh, workspace)
    workspace.database.close()


@pytest.fixture
def run(started: Run) -> Run:
    """It, with nothing in mesh.yaml that matters here, and without contracts."""
    with started.workspace.database.write() as cx:
        cx.execute(delete(contracts))
    started.take_up("")
    assert started.kinds() == []
    return started


def test_what_a_set_names_that_is_not_there_is_told(run: Run) -> None:
    one = "policies:\n  all: {policies: [%s]}\n"
    (problem,) = run.refused(one % "{policy: quota, tiers: {nosuch: 5/1d}}")
    assert problem.startswith("mesh.yaml:")
    assert "there is no tier 'nosuch' (known: standard)" in problem
    found = run.take_up(one % "{policy: basic-auth, groups: [nosuch]}")
    assert found["taken_up"]
    assert [told.split(" (")[0].partition(": ")[2] for told in found["warnings"]] == [
        "there is no group 'nosuch'"
    ]


def test_a_set_is_in_force_as_a_version_that_says_who_and_what(run: Run) -> None:
    seen: list[object] = []
    run.workspace.followers.append(seen.append)
    assert run.take_up(WALLS, is_dry=True)["taken_up"] is False
    assert run.kinds() == []
    assert [one["sentence"] for one in mesh_file.view(run.workspace)["changes"]] == [
        "set of policies 'walls' added: policies ip-deny; mandatory"
    ]
    found = run.take_up()
    assert (found["taken_up"], found["at_next_start"]) == (True, [])
    assert run.kinds() == ["ip-deny"]
    assert seen == [run.workspace.settings]
    assert (run.version()["by"], run.version()["reason"]) == ("ann", "mesh.taken_up mesh.yaml")
    event = next(one for one in reversed(log.read(run.workspace.database)) if one.kind == "mesh.taken_up")
    assert event.data == {"changes": ["set of policies 'walls' added: policies ip-deny; mandatory"]}
    assert run.take_up()["taken_up"] is False  # nothing is left
    assert run.workspace.settings == load_settings(run.mesh.folder)  # what a restart would begin with
    run.workspace.followers.clear()


def test_what_is_mandatory_by_now_holds_for_a_version_from_before_and_the_rest_waits(run: Run) -> None:
    optional = WALLS.replace("mandatory: true, ", "").replace("walls", "slow").replace("ip-deny", "ip-allow")
    run.take_up(optional)
    assert run.kinds() == ["ip-allow"]
    gateway.rollback(run.workspace, run.board)
    run.board.settle()
    assert run.kinds() == []
    found = run.take_up(WALLS + "  later: {policies: [{policy: compression}]}\n")
    assert "was rolled back to version" in found["waits_for_resume"]
    assert run.kinds() == ["ip-deny"]
    gateway.resume(run.workspace)
    run.board.settle()
    assert run.kinds() == ["ip-deny", "compression"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "policies: {walls: {policies: [{policy: ip-deni}]}}\n",
            "mesh.yaml:3:40: there is no policy 'ip-deni'",
        ),
        (
            "policies:\n  walls: {policies: [{policy: ip-deny, addresses: [everywhere]}]}\n",
            "mesh.yaml:4:52: 'everywhere' is no address or network",
        ),
        ("policies: {walls: {mandatory: 3}}\n", "mesh.yaml:3:20: "),
        ("tiers:\n- {name: free, limits: [often]}\n", "mesh.yaml:4:24: "),
        ("tiers: [{name: Free, limits: [5/1s]}]\n", "mesh.yaml:3:16: "),
        ("default_rate_limit: often\n", "mesh.yaml:3:21: "),
        ("watches: {w: {measure: rate, above: 1, environment: nowhere}}\n", "mesh.yaml:3:53: "),
        ("watches: {w: {measure: speed, above: 1}}\n", "mesh.yaml:3:15: "),
        ("watches: {w: {above: 1, version: v1}}\n", "mesh.yaml:3:25: "),
        ("contact_channel: nobody\n", "mesh.yaml:3:18: 'nobody' is no channel of type apprise"),
        ("policies: {\n", "mesh.yaml:4:1: "),
        (
            "environments: {dev: {}}\npolicies: {w: {environments: [dev], policies: [{policy: timeout}]}}\n",
            "environments are read when the mesh starts",
        ),
    ],
)
def test_a_file_that_does_not_hold_is_refused_as_a_whole_at_its_place(
    started: Run, text: str, told: str
) -> None:
    before = started.kinds()
    found = started.refused(text + ("" if "policies" in text else WALLS.replace("walls", "other")))
    assert any(told in problem for problem in found), found
    started.board.settle()
    assert started.kinds() == before
    assert mesh_file.view(started.workspace)["problems"] == found


def test_what_a_service_cannot_be_had_with_is_refused_and_names_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.take_up(WALLS)
    render = envoy_files.static_twin

    def broken(policy: GatewayPolicy, *rest: Any) -> object:
        made = render(policy, *rest)
        if any(one.kind == "compression" for service in policy.services for one in service.policies):
            made["static_resources"]["clusters"].append({"name": "x", "connect_timeout": "soon"})
        return made

    monkeypatch.setattr(envoy_files, "static_twin", broken)
    (said,) = run.refused("policies: {small: {policies: [{policy: compression}]}}\n")
    assert "service 'calc' could not be had with it" in said
    assert "duration must start with an integer" in said
    assert run.kinds() == ["ip-deny"]


def test_what_is_read_at_the_start_is_named_and_all_else_is_taken_up(run: Run) -> None:
    found = run.take_up("gateway_port: 8123\nmutual_tls: true\n" + WALLS)
    assert found["at_next_start"] == ["gateway_port", "mutual_tls"]
    assert found["taken_up"]
    assert (run.workspace.settings.gateway_port, run.workspace.settings.mutual_tls) == (8000, False)
    assert run.kinds() == ["ip-deny"]


def test_what_was_taken_up_waits_for_no_start(run: Run) -> None:
    settings, file = run.workspace.settings, run.mesh.folder / "mesh.yaml"
    local.note_start(settings, os.getpid())  # as if the mesh had begun with this process
    for later, (text, waits) in enumerate([("gateway_port: 8123\n" + WALLS, True), (WALLS, False)], 60):
        run.write(text)
        os.utime(file, (time.time() + later, time.time() + later))
        assert local.runs_by_older_settings(settings)
        run.take_up()
        assert local.runs_by_older_settings(settings) == waits
    (settings.run_folder / "starting.json").unlink()


def test_a_tier_is_another_for_whoever_has_a_contract_under_it(run: Run) -> None:
    run.take_up(FREE)
    run.ask()
    run.board.settle()
    assert run.limits() == ["5/1s"]
    run.take_up(FREE.replace("5/1s", "7/1s"))
    assert run.limits() == ["7/1s"]
    (said,) = run.refused(FREE.replace("free", "gold"))
    assert said.startswith("mesh.yaml:4:1: tier 'free' is taken out, and 'till' have contracts under it")
    assert run.limits() == ["7/1s"]
    run.take_up(FREE.replace("5/1s]", "7/1s], deprecated: true"))
    run.take_up(FREE.replace("free", "gold"))  # those that had it keep their limits
    assert run.limits() == ["7/1s"]


def test_a_watch_is_added_and_taken_out(run: Run) -> None:
    run.take_up("watches: {fails: {measure: errors, above: 0.1}}\n")
    assert [one.name for one in watches.known(run.workspace)] == ["fails"]
    found = run.take_up("")
    assert [one["sentence"] for one in found["changes"]] == ["watch 'fails' removed"]
    assert watches.known(run.workspace) == []


def test_where_it_cannot_be_recorded_nothing_is_changed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.workspace.settings

    def full(*_: object, **__: object) -> None:
        raise Broken("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", full)
        with pytest.raises(Broken, match="the disk is full"):
            run.take_up(WALLS)
    run.board.settle()
    assert run.workspace.settings is before
    assert run.kinds() == []


def test_a_channel_that_a_product_names_is_not_taken_out(run: Run) -> None:
    run.take_up("alerts: {ops: {url: 'http://127.0.0.1:9/hook'}}\n")
    run.mesh.sales("product.yaml", SALES.replace("what was sold}", "what was sold, alerts: [ops]}", 1))
    apply_plan(run.workspace)
    (said,) = run.refused("")
    assert said.startswith("mesh.yaml:1:1: channel 'ops' is taken out, and product 'sales' names it")
    run.mesh.sales("product.yaml", SALES)
    apply_plan(run.workspace)
    found = run.take_up()
    assert [one["sentence"] for one in found["changes"]] == ["channel 'ops' removed"]


def test_a_watch_of_an_environment_that_there_is_not_is_told_by_validate(run: Run) -> None:
    run.write("watches: {w: {measure: rate, above: 1, environment: nowhere}}\n")
    settings = load_settings(run.mesh.folder)
    (problem,) = check_mesh(replace(run.workspace, settings=settings)).problems
    assert str(problem).startswith("mesh.yaml:3:53: there is no environment 'nowhere'")


def test_the_commands_say_it_in_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def settle() -> bool:
        run.board.settle()
        return True

    app = RoutedLate()
    app.include(gateway_api.router(run.workspace, run.board, settle))
    client = Client(httpx.Client(base_url="http://mesh", transport=connect.InProcess(app)))
    monkeypatch.setattr(connect, "mesh_client", lambda _: nullcontext(client))

    def tulle(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(commands.gateway, args)
        assert done.exit_code == code, done.output
        return done.output

    run.write(WALLS + "gateway_port: 8123\n")
    walls, port = "set of policies 'walls' added: policies ip-deny; mandatory", "gateway_port changed"
    for words in (("reload", "--dry-run"), ("check",), ("status",)):
        said = tulle(*words)
        assert walls in said
        assert f"{port}, read at the next start" in said
    assert run.kinds() == []
    said = tulle("reload")
    assert walls in said
    assert "taken up" in said
    assert run.kinds() == ["ip-deny"]
    assert json.loads(tulle("reload", "--json"))["changes"] == []
    assert "nothing to take up" in tulle("reload")
    run.write("tiers: 3\n")
    assert "mesh.yaml:3:1: 'tiers' must be a list of tiers" in tulle("check", code=1)
    assert run.kinds() == ["ip-deny"]
