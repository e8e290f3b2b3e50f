"""Watches over a mesh: told once as broken and once as good, over restarts, muted, resolved, and by command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.control.conftest import opened
from tests.control.test_deployments import active, with_versions
from tests.observe.lines import as_read, line
from tests.pipeline.conftest import Mesh

from tulle.cli import connect
from tulle.cli.main import cli
from tulle.control import api_lives, watches
from tulle.control.alerts import compose
from tulle.control.apply import apply_plan
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound
from tulle.observe import incidents
from tulle.observe.calls import Calls, Place
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally
from tulle.sdk.insight import InsightClient
from tulle.serving.traffic import single
from tulle.state import tasks
from tulle.state.db import now
from tulle.state.tables import api_versions

MESH = """
name: test
warehouse: {threads: 1, memory: 256MB}
alerts:
  ops: {url: 'http://127.0.0.1:9/hook'}
watches:
  calc-fails: {service: calc, measure: errors, above: 0.1, minutes: 1, periods: 2, severity: critical}
"""
START = 1_800_014_400.0


class Watched:
    """A mesh with the service `calc`, and a clock that goes on with what is asked."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.calls = Calls(workspace.settings.state_folder)
        self.at = START
        incidents.follow(workspace.settings, workspace.database)
        self.pass_minute(0)  # the first judging begins here

    def pass_minute(self, failed: int, of: int = 10, service: str = "calc", **more: Any) -> list[str]:
        """A minute in which `failed` of so many failed; the messages that are sent for it."""
        counting = Tally(Operations({}, "/"))
        for number in range(of):
            said = {"code": 500, **more} if number < failed else {}
            counting.count(as_read([line(self.at + 1, service=service, **said)]))
        if of:
            self.calls.add(counting.taken(), Place("f", 1))
        self.at += 60
        watches.judge(self.workspace, self.calls, self.at + watches.LATE_SECONDS)
        return self.told()

    def told(self) -> list[str]:
        settings, database = self.workspace.settings, self.workspace.database
        while incidents.follow(settings, database):
            pass
        found: list[str] = []
        while tasks.run_one(database, {incidents.TASK: lambda running: _note(found, running)}, "me"):
            pass
        return found


def _note(found: list[str], running: Any) -> dict[str, Any]:
    found.append(str(running.task.request["event"]))
    return {}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    mesh = Mesh(tmp_path / "mesh")
    mesh.write("mesh.yaml", MESH)
    workspace = with_versions(mesh, 1)
    active(workspace, single("v1"))
    made = Watched(workspace)
    yield made
    made.calls.close()
    workspace.database.close()


def test_it_is_told_once_as_broken_and_once_as_good(watched: Watched) -> None:
    assert [watched.pass_minute(5) for _ in range(4)] == [[], ["calls"], [], []]
    (incident,) = incidents.recent(watched.workspace.database, is_open=True)
    assert (incident.cause, incident.about, incident.severity) == ("calls", "calc-fails/calc", "critical")
    message = compose(watched.workspace, incident, "calls")
    assert message.title == "sales: critical: calc-fails of calc"
    assert message.data["link"].endswith("/insight/apis/calc")
    assert (message.data["watch"], message.data["service"]) == ("calc-fails/calc", "calc")
    assert compose(watched.workspace, incident, "recovered").title == "sales: good again: calc-fails of calc"
    assert message.text.startswith("calc: share of errors is 50.00%, above 10.00% for 2 × 1 min")
    assert message.data["severity"] == "critical"
    assert [watched.pass_minute(0) for _ in range(3)] == [["recovered"], [], []]
    assert incidents.recent(watched.workspace.database, is_open=True) == ()


def test_nothing_is_told_twice_when_it_is_judged_again(watched: Watched) -> None:
    watched.pass_minute(5)
    assert watched.pass_minute(5) == ["calls"]
    again = Watched.__new__(Watched)
    again.workspace, again.calls, again.at = (
        watched.workspace,
        Calls(watched.workspace.settings.state_folder),
        watched.at,
    )
    for _ in range(3):
        watches.judge(again.workspace, again.calls, again.at + watches.LATE_SECONDS)
    assert again.told() == []
    assert again.pass_minute(0) == ["recovered"]
    again.calls.close()


