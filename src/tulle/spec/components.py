"""The eight component types of the product document, registered as capabilities like anybody's.

Each has the JSON Schema of its properties (every property described, for editors and the reference page too),
a skeleton and an example. Only what describes is required, so that a product can be written down before
anything of it is built; rules that span components are in `assemble`.
"""

from __future__ import annotations

from typing import Any

from tulle.spec.capability import Capability, Registry
from tulle.spec.columns import OTHER_WORDS, TYPE_PATTERN, TYPE_WORDS
from tulle.spec.details import (
    BUSINESS_KEYS,
    COMPATIBILITIES,
    CONTACTS,
    CUSTOM,
    DEPRECATED,
    ENUM,
    EXAMPLES,
    FOREIGN_KEY,
    LINKS,
    OPERATOR,
    PRICE,
    STATUSES,
    SUPPORT,
    SYNONYMS,
)
from tulle.spec.product import CLASSIFICATIONS, DATA_SET_NAME, PII_LEVELS, PRODUCT_NAME
from tulle.spec.schedule import ALERTS, SCHEDULE
from tulle.spec.schemas import count, day, duration, entity, flag, list_of, one_of, text
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
APPROVALS = ("automatic", "owner", "steward")


TAGS = list_of(text("one tag"), "free words to find and to govern by", uniqueItems=True)
CLASSIFICATION = "how open the data is, from public to restricted"
COLUMN_TYPE = {"pattern": TYPE_PATTERN, "x-expected": TYPE_WORDS, "x-instead": OTHER_WORDS}
DATA_SET = {
    "pattern": DATA_SET_NAME,
    "x-expected": "a name in snake_case, such as customer_features",
}

BOUND = {"type": ["number", "string"], "minLength": 1, "maxLength": 60}
COLUMN_NAME = text("the name of one of its columns")

COLUMN = entity(
    ["name", "type"],
    name=text(
        "the column's name",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        **{"x-expected": "a name of letters, digits and underscores, such as customer_id"},
    ),
    type=text("what its values are", **COLUMN_TYPE),
    description=text("what the column means, in words of the business"),
    required=flag("whether every row has a value (the opposite of nullable)", False),
    key=flag("whether the column is part of what tells rows apart", False),
    pii=one_of(
        PII_LEVELS,
        "personal data: direct (names a person), indirect (helps to find one) or none",
        default="none",
    ),
    tags=TAGS,
    semantics=text("the business term it carries, the same across products, such as customer number"),
    title=text("its name for readers"),
    enum=ENUM,
    pattern=text("a regular expression that every value matches as a whole, such as [A-Z]{2}[0-9]{6}"),
    min={**BOUND, "description": "the least value: a number, or a date or time as text"},
    max={**BOUND, "description": "the greatest value: a number, or a date or time as text"},
    min_length=count("how many characters a value has at least"),
    max_length=count("how many characters a value has at most"),
    unique=flag("whether no two rows have the same value", False),
    unit=text("in what it is measured, such as EUR, kg or km/h"),
    format=text("how its text is written, such as email, uuid, uri or yyyy-MM-dd"),
    physical_type=text("its type where it lies, such as VARCHAR(20)"),
    default={
        "type": ["string", "number", "boolean"],
        "description": "what stands for a value that is not known",
    },
    foreign_key=FOREIGN_KEY,
    classification=one_of(CLASSIFICATIONS, CLASSIFICATION + "; default: that of the data set"),
    critical=flag("whether the business cannot do without it (a critical data element)", False),
    semantic_type=one_of(
        ("column", "measure", "dimension"), "what it is to a query: to sum up, to group by, or just a column"
    ),
    deprecated=DEPRECATED,
    replaced_by=text("the column of this data set to use in its place"),
    synonyms=SYNONYMS,
    examples=EXAMPLES,
    links=LINKS,
    custom=CUSTOM,
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
    contacts=CONTACTS,
    support=SUPPORT,
    links=LINKS,
    tags=TAGS,
    custom=CUSTOM,
)

DATA_PRODUCT = entity(
    ["definition"],
    definition=text("what the product offers and to whom"),
    data_product_owner=text("who answers for the product: a person, a team or an address"),
    data_product_type=one_of(
        PRODUCT_TYPE_WORDS,
        "what it stands close to: the source of its data, other products (aggregate), or its consumers",
        **{"x-expected": "Source Oriented, Aggregate or Consumer Aligned"},
    ),
    certified=one_of(
        YES_OR_NO, "whether it is attested to be ready for use", default="No", **{"x-expected": "Yes or No"}
    ),
    version=text("the version of the product, such as 1.0.0"),
    purpose=text("what the product is used for"),
    classification=one_of(CLASSIFICATIONS, CLASSIFICATION, default="internal"),
    tags=TAGS,
    status=one_of(STATUSES, "where in its life the product is"),
    sunset=day("the last day it can be used, such as 2027-12-31"),
    replaced_by=text("the product to use in its place"),
    compatibility=one_of(
        COMPATIBILITIES,
        "which changes a new version may bring: none are refused, none that breaks consumers (backward), or "
        "moreover none that old data does not satisfy (full)",
        default="backward",
    ),
    warehouse=text("the warehouse its runs use; default: that of its domain"),
    usage=text("how it is best used"),
    limitations=text("what it is not fit for: technical, legal and other limits"),
    tenant=text("the organisation or tenant it belongs to"),
    contacts=CONTACTS,
    support=SUPPORT,
    links=LINKS,
    synonyms=SYNONYMS,
    custom=CUSTOM,
    schedule=SCHEDULE,
    alerts=ALERTS,
)

