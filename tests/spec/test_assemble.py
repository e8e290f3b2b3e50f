"""A whole document becomes the values it describes."""

from __future__ import annotations

from tests.spec.conftest import a_product

from tulle.spec.product import (
    Column,
    DataSet,
    DataSharingAgreement,
    InputPort,
    OutputPort,
    ServiceLevelAsset,
    ServiceLevelIndicator,
)
from tulle.spec.source import Source, SourceColumn

DOCUMENT = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
metadata: {name: cd-purchases}
spec:
  components:
  - {name: Sales & Trade, type: domain, properties: {description: Sells CDs, owner: head}}
  - name: CD purchases
    type: data-product
    properties:
      definition: All of them
      data_product_owner: me
      data_product_type: Consumer Oriented
      certified: no
      version: 1.0.0
      purpose: Analysis
      classification: public
      tags: [cd]
  - name: Purchases of CDs
    type: data-set
    properties:
      description: One row a purchase
      table_name: shop.sales.Purchases
      table_domain: Sales
      tags: [fact]
      classification: restricted
      columns:
      - {name: customer_id, type: string, description: Who, required: true, key: true, pii: indirect, tags: [id]}
      - {name: amount, type: 'decimal(10,2)', semantics: price}
  - name: Purchases log
    type: input-port
    properties:
      description: The log
      source:
        type: file
        path: data/log.txt.gz
        format: csv
        delimiter: ;
        header: false
        quote: ''
        encoding: latin-1
        columns: [{name: customer_id}, {name: on, type: date, format: '%Y%m%d'}]
  - {name: Files port, type: output-port, properties: {description: Take it, url: 'http://x', protocol: rest}}
  - {name: Fresh, type: service-level-asset, properties: {description: Daily, dimension: F, dimension_domain: R}}
  - name: Measured
    type: service-level-indicator
    properties: {description: Daily, service_level_name: fresh, objective: 80, window_days: 20.0}
  - {name: Terms, type: data-sharing-agreement, properties: {description: Ask, purpose: p, terms: t, expires: 2027-01-01}}
"""


def test_every_property_arrives() -> None:
    product = a_product(head=DOCUMENT)
    assert (product.name, product.title, product.description) == (
        "cd-purchases",
        "CD purchases",
        "All of them",
    )
    assert (product.domain, product.domain_title) == ("sales-trade", "Sales & Trade")
    assert (product.domain_description, product.domain_owner) == ("Sells CDs", "head")
    assert (product.owner, product.product_type, product.certified) == ("me", "consumer-aligned", False)
    assert (product.version, product.purpose, product.classification) == ("1.0.0", "Analysis", "public")
    assert product.tags == ("cd",)
    columns = (
        Column("customer_id", "string", "Who", required=True, key=True, pii="indirect", tags=("id",)),
        Column("amount", "decimal(10,2)", semantics="price"),
    )
    table, classification = "shop.sales.Purchases", "restricted"
    assert product.data_sets == (
        DataSet(
            "purchases",
            "Purchases of CDs",
            "One row a purchase",
            table,
            "Sales",
            columns,
            ("fact",),
            classification,
        ),
    )
    assert product.data_sets[0].key == ("customer_id",)
    assert product.data_sets[0].column("amount") is product.data_sets[0].columns[1]
    read = (SourceColumn("customer_id"), SourceColumn("on", "date", "%Y%m%d"))
    source = Source("data/log.txt.gz", "csv", ";", header=False, quote="", encoding="latin-1", columns=read)
    assert product.input_ports == (
        InputPort("purchases-log", "Purchases log", "The log", "purchases_log", source),
    )
    assert product.output_ports == (
        OutputPort("files-port", "Files port", "Take it", "purchases", "http://x", "rest"),
    )
    assert product.service_level_assets == (ServiceLevelAsset("fresh", "Fresh", "Daily", "F", "R"),)
    indicator = ServiceLevelIndicator("measured", "Measured", "Daily", "fresh", 80.0, 20)
    assert product.service_level_indicators == (indicator,)
    assert isinstance(product.service_level_indicators[0].window_days, int)
    assert product.agreements == (DataSharingAgreement("terms", "Terms", "Ask", "p", "t", "2027-01-01"),)


def test_places_point_into_the_document() -> None:
    product = a_product(head=DOCUMENT)
    assert product.place
    assert product.place.line == 7
    places = [product.data_sets[0].columns[1].place, product.input_ports[0].place]
    assert [place.line for place in places if place] == [28, 29]
    source = product.input_ports[0].source
    assert source
    assert source.place
    assert source.columns[1].place
    assert (source.place.line, source.columns[1].place.column) == (34, 40)


def test_the_digest_follows_the_meaning_alone() -> None:
    product = a_product(head=DOCUMENT)
    assert a_product(head="# a comment\n" + DOCUMENT).digest == product.digest
    assert (
        a_product(head=DOCUMENT.replace("purpose: Analysis", "purpose: {value: Analysis}")).digest
        == product.digest
    )
    assert a_product(head=DOCUMENT.replace("cd-purchases", "other")).digest != product.digest
