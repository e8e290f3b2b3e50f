"""Input ports that read one version of another product, whatever it publishes afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.released import Team, sales_at
from tests.pipeline.conftest import FEATURES, ROWS

from tulle.cli.main import cli
from tulle.control import apply, environments, product_release
from tulle.errors import Invalid
from tulle.pipeline.dry_run import foresee
from tulle.pipeline.graph import load_code
from tulle.pipeline.pin import pinned_readers
from tulle.pipeline.run import Run
from tulle.spec.mesh import load_mesh

MESH = "name: test\nwarehouse: {threads: 1, memory: 256MB}\nenvironments:\n  prod: {}\n"
NEW_ROW = "4,eve,04.02.2020,7\n"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    made = Team(tmp_path / "mesh", MESH)
    environments.ensure_branches(made.workspace, "sales")
    yield made
    made.workspace.database.close()


def pin(team: Team, version: str) -> None:
    says = f"associated_output_port: sales files, version: '{version}'"
    team.mesh.features("product.yaml", FEATURES.replace("associated_output_port: sales files", says))


def customers(team: Team) -> int:
    """How many customers the reader knows."""
    import pyarrow.parquet as pq

    files = team.workspace.lake.repository("features").files("main", "features/")
    return sum(pq.read_metadata(file).num_rows for file in files)


def good(run: Run) -> Run:
    assert run.status in {"succeeded", "unchanged"}, run.error
    return run


def test_a_reader_stays_with_the_release_it_names(team: Team) -> None:
    good(team.run("main"))
    product_release.make(team.workspace, "sales", by="ann")
    team.mesh.sales("data/sales.csv", ROWS + NEW_ROW)
    good(team.run("main"))
    pin(team, "1.0.0")
    plan, _ = apply.current_plan(team.workspace)
    assert "now reads version 1.0.0, and read what was published last" in str(plan)
    run = good(team.run("main", "features"))
    assert customers(team) == 2
    (step,) = [step for step in run.steps if step.name == "sold"]
    assert "pinned to release 1.0.0" in str(step.message)
    assert good(team.run("main", "features")).status == "unchanged"

    # The highest release that begins so; another patch is taken, another line is not.
    team.mesh.sales("product.yaml", sales_at("1.0.1"))
    good(team.run("main"))
    product_release.make(team.workspace, "sales", by="ann")
    team.mesh.sales("data/sales.csv", ROWS + NEW_ROW + "5,jim,05.02.2020,1\n")
    team.mesh.sales("product.yaml", sales_at("1.1.0"))
    good(team.run("main"))
    product_release.make(team.workspace, "sales", by="ann")
    pin(team, "1.0")
    apply.apply_plan(team.workspace)
    good(team.run("main", "features"))
    assert customers(team) == 3
    database = team.workspace.database
    assert pinned_readers(database) == {("sales", "1.0.1"): ["features"]}
    listed = CliRunner().invoke(cli, ["--mesh", str(team.mesh.folder), "releases", "sales", "--json"])
    assert {one["version"]: one["pinned_by"] for one in json.loads(listed.output)} == {
        "1.0.0": [],
        "1.0.1": ["features"],
        "1.1.0": [],
    }
    assert "features" in CliRunner().invoke(cli, ["--mesh", str(team.mesh.folder), "releases"]).output
    spec = load_mesh(team.mesh.folder)
    code = load_code(spec.product("features"), spec=spec)
    told = foresee(database, team.workspace.lake, code, None)  # type: ignore[arg-type]
    assert "pinned to release 1.0.1" in {one.name: one.reason for one in told}["sold"]

    # Without a version it follows again.
    team.mesh.features("product.yaml", FEATURES)
    good(team.run("main", "features"))
    assert customers(team) == 4


def test_tags_and_commits_are_versions_and_branches_are_not(team: Team) -> None:
    first = good(team.run("main")).commit_id
    assert first is not None
    repository = team.workspace.lake.repository("sales")
    repository.create_tag("easter", first)
    team.mesh.sales("data/sales.csv", ROWS + NEW_ROW)
    good(team.run("main"))
    for version in ("easter", first[:16]):
        pin(team, version)
        good(team.run("main", "features"))
        assert customers(team) == 2
    pin(team, "main")
    run = team.run("main", "features")
    assert run.error is not None
    assert "has no release, tag or commit 'main'" in run.error["message"]


def test_a_version_that_is_not_there_names_both_places(team: Team) -> None:
    good(team.run("main"))
    product_release.make(team.workspace, "sales", by="ann")
    pin(team, "1.0.7")
    run = team.run("main", "features")
    assert run.error is not None
    assert run.error["message"] == "product 'sales' has no release, tag or commit '1.0.7'"
    assert "1.0.0" in run.error["hint"]
    here, there = run.error["problems"]
    assert "people/features/product.yaml" in str(here)
    assert "has the releases 1.0.0" in str(there)
    assert "shop/sales/product.yaml" in str(there)


def test_a_version_belongs_to_another_products_port(team: Team) -> None:
    says = "associated_output_port: sales files, version: 1.2"
    team.mesh.features("product.yaml", FEATURES.replace("associated_output_port: sales files", says))
    with pytest.raises(Invalid) as told:
        load_mesh(team.mesh.folder).require_valid()
    assert "in quotes" in str(told.value.problems)
