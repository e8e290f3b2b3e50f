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
from tulle.spec.document import Document, Mark, refuse, shown
from tulle.spec.document import Path as Steps
from tulle.spec.envelope import ENVELOPE, LONGEST_NAME, PLACEHOLDERS
from tulle.spec.product import DataProduct
from tulle.spec.rules import Part, broken_rules
from tulle.spec.validate import Schema, validate

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
            message = f"unknown component type '{shown(kind)}'"
            hint = did_you_mean(kind, registry.names())
            problems.append(document.problem(message, (*path, "type"), hint=hint))
        if meant is None:
            continue
        document = _normalised(document, path, registry.get(meant).defaults)
        properties = document.at((*path, "properties"))
        if not isinstance(properties, dict) or not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            continue
        where = f"{shown(kind)} '{shown(name)}'"
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
