"""Deployments: shared, preloaded, bounded, ended, tidied up; who may, who has to agree, and who is asked."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from tests.control.conftest import fill, opened
from tests.control.test_approvals import Office
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.control import deployment, deployment_hooks, deployment_request, node_admin, release
from tulle.control.apply import apply_plan
from tulle.control.deployment_request import Request
from tulle.control.leaving import LEAVING_SECONDS, Leaving
from tulle.control.workspace import Workspace
from tulle.deploy.generations import managed, mounted
from tulle.errors import Conflict, Denied, Invalid, NotFound
from tulle.server.lake_doors import lake_access
from tulle.serving import generation, package_import
from tulle.serving.generation import Bounds, Deployment
from tulle.serving.needs import Needs
from tulle.serving.seal import public_key
from tulle.serving.traffic import Traffic, single, split
from tulle.state import log
from tulle.state.db import now
from tulle.state.tables import tasks as task_rows

SERVICE = "service: calc\nendpoints:\n- {name: who, type: function, file: who.py}\n"
GATED = """
name: test
warehouse: {threads: 1, memory: 256MB}
hook_addresses: ['127.0.0.1']
environments:
  test: {fallback: prod}
  prod: {approvers: [ann, bob, eve], approvals: 2, deployers: [ann, dan]}
