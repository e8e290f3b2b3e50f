"""The reference page follows the registry."""

from __future__ import annotations

from pathlib import Path

from tulle.spec.capability import builtin_registry
from tulle.spec.reference import reference_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "product-yaml.md"


def test_the_page_is_not_stale() -> None:
    hint = "run: python -m tulle.spec.reference > docs/reference/product-yaml.md"
    assert PAGE.read_text(encoding="utf-8") == reference_page(builtin_registry()), hint


def test_every_property_is_on_the_page() -> None:
    page = reference_page(builtin_registry())
    for capability in builtin_registry():
        assert f"\n## {capability.name}\n" in page
        for name in capability.schema["properties"]:
            assert f"| `{name}` |" in page