def test_no_data_neither_breaks_nor_mends(watched: Watched) -> None:
    watched.pass_minute(5)
    assert watched.pass_minute(0, of=0) == []
    assert watched.pass_minute(5) == ["calls"]
    assert [watched.pass_minute(0, of=0) for _ in range(5)] == [[]] * 5
    (told,) = watches.as_plain(watched.workspace, watches.find(watched.workspace, "calc-fails"))["services"]
    assert (told["state"], told["unknown"]) == ("broken", 5)
    assert watched.pass_minute(0) == ["recovered"]


def test_a_rate_of_zero_is_told_only_where_the_gateway_ran(watched: Watched) -> None:
    what = {"measure": "rate", "below": 0.01, "minutes": 1, "periods": 2}
    watches.add(watched.workspace, "silent", what)
    watched.pass_minute(0)
    assert [watched.pass_minute(0, of=0) for _ in range(4)] == [[]] * 4
    said: list[list[str]] = []
    for _ in range(3):
        watched.calls.note_alive(watched.at)
        said.append(watched.pass_minute(0, of=0))
    assert said == [[], ["calls"], []]


def test_while_it_is_muted_nothing_is_told_and_then_what_is_broken_still(watched: Watched) -> None:
    watches.mute(watched.workspace, "calc-fails", now() + 3600)
    with watched.workspace.database.write() as cx:  # the clock of this test is another one
        cx.execute(watches.table.update().values(muted_until=START + 400))
    assert [watched.pass_minute(5) for _ in range(4)] == [[]] * 4
    with watched.workspace.database.write() as cx:
        cx.execute(watches.table.update().values(muted_until=START + 60))
    assert watched.pass_minute(5) == ["calls"]
    assert watches.mute(watched.workspace, "calc-fails", None).muted_until is None
    with pytest.raises(Invalid, match="a time to come"):
        watches.mute(watched.workspace, "calc-fails", 5.0)


def test_what_was_told_is_resolved_by_hand_and_told_again_when_it_goes_on(watched: Watched) -> None:
    watched.pass_minute(5)
    assert watched.pass_minute(5) == ["calls"]
    assert watches.resolve(watched.workspace, "calc-fails", by="ann") == 1
    assert watched.told() == ["recovered"]
    assert [watched.pass_minute(5) for _ in range(2)] == [[], ["calls"]]
    assert watches.resolve(watched.workspace, "calc-fails") == 1


def test_a_mesh_that_was_away_judges_what_was_asked_meanwhile(watched: Watched) -> None:
    counting = Tally(Operations({}, "/"))
    counting.count(as_read([line(watched.at + 60 * n + 1, service="calc", code=500) for n in range(30)]))
    watched.calls.add(counting.taken(), Place("f", 1))
    watched.at += 30 * 60
    watches.judge(watched.workspace, watched.calls, watched.at + watches.LATE_SECONDS)
    assert watched.told() == ["calls"]
    watched.at += 10 * 86_400
    watches.judge(watched.workspace, watched.calls, watched.at + watches.LATE_SECONDS)
    assert watched.told() == []


def test_watches_of_what_is_gone_are_closed(watched: Watched) -> None:
    watches.add(watched.workspace, "mine", {"above": 0.1, "minutes": 1, "periods": 1})
    watched.pass_minute(0)
    assert watched.pass_minute(5) == ["calls"]
    with pytest.raises(Conflict, match=r"stands in mesh\.yaml"):
        watches.remove(watched.workspace, "calc-fails")
    watches.remove(watched.workspace, "mine", by="ann")
    assert watched.told() == ["recovered"]
    with pytest.raises(NotFound):
        watches.find(watched.workspace, "mine")


def test_what_cannot_be_watched_is_refused(watched: Watched) -> None:
    workspace = watched.workspace
    with pytest.raises(NotFound, match="no API 'cal', nor such a service") as caught:
        watches.add(workspace, "a", {"above": 0.1, "service": "cal"})
    assert caught.value.hint == "did you mean 'calc'?"
    with pytest.raises(NotFound, match="no environment"):
        watches.add(workspace, "a", {"above": 0.1, "environment": "nowhere"})
    with pytest.raises(AlreadyExists, match=r"mesh\.yaml has a watch"):
        watches.add(workspace, "calc-fails", {"above": 0.1})
    watches.add(workspace, "a", {"above": 0.1})
    with pytest.raises(AlreadyExists):
        watches.add(workspace, "a", {"above": 0.2})
    with pytest.raises(NotFound) as missing:
        watches.mute(workspace, "calc-fail", None)
    assert missing.value.hint == "did you mean 'calc-fails'?"


