"""A tag or branch that somebody relies on is not deleted under them: readers, what is in force, what is on its way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.released import MESH, Team
from tests.control.test_promotion import released
from tests.pipeline.conftest import FEATURES

from tulle.cli.main import cli
from tulle.control import apply, promotion
from tulle.errors import Conflict
from tulle.lake.repository import Repository
from tulle.pipeline import run as runs
from tulle.pipeline import run_end
from tulle.pipeline.name_uses import uses_of


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """Releases 1.0.0 and 1.0.1 of `sales`, neither in force."""
    made = Team(tmp_path / "mesh", MESH)
    released(made, "1.0.0")
    released(made, "1.0.1", "SELECT * FROM till_rows WHERE id < 9\n")
    yield made
    made.workspace.database.close()


def reasons(deleting: object, name: str) -> list[str]:
    with pytest.raises(Conflict, match=f"'{name}' of repository 'sales' is in use") as refused:
        deleting(name)  # type: ignore[operator]
    return [problem.message for problem in refused.value.problems]


def sales(team: Team) -> Repository:
    return team.workspace.lake.repository("sales")


def test_the_tag_a_reader_is_pinned_to_stays(team: Team) -> None:
    sales(team).create_tag("audited", "dev")
    for version, tag in (("1.0", "release-1.0.1"), ("audited", "audited")):
        says = f"associated_output_port: sales files, version: '{version}'"
        team.mesh.features("product.yaml", FEATURES.replace("associated_output_port: sales files", says))
        apply.apply_plan(team.workspace)
        (told,) = reasons(sales(team).delete_tag, tag)
        assert told.startswith("product 'features' reads it by input port ")
        assert told.endswith(f"pinned to '{version}'")
    sales(team).delete_tag("release-1.0.0")
    call = ["--mesh", str(team.mesh.folder), "repo", "tag", "delete", "sales", "audited"]
    refused = CliRunner().invoke(cli, call)
    assert isinstance(refused.exception, Conflict), refused.output
    assert (
        "is in use and is not deleted; product 'features' reads it by input port" in refused.exception.message
    )
    forced = CliRunner().invoke(cli, [*call, "--force"])
    assert forced.exception is None, forced.output
    assert "audited" not in [tag.name for tag in sales(team).tags()]


def test_what_is_in_force_or_on_its_way_keeps_its_tag_and_branch(team: Team) -> None:
    workspace = team.workspace
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="test", by="ann"))
    asked = promotion.promote(workspace, "sales", "1.0.0", to="prod", by="ann")
    waits = f"promotion {asked.id} to 1.0.0 in 'prod' is waiting"
    assert reasons(sales(team).delete_tag, "release-1.0.0") == ["release 1.0.0 is in force in 'test'", waits]
    assert reasons(sales(team).delete_branch, "test") == ["release 1.0.0 is in force in 'test', which it is"]
    run_id = runs.request(workspace.database, "sales", environment="dev")
    assert reasons(sales(team).delete_branch, "dev") == [f"run {run_id} works for it"]
    run_end.finish(workspace.database, run_id, runs.STOPPED)
    promotion.withdraw(workspace, asked.id, by="ann")
    sales(team).delete_branch("dev")
    sales(team).delete_tag("release-1.0.1")
    workspace.lake.repository("sales", force=True).delete_tag("release-1.0.0")
    assert uses_of(workspace.database, "sales", "tag", "some-name") == ()
