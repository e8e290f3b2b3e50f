"""Annotations of a service's OpenAPI document, kept beside the services file and laid over each document that is made.

`services/<service>.openapi.yaml` is an OpenAPI Overlay (specification 1.0.0): actions with a JSONPath target, and what
is merged into what it finds, or removed. So descriptions, examples, tags and extensions that people write survive every
version. Knows nothing of what the document says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpath_rfc9535 as jsonpath

from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.spec.document import Document
from tulle.spec.load import Schema, load_document, validate

SUFFIX = ".openapi.yaml"
_SCHEMA = Schema(
    {
        "type": "object",
        "required": ["overlay", "info", "actions"],
        "additionalProperties": False,
        "patternProperties": {"^x-": {}},
        "properties": {
            "overlay": {
                "type": "string",
                "pattern": r"^1\.[0-9]+\.[0-9]+$",
                "x-expected": "a version such as 1.0.0",
            },
            "extends": {"type": "string"},
            "info": {
                "type": "object",
                "required": ["title", "version"],
                "properties": {"title": {"type": "string"}, "version": {"type": "string"}},
            },
            "actions": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["target"],
                    "additionalProperties": False,
                    "patternProperties": {"^x-": {}},
                    "properties": {
                        "target": {"type": "string", "description": "a JSONPath (RFC 9535)"},
                        "description": {"type": "string"},
                        "update": {"description": "merged into what the target finds"},
                        "remove": {"type": "boolean", "description": "take it away (default false)"},
                    },
                },
            },
        },
    }
)


@dataclass(frozen=True, slots=True)
class Action:
    """One change: merge `update` into whatever `target` finds, or remove that."""

    target: str
    update: Any = None
    remove: bool = False
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Overlay:
    """Changes, in their order."""

    actions: tuple[Action, ...] = ()


def load_overlay(file: Path, name: str) -> Overlay:
    """The overlay in a file; Invalid with every problem and its place."""
    document = load_document(file, name=name)
    problems = validate(document, _SCHEMA)
    if not problems:
        problems = list(_unreadable(document))
    if problems:
        raise Invalid(f"{name} is not valid", problems=problems)
    return Overlay(
        tuple(
            Action(one["target"], one.get("update"), one.get("remove", False), document.place(("actions", i)))
            for i, one in enumerate(document.value["actions"])
        )
    )


def _unreadable(document: Document) -> Iterator[Problem]:
    for i, action in enumerate(document.value["actions"]):
        path = ("actions", i, "target")
        try:
            jsonpath.compile(action["target"])
        except (jsonpath.JSONPathError, RecursionError) as exc:
            yield document.problem(f"'{action['target']}' is no JSONPath: {exc}", path)
        if not action.get("remove") and "update" not in action:
            yield document.problem("the action neither updates nor removes", ("actions", i))


def laid_over(
    document: Mapping[str, Any], overlay: Overlay, *, read: Callable[[Mapping[str, Any]], Any] = dict
) -> dict[str, Any]:
    """The document with the changes. Invalid, telling all of them, for those that find nothing, and the first after
    which `read`, a reader of such documents, understands it no more.
    """
    made: dict[str, Any] = copy.deepcopy(dict(document))
    problems = []
    for action in overlay.actions:
        nodes = jsonpath.compile(action.target).find(made)
        found = {node.location for node in nodes}  # a path may find a place twice
        if not found:
            problems.append(_nothing(action, made))
        for location in sorted(found, reverse=True):  # from the back, so that lists keep their places
            if not location:
                made = _merged(made, action.update) if isinstance(action.update, dict) else made
                continue
            parent = _at(made, location[:-1])
            if action.remove:
                del parent[location[-1]]
            else:
                parent[location[-1]] = _merged(parent[location[-1]], action.update)
        try:
            read(made)
        except (AttributeError, LookupError, TypeError, ValueError):
            message = f"what '{action.target}' leaves is no OpenAPI document"
            hint = "change what is in an operation, or remove the whole of it"
            problems.append(Problem(message, action.place, hint))
            break
    if problems:
        raise Invalid(problems[0].message, hint=problems[0].hint, problems=problems)
    return made


def misplaced(overlay: Overlay, paths: Sequence[str]) -> Iterator[Problem]:
    """Actions that name a path of the API that there will not be; the rest is known when the service is packaged."""
    skeleton: dict[str, Any] = {"paths": {path: {} for path in paths}}
    for action in overlay.actions:
        segments = jsonpath.compile(action.target).segments
        start = jsonpath.JSONPathQuery(env=jsonpath.JSONPathEnvironment(), segments=tuple(segments[:2]))
        names_paths = len(segments) >= 2 and str(segments[0]) == "['paths']"
        if names_paths and not start.find(skeleton):
            yield _nothing(action, skeleton)


def _nothing(action: Action, document: Mapping[str, Any]) -> Problem:
    known = list(document.get("paths", {}))
    asked = next((part for part in action.target.replace('"', "'").split("'") if part.startswith("/")), "")
    near = did_you_mean(asked, known) if asked and asked not in known else None
    hint = near or "its paths are " + ", ".join(known[:20])
    return Problem(f"'{action.target}' finds nothing in the OpenAPI document", action.place, hint)


def _merged(value: Any, update: Any) -> Any:
    """Objects are merged, what is in a list is appended, anything else is replaced."""
    if isinstance(value, dict) and isinstance(update, dict):
        return {
            **value,
            **{n: _merged(value[n], u) if n in value else copy.deepcopy(u) for n, u in update.items()},
        }
    if isinstance(value, list):
        return [*value, *(update if isinstance(update, list) else [copy.deepcopy(update)])]
    return copy.deepcopy(update)


def _at(value: Any, location: Sequence[str | int]) -> Any:
    for step in location:
        value = value[step]
    return value
