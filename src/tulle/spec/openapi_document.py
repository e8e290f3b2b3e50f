"""An OpenAPI document (3.0 or 3.1) that somebody else wrote, read as values: checked, bounded, its operations known.

What a gateway and readers of differences rely on is checked; the rest is passed on as it is. Nothing is fetched: a
reference that leads out of the document is a problem. Pure; knows nothing of who serves what it describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tulle.errors import Problem
from tulle.spec.document import Document, Path, shown
from tulle.spec.load import Schema, validate

METHODS: Final = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
MOST_OPERATIONS: Final = 2000
LONGEST_PATH: Final = 500  # characters of a path with its parameters
MOST_STEPS: Final = 32  # of references to references

_WHERE: Final = "the OpenAPI document"
_TEMPLATE: Final = re.compile(r"/(?:[^{}\s?#]|\{[^{}/\s]+\})*")
_PARAMETER: Final = re.compile(r"\{[^{}/]+\}")
# What a server or a gateway takes for another path: nothing between slashes, one that is written otherwise, control
# characters, and the parts `.` and `..`, encoded or with parameters too.
_ASTRAY: Final = re.compile(r"//|\\|%(?:2f|5c|0|1|7f)|[\x00-\x1f\x7f]", re.IGNORECASE)
_UPWARDS: Final = re.compile(r"/(?:\.|%2e){1,2}(?=/|;|%3b|$)", re.IGNORECASE)
# Below these anybody may write anything: values, not schemas.
_VALUES: Final = frozenset({"example", "examples", "default", "enum", "const"})

_REFERENCE = {
    "type": "string",
    "pattern": "^#/",
    "x-expected": "a reference within the document ('#/…'); bundle what it refers to",
}
_PARAMETERS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "$ref": _REFERENCE,
            "name": {"type": "string"},
            "in": {"enum": ["path", "query", "header", "cookie"]},
            "required": {"type": "boolean"},
            "schema": {"type": ["object", "boolean"]},
            "content": {"type": "object"},
        },
        "if": {"not": {"required": ["$ref"]}},
        "then": {"required": ["name", "in"]},
    },
}
_CONTENT = {"type": "object", "additionalProperties": {"type": "object"}}
_OPERATION = {
    "type": "object",
    "properties": {
        "operationId": {"type": "string"},
        "summary": {"type": "string"},
        "description": {"type": "string"},
        "deprecated": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "parameters": _PARAMETERS,
        "requestBody": {"type": "object", "properties": {"$ref": _REFERENCE, "content": _CONTENT}},
        "responses": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"$ref": _REFERENCE, "content": _CONTENT},
            },
        },
    },
}
OPENAPI_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "properties": {
        "openapi": {
            "type": "string",
            "pattern": r"^3\.[01]\.[0-9]+$",
            "x-expected": "an OpenAPI version of 3.0 or 3.1, such as 3.1.0",
        },
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "properties": {
                "title": {"type": "string"},
                "version": {"type": "string"},
                "description": {"type": "string"},
            },
        },
        "paths": {
            "type": "object",
            "propertyNames": {"pattern": "^(/|x-)", "x-expected": "a path, which begins with /"},
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "parameters": _PARAMETERS,
                    **dict.fromkeys(METHODS, _OPERATION),
                },
            },
        },
        "servers": {"type": "array", "items": {"type": "object"}},
        "components": {"type": "object", "additionalProperties": {"type": "object"}},
        "security": {"type": "array", "items": {"type": "object"}},
        "tags": {"type": "array", "items": {"type": "object"}},
    },
}
_SCHEMA: Final = Schema(OPENAPI_SCHEMA)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: `method` in capitals, `path` as the document writes it, such as /items/{id}."""

    method: str
    path: str
    id: str = ""
    summary: str = ""
    deprecated: bool = False


def read_openapi(document: Document, root: Path = ()) -> tuple[tuple[Operation, ...], list[Problem]]:
    """The operations of the OpenAPI document at `root` of a file, in its order, and every problem with its place."""
    problems = validate(document, _SCHEMA, root, where=_WHERE)
    if problems:
        return (), problems
    reader = _Reader(document, root)
    operations = tuple(reader.operations())
    if not operations and not reader.problems:
        reader.wrong("it has no operations", "paths")
    if len(operations) > MOST_OPERATIONS:
        reader.wrong(f"it has {len(operations)} operations, at most {MOST_OPERATIONS} are taken", "paths")
    reader.references()
    return operations, reader.problems


