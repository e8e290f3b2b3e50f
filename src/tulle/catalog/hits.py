"""Finding products, data sets, columns, services and ports by words. Pure: knows values, not where they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tulle.catalog.service import ServiceView
from tulle.spec.product import DataProduct, InputPort, OutputPort

MOST_HITS = 60
MOST_WORDS = 12
_KIND_ORDER = ("product", "data set", "service", "endpoint", "column", "port", "domain")


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found; `text` is where the words were found."""

    kind: str
    title: str
    href: str
    where: str
    text: str


def find(query: str, products: Sequence[DataProduct], services: Sequence[ServiceView]) -> tuple[Hit, ...]:
    """What holds every word of `query` in its name or its text, whole names first; at most 60."""
    words = query.casefold().split()[:MOST_WORDS]
    if not words:
        return ()
    scored = []
    for hit in (*_product_hits(products), *_service_hits(services)):
        title, rest = hit.title.casefold(), f"{hit.where} {hit.text}".casefold()
        if all(word in title or word in rest for word in words):
            score = sum((word == title) * 2 + (word in title) for word in words)
            scored.append((-score, _KIND_ORDER.index(hit.kind), hit.title, hit.where, hit))
    return tuple(hit for *_, hit in sorted(scored, key=lambda one: one[:4]))[:MOST_HITS]


def _product_hits(known: Sequence[DataProduct]) -> Iterator[Hit]:
    domains: set[str] = set()
    for product in known:
        home = f"/products/{product.name}"
        if product.domain not in domains:
            domains.add(product.domain)
            yield Hit("domain", product.domain, f"/#domain-{product.domain}", "", product.domain_description)
        about = " ".join((product.title, product.description, product.purpose, product.owner, *product.tags))
        yield Hit("product", product.name, home, f"domain {product.domain}", about)
        for data_set in product.data_sets:
            text = " ".join((data_set.title, data_set.description, *data_set.tags))
            anchor = f"{home}#data-set-{data_set.name}"
            yield Hit("data set", data_set.name, anchor, f"product {product.name}", text)
            for column in data_set.columns:
                text = " ".join((column.description, column.type, column.semantics, *column.tags))
                where = f"{data_set.name} of {product.name}"
                yield Hit("column", column.name, anchor, where, text)
        ports: tuple[InputPort | OutputPort, ...] = (*product.input_ports, *product.output_ports)
        for port in ports:
            yield Hit("port", port.title, f"{home}#components", f"product {product.name}", port.description)


def _service_hits(services: Sequence[ServiceView]) -> Iterator[Hit]:
    for service in services:
        home = f"/services/{service.name}"
        yield Hit("service", service.name, home, f"product {service.product}", service.description)
        for endpoint in service.endpoints:
            text = " ".join((endpoint.description, *(source.name for source in endpoint.sources)))
            yield Hit("endpoint", endpoint.name, home, f"service {service.name}", text)
