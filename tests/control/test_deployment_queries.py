"""Test queries after a deployment: who is asked when, what is told, what goes back; on real workers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from tests.control.conftest import fill, opened
from tests.pipeline.conftest import Mesh

from tulle.control import deployment, deployment_queries, deployment_request, node_admin, release
from tulle.control.apply import apply_plan
from tulle.control.deployment_queries import DeploymentQueries, ask_running, begin, saved_in
from tulle.control.workspace import Workspace
from tulle.deploy.generations import mounted_of
from tulle.deploy.local import Mounted
from tulle.errors import Conflict, Invalid, NotFound, Unavailable
from tulle.events import GENERATION_TESTED
from tulle.observe import incidents
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.serving.loaded import Verdict
from tulle.serving.tested import FailedQuery, Tested
from tulle.serving.traffic import Traffic, preloading, single, split
from tulle.state import log, tasks
from tulle.state.tables import tasks as task_rows

SERVICE = """
service: calc
endpoints:
- name: who
  type: function
  file: who.py
  test_queries:
  - {name: low, arguments: {}, expect: {version: 1}}
  - {name: any, arguments: {}}
"""
MESH = """
name: test
warehouse: {threads: 1, memory: 256MB}
hook_addresses: ['127.0.0.1']
environments:
  test: {fallback: prod, stage: test}
  prod: {stage: production, after_deploy: ['http://127.0.0.1:9/told']}
"""


class Board:
    """A mesh whose workers are real processes, and whose deployments come into force when the test says so."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.it = DeploymentQueries(workspace)
        self.workers: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def start(self, version: str, environment: str = "") -> None:
        found = Deployment("calc", environment, "sales", single(version), None, None, "starting", "", 0.0)
        one = mounted_of(self.workspace.settings, found)[version]
        socket = self.workspace.settings.state_folder / one.socket(0)
        socket.parent.mkdir(parents=True, exist_ok=True)
        folder = generation.folder_of(self.workspace.settings, "calc", version)
        command = [sys.executable, "-m", "tulle.serving.worker", "--package-folder", str(folder)]
        self.workers[version, environment] = subprocess.Popen([*command, "--socket", str(socket)])

    def ready(self) -> None:
        deadline = time.monotonic() + 30
        for version, environment in self.workers:
            found = Deployment("calc", environment, "sales", single(version), None, None, "starting", "", 0.0)
            one = mounted_of(self.workspace.settings, found)[version]
            while True:
                with contextlib.suppress(Conflict):
                    deployment_queries._asked(self.workspace, one, 1, 5)
                    break
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def end(self) -> None:
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            process.wait(10)

    def deploy(self, traffic: Traffic, way: str = "", environment: str = "") -> Deployment:
        """Put a traffic in force as the switchboard does, and ask what is to be asked then."""
        deployment.share(self.workspace, "calc", traffic, environment=environment or None, test_queries=way)
        return self.settle(environment)

    def settle(self, environment: str = "") -> Deployment:
        database, settings = self.workspace.database, self.workspace.settings
        wanted = generation.deployment(database, "calc", environment).desired
        saved = saved_in(self.workspace, "calc", wanted.mounted)
        generation.activate(
            database,
            "calc",
            wanted,
            environment=environment,
            noted=lambda cx: begin(cx, settings, "calc", environment, saved),
        )
        return self.found(environment)

    def ask(self) -> int:
        """Do every task that waits; how many there were."""
        handlers, asked = {deployment_queries.TASK: self.it.ask}, 0
        while tasks.run_one(self.workspace.database, handlers, "test"):
            asked += 1
        return asked

    def found(self, environment: str = "") -> Deployment:
        return generation.deployment(self.workspace.database, "calc", environment)

    def status(self, environment: str = "") -> Mapping[str, str]:
        return {version: one.status for version, one in self.found(environment).tested.items()}

    def events(self) -> list[Mapping[str, object]]:
        found = log.read(self.workspace.database, subject="calc")
        return [one.data for one in found if one.kind == GENERATION_TESTED]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """Versions v1, whose test queries pass, v2, of whose two one fails, and v3, which has none."""
    mesh = Mesh(tmp_path_factory.mktemp("tested") / "mesh")
    fill(mesh)
    mesh.write("mesh.yaml", MESH)
    workspace = opened(mesh)
    for number in (1, 2, 3):
        mesh.sales("functions/who.py", f"def who() -> dict:\n    return {{'version': {number}}}\n")
        mesh.sales("services/calc.yaml", SERVICE.partition("  test_queries")[0] if number == 3 else SERVICE)
        apply_plan(workspace)
        made = release.build_package(workspace, "calc", allow_failing=True)[0]
        generation.unpack(made, workspace.settings)
    board = Board(workspace)
    try:
        for version in ("v1", "v2"):
            board.start(version)
        board.start("v2", "test")
        board.ready()
        yield board
    finally:
        board.end()
        workspace.database.close()


