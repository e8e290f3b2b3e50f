"""Where a product's document says something, found in the file when it is asked for.

A product keeps the places of its parts and not of each of their properties; who complains about one reads the
file again.
"""

from __future__ import annotations

from tulle.errors import Place, Problem, TulleError
from tulle.spec.document import Document
from tulle.spec.document import Path as Steps
from tulle.spec.load import load_document
from tulle.spec.product import DataProduct


def place_of(product: DataProduct, part: Place | None, *steps: str | int) -> Place | None:
    """Where a property of the part at `part` is written; the part's own place when it is not to be found."""
    found = _find(product, part, steps)
    return found[0].place(found[1]) if found else part


def problem_at(
    product: DataProduct, part: Place | None, *steps: str | int, message: str, hint: str | None = None
) -> Problem:
    """A Problem with a property of the part at `part`, at its place, with its line."""
    found = _find(product, part, steps)
    return found[0].problem(message, found[1], hint=hint) if found else Problem(message, part, hint)


def _find(
    product: DataProduct, part: Place | None, steps: tuple[str | int, ...]
) -> tuple[Document, Steps] | None:
    """The document and the path of the property in it."""
    try:
        document = load_document(product.file, name=part.file if part else str(product.file))
    except TulleError:  # it is gone or broken by now
        return None
    for root in (("spec", "components"), ("components",)):
        components = document.at(root)
        for position in range(len(components) if isinstance(components, list) else 0):
            path = (*root, position)
            inner = (*path, "properties", *steps)
            if document.place(path) == part and document.at(inner) is not None:
                return document, inner
    return None
