"""The OAM document: its envelope, and the way from a Document to a DataProduct.

Accepts `components:` under `spec:` or, as some write it, at the top level beside an empty `spec:`; reads a
property written `{value: x}` as `x` and an empty `properties:` (or the placeholder `...`) as none. All
problems are reported at once. What components mean together is in `assemble`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulle.errors import Problem, did_you_mean, nearest
from tulle.spec.assemble import assemble
from tulle.spec.capability import Registry
from tulle.spec.document import Document, Mark, refuse
from tulle.spec.document import Path as Steps
from tulle.spec.product import PRODUCT_NAME, DataProduct
from tulle.spec.rules import Part, broken_rules
from tulle.spec.validate import Schema, validate

API_VERSION = "core.oam.dev/v1beta1"
KIND = "DataProduct"
PLACEHOLDERS = {"...", ".."}  # what templates leave where nothing was filled in

_COMPONENTS = {
    "type": ["array", "null"],
    "description": "the parts of the product, each of a registered component type",
    "x-expected": "a list of components",
    "items": {
        "type": "object",
        "required": ["name", "type"],
        "additionalProperties": False,
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "the component's name for readers",
            },
            "type": {"type": "string", "minLength": 1, "description": "the component type"},
            "properties": {
                "description": "what the component type asks for",
                "anyOf": [{"type": "object"}, {"type": "null"}, {"enum": sorted(PLACEHOLDERS)}],
                "x-expected": "a mapping",
            },
        },
    },
}
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
ENVELOPE: dict[str, Any] = {
    "type": "object",
    "x-expected": "a mapping with apiVersion, kind and components",
    "required": ["apiVersion", "kind"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": API_VERSION, "description": f"always {API_VERSION}"},
        "kind": {"const": KIND, "description": f"always {KIND}"},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "description": "the product's machine name, and notes for other programs",
            "properties": {
                "name": {
                    "type": "string",
                    "pattern": PRODUCT_NAME,
                    "x-expected": "a name in kebab-case of 3 to 63 characters, such as customer-features",
                    "description": "the product's name in the mesh; default: from its data-product component",
                },
                "labels": {**_LABELS, "description": "notes other programs select by; not read by Tulle"},
                "annotations": {**_LABELS, "description": "notes for other programs; not read by Tulle"},
            },
        },
        "spec": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "description": "holds the components",
            "properties": {"components": _COMPONENTS},
        },
        "components": _COMPONENTS,
    },
}
_ENVELOPE = Schema(ENVELOPE)


def read_product(document: Document, registry: Registry, *, file: Path = Path()) -> DataProduct:
    """The data product a document describes. Raises Invalid with every problem of this document."""
    document, problems, parts = read_parts(document, registry)
    problems.extend(broken_rules(document, parts))
    refuse(document.name, sorted(problems, key=_position))
    return assemble(document, parts, file)


def read_parts(document: Document, registry: Registry) -> tuple[Document, list[Problem], list[Part]]:
    """The normalised document, what its schemas find wrong, and its components as far as they can be read."""
    problems = validate(document, _ENVELOPE)
    root, found = _components_at(document)
    problems.extend(found)
    parts: list[Part] = []
    for position, component in enumerate(_list(document.at(root))):
        path = (*root, position)
        if not isinstance(component, dict) or not isinstance(component.get("type"), str):
            continue  # the envelope's schema has said so
        name, kind = component.get("name"), component["type"]
        meant = kind if kind in registry else nearest(kind, registry.names())
        if meant != kind:
            message = f"unknown component type '{kind}'"
            hint = did_you_mean(kind, registry.names())
            problems.append(document.problem(message, (*path, "type"), hint=hint))
        if meant is None:
            continue
        document = _normalised(document, path, registry.get(meant).defaults)
        properties = document.at((*path, "properties"))
        if not isinstance(properties, dict) or not isinstance(name, str) or not name:
            continue
        where = f"{kind} '{name[:80]}'"
        problems.extend(validate(document, registry.schema(meant), (*path, "properties"), where=where))
        parts.append(Part(path, name, kind, registry.base(meant), properties))
    return document, problems, parts


def _components_at(document: Document) -> tuple[Steps, list[Problem]]:
    """Where the components are: under `spec:`, or at the top level."""
    in_spec, on_top = ("spec", "components"), ("components",)
    has_spec, has_top = (document.at(path) is not None for path in (in_spec, on_top))
    if has_spec and has_top:
        message = "'components' is given twice: here and under 'spec'"
        return in_spec, [document.problem(message, on_top, key=True, hint="keep the one under 'spec'")]
    root = on_top if has_top else in_spec
    if not _list(document.at(root)) and isinstance(document.value, dict):
        hint = "start with 'tulle new product', or see 'tulle capability list' for what there is"
        if not (has_spec or has_top) or document.at(root) == []:
            return root, [document.problem("the document has no components", root, key=True, hint=hint)]
    return root, []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _normalised(document: Document, path: Steps, defaults: Mapping[str, Any]) -> Document:
    """The document with one component's properties in their plain form, defaults of its type filled in."""

    def change(component: Any, mark: Mark) -> tuple[Any, Mark]:
        properties = component.get("properties")
        if properties is None or (isinstance(properties, str) and properties in PLACEHOLDERS):
            properties = {}
        if not isinstance(properties, dict):
            return component, mark
        inner = mark.children["properties"].copy() if "properties" in mark.children else None
        inner = inner or Mark(mark.line, mark.column)
        plain = dict(properties)
        for name, value in properties.items():
            if isinstance(value, Mapping) and value.keys() == {"value"}:
                plain[name], inner.children[name] = value["value"], inner.children[name].children["value"]
        for name, value in defaults.items():
            plain.setdefault(name, value)
        twin = mark.copy()
        twin.children["properties"] = inner
        return {**component, "properties": plain}, twin

    return document.mapped(path, change)


