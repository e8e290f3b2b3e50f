"""What components say of themselves beyond names and shapes: it arrives as written, and what cannot be is told."""

from __future__ import annotations

import pytest
from tests.spec.conftest import a_product, problems_of

from tulle.spec.details import AcceptedValue, BusinessKey, Contact, ForeignKey, Link, Price, Synonym

RICH = """\
  - name: purchases
    type: data-set
    properties:
      description: One row a purchase
      title: Purchases
      grain: one line of one receipt
      partitioning: [bought_on]
      sort_order: [bought_on desc, id]
      retention: 7 years
      business_keys:
      - {name: receipt number, columns: [id], description: Printed on the receipt}
      synonyms: [sales, {synonym: Einkäufe, locale: de-DE}]
      examples: [{id: 1, country: DE}]
      custom: {cost_centre: 42, nested: {a: [1, 2]}}
      columns:
      - {name: id, type: integer, key: true, required: true, unique: true, min: 1}
      - {name: bought_on, type: date, min: '2020-01-01', max: '2030-12-31'}
      - name: country
        type: string
        enum: [DE, {value: FR, label: France, description: The hexagon}]
        pattern: '[A-Z]{2}'
        min_length: 2
        max_length: 2
        default: DE
        deprecated: true
        replaced_by: id
        semantic_type: dimension
        links: [{url: 'https://example.org/iso', type: businessDefinition}]
      - {name: shop, type: integer, foreign_key: {data_set: shops, column: id}, custom: {a: true}}
      - {name: paid, type: 'decimal(10,2)', unit: EUR, critical: true, classification: confidential}
  - {name: shops, type: data-set, properties: {description: x, columns: [{name: id, type: integer}]}}
  - name: Port
    type: output-port
    properties:
      description: Take it
      data_set: purchases
      data_sets: [purchases, shops]
      protocols: [sql]
      formats: [parquet]
      version: 2.1.0
      status: deprecated
      sunset: 2027-12-31
      replaced_by: Port 2
"""


def test_what_is_written_arrives() -> None:
    product = a_product(RICH)
    purchases = product.data_set("purchases")
    assert (purchases.label, purchases.grain) == ("Purchases", "one line of one receipt")
    assert (purchases.partitioning, purchases.retention) == (("bought_on",), "7 years")
    assert purchases.sort_order == ("bought_on desc", "id")
    assert purchases.business_keys == (BusinessKey("receipt number", ("id",), "Printed on the receipt"),)
    assert purchases.synonyms == (Synonym("sales"), Synonym("Einkäufe", "de-DE"))
    assert purchases.custom == {"cost_centre": 42, "nested": {"a": [1, 2]}}
    assert purchases.examples == ({"id": 1, "country": "DE"},)
    country = purchases.column("country")
    assert country.enum == (AcceptedValue("DE"), AcceptedValue("FR", "France", "The hexagon"))
    assert (country.pattern, country.min_length, country.max_length) == ("[A-Z]{2}", 2, 2)
    assert (country.default, country.deprecated, country.replaced_by) == ("DE", True, "id")
    assert country.links == (Link("https://example.org/iso", "businessDefinition"),)
    assert purchases.column("shop").foreign_key == ForeignKey("shops", "id")
    assert (purchases.column("bought_on").min, purchases.column("id").unique) == ("2020-01-01", True)
    assert (purchases.column("paid").unit, purchases.column("paid").critical) == ("EUR", True)
    port = product.output_port("port")
    assert (port.offers, port.protocols, port.formats) == (("purchases", "shops"), ("sql",), ("parquet",))
    assert (port.version, port.status, port.sunset) == ("2.1.0", "deprecated", "2027-12-31")
    assert port.replaced_by == "Port 2"