DATA_SET_SCHEMA = entity(
    ["description"],
    description=text("what one row is and where it comes from"),
    table_name=text("the table; its last dotted part names the data set. Default: the component's name"),
    table_domain=text("the subject the table belongs to"),
    columns=list_of(COLUMN, "the columns consumers can rely on", minItems=1),
    classification=one_of(CLASSIFICATIONS, CLASSIFICATION + "; default: that of the product"),
    tags=TAGS,
    title=text("its name for readers"),
    grain=text("what exactly one row is, such as one line of one receipt"),
    location=text("where it lies, when that is outside this mesh", maxLength=2000),
    partitioning=list_of(COLUMN_NAME, "the columns its files are divided by", uniqueItems=True),
    sort_order=list_of(
        text(
            "a column, with desc behind it for falling order",
            pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}( (asc|desc))?$",
            **{"x-expected": "a column's name, optionally with asc or desc behind it"},
        ),
        "the columns its rows are sorted by",
    ),
    retention=duration("how long rows are kept"),
    business_keys=BUSINESS_KEYS,
    deprecated=DEPRECATED,
    replaced_by=text("the data set to use in its place"),
    synonyms=SYNONYMS,
    examples=list_of({"type": "object"}, "some rows, made up or harmless", maxItems=50),
    links=LINKS,
    custom=CUSTOM,
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
    version=text(
        "the version of that product that is read: a release such as '1.2.0', the highest one that begins as '1.2', "
        "a tag or a commit; default: what it has published last",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        **{"x-expected": "a release such as '1.2' in quotes, a tag or a commit"},
    ),
    takes=text(
        "which of the data sets that the output port offers is taken; default: its main one", **DATA_SET
    ),
    data_set=text(
        "the name the rows have inside this product; default: that of the port's data set", **DATA_SET
    ),
    contract_id=text("the id of the data contract it relies on"),
    deprecated=DEPRECATED,
    tags=TAGS,
    links=LINKS,
    custom=CUSTOM,
)

OUTPUT_PORT = entity(
    ["description"],
    description=text("how consumers connect"),
    data_set=text("the data set it offers; default: the product's only one", **DATA_SET),
    url=text("where consumers find it, when it is outside this mesh"),
    protocol=one_of(PROTOCOLS, "how it is read: files, sql or rest", default="files"),
    data_sets=list_of(
        text("a data set of the product", **DATA_SET),
        "all data sets it offers, where it offers more than one; the first is its main one",
        minItems=1,
        uniqueItems=True,
    ),
    protocols=list_of(
        one_of(PROTOCOLS, "a way to read it"), "further ways to read the same", uniqueItems=True
    ),
    formats=list_of(text("a format, such as parquet"), "how files are written", uniqueItems=True),
    version=text("the version of what it offers, such as 2.1.0; default: that of the product"),
    contract_id=text("the id of its data contract; default: made of product and port"),
    status=one_of(STATUSES, "where in its life the port is; default: as the product"),
    deprecated=DEPRECATED,
    sunset=day("the last day it can be used, such as 2027-12-31"),
    replaced_by=text("the output port to use in its place"),
    synonyms=SYNONYMS,
    tags=TAGS,
    links=LINKS,
    custom=CUSTOM,
)

THRESHOLD = {
    "type": ["number", "string", "boolean"],
    "description": "the value that what is measured is held against",
}

SERVICE_LEVEL_ASSET = entity(
    ["description"],
    description=text("what is guaranteed, in words a consumer can hold you to"),
    dimension=text("what it is about, such as Freshness, Completeness or Accuracy"),
    dimension_domain=text("the family of the dimension, such as Reliability Dimensions"),
    measure=text("what is measured, such as latency, frequency, availability, retention or errorRate"),
    threshold=THRESHOLD,
    operator=OPERATOR,
    unit=text("the unit of the threshold, such as hours, % or ms"),
    element=text("what it holds for, such as a data set or data_set.column; default: all of the product"),
    driver=text("why it is promised: regulatory, analytics, operational"),
    schedule=text("when it is looked at, such as the cron line 0 6 * * *", maxLength=200),
    scheduler=text("what reads the schedule, such as cron"),
    links=LINKS,
    custom=CUSTOM,
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
    dimension=text("what it is about; default: that of its service level"),
    measure=text("what is measured, such as the hours between an event and its row"),
    data_set=text("the data set that is measured; default: all of the product", **DATA_SET),
    column=text("the column that is measured"),
    threshold=THRESHOLD,
    operator=OPERATOR,
    unit=text("the unit of the threshold, such as hours, % or ms"),
    schedule=text("when it is measured, such as the cron line 0 6 * * *", maxLength=200),
    links=LINKS,
    custom=CUSTOM,
)

AGREEMENT = entity(
    ["description"],
    description=text("how to get access and what it entails"),
    purpose=text("what consumers may use the data for"),
    terms=text("conditions of use"),
    expires=day("the last day it holds, such as 2027-12-31"),
    starts=day("the first day it holds, such as 2026-01-01"),
    usage=text("how the data is best used"),
    limitations=text("what it may not be used for"),
    price=PRICE,
    approval=one_of(APPROVALS, "who decides on a request: nobody (automatic), the owner or the steward"),
    approvers=list_of(
        text("an address, a team or a role"), "who may approve, where it is not the owner", uniqueItems=True
    ),
    consumers=list_of(
        text(
            "a user of the lake (name or address), `group:NAME` or `product:NAME`",
            pattern=r"^[^\s:][^\r\n]{0,254}$",
            **{"x-expected": "a user's name or address, group:NAME or product:NAME"},
        ),
        "whom it is made with: while it holds they have the product's role consumer in the lake",
        uniqueItems=True,
    ),
    notice_period=duration("how long before a breaking change or the end consumers are told"),
    billing_contact=text("whom to ask about invoices: a team or an address"),
    links=LINKS,
    custom=CUSTOM,
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