EXT = "api: ext\nversions: [{version: v1, upstream: 'https://api.example.com', undeclared: allow, publish: true}]\n"


def put(watched: Watched, ext: str | None) -> None:
    """Apply the mesh with this API, or without it."""
    mine = Mesh(watched.workspace.settings.folder)
    if ext is None:
        (mine.folder / "products/shop/sales/apis/ext.yaml").unlink()
    else:
        mine.sales("apis/ext.yaml", ext)
    apply_plan(watched.workspace)


def test_an_api_that_no_service_of_the_mesh_answers_is_watched(watched: Watched) -> None:
    put(watched, EXT)
    watches.add(
        watched.workspace,
        "ext",
        {"service": "ext", "measure": "violations", "above": 1, "minutes": 1, "periods": 1},
    )
    watches.add(watched.workspace, "each", {"measure": "wrong", "above": 0.5, "minutes": 1, "periods": 1})
    watched.pass_minute(0)
    assert watched.pass_minute(10, service="ext", code=429, details="request_rate_limited") == ["calls"] * 2
    found = incidents.recent(watched.workspace.database, is_open=True)
    assert {(one.product, one.about) for one in found} == {("sales", "ext/ext"), ("sales", "each/ext")}
    assert "violations is 10 refused requests" in " ".join(one.message for one in found)
    (told,) = watches.as_plain(watched.workspace, watches.find(watched.workspace, "ext"))["services"]
    assert (told["service"], told["state"]) == ("ext", "broken")
    put(watched, None)  # it is taken out: what was told of it ends
    assert watched.pass_minute(0) == ["recovered"] * 2
    assert incidents.recent(watched.workspace.database, is_open=True) == ()


def test_retired_versions_and_drafts_are_not_watched(watched: Watched) -> None:
    put(watched, EXT.replace(", publish: true", ""))
    watches.add(watched.workspace, "ext", {"service": "ext", "above": 0.1, "minutes": 1, "periods": 1})

    def missing() -> str:
        return str(watches.as_plain(watched.workspace, watches.find(watched.workspace, "ext"))["missing"])

    assert missing().startswith("no service or API 'ext' answers in environment 'prod'")
    api_lives.publish(watched.workspace, "ext", "v1")
    assert missing() == ""
    assert watched.pass_minute(10, service="ext") == ["calls"]
    with watched.workspace.database.write() as cx:
        cx.execute(api_versions.update().values(status="retired"))
    assert watched.pass_minute(10, service="ext") == ["recovered"]


TWO = """
api: ext
versions:
- {version: v1, upstream: 'https://api.example.com', undeclared: allow, publish: true}
- {version: v2, upstream: 'https://api.example.com', undeclared: allow, publish: true, path: /ext/v2}
"""
OFTEN = {"above": 0.4, "minutes": 1, "periods": 1}


def test_a_watch_on_a_version_is_about_nothing_else_and_ends_with_it(watched: Watched) -> None:
    put(watched, TWO)
    watches.add(watched.workspace, "second", {"service": "ext", "version": "v2", **OFTEN})
    refused = {"measure": "violations", "above": 1, "minutes": 1, "periods": 1}
    watches.add(watched.workspace, "limits", {"service": "ext", "version": "v2", **refused})
    watched.pass_minute(0)
    limited = {"service": "ext", "code": 429, "details": "request_rate_limited"}
    assert watched.pass_minute(10, service="ext", version="v1") == []
    assert watched.pass_minute(10, version="v1", **limited) == []
    assert watched.pass_minute(10, service="ext", version="v2") == ["calls"]
    assert sorted(watched.pass_minute(10, version="v2", **limited)) == ["calls", "recovered"]
    (found,) = incidents.recent(watched.workspace.database, is_open=True)
    assert found.message.startswith("ext v2: violations is 10 refused requests")
    with watched.workspace.database.write() as cx:
        cx.execute(api_versions.update().where(api_versions.c.version == "v2").values(status="retired"))
    assert watched.pass_minute(10, service="ext", version="v2") == ["recovered"]
    missing = watches.missing_of(watched.workspace, watches.known(watched.workspace))["second"]
    assert missing == ("'ext' has no version 'v2' that answers in environment 'prod': known: v1")
    with pytest.raises(NotFound, match="no version 'v3' of an API 'ext'") as caught:
        watches.add(watched.workspace, "third", {"service": "ext", "version": "v3", **OFTEN})
    assert caught.value.hint == "known: v1, v2"