@pytest.fixture
def board(running: Board) -> Iterator[Board]:
    """Nothing is deployed."""
    yield running
    with running.workspace.database.write() as cx:
        generation.withdraw(cx, "calc")
        cx.execute(task_rows.delete())
    incidents.follow(running.workspace.settings, running.workspace.database)
    assert not incidents.recent(running.workspace.database, product="sales", is_open=True)


def test_what_comes_to_answer_is_asked_and_how_it_went_is_kept(board: Board) -> None:
    assert board.deploy(single("v1")).tested["v1"].status == "waiting"
    assert board.ask() == 1
    (kept,) = board.found().tested.values()
    assert (kept.status, kept.asked, kept.passed, kept.saved) == ("passed", 2, 2, 2)
    assert str(kept) == "2 of 2 test queries pass"
    plain = deployment.as_plain(board.workspace.settings, board.found())
    assert plain["tested"]["v1"]["told"] == "2 of 2 test queries pass"
    assert board.events()[-1]["message"] == "2 of 2 test queries pass"
    (listed,) = (one for one in node_admin.generations(board.workspace, "calc") if one["generation"] == "v1")
    assert listed["testQueries"]["passed"] == 2


def test_what_fails_is_told_and_answers_on(board: Board) -> None:
    board.deploy(single("v1"))
    board.ask()
    board.deploy(single("v2"), "tell")
    assert board.ask() == 1
    found = board.found()
    told = found.tested["v2"]
    assert (found.active, found.desired, told.status) == (single("v2"), single("v2"), "failed")
    assert told.failed == (FailedQuery("who", "low", "version is 2, expected 1"),)
    assert "`tulle service rollback calc`" in str(told)
    with board.workspace.database.read() as cx:
        said = [row.request["said"] for row in cx.execute(select(task_rows)).all() if "url" in row.request]
    (hooked,) = (one for one in said if one["event"] == "test-queries-failed")
    assert (hooked["generation"], hooked["environment"]) == ("v2", "prod")
    incidents.follow(board.workspace.settings, board.workspace.database)


def test_what_fails_goes_back_where_that_is_wanted_and_says_why(board: Board) -> None:
    board.deploy(single("v1"))
    board.ask()
    board.deploy(single("v2"))  # `stage: production` goes back
    assert board.ask() == 1
    assert board.found().desired == single("v1")
    assert "it goes back to v1" in str(board.found().tested["v2"])
    after = board.settle()
    assert (after.active, after.test_queries) == (single("v1"), "tell")
    assert after.tested["v2"].status == "failed"  # what was left is told of on
    board.ask()
    assert board.status() == {"v2": "failed", "v1": "passed"}
    assert board.found().desired == single("v1")


def test_where_nothing_answered_before_it_is_told_that_it_stays(board: Board) -> None:
    board.deploy(single("v2"))
    board.ask()
    assert board.found().active == single("v2")
    assert "no earlier active version" in str(board.found().tested["v2"])


def test_a_generation_that_fails_never_leads_to_and_fro(board: Board) -> None:
    board.deploy(single("v2"), "tell")
    board.ask()
    board.deploy(single("v1"))
    board.ask()
    deployment.rollback(board.workspace, "calc")
    board.settle()
    board.ask()
    assert (board.found().desired, board.status()["v2"]) == (single("v2"), "failed")


def test_what_is_preloaded_is_asked_before_it_is_given_requests_and_not_again(board: Board) -> None:
    board.deploy(single("v2"), "skip")
    assert board.status() == {"v2": "skipped"}
    board.deploy(preloading(single("v2"), "v1"))
    assert board.ask() == 2  # v2 was not asked yet
    assert board.status() == {"v1": "passed", "v2": "failed"}
    board.deploy(split({"v2": 0.5, "v1": 0.5}))
    assert board.ask() == 1  # what failed is asked again, and nothing else
    assert board.found().active == split({"v2": 0.5, "v1": 0.5})


