"""Components that passed their schemas and rules, put together into a DataProduct. Pure, and never fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tulle.spec.components import PRODUCT_TYPE_WORDS, YES_OR_NO
from tulle.spec.details import (
    AcceptedValue,
    BusinessKey,
    Contact,
    ForeignKey,
    Link,
    Price,
    SupportChannel,
    Synonym,
    many,
    one,
)
from tulle.spec.document import Document
from tulle.spec.part import Part, data_set_name
from tulle.spec.product import (
    Column,
    Component,
    DataProduct,
    DataSet,
    DataSharingAgreement,
    InputPort,
    OutputPort,
    ServiceLevelAsset,
    ServiceLevelIndicator,
    kebab,
)
from tulle.spec.rules import product_name, rows_name
from tulle.spec.schedule import schedule_of
from tulle.spec.source import Source, SourceColumn, source_value


def assemble(document: Document, parts: list[Part], file: Path) -> DataProduct:
    """The product that the checked components of `document`, read from `file`, make together."""
    build = _Builder(document, parts)
    (domain,), (head,) = build.of("domain"), build.of("data-product")
    name = product_name(document, head)
    says = head.properties
    return DataProduct(
        name=name,
        title=head.name,
        domain=kebab(domain.name),
        description=head.text("definition"),
        domain_title=domain.name,
        domain_description=domain.text("description"),
        domain_owner=domain.text("owner"),
        owner=head.text("data_product_owner"),
        product_type=PRODUCT_TYPE_WORDS.get(head.text("data_product_type"), ""),
        certified=YES_OR_NO[says.get("certified", False)],
        version=head.text("version"),
        purpose=head.text("purpose"),
        classification=says.get("classification", "internal"),
        tags=tuple(says.get("tags", ())),
        **_kept(
            says, "status", "sunset", "replaced_by", "compatibility", "warehouse", "usage", "limitations"
        ),
        **_kept(says, "tenant", "contacts", "support", "links", "synonyms", "custom"),
        **{
            f"domain_{name}": value
            for name, value in _kept(
                domain.properties, "contacts", "support", "links", "tags", "custom"
            ).items()
        },
        schedule=schedule_of(says["schedule"], document.place((*head.path, "properties", "schedule")))
        if "schedule" in says
        else None,
        alerts=tuple(says.get("alerts", ())),
        data_sets=build.all("data-set", build.data_set),
        input_ports=build.all("input-port", build.input_port),
        output_ports=build.all("output-port", build.output_port),
        service_level_assets=build.all("service-level-asset", build.asset),
        service_level_indicators=build.all("service-level-indicator", build.indicator),
        agreements=build.all("data-sharing-agreement", build.agreement),
        components=tuple(
            Component(p.name, p.type, p.properties, p.base, document.place(p.path)) for p in parts
        ),
        digest=_digest(name, parts),
        file=file,
        folder=file.parent,
        place=document.place(head.path),
    )


# How a property that is more than a word is read; all others stay as they are written.
_READ: dict[str, Callable[[Any], Any]] = {
    "contacts": lambda value: many(Contact, value),
    "support": lambda value: many(SupportChannel, value),
    "links": lambda value: many(Link, value),
    "synonyms": lambda value: many(Synonym, value, "synonym"),
    "enum": lambda value: many(AcceptedValue, value, "value"),
    "business_keys": lambda value: many(BusinessKey, value),
    "foreign_key": lambda value: one(ForeignKey, value),
    "price": lambda value: one(Price, value),
}


def _kept(says: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The properties that are written, as values; those that are not keep the default of their class."""
    kept = {}
    for name in names:
        if name in says:
            value = _READ[name](says[name]) if name in _READ else says[name]
            kept[name] = tuple(value) if isinstance(value, list) else value
    return kept


