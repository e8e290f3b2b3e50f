"""A mesh folder read as a whole: its settings, its products, and how products hang together.

Reads files, never writes them. What is wrong in all product files is reported at once.
"""

from __future__ import annotations

from pathlib import Path

from tulle.errors import NotFound
from tulle.spec.capability import Registry, builtin_registry
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.product import DataProduct

PRODUCT_FILE = "product.yaml"


def load_product(path: Path, registry: Registry | None = None, *, name: str = "") -> DataProduct:
    """Read one product from its file or its folder; checks that need other products are not made.

    `name` is what errors call the file; default: its path. Raises NotFound, or Invalid with every problem.
    """
    file = path / PRODUCT_FILE if path.is_dir() else path
    if not file.exists():
        raise NotFound(f"there is no product at {path}", hint="make one with 'tulle new product'")
    document = load_document(file, name=name or str(file))
    return read_product(document, registry or builtin_registry(), file=file)
