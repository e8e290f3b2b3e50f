"""What a data product is, as values: the product and its components after a document was checked.

Pure: no files, no YAML, no clock. Every `name` here is a machine name (products, domains and ports in
kebab-case, data sets in snake_case); `title` is the component's name as its author wrote it. Where two values
differ only in where they were written (`place`, `file`, `folder`), they are equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tulle.errors import NotFound, Place, did_you_mean
from tulle.spec.details import (
    AcceptedValue,
    BusinessKey,
    Contact,
    ForeignKey,
    Link,
    Price,
    SupportChannel,
    Synonym,
    mapping,
)
from tulle.spec.schedule import Schedule
from tulle.spec.source import Source

PRODUCT_NAME = r"^[a-z0-9][a-z0-9-]{2,62}$"
DATA_SET_NAME = r"^[a-z][a-z0-9_]{0,62}$"

PRODUCT_TYPES = ("source-aligned", "aggregate", "consumer-aligned")
PII_LEVELS = ("none", "indirect", "direct")  # from harmless to naming a person
CLASSIFICATIONS = ("public", "internal", "confidential", "restricted")  # from open to closed


def _place() -> Any:
    """A place that takes no part in equality: the same thing written elsewhere is the same thing."""
    return field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Component:
    """One entry of `components:` as written, `{value: x}` already read as `x`."""

    name: str
    type: str
    properties: Mapping[str, Any]
    base: str = ""  # the built-in type at the root of `type`; `type` itself where it extends none
    place: Place | None = _place()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a data set that a product promises."""

    name: str
    type: str  # string, integer, double, decimal(p,s), boolean, date, timestamp, binary
    description: str = ""
    required: bool = False  # never null
    key: bool = False  # part of what tells rows apart
    pii: str = "none"  # none | indirect | direct
    tags: tuple[str, ...] = ()
    semantics: str = ""  # the business term it carries, for example `customer number`
    title: str = ""
    enum: tuple[AcceptedValue, ...] = ()  # the only values it may have; empty: any
    pattern: str = ""  # a regular expression that every value matches as a whole
    min: float | str | None = None  # text for dates and timestamps
    max: float | str | None = None
    min_length: int | None = None
    max_length: int | None = None
    unique: bool = False
    unit: str = ""
    format: str = ""
    physical_type: str = ""  # its type where it lies, for example `VARCHAR(20)`
    default: Any = None
    foreign_key: ForeignKey | None = None
    classification: str = ""  # empty: that of the data set
    critical: bool = False
    semantic_type: str = ""
    deprecated: bool = False
    replaced_by: str = ""
    synonyms: tuple[Synonym, ...] = ()
    examples: tuple[Any, ...] = field(default=(), hash=False)
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()


