"""Composed component types: one component that is written stands for several of existing types.

`${name}` and `${property}` in a part are replaced by what the component says: a text that is nothing else by the value
itself (left out where it is not written), inside other text by its words. Nothing is evaluated. The parts come after
all that is written, so what is written keeps its position; each has the places of what it was made from. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from tulle.errors import Problem, did_you_mean
from tulle.spec.document import Document, Mark
from tulle.spec.document import Path as Steps

NAME = "name"  # the placeholder of the component's own name
MOST_PARTS = 200  # of one document
_HOLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")
_GONE = object()


class Composed(Protocol):
    """What is to be known of a component type."""

    @property
    def compose(self) -> Sequence[Mapping[str, Any]]:
        """Its parts; none for a type that stands for itself."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Properties taken when not written."""


class Types(Protocol):
    """The component types there are."""

    def get(self, name: str) -> Composed:
        """The type of that name."""

    def __contains__(self, name: object) -> bool: ...


def expanded(document: Document, root: Steps, types: Types) -> Document:
    """The document with the parts of its composed components after its own components."""
    components = document.at(root)
    if not isinstance(components, list) or not any(_composed(one, types) for one in components):
        return document

    def change(value: Any, mark: Mark) -> tuple[Any, Mark]:
        twin, found = mark.copy(), list(value)
        waiting = [(one, mark.children[n]) for n, one in enumerate(value) if _composed(one, types)]
        while waiting:
            component, where = waiting.pop(0)
            for part, place in _parts(component, where, types):
                if len(found) - len(value) >= MOST_PARTS:
                    return found, twin
                twin.children[len(found)] = place
                found.append(part)
                if _composed(part, types):
                    waiting.append((part, place))
        return found, twin

    return document.mapped(root, change)


def _composed(component: Any, types: Types) -> bool:
    kind = component.get("type") if isinstance(component, dict) else None
    if not isinstance(kind, str) or kind not in types or not types.get(kind).compose:
        return False
    return isinstance(component.get("name"), str) and isinstance(component.get("properties") or {}, dict)


def _parts(component: dict[str, Any], mark: Mark, types: Types) -> Iterator[tuple[dict[str, Any], Mark]]:
    capability = types.get(component["type"])
    inner = mark.children.get("properties")
    says: dict[str, Any] = {**capability.defaults}
    marks: dict[str, Mark] = {}
    for name, value in (component.get("properties") or {}).items():
        place = inner.children.get(name) if inner else None
        if isinstance(value, dict) and value.keys() == {"value"}:
            value, place = value["value"], place.children.get("value", place) if place else None  # noqa: PLW2901
        says[name] = value
        if place is not None:
            marks[name] = place
    says[NAME] = component["name"]
    for part in capability.compose:
        if part.get("when") and says.get(part["when"]) in (None, False, "", [], {}):
            continue
        properties = _filled(part.get("properties") or {}, says)
        name = _HOLE.sub(lambda hole: _words(says.get(hole[1], "")), part["name"])
        value = {"name": name, "type": part["type"], "properties": properties}
        place = Mark(mark.line, mark.column)
        told = place.children["properties"] = Mark(mark.line, mark.column)
        for key in properties:
            hole = _HOLE.fullmatch(str(part["properties"][key]))
            told.children[key] = marks.get(hole[1] if hole else "", Mark(mark.line, mark.column))
        yield value, place


def _filled(value: Any, says: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        whole = _HOLE.fullmatch(value)
        if whole:
            return says.get(whole[1], _GONE)
        return _HOLE.sub(lambda hole: _words(says.get(hole[1], "")), value)
    if isinstance(value, list):
        return [one for one in (_filled(item, says) for item in value) if one is not _GONE]
    if isinstance(value, dict):
        filled = {key: _filled(item, says) for key, item in value.items()}
        return {key: one for key, one in filled.items() if one is not _GONE}
    return value


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)


# ── the definition ───────────────────────────────────────────────────────────────────────────────────────


def part_problems(document: Document, types: Types, names: Sequence[str]) -> list[Problem]:
    """What is wrong with the parts of a definition: types that do not exist, holes nothing fills."""
    value = document.value
    known = [NAME, *value.get("properties", {})]
    problems = []
    for position, part in enumerate(value["compose"]):
        path: Steps = ("compose", position)
        if part["type"] not in types:
            message = f"a part is of the type '{part['type']}', which does not exist"
            hint = did_you_mean(part["type"], names)
            if part["type"] == value["capability"] or part["type"] in names:
                message = f"capability '{value['capability']}' is composed of itself"
                hint = "its parts are of types that are there without it, such as output-port"
            problems.append(document.problem(message, (*path, "type"), hint=hint))
        if part.get("when") and part["when"] not in known:
            message = f"a part depends on '{part['when']}', which is no property"
            problems.append(
                document.problem(message, (*path, "when"), hint=did_you_mean(part["when"], known))
            )
        for where, hole in _holes({"name": part["name"], "properties": part.get("properties") or {}}, path):
            if hole not in known:
                message = f"'${{{hole}}}' is filled by no property"
                problems.append(document.problem(message, where, hint=did_you_mean(hole, known)))
    return problems


def _holes(value: Any, path: Steps) -> Iterator[tuple[Steps, str]]:
    if isinstance(value, str):
        for hole in _HOLE.finditer(value):
            yield path, hole[1]
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _holes(item, (*path, position))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _holes(item, (*path, key))
