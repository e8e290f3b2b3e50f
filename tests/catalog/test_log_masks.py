"""What of queries may be kept, by what the products behind a service declare; what is not known is not kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.conftest import Mesh

from tulle.catalog.log_masks import shown_of
from tulle.serving.log_rows import MASK, Shown
from tulle.serving.manifest import Manifest
from tulle.spec.product import DataProduct

SOURCE = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: source, type: data-product, properties: {definition: who}}
  - name: people
    type: data-set
    properties:
      description: one row a customer
      columns:
      - {name: phone, type: integer, pii: direct}
      - {name: city, type: string}
      - {name: note, type: string, classification: restricted}
  - {name: out, type: output-port, properties: {description: all, data_set: people}}
"""
MADE = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: made, type: data-product, properties: {definition: from who}}
  - name: in
    type: input-port
    properties: {description: who, product: source, associated_output_port: out, data_set: people}
  - name: areas
    type: data-set
    properties:
      description: one row an area
      columns:
      - {name: area, type: string, key: true}
      - {name: size, type: integer}
"""
PREDICT = {"name": "p", "type": "predict", "model": "models/m"}


@pytest.fixture
def products(tmp_path: Path) -> Mapping[str, DataProduct]:
    mesh = Mesh(tmp_path)
    mesh.write("products/shop/source/product.yaml", SOURCE)
    mesh.write("products/shop/made/product.yaml", MADE)
    return {product.name: product for product in mesh.spec().products}


def rules(
    products: Mapping[str, DataProduct], endpoints: Sequence[Mapping[str, Any]], product: str = "made"
) -> dict[str, Shown]:
    manifest = Manifest("s", "v1", product, "", "", "main", {}, "", tuple(endpoints), {}, "")
    return shown_of(manifest, products.get)


def test_what_a_model_is_sent_may_be_of_the_data_behind_its_own(products: Mapping[str, DataProduct]) -> None:
    rule = rules(products, [PREDICT])["p"]
    sent = {"phone": 555, "note": "ill", "area": "north", "size": 3, "who": "ann", "city": "rome"}
    assert rule.of(sent) == {"phone": MASK, "area": "north", "size": 3, "who": MASK, "city": MASK}
    said_open = {**products, "made": _with_column(products["made"], "phone")}
    assert rules(said_open, [PREDICT])["p"].of({"phone": 555}) == {"phone": 555}
    alone = {"made": products["made"]}  # whose source is not known
    assert rules(alone, [PREDICT])["p"].of({"who": "ann", "size": 3}) == {"who": MASK, "size": 3}
    assert rules({}, [PREDICT])["p"].closed


def test_of_a_database_nothing_is_known(products: Mapping[str, DataProduct]) -> None:
    alone = {"made": _without_ports(products["made"])}
    manifest_rules = rules(alone, [{"name": "q", "type": "query", "connection": "till"}])
    assert manifest_rules["q"].closed


def _with_column(product: DataProduct, name: str) -> DataProduct:
    """The product as it would be with a column of that name that names nobody."""

    (data_set,) = product.data_sets
    column = replace(data_set.columns[0], name=name)
    return replace(product, data_sets=(replace(data_set, columns=(*data_set.columns, column)),))


def test_a_composition_hides_what_it_may_have_from_others(products: Mapping[str, DataProduct]) -> None:
    open_product = {"made": _without_ports(products["made"]), "source": products["source"]}
    local = {"name": "c", "type": "compose", "steps": [{"name": "a", "call": "f"}]}
    function = {"name": "f", "type": "function"}
    assert not rules(open_product, [function, local])["c"].closed
    for step in ({"call": "other/endpoint"}, {"http": {"connection": "weather"}}):
        reaching = {"name": "r", "type": "compose", "steps": [{"name": "a", **step}]}
        around = {"name": "c", "type": "compose", "steps": [{"name": "a", "call": "r"}]}
        found = rules(open_product, [function, reaching, around])
        assert (found["f"].closed, found["r"].closed, found["c"].closed) == (False, True, True)
    rows = {
        "product": "source",
        "data_set": "people",
        "key": [{"name": "city"}],
        "columns": [{"name": "note"}],
    }
    lookup = {"name": "l", "type": "lookup", "rows": rows}
    found = rules(open_product, [lookup, {**local, "steps": [{"name": "a", "call": "l"}]}])
    assert (found["l"].left_out, found["c"].closed) == ({"note"}, True)
    harmless = {**rows, "columns": [{"name": "city"}]}
    joined = {
        "name": "l",
        "type": "lookup",
        "rows": harmless,
        "joined": [rows],
    }  # a second data set's count as well
    found = rules(open_product, [joined, {**local, "steps": [{"name": "a", "call": "l"}]}])
    assert (found["l"].left_out, found["c"].closed) == ({"note"}, True)


def _without_ports(product: DataProduct) -> DataProduct:

    return replace(product, input_ports=())
