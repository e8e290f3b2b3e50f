"""A composition as a service declares it. Pure: knows nothing of the endpoints it calls but their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tulle.errors import Place, Problem, did_you_mean
from tulle.serving.declared import TestQuery, queries_schema
from tulle.serving.keyed_rows import PlaceOf, places_of
from tulle.serving.outer_call import METHODS
from tulle.serving.path_values import TESTS, roots_of
from tulle.serving.query_declared import PARAMETERS_SCHEMA, QueryParameter, parse_parameters
from tulle.serving.steps import http_parts
from tulle.spec.source import CONNECTION_NAME

WAYS = ("call", "http", "value", "parallel", "switch")
MOST_ITEMS = 1000
_OF_CALLS = {"map", "cache", "retry", "timeout"}
_DEPTH = 3  # of steps within steps


@dataclass(frozen=True, slots=True)
class ComposeSpec:
    """A composition: steps that call other endpoints of the service, and what is made of their answers."""

    name: str
    steps: tuple[Mapping[str, Any], ...]
    output: Any
    input: tuple[QueryParameter, ...] = ()
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["compose"] = "compose"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property

    def problems(self, endpoints: Sequence[str], uses: Collection[str] = ()) -> Iterator[Problem]:
        """Endpoints and services that it cannot call, values nobody gives, and names that are taken twice."""
        known = {"input"}
        yield from self._in(self.steps, endpoints, known)
        yield from self._unknown(self.output, known, "'output'")
        maybe = {
            step["name"]
            for step in _all(self.steps)
            if step.get("on_failure") == "leave_out" and "map" not in step
        }
        for step in _all(self.steps):  # what was not done when another failed is not there either
            if "parallel" in step and ("fallback" in step or step.get("on_failure") == "leave_out"):
                maybe |= set(_seen(step["parallel"]))
        yield from self._of_others(uses)
        for what, template in (("'output'", self.output), *_templates(self.steps)):
            yield from self._uncertain(template, maybe, what)

    def _in(
        self, steps: Sequence[Mapping[str, Any]], endpoints: Sequence[str], known: set[str]
    ) -> Iterator[Problem]:
        for step in steps:
            name, what = step["name"], f"step '{step['name']}'"
            if name in known:
                yield self._problem(f"{what}: another value has that name")
            yield from self._form(step, endpoints)
            inner = set(known)
            if "map" in step:
                yield from self._unknown(step["map"], known, what)
                inner.add(step.get("as", "item"))
            for template in (*(step.get(part) for part in ("with", "fallback", "value")), http_parts(step)):
                yield from self._unknown(template, inner, what)
            for branch in step.get("switch", ()):
                yield from self._unknown(branch.get("when"), known, what)
                yield from self._in(branch["steps"], endpoints, set(known))
            if "parallel" in step:
                beside: set[str] = set()
                for one in step["parallel"]:
                    own = set(known)
                    yield from self._in([one], endpoints, own)
                    if one["name"] in beside:
                        yield self._problem(f"step '{one['name']}': another value has that name")
                    beside |= own
                known |= beside
            known.add(name)

    def _form(self, step: Mapping[str, Any], endpoints: Sequence[str]) -> Iterator[Problem]:
        """What a step is as a whole: one thing to do, and nothing that does not go with it."""
        what = f"step '{step['name']}'"
        ways = [way for way in WAYS if way in step]
        if len(ways) != 1:
            said = f"both '{ways[0]}' and '{ways[1]}'" if ways else "nothing to do"
            yield self._problem(f"{what} has {said}", f"give it one of {', '.join(WAYS)}")
        extra = sorted(_OF_CALLS & set(step))
        if extra and not {"call", "http"} & set(step):
            yield self._problem(f"{what} has '{extra[0]}' and calls nothing")
        if "call" in step and "/" not in step["call"] and step["call"] not in endpoints:
            hint = did_you_mean(step["call"], endpoints)
            yield self._problem(f"{what} calls '{step['call']}', which it cannot", hint)
        if step.get("on_failure") == "leave_out" and "fallback" in step:
            yield self._problem(f"{what} has both 'fallback' and 'on_failure: leave_out'", "choose one")

    def _unknown(self, template: Any, known: set[str], what: str) -> Iterator[Problem]:
        try:
            for root in roots_of(template):
                if root not in known:
                    hint = did_you_mean(root, known)
                    yield self._problem(f"{what}: nothing before it gives '${root}'", hint)
        except ValueError as exc:
            yield self._problem(f"{what}: {exc}")

    def _of_others(self, uses: Collection[str]) -> Iterator[Problem]:
        """Other services that are called and not declared to be used."""
        for step in _all(self.steps):
            service, slash, endpoint = step.get("call", "").partition("/")
            if slash and (service not in uses or not endpoint):
                hint = did_you_mean(service, uses) or f"declare it: `uses: [{service}]`, beside `service:`"
                message = f"step '{step['name']}' calls '{step['call']}' of a service that is not in 'uses'"
                yield self._problem(message, hint)

    @property
    def callees(self) -> tuple[str, ...]:
        """What it calls of other services, as service/endpoint."""
        return tuple(dict.fromkeys(one["call"] for one in _all(self.steps) if "/" in one.get("call", "")))

    def _uncertain(self, template: Any, maybe: set[str], what: str) -> Iterator[Problem]:
        """Values that must be there, of steps that may be left out."""
        try:
            for root in dict.fromkeys(roots_of(template, certain=True)):
                if root in maybe:
                    hint = f"write ${root}…? or $(default({root}, …))"
                    yield self._problem(f"{what} needs '${root}', which may be left out", hint)
        except ValueError:  # told where names are looked at
            return

    def _problem(self, message: str, hint: str | None = None) -> Problem:
        return Problem(f"endpoint '{self.name}': {message}", self.places.get("steps"), hint)


def _all(steps: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The steps, and those within them."""
    for step in steps:
        yield step
        yield from _all(step.get("parallel", ()))
        for branch in step.get("switch", ()):
            yield from _all(branch["steps"])


