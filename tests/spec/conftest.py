"""Builders of product documents and mesh folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tulle.errors import Invalid, Problem
from tulle.spec.capability import builtin_registry
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.product import DataProduct

HEAD = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: sales, type: domain}
  - {name: purchases, type: data-product, properties: {definition: All purchases}}
"""


def a_product(components: str = "", head: str = HEAD) -> DataProduct:
    """The product of a document with a domain, a data product, and further `components` (indented by 2)."""
    return read_product(load_document(head + components, name="product.yaml"), builtin_registry())


def problems_of(components: str = "", head: str = HEAD) -> list[Problem]:
    """What is wrong with such a document."""
    with pytest.raises(Invalid) as caught:
        a_product(components, head)
    return list(caught.value.problems)


WriteProduct = Callable[..., Path]


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """An empty mesh folder."""
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    return tmp_path


@pytest.fixture
def write_product(mesh: Path) -> WriteProduct:
    """Write a small product that takes from others: `write("b", takes=["a"])`."""

    def write(name: str, *, domain: str = "sales", takes: list[str] | None = None, more: str = "") -> Path:
        lines = [
            "apiVersion: core.oam.dev/v1beta1",
            "kind: DataProduct",
            f"metadata: {{name: {name}}}",
            "spec:",
            "  components:",
            f"  - {{name: {domain}, type: domain}}",
            f"  - {{name: {name}, type: data-product, properties: {{definition: About {name}}}}}",
            f"  - {{name: {name}, type: data-set, properties: {{description: Rows of {name}}}}}",
            f"  - {{name: Port of {name}, type: output-port, properties: {{description: Take it here}}}}",
        ]
        for other in takes or ():
            lines += [
                f"  - name: From {other}",
                "    type: input-port",
                f"    properties: {{description: x, product: {other}, associated_output_port: Port of {other}}}",
            ]
        file = mesh / "products" / domain / name / "product.yaml"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(lines) + "\n" + more)
        return file

    return write
