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
from tulle.spec.compose import expanded
from tulle.spec.document import Document, Mark, refuse, shown
from tulle.spec.document import Path as Steps
from tulle.spec.envelope import ENVELOPE, LONGEST_NAME, PLACEHOLDERS
from tulle.spec.part import Part
from tulle.spec.product import DataProduct
from tulle.spec.rules import broken_rules
from tulle.spec.validate import Schema, validate

_ENVELOPE = Schema(ENVELOPE)


def read_product(document: Document, registry: Registry, *, file: Path = Path()) -> DataProduct:
    """The data product a document describes. Raises Invalid with every problem of this document."""
    document, problems, parts = read_parts(document, registry)
    problems.extend(broken_rules(document, parts))
    refuse(document.name, sorted(problems, key=_position))
    return assemble(document, parts, file)


def with_parts(document: Document, registry: Registry) -> Document:
    """The document with what its composed components stand for, each at the place it was made from."""
    return expanded(document, _components_at(document)[0], registry)


def read_parts(document: Document, registry: Registry) -> tuple[Document, list[Problem], list[Part]]:
    """The normalised document, what its schemas find wrong, and its components as far as they can be read."""
    problems = validate(document, _ENVELOPE)
    root, found = _components_at(document)
    problems.extend(found)
    if not isinstance(document.at(root), list):
        return document, problems, []
    document = expanded(document, root, registry)
    components = document.at(root)
    meant = [_meant(component, registry) for component in components]
    document = _normalised(document, root, [registry.get(kind).defaults if kind else None for kind in meant])
    parts: list[Part] = []
    for position, (component, kind) in enumerate(zip(document.at(root), meant, strict=True)):
        path = (*root, position)
        if not isinstance(component, dict) or not isinstance(component.get("type"), str):
            continue  # the envelope's schema has said so
        written, name, properties = component["type"], component.get("name"), component.get("properties")
        if kind != written:
            message = f"unknown component type '{shown(written)}'"
            hint = did_you_mean(written, registry.names())
            problems.append(document.problem(message, (*path, "type"), hint=hint))
        if kind is None or not isinstance(properties, dict):
            continue
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            continue
        where = f"{shown(written)} '{shown(name)}'"
        problems.extend(validate(document, registry.schema(kind), (*path, "properties"), where=where))
        parts.append(Part(path, name, written, registry.base(kind), properties))
    return document, problems, parts


def _meant(component: Any, registry: Registry) -> str | None:
    """The type of a component, for an unknown one the type it resembles: so the rest of it is checked too."""
    kind = component.get("type") if isinstance(component, dict) else None
    if not isinstance(kind, str) or kind in registry:
        return kind if isinstance(kind, str) else None
    return nearest(kind, registry.names())


def _components_at(document: Document) -> tuple[Steps, list[Problem]]:
    """Where the components are: under `spec:`, or at the top level."""
    in_spec, on_top = ("spec", "components"), ("components",)
    has_spec, has_top = (document.at(path) is not None for path in (in_spec, on_top))
    if has_spec and has_top:
        message = "'components' is given twice: here and under 'spec'"
        return in_spec, [document.problem(message, on_top, key=True, hint="keep the one under 'spec'")]
    root = on_top if has_top else in_spec
    if document.at(root) in (None, []) and isinstance(document.value, dict):
        hint = "start with 'tulle new product', or see 'tulle capability list' for what there is"
        return root, [document.problem("the document has no components", root, key=True, hint=hint)]
    return root, []


def _normalised(document: Document, root: Steps, defaults: list[Mapping[str, Any] | None]) -> Document:
    """The document with all components in their plain form, defaults of their types (if known) filled in."""

    def change(components: Any, mark: Mark) -> tuple[Any, Mark]:
        twin, plain = mark.copy(), list(components)
        for position, filled in enumerate(defaults):
            if filled is not None:
                inner = mark.children[position]
                plain[position], twin.children[position] = _plain(components[position], inner, filled)
        return plain, twin

    return document.mapped(root, change)


def _plain(component: dict[str, Any], mark: Mark, defaults: Mapping[str, Any]) -> tuple[dict[str, Any], Mark]:
    """One component with `{value: x}` read as `x` (at the place of the x), and its mark."""
    properties = component.get("properties")
    if properties is None or (isinstance(properties, str) and properties in PLACEHOLDERS):
        properties = {}
    if not isinstance(properties, dict):
        return component, mark
    written = mark.children.get("properties")
    inner = written.copy() if written else Mark(mark.line, mark.column)
    plain = dict(properties)
    for name, value in properties.items():
        if isinstance(value, dict) and value.keys() == {"value"}:
            plain[name], inner.children[name] = value["value"], inner.children[name].children["value"]
    for name, value in defaults.items():
        plain.setdefault(name, value)
    twin = mark.copy()
    twin.children["properties"] = inner
    return {**component, "properties": plain}, twin


def _position(problem: Problem) -> tuple[int, int]:
    return (problem.place.line, problem.place.column) if problem.place else (0, 0)
