"""The eight component types of the product document, registered as capabilities like anybody's.

Each has the JSON Schema of its properties (every property described, for editors and the reference page too),
a skeleton and an example. Only what describes is required, so that a product can be written down before
anything of it is built; rules that span components are in `assemble`.
"""

from __future__ import annotations

from typing import Any

from tulle.spec.capability import Capability, Registry
from tulle.spec.columns import OTHER_WORDS, TYPE_PATTERN, TYPE_WORDS
from tulle.spec.product import CLASSIFICATIONS, DATA_SET_NAME, PII_LEVELS, PRODUCT_NAME
from tulle.spec.source import source_schema

# How each product type may be written; the first spelling is the seed's and ours.
PRODUCT_TYPE_WORDS = {
    "Source Oriented": "source-aligned",
    "Source Aligned": "source-aligned",
    "source-aligned": "source-aligned",
    "Aggregate": "aggregate",
    "Aggregated": "aggregate",
    "aggregate": "aggregate",
    "Consumer Aligned": "consumer-aligned",
    "Consumer Oriented": "consumer-aligned",
    "consumer-aligned": "consumer-aligned",
}
YES_OR_NO = {"Yes": True, "yes": True, True: True, "No": False, "no": False, False: False}
PROTOCOLS = ("files", "sql", "rest")


def text(description: str, **more: Any) -> dict[str, Any]:
    """A property that holds some text."""
    return {"type": "string", "minLength": 1, "description": description, **more}


