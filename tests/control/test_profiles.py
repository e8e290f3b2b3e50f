"""Profiles of what is published: kept once a publish, told by the API and the command, masked like the portal's rows."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert, select, update
from tests.control.conftest import opened
from tests.pipeline.conftest import SALES, Mesh

from tulle.cli.connect import mesh_client
from tulle.cli.main import cli
from tulle.control import profiles
from tulle.control.destroy import destroy
from tulle.control.workspace import Workspace
from tulle.errors import NotFound
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.quality import history, kept_profiles
from tulle.quality.column_profile import DataSetProfile
from tulle.quality.verdict import CheckResult
from tulle.state import products
from tulle.state.db import now
from tulle.state.tables import check_results, data_set_profiles, followers


def tulle(mesh: Mesh, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--mesh", str(mesh.folder), *words])


def run(mesh: Mesh, workspace: Workspace) -> None:
    run_id = runs.request(workspace.database, "sales")
    assert execute(workspace.database, workspace.lake, mesh.spec(), run_id).status == "succeeded"


def test_each_publish_is_profiled_once(mesh: Mesh) -> None:
    mesh.sales("product.yaml", SALES.replace("required: true", "required: true, pii: direct"))
    workspace = opened(mesh)
    assert profiles.follow(workspace) == 0  # from now on
    assert tulle(mesh, "apply").exit_code == 0
    run(mesh, workspace)
    assert profiles.follow(workspace) > 0
    assert profiles.follow(workspace) == 0
    (first,) = kept_profiles.profiles(workspace.database, "sales", "sales")
    told = json.loads(tulle(mesh, "profile", "sales", "sales", "--json").output)
    assert (told["commit"], told["run"], told["profile"]) == (first.commit, first.run, first.profile)
    by_name = {column["name"]: column for column in told["profile"]["columns"]}
    assert by_name["amount"]["max"] == "10.50"
    assert (by_name["customer"]["hidden"], by_name["customer"]["top"], by_name["customer"]["distinct"]) == (
        True,
        [],
        2,
    )
    assert "ann" not in json.dumps(told)
    shown = tulle(mesh, "profile", "sales", "sales").output
    assert "3 rows" in shown
    assert "•••" in shown

    mesh.sales("data/sales.csv", "id,customer,day,amount\n1,ann,01.02.2020,10.50\n")
    run(mesh, workspace)
    # A control plane that died before it looked: what is asked for is made at once, and looked at once only.
    now = json.loads(tulle(mesh, "profile", "sales", "sales", "--json").output)
    assert (now["profile"]["rows"], now["run"]) == (1, "")
    assert profiles.follow(workspace) > 0
    kept = kept_profiles.profiles(workspace.database, "sales", "sales")
    assert [one.profile["rows"] for one in kept] == [1, 3]
    workspace.database.close()


def test_a_profile_is_masked_by_what_the_product_says_now(mesh: Mesh) -> None:
    workspace = opened(mesh)
    profiles.follow(workspace)
    assert tulle(mesh, "apply").exit_code == 0
    run(mesh, workspace)
    profiles.follow(workspace)
    assert "ann" in tulle(mesh, "profile", "sales", "sales", "--json").output
    stricter = SALES.replace("type: 'decimal(10,2)'", "type: 'decimal(10,2)', classification: restricted", 1)
    stricter = stricter.replace("required: true", "required: true, pii: direct")
    mesh.sales("product.yaml", stricter.replace("what was sold}", "what was sold, version: 2.0.0}"))
    assert tulle(mesh, "apply").exit_code == 0
    product = products.applied_product(workspace.database, "sales").product
    (kept,) = kept_profiles.profiles(workspace.database, "sales", "sales")
    (told,) = profiles.as_told(product, [kept])
    now = json.loads(tulle(mesh, "profile", "sales", "sales", "--json").output)
    with mesh_client(mesh.folder) as client:
        earlier = client.call("GET", "/products/sales/datasets/sales/profile/history")["profiles"]
    assert now == told == earlier[0]
    by_name = {column["name"]: column for column in now["profile"]["columns"]}
    assert {name for name, column in by_name.items() if column["hidden"]} == {"customer", "amount"}
    assert "ann" not in json.dumps(now)
    assert "10.50" not in json.dumps(now)
    assert [by_name["amount"][name] for name in ("min", "max", "mean", "stddev", "top")] == [*[None] * 4, []]
    assert by_name["id"]["max"] == 3
    workspace.database.close()


def test_a_product_that_is_gone_stops_nothing(mesh: Mesh) -> None:
    workspace = opened(mesh)
    profiles.follow(workspace)
    assert tulle(mesh, "apply").exit_code == 0
    run(mesh, workspace)
    workspace.lake.delete_repository("sales")
    assert profiles.follow(workspace) > 0
    assert kept_profiles.profiles(workspace.database, "sales", "sales") == ()
    with workspace.database.read() as cx:
        assert cx.execute(select(followers.c.position).where(followers.c.name == profiles.NAME)).scalar()
    workspace.database.close()


def test_samples_that_killed_processes_left_are_removed(workspace: Workspace) -> None:
    folder = workspace.settings.run_folder / "profiles"
    folder.mkdir(parents=True)
    (folder / "sales-of-long-ago.parquet").touch()
    os.utime(folder / "sales-of-long-ago.parquet", (1.0, 1.0))
    (folder / "sales-of-now.parquet").touch()
    profiles.tidy(workspace)
    assert [file.name for file in folder.iterdir()] == ["sales-of-now.parquet"]


def test_with_the_data_goes_what_was_kept_of_its_values(mesh: Mesh, workspace: Workspace) -> None:
    profiles.follow(workspace)  # from now on
    mesh.sales("checks/sales.yaml", "checks:\n- {data_set: sales, type: range, column: amount, max: 1}\n")
    assert tulle(mesh, "apply").exit_code == 0
    run_id = runs.request(workspace.database, "sales")
    assert execute(workspace.database, workspace.lake, mesh.spec(), run_id).status == "failed"
    mesh.sales("checks/sales.yaml", "checks: []\n")
    assert tulle(mesh, "apply").exit_code == 0
    run(mesh, workspace)
    profiles.follow(workspace)
    database = workspace.database

    def kept() -> tuple[int, int, int]:
        rows = [
            row for step in runs.get(database, run_id).steps for c in step.checks for row in c.failing_rows
        ]
        found = kept_profiles.profiles(database, "sales", "sales"), history.history(database, "sales")
        return (len(found[0]), len(found[1]), len(rows))

    assert min(kept()) > 0
    destroy(workspace, "sales", force=True, notice="over")
    assert min(kept()) > 0  # its data stays, and so does what was found in it
    destroy(workspace, "sales", data=True)
    assert kept() == (0, 0, 0)


def test_old_results_of_checks_are_forgotten(mesh: Mesh) -> None:
    mesh.write("mesh.yaml", "name: test\ncheck_result_days: 7\n")
    workspace = opened(mesh)
    found = CheckResult("c", "sql", "sales", "error", passed=True, failing_count=0, total=1, message="")
    with workspace.database.write() as cx:
        for n in range(40):
            history.record(cx, "sales", "main", f"r{n}", [found])
        old = check_results.c.run.in_([f"r{n}" for n in range(10)])
        cx.execute(update(check_results).where(old).values(at=now() - 8 * 86_400))
    assert profiles.tidy(workspace) == 10
    assert len(history.history(workspace.database, "sales")) == 30
    workspace.database.close()


def test_the_oldest_are_forgotten(mesh: Mesh) -> None:
    workspace = opened(mesh)
    row = {
        "product": "sales",
        "environment": "main",
        "data_set": "sales",
        "identity": "x",
        "profile": {},
        "at": 1.0,
    }
    with workspace.database.write() as cx:
        cx.execute(
            insert(data_set_profiles), [{**row, "commit_id": str(i)} for i in range(kept_profiles.KEPT)]
        )
        found = DataSetProfile(1, 1, ())
        kept_profiles.keep(cx, "sales", "main", "sales", found, identity="y", commit="new")
        kept_profiles.keep(cx, "sales", "main", "sales", found, identity="y", commit="new")
    kept = kept_profiles.profiles(workspace.database, "sales", "sales", limit=1000)
    assert [kept[0].commit, kept[-1].commit, len(kept)] == ["new", "1", kept_profiles.KEPT]
    workspace.database.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["salez", "sales"], "product 'salez'"),
        (["sales", "salez"], "data set 'salez' of product 'sales'"),
        (["sales", "sales"], "has no rows of its own"),
        (["sales", "sales", "-e", "nowhere"], "nowhere"),
    ],
)
def test_what_is_not_there_is_told(mesh: Mesh, words: list[str], message: str) -> None:
    assert tulle(mesh, "apply").exit_code == 0
    result = tulle(mesh, "profile", *words)
    assert isinstance(result.exception, NotFound)
    assert message in result.exception.message
