"""The built-in component types teach what they accept."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.spec.conftest import HEAD, a_product

from tulle.spec.capability import Capability, builtin_registry

TYPES = {capability.name: capability for capability in builtin_registry()}
SEED_TYPES = {
    "domain",
    "data-product",
    "data-set",
    "input-port",
    "output-port",
    "service-level-asset",
    "service-level-indicator",
    "data-sharing-agreement",
}


def test_the_types() -> None:
    assert set(TYPES) == {*SEED_TYPES, "transformation"}


def _schemas(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from _schemas(inner, f"{path}.{name}")
        yield from _schemas(inner.get("items", {}), f"{path}.{name}[]")


@pytest.mark.parametrize("capability", TYPES.values(), ids=lambda c: c.name)
def test_every_property_is_described_and_nothing_else_is_taken(capability: Capability) -> None:
    assert capability.schema["additionalProperties"] is False
    for path, schema in _schemas(capability.schema, capability.name):
        assert schema.get("description"), path


def test_only_what_describes_is_required() -> None:
    required = {name: c.schema["required"] for name, c in TYPES.items()}
    assert required.pop("domain") == []
    assert required.pop("data-product") == ["definition"]
    assert required.pop("transformation") == ["project"]
    assert set(map(tuple, required.values())) == {("description",)}


def test_skeletons_and_examples_make_a_valid_product() -> None:
    head = HEAD.split("  - {name: sales")[0]
    for text in ("skeleton", "example"):
        parts = [textwrap.indent(getattr(capability, text), "  ") for capability in TYPES.values()]
        product = a_product("".join(parts), head)
        assert {component.type for component in product.components} == set(TYPES)
        assert product.output_ports[0].data_set == product.data_sets[0].name
