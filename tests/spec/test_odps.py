"""Product envelopes with their contracts: valid by the standards' own schemas, and nothing is lost on either way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from tests.spec.pruned import pruned
from tests.spec.test_odcs import FOREIGN, HERE, OFTEN, OURS, REGISTRY, _document, _product

from tulle.errors import Invalid
from tulle.spec import odcs, odps
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.overlay import difference
from tulle.spec.product import DataProduct
from tulle.spec.translate import view_of
from tulle.spec.validate import validate

ENVELOPE: dict[str, Any] = {
    "apiVersion": "v1.1.0",
    "kind": "DataProduct",
    "id": "fbe8d147-28db-4f1d-bedf-a3fe9f458427",
    "name": "Seller Payments",
    "version": "1.0.0",
    "status": "draft",
    "domain": "seller",
    "tenant": "RetailCorp",
    "type": "consumerAligned",
    "deprecated": False,
    "tags": ["customer"],
    "context": {"instructions": "Be brief"},
    "synonyms": [{"synonym": "payments", "status": "active"}],
    "description": {"purpose": "Views", "limitations": "Nightly", "usage": "Dashboards"},
    "authoritativeDefinitions": [{"type": "canonicalUrl", "url": "https://example.com/p"}],
    "customProperties": [
        {"property": "anonymousName", "value": 7, "description": "d"},
        {"property": "x", "value": 1},
    ],
    "inputPorts": [
        {"name": "payments", "version": "1.0.0", "contractId": "dbb7b1eb", "tags": ["in"]},
        {"name": "payments", "version": "2.0.0", "contractId": "ec2a1127", "deprecated": True},
    ],
    "outputPorts": [
        {
            "name": "rawtransactions",
            "description": "Raw",
            "type": "tables",
            "version": "1.0.0",
            "contractId": FOREIGN["id"],
            "sbom": [{"type": "external", "url": "https://example.com/sbom"}],
            "inputContracts": [{"id": "dbb7b1eb", "version": "2.0.0"}],
        },
        {"name": "again", "version": "1.0.0", "contractId": "second"},
        {"name": "unknown", "version": "1.0.0", "contractId": "nowhere"},
    ],
    "managementPorts": [{"name": "tool", "content": "discoverability", "type": "rest"}],
    "support": [{"channel": "#help", "url": "https://example.com/help"}],
    "team": {"name": "t", "members": [{"username": "mh", "role": "owner"}]},
    "productCreatedTs": "2026-01-01T00:00:00Z",
}
CONTRACTS = {
    FOREIGN["id"]: FOREIGN,
    "second": {**FOREIGN, "id": "second", "schema": FOREIGN["schema"][1:], "version": "9.9.9"},
}


def _there_and_back(envelope: dict[str, Any], contracts: dict[str, Any]) -> None:
    documents = {name: _document(contract) for name, contract in contracts.items()}
    _, product = odps.read_bundle(_document(envelope), documents, REGISTRY)
    again = odps.bundle(product, REGISTRY)
    assert difference(again.product, envelope) == []
    known = {port.get("contractId") for port in envelope.get("outputPorts", ())}
    for name, contract in contracts.items():
        if name in known:
            assert difference(again.contracts[name], contract) == []


def _back_and_there(product: DataProduct) -> None:
    made = odps.bundle(product, REGISTRY)
    assert validate(_document(made.product), odps.product_schema()) == []
    documents = {}
    for name, contract in made.contracts.items():
        documents[name] = _document(contract)
        assert validate(documents[name], odcs.contract_schema()) == []
    view, again = odps.read_bundle(_document(made.product), documents, REGISTRY)
    assert difference(view, view_of(product)) == []
    assert again == product


def test_an_envelope_of_somebody_else_comes_back_as_it_was() -> None:
    _there_and_back(ENVELOPE, CONTRACTS)


def test_what_an_envelope_says_is_said_in_our_words() -> None:
    documents = {name: _document(contract) for name, contract in CONTRACTS.items()}
    _, product = odps.read_bundle(_document(ENVELOPE), documents, REGISTRY)
    assert (product.name, product.product_type, product.status) == (
        "seller-payments",
        "consumer-aligned",
        "draft",
    )
    assert [port.offers for port in product.output_ports] == [("tbl_1", "receivers"), ("receivers",), ()]
    assert [port.contract_id for port in product.input_ports] == ["dbb7b1eb", "ec2a1127"]
    assert [port.title for port in product.input_ports] == ["payments", "payments 2"]
    assert product.owner == "mh"


def test_our_words_come_back_as_they_were() -> None:
    _back_and_there(_product(OURS))
    _back_and_there(read_product(load_document(HERE / "seed_product.yaml"), REGISTRY))


def test_our_words_are_said_in_an_envelope() -> None:
    made = odps.bundle(_product(OURS), REGISTRY)
    assert (made.product["id"], made.product["type"]) == ("full-product", "aggregate")
    assert [port["contractId"] for port in made.product["outputPorts"]] == list(made.contracts)
    assert set(made.contracts) == {"full-product.orders-port", "urn:x:1", "full-product.words-only"}


@OFTEN
@given(pruned(ENVELOPE), pruned(FOREIGN))
def test_any_envelope_comes_back(envelope: dict[str, Any], contract: dict[str, Any]) -> None:
    assume(not validate(_document(envelope), odps.product_schema()))
    assume(not validate(_document(contract), odcs.contract_schema()))
    _there_and_back(envelope, {FOREIGN["id"]: contract})


@OFTEN
@given(pruned(OURS))
def test_any_product_comes_back(document: dict[str, Any]) -> None:
    try:
        product = _product(document)
    except Invalid:
        assume(False)
    else:
        _back_and_there(product)


def test_what_is_wrong_with_an_envelope_is_told_at_its_place() -> None:
    text = "apiVersion: v1.1.0\nkind: DataProduct\nid: x\ninputPorts:\n- {nme: y}\n"
    with pytest.raises(Invalid) as caught:
        odps.read_bundle(load_document(text, name="p.yaml"), {}, REGISTRY)
    (problem,) = caught.value.problems
    assert str(problem.place) == "p.yaml:5:4"
    assert problem.hint == "did you mean 'name'?"
