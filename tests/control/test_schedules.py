"""Schedules through the API and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tulle.cli.main import cli
from tulle.config import Settings
from tulle.errors import Conflict, Invalid
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


def test_a_backfill_is_asked_for_shown_and_cancelled(mesh: Settings) -> None:
    span = ("--from", "2026-01-01", "--to", "2026-01-04")
    assert "3 windows of orders" in tulle(mesh, "backfill", "orders", *span)
    (found,) = json.loads(tulle(mesh, "backfills", "--json"))
    assert found["counts"] == {"waiting": 3}
    assert "2026-01-03" in tulle(mesh, "backfills", found["id"])
    assert "3 waiting" in tulle(mesh, "backfills")
    assert "cancelled" in tulle(mesh, "backfills", found["id"], "--cancel")
    with pytest.raises(Conflict, match="cancelled, so there is nothing to resume"):
        tulle(mesh, "backfills", found["id"], "--resume")
    with pytest.raises(Invalid, match="nothing would run: the mesh is not up"):
        tulle(mesh, "backfill", "orders", *span, "--wait")