"""


def with_versions(mesh: Mesh, count: int) -> Workspace:
    """The mesh, applied, with so many versions of a service of one function."""
    fill(mesh)
    mesh.sales("services/calc.yaml", SERVICE)
    workspace = opened(mesh)
    for number in range(1, count + 1):
        mesh.sales("functions/who.py", f"def who() -> dict:\n    return {{'version': {number}}}\n")
        apply_plan(workspace)
        assert release.build_package(workspace, "calc")[0].version == f"v{number}"
    return workspace


@pytest.fixture
def calc(tmp_path: Path) -> Iterator[Workspace]:
    made = with_versions(Mesh(tmp_path / "mesh"), 3)
    yield made
    made.database.close()


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Workspace]:
    mesh = Mesh(tmp_path / "mesh")
    mesh.write("mesh.yaml", GATED)
    made = with_versions(mesh, 2)
    yield made
    made.database.close()


def active(workspace: Workspace, traffic: Traffic, environment: str = "") -> Deployment:
    deployment.share(workspace, "calc", traffic, environment=environment or None)
    return generation.activate(workspace.database, "calc", traffic, environment=environment)


def test_a_traffic_is_shared_and_taken_back(calc: Workspace) -> None:
    active(calc, single("v1"))
    both = split({"v1": 0.9, "v2": 0.1}, sticky=True, shadow=("v3", 0.5))
    asked = deployment.share(calc, "calc", both, actor="ann")
    assert (asked.status, asked.desired, asked.active) == ("starting", both, single("v1"))
    assert asked.mounted == ("v1", "v2", "v3")
    assert (asked.desired_version, asked.active_version) == ("v1", "v1")
    generation.activate(calc.database, "calc", both)
    back = deployment.rollback(calc, "calc")
    assert (back.desired, back.active) == (single("v1"), both)
    generation.activate(calc.database, "calc", single("v1"))
    assert generation.deployment(calc.database, "calc").previous == both
    assert [
        e.data["traffic"] for e in log.read(calc.database, subject="calc") if e.kind.endswith("activated")
    ] == [
        "v1",
        "v1 90%, v2 10% (sticky), shadow v3 50%",
        "v1",
    ]


def test_going_back_takes_back_what_does_not_answer_yet(calc: Workspace) -> None:
    active(calc, single("v1"))
    active(calc, single("v2"))
    deployment.share(calc, "calc", single("v3"))
    back = deployment.rollback(calc, "calc")
    assert (back.desired, back.status, back.previous) == (single("v2"), "active", single("v1"))
    deployment.share(calc, "calc", single("v3"))
    generation.fail(calc.database, "calc", single("v3"), "it ended")
    assert deployment.rollback(calc, "calc").desired == single("v2")
    for _ in range(2):  # two people, or one who asks twice
        assert deployment.rollback(calc, "calc").desired == single("v1")


def test_a_change_that_was_made_on_something_else_is_refused(calc: Workspace) -> None:
    active(calc, single("v1"))
    deployment.share(calc, "calc", single("v2"), before=single("v1"))
    with pytest.raises(Conflict, match="is to answer by 'v2' by now, not by 'v1'"):
        deployment.share(calc, "calc", single("v3"), before=single("v1"))
    with pytest.raises(NotFound, match="has no version 'v9'"):
        deployment.share(calc, "calc", split({"v1": 0.5, "v9": 0.5}))


def preloaded(workspace: Workspace, version: str) -> Deployment:
    made = deployment_request.preload(workspace, "calc", version, by="ann")
    assert isinstance(made, Deployment)
    return made


def test_what_failed_is_not_tried_again_by_keeping_another_one_warm(calc: Workspace) -> None:
    active(calc, single("v1"))
    deployment.share(calc, "calc", single("v2"))
    generation.fail(calc.database, "calc", single("v2"), "it ended")
    assert preloaded(calc, "v3").desired == split({"v1": 1.0}, preloaded=["v3"])
    generation.fail(calc.database, "calc", split({"v1": 1.0}, preloaded=["v3"]), "it ended")
    found = deployment.unload(calc, "calc", "v3")
    assert (found.desired, found.status) == (single("v1"), "active")


def test_a_generation_is_kept_warm(calc: Workspace) -> None:
    active(calc, single("v1"))
    warm = preloaded(calc, "v2")
    assert warm.desired == split({"v1": 1.0}, preloaded=["v2"])
    assert preloaded(calc, "v1") == warm
    with pytest.raises(Conflict, match="'v1' of 'calc' answers requests"):
        deployment.unload(calc, "calc", "v1")
    assert deployment.unload(calc, "calc", "v2").status == "active"  # as it was
    assert deployment.unload(calc, "calc", "v2").desired == single("v1")


def test_workers_are_bounded(calc: Workspace) -> None:
    active(calc, split({"v1": 0.5, "v2": 0.5}))
    found = deployment.bound(calc, "calc", Bounds(2, 4, 100))
    assert [found.workers_of("v1", usual) for usual in (1, 3)] == [2, 2]
    generation.scale(calc.database, "calc", "v1", 3)
    generation.scale(calc.database, "calc", "v2", 99)
    generation.scale(calc.database, "calc", "v3", 3)
    found = generation.deployment(calc.database, "calc")
    assert (found.scale, found.workers_of("v1", 1), found.workers_of("v2", 1)) == ({"v1": 3, "v2": 99}, 3, 4)
    running = mounted(calc.settings, [found], now())
    assert [(one.version, one.workers) for one in running] == [("v1", 3), ("v2", 4)]
    service = managed(calc.settings, found, found.desired, Needs(), now())
    assert [len(b.upstreams) for b in service.backends] == [3, 4]
    assert service.most_requests == 100
    for wrong in ((0, None), (None, 65), (3, 2)):
        with pytest.raises(Invalid):
            Bounds(*wrong)
    assert deployment.bound(calc, "calc", Bounds()).workers_of("v1", 1) == 1


def test_a_service_ends_and_goes_on(calc: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    active(calc, single("v1"))
    soon = now() + 3600
    found = deployment.end(calc, "calc", sunset_at=soon, successor="calc")
    assert found.ending
    assert (found.ending.sunset_at, found.ending.successor) == (soon, "/public/api/v1/calc/")
    assert not found.has_ended(now())
    assert found.has_ended(soon)
    assert mounted(calc.settings, [found], soon) == []
    assert managed(calc.settings, found, found.desired, Needs(), soon).stopped == "retired"
    since = found.ending.deprecated_at
    again = deployment.end(calc, "calc", sunset_at=soon + 10)
    assert again.ending
    assert again.ending.deprecated_at == since  # told since then, whatever the date
    monkeypatch.setattr(deployment, "now", lambda: soon + 11)
    with pytest.raises(Conflict, match="service 'calc' has ended"):
        deployment.share(calc, "calc", single("v2"))
    assert deployment.go_on(calc, "calc").ending is None
    with pytest.raises(NotFound, match="no applied product has a service 'nothing'"):
        deployment.end(calc, "calc", successor="nothing")
    off = deployment.enable(calc, "calc", False)
    assert managed(calc.settings, off, off.desired, Needs(), now()).stopped == "disabled"


def test_the_gateway_knows_what_has_left_for_a_while(calc: Workspace) -> None:
    leaving, clock = Leaving(), [100.0]

    def known() -> tuple[str, ...]:
        found = generation.deployment(calc.database, "calc")
        service = managed(calc.settings, found, found.desired, Needs(), now())
        told = leaving.with_left(service, clock[0])
        return tuple(backend.generation for backend in told.backends)

    active(calc, single("v1"))
    assert known() == ("v1",)
    active(calc, split({"v1": 0.5, "v2": 0.5}))
    assert known() == ("v1", "v2")
    active(calc, single("v3"))
    assert known() == ("v3", "v1", "v2")
    clock[0] += LEAVING_SECONDS - 1
    active(calc, single("v1"))  # it is back
    assert known() == ("v1", "v2", "v3")
    clock[0] += 2
    assert known() == ("v1", "v3")
    clock[0] += LEAVING_SECONDS
    assert known() == ("v1",)


def test_what_nobody_needs_is_removed(calc: Workspace) -> None:
    active(calc, single("v1"))
    active(calc, single("v2"))
    active(calc, single("v3"))
    home = calc.settings.state_folder / "generations" / "calc"
    assert [one.version for one in deployment.clean(calc, is_dry=True)] == ["v1"]
    assert (home / "v1").exists()
    (removed,) = deployment.clean(calc, "calc")
    assert removed.bytes > 0
    assert sorted(f.name for f in home.iterdir()) == ["v2", "v3"]  # v2 is what a rollback goes back to
    assert deployment.clean(calc) == ()
    active(calc, single("v1"))
    assert (home / "v1").exists()


def test_what_is_deployed_while_others_tidy_up_is_there(
    calc: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    active(calc, single("v1"))
    home = calc.settings.state_folder / "generations" / "calc"
    request, aside = generation.request, generation.set_aside
    with monkeypatch.context() as patch:  # between the unpacking and the record of it
        patch.setattr(generation, "request", lambda *a, **k: deployment.clean(calc) and request(*a, **k))
        deployment.share(calc, "calc", single("v2"))
    assert (home / "v2" / "manifest.json").exists()
    generation.activate(calc.database, "calc", single("v2"))
    generation.unpack(deployment.packages_of(calc, "calc", single("v3"))[0], calc.settings)

    def late(*given: Any) -> Path | None:  # between the look and the removal
        deployment.share(calc, "calc", single("v3"))
        return aside(*given)

    monkeypatch.setattr(generation, "set_aside", late)
    assert deployment.clean(calc) == ()
    assert (home / "v3" / "manifest.json").exists()


def test_environments_are_apart(gated: Workspace) -> None:
    active(gated, single("v1"), "test")
    assert generation.find(gated.database, "calc") is None
    found = generation.deployment(gated.database, "calc", "test")
    (one,) = mounted(gated.settings, [found], now())
    assert (one.worker(0), one.address) == ("calc@test/v1/0", "/test/public/api/v1/calc/")
    assert deployment.as_plain(gated.settings, found)["environment"] == "test"
    ending = deployment.end(gated, "calc", successor="calc", environment="test").ending
    assert ending is not None
    assert ending.successor == "/test/public/api/v1/calc/"
    with pytest.raises(NotFound, match="no environment 'tset'"):
        deployment.share(gated, "calc", single("v1"), environment="tset")
    active(gated, single("v2"))
    assert [d.environment for d in generation.everywhere(gated.database)] == ["", "test"]
    deployment.withdraw(gated, "calc", environment="prod")
    assert [d.environment for d in generation.everywhere(gated.database)] == ["test"]


def asked(gated: Workspace, traffic: Traffic, **more: Any) -> Request:
    made = deployment_request.ask(gated, "calc", traffic, by="ann", credential="ann", **more)
    assert isinstance(made, Request)
    return made


def test_a_deployment_waits_for_those_who_must_agree(gated: Workspace) -> None:
    with pytest.raises(Denied, match="'eve' may not deploy services to 'prod'"):
        deployment_request.ask(gated, "calc", single("v1"), by="eve", credential="eve")
    request = asked(gated, single("v1"), note="the first one")
    assert request.status == "waiting"
    with pytest.raises(Conflict, match=f"deployment {request.id} of 'calc' to 'prod' waits already"):
        asked(gated, single("v2"))
    with pytest.raises(Denied, match="'ann' asked for it"):
        deployment_request.decide(gated, request.id, by="ann")
    with pytest.raises(Denied, match="'dan' may not approve"):
        deployment_request.decide(gated, request.id, by="dan")
    assert deployment_request.decide(gated, request.id, by="bob", note="fine").status == "waiting"
    with pytest.raises(Conflict, match="'bob' has decided"):
        deployment_request.decide(gated, request.id, by="bob", approved=False)
    assert generation.find(gated.database, "calc") is None
    assert deployment_request.decide(gated, request.id, by="eve").status == "done"
    assert generation.deployment(gated.database, "calc").desired == single("v1")
    with pytest.raises(Conflict, match="is done"):
        deployment_request.decide(gated, request.id, by="eve")
    assert isinstance(
        deployment_request.ask(gated, "calc", single("v1"), by="ann", credential="ann"), Deployment
    )  # it is what is wanted
    kinds = [e.kind for e in log.read(gated.database, subject="calc")]
    assert kinds[-5:] == [
        "deployment.requested",
        *("deployment.decided", "deployment.decided"),
        *("generation.requested", "deployment.ended"),
    ]


def test_an_api_nodes_administrator_waits_for_them_too(gated: Workspace) -> None:
    with pytest.raises(Conflict, match="'calc' v1 waits for approval"):
        node_admin.switch(gated, "calc", single("v1"), actor="node")
    (waiting,) = deployment_request.requests(gated.database, "calc", status="waiting")
    assert waiting.requested_by == "node"


def test_a_version_that_is_kept_warm_is_agreed_to_as_well(gated: Workspace) -> None:
    active(gated, single("v1"))
    made = deployment_request.preload(gated, "calc", "v2", by="ann", credential="ann")
    assert isinstance(made, Request)
    assert made.traffic == split({"v1": 1.0}, preloaded=["v2"])
    with pytest.raises(Conflict, match="waits already"):
        node_admin.preload(gated, "calc", "v2", actor="node")
    assert generation.deployment(gated.database, "calc").mounted == ("v1",)
    for person in ("bob", "eve"):
        deployment_request.decide(gated, made.id, by=person)
    assert generation.deployment(gated.database, "calc").mounted == ("v1", "v2")
    with pytest.raises(Denied, match="'eve' may not deploy"):
        deployment_request.preload(gated, "calc", "v1", by="eve", credential="eve")


def test_others_are_told_of_their_own_environment_alone(gated: Workspace) -> None:
    found = active(gated, single("v1"), "test")
    known = gated.settings.environments
    telling = replace(known["prod"], after_deploy=("https://chat.example.org/hook",))
    without = replace(gated.settings, environments={"prod": telling})
    with gated.database.write() as cx:
        deployment_hooks.tell(cx, without, found)
        assert cx.execute(select(task_rows.c.subject)).all() == []
        deployment_hooks.tell(cx, without, replace(found, environment=""))
        assert cx.execute(select(task_rows.c.subject)).scalars().all() == ["calc"]


def test_what_is_taken_back_while_others_are_asked_is_not_carried_out(
    gated: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(gated, single("v1"))
    deployment_request.decide(gated, request.id, by="bob")
    taken_back: list[str] = []

    def gate(*_: Any, id_: str, **__: Any) -> None:
        taken_back.append(deployment_request.withdraw(gated, id_, by="ann", credential="ann").status)

    monkeypatch.setattr(deployment_hooks, "ask", gate)
    assert deployment_request.decide(gated, request.id, by="eve").status == "withdrawn"
    assert taken_back == ["withdrawn"]
    assert generation.find(gated.database, "calc") is None


def test_one_refusal_ends_it_and_who_asked_may_take_it_back(gated: Workspace) -> None:
    refused = deployment_request.decide(
        gated, asked(gated, single("v1")).id, by="bob", approved=False, note="no"
    )
    assert (refused.status, refused.message) == ("refused", "refused by bob: no")
    again = asked(gated, single("v1"))
    with pytest.raises(Denied, match="'dan' did not ask for"):
        deployment_request.withdraw(gated, again.id, by="dan", credential="dan")
    assert deployment_request.withdraw(gated, again.id, by="ann", credential="ann").status == "withdrawn"
    with pytest.raises(Conflict, match="is withdrawn"):
        deployment_request.decide(gated, again.id, by="bob")
    assert [r.status for r in deployment_request.requests(gated.database)] == ["withdrawn", "refused"]
    with pytest.raises(NotFound):
        deployment_request.get(gated.database, "nothing")


def test_what_was_approved_is_what_is_carried_out(gated: Workspace) -> None:
    request = asked(gated, single("v2"))
    deployment.share(gated, "calc", single("v1"))  # meanwhile, by an administrator's own hand
    deployment_request.decide(gated, request.id, by="bob")
    ended = deployment_request.decide(gated, request.id, by="eve")
    assert ended.status == "failed"
    assert "'calc' is to answer by 'v1' in 'prod' by now, not by 'nothing'" in ended.message


def test_an_approval_that_was_interrupted_is_carried_out_later(
    gated: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(gated, single("v1"))
    deployment_request.decide(gated, request.id, by="bob")
    with monkeypatch.context() as patch:
        patch.setattr(deployment, "share", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deployment_request.decide(gated, request.id, by="eve")
    assert deployment_request.get(gated.database, request.id).status == "waiting"
    deployment_request.keep(gated)
    assert deployment_request.get(gated.database, request.id).status == "done"
    assert generation.deployment(gated.database, "calc").desired == single("v1")


def test_other_systems_are_asked_once_while_they_take_their_time(
    gated: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(gated, single("v1"))
    deployment_request.decide(gated, request.id, by="bob")
    gates: list[str] = []

    def gate(*_: Any, id_: str, **__: Any) -> None:
        gates.append(id_)
        deployment_request.keep(gated)  # what is done again and again, meanwhile

    monkeypatch.setattr(deployment_hooks, "ask", gate)
    assert deployment_request.decide(gated, request.id, by="eve").status == "done"
    assert gates == [request.id]


class _Listener(BaseHTTPRequestHandler):
    status = 200
    said: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.said.append(json.loads(body))
        self.send_response(self.status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"no" if self.status >= 300 else b"ok")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[str]:
    _Listener.said.clear()
    _Listener.status = 200
    with HTTPServer(("127.0.0.1", 0), _Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/gate"
        server.shutdown()
        thread.join()


def test_other_systems_are_asked_before_and_told_after(tmp_path: Path, listener: str) -> None:
    mesh = Mesh(tmp_path / "mesh")
    more = f"  staging: {{before_deploy: ['{listener}'], after_deploy: ['{listener}']}}\n"
    mesh.write("mesh.yaml", GATED + more)
    workspace = with_versions(mesh, 1)
    _Listener.status = 409
    with pytest.raises(Conflict, match=r"was not deployed to 'staging': .* answered 409: no"):
        deployment_request.ask(workspace, "calc", single("v1"), environment="staging", by="ann")
    assert generation.find(workspace.database, "calc", "staging") is None
    _Listener.status = 200
    deployment_request.ask(workspace, "calc", single("v1"), environment="staging", by="ann")
    assert _Listener.said[-1] == {
        "event": "before-deploy",
        "by": "ann",
        "service": "calc",
        "environment": "staging",
        "version": "v1",
        "traffic": single("v1").as_plain(),
    }
    found = generation.deployment(workspace.database, "calc", "staging")
    generation.activate(
        workspace.database,
        "calc",
        single("v1"),
        environment="staging",
        noted=lambda cx: deployment_hooks.tell(cx, workspace.settings, found),
    )
    hooks = deployment_hooks.DeploymentHooks(workspace)
    hooks.start()
    for _ in range(200):
        if _Listener.said[-1]["event"] == "after-deploy":
            break
        threading.Event().wait(0.05)
    hooks.stop()
    assert _Listener.said[-1]["event"] == "after-deploy"
    workspace.database.close()


def run(workspace: Workspace, *args: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["--mesh", str(workspace.settings.folder), "service", *args])
    assert done.exit_code == code, done.output
    return f"{done.output}{done.exception or ''}"


def test_a_package_goes_to_another_mesh_that_trusts_this_one(
    calc: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "calc.tar"
    told = run(calc, "export", "calc", str(file), "--version", "v2")
    key = public_key(calc.settings)
    assert f"trusted_keys: [{key}]" in told
    assert "is there already" in run(calc, "import", "calc", str(file))
    other = Mesh(tmp_path / "other")
    fill(other)
    other.sales("services/calc.yaml", SERVICE)
    other.sales("functions/who.py", "def who() -> dict:\n    return {}\n")
    workspace = opened(other)
    apply_plan(workspace)
    assert "does not trust" in run(workspace, "import", "calc", str(file), code=1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
        assert "has 5 bytes left" in run(workspace, "import", "calc", str(file), code=1)
    other.write("mesh.yaml", f"name: test\nwarehouse: {{threads: 1}}\ntrusted_keys: ['{key}']\n")
    assert "calc v2 imported" in run(workspace, "import", "calc", str(file))
    assert deployment.newest(workspace, "calc") == "v2"
    file.write_bytes(file.read_bytes().replace(b"'version': 2", b"'version': 9"))
    take_in, met = package_import.take_in, list[Path]()

    def looked_at(archive: Path, **more: Any) -> Any:
        met.extend((workspace.settings.state_folder / "imports").iterdir())
        return take_in(archive, **more)

    monkeypatch.setattr(package_import, "take_in", looked_at)
    assert "is damaged" in run(workspace, "import", "calc", str(file), code=1)
    assert met == []  # nor would anything be left if the process ended here
    assert "has no version 'v7'" in run(calc, "export", "calc", str(file), "--version", "v7", code=1)
    workspace.database.close()


def test_the_command_line(gated: Workspace, tmp_path: Path) -> None:
    assert "waits for approval" in run(gated, "deploy", "calc", "--note", "please")
    (waiting,) = json.loads(run(gated, "requests", "--json"))
    assert (waiting["note"], waiting["approvals_wanted"]) == ("please", 2)
    assert "0 of 2 approvals" in run(gated, "requests", "calc")
    assert "may not approve" in run(gated, "approve", waiting["id"], code=1)
    assert "is withdrawn" in run(gated, "cancel", waiting["id"])
    assert "no deployment waits" in run(gated, "requests")
    # who asks and who agrees is whose key it is
    access = lake_access(gated.settings, gated.database)
    people = ("ann", "bob", "eve", "zoe")
    key = {name: ("--key", Office.key_file(access, name, "Developers", tmp_path)) for name in people}
    assert "'zoe' may not deploy" in run(gated, "deploy", "calc", *key["zoe"], code=1)
    assert "waits for approval" in run(gated, "deploy", "calc", "--version", "v1", *key["ann"])
    (asked,) = json.loads(run(gated, "requests", "--json", *key["bob"]))
    assert asked["requested_by"] == "ann"
    assert "asked for it, so somebody else decides" in run(gated, "approve", asked["id"], *key["ann"], code=1)
    assert "1 of 2 approvals" in run(gated, "approve", asked["id"], *key["bob"])
    assert "is carried out" in run(gated, "approve", asked["id"], *key["eve"])
    assert generation.deployment(gated.database, "calc").desired == single("v1")
    with gated.database.write() as connection:
        generation.withdraw(connection, "calc")
    told = run(
        gated, "traffic", "calc", "v1=75%", "v2=0.25", "--sticky", "--shadow", "v2=1", "-e", "test", code=1
    )
    assert "'v2' is named twice" in told
    told = run(gated, "traffic", "calc", "v1=75%", "v2=0.25", "--sticky", "-e", "test")
    assert "starts with `tulle up`" in told
    shown = run(gated, "traffic", "calc")
    assert "v1 75%, v2 25% (sticky)" in shown
    assert "test" in shown
    (found,) = json.loads(run(gated, "traffic", "calc", "--json"))
    assert found["desired"]["shares"] == [
        {"generation": "v1", "share": 0.75},
        {"generation": "v2", "share": 0.25},
    ]
    assert "2 to 4 workers" in run(
        gated, "workers", "calc", "--at-least", "2", "--at-most", "4", "-e", "test"
    )
    assert "answers 503" in run(gated, "disable", "calc", "-e", "test")
    run(gated, "enable", "calc", "-e", "test")
    assert "ends on 2099-01-01" in run(gated, "deprecate", "calc", "--sunset", "2099-01-01", "-e", "test")
    assert "not in the future" in run(
        gated, "deprecate", "calc", "--sunset", "2001-01-01", "-e", "test", code=1
    )
    assert "goes on" in run(gated, "deprecate", "calc", "--undo", "-e", "test")
    assert "'v1=x' is no share" in run(gated, "traffic", "calc", "v1=x", code=1)
    assert "which is not 1" in run(gated, "traffic", "calc", "v1=10%", "-e", "test", code=1)
    assert "nothing to remove" in run(gated, "clean", "--dry-run")
    assert "is withdrawn" in run(gated, "withdraw", "calc", "-e", "test", "--yes")
    assert "is not deployed anywhere" in run(gated, "traffic", "calc")
