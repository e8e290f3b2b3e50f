"""The JSON Schema for editors accepts what Tulle accepts, in both forms of a property."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tests.spec.conftest import HEAD

from tulle.spec.capability import builtin_registry, json_schema
from tulle.spec.load import load_document

SCHEMA = json_schema(builtin_registry())
EDITOR = jsonschema_rs.Draft202012Validator(SCHEMA)


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "'x-" not in str(SCHEMA)


def test_the_seeds_document_is_accepted() -> None:
    document = load_document(Path(__file__).parent / "seed_product.yaml")
    assert [e.message for e in EDITOR.iter_errors(document.value)] == []


@pytest.mark.parametrize(
    ("component", "accepted"),
    [
        ("{name: d, type: data-set, properties: {description: x}}", True),
        ("{name: d, type: data-set, properties: {description: {value: x}}}", True),
        ("{name: d, type: data-set, properties: {description: {value: x, note: y}}}", False),
        ("{name: d, type: data-set, properties: {description: {value: 5}}}", False),
        ("{name: d, type: data-set, properties: {descripton: x}}", False),
        ("{name: d, type: data-set, properties: {description: x, columns: [{name: a, type: strng}]}}", False),
        ("{name: d, type: data-set, properties: {}}", False),
        ("{name: d, type: data-set}", False),
        ("{name: d, type: data-sets, properties: {description: x}}", False),
        ("{name: d, properties: {description: x}}", False),
    ],
)
def test_components(component: str, accepted: bool) -> None:
    value: Any = load_document(f"{HEAD}  - {component}\n").value
    assert EDITOR.is_valid(value) is accepted