def _seen(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The names of steps beside one another that those after them know."""
    for step in steps:
        yield step["name"]
        yield from _seen(step.get("parallel", ()))


def reaches_out(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether steps call what is elsewhere."""
    return any("http" in step or "/" in step.get("call", "") for step in _all(steps))


def reaching_out(endpoints: Sequence[Mapping[str, Any]]) -> set[str]:
    """The endpoints of a manifest whose steps call what is elsewhere, or compositions before them that do."""
    found: set[str] = set()
    for endpoint in endpoints:
        steps = endpoint.get("steps", ())
        if reaches_out(steps) or found & {one.get("call") for one in _all(steps)}:
            found.add(endpoint["name"])
    return found


def connections_of(steps: Sequence[Mapping[str, Any]]) -> set[str]:
    """The connections by which steps ask HTTP APIs."""
    return {step["http"]["connection"] for step in _all(steps) if "http" in step}


def _templates(steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What steps make values of; a condition on what is not there does not hold, unless it is an expression."""
    for step in _all(steps):
        what = f"step '{step['name']}'"
        yield what, http_parts(step)
        yield from ((what, step[part]) for part in ("with", "fallback", "value", "map") if part in step)
        for branch in step.get("switch", ()):
            if isinstance(branch.get("when"), str):
                yield what, branch["when"]


_NAME = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,62}$", "x-expected": "a name"}
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": 600}


def _step(depth: int) -> dict[str, Any]:
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
        "timeout": _SECONDS | {"description": "seconds after which the call has failed"},
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
            "description": "entries (default 100)",
        },
    }
    if depth:
        inner = {"type": "array", "minItems": 1, "maxItems": 50, "items": _step(depth - 1)}
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

COMPOSE_SCHEMA: Mapping[str, Any] = {
    "required": ["steps", "output"],
    "properties": {
        "input": {**PARAMETERS_SCHEMA, "description": "what callers send; read as $input.name"},
        "steps": {"type": "array", "minItems": 1, "maxItems": 50, "items": _step(_DEPTH)},
        "output": {"description": "the answer, made of the values of steps"},
        "test_queries": queries_schema("input"),
    },
}


def parse_compose(raw: Mapping[str, Any], place: PlaceOf) -> ComposeSpec:
    """The value of checked properties."""
    return ComposeSpec(
        name=raw["name"],
        steps=tuple(raw["steps"]),
        output=raw["output"],
        input=parse_parameters(raw.get("input", {})),
        description=raw.get("description", ""),
        test_queries=tuple(
            TestQuery(one["name"], one["input"], one.get("expect"), float(one.get("tolerance", 1e-6)))
            for one in raw.get("test_queries", ())
        ),
        places=places_of(raw, place),
    )
