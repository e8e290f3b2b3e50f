"""Products put together into a mesh: names that collide, input ports and the output ports they take, circles.

Pure: products (with the documents they came from, for places) in, resolved products and problems out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from tulle.errors import Problem, did_you_mean
from tulle.spec.document import Document, Path
from tulle.spec.product import DataProduct, InputPort, OutputPort, kebab
from tulle.spec.roles import PRODUCT as CONSUMING


@dataclass(frozen=True, slots=True)
class Loaded:
    """One product file: its document unless it is no YAML, its product unless it has problems."""

    document: Document | None
    product: DataProduct | None


def connect(
    loaded: list[Loaded], channels: Collection[str] = (), warehouses: Collection[str] = ()
) -> tuple[tuple[DataProduct, ...], list[Problem]]:
    """The products by name with their input ports resolved, and what is wrong between them.

    `channels` are the alert channels of the mesh, `warehouses` those it names.
    """
    mesh = _Mesh(loaded)
    mesh.check_alerts(channels)
    mesh.check_warehouses(warehouses)
    mesh.check_consumers()
    return mesh.connected()


class _Mesh:
    def __init__(self, loaded: list[Loaded]) -> None:
        self.problems: list[Problem] = []
        self.documents: dict[str, Document] = {}
        self.products: dict[str, DataProduct] = {}
        # A reference may mean a product whose file is broken: then it is not called missing.
        self.incomplete = any(item.product is None for item in loaded)
        for item in loaded:
            if item.product is not None and item.document is not None:
                self._add(item.product, item.document)

    def _add(self, product: DataProduct, document: Document) -> None:
        name = product.name
        if first := self.products.get(name):
            other = self.documents[name]
            where = other.place(("metadata", "name")) if other.at(("metadata", "name")) else first.place
            path = (
                ("metadata", "name") if document.at(("metadata", "name")) else self._head(product, document)
            )
            message = f"the product name '{name}' is already taken at {where}"
            hint = "name one of them differently, for example under metadata: {name: …}"
            self.problems.append(document.problem(message, path, hint=hint))
            return
        self.products[name], self.documents[name] = product, document

    def _head(self, product: DataProduct, document: Document) -> Path:
        for position, component in enumerate(product.components):
            if component.place == product.place:
                return (*_root(document), position, "name")
        return ()

    def connected(self) -> tuple[tuple[DataProduct, ...], list[Problem]]:
        """Resolve every input port, then look for circles."""
        resolved = {name: self._resolved(product) for name, product in self.products.items()}
        self._check_circles(resolved)
        self._check_triggers(resolved)
        return tuple(resolved[name] for name in sorted(resolved)), self.problems

    def _resolved(self, product: DataProduct) -> DataProduct:
        ports = tuple(self._resolved_port(product, port) for port in product.input_ports)
        self._check_names(product, ports)
        return replace(product, input_ports=ports)

    def _resolved_port(self, product: DataProduct, port: InputPort) -> InputPort:
        if not port.associated_output_port:
            return port
        found = self._source_of(product, port)
        if found is None:
            return port
        upstream, output = found
        if port.data_set and not output.data_set:
            message = f"the output port '{output.title}' of '{upstream.name}' offers no data set to take"
            hint = f"give it a data_set in {self.documents[upstream.name].name}"
            self._problem(product, port, message, "data_set", hint)
        if port.takes and port.takes not in output.offers:
            message = f"the output port '{output.title}' of '{upstream.name}' does not offer '{port.takes}'"
            hint = did_you_mean(port.takes, output.offers) or "it offers no data set"
            self._problem(product, port, message, "takes", hint)
        return replace(
            port,
            product=upstream.name,
            associated_output_port=output.name,
            data_set=port.data_set or port.takes or output.data_set,
        )

    def _source_of(self, product: DataProduct, port: InputPort) -> tuple[DataProduct, OutputPort] | None:
        """The output port that an input port means, or None with a problem."""
        name, written = kebab(port.associated_output_port), port.associated_output_port
        if port.product and port.product not in self.products:
            if not self.incomplete:
                message = (
                    f"input-port '{port.title}' takes from the product '{port.product}', which does not exist"
                )
                self._problem(product, port, message, "product", did_you_mean(port.product, self.products))
            return None
        searched = [self.products[port.product]] if port.product else list(self.products.values())
        offers = [(p, o) for p in searched for o in p.output_ports if o.name == name]
        others = [offer for offer in offers if offer[0] is not product] or offers
        if len(others) == 1:
            return others[0]
        if others:
            owners = ", ".join(sorted(p.name for p, _ in others))
            message = f"several products have an output port '{written}': {owners}"
            hint = f"say which one is meant, for example product: {min(p.name for p, _ in others)}"
            self._problem(product, port, message, "associated_output_port", hint)
        elif not self.incomplete or port.product:
            of = f"product '{port.product}' has no" if port.product else "no product of the mesh has an"
            titles = {o.title for p in searched for o in p.output_ports}
            hint = did_you_mean(written, titles) or "there is no output port yet to take from"
            message = f"{of} output port '{written}'"
            self._problem(product, port, message, "associated_output_port", hint)
        return None

    def _check_names(self, product: DataProduct, ports: tuple[InputPort, ...]) -> None:
        """Inside a product, one name means one set of rows."""
        own = {data_set.name for data_set in product.data_sets}
        seen: dict[str, InputPort] = {}
        for port in ports:
            if not port.product or not port.data_set:
                continue
            message = ""
            if port.data_set in own:
                message = f"the rows of input-port '{port.title}' have the name of the product's own data set"
            elif port.data_set in seen:
                other = seen[port.data_set].title
                message = f"the rows of input-port '{port.title}' have the name of those of '{other}'"
            if message:
                hint = f"give them a name of their own, such as data_set: {port.data_set}_in"
                self._problem(product, port, f"{message}: '{port.data_set}'", "data_set", hint)
            seen.setdefault(port.data_set, port)

    def _check_circles(self, products: dict[str, DataProduct]) -> None:
        """Report each circle once, at an input port that closes it."""
        graph = {
            name: sorted({port.product for port in product.input_ports if port.product in products})
            for name, product in products.items()
        }
        for circle in _circles(graph):
            taker, giver = circle[0], circle[-1]
            port = next(p for p in products[taker].input_ports if p.product == giver)
            shown = " → ".join([*circle, taker])
            message = f"products may not take from each other in a circle: {shown}"
            if len(circle) == 1:
                message = f"the product takes its own output port: {shown}"
            hint = "remove one of these input ports, or split a product in two"
            self._problem(products[taker], port, message, "associated_output_port", hint)

    def check_alerts(self, channels: Collection[str]) -> None:
        """A product names alert channels that there are."""
        for product in self.products.values():
            document = self.documents[product.name]
            head = next((n for n, c in enumerate(product.components) if c.base == "data-product"), 0)
            for position, name in enumerate(product.alerts):
                if name not in channels:
                    path: Path = (*_root(document), head, "properties", "alerts", position)
                    hint = did_you_mean(name, channels) or "write it under `alerts:` in mesh.yaml"
                    message = f"there is no alert channel '{name}'"
                    self.problems.append(document.problem(message, path, hint=hint))

    def check_warehouses(self, warehouses: Collection[str]) -> None:
        """A product names a warehouse of the mesh, or a domain, which has one."""
        known = {*warehouses, *(product.domain for product in self.products.values())}
        for product in self.products.values():
            if product.warehouse and product.warehouse not in known and not self.incomplete:
                document = self.documents[product.name]
                head = next((n for n, c in enumerate(product.components) if c.base == "data-product"), 0)
                path: Path = (*_root(document), head, "properties", "warehouse")
                hint = did_you_mean(product.warehouse, known) or "write it under `warehouses:` in mesh.yaml"
                message = f"there is no warehouse '{product.warehouse}'"
                self.problems.append(document.problem(message, path, hint=hint))

    def check_consumers(self) -> None:
        """A product that an agreement is made with exists, and is another one."""
        for product in self.products.values():
            named = {name for agreement in product.agreements for name in agreement.consumers}
            for agreed in (name for name in sorted(named) if name.startswith(CONSUMING)):
                name = agreed.removeprefix(CONSUMING)
                if name in self.products and name != product.name:
                    continue
                if self.incomplete and name != product.name:
                    continue
                what = "the product itself" if name == product.name else "which does not exist"
                message = f"an agreement is made with product '{name}', {what}"
                hint = did_you_mean(name, [other for other in self.products if other != product.name])
                self.problems.append(
                    self.documents[product.name].problem(message, self._consumer(product, agreed), hint=hint)
                )

    def _consumer(self, product: DataProduct, written: str) -> Path:
        """Where an agreement names that consumer."""
        document = self.documents[product.name]
        for position, component in enumerate(product.components):
            consumers = component.properties.get("consumers", ())
            if component.base == "data-sharing-agreement" and written in consumers:
                return (*_root(document), position, "properties", "consumers", consumers.index(written))
        return _root(document)

    def _check_triggers(self, products: dict[str, DataProduct]) -> None:
        """A product runs after such products only as it takes from: so no two start each other for ever."""
        for product in products.values():
            upstream = {port.product for port in product.input_ports if port.product}
            document = self.documents[product.name]
            head = next((n for n, c in enumerate(product.components) if c.base == "data-product"), None)
            for position, name in enumerate(product.schedule.on if product.schedule else ()):
                if name in upstream or head is None or (self.incomplete and name not in products):
                    continue
                what = "no input port takes from it" if name in products else "which does not exist"
                path: Path = (*_root(document), head, "properties", "schedule", "on", position)
                known = upstream if name in products else products
                hint = did_you_mean(name, known) or "add an input port that takes from that product"
                message = f"the schedule runs after product '{name}', {what}"
                self.problems.append(document.problem(message, path, hint=hint))

    def _problem(
        self, product: DataProduct, port: InputPort, message: str, prop: str, hint: str | None
    ) -> None:
        """Report at a property of the port, or at its reference where the property is not written."""
        document = self.documents[product.name]
        for position, component in enumerate(product.components):
            if component.place == port.place:
                written = prop if prop in component.properties else "associated_output_port"
                path: Path = (*_root(document), position, "properties", written)
                self.problems.append(document.problem(message, path, hint=hint))
                return


def _root(document: Document) -> Path:
    return ("spec", "components") if document.at(("spec", "components")) else ("components",)


def _circles(graph: dict[str, list[str]]) -> Iterator[list[str]]:
    """Circles of a graph {taker: givers} in the direction data flows, one for each edge that closes one."""
    done: set[str] = set()
    for start in sorted(graph):
        trail: list[str] = []
        stack = [(start, iter(graph[start]))] if start not in done else []
        trail.extend(name for name, _ in stack)
        while stack:
            name, givers = stack[-1]
            giver = next(givers, None)
            if giver is None:
                stack.pop()
                trail.pop()
                done.add(name)
            elif giver in trail:
                circle = trail[trail.index(giver) :]
                yield circle[::-1]
            elif giver not in done:
                trail.append(giver)
                stack.append((giver, iter(graph[giver])))
