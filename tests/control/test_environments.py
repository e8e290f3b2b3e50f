"""Environments and previews through the API and the command line, as a team uses them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import update
from tests.control.released import Team, sales_at
from tests.control.test_promotion import OPEN

from tulle.cli.connect import mesh_client
from tulle.cli.main import cli
from tulle.config import Warehouse
from tulle.control import environments, retirement
from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from tulle.pipeline import run as runs
from tulle.pipeline import run_turn
from tulle.pipeline.execute import execute
from tulle.sdk.releases import ReleaseClient
from tulle.state import log
from tulle.state.tables import deprecations


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    made = Team(tmp_path / "mesh", OPEN)
    yield made
    made.workspace.database.close()


def tulle(team: Team, *words: str, fails: bool = False) -> str:
    result = CliRunner().invoke(cli, ["--mesh", str(team.mesh.folder), *words])
    assert bool(result.exception) is fails, (result.output, result.exception)
    return str(result.exception) if fails else result.output


def test_from_a_run_in_dev_to_production_and_back_by_commands(team: Team) -> None:
    assert "published as" in tulle(team, "run", "sales", "--environment", "dev")
    assert "1.0.0 is released" in tulle(team, "release", "sales", "--notes", "The first.", "--by", "ann")
    assert "was released already" in tulle(team, "release", "sales")
    assert "3 files as signed" in tulle(team, "releases", "sales", "--verify", "1.0.0")
    assert "The first." in tulle(team, "releases")
    assert "sales 1.0.0 in prod is in force" in tulle(
        team, "promote", "sales", "1.0.0", "--to", "prod", "--by", "ann"
    )
    shown = json.loads(tulle(team, "env", "list", "--json"))
    assert [e["name"] for e in shown] == ["dev", "prod", "test"]
    (placed,) = [p for p in shown[1]["products"] if p["product"] == "sales"]
    assert (placed["version"], placed["branch"]) == ("1.0.0", "main")
    assert "1.0.0" in tulle(team, "env", "show", "prod")
    assert "there is no environment 'prd'" in tulle(team, "env", "show", "prd", fails=True)
    assert "compatible" not in tulle(team, "manifest", "sales")
    told = json.loads(tulle(team, "manifest", "sales", "--environment", "dev", "--json"))
    assert (told["release"], told["environment"], told["product"]) == (None, "dev", "sales")
    assert "was never in force" in tulle(
        team, "rollback", "sales", "--to", "1.0.0", "--environment", "test", fails=True
    )
    listed = json.loads(tulle(team, "promotions", "sales", "--json"))
    assert [(one["kind"], one["status"], one["approvals_wanted"]) for one in listed] == [
        ("promotion", "done", 0)
    ]


def test_a_preview_is_a_branch_without_a_copy_and_gone_when_it_is_removed(team: Team) -> None:
    assert team.run("main").status == "succeeded"
    repository = team.workspace.lake.repository("sales")
    main = repository.resolve("main")
    tulle(team, "preview", "create", "sales", "refunds", "--by", "ann")
    assert repository.resolve("preview-refunds") == main
    team.mesh.sales("transform/sales.sql", "SELECT id, customer, day, -amount AS amount FROM till_rows\n")
    assert "published as" in tulle(team, "run", "sales", "-e", "refunds")
    assert float(min(team.amounts("preview-refunds"))) < 0 < float(min(team.amounts("main")))  # type: ignore[type-var,arg-type]
    (shown,) = json.loads(tulle(team, "preview", "list", "--json"))
    assert (shown["product"], shown["name"], shown["source"]) == ("sales", "refunds", "prod")
    with pytest.raises(AlreadyExists):
        environments.create_preview(team.workspace, "sales", "refunds", by="bob")
    tulle(team, "preview", "remove", "sales", "refunds")
    assert not [branch for branch in repository.branches() if "refunds" in branch.name]
    assert repository.resolve("main") == main
    assert "has no preview 'refunds'" in tulle(team, "preview", "remove", "sales", "refunds", fails=True)


@pytest.mark.parametrize("name", ["", "a/b", "--x", "../up", "A", "x" * 61, "a;drop"])
def test_a_preview_has_a_plain_name(team: Team, name: str) -> None:
    with pytest.raises(Invalid):
        environments.create_preview(team.workspace, "sales", name, by="ann")


def test_a_preview_goes_without_those_whose_names_begin_like_its_own(team: Team) -> None:
    workspace = team.workspace
    for name in ("refunds", "refunds-2"):
        environments.create_preview(workspace, "sales", name, by="ann")
    assert team.run("preview-refunds").status == "succeeded"
    run_id = runs.request(
        workspace.database, "sales", environment="preview-refunds", options={"only": "checks"}
    )
    execute(workspace.database, workspace.lake, workspace.spec(), run_id)
    environments.remove_preview(workspace, "sales", "refunds", by="ann")
    there = {branch.name for branch in workspace.lake.repository("sales").branches()}
    assert there == {"main", "dev", "test", "preview-refunds-2"}


def test_a_preview_does_not_go_under_a_run_nor_shadow_an_environment(team: Team) -> None:
    workspace = team.workspace
    with pytest.raises(AlreadyExists, match="is an environment"):
        environments.create_preview(workspace, "sales", "dev", by="ann")
    environments.create_preview(workspace, "sales", "busy", source="dev", by="ann")
    run_id = runs.request(workspace.database, "sales", environment="preview-busy")
    with pytest.raises(Conflict, match="waits for its turn"):
        environments.remove_preview(workspace, "sales", "busy", by="ann")
    run_turn.claim(workspace.database, run_id, warehouse="shop", bounds=Warehouse())
    with pytest.raises(Conflict, match="is working on"):
        environments.remove_preview(workspace, "sales", "busy", by="ann")
    with pytest.raises(NotFound) as unknown:
        environments.branch_for_run(workspace, "sales", "buzy")
    assert unknown.value.hint == "did you mean 'busy'?"


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 65, "a\x1b[31m"])
def test_who_asks_has_a_name(team: Team, name: str) -> None:
    with pytest.raises(Invalid), mesh_client(team.mesh.folder) as client:
        ReleaseClient(client).create_preview("sales", "x", by=name)


def test_a_product_ends_when_its_consumers_were_told_and_not_before(team: Team) -> None:
    workspace = team.workspace
    agreement = """
  - name: how to use it
    type: data-sharing-agreement
    properties: {description: ask, terms: be kind, notice_period: 3 months}