def _digest(name: str, parts: list[Part]) -> str:
    """Equal for documents that mean the same, however they are written."""
    meaning = {"name": name, "components": [[p.name, p.type, p.properties] for p in parts]}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class _Builder:
    def __init__(self, document: Document, parts: list[Part]) -> None:
        self.document = document
        self.parts = parts
        data_sets = self.of("data-set")
        self.only_data_set = data_set_name(data_sets[0]) if len(data_sets) == 1 else ""

    def of(self, base: str) -> list[Part]:
        """The components that are of a built-in type or extend it."""
        return [part for part in self.parts if part.base == base]

    def all(self, base: str, build: Callable[[Part], Any]) -> tuple[Any, ...]:
        """Everything that the components of one type make."""
        return tuple(build(part) for part in self.of(base))

    def _told(self, part: Part) -> dict[str, Any]:
        """What every component has: names, description and place."""
        return {
            "name": kebab(part.name),
            "title": part.name,
            "description": part.text("description"),
            "place": self.document.place(part.path),
        }

    def data_set(self, part: Part) -> DataSet:
        """A data set with its columns."""
        name = data_set_name(part)
        columns = tuple(
            Column(
                **_kept(column, *column),
                place=self.document.place((*part.path, "properties", "columns", position)),
            )
            for position, column in part.entries("columns")
        )
        return DataSet(
            **{**self._told(part), "name": name},
            table=part.text("table_name") or name,
            table_domain=part.text("table_domain"),
            columns=columns,
            tags=tuple(part.properties.get("tags", ())),
            classification=part.text("classification"),
            label=part.text("title"),
            **_kept(part.properties, "grain", "location", "partitioning", "sort_order", "retention"),
            **_kept(part.properties, "business_keys", "deprecated", "replaced_by", "synonyms", "examples"),
            **_kept(part.properties, "links", "custom"),
        )

    def input_port(self, part: Part) -> InputPort:
        """An input port; references to other products stay as written until the mesh resolves them."""
        return InputPort(
            **self._told(part),
            data_set=rows_name(part),
            source=self._source(part) if "source" in part.properties else None,
            product=part.text("product"),
            associated_output_port=part.text("associated_output_port"),
            takes=part.text("takes"),
            version=part.text("version"),
            **_kept(part.properties, "contract_id", "deprecated", "tags", "links", "custom"),
        )

    def _source(self, part: Part) -> Source:
        at = (*part.path, "properties", "source")
        columns = tuple(
            SourceColumn(**column, place=self.document.place((*at, "columns", position)))
            for position, column in part.entries("source", "columns")
        )
        return source_value(part.properties["source"], columns, self.document.place(at))

    def output_port(self, part: Part) -> OutputPort:
        """An output port; it offers the product's only data set unless it names one."""
        url = part.text("url")
        offered = tuple(part.properties.get("data_sets", ()))
        main = part.text("data_set") or (offered[0] if offered else self.only_data_set)
        return OutputPort(
            **self._told(part),
            data_set=main,
            data_sets=offered,
            url=url,
            protocol=part.text("protocol") or ("sql" if url.startswith("jdbc:") else "files"),
            **_kept(
                part.properties, "protocols", "formats", "version", "contract_id", "status", "deprecated"
            ),
            **_kept(part.properties, "sunset", "replaced_by", "synonyms", "tags", "links", "custom"),
        )

    def asset(self, part: Part) -> ServiceLevelAsset:
        """A service level."""
        return ServiceLevelAsset(
            **self._told(part),
            dimension=part.text("dimension"),
            dimension_domain=part.text("dimension_domain"),
            **_kept(part.properties, "measure", "threshold", "operator", "unit", "element", "driver"),
            **_kept(part.properties, "schedule", "scheduler", "links", "custom"),
        )

    def indicator(self, part: Part) -> ServiceLevelIndicator:
        """A service level indicator."""
        objective, window = part.properties.get("objective"), part.properties.get("window_days")
        return ServiceLevelIndicator(
            **self._told(part),
            service_level_name=kebab(part.text("service_level_name")),
            objective=None if objective is None else float(objective),
            window_days=None if window is None else int(window),
            **_kept(part.properties, "dimension", "measure", "data_set", "column", "threshold", "operator"),
            **_kept(part.properties, "unit", "schedule", "links", "custom"),
        )

    def agreement(self, part: Part) -> DataSharingAgreement:
        """A data-sharing agreement."""
        return DataSharingAgreement(
            **self._told(part),
            purpose=part.text("purpose"),
            terms=part.text("terms"),
            expires=part.text("expires"),
            **_kept(part.properties, "starts", "usage", "limitations", "price", "approval", "approvers"),
            **_kept(part.properties, "consumers", "notice_period", "billing_contact", "links", "custom"),
        )
