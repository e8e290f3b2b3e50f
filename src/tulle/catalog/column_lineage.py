"""What each column is made from, through every product from source to consumer, as boxes of columns to be drawn.

Knows what runs told of their columns, and services; not where anything is drawn. A column that its maker cannot
be followed for (a Python model) comes from the whole of what the maker reads: that is a node with no column.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from urllib.parse import quote

from tulle.catalog.flow import caller_box
from tulle.catalog.history import Findings, StepView
from tulle.catalog.lineage import Box, Edge, Graph, Item
from tulle.catalog.service import ServiceView
from tulle.pipeline.job import INGEST, PORT
from tulle.spec.product import DataProduct

MOST_COLUMNS = 300  # of a picture; what is farther away is left out
Node = tuple[str, str]  # box and column; no column means all of it


@dataclass(slots=True)
class ColumnFlow:
    """What is made from what: for each node those it is made from, and those made from it."""

    boxes: dict[str, Box] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by box, in their order
    before: dict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))
    after: dict[Node, list[Node]] = field(default_factory=lambda: defaultdict(list))

    def join(self, source: Node, target: Node) -> None:
        """`target` is made from `source`."""
        self.before[target].append(source)
        self.after[source].append(target)

    def origins(self, node: Node) -> Iterator[Node]:
        """What a node is made from."""
        box, column = node
        yield from self.before.get(node, ())
        if not column:  # all of it comes from all of what any column comes from
            for one in self.columns.get(box, ()):
                yield from ((source, "") for source, _ in self.before.get((box, one), ()))

    def uses(self, node: Node) -> Iterator[Node]:
        """What is made from a node: from the column itself, or from all of its data set."""
        box, column = node
        yield from self.after.get(node, ())
        if column:
            yield from self.after.get((box, ""), ())
        else:
            for one in self.columns.get(box, ()):
                yield from self.after.get((box, one), ())


@dataclass(frozen=True, slots=True)
class Around:
    """What hangs together with a column or a data set; `is_cut`: what is farther away is left out."""

    graph: Graph
    is_cut: bool


def box_of(product: str, data_set: str) -> str:
    """The key of a data set's box."""
    return f"data:{product}:{data_set}"


def column_flow(
    products: Sequence[DataProduct],
    told: Mapping[str, Findings],
    services: Sequence[ServiceView],
    callers: Mapping[str, Sequence[str]] | None = None,
    hidden: Collection[str] = (),
) -> ColumnFlow:
    """All columns of a mesh, as far as runs told of them (`told`, by product), on to the applications (`callers`,
    by service). That a service of `hidden` has answered rows is left out."""
    made = ColumnFlow()
    alias = _aliases(products, told)
    for product in products:
        for data_set in product.data_sets:
            _add_data_set(made, product.name, data_set.name, [c.name for c in data_set.columns])
    for product in products:
        for step in told[product.name].steps.values() if product.name in told else ():
            if (product.name, step.name) not in alias:
                _add_step(made, product, step, alias, hidden)
    for service in services:
        _add_service(made, service, (callers or {}).get(service.name, ()))
    return made


def around(flow: ColumnFlow, box: str, column: str = "") -> Around:
    """The graph of all that a column (or, without one, any column of its data set) comes from and goes into."""
    columns = (column,) if column else flow.columns[box]
    start: list[Node] = [(box, one) for one in columns] or [(box, "")]
    found: dict[Node, None] = dict.fromkeys(start)
    edges: dict[tuple[Node, Node], None] = {}
    is_cut = False
    for backwards in (True, False):
        waiting = deque(start)
        seen = set(start)
        while waiting:
            node = waiting.popleft()
            for other in flow.origins(node) if backwards else flow.uses(node):
                if other not in found and len(found) >= MOST_COLUMNS:
                    is_cut = True
                    continue
                found.setdefault(other)
                is_whole = not column and not backwards and other in flow.after.get((node[0], ""), ())
                near = (node[0], "") if is_whole else node  # one line for all columns, where all are drawn
                edges.setdefault((other, near) if backwards else (near, other))
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
    return Around(_graph(flow, found, edges, (box, column)), is_cut)


