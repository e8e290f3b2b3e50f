"""Data contracts: valid by the standard's own schema and model, and nothing is lost on either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from open_data_contract_standard.model import OpenDataContractStandard
from tests.spec.pruned import pruned

from tulle.errors import Invalid, NotFound
from tulle.spec import odcs
from tulle.spec.capability import builtin_registry
from tulle.spec.document import Document
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.overlay import difference
from tulle.spec.product import DataProduct
from tulle.spec.translate import document_text
from tulle.spec.validate import validate
from tulle.spec.write import dump

HERE = Path(__file__).parent
REGISTRY = builtin_registry()
FOREIGN = load_document(HERE / "full_contract.yaml").value
OURS = load_document(HERE / "full_product.yaml").value
OFTEN = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def _document(value: Any) -> Document:
    return load_document(dump(value), name="contract.yaml")


def _product(value: Any) -> DataProduct:
    return read_product(load_document(dump(value), name="product.yaml"), REGISTRY)


def _valid(contract: dict[str, Any]) -> None:
    assert validate(_document(contract), odcs.contract_schema()) == []
    OpenDataContractStandard.from_string(dump(contract))


def _there_and_back(contract: dict[str, Any]) -> None:
    _, product = odcs.read_contract(_document(contract), REGISTRY)
    (port,) = product.output_ports
    assert difference(odcs.contract(product, port.name, REGISTRY), contract) == []


def _back_and_there(product: DataProduct) -> None:
    for port in product.output_ports:
        contract = odcs.contract(product, port.name, REGISTRY)
        _valid(contract)
        view, _ = odcs.read_contract(_document(contract), REGISTRY)
        assert difference(view, odcs.view_for(product, port.title, REGISTRY)) == []


def test_a_contract_of_somebody_else_comes_back_as_it_was() -> None:
    _there_and_back(FOREIGN)


def test_what_a_contract_says_is_said_in_our_words() -> None:
    _, product = odcs.read_contract(_document(FOREIGN), REGISTRY)
    assert (product.name, product.domain, product.version) == ("my-quantum", "seller", "1.1.0")
    assert product.owner == "mh"
    assert [channel.channel for channel in product.support] == ["#product-help", "feedback"]
    assert [link.url for link in product.links] == ["https://github.com/bitol-io/open-data-contract-standard"]
    table = product.data_set("tbl_1")
    assert table.partitioning == ("transaction_reference_date",)
    assert [column.type for column in table.columns] == [
        "date",
        "string",
        "string",
        "decimal(12,2)",
        "double",
        "string",
    ]
    receiver = table.column("rcvr_id")
    assert (receiver.key, receiver.required, receiver.unique, receiver.max_length) == (True, True, True, 18)
    assert [value.value for value in receiver.enum] == ["A", "B"]
    assert product.output_ports[0].offers == ("tbl_1", "receivers")
    assert product.service_level_assets[0].threshold == 4
    assert product.agreements[0].price is not None


def test_our_words_are_said_in_a_contract() -> None:
    contract = odcs.contract(_product(OURS), "Orders port", REGISTRY)
    assert contract["id"] == "full-product.orders-port"
    assert (contract["version"], contract["status"]) == ("2.0.0", "deprecated")
    orders, shops = contract["schema"]
    assert (orders["physicalName"], shops["name"]) == ("PROD.Orders", "Shops")
    columns = {column["name"]: column for column in orders["properties"]}
    assert columns["country"]["primaryKeyPosition"] == 2
    assert columns["country"]["logicalTypeOptions"] == {"maxLength": 2, "pattern": "[A-Z]{2}"}
    assert columns["amount"]["physicalType"] == "NUMERIC(10,2)"
    assert columns["ordered_on"]["partitionKeyPosition"] == 1
    assert columns["shop"]["relationships"] == [{"type": "foreignKey", "to": "shops.id"}]
    assert contract["price"] == {"priceAmount": 9.5, "priceCurrency": "EUR", "priceUnit": "month"}
    assert contract["slaProperties"][0]["value"] == 24
    assert contract["slaProperties"][1] | {"customProperties": []} == {
        "property": "refreshed",
        "value": 80,
        "unit": "percent",
        "description": "Refreshed daily",
        "customProperties": [],
    }
    assert contract["servers"][0]["location"] == "s3://full-product/main/orders/*.parquet"


def test_our_words_come_back_as_they_were() -> None:
    _back_and_there(_product(OURS))
    _back_and_there(read_product(load_document(HERE / "seed_product.yaml"), REGISTRY))


def test_a_table_may_be_renamed_in_a_contract_read_before() -> None:
    view, _ = odcs.read_contract(_document(FOREIGN), REGISTRY)
    table = next(c for c in view["components"] if c["name"] == "tbl")
    table["properties"]["description"] = "New words"
    product = read_product(load_document(document_text(view), name="p"), REGISTRY)
    contract = odcs.contract(product, product.output_ports[0].name, REGISTRY)
    _valid(contract)
    assert contract["schema"][0]["description"] == "New words"
    assert contract["schema"][0]["quality"] == FOREIGN["schema"][0]["quality"]


@OFTEN
@given(pruned(FOREIGN))
def test_any_contract_comes_back(contract: dict[str, Any]) -> None:
    assume(not validate(_document(contract), odcs.contract_schema()))
    _there_and_back(contract)


@OFTEN
@given(pruned(OURS))
def test_any_product_comes_back(document: dict[str, Any]) -> None:
    try:
        product = _product(document)
    except Invalid:
        assume(False)
    else:
        _back_and_there(product)


def test_what_is_wrong_with_a_contract_is_told_at_its_place() -> None:
    text = "apiVersion: v3.2.0\nkind: DataContract\nid: x\nversion: 1.0\nschma: []\n"
    with pytest.raises(Invalid) as caught:
        odcs.read_contract(load_document(text, name="c.yaml"), REGISTRY)
    messages = [f"{p.place}: {p.message} ({p.hint})" for p in caught.value.problems]
    assert messages == [
        "c.yaml:4:10: 'version' is the number 1.0, expected text (put it in quotes: '1.0')",
        "c.yaml:5:1: unknown property 'schma' (did you mean 'schema'?)",
    ]


def test_a_port_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="orders-prot"):
        odcs.contract(_product(OURS), "orders-prot", REGISTRY)
