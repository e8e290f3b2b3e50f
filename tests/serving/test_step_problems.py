"""What is wrong with steps is told at the line and column where it stands."""

from __future__ import annotations

import pytest

from tulle.errors import Invalid
from tulle.serving.compose_declared import ComposeSpec
from tulle.serving.service import load_service

HEAD = "service: s1-test\nuses: [other]\nendpoints:\n- name: it\n  type: compose\n  input: {a: {}}\n"
CALL = "{name: x, call: known}"


def compose(steps: str, output: str = "1") -> ComposeSpec:
    """A composition whose steps begin in line 8."""
    text = (
        f"{HEAD}  steps:\n" + "".join(f"  {line}\n" for line in steps.splitlines()) + f"  output: {output}\n"
    )
    (endpoint,) = load_service(text, name="s.yaml").endpoints
    assert isinstance(endpoint, ComposeSpec)
    return endpoint


@pytest.mark.parametrize(
    ("steps", "place", "message"),
    [
        ("- {name: a, value: 1}\n- name: b\n  steps:\n  - {name: c, value: $d}", "11:24", "step 'c': nothing before it gives '$d'"),
        (f"- {{name: g, steps: [{CALL}]}}\n- {{name: b, value: $x}}", "9:22", "step 'b': nothing before it gives '$x'"),
        (f"- {{name: g, steps: [{CALL}, {CALL}]}}", "8:54", "step 'x': another value has that name"),
        (f"- name: p\n  parallel:\n  - {{name: g, steps: [{CALL}]}}\n  - {{name: h, value: $x}}", "11:24", "step 'h': nothing before it gives '$x'"),
        ("- {name: g, map: $item, steps: [{name: x, value: $item}]}", "8:20", "step 'g': nothing before it gives '$item'"),
        (f"- {{name: g, map: $input.a, parallel: [{CALL}]}}\n- {{name: b, value: $x}}", "9:22", "nothing before it gives '$x'"),
        ("- {name: a, value: 1, retry: 1}", "8:32", "step 'a' has 'retry' and calls nothing"),
        ("- {name: a, value: 1, map: $input.a}", "8:30", "step 'a' has 'map' and calls nothing"),
        ("- {name: a, steps: [{name: x, value: 1}], parallel: [{name: y, value: 1}]}", "8:55", "has both 'steps' and 'parallel'"),
        ("- name: a\n  retry: 2\n  steps:\n  - {name: pay, http: {connection: bank, body: 1}}", "9:12", "step 'a' has 'retry', and the POST of step 'pay' within it may not be made twice"),
        ("- name: a\n  switch:\n  - when: $(b > 1)\n    steps: [{name: x, value: 1}]", "10:13", "step 'a': nothing before it gives '$b'"),
        ("- {name: a, steps: [{name: x, call: kown}]}", "8:39", "step 'x' calls 'kown', which it cannot"),
        ("- {name: a, steps: [{name: x, call: othr/it}]}", "8:39", "step 'x' calls 'othr/it' of a service that is not in 'uses'"),
        ("- {name: a, on_failure: leave_out, steps: [{name: x, call: known}]}\n- {name: b, value: $a}", "9:22", "step 'b' needs '$a', which may be left out"),
        ("- {name: a, fallback: 1, on_failure: leave_out, call: known}", "8:40", "step 'a' has both 'fallback' and"),
    ],
)  # fmt: skip
def test_each_is_told_at_its_place(steps: str, place: str, message: str) -> None:
    problem, *others = compose(steps).problems(["known"], ["other"])
    assert others == []
    assert problem.message.startswith("endpoint 'it': ")
    assert message in problem.message
    assert str(problem.place) == f"s.yaml:{place}"


def test_what_is_right_is_not_told() -> None:
    steps = """
- name: both
  timeout: 2
  retry: 1
  cache: 60
  parallel:
  - name: g
    map: $input.a
    most: 10
    on_failure: leave_out
    steps: [{name: x, call: known, with: {a: $item}}, {name: y, call: other/it, with: {a: $x}, retry: 1}]
  - {name: h, steps: [{name: x, call: known}]}
- {name: z, switch: [{when: {value: $h, exists: true}, steps: [{name: x, value: $g}]}], cache: 5}
"""
    assert list(compose(steps.strip("\n"), "[$both, $g, $h, $z]").problems(["known"], ["other"])) == []


def test_the_output_is_told_at_its_place() -> None:
    (problem,) = compose("- {name: a, value: 1}", "{x: $b}").problems([])
    assert (str(problem.place), problem.message) == (
        "s.yaml:9:11",
        "endpoint 'it': 'output': nothing before it gives '$b'",
    )


def test_steps_that_are_too_deep_are_told_with_what_to_do() -> None:
    step = "{name: e, value: 1}"
    for name in "dcba":
        step = f"{{name: {name}, steps: [{step}]}}"
    with pytest.raises(Invalid) as caught:
        compose(f"- {step}")
    (problem,) = caught.value.problems
    assert "steps are within steps 3 times at most; call a composition" in problem.message
    assert str(problem.place).startswith("s.yaml:8:")
    compose("- " + step.removeprefix("{name: a, steps: [").removesuffix("]}"))