def _aliases(
    products: Sequence[DataProduct], told: Mapping[str, Findings]
) -> dict[tuple[str, str], tuple[str, str]]:
    """What a product calls another product's data set, by product and name: read where it lies, so it is that one."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for product in products:
        for step in told[product.name].steps.values() if product.name in told else ():
            read = step.inputs.get(step.name, {})
            if step.kind == PORT and read.get("product"):
                name = str(read.get("data_set") or step.name)
                found[product.name, step.name] = (str(read["product"]), name)
    return found


def _add_data_set(flow: ColumnFlow, product: str, name: str, columns: Iterable[str]) -> str:
    key = box_of(product, name)
    if key not in flow.boxes:
        flow.boxes[key] = Box(key, "product", name, product, f"/products/{product}/data-sets/{name}")
    flow.columns[key] = tuple(dict.fromkeys((*flow.columns.get(key, ()), *columns)))
    return key


def _add_step(
    flow: ColumnFlow,
    product: DataProduct,
    step: StepView,
    alias: Mapping[tuple[str, str], tuple[str, str]],
    hidden: Collection[str],
) -> None:
    key = _add_data_set(flow, product.name, step.name, [name for name, _ in step.columns] or step.sources)
    whole: dict[str, None] = {}
    for column, pairs in step.sources.items():
        for name, source_column in dict.fromkeys(pairs):
            if step.kind == INGEST:
                source = _add_source(flow, product, name)
            else:
                source = _add_data_set(flow, *alias.get((product.name, name), (product.name, name)), ())
            if source_column and source_column not in flow.columns[source]:
                flow.columns[source] = (*flow.columns[source], source_column)
            flow.join((source, source_column), (key, column))
            whole.setdefault(source)
    for name, read in step.inputs.items():
        if read.get("service") and read["service"] not in hidden:  # whose endpoint has answered the rows
            _, _, endpoint = name.partition("/")
            box = f"endpoint:{read['service']}:{endpoint}"
            shown = Box(
                box, "service", endpoint, f"service {read['service']}", f"/services/{read['service']}"
            )
            flow.boxes.setdefault(box, shown)
            for column, pairs in step.sources.items():
                if [source for _, source in pairs] != [column]:  # which stays as it was
                    flow.join((box, ""), (key, column))
    for model in step.models:
        box = f"model:{product.name}:{model}"
        flow.boxes[box] = Box(box, "service", model, "model", f"/products/{product.name}")
        for source in whole:
            flow.join((source, ""), (box, ""))


def _add_source(flow: ColumnFlow, product: DataProduct, name: str) -> str:
    key = f"source:{product.name}:{name}"
    if key not in flow.boxes:
        port = next((port for port in product.input_ports if port.name == name), None)
        file = PurePath(port.source.named).name if port and port.source else ""
        title = file or (port.title if port else name)
        flow.boxes[key] = Box(
            key, "source", title, f"source of {product.name}", f"/products/{product.name}#components"
        )
        flow.columns[key] = ()
    return key


def _add_service(flow: ColumnFlow, service: ServiceView, callers: Sequence[str]) -> None:
    for endpoint in service.endpoints:
        key = f"endpoint:{service.name}:{endpoint.name}"
        flow.boxes[key] = Box(
            key, "service", endpoint.name, f"service {service.name}", f"/services/{service.name}"
        )
        for product, name in endpoint.data_sets:
            flow.join((_add_data_set(flow, product, name, ()), ""), (key, ""))
        model = f"model:{service.product}:{endpoint.model}"
        if endpoint.model and model in flow.boxes:
            flow.join((model, ""), (key, ""))
        for caller in callers:
            box = caller_box(caller)
            flow.boxes[box.key] = box
            flow.join((key, ""), (box.key, ""))


def _graph(
    flow: ColumnFlow, found: Iterable[Node], edges: Iterable[tuple[Node, Node]], chosen: Node
) -> Graph:
    shown: dict[str, set[str]] = defaultdict(set)
    for box, column in found:
        shown[box].add(column)
    boxes = []
    for key, columns in shown.items():
        known = flow.boxes[key]
        items = tuple(
            Item(f"{key}#{name}", name, _kind((key, name), chosen), _address(key, name))
            for name in flow.columns.get(key, ())
            if name in columns
        )
        boxes.append(replace(known, items=items))
    return Graph(tuple(boxes), tuple(Edge(_key(source), _key(target)) for source, target in edges))


def _kind(node: Node, chosen: Node) -> str:
    return "column chosen" if node == chosen else "column"


def _key(node: Node) -> str:
    box, column = node
    return f"{box}#{column}" if column else box


def _address(box: str, column: str) -> str:
    kind, product, name = box.split(":", 2)
    if kind != "data":
        return ""
    return f"/products/{product}/data-sets/{name}/lineage?column={quote(column, safe='')}"
