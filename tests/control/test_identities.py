"""Identities of services: their names, what they reach, and the circles they may not make. The rest is in tests/system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tulle.control.identities import PREFIX, application_of, reach_of, use_problems
from tulle.gateway.policy import SERVICE_NAME
from tulle.serving.service import Service, load_service

STEPS: list[dict[str, Any]] = [
    {
        "name": "a",
        "parallel": [{"name": "b", "call": "other/x"}, {"name": "c", "http": {"connection": "geo"}}],
    },
    {"name": "d", "call": "own"},
]


def test_names_of_applications_differ_and_are_never_too_long() -> None:
    assert application_of("offers") == f"{PREFIX}offers"
    names = {application_of("s" * 63), application_of("s" * 62 + "t"), application_of("s" * 63, "test")}
    names |= {application_of("offers", "qa-1"), application_of("offers", "qa_1")}
    assert len(names) == 5
    assert all(SERVICE_NAME.fullmatch(name) for name in names)  # as applications are called


def test_what_a_package_reaches_is_read_from_its_manifest() -> None:
    found = reach_of([{"name": "it", "type": "compose", "steps": STEPS, "callees": {"other/x": "lookup"}}])
    assert (found.services, found.connections) == ({"other"}, {"geo"})
    assert not reach_of([{"name": "it", "type": "lookup"}])


def service(name: str, *uses: str) -> Service:
    calls = "".join(f", {{name: c{n}, call: {one}/x}}" for n, one in enumerate(uses))
    text = f"service: {name}\nuses: [{', '.join(uses)}]\nendpoints:\n- {{name: x, type: compose, output: 1, "
    return load_service(f"{text}steps: [{{name: a, value: 1}}{calls}]}}\n", name=f"{name}.yaml")


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ({"aaa": ["bbb"], "bbb": ["ccc"], "ccc": []}, []),
        ({"aaa": ["aaa"]}, ["services use one another in a circle: aaa → aaa"]),
        ({"aaa": ["bbb"], "bbb": ["ccc"], "ccc": ["bbb"]}, ["in a circle: bbb → ccc → bbb"]),
        ({"aaa": ["zzz"]}, ["service 'aaa' uses 'zzz', which no product declares"]),
    ],
)
def test_circles_and_services_that_are_not_there_are_told(
    uses: dict[str, list[str]], told: list[str]
) -> None:
    known = {name: (object(), service(name, *others)) for name, others in uses.items()}
    found = [problem.message for problem in use_problems(known)]  # type: ignore[arg-type]
    assert len(found) == len(told)
    assert all(one in message for one, message in zip(told, found, strict=True))
    assert all(
        problem.place and Path(problem.place.file).suffix == ".yaml" for problem in use_problems(known)
    )  # type: ignore[arg-type]
