"""A product made of a whole dbt project validates at once and holds what the project says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tulle.cli.main import cli
from tulle.errors import Invalid
from tulle.pipeline.graph import load_code
from tulle.spec.capability import builtin_registry
from tulle.spec.dbt_scaffold import from_dbt_project, project_texts
from tulle.spec.mesh import load_mesh

PROJECT = Path(__file__).parents[1] / "pipeline/dbt_shop"


def test_a_project_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\nhook_environments: {dbt: /opt/dbt}\n")
    mesh = ["--mesh", str(tmp_path)]
    asked = ["new", "product", "shop", "--domain", "sales", "--from-dbt", str(PROJECT)]
    for args in (asked, ["validate"], ["product", "update-template", "shop"]):
        result = CliRunner().invoke(cli, [*mesh, *args])
        assert result.exit_code == 0, (args, result.output, result.exception)
    folder = tmp_path / "products/sales/shop"
    for file in PROJECT.rglob("*.sql"):
        assert (folder / "dbt" / file.relative_to(PROJECT)).read_bytes() == file.read_bytes()
    spec = load_mesh(tmp_path)
    product = spec.product("shop")
    assert [d.name for d in product.data_sets] == ["customers", "orders"], "what is described and no step"
    assert product.data_set("customers").description == "One row a customer, with what they spent"
    assert [port.data_set for port in product.output_ports] == ["customers", "orders"]
    (run,) = [c for c in product.components if c.type == "transformation"]
    assert run.properties == {
        "project": "dbt",
        "environment": "dbt",
        "sources": {"till.customers": "customers_source", "till.orders": "orders_source"},
    }
    code = load_code(product, spec=spec)
    assert code.problems == ()
    assert code.job("shop_models").tables == ("customers", "orders")
    rows = (folder / "data/orders_source.csv").read_text()
    assert rows == "order_id,customer_id,ordered_on,status\n1,1,2026-01-01,placed\n"
    assert "order_id" in (folder / "data/payments.csv").read_text()


def test_columns_that_have_a_type_are_promised(tmp_path: Path) -> None:
    project = tmp_path / "shop"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("name: shop\n")
    (project / "models/a.sql").write_text("select 1 as id, 'x' as word")
    (project / "models/a.yml").write_text(
        "models:\n- name: a\n  columns:\n"
        "  - {name: id, data_type: integer, data_tests: [unique, not_null]}\n  - {name: word}\n"
    )
    files = from_dbt_project(project, builtin_registry(), name="shop", domain="sales")
    assert "{name: id, type: integer" in files["product.yaml"].replace("\n        ", " ") or (
        "name: id" in files["product.yaml"] and "type: integer" in files["product.yaml"]
    )
    assert "name: word" not in files["product.yaml"], "nobody says what it is"
    assert set(project_texts(project)) == {"dbt/dbt_project.yml", "dbt/models/a.sql", "dbt/models/a.yml"}


def test_what_is_no_project_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be taken over") as caught:
        from_dbt_project(tmp_path, builtin_registry(), name="shop", domain="sales")
    assert "dbt_project.yml is missing" in caught.value.problems[0].message
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    (tmp_path / "photo.md").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match=r"photo\.md cannot be taken over"):
        project_texts(tmp_path)
