"""Tests of models: on rows that are given, a model gives the rows that are expected. Written in `tests/*.yaml`.

Reading never raises for what a file says: problems come back with their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.pipeline.job import PYTHON, SQL, Job
from tulle.pipeline.model_kind import THIS
from tulle.spec.document import Document
from tulle.spec.load import Schema, load_document, validate

Rows = tuple[Mapping[str, Any], ...]

_ROWS = {
    "type": "array",
    "maxItems": 10_000,
    "items": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
}
_SCHEMA = Schema(
    {
        "type": "object",
        "required": ["tests"],
        "additionalProperties": False,
        "properties": {
            "tests": {
                "type": "array",
                "description": "the tests of one or several models",
                "items": {
                    "type": "object",
                    "required": ["model", "expect"],
                    "additionalProperties": False,
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "description": "what is tried"},
                        "model": {"type": "string", "minLength": 1, "description": "the data set it makes"},
                        "given": {
                            "type": "object",
                            "additionalProperties": _ROWS,
                            "description": "the rows of each input; one that is left out has none",
                        },
                        "window": {
                            "type": "array",
                            "items": {"type": "string"},
                            "minItems": 2,
                            "maxItems": 2,
                            "description": "the time the model is made for: from, and up to without it",
                        },
                        "expect": {
                            **_ROWS,
                            "description": "the rows the model gives; columns that no row names are not compared",
                        },
                        "ordered": {
                            "type": "boolean",
                            "default": False,
                            "description": "whether the order of the rows counts",
                        },
                    },
                },
            }
        },
    }
)


@dataclass(frozen=True, slots=True)
class ModelTest:
    """One test of one model."""

    name: str
    model: str
    expect: Rows
    given: Mapping[str, Rows] = field(default_factory=dict)
    window: tuple[str, str] | None = None
    ordered: bool = False
    place: Place | None = field(default=None, compare=False)


def read_tests(folder: Path, label: str, jobs: Iterable[Job]) -> tuple[tuple[ModelTest, ...], list[Problem]]:
    """The tests of a product's `tests/` folder (none when it does not exist), and what is wrong with them."""
    made = {job.name: job for job in jobs}
    tests: list[ModelTest] = []
    problems: list[Problem] = []
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if folder.is_dir() else ():
        try:
            document = load_document(file, name=f"{label}/{file.name}")
        except Invalid as error:
            problems += error.problems or [Problem(error.message, Place(f"{label}/{file.name}"), error.hint)]
            continue
        if document.value is None:
            continue
        if wrong := validate(document, _SCHEMA):
            problems += wrong
            continue
        for position, item in enumerate(document.value["tests"]):
            path = ("tests", position)
            test = ModelTest(
                item.get("name", item["model"]),
                item["model"],
                tuple(item["expect"]),
                {name: tuple(rows) for name, rows in item.get("given", {}).items()},
                tuple(item["window"]) if "window" in item else None,
                item.get("ordered", False),
                document.place(path),
            )
            problems += _fit(document, path, test, made)
            tests.append(test)
    return tuple(tests), problems


def _fit(
    document: Document, path: tuple[str | int, ...], test: ModelTest, made: Mapping[str, Job]
) -> list[Problem]:
    job = made.get(test.model)
    if job is None or job.kind not in {SQL, PYTHON}:
        models = [name for name, other in made.items() if other.kind in {SQL, PYTHON}]
        message = f"there is no model '{test.model}'"
        return [document.problem(message, (*path, "model"), hint=did_you_mean(test.model, models))]
    known = [*job.inputs, *((THIS,) if job.way.grows else ())]
    return [
        document.problem(
            f"model '{test.model}' does not read '{name}'",
            (*path, "given", name),
            key=True,
            hint=did_you_mean(name, known),
        )
        for name in test.given
        if name not in known
    ]
