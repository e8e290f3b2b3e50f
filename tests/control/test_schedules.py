"""Schedules through the API and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.released import Team
from tests.control.test_promotion import OPEN

from tulle.cli.main import cli
from tulle.config import Settings
from tulle.errors import Conflict, Invalid, NotFound
from tulle.events import PRODUCT_APPLIED, Event
from tulle.pipeline.scheduler import Scheduler
from tulle.spec.mesh import load_settings
from tulle.spec.product import DataProduct
from tulle.spec.schedule import Schedule
from tulle.state import log, products
from tulle.state.db import open_database


@pytest.fixture
def mesh(tmp_path: Path) -> Settings:
    (tmp_path / "mesh.yaml").write_text("name: small\n")
    settings = load_settings(tmp_path)
    database = open_database(settings.database_url)
    for name, when in {
        "orders": Schedule(cron="0 * * * *"),
        "stock": Schedule(cron="30 6 * * *", time_zone="Europe/Berlin", paused=True),
    }.items():
        with database.write() as cx:
            products.save(cx, DataProduct(name, name, "sales", "", schedule=when), code_digest="c")
            log.append(cx, Event(PRODUCT_APPLIED, name, {}))
    Scheduler(settings, database).follow()
    database.close()
    return settings


def tulle(mesh: Settings, *words: str) -> str:
    result = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), *words])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_schedules_are_listed_the_next_first(mesh: Settings) -> None:
    found = json.loads(tulle(mesh, "schedule", "list", "--json"))
    assert [(s["product"], s["paused"]) for s in found] == [("orders", False), ("stock", True)]
    assert found[1]["when"] == "at '30 6 * * *' (Europe/Berlin)"
    told = tulle(mesh, "schedule", "list")
    assert "at '0 * * * *' (UTC)" in told
    assert "paused" in told


def test_a_schedule_is_paused_and_resumed(mesh: Settings) -> None:
    assert "fires no more" in tulle(mesh, "schedule", "pause", "orders")
    shown = json.loads(tulle(mesh, "schedule", "show", "orders", "--json"))
    assert shown["paused"]
    assert shown["next"] == []
    assert "fires again" in tulle(mesh, "schedule", "resume", "orders")
    assert len(json.loads(tulle(mesh, "schedule", "show", "orders", "--json"))["next"]) == 10
    with pytest.raises(Conflict, match="the document of 'stock' pauses"):
        tulle(mesh, "schedule", "resume", "stock")


def test_what_comes_next(mesh: Settings) -> None:
    found = json.loads(tulle(mesh, "schedule", "next", "--hours", "6", "--json"))
    assert [fire["product"] for fire in found] == ["orders"] * 6
    assert found == sorted(found, key=lambda fire: fire["at"])
    assert "orders" in tulle(mesh, "schedule", "next")


DAILY = "-- kind: incremental\n-- time_column: day\n-- grain: day\n-- start: 2020-02-01\n"
ROWS_OF_A_DAY = "SELECT * FROM till_rows WHERE day >= window_start() AND day < window_end()\n"


def test_a_backfill_that_could_make_nothing_is_refused(tmp_path: Path) -> None:
    team = Team(tmp_path / "mesh", OPEN)
    mesh = team.workspace.settings
    span = ("--from", "2026-01-01", "--to", "2026-01-04")
    with pytest.raises(Invalid) as caught:
        tulle(mesh, "backfill", "sales", *span)
    assert "'sales' makes nothing by windows" in caught.value.message
    assert "time_column" in (caught.value.hint or "")
    team.mesh.sales("transform/sales.sql", DAILY + ROWS_OF_A_DAY)
    with pytest.raises(NotFound) as unknown:
        tulle(mesh, "backfill", "sale", *span)
    assert unknown.value.hint == "did you mean 'sales'?"
    with pytest.raises(NotFound, match="no environment or preview 'prd'"):
        tulle(mesh, "backfill", "sales", *span, "--environment", "prd")
    with pytest.raises(Invalid, match="nothing from 2026-01-04 until before 2026-01-01"):
        tulle(mesh, "backfill", "sales", "--from", "2026-01-04", "--to", "2026-01-01")
    assert json.loads(tulle(mesh, "backfills", "--json")) == []
    team.workspace.database.close()


def test_a_backfill_is_asked_for_shown_and_cancelled(tmp_path: Path) -> None:
    team = Team(tmp_path / "mesh", OPEN)
    team.mesh.sales("transform/sales.sql", DAILY + ROWS_OF_A_DAY)
    mesh = team.workspace.settings
    team.workspace.database.close()
    span = ("--from", "2026-01-01", "--to", "2026-01-04")
    assert "3 windows of sales" in tulle(mesh, "backfill", "sales", *span)
    (found,) = json.loads(tulle(mesh, "backfills", "--json"))
    assert found["counts"] == {"waiting": 3}
    assert "2026-01-03" in tulle(mesh, "backfills", found["id"])
    assert "3 waiting" in tulle(mesh, "backfills")
    assert "cancelled" in tulle(mesh, "backfills", found["id"], "--cancel")
    with pytest.raises(Conflict, match="cancelled, so there is nothing to resume"):
        tulle(mesh, "backfills", found["id"], "--resume")
    with pytest.raises(Invalid, match="nothing would run: the mesh is not up"):
        tulle(mesh, "backfill", "sales", *span, "--wait")