def entity(required: list[str], /, **properties: dict[str, Any]) -> dict[str, Any]:
    """A mapping with exactly these properties."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list_of(items: dict[str, Any], description: str, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description, **more}


def _one_of(words: Any, description: str, **more: Any) -> dict[str, Any]:
    return {"enum": list(words), "description": description, **more}


def _flag(description: str, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": description}


TAGS = _list_of(text("one tag"), "free words to find and to govern by", uniqueItems=True)
CLASSIFICATION = "how open the data is, from public to restricted"
COLUMN_TYPE = {"pattern": TYPE_PATTERN, "x-expected": TYPE_WORDS, "x-instead": OTHER_WORDS}
DATA_SET = {
    "pattern": DATA_SET_NAME,
    "x-expected": "a name in snake_case, such as customer_features",
}

COLUMN = entity(
    ["name", "type"],
    name=text(
        "the column's name",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        **{"x-expected": "a name of letters, digits and underscores, such as customer_id"},
    ),
    type=text("what its values are", **COLUMN_TYPE),
    description=text("what the column means, in words of the business"),
    required=_flag("whether every row has a value", False),
    key=_flag("whether the column is part of what tells rows apart", False),
    pii=_one_of(
        PII_LEVELS,
        "personal data: direct (names a person), indirect (helps to find one) or none",
        default="none",
    ),
    tags=TAGS,
    semantics=text("the business term it carries, the same across products, such as customer number"),
)

SOURCE_COLUMN = entity(
    ["name"],
    name=text(
        "the column's name; for files with a header, the name in the file",
        pattern=r'^[^"\x00-\x1f]{1,128}$',
        **{"x-expected": "a name of at most 128 characters without double quotes"},
    ),
    type=text("what its values are", default="string", **COLUMN_TYPE),
    format=text("how dates and timestamps are written, as a strptime pattern such as %Y%m%d"),
)

DOMAIN = entity(
    [],
    description=text("what the domain is responsible for"),
    owner=text("who answers for the domain: a team or an address"),
)

DATA_PRODUCT = entity(
    ["definition"],
    definition=text("what the product offers and to whom"),
    data_product_owner=text("who answers for the product: a person, a team or an address"),
    data_product_type=_one_of(
        PRODUCT_TYPE_WORDS,
        "what it stands close to: the source of its data, other products (aggregate), or its consumers",
        **{"x-expected": "Source Oriented, Aggregate or Consumer Aligned"},
    ),
    certified=_one_of(
        YES_OR_NO, "whether it is attested to be ready for use", default="No", **{"x-expected": "Yes or No"}
    ),
    version=text("the version of the product, such as 1.0.0"),
    purpose=text("what the product is used for"),
    classification=_one_of(CLASSIFICATIONS, CLASSIFICATION, default="internal"),
    tags=TAGS,
)

DATA_SET_SCHEMA = entity(
    ["description"],
    description=text("what one row is and where it comes from"),
    table_name=text("the table; its last dotted part names the data set. Default: the component's name"),
    table_domain=text("the subject the table belongs to"),
    columns=_list_of(COLUMN, "the columns consumers can rely on", minItems=1),
    classification=_one_of(CLASSIFICATIONS, CLASSIFICATION + "; default: that of the product"),
    tags=TAGS,
)

INPUT_PORT = entity(
    ["description"],
    description=text("what comes in here"),
    source={
        **source_schema(SOURCE_COLUMN),
        "description": "the files, objects, HTTP API or table to read",
    },
    product=text(
        "the product whose output port is taken; may be left out where the port's name is unique in the mesh",
        pattern=PRODUCT_NAME,
        **{"x-expected": "a product's name in kebab-case, such as customer-features"},
    ),
    associated_output_port=text("the output port of another product that this port takes", maxLength=200),
    data_set=text(
        "the name the rows have inside this product; default: that of the port's data set", **DATA_SET
    ),
)

OUTPUT_PORT = entity(
    ["description"],
    description=text("how consumers connect"),
    data_set=text("the data set it offers; default: the product's only one", **DATA_SET),
    url=text("where consumers find it, when it is outside this mesh"),
    protocol=_one_of(PROTOCOLS, "how it is read: files, sql or rest", default="files"),
)

SERVICE_LEVEL_ASSET = entity(
    ["description"],
    description=text("what is guaranteed, in words a consumer can hold you to"),
    dimension=text("what it is about, such as Freshness, Completeness or Accuracy"),
    dimension_domain=text("the family of the dimension, such as Reliability Dimensions"),
)

SERVICE_LEVEL_INDICATOR = entity(
    ["description"],
    description=text("how the service level is measured and read"),
    service_level_name=text("the service level it measures", maxLength=200),
    objective={
        "type": "number",
        "minimum": 0,
        "maximum": 100,
        "description": "the percentage that must be reached, from 0 to 100",
    },
    window_days={
        "type": "integer",
        "minimum": 1,
        "maximum": 3660,
        "description": "how many days back the percentage is taken over",
    },
)

AGREEMENT = entity(
    ["description"],
    description=text("how to get access and what it entails"),
    purpose=text("what consumers may use the data for"),
    terms=text("conditions of use"),
    expires=text(
        "the last day it holds, such as 2027-12-31",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        **{"x-expected": "a date such as 2027-12-31"},
    ),
)


def register(registry: Registry) -> None:
    """Add the eight component types."""
    for name, title, description, schema, skeleton, example in _TYPES:
        registry.add(
            Capability(name, title, description, schema, skeleton.lstrip("\n"), example.lstrip("\n"))
        )


_TYPES: tuple[tuple[str, str, str, dict[str, Any], str, str], ...] = (
    (
        "domain",
        "Domain",
        "The part of the business that owns and maintains the product. Exactly one in a document.",
        DOMAIN,
        """
- name: sales
  type: domain
  properties:
    description: What this part of the business does
""",
        """
- name: sales
  type: domain
  properties:
    description: Sells to customers and records what they buy
    owner: sales-data@example.org
""",
    ),
    (
        "data-product",
        "Data product",
        "What the product is, who answers for it, whether it is ready for use. Exactly one in a document.",
        DATA_PRODUCT,
        """
- name: purchases
  type: data-product
  properties:
    definition: What the product offers, and to whom
    data_product_owner: you@example.org
    data_product_type: Source Oriented
""",
        """
