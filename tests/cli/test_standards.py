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
from tulle.errors import Invalid, Place, Problem
from tulle.spec.overlay import difference

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


def test_the_schema_of_a_service_takes_those_of_the_examples_and_refuses_a_slip() -> None:
    result = CliRunner().invoke(cli, ["schema", "--of", "service"], obj=None)
    assert result.exit_code == 0, result.output
    schema = jsonschema_rs.validator_for(json.loads(result.output))
    files = sorted((Path(__file__).parents[2] / "examples").rglob("services/*.yaml"))
    declared = [yaml.safe_load(file.read_text()) for file in files if not file.stem.endswith(".openapi")]
    assert declared
    for service in declared:
        assert schema.is_valid(service), service["service"]
        slip = {**service, "endpoints": [{**service["endpoints"][0], "type": "predcit"}]}
        assert not schema.is_valid(slip), service["service"]


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


SPEC = Path(__file__).parents[1] / "spec"


def _tulle(*args: str) -> str:
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_a_contract_is_imported_and_exported_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    mesh = ("--mesh", str(tmp_path))
    _tulle(*mesh, "import", "odcs", str(SPEC / "full_contract.yaml"))
    assert (tmp_path / "products" / "seller" / "my-quantum" / "product.yaml").exists()
    _tulle(*mesh, "validate")
    text = _tulle(*mesh, "export", "odcs", "my-quantum")
    assert yaml.safe_load(text) == yaml.safe_load((SPEC / "full_contract.yaml").read_text())
    again = CliRunner().invoke(cli, [*mesh, "import", "odcs", str(SPEC / "full_contract.yaml")])
    assert "the mesh has a product 'my-quantum' already" in str(again.exception)


def test_a_product_goes_out_and_comes_back_into_another_mesh(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for mesh in (one, two):
        mesh.mkdir()
        (mesh / "mesh.yaml").write_text("name: test\n")
    file = one / "products" / "claims" / "member-claims" / "product.yaml"
    file.parent.mkdir(parents=True)
    text = SEED.read_text().replace(
        "    associated_output_port:\n            value: 'JDBC-Port of DP Provider Directory'\n", ""
    )
    file.write_text(text)
    out = tmp_path / "exchange"
    _tulle("--mesh", str(one), "export", "odps", "member-claims", "--out", str(out))
    assert sorted(path.name for path in out.rglob("*.yaml")) == [
        "member-claims-jdbc-port-of-dp-member-claims.odcs.yaml",
        "product.odps.yaml",
    ]
    _tulle("--mesh", str(two), "import", "odps", str(out / "product.odps.yaml"))
    first = json.loads(_tulle("--mesh", str(one), "export", "odps", "member-claims", "--json"))
    second = json.loads(_tulle("--mesh", str(two), "export", "odps", "member-claims", "--json"))
    assert first == second


def test_one_of_several_ports_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\nwarehouses: {heavy: {threads: 1}}\n")
    file = tmp_path / "products" / "sales" / "full-product" / "product.yaml"
    file.parent.mkdir(parents=True)
    text = (SPEC / "full_product.yaml").read_text()
    start = text.index("  - name: From another")
    file.write_text(text[:start] + text[text.index("  - name: Orders port") :])
    result = CliRunner().invoke(cli, ["--mesh", str(tmp_path), "export", "odcs", "full-product"])
    assert "has 3 output ports" in str(result.exception)


def test_quality_rules_come_in_as_checks_and_go_out_as_rules(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    contract = SPEC / "full_contract.yaml"
    mesh = ["--mesh", str(tmp_path)]
    brought = CliRunner().invoke(cli, [*mesh, "import", "odcs", str(contract), "--domain", "sales"])
    assert brought.exit_code == 0, brought.output
    (checks,) = tmp_path.glob("products/*/*/checks/contract.yaml")
    assert "type: row_count" in checks.read_text()
    product = checks.parents[1].name
    told = CliRunner().invoke(cli, [*mesh, "export", "odcs", product, "--json"])
    assert told.exit_code == 0, told.output
    assert difference(json.loads(told.output), yaml.safe_load(contract.read_text())) == []
    checks.write_text(checks.read_text().replace("min: 100", "min: 99"))
    told = CliRunner().invoke(cli, [*mesh, "export", "odcs", product, "--json"])
    assert json.loads(told.output)["schema"][0]["quality"][0]["mustBeBetween"] == [99, 120]
    checks.write_text("checks: [{data_set: tbl_1, type: row_count}]\n")
    refused = CliRunner().invoke(cli, [*mesh, "export", "odcs", product])
    assert isinstance(refused.exception, Invalid)
    assert str(refused.exception.problems[0].place).endswith("checks/contract.yaml:1:10")
