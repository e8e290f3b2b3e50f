"""A composition as a service declares it. Pure: knows nothing of the endpoints it calls but their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tulle.errors import Place, Problem
from tulle.serving.declared import TestQuery, queries_schema
from tulle.serving.keyed_rows import PlaceOf, places_of
from tulle.serving.query_declared import PLAIN_TYPES, QueryParameter, parameters_schema, parse_parameters
from tulle.serving.step_form import Path, Said, every, step_schema, templates
from tulle.serving.step_problems import Checking, Known


@dataclass(frozen=True, slots=True)
class ComposeSpec:
    """A composition: steps that call other endpoints of the service, and what is made of their answers."""

    name: str
    steps: tuple[Said, ...]
    output: Any
    input: tuple[QueryParameter, ...] = ()
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["compose"] = "compose"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property
    # Of every step and its properties, by where they stand in the endpoint.
    step_places: Mapping[Path, Place] = field(default_factory=dict, compare=False, repr=False)

    def problems(self, endpoints: Sequence[str], uses: Collection[str] = ()) -> Iterator[Problem]:
        """Endpoints and services that it cannot call, values nobody gives, and names that are taken twice."""
        known = Known({"input"})
        checking = Checking(endpoints, uses, self.place_of)
        found = [
            *checking.in_turn(self.steps, ("steps",), known),
            *checking.of_template(self.output, known, "'output'", ("output",)),
        ]
        yield from (replace(one, message=f"endpoint '{self.name}': {one.message}") for one in found)

    def place_of(self, at: Path) -> Place | None:
        """Where a part of a step stands, or the innermost that it is in."""
        while len(at) > 1:
            if at in self.step_places:
                return self.step_places[at]
            at = at[:-1]
        return self.places.get(str(at[0]))

    @property
    def callees(self) -> Mapping[str, Path]:
        """What it calls of other services, as service/endpoint, and where."""
        found: dict[str, Path] = {}
        for path, one in every(self.steps):
            if "/" in one.get("call", ""):
                found.setdefault(one["call"], (*path, "call"))
        return found


def reaches_out(steps: Sequence[Said]) -> bool:
    """Whether steps call what is elsewhere."""
    return any("http" in step or "/" in step.get("call", "") for _, step in every(steps))


def reaching_out(endpoints: Sequence[Mapping[str, Any]]) -> set[str]:
    """The endpoints of a manifest whose steps call what is elsewhere, or compositions before them that do."""
    found: set[str] = set()
    for endpoint in endpoints:
        steps = endpoint.get("steps", ())
        if reaches_out(steps) or found & {one.get("call") for _, one in every(steps)}:
            found.add(endpoint["name"])
    return found


def connections_of(steps: Sequence[Said]) -> set[str]:
    """The connections by which steps ask HTTP APIs."""
    return {step["http"]["connection"] for _, step in every(steps) if "http" in step}


COMPOSE_SCHEMA: Mapping[str, Any] = {
    "required": ["steps", "output"],
    "properties": {
        "input": parameters_schema("what callers send; read as $input.name", *PLAIN_TYPES),
        "steps": {"type": "array", "minItems": 1, "maxItems": 50, "items": step_schema()},
        "output": {"description": "the answer, made of the values of steps"},
        "test_queries": queries_schema("input"),
    },
}


def parse_compose(raw: Mapping[str, Any], place: PlaceOf) -> ComposeSpec:
    """The value of checked properties."""
    steps = tuple(raw["steps"])
    return ComposeSpec(
        name=raw["name"],
        steps=steps,
        output=raw["output"],
        input=parse_parameters(raw.get("input", {})),
        description=raw.get("description", ""),
        test_queries=tuple(
            TestQuery(one["name"], one["input"], one.get("expect"), float(one.get("tolerance", 1e-6)))
            for one in raw.get("test_queries", ())
        ),
        places=places_of(raw, place),
        step_places={at: place(at) for path, one in every(steps) for at in _parts(one, path)},
    )


def _parts(step: Said, path: Path) -> Iterator[Path]:
    """Where a step and what it consists of stand."""
    yield path
    yield from ((*path, name) for name in step)
    yield from ((*path, *part) for part, _ in templates(step))