- name: purchases
  type: data-product
  properties:
    definition: Every purchase of every customer, cleaned and typed
    data_product_owner: sales-data@example.org
    data_product_type: Source Oriented
    certified: 'Yes'
    version: 1.0.0
    purpose: Analysis of customer behaviour
    classification: internal
    tags: [sales, customer]
""",
    ),
    (
        "data-set",
        "Data set",
        "A table that the product delivers through its output ports, with the columns consumers can rely on.",
        DATA_SET_SCHEMA,
        """
- name: purchases
  type: data-set
  properties:
    description: What one row is
    columns:
    - {name: id, type: string, description: What tells rows apart, key: true, required: true}
""",
        """
- name: purchases
  type: data-set
  properties:
    description: One row a purchase
    table_name: purchases
    columns:
    - {name: customer_id, type: string, description: The customer's number, required: true, pii: indirect}
    - {name: purchased_on, type: date, description: Day of the purchase, required: true}
    - {name: amount, type: 'decimal(10,2)', description: Dollars paid, required: true}
""",
    ),
    (
        "input-port",
        "Input port",
        "Where data comes in: files, a store, an HTTP API, a database, another product, or a description only.",
        INPUT_PORT,
        """
- name: Purchases log
  type: input-port
  properties:
    description: What comes in, and from where
    source: {type: file, path: data/purchases.csv, format: csv}
    data_set: purchases_raw
""",
        """
- name: Purchases log
  type: input-port
  properties:
    description: The log of the shop, one line a purchase, delivered once a month
    source:
      type: file
      path: data/purchases.txt.gz
      format: whitespace
      header: false
      columns:
      - {name: customer_id, type: string}
      - {name: purchased_on, type: date, format: '%Y%m%d'}
      - {name: amount, type: 'decimal(10,2)'}
    data_set: purchases_raw
""",
    ),
    (
        "output-port",
        "Output port",
        "How a data set is handed to consumers: other products, people and programs.",
        OUTPUT_PORT,
        """
- name: Files port of purchases
  type: output-port
  properties:
    description: How consumers connect
    data_set: purchases
""",
        """
- name: Files port of purchases
  type: output-port
  properties:
    description: Parquet files in the product's repository, on its branch main
    data_set: purchases
    protocol: files
""",
    ),
    (
        "service-level-asset",
        "Service level",
        "What the product guarantees (a service level objective), in words.",
        SERVICE_LEVEL_ASSET,
        """
- name: Data is refreshed daily
  type: service-level-asset
  properties:
    description: What consumers can rely on
    dimension: Freshness
""",
        """
- name: Data is refreshed daily
  type: service-level-asset
  properties:
    description: Data for this product is refreshed at least once a day
    dimension: Freshness
    dimension_domain: Reliability Dimensions
""",
    ),
    (
        "service-level-indicator",
        "Service level indicator",
        "How a service level is measured: the percentage reached over a rolling window of days.",
        SERVICE_LEVEL_INDICATOR,
        """
- name: Daily refresh indicator
  type: service-level-indicator
  properties:
    description: How it is measured
    service_level_name: Data is refreshed daily
    objective: 80
    window_days: 20
""",
        """
- name: Daily refresh indicator
  type: service-level-indicator
  properties:
    description: The share of the past 20 days on which the data was refreshed
    service_level_name: Data is refreshed daily
    objective: 80
    window_days: 20
""",
    ),
    (
        "data-sharing-agreement",
        "Data-sharing agreement",
        "The terms between the product and its consumers: access, purpose, conditions and expiry.",
        AGREEMENT,
        """
- name: Access instructions
  type: data-sharing-agreement
  properties:
    description: How to get access
    purpose: What the data may be used for
""",
        """
- name: Access instructions
  type: data-sharing-agreement
  properties:
    description: Ask the owner for access; the answer takes one working day
    purpose: Analysis of customer behaviour
    terms: Not to be passed on; no contact with single customers
    expires: 2027-12-31
""",
    ),
)

BUILT_IN_PROPERTIES = {kind[0]: frozenset(kind[3]["properties"]) for kind in _TYPES}