class _Reader:
    """Reads one document that its schema found well-formed; gathers what is wrong all the same."""

    def __init__(self, document: Document, root: Path) -> None:
        self._document = document
        self._root = root
        self._value: Mapping[str, Any] = document.at(root)
        self.problems: list[Problem] = []

    def wrong(self, message: str, *steps: str | int, hint: str | None = None, key: bool = False) -> None:
        """Note a problem with what is written at a path."""
        at = (*self._root, *steps)
        self.problems.append(self._document.problem(f"{_WHERE}: {message}", at, hint=hint, key=key))

    def operations(self) -> Iterator[Operation]:
        """Those of every path that is one."""
        forms: dict[str, str] = {}
        ids: dict[str, str] = {}
        for path, item in self._value["paths"].items():
            if path.startswith("x-") or not self._is_path(path, item, forms):
                continue
            for method in METHODS:
                if method not in item:
                    continue
                one = item[method]
                known = one.get("operationId", "")
                if known and known in ids:
                    told = f"'{known}' is also the operationId of {ids[known]}"
                    self.wrong(told, "paths", path, method, "operationId")
                ids[known] = f"{method.upper()} {path}"
                summary, deprecated = one.get("summary", ""), bool(one.get("deprecated"))
                yield Operation(method.upper(), path, known, summary, deprecated)

    def _is_path(self, path: str, item: Mapping[str, Any], forms: dict[str, str]) -> bool:
        if _TEMPLATE.fullmatch(path) is None or len(path) > LONGEST_PATH:
            hint = "a path has no query, and its parameters are in braces: /items/{id}"
            self.wrong(f"'{shown(path)}' is no path", "paths", path, key=True, hint=hint)
            return False
        if _ASTRAY.search(path) is not None or leads_upwards(path):
            hint = "write the path that it leads to"
            self.wrong(f"'{shown(path)}' leads to another path", "paths", path, key=True, hint=hint)
            return False
        if "$ref" in item:
            told = "a path must be written out, not referred to"
            self.wrong(told, "paths", path, "$ref", hint="bundle it")
            return False
        form = form_of(path)
        if form in forms:
            self.wrong(f"the paths '{forms[form]}' and '{path}' are the same one", "paths", path, key=True)
        forms[form] = path
        return True

    def references(self) -> None:
        """Look where references lead."""
        for steps, reference in _references(self._value, ()):
            if not reference.startswith("#/"):
                hint = "bundle the document: nothing is fetched"
                self.wrong(f"'{shown(reference)}' is outside of it", *steps, hint=hint)
            elif target(self._value, reference) is None:
                self.wrong(f"'{shown(reference)}' refers to nothing", *steps)


def leads_upwards(path: str) -> bool:
    """Whether a path has parts that stand for where it is, or for what is above that, and so leads elsewhere."""
    return _UPWARDS.search(path) is not None


def form_of(path: str) -> str:
    """A path without the names of its parameters, which are equal for paths that are the same one."""
    return _PARAMETER.sub("{}", path)


def target(document: Mapping[str, Any], reference: str) -> Any:
    """What a reference '#/…' leads to, None where it leads to nothing."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~").replace("%7B", "{").replace("%7D", "}")
        if isinstance(found, list) and name.isdecimal() and len(name) < 7 and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping):
            found = found.get(name)
        else:
            return None
    return found


def resolved(document: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """What a value refers to within the document; empty when it refers to nothing, to itself or is no mapping."""
    for _ in range(MOST_STEPS):
        if not isinstance(value, Mapping):
            return {}
        reference = value.get("$ref")
        if not isinstance(reference, str):
            return value
        value = target(document, reference) if reference.startswith("#/") else None
    return {}


def _references(value: Any, at: Path) -> Iterator[tuple[Path, str]]:
    """Every reference, with where it stands; loading bounds how deep a document is."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, (*at, number))
    elif isinstance(value, dict):
        for key, item in value.items():
            # a property may be called as these words are: it is a schema then, and looked into
            if key == "$ref" and isinstance(item, str):
                yield (*at, key), item
            elif (key not in _VALUES and not key.startswith("x-")) or (at and at[-1] == "properties"):
                yield from _references(item, (*at, key))
