"""The OAM example of the article, filled in: validated, planned, applied, run, read and destroyed by the commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tulle.catalog.masking import shown_columns
from tulle.cli.main import cli
from tulle.control.workspace import Workspace
from tulle.engine.duck import DuckEngine
from tulle.pipeline import queue
from tulle.pipeline.execute import execute
from tulle.pipeline.table import data_at
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_mesh, load_settings
from tulle.state import products

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "health"
SEED = ROOT / "tests" / "spec" / "seed_product.yaml"
DOCUMENT = "products/claims/member-claims/product.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, in a folder of its own."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "health", ignore=shutil.ignore_patterns(".tulle")))


@pytest.fixture
def workspace(folder: Path) -> Iterator[Workspace]:
    """The example, opened."""
    made = open_workspace(load_settings(folder, {}))
    yield made
    made.database.close()


def tulle(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(cli, ["--mesh", str(folder), *words])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


def test_only_lines_that_say_so_were_added() -> None:
    written = (EXAMPLE / DOCUMENT).read_text().splitlines()[2:]  # beside what the file is
    assert [
        line for line in written if not line.endswith("# added") and "# added:" not in line
    ] == SEED.read_text().splitlines()


def test_a_diagnosis_is_shown_to_nobody_in_the_portal() -> None:
    claims = load_mesh(EXAMPLE).product("member-claims")
    (data_set,) = claims.data_sets
    assert "diagnosis" in {column.name for column in data_set.columns}
    assert "diagnosis" not in shown_columns(claims, data_set, [column.name for column in data_set.columns])


def test_from_the_document_to_its_rows_and_away_again(folder: Path, workspace: Workspace) -> None:
    assert "2 product(s) are valid" in tulle(folder, "validate")
    plan = json.loads(tulle(folder, "plan", "--json"))
    assert [(step["operation"], step["subject"]) for step in plan["steps"]] == [
        (operation, subject)
        for subject in ("provider-directory", "member-claims")
        for operation in ("create-repository", "register", "grant")
    ]
    assert "✓ applied" in tulle(folder, "apply")
    for name in ("provider-directory", "member-claims"):
        spec = workspace.spec()
        run = execute(workspace.database, workspace.lake, spec, queue.request(workspace.database, spec, name))
        assert run.status == "succeeded", run.error
    found = data_at(workspace.lake.repository("member-claims"), "main", "member_claims")
    assert found is not None
    engine = DuckEngine(workspace.settings.warehouse, folder / "tmp")
    asked = "SELECT provider, count(*) AS claims, sum(paid)::VARCHAR AS paid FROM member_claims GROUP BY 1 ORDER BY 1"
    assert engine.query(asked, [found.relation]).to_pylist() == [
        {"provider": "Clinic North", "claims": 2, "paid": "600.40"},
        {"provider": "Dr. Fern", "claims": 2, "paid": "144.00"},
        {"provider": "Dr. Moss", "claims": 2, "paid": "171.36"},
    ]
    assert "everything is as it was applied" in tulle(folder, "drift")
    tulle(folder, "destroy", "member-claims", "--data", "--yes")
    assert [item.product.name for item in products.applied(workspace.database)] == ["provider-directory"]
    assert [repository.name for repository in workspace.lake.repositories()] == ["provider-directory"]
