"""What the lake tidies up by itself, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.lake.hooks.test_record import begin, ids
from tests.lake.test_stale import age

from tulle.cli.connect import InProcess
from tulle.config import Settings, settings_from
from tulle.control.workspace import Workspace
from tulle.lake.dag import run_branch
from tulle.lake.hooks import record
from tulle.server.app import application, open_workspace
from tulle.server.lake_doors import TIDY_EVERY, LakeWork
from tulle.server.token import read_token


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_from(tmp_path, {"hook_run_days": 30}, {})


@pytest.fixture
def workspace(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setattr(record.prune, "__kwdefaults__", {"keep": 2})
    opened = open_workspace(settings)
    yield opened
    opened.database.close()


def test_runs_of_hooks_go_when_they_are_old_and_nothing_breaks(
    workspace: Workspace, settings: Settings
) -> None:
    sales = workspace.lake.create_repository("sales")
    old = [begin(workspace.database, sales, 40) for _ in range(5)]
    LakeWork(workspace.lake, settings).tidy()
    assert ids(workspace.database, sales) == old[:2:-1]
    app = application(settings)
    try:
        with InProcess(app) as transport:
            token = {"authorization": f"Bearer {read_token(settings)}"}
            http = httpx.Client(transport=transport, base_url="http://127.0.0.1:8080", headers=token)
            runs = "/api/v1/repositories/sales/actions/runs"
            listed = [run["run_id"] for run in http.get(runs).json()["results"]]
            assert listed == old[:2:-1]
            for id_, status in ((old[0], 404), (old[4], 200)):
                assert http.get(f"{runs}/{id_}").status_code == status
                assert http.get(f"{runs}/{id_}/hooks").status_code == status
                assert http.get(f"{runs}/{id_}/hooks/0000_0000/output").status_code == status
                assert http.get(f"/lake/sales/hooks/{id_}").status_code == status
    finally:
        app.state.close()


def test_it_is_done_once_an_hour(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = workspace.lake.create_repository("sales")
    work = LakeWork(workspace.lake, settings)
    work.tidy()
    for _ in range(3):
        begin(workspace.database, sales, 40)
    work.tidy()
    assert len(ids(workspace.database, sales)) == 3
    later = time.monotonic() + TIDY_EVERY
    monkeypatch.setattr(time, "monotonic", lambda: later)
    work.tidy()
    assert len(ids(workspace.database, sales)) == 2


@pytest.mark.parametrize(
    ("days", "left"), [(0, ["main", "run-old"]), (7, ["main"]), (9, ["main", "run-old"])]
)
def test_branches_of_failed_runs_go_where_that_is_wanted(
    workspace: Workspace, tmp_path: Path, days: int, left: list[str]
) -> None:
    sales = workspace.lake.create_repository("sales")
    run_branch(sales, "main", "old")
    age(sales, "run-old", 8)
    LakeWork(workspace.lake, settings_from(tmp_path, {"stale_branch_days": days}, {})).tidy()
    assert [branch.name for branch in sales.branches()] == left
    if days == 7:
        assert sales.reflog("run-old")[0].actor == "tulle"
