"""What flows where in this mesh, as the nodes and edges of the lineage picture.

Knows products, their code and their services; not where anything is drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from urllib.parse import quote

from tulle.catalog.lineage import Box, Edge, Graph, Item
from tulle.catalog.service import ServiceView
from tulle.errors import TulleError
from tulle.pipeline.graph import load_code
from tulle.spec.product import DataProduct, InputPort


@dataclass(frozen=True, slots=True)
class Flow:
    """Inside one product: the input ports each job works on, by way of whatever lies between. By data set."""

    product: str
    ports_of: Mapping[str, tuple[InputPort, ...]] = field(default_factory=dict)


def flow_of(product: DataProduct) -> Flow:
    """Read a product's code for what is made from what; what cannot be read says nothing."""
    ports = {port.data_set: port for port in product.input_ports if port.data_set}
    try:
        inputs = {job.name: job.inputs for job in load_code(product).jobs}
    except (TulleError, OSError):
        inputs = {}
    names = dict.fromkeys([*inputs, *(d.name for d in product.data_sets)])
    return Flow(
        product.name,
        {name: tuple(ports[o] for o in _origins(name, inputs) if o in ports) for name in names},
    )


def graph(
    products: Sequence[DataProduct],
    flows: Mapping[str, Flow],
    services: Sequence[ServiceView],
    models: Mapping[str, Mapping[str, Sequence[str]]],
    callers: Mapping[str, Sequence[str]] | None = None,
) -> Graph:
    """Sources, products and services with everything that flows between them, and the applications that call them.

    `callers` are applications by the service they may call; `models` says by product which step saved which models,
    and a model that only a service names is shown too.
    """
    known = {product.name: product for product in products}
    boxes: list[Box] = []
    edges: list[Edge] = []
    for product in products:
        mine = models.get(product.name, {})
        named = [e.model for s in services if s.product == product.name for e in s.endpoints if e.model]
        saved = dict.fromkeys([*(name for names in mine.values() for name in names), *named])
        boxes += [
            Box(f"source:{product.name}:{port.name}", "source", _file_name(port), port.title)
            for port in product.input_ports
            if port.source is not None
        ]
        boxes.append(_product_box(product, tuple(saved)))
        edges += _product_edges(product, flows.get(product.name, Flow(product.name)), mine, known)
    service_boxes, service_edges = _services(services)
    names = {service.name for service in services}
    called = [(name, one) for name, of in (callers or {}).items() if name in names for one in of]
    applications = [caller_box(one) for one in dict.fromkeys(one for _, one in called)]
    edges += [Edge(f"service:{name}", caller_box(one).key) for name, one in called]
    return Graph((*boxes, *service_boxes, *applications), (*edges, *service_edges))


def caller_box(application: str) -> Box:
    """The box of an application that calls services."""
    return Box(f"application:{application}", "application", application, "application", "/applications")


def near(name: str, products: Iterable[DataProduct], services: Sequence[ServiceView]) -> set[str]:
    """The product itself, all products it comes from, and all that come from it, also by way of a service."""
    before: dict[str, set[str]] = defaultdict(set)
    after: dict[str, set[str]] = defaultdict(set)
    pairs = [(port.product, one.name) for one in products for port in one.input_ports if port.product]
    pairs += [(source, s.product) for s in services for e in s.endpoints for source, _ in e.data_sets]
    for source, target in pairs:
        before[target].add(source)
        after[source].add(target)
    found = {name}
    for following in (before, after):
        waiting = [name]
        while waiting:
            fresh = following[waiting.pop()] - found
            found |= fresh
            waiting += fresh
    return found


def domains(products: Sequence[DataProduct]) -> Graph:
    """A mesh too large for a picture of its products: its domains, and what flows between them."""
    known = {product.name: product for product in products}
    count = Counter(product.domain for product in products)
    titles = {product.domain: product.domain_title or product.domain for product in products}
    boxes = tuple(
        Box(f"domain:{name}", "product", titles[name], f"{n:,} products", f"/domains/{quote(name)}")
        for name, n in sorted(count.items())
    )
    edges = {
        (known[port.product].domain, product.domain): None
        for product in products
        for port in product.input_ports
        if port.product in known and known[port.product].domain != product.domain
    }
    return Graph(boxes, tuple(Edge(f"domain:{source}", f"domain:{target}") for source, target in edges))


def _origins(name: str, inputs: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The data set itself and all it is made from."""
    seen, waiting = {name}, [name]
    while waiting:
        one = waiting.pop()
        yield one
        for source in inputs.get(one, ()):
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _file_name(port: InputPort) -> str:
    return PurePath(port.source.named).name if port.source else port.title


def _product_box(product: DataProduct, models: Sequence[str]) -> Box:
    home = f"/products/{product.name}"
    items = [
        Item(f"data:{product.name}:{d.name}", d.name, "data-set", f"{home}#data-set-{d.name}")
        for d in product.data_sets
    ]
    items += [Item(f"model:{product.name}:{name}", name, "model", home) for name in models]
    return Box(f"product:{product.name}", "product", product.name, product.domain, home, tuple(items))


def _product_edges(
    product: DataProduct,
    one: Flow,
    models: Mapping[str, Sequence[str]],
    known: Mapping[str, DataProduct],
) -> Iterator[Edge]:
    used: set[str] = set()
    declared = {data_set.name for data_set in product.data_sets}
    for job, ports in one.ports_of.items():
        targets = [f"data:{product.name}:{job}"] if job in declared else []
        targets += [f"model:{product.name}:{name}" for name in models.get(job, ())]
        for port in ports if targets else ():
            used.add(port.name)
            yield from (Edge(_origin(product, port, known), target) for target in targets)
    for port in product.input_ports:  # what no declared data set is known to use still comes in
        if port.name not in used and (port.source is not None or port.product):
            yield Edge(_origin(product, port, known), f"product:{product.name}")


def _origin(product: DataProduct, port: InputPort, known: Mapping[str, DataProduct]) -> str:
    if port.source is not None:
        return f"source:{product.name}:{port.name}"
    upstream = known.get(port.product)
    ports = upstream.output_ports if upstream else ()
    taken = next((p.data_set for p in ports if port.associated_output_port in {p.name, p.title}), "")
    return f"data:{port.product}:{port.takes or taken or port.data_set}"


def _services(services: Sequence[ServiceView]) -> tuple[list[Box], list[Edge]]:
    """The boxes of services and what feeds them."""
    boxes, edges = [], []
    for service in services:
        home = f"/services/{service.name}"
        items = tuple(
            Item(f"endpoint:{service.name}:{e.name}", e.name, e.kind, home) for e in service.endpoints
        )
        boxes.append(Box(f"service:{service.name}", "service", service.name, "service", home, items))
        for endpoint in service.endpoints:
            target = f"endpoint:{service.name}:{endpoint.name}"
            if endpoint.model:
                edges.append(Edge(f"model:{service.product}:{endpoint.model}", target))
            edges += [Edge(f"data:{product}:{name}", target) for product, name in endpoint.data_sets]
    return boxes, edges
