"""Releases: what goes in, that they never change, how versions must grow, and what is found when one is tampered with."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.control.released import Team, sales_at
from tests.pipeline.conftest import ROWS

from tulle.control import apply, environments, product_release, profiles, promotion
from tulle.errors import AlreadyExists, Broken, Conflict, Denied, Invalid, NotFound, TulleError
from tulle.pipeline import release
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.state.tables import releases as table


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    made = Team(tmp_path / "mesh")
    environments.ensure_branches(made.workspace, "sales")
    yield made
    made.workspace.database.close()


def test_a_release_is_what_ran_whole_signed_and_the_same_twice(team: Team) -> None:
    run = team.run("dev")
    made, is_new = product_release.make(team.workspace, "sales", notes="The first.", by="ann")
    assert is_new
    assert made.version == "1.0.0"
    assert made.data_commit == run.commit_id
    assert set(made.statement["files"]) == {
        "document.json",
        "product/product.yaml",
        "product/transform/sales.sql",
    }
    contract = made.statement["contract"]
    assert contract["columns"]["sales"]["amount"] == "decimal(10,2)"
    assert [port["name"] for port in contract["output_ports"]] == ["sales-files"]
    release.verify(team.workspace.lake, made, team.workspace.settings)
    tag = team.workspace.lake.repository("sales").tag("release-1.0.0")
    assert tag.commit_id == run.commit_id
    again, is_new = product_release.make(team.workspace, "sales", by="bob")
    assert (again.digest, is_new) == (made.digest, False)
    assert release.get(team.workspace.database, "sales", "1.0.0").signature == made.signature


def test_a_release_never_changes(team: Team) -> None:
    team.run("dev")
    product_release.make(team.workspace, "sales", notes="The first.", by="ann")
    with pytest.raises(AlreadyExists) as notes:
        product_release.make(team.workspace, "sales", notes="Other.", by="ann")
    assert "other notes" in notes.value.message
    team.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE id > 1\n")
    team.run("dev")
    with pytest.raises(AlreadyExists) as content:
        product_release.make(team.workspace, "sales", by="ann")
    (problem,) = content.value.problems
    assert str(problem.place) == "products/shop/sales/product.yaml:6:88"


def test_only_what_ran_and_was_checked_is_released(team: Team) -> None:
    with pytest.raises(Invalid) as never:
        product_release.make(team.workspace, "sales", by="ann")
    assert never.value.message == "product 'sales' never ran in 'dev'"
    assert "tulle run sales --environment dev" in (never.value.hint or "")
    team.run("dev")
    team.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE id > 1\n")
    with pytest.raises(Invalid) as other:
        product_release.make(team.workspace, "sales", by="ann")
    assert "was made by other code" in other.value.message
    # Who only looks at what is published, or makes a part of it, has not run the code.
    for options in ({"only": "checks"}, {"select": ["till_rows"]}):
        run_id = runs.request(team.workspace.database, "sales", environment="dev", options=options)
        ran = execute(team.workspace.database, team.workspace.lake, team.workspace.spec(), run_id)
        assert ran.status == "unchanged"
        with pytest.raises(Invalid, match="was made by other code"):
            product_release.make(team.workspace, "sales", by="ann")


def test_after_a_release_is_in_force_where_the_first_was_made_the_next_comes_from_a_preview(
    team: Team,
) -> None:
    workspace = team.workspace
    team.run("dev")
    product_release.make(workspace, "sales", by="dana")
    team.wait(promotion.promote(workspace, "sales", "1.0.0", to="dev", by="dana"))
    team.mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount + 1 AS amount FROM till_rows\n")
    team.mesh.sales("product.yaml", sales_at("1.0.1"))
    apply.apply_plan(workspace)
    assert team.run("dev").status == "unchanged"  # by the release, not by the folder
    with pytest.raises(Invalid, match="other code") as refused:
        product_release.make(workspace, "sales", by="dana")
    assert "made by release 1.0.0" in str(refused.value.hint)
    preview = environments.create_preview(workspace, "sales", "next", source="dev", by="dana")
    assert team.run(preview.branch).status == "succeeded"
    made, is_new = product_release.make(workspace, "sales", environment="next", by="dana")
    assert (made.version, is_new) == ("1.0.1", True)
    assert made.statement["data"]["branch"] == preview.branch
    with pytest.raises(Denied, match="dev"):
        promotion.promote(workspace, "sales", "1.0.1", to="test", by="dana")  # a preview is no environment
    team.wait(promotion.promote(workspace, "sales", "1.0.1", to="dev", by="dana"))
    assert team.amounts("dev") == team.amounts(preview.branch) != team.amounts("main")
    with pytest.raises(NotFound, match="there is no environment 'nxt'"):
        product_release.make(workspace, "sales", environment="nxt", by="dana")


@pytest.mark.parametrize("version", ["", "1.0", "v1.0.0", "1.0.0-rc1", "01.0.0"])
def test_a_version_is_three_numbers(team: Team, version: str) -> None:
    team.mesh.sales("product.yaml", sales_at(f"'{version}'"))
    with pytest.raises(TulleError) as refused:
        product_release.make(team.workspace, "sales", by="ann")
    assert refused.value.problems[0].place is not None


FEWER = ("      - {name: amount, type: 'decimal(10,2)'}\n", "")
MORE = (
    "      - {name: day, type: date}\n",
    "      - {name: day, type: date}\n      - {name: till, type: integer}\n",
)


@pytest.mark.parametrize(
    ("change", "columns", "too_little", "enough", "said"),
    [
        (FEWER, "id, customer, day", "1.1.0", "2.0.0", "breaks what was promised"),
        (MORE, "id, customer, day, amount, 1::BIGINT AS till", "1.0.1", "1.1.0", "adds to what was promised"),
    ],
)
def test_a_version_grows_as_the_change_asks(
    team: Team, change: tuple[str, str], columns: str, too_little: str, enough: str, said: str
) -> None:
    team.run("dev")
    product_release.make(team.workspace, "sales", by="ann")
    team.mesh.sales("transform/sales.sql", f"SELECT {columns} FROM till_rows\n")
    for version in (too_little, enough):
        text = sales_at(version)
        assert change[0] in text
        team.mesh.sales("product.yaml", text.replace(change[0], change[1], 1))
        assert team.run("dev").status in {"succeeded", "unchanged"}
        if version == too_little:
            with pytest.raises(Invalid) as refused:
                product_release.make(team.workspace, "sales", by="ann")
            assert f"{said} in 1.0.0, so it must be {enough} at least" in refused.value.message
            told = " ".join(problem.message for problem in refused.value.problems)
            assert ("'features' reads it" in told) is (enough == "2.0.0")
    made, _ = product_release.make(team.workspace, "sales", by="ann")
    assert (made.version, made.statement["previous"]) == (enough, "1.0.0")


def test_what_an_input_port_reads_is_data_and_stays_out(team: Team) -> None:
    team.mesh.sales("seeds/countries.csv", "code,name\nde,Germany\n")
    team.mesh.sales(".secret", "x")
    (team.mesh.folder / "products/shop/sales/link.sql").symlink_to("/etc/passwd")
    team.run("dev")
    made, _ = product_release.make(team.workspace, "sales", by="ann")
    names = set(made.statement["files"])
    assert "product/seeds/countries.csv" in names
    assert not names & {"product/data/sales.csv", "product/.secret", "product/link.sql"}


def test_a_port_that_reads_files_by_a_pattern_takes_no_code_with_it(team: Team) -> None:
    team.mesh.sales("product.yaml", sales_at("1.0.0").replace("path: data/sales.csv", "path: '*.csv'"))
    team.mesh.sales("seeds/countries.csv", "code,name\nde,Germany\n")
    team.mesh.sales("till.csv", ROWS)
    team.run("dev")
    made, _ = product_release.make(team.workspace, "sales", by="ann")
    names = set(made.statement["files"])
    assert {"product/seeds/countries.csv", "product/transform/sales.sql"} <= names
    assert "product/till.csv" not in names


def test_code_that_lies_where_a_port_reads_is_not_left_out_of_a_release(team: Team) -> None:
    moved = sales_at("1.0.0").replace("path: data/sales.csv", "path: transform/sales.csv")
    team.mesh.sales("product.yaml", moved)
    team.mesh.sales("transform/sales.csv", ROWS)
    team.run("dev")
    with pytest.raises(Invalid, match="lies where one of its input ports reads files"):
        product_release.make(team.workspace, "sales", by="ann")


def test_the_data_of_a_release_is_what_its_code_made_whatever_the_branch_is_now(team: Team) -> None:
    repository = team.workspace.lake.repository("sales")
    empty = repository.resolve("dev")
    ran = team.run("dev")
    repository.create_tag("release-1.0.0", empty)
    with pytest.raises(Conflict, match=r"tag 'release-1\.0\.0' of repository 'sales' names other data"):
        product_release.make(team.workspace, "sales", by="ann")
    repository.delete_tag("release-1.0.0")
    repository.hard_reset("dev", empty)
    made, _ = product_release.make(team.workspace, "sales", by="ann")
    assert made.data_commit == ran.commit_id == repository.tag("release-1.0.0").commit_id


def test_tampering_is_found(team: Team) -> None:
    team.run("dev")
    made, _ = product_release.make(team.workspace, "sales", by="ann")
    workspace = team.workspace
    archive = Path(workspace.settings.state_folder / "objects" / made.path)
    whole = archive.read_bytes()
    assert b"FROM till_rows" in whole
    archive.write_bytes(whole.replace(b"FROM till_rows", b"FROM tall_rows"))
    with pytest.raises(Broken, match=r"'product/transform/sales\.sql' is damaged"):
        release.verify(workspace.lake, made, workspace.settings)
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        new.addfile(tarfile.TarInfo("product/../../evil.sql"), io.BytesIO())
    archive.write_bytes(out.getvalue())
    with pytest.raises(Broken, match="which was not signed"):
        release.verify(workspace.lake, made, workspace.settings)
    archive.unlink()
    with pytest.raises(Broken, match="is gone from the store"):
        release.unpack(workspace.lake, made, workspace.settings)
    archive.write_bytes(whole)
    folder = release.unpack(workspace.lake, made, workspace.settings)
    (folder / "transform/sales.sql").write_text("SELECT 1\n")
    (folder / "transform/more.sql").write_text("SELECT 1\n")
    assert release.unpack(workspace.lake, made, workspace.settings) == folder
    assert "till_rows" in (folder / "transform/sales.sql").read_text()
    assert not (folder / "transform/more.sql").exists()
    with workspace.database.write() as cx:
        cx.execute(update(table).values(statement={**made.statement, "notes": "never said"}))
    changed = release.get(workspace.database, "sales", "1.0.0")
    with pytest.raises(Broken, match="its record was changed"):
        release.verify(workspace.lake, changed, workspace.settings)


def test_another_mesh_did_not_sign_it(team: Team) -> None:
    team.run("dev")
    made, _ = product_release.make(team.workspace, "sales", by="ann")
    (team.workspace.settings.state_folder / "secret.key").write_bytes(b"k" * 32)
    with pytest.raises(Broken, match="which is not this mesh's"):
        release.verify(team.workspace.lake, made, team.workspace.settings)


def test_what_a_killed_process_left_half_unpacked_is_removed(team: Team) -> None:
    """Killed between two files of it, for real; the next to unpack, or the hourly tidying, removes what it left."""
    workspace = team.workspace
    assert team.run("dev").status == "succeeded"
    product_release.make(workspace, "sales", by="ann")
    made = release.get(workspace.database, "sales", "1.0.0")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tulle.pipeline import release\n"
        "from tulle.server.app import open_workspace\n"
        "from tulle.spec.mesh import load_settings\n"
        "workspace = open_workspace(load_settings(Path(sys.argv[1])))\n"
        "made = release.get(workspace.database, 'sales', '1.0.0')\n"
        "write = Path.write_bytes\n"
        "def once(path, data):\n"
        "    write(path, data)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.write_bytes = once\n"
        "release.unpack(workspace.lake, made, workspace.settings)\n"
    )

    def killed() -> list[Path]:
        command = [sys.executable, "-c", script, str(team.mesh.folder)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        return list(home.glob("unpacking-*"))

    home = workspace.settings.state_folder / "releases" / "sales"
    assert len(killed()) == 1
    folder = release.unpack(workspace.lake, made, workspace.settings)
    assert list(home.iterdir()) == [folder.parent]
    shutil.rmtree(folder.parent)
    assert len(killed()) == 1
    other = home.with_name("gone") / "1.0.0-abc"
    other.mkdir(parents=True)
    profiles.tidy(workspace)
    assert (list(home.iterdir()), other.exists()) == ([], False)
