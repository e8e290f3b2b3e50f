"""`tulle validate`: problems end it with 1, warnings do not; each is told the way it was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.control.conftest import fill
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.errors import Invalid, NotFound


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    made = Mesh(tmp_path / "mesh")
    fill(made)
    return made


def validate(mesh: Mesh, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "validate", *words])


def test_products_by_name(mesh: Mesh) -> None:
    assert "2 product(s) are valid: sales, features" in validate(mesh).output
    assert "1 product(s) are valid: features" in validate(mesh, "features").output
    mesh.sales("check/more.yaml", "")
    assert validate(mesh, "features").exit_code == 0
    failed = validate(mesh, "features", "sales")
    assert isinstance(failed.exception, Invalid)
    assert "did you mean 'checks'?" in failed.output
    misspelt = validate(mesh, "sails").exception
    assert isinstance(misspelt, NotFound)
    assert misspelt.hint == "did you mean 'sales'?"


def test_a_warning_is_told_and_fails_nothing(mesh: Mesh) -> None:
    (mesh.folder / "products/shop/sales/data/sales.csv").unlink()
    told = validate(mesh)
    assert told.exit_code == 0
    assert "warning: there is no file 'data/sales.csv' yet" in told.output
    assert "path: data/sales.csv" in told.output
    assert "2 product(s) are valid" in told.output
    assert "::warning file=" in validate(mesh, "--format", "github").output
    answer = json.loads(validate(mesh, "--json").output)
    assert (len(answer["problems"]), len(answer["warnings"])) == (0, 1)
