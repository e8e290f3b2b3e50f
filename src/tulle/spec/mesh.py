"""A mesh folder read as a whole: its settings, its products, and how products hang together.

Reads files, never writes them. What is wrong in all product files, and between them, is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from tulle.config import Settings, settings_from
from tulle.errors import Invalid, NotFound, Problem, TulleError, did_you_mean
from tulle.spec.capability import Registry, builtin_registry, load_registry
from tulle.spec.connect import Loaded, connect
from tulle.spec.document import Document, refuse
from tulle.spec.load import load_document
from tulle.spec.oam import read_product, with_parts
from tulle.spec.product import DataProduct, InputPort, OutputPort
from tulle.spec.remember import Remembered

MESH_FILE = "mesh.yaml"
PRODUCT_FILE = "product.yaml"
_REFERENCE = "every setting: docs/reference/mesh.md"


@dataclass(frozen=True, slots=True)
class MeshSpec:
    """What the files of a mesh say: its settings and its products, every reference between them resolved."""

    settings: Settings
    products: tuple[DataProduct, ...]  # by name
    registry: Registry = field(default_factory=builtin_registry, repr=False, compare=False)

    def product(self, name: str) -> DataProduct:
        """The product of that name. Raises NotFound with the nearest name."""
        for product in self.products:
            if product.name == name:
                return product
        known = [product.name for product in self.products]
        hint = did_you_mean(name, known) or "there is none yet: make one with 'tulle new product'"
        raise NotFound(f"there is no product '{name}' in the mesh '{self.settings.name}'", hint=hint)

    def upstream(self, name: str) -> tuple[DataProduct, ...]:
        """The products whose output ports the product takes directly. Raises NotFound."""
        wanted = {port.product for port in self.product(name).input_ports if port.product}
        return tuple(product for product in self.products if product.name in wanted)

    def source_of(self, port: InputPort) -> tuple[DataProduct, OutputPort] | None:
        """The product and output port an input port takes; None where its rows come from elsewhere."""
        if not port.product:
            return None
        product = self.product(port.product)
        return product, product.output_port(port.associated_output_port)

    def order(self) -> tuple[DataProduct, ...]:
        """All products, each after those it takes from."""
        graph = {p.name: [u.name for u in self.upstream(p.name)] for p in self.products}
        return tuple(self.product(name) for name in TopologicalSorter(graph).static_order())


def find_mesh(start: Path | None = None) -> Path:
    """The mesh folder that `start` (default: the working directory) is in: the nearest with a mesh.yaml.

    Raises NotFound that says how to make one.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / MESH_FILE).is_file():
            return folder
    raise _no_mesh(f"there is no {MESH_FILE} in {start} or a folder above it", start)


def _no_mesh(message: str, folder: Path) -> NotFound:
    if (folder / "mesh.yml").is_file():
        return NotFound(message, hint=f"rename mesh.yml to {MESH_FILE}")
    return NotFound(message, hint="make a mesh here with 'tulle init', or name one with --mesh FOLDER")


def load_settings(folder: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of the mesh in `folder`, overridden by the environment (default: the process's).

    Raises NotFound when there is no mesh.yaml, and Invalid with every wrong setting at its place.
    """
    file = folder / MESH_FILE
    if not file.is_file():
        raise _no_mesh(f"{folder} is not a mesh: it has no {MESH_FILE}", folder)
    document = load_document(file, name=MESH_FILE)
    values = {} if document.value is None else document.value
    if not isinstance(values, dict):
        refuse(MESH_FILE, [document.problem(f"{MESH_FILE} must be a mapping of settings to values")])
    problems: list[Problem] = []
    told: set[str] = set()
    while True:
        try:
            settings = settings_from(folder, values, environment)
        except Invalid as error:
            path = _setting_in(error.message, document)
            if not path or path[0] not in values:
                if error.message not in told:  # again, by the default of what was taken out
                    problems.append(Problem(error.message, None, error.hint))
                break
            told.add(error.message)
            message = error.message.removeprefix(f"{MESH_FILE}: ")
            problems.append(document.problem(message, path, key=True, hint=error.hint or _REFERENCE))
            values = _without(values, path)
        else:
            break
    refuse(MESH_FILE, sorted(problems, key=lambda p: p.place.line if p.place else 0))
    return settings


def _without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The values without what `path` leads to, so that the rest can be looked at."""
    inner = values[path[0]]
    if len(path) > 1 and isinstance(inner, dict) and path[1] in inner:
        return {**values, path[0]: _without(inner, path[1:])}
    return {name: value for name, value in values.items() if name != path[0]}


def _setting_in(message: str, document: Document) -> tuple[str, ...]:
    """The setting that a message of `config` names, as a path, if mesh.yaml has it."""
    if message.startswith("TULLE_"):  # the environment's, not the file's
        return ()
    if bound := re.search(r"unknown setting '([^']+)' in '([^']+)'", message):
        return (*bound[2].split("."), bound[1])
    for name in re.findall(r"'([^']+)'", message):
        steps = tuple(name.split("."))
        if steps[0] in document.value:
            return steps
    return ()


def load_mesh(
    mesh: Settings | Path, registry: Registry | None = None, remembered: Remembered | None = None
) -> MeshSpec:
    """Capabilities and products of the mesh with these settings, or in this folder.

    `remembered` has what was read before. Raises NotFound when there is no mesh, and Invalid with every problem of
    every product and between them.
    """
    settings = load_settings(mesh) if isinstance(mesh, Path) else mesh
    registry = registry or load_registry(settings)
    return MeshSpec(settings, load_products(settings, registry, remembered), registry)


def load_products(
    settings: Settings, registry: Registry, remembered: Remembered | None = None
) -> tuple[DataProduct, ...]:
    """All products of the mesh by name, references resolved. Raises Invalid with all problems."""
    problems = list(_misplaced(settings))
    remembered = remembered or Remembered()
    types = hash(registry.names())
    files = sorted(settings.products_folder.glob(f"*/*/{PRODUCT_FILE}"))
    loaded = [remembered.loaded(f, types, partial(_loaded, f, settings, registry, problems)) for f in files]
    remembered.keep({str(file) for file in files})
    products, found = connect(loaded, settings.alerts, settings.warehouses)
    refuse(f"the mesh '{settings.name}'", [*problems, *found])
    return products


def _loaded(file: Path, settings: Settings, registry: Registry, problems: list[Problem]) -> Loaded:
    """One product file; what is wrong with it is added to `problems`."""
    document = None
    try:
        document = load_document(file, name=str(file.relative_to(settings.folder)))
        return Loaded(with_parts(document, registry), read_product(document, registry, file=file))
    except TulleError as error:
        problems.extend(error.problems or [Problem(error.message, None, error.hint)])
        return Loaded(document, None)


def _misplaced(settings: Settings) -> list[Problem]:
    """Product files where nobody would look for them."""
    folder = settings.products_folder
    strays = [*folder.glob(PRODUCT_FILE), *folder.glob(f"*/{PRODUCT_FILE}"), *folder.glob("*/*/product.yml")]
    for inner in folder.glob("*/*/"):
        if not (inner / PRODUCT_FILE).exists():  # beneath one that has it, a file may have any name
            strays += inner.glob(f"*/**/{PRODUCT_FILE}")
    wanted = f"products/<domain>/<product>/{PRODUCT_FILE}"
    return [
        Problem(f"{stray.relative_to(settings.folder)} is not read", None, f"a product lies at {wanted}")
        for stray in sorted(strays)
    ]
