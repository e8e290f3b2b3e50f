"""Finding products, data sets, columns, services, APIs and ports by words. Pure: knows values, not their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tulle.catalog.exchange_search import Entry
from tulle.catalog.service import ServiceView
from tulle.spec.product import DataProduct, InputPort, OutputPort

MOST_HITS = 60
MOST_WORDS = 12
_KIND_ORDER = ("product", "data set", "API", "service", "endpoint", "column", "port", "domain")


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found; `text` is where the words were found."""

    kind: str
    title: str
    href: str
    where: str
    text: str


def find(
    query: str, products: Sequence[DataProduct], services: Sequence[ServiceView], apis: Sequence[Entry] = ()
) -> tuple[Hit, ...]:
    """What holds every word of `query`, at least one in its own name or text, whole names first; at most 60.

    Where something is belongs to it (`amount purchases` finds the column), but is not what it is: else a word
    in a product's name would find all of its columns.
    """
    words = query.casefold().split()[:MOST_WORDS]
    if not words:
        return ()
    scored = []
    for hit, keywords in (*_product_hits(products), *_service_hits(services), *_api_hits(apis)):
        title, text, where = hit.title.casefold(), f"{hit.text} {keywords}".casefold(), hit.where.casefold()
        is_own = any(word in title or word in text for word in words)
        if is_own and all(word in title or word in text or word in where for word in words):
            score = sum((word == title) * 2 + (word in title) for word in words)
            scored.append((-score, _KIND_ORDER.index(hit.kind), hit.title, hit.where, hit))
    return tuple(hit for *_, hit in sorted(scored, key=lambda one: one[:4]))[:MOST_HITS]


def _product_hits(products: Sequence[DataProduct]) -> Iterator[tuple[Hit, str]]:
    """Each with further words that find it and are not shown."""
    domains: set[str] = set()
    for product in products:
        home = f"/products/{product.name}"
        if product.domain not in domains:
            domains.add(product.domain)
            domain = Hit(
                "domain", product.domain, f"/#domain-{product.domain}", "", product.domain_description
            )
            yield domain, product.domain_title
        hit = Hit("product", product.name, home, f"domain {product.domain}", product.description)
        yield hit, " ".join((product.title, product.purpose, product.owner, *product.tags))
        for data_set in product.data_sets:
            anchor = f"{home}#data-set-{data_set.name}"
            hit = Hit("data set", data_set.name, anchor, f"product {product.name}", data_set.description)
            yield hit, " ".join((data_set.title, data_set.table, *data_set.tags))
            for column in data_set.columns:
                where = f"{data_set.name} of {product.name}"
                hit = Hit("column", column.name, anchor, where, column.description)
                yield hit, " ".join((column.type, column.semantics, *column.tags))
        ports: tuple[InputPort | OutputPort, ...] = (*product.input_ports, *product.output_ports)
        for port in ports:
            yield (
                Hit("port", port.title, f"{home}#components", f"product {product.name}", port.description),
                "",
            )


def _api_hits(apis: Sequence[Entry]) -> Iterator[tuple[Hit, str]]:
    for api in apis:
        text = " ".join(filter(None, (api.title, api.summary)))
        yield Hit("API", api.name, api.href, f"product {api.product}", text), " ".join((api.owner, *api.tags))


def _service_hits(services: Sequence[ServiceView]) -> Iterator[tuple[Hit, str]]:
    for service in services:
        home = f"/services/{service.name}"
        yield Hit("service", service.name, home, f"product {service.product}", service.description), ""
        for endpoint in service.endpoints:
            hit = Hit("endpoint", endpoint.name, home, f"service {service.name}", endpoint.description)
            yield hit, " ".join(source.name for source in endpoint.sources)