def test_product_domain_levels_and_agreements() -> None:
    head = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: sales, type: domain, properties: {contacts: [{username: a@b.example, since: 2026-01-01}]}}
  - name: purchases
    type: data-product
    properties:
      definition: All purchases
      status: active
      compatibility: full
      warehouse: heavy
      limitations: not for credit scoring
      contacts: [{username: jane, role: steward}]
      support: [{channel: '#sales', url: 'slack://channel?id=1', tool: slack}]
  - {name: Fresh, type: service-level-asset, properties: {description: x, measure: latency, threshold: 4,
     operator: <=, unit: hours}}
  - {name: How, type: service-level-indicator, properties: {description: x, service_level_name: Fresh,
     schedule: 0 6 * * *}}
  - {name: Terms, type: data-sharing-agreement, properties: {description: x, starts: 2026-01-01,
     expires: 2027-01-01, approval: steward, notice_period: 30 days, billing_contact: money@b.example,
     price: {amount: 9.5, currency: EUR, per: month}}}
"""
    product = a_product("", head)
    assert product.domain_contacts == (Contact("a@b.example", since="2026-01-01"),)
    assert (product.status, product.compatibility, product.warehouse) == ("active", "full", "heavy")
    assert product.contacts == (Contact("jane", role="steward"),)
    assert product.support[0].url == "slack://channel?id=1"
    level, indicator = product.service_level_assets[0], product.service_level_indicators[0]
    assert (level.measure, level.threshold, level.operator, level.unit) == ("latency", 4, "<=", "hours")
    assert indicator.schedule == "0 6 * * *"
    terms = product.agreements[0]
    assert terms.price == Price(9.5, "EUR", "month")
    assert (terms.approval, terms.notice_period) == ("steward", "30 days")


def _column(text: str) -> str:
    return (
        f"  - {{name: t, type: data-set, properties: {{description: x, columns: [{{name: a, {text}}}]}}}}\n"
    )


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        ("type: string, pattern: '(?=x)'", "is no regular expression", "linear time"),
        (
            "type: integer, pattern: x",
            "'pattern' has no meaning for the column 'a' of type integer",
            "remove",
        ),
        ("type: integer, min: 5, max: 1", "'max' (1) is less than 'min' (5)", None),
        ("type: date, min: 2026-02-30", "'2026-02-30' is no date", "quotes"),
        ("type: integer, enum: [1, two]", "'two' is no integer", None),
        ("type: integer, default: 1.5", "'1.5' is no integer", None),
        ("type: string, replaced_by: aa", "has no column 'aa'", "did you mean 'a'"),
        (
            "type: string, foreign_key: {data_set: tt, column: a}",
            "no data set 'tt'",
            "did you mean 't'",
        ),
        ("type: string, foreign_key: {data_set: t, column: b}", "has no column 'b'", "known: a"),
        ("type: string, links: [{type: x, url: 'javascript:alert(1)'}]", "https:// or mailto:", None),
        ("type: string, links: [{type: x, url: 'https://me:secret@host/'}]", "https:// or mailto:", None),
    ],
)
def test_what_columns_cannot_be(columns: str, message: str, hint: str | None) -> None:
    (problem,) = problems_of(_column(columns))
    assert message in problem.message
    assert hint is None or hint in (problem.hint or "")
    assert problem.place is not None
    assert problem.place.line == 7


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (
            "t, type: data-set, properties: {description: x, columns: [{name: a, type: string}], partitioning: [b]}",
            "has no column 'b'",
        ),
        ("t, type: data-set, properties: {description: x, retention: long}", "a span of time"),
        ("p, type: output-port, properties: {description: x, data_sets: [no]}", "offers 'no'"),
        ("p, type: output-port, properties: {description: x, sunset: 2027-02-30}", "no day '2027-02-30'"),
        ("i, type: service-level-indicator, properties: {description: x, column: a}", "without its data set"),
        ("i, type: service-level-indicator, properties: {description: x, data_set: zz}", "no data set here"),
        (
            "g, type: data-sharing-agreement, properties: {description: x, starts: 2027-01-01, expires: 2026-01-01}",
            "before 'starts'",
        ),
        (
            "g, type: data-sharing-agreement, properties: {description: x, price: {amount: 1, currency: euro}}",
            "three capital letters",
        ),
        ("s, type: data-set, properties: {description: x, custom: {'a b': 1}}", "the name 'a b'"),
    ],
)
def test_what_components_cannot_say(component: str, message: str) -> None:
    (problem,) = problems_of(f"  - {{name: {component}}}\n")
    assert message in problem.message
