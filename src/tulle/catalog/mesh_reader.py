"""What pages read again and again: what is applied and declared, the newest runs of products, what these found.

Remembered by the state it was read in. Knows nothing of who reads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from tulle.catalog import history
from tulle.catalog.history import Findings, RunView
from tulle.catalog.known import KnownProducts
from tulle.errors import Problem
from tulle.serving.service import Service
from tulle.spec.product import DataProduct
from tulle.state.db import Database
from tulle.state.products import AppliedProduct

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeclaredService:
    """A service and the product whose folder declares it."""

    product: DataProduct
    service: Service


@dataclass(slots=True)
class Mesh:
    """What one page needs again and again, read once."""

    applied: tuple[AppliedProduct, ...]
    declared: Mapping[str, DeclaredService]
    problems: Mapping[str, tuple[Problem, ...]]  # by product
    by_name: Mapping[str, DataProduct] = field(init=False)
    newest_runs: dict[str, RunView | None] = field(default_factory=dict)  # filled as they are asked for

    def __post_init__(self) -> None:
        self.by_name = {item.product.name: item.product for item in self.applied}

    def find(self, name: str) -> DataProduct | None:
        """A product, where it is applied."""
        return self.by_name.get(name)


class MeshReader:
    """Reads one mesh. Safe to share between threads."""

    def __init__(self, database: Database, known: KnownProducts) -> None:
        self._database = database
        self._known = known
        self._memory: dict[tuple[str, str], tuple[object, Any]] = {}  # one entry a product or service and use
        self._lock = threading.Lock()

    def now(self) -> Mesh:
        """The mesh as it is at this moment."""
        applied = tuple(self._known.all().values())
        declared: dict[str, DeclaredService] = {}
        problems: dict[str, tuple[Problem, ...]] = {}
        for item in applied:
            services, wrong = self._known.services(item.product)
            for service in services:
                declared.setdefault(service.name, DeclaredService(item.product, service))
            if wrong:
                problems[item.product.name] = wrong
        return Mesh(applied, declared, problems)

    def product(self, name: str) -> DataProduct | None:
        """A product, where it is applied."""
        found = self._known.all().get(name)
        return found.product if found else None

    def products(self) -> tuple[DataProduct, ...]:
        """All that are applied, in the order of domains and names."""
        return tuple(one.product for one in self._known.all().values())

    def newest_run(self, mesh: Mesh, product: str) -> RunView | None:
        """The newest run of a product, looked at once."""
        if product not in mesh.newest_runs:
            runs = history.recent(self._database, product=product, limit=1)
            mesh.newest_runs[product] = runs[0] if runs else None
        return mesh.newest_runs[product]

    def findings(self, mesh: Mesh, product: DataProduct) -> Findings:
        """What the newest runs found out; read again when there is a newer one, or one goes on."""
        newest = self.newest_run(mesh, product.name)
        return self.remembered(
            ("findings", product.name),
            (product.digest, newest and (newest.id, newest.finished_at)),
            partial(history.findings, self._database, product),
            keep=newest is None or newest.has_ended,
        )

    def findings_of(self, name: str) -> Findings:
        """The same of a product by name; nothing where it is not applied."""
        mesh = self.now()
        product = mesh.find(name)
        return self.findings(mesh, product) if product else Findings()

    def remembered(
        self, key: tuple[str, str], state: object, read: Callable[[], T], *, keep: bool = True
    ) -> T:
        """What was read before under `key`, if it was in the same `state`."""
        with self._lock:
            found = self._memory.get(key)
        if found is not None and found[0] == state:
            known: T = found[1]
            return known
        value = read()
        if keep:
            with self._lock:
                self._memory[key] = (state, value)
        return value