def _position(problem: Problem) -> tuple[int, int]:
    return (problem.place.line, problem.place.column) if problem.place else (0, 0)


def document_schema(registry: Registry) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the whole document, for editors.

    Each property may be written plainly or as `{value: …}`; the schema of each component follows its type.
    """
    definitions = {capability.name: _editor_schema(capability.schema) for capability in registry}
    component: dict[str, Any] = {
        **_COMPONENTS["items"],  # type: ignore[dict-item]
        "allOf": [
            {
                "if": {"properties": {"type": {"const": capability.name}}, "required": ["type"]},
                "then": {
                    "properties": {"properties": {"$ref": f"#/$defs/{capability.name}"}},
                    **({"required": ["properties"]} if capability.schema.get("required") else {}),
                },
            }
            for capability in registry
        ],
    }
    component["properties"] = {
        **component["properties"],
        "type": {"enum": list(registry.names()), "description": "the component type"},
    }
    components = {**_COMPONENTS, "items": {"$ref": "#/$defs/component"}}
    properties = {
        **ENVELOPE["properties"],
        "spec": {**ENVELOPE["properties"]["spec"], "properties": {"components": components}},
        "components": components,
    }
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tulle data product",
        "description": "A data product of a mesh: product.yaml",
        **ENVELOPE,
        "properties": properties,
        "$defs": {"component": component, **definitions},
    }
    plain: dict[str, Any] = _without_annotations(schema)
    return plain


def _editor_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A capability's schema whose properties may also be written `{value: x}`."""
    properties = {
        name: {
            "description": inner.get("description", ""),
            "anyOf": [
                inner,
                {
                    "type": "object",
                    "required": ["value"],
                    "properties": {"value": inner},
                    "additionalProperties": False,
                },
            ],
        }
        for name, inner in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def _without_annotations(value: Any) -> Any:
    """The schema without our own `x-…` words, which editors do not know."""
    if isinstance(value, Mapping):
        return {k: _without_annotations(v) for k, v in value.items() if not str(k).startswith("x-")}
    return [_without_annotations(item) for item in value] if isinstance(value, list) else value
