"""What a step of a composition looks like as it is declared: its JSON Schema, and the steps within it.

Pure: knows neither what steps do nor the endpoints they call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulle.serving.path_values import TESTS
from tulle.spec.source import CONNECTION_NAME

Said = Mapping[str, Any]  # a step
Path = tuple[str | int, ...]  # where it stands in its endpoint

WAYS = ("call", "http", "value", "steps", "parallel", "switch")
PATIENT = ("map", "cache", "retry", "timeout")  # what goes with all of these but a value
DEPTH = 3  # of steps within steps
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
MOST_ITEMS = 1000
AT_ONCE = 8  # entries of a `map`
USUAL_ITEMS = 100


def within(step: Said) -> Iterator[tuple[Path, Sequence[Said]]]:
    """The lists of steps that a step consists of, and where each is in it."""
    for way in ("steps", "parallel"):
        if way in step:
            yield (way,), step[way]
    for number, branch in enumerate(step.get("switch", ())):
        yield ("switch", number, "steps"), branch["steps"]


def every(steps: Sequence[Said], path: Path = ("steps",)) -> Iterator[tuple[Path, Said]]:
    """The steps and those within them, each with where it stands."""
    for number, step in enumerate(steps):
        yield (*path, number), step
        for inner, some in within(step):
            yield from every(some, (*path, number, *inner))


def seen(steps: Sequence[Said]) -> Iterator[str]:
    """The names that those after steps beside one another know: of a group's steps none."""
    for step in steps:
        yield step["name"]
        if "map" not in step:
            yield from seen(step.get("parallel", ()))


def http_parts(step: Said) -> dict[str, Any]:
    """What of a step's HTTP request is made of values; the rest is as it is declared."""
    http = step.get("http", {})
    return {part: http[part] for part in ("path", "query", "headers", "body") if part in http}


def method_of(http: Mapping[str, Any]) -> str:
    """The method of a step's HTTP request."""
    return str(http.get("method", "POST" if "body" in http else "GET"))


def templates(step: Said) -> Iterator[tuple[Path, Any]]:
    """What of a step itself is made of values, and where that is in it; all but `map` know an entry of that."""
    yield from (((part,), step[part]) for part in ("map", "with", "value", "fallback") if part in step)
    if "http" in step:
        yield ("http",), http_parts(step)
    for number, branch in enumerate(step.get("switch", ())):
        if "when" in branch:
            yield ("switch", number, "when"), branch["when"]


def calls_at_once(steps: Sequence[Said]) -> int:
    """How many calls steps may make at the same time."""
    return max((_at_once(step) for step in steps), default=0)


def _at_once(step: Said) -> int:
    beside = sum(map(_at_once, step.get("parallel", ())))
    inner = [calls_at_once(some) for path, some in within(step) if path != ("parallel",)]
    once = max([beside, *inner, int("call" in step or "http" in step)])
    return once * AT_ONCE if "map" in step else once


_NAME = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,62}$", "x-expected": "a name"}
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": 600}
_TOO_DEEP = {
    "not": {},
    "x-expected": f"none so deep: steps are within steps {DEPTH} times at most; call a composition",
}


def step_schema(depth: int = DEPTH) -> dict[str, Any]:
    """The JSON Schema of a step; steps within it are of the same form, so deep."""
    properties: dict[str, Any] = {
        "name": _NAME | {"description": "what its value is called"},
        "call": {
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)?$",
            "x-expected": "an endpoint, or service/endpoint",
            "description": "an endpoint of this service, or service/endpoint of another, which `uses` names",
        },
        "http": _HTTP,
        "with": {"type": "object", "description": "what it is sent: features, key, arguments or parameters"},
        "value": {"description": "the step's value, made of others, in place of a call"},
        "timeout": _SECONDS | {"description": "seconds after which it has failed"},
        "retry": {
            "type": "integer",
            "minimum": 0,
            "maximum": 5,
            "description": "how often it is tried again",
        },
        "fallback": {"description": "the value when it has failed; without one the whole has"},
        "on_failure": {
            "enum": ["fail", "leave_out"],
            "description": "leave_out: when it has failed it has no value, and the answer tells of it in `failed`",
        },
        "cache": _SECONDS
        | {"maximum": 86_400, "description": "seconds an answer to the same is taken again"},
        "map": {"type": "string", "description": "a list: the step is carried out for each of its entries"},
        "as": _NAME | {"description": "what an entry is called (default: item)"},
        "most": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_ITEMS,
            "description": f"entries (default {USUAL_ITEMS})",
        },
    }
    if depth:
        inner = {"type": "array", "minItems": 1, "maxItems": 50, "items": step_schema(depth - 1)}
        properties["steps"] = inner | {"description": "steps as one: the value is that of the last"}
        properties["parallel"] = inner | {"description": "steps that do not wait for one another"}
        properties["switch"] = {
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "description": "the first of these whose condition holds; the value is that of its last step",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["steps"],
                "properties": {"when": _CONDITION, "steps": inner},
            },
        }
    else:
        properties |= dict.fromkeys(("steps", "parallel", "switch"), _TOO_DEEP)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": properties,
        "dependentRequired": {
            "as": ["map"],
            "most": ["map"],
            "with": ["call"],
        },
    }


_STATUSES = {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}}
_HTTP = {
    "type": "object",
    "additionalProperties": False,
    "required": ["connection"],
    "description": "a request to an HTTP API",
    "properties": {
        "connection": {
            "type": "string",
            "pattern": CONNECTION_NAME,
            "x-expected": "the name of a connection",
            "description": "a connection of the mesh of kind http: where it goes, and what signs in there",
        },
        "method": {"enum": list(METHODS), "description": "default: GET, with a body POST"},
        "path": {
            "type": ["string", "array"],
            "pattern": r"^[^$?#\\\s]*$",
            "items": {"type": ["string", "number"]},
            "x-expected": "text, or a list of segments such as [customers, $input.customer]",
            "description": "below the connection's address; values have a segment of their own",
        },
        "query": {"type": "object", "description": "parameters; one that is null is left out"},
        "headers": {
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z0-9-]{1,100}$"},
            "description": "further headers",
        },
        "body": {"description": "sent as JSON"},
        "expect": _STATUSES | {"description": "statuses that are an answer (default 200 to 299)"},
        "null_on": _STATUSES | {"description": "statuses for which the value is null, such as 404"},
    },
}

_CONDITION = {
    "type": ["object", "string"],
    "pattern": r"^\$\(.*\)$",
    "x-expected": "an expression such as $(profile.spend > 100)",
    "additionalProperties": False,
    "required": ["value"],
    "minProperties": 2,
    "description": "what `value` must be",
    "properties": {
        "value": {},
        **{name: {} for name in TESTS},
        "in": {"type": "array"},
        "exists": {"type": "boolean"},
    },
}