def test_a_watch_on_a_generation_is_about_nothing_else(watched: Watched) -> None:
    watches.add(watched.workspace, "mine", {"service": "calc", "generation": "v1", **OFTEN})
    watched.pass_minute(0)
    assert watched.pass_minute(10, of=30, generation="v2") == []
    assert watched.pass_minute(0, of=30) == []
    assert "calls" in watched.pass_minute(10, generation="v1")
    with pytest.raises(NotFound, match=r"no generation 'v9' of 'calc' is deployed") as caught:
        watches.add(watched.workspace, "other", {"service": "calc", "generation": "v9", **OFTEN})
    assert caught.value.hint == "known: v1"


def test_a_generation_of_the_service_behind_an_api_is_one_of_the_api(watched: Watched) -> None:
    bound = "api: ext\nversions: [{version: v1, service: calc, publish: true}]\n"
    put(watched, bound)
    watches.add(watched.workspace, "behind", {"service": "ext", "generation": "v1", **OFTEN})
    watched.pass_minute(0)
    assert watched.pass_minute(10, service="ext", version="v1", generation="v1") == ["calls"]
    assert watches.missing_of(watched.workspace, watches.known(watched.workspace))["behind"] == ""


def test_a_watch_of_mesh_yaml_that_watches_nothing_says_so(watched: Watched) -> None:
    watched.workspace.database.close()
    mesh = Mesh(watched.workspace.settings.folder)
    named = MESH.replace("service: calc,", "service: clac,")
    mesh.write(
        "mesh.yaml",
        named
        + "  gone: {service: calc, environment: nowhere, above: 0.1}\n"
        + "  old: {service: calc, generation: v2, above: 0.1}\n",
    )
    watched.workspace = opened(mesh)
    found = watches.missing_of(watched.workspace, watches.known(watched.workspace))
    with connect.mesh_client(watched.workspace.settings.folder) as client:
        told = {one["name"]: one["missing"] for one in InsightClient(client).watches()}
    assert told == found
    assert found["calc-fails"] == (
        "no service or API 'clac' answers in environment 'prod': did you mean 'calc'?"
    )
    assert "no environment 'nowhere'" in found["gone"]
    assert found["old"] == ("no generation 'v2' of 'calc' is deployed in environment 'prod': known: v1")


def test_the_commands(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect.mesh_client(watched.workspace.settings.folder) as client:
        monkeypatch.setattr(connect, "mesh_client", lambda _: nullcontext(client))
        _command(watched)


def _command(watched: Watched) -> None:
    def run(*argv: str, code: int = 0) -> str:
        folder = str(watched.workspace.settings.folder)
        done = CliRunner().invoke(cli, ["--mesh", folder, "insight", "watch", *argv])
        assert done.exit_code == code, done.output or done.exception
        return done.output or str(getattr(done.exception, "as_dict", dict)())

    assert "p99 of calc above 50 for 3 × 5 min" in run(
        "add", "slow", "--service", "calc", "--measure", "p99", "--above", "50"
    )
    assert "needs either above or below" in run("add", "other", code=1)
    assert "rate of calc v1 below 1 for" in run(
        "add", "few", "--service", "calc", "--generation", "v1", "--measure", "rate", "--below", "1"
    )
    assert "is of no service" in run("add", "other", "--version", "v1", "--above", "0.1", code=1)
    listed = run("list")
    assert "calc-fails" in listed
    assert "mesh.yaml" in listed
    assert "watches nothing" not in listed
    assert "tells nothing for 2 hours" in run("mute", "slow", "2 hours")
    (slow,) = (one for one in json.loads(run("list", "--json")) if one["name"] == "slow")
    assert slow["muted_until"] > now()
    assert "tells again" in run("mute", "slow", "--off")
    assert "0 closed" in run("resolve", "slow")
    assert "is removed" in run("remove", "slow")
    assert "did you mean" in run("remove", "calc-fail", code=1)
    run("mute", "slow", code=2)