"""
    team.mesh.sales("product.yaml", sales_at("1.0.0") + agreement.lstrip("\n"))
    tulle(team, "apply")
    with pytest.raises(Denied, match="not deprecated"):
        retirement.retire(workspace, "sales", by="ann")
    with pytest.raises(Denied) as soon:
        retirement.deprecate(workspace, "sales", sunset="2026-01-01", reason="old", by="ann")
    assert "93 days before" in soon.value.message
    assert [problem.message for problem in soon.value.problems] == ["product 'features' is to be told"]
    for day in ("soon", "2026-13-01", "'; drop"):
        with pytest.raises(Invalid):
            retirement.deprecate(workspace, "sales", sunset=day, reason="old", by="ann")
    made = retirement.deprecate(workspace, "sales", sunset="2099-01-31", reason="moved to orders", by="ann")
    assert list(made.told) == ["product 'features'"]
    (told,) = [e for e in log.read(workspace.database, limit=1000) if e.kind == "product.deprecated"]
    assert (told.actor, told.data["sunset"], told.data["told"]) == (
        "ann",
        "2099-01-31",
        ["product 'features'"],
    )
    with pytest.raises(Denied, match="ends on 2099-01-31"):
        retirement.retire(workspace, "sales", by="ann")
    with pytest.raises(Denied):
        retirement.deprecate(workspace, "sales", sunset="2098-01-31", reason="sooner", by="ann")
    # Its day is nearer than a new notice would be, and can be put off all the same.
    near, later = (dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days) for days in (5, 10))
    with workspace.database.write() as cx:
        cx.execute(update(deprecations).values(sunset=near.isoformat()))
    assert retirement.deprecate(
        workspace, "sales", sunset=str(later), reason="not yet", by="ann"
    ).sunset == str(later)
    assert "stays" in tulle(team, "deprecate", "sales", "--undo")


def test_a_product_whose_day_has_come_is_retired_once_nobody_reads_it(team: Team) -> None:
    workspace = team.workspace
    today = dt.datetime.now(dt.UTC).date().isoformat()
    for name in ("sales", "features"):
        retirement.deprecate(workspace, name, sunset="2099-01-31", reason="moved", successor="", by="ann")
        with workspace.database.write() as cx:  # the day comes
            cx.execute(update(deprecations).where(deprecations.c.product == name).values(sunset=today))
    with pytest.raises(Conflict) as read:
        retirement.retire(workspace, "sales", by="ann")
    assert [problem.message for problem in read.value.problems] == ["product 'features' reads it"]
    assert "is retired" in tulle(team, "retire", "features")
    assert "is retired" in retirement.retire(workspace, "sales", by="ann")
    assert retirement.deprecations(workspace.database) == ()
