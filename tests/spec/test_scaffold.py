"""Products made of a data contract or of dbt models: valid at once, with what was described."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.spec.test_odcs import HERE, REGISTRY

from tulle.cli.main import cli
from tulle.errors import Invalid
from tulle.spec.details import AcceptedValue, ForeignKey
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.odcs import contract as contract_of
from tulle.spec.product import DataProduct
from tulle.spec.scaffold import from_contract, from_dbt, left_out

SCHEMA_YML = """\
version: 2
models:
  - name: customers
    description: One row a customer
    columns:
      - {name: customer_id, description: Who, data_type: integer, data_tests: [unique, not_null]}
      - {name: spent, data_type: 'numeric(12, 2)'}
      - {name: order, data_type: date}
  - name: orders
    config: {tags: [core]}
    columns:
      - name: order_id
        tests: [unique, not_null]
      - name: customer_id
        data_type: bigint
        tests:
          - relationships: {to: ref('customers'), field: customer_id}
      - name: status
        data_type: varchar(10)
        tests:
          - accepted_values: {arguments: {values: [placed, returned]}}
      - name: product
        tests: [{relationships: {to: ref('elsewhere'), field: id}}, dbt_utils.not_constant]
"""
MANIFEST = {
    "metadata": {"project_name": "jaffle_shop"},
    "nodes": {
        "model.jaffle_shop.orders": {
            "resource_type": "model",
            "unique_id": "model.jaffle_shop.orders",
            "name": "orders",
            "description": "One row an order",
            "columns": {"id": {"name": "id", "description": "Which", "data_type": "BIGINT"}},
        },
        "test.jaffle_shop.not_null_orders_id": {
            "resource_type": "test",
            "attached_node": "model.jaffle_shop.orders",
            "test_metadata": {"name": "not_null", "kwargs": {"column_name": "id", "model": "{{ x }}"}},
        },
        "seed.jaffle_shop.raw": {"resource_type": "seed", "name": "raw"},
    },
}


def _dbt(text: str) -> tuple[dict[str, str], DataProduct]:
    files = from_dbt(load_document(text, name="schema.yml"), REGISTRY, name="shop", domain="sales")
    return files, read_product(load_document(files["product.yaml"]), REGISTRY)


def test_models_of_dbt_become_data_sets() -> None:
    files, product = _dbt(SCHEMA_YML)
    assert (product.name, product.domain) == ("shop", "sales")
    customers, orders = product.data_sets
    assert [column.type for column in customers.columns] == ["integer", "decimal(12,2)", "date"]
    assert (customers.key, orders.tags) == (("customer_id",), ("core",))
    assert orders.column("customer_id").foreign_key == ForeignKey("customers", "customer_id")
    assert orders.column("status").enum == (AcceptedValue("placed"), AcceptedValue("returned"))
    assert orders.column("product").foreign_key is None
    assert [port.data_set for port in product.output_ports] == ["customers", "orders"]
    assert files["data/customers.csv"] == "customer_id,spent,order\n1,0,2026-01-01\n"
    assert files["data/orders.csv"].splitlines()[1] == "sample,1,placed,sample"
    assert 'CAST("order" AS DATE) AS "order"' in files["transform/customers.sql"]


def test_a_manifest_of_dbt_says_the_same() -> None:
    _, product = _dbt(json.dumps(MANIFEST))
    (orders,) = product.data_sets
    assert (orders.description, orders.column("id").required) == ("One row an order", True)
    assert "jaffle_shop" in product.description


@pytest.mark.parametrize("text", ["models: []", "[]", "nodes: {a: 1}", "models: [1, {name: 2}]", "x"])
def test_what_describes_no_models_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="describes no dbt models"):
        _dbt(text)


def test_a_contract_becomes_a_product() -> None:
    contract = load_document(HERE / "full_contract.yaml")
    files = from_contract(contract, REGISTRY, name="payments", domain="finance")
    product = read_product(load_document(files["product.yaml"]), REGISTRY)
    assert (product.name, product.domain) == ("payments", "finance")
    assert [port.data_set for port in product.input_ports] == ["tbl_1_raw", "receivers_raw"]
    assert set(files) == {
        "product.yaml",
        *("data/tbl_1.csv", "data/receivers.csv", "transform/tbl_1.sql", "transform/receivers.sql"),
    }


OPERATED = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: sales, type: domain, properties: {}}
  - name: bills
    type: data-product
    properties:
      {definition: What is owed, schedule: {cron: 0 6 * * *}, alerts: [team], warehouse: night, usage: with care}
  - {name: bills, type: data-set, properties: {description: x, columns: [{name: id, type: integer}]}}
  - {name: Files, type: output-port, properties: {description: x}}
  - {name: Access, type: data-sharing-agreement, properties: {description: x, terms: t, consumers: [ann]}}
  - name: Daily
    type: service-level-asset
    properties: {description: x, dimension: Freshness, schedule: every now and then}
"""


def test_how_the_contracts_own_product_is_run_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")  # without the channel and the warehouse
    text = contract_of(read_product(load_document(OPERATED), REGISTRY), "files", REGISTRY)
    document = tmp_path / "bills.odcs.yaml"
    document.write_text(json.dumps(text))
    assert left_out(load_document(document), REGISTRY) == ["schedule", "alerts", "warehouse", "consumers"]
    words = ["new", "product", "invoices", "--domain", "finance", "--from-odcs", str(document)]
    for args in (words, ["validate"]):
        result = CliRunner().invoke(cli, ["--mesh", str(tmp_path), *args])
        assert result.exit_code == 0, (result.output, getattr(result.exception, "problems", ""))
        if args is words:
            assert (
                "left out, as it is how the contract's own product is run: schedule, alerts" in result.output
            )
    product = read_product(load_document(tmp_path / "products/finance/invoices/product.yaml"), REGISTRY)
    assert (product.schedule, product.alerts, product.warehouse, product.usage) == (None, (), "", "with care")
    assert [(a.terms, a.consumers) for a in product.agreements] == [("t", ())]
    assert product.service_level_assets[0].schedule == "every now and then"  # words, which start nothing


def test_what_is_made_validates_and_runs_at_once(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    (tmp_path / "schema.yml").write_text(SCHEMA_YML)
    mesh = ["--mesh", str(tmp_path)]
    contract = str(HERE / "full_contract.yaml")
    for args in (
        ["new", "product", "shop", "--domain", "sales", "--from-dbt", str(tmp_path / "schema.yml")],
        ["new", "product", "payments", "--domain", "finance", "--from-odcs", contract],
        ["validate"],
        ["apply"],
        ["run", "shop"],
        ["run", "payments"],
    ):
        result = CliRunner().invoke(cli, [*mesh, *args])
        assert result.exit_code == 0, (
            args,
            result.output,
            result.exception,
            getattr(result.exception, "problems", ""),
        )