@dataclass(frozen=True, slots=True)
class DataSet:
    """A table the product publishes; its rows lie in the product's repository under `name`/."""

    name: str
    title: str
    description: str
    table: str = ""  # `table_name` as written, for example `warehouse.sales.purchases`
    table_domain: str = ""
    columns: tuple[Column, ...] = ()
    tags: tuple[str, ...] = ()
    classification: str = ""  # empty: that of the product
    label: str = ""  # the property `title`: its name for readers, where it differs from the component's
    grain: str = ""
    location: str = ""
    partitioning: tuple[str, ...] = ()
    sort_order: tuple[str, ...] = ()  # `column` or `column desc`
    retention: str = ""  # as written, for example `30 days`
    business_keys: tuple[BusinessKey, ...] = ()
    deprecated: bool = False
    replaced_by: str = ""
    synonyms: tuple[Synonym, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key columns, in order."""
        return tuple(column.name for column in self.columns if column.key)

    def column(self, name: str) -> Column:
        """The column of that name. Raises NotFound with the nearest name."""
        return _named("column", name, f"data set '{self.name}'", self.columns)


@dataclass(frozen=True, slots=True)
class InputPort:
    """Where rows come in: a source, another product's output port, or (neither) documented only.

    `data_set` is the name the rows have inside this product. For another product's port, `product` and
    `data_set` may be empty until the mesh resolves them (`spec.mesh`).
    """

    name: str
    title: str
    description: str
    data_set: str = ""
    source: Source | None = None
    product: str = ""
    associated_output_port: str = ""
    takes: str = ""  # of the data sets that port offers; empty: its main one
    version: str = ""  # a release, tag or commit of that product which is read; empty: as it is published
    contract_id: str = ""
    deprecated: bool = False
    tags: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()


@dataclass(frozen=True, slots=True)
class OutputPort:
    """Where consumers take a data set; without `data_set` it is documented only."""

    name: str
    title: str
    description: str
    data_set: str = ""
    url: str = ""
    protocol: str = "files"
    data_sets: tuple[str, ...] = ()  # as written; `offers` has them all
    protocols: tuple[str, ...] = ()  # further ways to read the same
    formats: tuple[str, ...] = ()
    version: str = ""  # empty: that of the product
    contract_id: str = ""
    status: str = ""  # empty: as the product
    deprecated: bool = False
    sunset: str = ""  # ISO date
    replaced_by: str = ""
    synonyms: tuple[Synonym, ...] = ()
    tags: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()

    @property
    def offers(self) -> tuple[str, ...]:
        """All data sets it offers, the main one first."""
        return tuple(dict.fromkeys(filter(None, (self.data_set, *self.data_sets))))


@dataclass(frozen=True, slots=True)
class ServiceLevelAsset:
    """A service level the product guarantees (an objective in words)."""

    name: str
    title: str
    description: str
    dimension: str = ""
    dimension_domain: str = ""
    measure: str = ""
    threshold: float | str | bool | None = None
    operator: str = ""  # < <= = != >= >
    unit: str = ""
    element: str = ""
    driver: str = ""
    schedule: str = ""
    scheduler: str = ""
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()


@dataclass(frozen=True, slots=True)
class ServiceLevelIndicator:
    """How a service level is measured: `objective` percent over the last `window_days` days."""

    name: str
    title: str
    description: str
    service_level_name: str = ""  # machine name of the ServiceLevelAsset it measures
    objective: float | None = None  # percent, 0 to 100
    window_days: int | None = None
    dimension: str = ""
    measure: str = ""
    data_set: str = ""
    column: str = ""
    threshold: float | str | bool | None = None
    operator: str = ""
    unit: str = ""
    schedule: str = ""
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()


@dataclass(frozen=True, slots=True)
class DataSharingAgreement:
    """The terms under which consumers may use the product."""

    name: str
    title: str
    description: str
    purpose: str = ""
    terms: str = ""
    expires: str = ""  # ISO date; empty means no end
    starts: str = ""  # ISO date
    usage: str = ""
    limitations: str = ""
    price: Price | None = None
    approval: str = ""  # automatic | owner | steward
    approvers: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()  # users of the lake, `group:NAME`, `product:NAME`
    notice_period: str = ""
    billing_contact: str = ""
    links: tuple[Link, ...] = ()
    custom: Mapping[str, Any] = mapping()
    place: Place | None = _place()


@dataclass(frozen=True, slots=True)
class DataProduct:
    """One product: what its document says, checked, with names made for machines."""

    name: str
    title: str
    domain: str
    description: str
    domain_title: str = ""
    domain_description: str = ""
    domain_owner: str = ""
    owner: str = ""
    product_type: str = ""  # source-aligned | aggregate | consumer-aligned, or empty
    certified: bool = False
    version: str = ""
    purpose: str = ""
    classification: str = "internal"
    tags: tuple[str, ...] = ()
    status: str = ""  # proposed | draft | active | deprecated | retired
    sunset: str = ""  # ISO date
    replaced_by: str = ""
    compatibility: str = "backward"  # none | backward | full
    warehouse: str = ""  # empty: that of the domain
    usage: str = ""
    limitations: str = ""
    tenant: str = ""
    contacts: tuple[Contact, ...] = ()
    support: tuple[SupportChannel, ...] = ()
    links: tuple[Link, ...] = ()
    synonyms: tuple[Synonym, ...] = ()
    custom: Mapping[str, Any] = mapping()
    domain_contacts: tuple[Contact, ...] = ()
    domain_support: tuple[SupportChannel, ...] = ()
    domain_links: tuple[Link, ...] = ()
    domain_tags: tuple[str, ...] = ()
    domain_custom: Mapping[str, Any] = mapping()
    schedule: Schedule | None = None
    alerts: tuple[str, ...] = ()  # channels of mesh.yaml
    data_sets: tuple[DataSet, ...] = ()
    input_ports: tuple[InputPort, ...] = ()
    output_ports: tuple[OutputPort, ...] = ()
    service_level_assets: tuple[ServiceLevelAsset, ...] = ()
    service_level_indicators: tuple[ServiceLevelIndicator, ...] = ()
    agreements: tuple[DataSharingAgreement, ...] = ()
    components: tuple[Component, ...] = ()
    digest: str = ""  # sha256 of the normalised document: equal meaning, equal digest
    file: Path = field(default=Path(), compare=False)
    folder: Path = field(default=Path(), compare=False)
    place: Place | None = _place()

    @property
    def warehouse_name(self) -> str:
        """The warehouse its runs compute in: the one it names, else that of its domain."""
        return self.warehouse or self.domain

    def data_set(self, name: str) -> DataSet:
        """The data set of that name or title. Raises NotFound with the nearest name."""
        return _named("data set", name, f"product '{self.name}'", self.data_sets)

    def input_port(self, name: str) -> InputPort:
        """The input port of that name or title. Raises NotFound with the nearest name."""
        return _named("input port", name, f"product '{self.name}'", self.input_ports)

    def output_port(self, name: str) -> OutputPort:
        """The output port of that name or title. Raises NotFound with the nearest name."""
        return _named("output port", name, f"product '{self.name}'", self.output_ports)


class _Titled(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Titled)


def _named(what: str, name: str, owner: str, items: Iterable[_T]) -> _T:
    items = tuple(items)
    for item in items:
        if name in {item.name, getattr(item, "title", item.name)}:
            return item
    raise NotFound(f"{owner} has no {what} '{name}'", hint=did_you_mean(name, [item.name for item in items]))


def kebab(text: str) -> str:
    """Make a machine name such as `files-port-of-purchases`; empty when no letter or digit is left."""
    return "-".join(_words(text))


def snake(text: str) -> str:
    """Make a machine name such as `customer_features`; empty when no letter or digit is left."""
    return "_".join(_words(text))


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    return re.findall("[a-z0-9]+", plain)
