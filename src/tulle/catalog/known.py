"""The applied products and their services, read again only where something changed: every page asks for them.

A mesh of a thousand products has documents of megabytes; what tells whether one changed is a line each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from tulle.errors import Invalid, Problem
from tulle.serving.service import Service, load_services
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database
from tulle.state.products import AppliedProduct

_Files = tuple[tuple[str, int, int], ...]


class KnownProducts:
    """Remembers what is applied. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[tuple[str, str, float], AppliedProduct]] = {}
        self._services: dict[Path, tuple[_Files, tuple[Service, ...], tuple[Problem, ...]]] = {}

    def all(self) -> Mapping[str, AppliedProduct]:
        """Every applied product by name, in the order of domains and names."""
        versions = products.versions(self._database)
        with self._lock:
            kept = dict(self._kept)
        changed = [name for name, version in versions.items() if name not in kept or kept[name][0] != version]
        read = products.some(self._database, changed)
        found = {
            name: read[name] if name in read else kept[name][1]
            for name in versions
            if name in read or (name in kept and name not in changed)
        }
        with self._lock:
            self._kept = {name: (versions[name], one) for name, one in found.items()}
        return found

    def services(self, product: DataProduct) -> tuple[tuple[Service, ...], tuple[Problem, ...]]:
        """The services that a product's folder declares, or what is wrong with them."""
        folder = product.folder / "services"
        files = _files(folder)
        if not files:
            return (), ()
        with self._lock:
            kept = self._services.get(folder)
        if kept is None or kept[0] != files:
            try:
                kept = (files, load_services(product), ())
            except Invalid as exc:
                kept = (files, (), exc.problems or (Problem(exc.message, hint=exc.hint),))
            with self._lock:
                self._services[folder] = kept
        return kept[1], kept[2]


def _files(folder: Path) -> _Files:
    """Name, time and size of each file: what changes when one is written."""
    try:
        with os.scandir(folder) as found:
            told = [(entry.name, entry.stat()) for entry in found]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in told))
