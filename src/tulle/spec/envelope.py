"""The envelope of the OAM document around its components, and the JSON Schema of the whole for editors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tulle.spec.product import PRODUCT_NAME

API_VERSION = "core.oam.dev/v1beta1"
KIND = "DataProduct"
LONGEST_NAME = 200
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
                "maxLength": LONGEST_NAME,
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


class _Capability(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Mapping[str, Any]: ...


def json_schema(capabilities: Iterable[_Capability]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the whole document, for editors.

    Each property may be written plainly or as `{value: …}`; the schema of each component follows its type.
    """
    known = tuple(capabilities)
    names = [capability.name for capability in known]
    definitions = {capability.name: _editor_schema(capability.schema) for capability in known}
    component: dict[str, Any] = {
        **_COMPONENTS["items"],  # type: ignore[dict-item]
        "allOf": [
            {
                "if": {"properties": {"type": {"const": capability.name}}, "required": ["type"]},
                "then": _properties_of(capability),
            }
            for capability in known
        ],
    }
    component["properties"] = {
        **component["properties"],
        "type": {"enum": names, "description": "the component type"},
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


def _properties_of(capability: _Capability) -> dict[str, Any]:
    """What a component of one type must have beside its name and type."""
    schema = {"$ref": f"#/$defs/{capability.name}"}
    if capability.schema.get("required"):
        return {"properties": {"properties": schema}, "required": ["properties"]}
    nothing = [{"type": "null"}, {"enum": sorted(PLACEHOLDERS)}]
    return {"properties": {"properties": {"anyOf": [schema, *nothing]}}}


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