def test_a_preloaded_generation_that_fails_is_given_no_requests(board: Board) -> None:
    board.deploy(single("v1"))
    board.deploy(preloading(single("v1"), "v2"))
    board.ask()
    assert board.found().desired == preloading(single("v1"), "v2")  # beside, it harms nobody
    with pytest.raises(Conflict, match="'v2' of 'calc' is given no requests: 1 of 2 test queries fail"):
        deployment.share(board.workspace, "calc", single("v2"))
    assert board.deploy(single("v2"), "tell").active == single("v2")


def test_none_are_asked_where_there_are_none_or_nobody_wants_it(board: Board) -> None:
    board.deploy(single("v3"))
    assert (board.status(), board.ask()) == ({"v3": "none"}, 0)
    board.deploy(single("v1"), "skip")
    assert (board.status(), board.ask()) == ({"v3": "none", "v1": "skipped"}, 0)
    with pytest.raises(Invalid, match="test queries are to 'never', expected one of: tell, rollback, skip"):
        deployment.share(board.workspace, "calc", single("v3"), test_queries="never")


def test_workers_may_take_their_time_to_start_and_are_not_gone_back_from(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart nothing answers for a while; whatever a generation could not be asked it has not failed."""
    board.deploy(single("v2"), "skip", environment="test")
    board.deploy(single("v1"), "rollback", environment="test")  # whose worker does not run there
    monkeypatch.setattr(deployment_queries, "AGAIN", 0.0)
    with board.workspace.database.write() as cx:
        cx.execute(task_rows.update().values(created_at=1.0))  # the mesh was down until now
    handlers = {deployment_queries.TASK: board.it.ask}
    for _ in range(5):
        assert tasks.run_one(board.workspace.database, handlers, "test")
    assert board.found("test").tested["v1"].status == "waiting"
    monkeypatch.setattr(deployment_queries, "PATIENCE", 0.0)
    assert board.ask() == 1
    found = board.found("test")
    assert (found.active, found.desired, found.tested["v1"].status) == (single("v1"), single("v1"), "unasked")
    told = "its test queries could not be asked: generation 'v1' of service 'calc' does not answer"
    assert str(found.tested["v1"]).startswith(told)
    assert board.events()[-1]["all_pass"] is False
    board.deploy(preloading(single("v1"), "v2"), "tell", environment="test")
    assert board.found("test").tested["v1"].status == "waiting"  # asked again with the next change


def test_a_generation_that_is_slow_is_not_gone_back_from(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.deploy(single("v1"))
    board.ask()
    board.deploy(single("v2"))
    monkeypatch.setattr(deployment_queries, "SECONDS", 0.0)
    assert board.ask() == 1
    found = board.found()
    assert (found.active, found.desired) == (single("v2"), single("v2"))
    told = "its test queries could not be asked: there was no time for more when 0 s were over"
    assert str(found.tested["v2"]) == told
    with board.workspace.database.read() as cx:
        said = [row.request["said"] for row in cx.execute(select(task_rows)).all() if "url" in row.request]
    assert "test-queries-unasked" in {one["event"] for one in said}
    with pytest.raises(Unavailable, match="answered none of its 2 test queries within 0 s"):
        monkeypatch.setattr(deployment_queries, "SECONDS_BY_HAND", 0.0)
        ask_running(board.workspace, "calc", "v2")
    incidents.follow(board.workspace.settings, board.workspace.database)


def test_what_was_answered_in_time_counts(board: Board, meanwhile: Meanwhile) -> None:
    board.deploy(single("v1"))
    meanwhile(lambda verdicts: verdicts[:1])
    assert board.ask() == 1
    told = "1 of 1 test queries pass, of 2 that are saved; there was no time for more when 20 s were over"
    assert str(board.found().tested["v1"]) == told


# ── what happens meanwhile ───────────────────────────────────────────────────────────────────────────────

Verdicts = tuple[Verdict, ...]
Meanwhile = Callable[[Callable[[Verdicts], object]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Has something happen when a generation has answered its test queries, once; other verdicts, if it gives some."""
    usual, waits = deployment_queries._asked, list[Callable[[Verdicts], object]]()

    def asked(workspace: Workspace, one: Mounted, most: int, seconds: float) -> Verdicts:
        found = usual(workspace, one, most, seconds)
        given = waits.pop()(found) if waits else None
        return given if isinstance(given, tuple) else found

    monkeypatch.setattr(deployment_queries, "_asked", asked)
    return waits.append


def test_what_fails_is_told_however_quickly_it_is_gone_back_from(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = deployment.rollback

    def at_once(workspace: Workspace, name: str, **how: Any) -> Deployment:
        back = usual(workspace, name, **how)
        board.settle()
        return back

    board.deploy(single("v1"))
    board.ask()
    board.deploy(single("v2"))
    before = sum(one["status"] == "failed" for one in board.events())
    monkeypatch.setattr(deployment, "rollback", at_once)
    board.ask()
    found = board.found()
    assert (found.active, found.tested["v2"].status) == (single("v1"), "failed")
    told = [one for one in board.events() if one["status"] == "failed"]
    assert len(told) == before + 1
    assert "it goes back to v1" in str(told[-1]["message"])
    incidents.follow(board.workspace.settings, board.workspace.database)


def test_a_way_back_that_is_refused_is_told(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(workspace: Workspace, name: str, **how: Any) -> Deployment:
        raise Conflict("somebody else was quicker")

    board.deploy(single("v1"))
    board.ask()
    board.deploy(single("v2"))
    monkeypatch.setattr(deployment, "rollback", refused)
    board.ask()
    assert str(board.found().tested["v2"]).endswith("it is not gone back from: somebody else was quicker")
    incidents.follow(board.workspace.settings, board.workspace.database)
    deployment_queries.record(board.workspace, "calc", "", {"v2": Tested("passed", 0.0, 2, 2, 2)})
    incidents.follow(board.workspace.settings, board.workspace.database)


def test_a_rollout_that_begins_while_queries_are_asked_is_not_taken_back(
    board: Board, meanwhile: Meanwhile
) -> None:
    board.deploy(single("v1"))
    board.ask()
    board.deploy(single("v2"))
    meanwhile(lambda _: deployment.share(board.workspace, "calc", single("v3")))
    board.ask()
    found = board.found()
    assert (found.active, found.desired) == (single("v2"), single("v3"))
    assert str(found.tested["v2"]).endswith("it is not gone back from: 'v3' is wanted by now")
    board.settle()
    incidents.follow(board.workspace.settings, board.workspace.database)


def test_what_was_replaced_before_it_was_asked_is_asked_when_it_comes_back(
    board: Board, meanwhile: Meanwhile
) -> None:
    board.deploy(single("v1"))
    meanwhile(lambda _: board.deploy(single("v3"), "tell"))
    assert board.ask() == 1
    assert board.status() == {"v3": "none"}
    board.deploy(single("v1"))
    assert board.status()["v1"] == "waiting"
    assert board.ask() == 1
    assert board.status()["v1"] == "passed"


def test_what_is_withdrawn_or_has_ended_meanwhile_is_not_told_of(board: Board, meanwhile: Meanwhile) -> None:
    board.deploy(single("v2"))
    meanwhile(lambda _: deployment.withdraw(board.workspace, "calc"))
    assert board.ask() == 1
    assert generation.find(board.workspace.database, "calc") is None
    board.deploy(single("v2"))
    deployment.end(board.workspace, "calc", sunset_at=1.0)
    assert board.ask() == 1
    assert board.status() == {"v2": "skipped"}


def test_an_approved_deployment_is_asked_as_it_was_wanted(board: Board) -> None:
    settings = board.workspace.settings
    prod = replace(settings.environments["prod"], approvers=("ann",), approvals=1)
    places = {**settings.environments, "prod": prod}
    gated = replace(board.workspace, settings=replace(settings, environments=places))
    asked = deployment_request.ask(gated, "calc", single("v1"), by="bob", test_queries="skip")
    assert isinstance(asked, deployment_request.Request)
    assert asked.test_queries == "skip"
    deployment_request.decide(gated, asked.id, by="ann")
    board.settle()
    assert board.status() == {"v1": "skipped"}


def test_what_is_withdrawn_meanwhile_is_not_asked(board: Board) -> None:
    board.deploy(single("v1"))
    deployment.withdraw(board.workspace, "calc")
    assert board.ask() == 1
    with pytest.raises(NotFound):
        board.found()


def test_an_incident_is_open_while_test_queries_of_what_runs_fail(board: Board) -> None:
    settings, database = board.workspace.settings, board.workspace.database
    incidents.follow(settings, database)
    board.deploy(single("v1"))
    board.deploy(single("v2"), "tell")
    board.ask()
    incidents.follow(settings, database)
    (opened_one,) = incidents.recent(database, product="sales", is_open=True)
    assert (opened_one.about, opened_one.environment) == ("test queries/calc", "main")
    assert opened_one.message.startswith("calc v2: 1 of 2 test queries fail: who, 'low'")
    deployment.rollback(board.workspace, "calc")
    board.settle()
    board.ask()
    incidents.follow(settings, database)
    assert not incidents.recent(database, product="sales", is_open=True)


@pytest.mark.parametrize("after", ["v3", "skipped", "canary"])
def test_an_incident_is_closed_when_what_failed_runs_no_more_and_nothing_is_asked(
    board: Board, after: str
) -> None:
    """As after a canary, beside which what answers passed long ago."""
    settings, database = board.workspace.settings, board.workspace.database
    board.deploy(single("v1"))
    board.ask()
    board.deploy(split({"v1": 0.9, "v2": 0.1}), "rollback" if after == "canary" else "tell")
    assert board.ask() == 1
    incidents.follow(settings, database)
    assert len(incidents.recent(database, product="sales", is_open=True)) == 1
    if after == "canary":
        board.settle()  # what it goes back to
    else:
        board.deploy(single("v3" if after == "v3" else "v1"), "skip" if after == "skipped" else "")
    assert board.ask() == 0
    incidents.follow(settings, database)
    assert not incidents.recent(database, product="sales", is_open=True)


# ── asked by hand ────────────────────────────────────────────────────────────────────────────────────────


def test_by_hand_the_environment_is_chosen_or_told(board: Board) -> None:
    board.deploy(single("v1"))
    board.deploy(single("v2"), environment="test")
    ask = board.workspace
    assert (ask_running(ask, "calc").environment, ask_running(ask, "calc").version) == ("prod", "v1")
    only_there = ask_running(ask, "calc", "v2")
    assert (only_there.environment, [one.passed for one in only_there.verdicts]) == ("test", [False, True])
    assert board.found("test").tested["v2"].status == "failed"  # it is kept
    board.deploy(single("v2"), "skip")
    assert ask_running(ask, "calc", "v2", environment="prod").verdicts[0].passed is False
    with ask.database.read() as cx:  # and no other system is told of it
        assert not [row for row in cx.execute(select(task_rows)).all() if "url" in row.request]
    assert ask_running(ask, "calc", environment="test").version == "v2"
    with pytest.raises(NotFound, match="generation 'v1' of service 'calc' does not run in 'test'"):
        ask_running(ask, "calc", "v1", environment="test")
    with pytest.raises(NotFound, match="no environment 'tset'"):
        ask_running(ask, "calc", environment="tset")


def test_by_hand_nothing_runs(board: Board) -> None:
    with pytest.raises(NotFound, match="no generation of service 'calc' runs"):
        ask_running(board.workspace, "calc")


def test_a_worker_tells_no_more_than_it_is_asked_for(board: Board) -> None:
    board.deploy(single("v1"))
    one = mounted_of(board.workspace.settings, board.found())["v1"]
    (verdict,) = deployment_queries._asked(board.workspace, one, 1, 5)
    assert (verdict.name, verdict.passed) == ("low", True)
    socket = board.workspace.settings.state_folder / one.socket(0)
    with deployment_queries._connected(socket, 5) as client:
        assert client.get("/testQueries").status_code == httpx.codes.BAD_REQUEST
        assert client.post("/testQueries").status_code == httpx.codes.METHOD_NOT_ALLOWED


def test_words_for_how_it_went() -> None:
    assert (
        str(Tested("passed", 0.0, 200, 200, 1000)) == "200 of 200 test queries pass, of 1000 that are saved"
    )
    unasked = Tested("unasked", 0.0, message="it does not answer")
    assert str(unasked) == "its test queries could not be asked: it does not answer"
    assert [Tested(one, 0.0).verb for one in ("failed", "passed")] == ["fail", ""]
