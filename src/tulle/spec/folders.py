"""Folders of a product that nobody reads because their name is not quite one that is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tulle.errors import Place, Problem, nearest
from tulle.spec.product import DataProduct
from tulle.spec.source import ENDINGS, FILE
from tulle.spec.transformation import BASE

# What lies in each folder that is read.
_READ = {
    "transform": frozenset({".sql", ".py"}),
    "checks": frozenset({".yaml", ".yml", ".sql", ".py"}),
    "services": frozenset({".yaml", ".yml"}),
    "apis": frozenset({".yaml", ".yml"}),
    "functions": frozenset({".py"}),
    "tests": frozenset({".yaml", ".yml"}),
    "macros": frozenset({".sql"}),
    "seeds": frozenset(f".{ending}" for ending in ENDINGS),
}
# What people call them who come from other tools.
_MEANT = {"models": "transform", "sql": "transform", "quality": "checks", "api": "apis"}


def misspelt_folders(product: DataProduct) -> Iterator[Problem]:
    """A problem for each folder that holds what belongs into another: its files would silently do nothing."""
    if not product.folder.is_dir():
        return
    label = Path(product.place.file).parent if product.place else Path(product.folder.name)
    yield from _nested(product.folder, label)
    taken = set(_taken(product))
    for entry in sorted(os.scandir(product.folder), key=lambda e: e.name):
        name = entry.name
        if name in _READ or name in taken or name.startswith((".", "_")) or not entry.is_dir():
            continue
        meant = _MEANT.get(name.lower()) or nearest(name.lower(), _READ)
        if meant is None:
            continue
        file = _first(Path(entry.path), _READ[meant])
        if file is None:
            continue
        message = f"the folder '{name}' is not read, so '{name}/{file}' does nothing"
        yield Problem(message, Place(str(label / name)), f"did you mean '{meant}'?")


def _nested(folder: Path, label: Path) -> Iterator[Problem]:
    """Models in a folder inside the folder of models."""
    home = folder / "transform"
    for inner in sorted(home.iterdir()) if home.is_dir() else ():
        if inner.is_dir() and not inner.name.startswith((".", "_")):
            file = _first(inner, frozenset({".sql"}))
            if file is not None:
                path = f"transform/{inner.name}"
                message = f"the folder '{path}' is not read, so '{path}/{file}' does nothing"
                yield Problem(message, Place(str(label / path)), "put models into transform/ itself")


def _first(folder: Path, endings: frozenset[str]) -> str | None:
    """A file in the folder that would be read if the folder had the right name."""
    return next(
        (file.name for file in sorted(folder.iterdir()) if file.suffix in endings and file.is_file()), None
    )


def _taken(product: DataProduct) -> Iterator[str]:
    """The folders that the document itself names: of sources' files, and of dbt projects."""
    for port in product.input_ports:
        if port.source is not None and port.source.type == FILE:
            yield port.source.path.removeprefix("./").partition("/")[0]
    for component in product.components:
        if component.base == BASE:
            project = str(component.properties.get("project", "")).removeprefix("./")
            first = project.partition("/")[0]
            yield from [first] if first not in {"", "."} else _whole(product.folder)


def _whole(folder: Path) -> Iterator[str]:
    """A project that lies in the product's folder itself may have any folders."""
    yield from (entry.name for entry in folder.iterdir() if entry.is_dir())
