"""Action files: lakeFS's YAML that says which hooks run at which events, read strictly, and what they match.

Reading tells every problem with its line and column. Knows neither repositories nor how hooks run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_args

from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.lake.hooks.event import Kind
from tulle.lake.hooks.properties import BUILT_IN, REASONS
from tulle.spec.document import Document, refuse
from tulle.spec.load import load_document
from tulle.spec.validate import Schema
from tulle.spec.validate import validate as validate_document

EVENTS: tuple[str, ...] = get_args(Kind)
CONDITIONS = ("success()", "failure()", "true", "false")

_ON_BRANCHES = {
    "type": ["object", "null"],
    "properties": {"branches": {"type": ["array", "null"], "items": {"type": "string", "minLength": 1}}},
    "additionalProperties": False,
}
_HOOK = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[_a-zA-Z][-_a-zA-Z0-9]{1,255}$"},
        "type": {"type": "string", "minLength": 1},
        "description": {"type": "string"},
        "if": {"enum": [*CONDITIONS, True, False]},
        "properties": {"type": ["object", "null"]},
    },
    "required": ["id", "type"],
    "additionalProperties": False,
}
_SCHEMA = Schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": r"^\w[\w\-. ]*$", "maxLength": 255},
            "description": {"type": "string"},
            "on": {
                "type": "object",
                "minProperties": 1,
                "properties": dict.fromkeys(EVENTS, _ON_BRANCHES),
                "additionalProperties": False,
            },
            "hooks": {"type": "array", "minItems": 1, "maxItems": 100, "items": _HOOK},
        },
        "required": ["name", "on", "hooks"],
        "additionalProperties": False,
    }
)


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of an action. `condition` is one of CONDITIONS; `properties` are its type's own, as written."""

    id: str
    type: str
    description: str = ""
    condition: str = "success()"
    properties: Mapping[str, Any] = field(default_factory=dict)

    def wanted(self, *, failed: bool) -> bool:
        """Whether it is to run, when a hook before it in its action has failed or none has."""
        return {"success()": not failed, "failure()": failed, "true": True, "false": False}[self.condition]


@dataclass(frozen=True, slots=True)
class Action:
    """One action file. `on` has, for every event it is for, globs of branches; none means every branch."""

    name: str
    file: str
    on: Mapping[str, tuple[str, ...]]
    hooks: tuple[Hook, ...]
    description: str = ""

    def matches(self, event: str, branch: str) -> bool:
        """Whether it is for an event on a branch; of tags there is no branch to match."""
        globs = self.on.get(event)
        return globs is not None and (not globs or any(_glob(glob).match(branch) for glob in globs))


def parse(text: str | bytes, file: str, schemas: Mapping[str, Mapping[str, Any]] = BUILT_IN) -> Action:
    """Read one action file. `schemas` are the JSON Schemas of the properties of each type of hook.

    Invalid with every problem found, each with its line and column.
    """
    document = load_document(text, name=file)
    problems = validate_document(document, _SCHEMA)
    refuse(file, problems)
    refuse(file, [*_event_problems(document), *_hook_problems(document, schemas)])
    value = document.value
    return Action(
        value["name"],
        file,
        {event: tuple((rule or {}).get("branches") or ()) for event, rule in value["on"].items()},
        tuple(_hook(item) for item in value["hooks"]),
        value.get("description", ""),
    )


def validate(
    text: str | bytes, file: str, schemas: Mapping[str, Mapping[str, Any]] = BUILT_IN
) -> tuple[Problem, ...]:
    """What is wrong with an action file; nothing when it can be used."""
    try:
        parse(text, file, schemas)
    except Invalid as exc:
        return exc.problems or (Problem(exc.message, Place(file), exc.hint),)
    return ()


