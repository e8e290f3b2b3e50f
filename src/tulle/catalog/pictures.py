"""Pictures of what flows where: products with the services that read them, and columns from sources to callers.

Of a large mesh only what hangs together. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from tulle.catalog import flow
from tulle.catalog.column_lineage import ColumnFlow, column_flow
from tulle.catalog.lineage import Graph
from tulle.catalog.mesh_reader import Mesh, MeshReader
from tulle.catalog.service import ServiceView
from tulle.gateway.holders import holders
from tulle.state.db import Database

PICTURED = 60  # products that one picture holds
CALLERS_DRAWN = 5  # of a service, in a picture


class Pictures:
    """Draws one mesh; `services` are those of it. Safe to share between threads."""

    def __init__(
        self, database: Database, meshes: MeshReader, services: Callable[[Mesh], Sequence[ServiceView]]
    ) -> None:
        self._database = database
        self._meshes = meshes
        self._services = services

    def graph(self, mesh: Mesh, services: Sequence[ServiceView], around: str = "") -> Graph:
        """All of a mesh that is small; of a large one only what hangs together with `around`, a product."""
        near = self._near(mesh, services, around)
        shown = [item for item in mesh.applied if item.product.name in near]
        flows, models = {}, {}
        for item in shown:
            product = item.product
            flows[product.name] = self._meshes.remembered(
                ("flow", product.name), (product.digest, item.code_digest), partial(flow.flow_of, product)
            )
            models[product.name] = self._meshes.findings(mesh, product).models
        names = {item.product.name for item in shown}
        theirs = [s for s in services if s.product in names or any(map(s.reads, names))]
        return flow.graph([item.product for item in shown], flows, theirs, models, self._callers())

    def _near(self, mesh: Mesh, services: Sequence[ServiceView], around: str) -> Collection[str]:
        if len(mesh.applied) <= PICTURED or not around:
            return mesh.by_name.keys()
        return flow.near(around, mesh.by_name.values(), services)

    def columns(self, around: str, hidden: Collection[str]) -> ColumnFlow:
        """The columns of all products that hang together with one, without services that are `hidden`."""
        mesh = self._meshes.now()
        services = [service for service in self._services(mesh) if service.name not in hidden]
        names = flow.near(around, mesh.by_name.values(), services)
        shown = [product for name, product in mesh.by_name.items() if name in names]
        told = {product.name: self._meshes.findings(mesh, product) for product in shown}
        theirs = [s for s in services if any(map(s.reads, names)) or s.product in names]
        return column_flow(shown, told, theirs, self._callers(), hidden)

    def _callers(self) -> Mapping[str, Sequence[str]]:
        """The applications that may call each service; of many only how many there are."""
        return {
            name: [one.application for one in of] if len(of) <= CALLERS_DRAWN else [f"{len(of)} of {name}"]
            for name, of in holders(self._database).items()
        }
