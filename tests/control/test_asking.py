"""Every change of the mesh names in the trail who asked for it, whichever command or call it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from tests.control.released import VERSIONED, Team
from tests.control.test_promotion import OPEN
from tests.control.test_schedules import DAILY, ROWS_OF_A_DAY
from tests.pipeline.conftest import SALES

from tulle.cli.connect import InProcess
from tulle.cli.main import cli
from tulle.pipeline.scheduler import Scheduler
from tulle.sdk.client import asking
from tulle.server.app import application
from tulle.server.token import read_token
from tulle.state import log

Door = tuple[httpx.Client, Team]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A mesh, and a client of its API with the mesh's token."""
    team = Team(tmp_path / "mesh", OPEN)
    settings = team.workspace.settings
    app = application(settings)
    headers = {"authorization": f"Bearer {read_token(settings)}"}
    with httpx.Client(transport=InProcess(app), base_url="http://127.0.0.1:8080", headers=headers) as http:
        yield http, team
    app.state.close()
    team.workspace.database.close()


def trail(team: Team) -> dict[str, str]:
    """The last actor of each kind of event."""
    return {entry.kind: entry.actor for entry in log.read(team.workspace.database, limit=10_000)}


def call(http: httpx.Client, method: str, path: str, body: object = None, by: str = "") -> None:
    answer = http.request(method, f"/mesh/v1{path}", json=body, headers=asking(by))
    assert answer.is_success, (path, answer.text)


def changes(http: httpx.Client, team: Team, by: str) -> None:
    """One of everything that is changed through the API."""
    timed = VERSIONED.replace("version: VERSION", "schedule: {cron: 0 4 * * *}")
    team.mesh.sales("product.yaml", timed.replace("what was sold", f"what was sold by {by}"))
    team.mesh.sales("transform/sales.sql", DAILY + ROWS_OF_A_DAY)
    call(http, "POST", "/apply", {}, by)
    Scheduler(team.workspace.settings, team.workspace.database).follow()
    call(http, "POST", "/schedules/sales/pause", {}, by)
    call(http, "POST", "/schedules/sales/resume", {}, by)
    days = {"product": "sales", "start": "2026-01-01", "end": "2026-01-03"}
    started = http.post("/mesh/v1/backfills", json=days, headers=asking(by)).json()["id"]
    call(http, "POST", f"/backfills/{started}/cancel", by=by)
    call(http, "PUT", "/connections/prod/shop", {"kind": "http", "address": "https://api.example.org"}, by)
    call(http, "DELETE", "/connections/prod/shop", by=by)
    call(http, "POST", "/applications", {"name": "till", "owner": "shop"}, by)
    call(http, "POST", "/applications/till/rotate", by=by)
    call(http, "DELETE", "/applications/till", by=by)
    call(http, "DELETE", "/products/features", by=by)


CHANGED = {
    "product.applied",
    "product.destroyed",
    "access.roles_changed",
    "schedule.paused",
    "schedule.resumed",
    "backfill.started",
    "backfill.cancelled",
    "connection.changed",
    "connection.removed",
    "application.registered",
    "application.rotated",
    "application.revoked",
}


@pytest.mark.parametrize(("by", "named"), [("", "admin"), ("Zoë Müller", "Zoë Müller")])
def test_the_trail_names_who_asked_through_the_api(door: Door, by: str, named: str) -> None:
    http, team = door
    changes(http, team, by)
    found = trail(team)
    assert {kind: found.get(kind) for kind in CHANGED} == dict.fromkeys(CHANGED, named)
    records = http.get("/mesh/v1/plans").json()["plans"]
    assert {record["actor"] for record in records[:2]} == {named}


def test_what_is_no_name_is_refused(door: Door) -> None:
    http, _ = door
    answer = http.post("/mesh/v1/apply", json={}, headers=asking("x" * 65))
    assert answer.status_code == 422
    assert "is no name of a person" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("login", "named"), [("carla", "carla"), ("c\tx", "admin"), ("x" * 70, "x" * 64)])
def test_a_command_names_who_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str, named: str
) -> None:
    monkeypatch.setenv("LOGNAME", login)
    team = Team(tmp_path / "mesh", OPEN)
    team.mesh.sales("product.yaml", SALES.replace("one row a sale", "one row a till slip"))
    done = CliRunner().invoke(cli, ["--mesh", str(team.mesh.folder), "apply"])
    assert done.exception is None, done.output
    assert trail(team)["product.applied"] == named
    team.workspace.database.close()