def repeated(actions: Sequence[Action]) -> list[Problem]:
    """Problems of actions that have one name."""
    first: dict[str, str] = {}
    problems = []
    for action in actions:
        if action.name in first:
            message = f"the action '{action.name}' is in {first[action.name]} already"
            problems.append(Problem(message, Place(action.file), "every action has a name of its own"))
        first.setdefault(action.name, action.file)
    return problems


def _hook(item: Mapping[str, Any]) -> Hook:
    condition = item.get("if", "success()")
    if isinstance(condition, bool):
        condition = str(condition).lower()
    return Hook(
        item["id"], item["type"], item.get("description", ""), condition, item.get("properties") or {}
    )


def _event_problems(document: Document) -> list[Problem]:
    problems = []
    for event, rule in document.value["on"].items():
        globs = (rule or {}).get("branches") or ()
        if globs and event.endswith("-tag"):
            message = f"'branches' means nothing at '{event}': a tag is on no branch"
            problems.append(document.problem(message, ("on", event, "branches"), key=True))
        for position, glob in enumerate(globs):
            try:
                _glob(glob)
            except ValueError as exc:
                place = ("on", event, "branches", position)
                problems.append(document.problem(f"'{glob}' is no pattern: {exc}", place))
    return problems


def _hook_problems(document: Document, schemas: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for position, item in enumerate(document.value["hooks"]):
        at = ("hooks", position)
        if item["id"] in seen:
            problems.append(document.problem(f"there are two hooks '{item['id']}'", (*at, "id")))
        seen.add(item["id"])
        schema = schemas.get(item["type"])
        if schema is None:
            reason = REASONS.get(item["type"], f"there are no hooks of type '{item['type']}'")
            hint = did_you_mean(item["type"], schemas)
            problems.append(document.problem(reason, (*at, "type"), hint=hint))
            continue
        where = f"the {item['type']} hook '{item['id']}'"
        if item.get("properties") is None:
            if schema.get("required"):
                names = ", ".join(schema["required"])
                problems.append(document.problem(f"{where} needs properties: {names}", at))
            continue
        problems += validate_document(
            document, _compiled(item["type"], schema), (*at, "properties"), where=where
        )
    return problems


_COMPILED: dict[tuple[str, int], tuple[Mapping[str, Any], Schema]] = {}


def _compiled(name: str, schema: Mapping[str, Any]) -> Schema:
    key = (name, id(schema))
    if key not in _COMPILED:
        _COMPILED[key] = (schema, Schema(schema))  # holding the definition keeps its id its own
    return _COMPILED[key][1]


@lru_cache(maxsize=1000)
def _glob(pattern: str) -> re.Pattern[str]:
    """A glob as Go's path.Match reads it: `*` and `?` match no slash, `[^a-z]` negates, a backslash quotes."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        at += 1
        if sign == "*":
            parts.append("" if parts and parts[-1] == "[^/]*" else "[^/]*")
        elif sign == "?":
            parts.append("[^/]")
        elif sign == "\\":
            if at == len(pattern):
                raise ValueError("it ends in a backslash")
            parts.append(re.escape(pattern[at]))
            at += 1
        elif sign == "[":
            text, at = _glob_class(pattern, at)
            parts.append(text)
        else:
            parts.append(re.escape(sign))
    return re.compile("".join(parts) + r"\Z", re.DOTALL)


def _glob_class(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []

    def sign() -> str:
        nonlocal at
        if pattern[at : at + 1] == "\\":
            at += 1
        if at >= len(pattern):
            raise ValueError("a '[' is not closed")
        at += 1
        return pattern[at - 1]

    while pattern[at : at + 1] != "]" or not ranges:
        if pattern[at : at + 1] in {"-", "]"}:
            raise ValueError("a set of characters is empty or begins with a hyphen")
        low = high = sign()
        if pattern[at : at + 1] == "-":
            at += 1
            high = sign()
        if low > high:
            raise ValueError(f"the range {low}-{high} is empty")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if negated else ''}{''.join(ranges)}]", at + 1
