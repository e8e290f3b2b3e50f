"""`tulle schema` and `tulle validate --format github`: what editors and CI systems are told."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from click.testing import CliRunner

from tulle.cli.annotations import github
from tulle.cli.main import cli
from tulle.errors import Place, Problem

SEED = Path(__file__).parents[1] / "spec" / "seed_product.yaml"


def _mesh(folder: Path, product: str) -> Path:
    (folder / "mesh.yaml").write_text("name: test\n")
    file = folder / "products" / "sales" / "orders" / "product.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(product)
    return folder


BROKEN = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
components:
- {name: sales, type: domain}
- {name: orders, type: data-product, properties: {definiton: '100% of all orders'}}
"""


def test_the_schema_takes_the_seeds_document_and_points_at_what_is_wrong(tmp_path: Path) -> None:
    out = tmp_path / "product.schema.json"
    result = CliRunner().invoke(cli, ["schema", "--out", str(out)], obj=None)
    assert result.exit_code == 0, result.output
    schema = jsonschema_rs.validator_for(json.loads(out.read_text()))
    assert schema.is_valid(yaml.safe_load(SEED.read_text()))
    assert not schema.is_valid(yaml.safe_load(BROKEN))


def test_problems_become_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mesh = _mesh(tmp_path / "mesh", BROKEN) if (tmp_path / "mesh").mkdir() is None else tmp_path
    result = CliRunner().invoke(cli, ["--mesh", str(mesh), "validate", "--format", "github"])
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.startswith("::error ")]
    (line,) = lines
    assert line.startswith("::error file=mesh/products/sales/orders/product.yaml,line=5,col=")
    assert line.endswith(
        "::unknown property 'definiton' in data-product 'orders'%0Adid you mean 'definition'?"
    )


def test_the_json_has_the_picture_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["--mesh", str(_mesh(tmp_path, BROKEN)), "validate", "--format", "json"])
    (problem,) = json.loads(result.output)["problems"]
    assert problem["picture"].splitlines()[2].strip("| ") == "^"


def test_an_annotation_cannot_be_ended_from_within(tmp_path: Path) -> None:
    hostile = Problem("50%\n::set-env name=A::b", Place("a,b:c.yaml", 1))
    told = github(hostile, tmp_path)
    assert "\n" not in told
    assert "50%25" in told
    assert "a%2Cb%3Ac.yaml" in told
