"""Thresholds and overrides: what is predicted where that is not the most probable class."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.serving.conftest import PREDICTOR, Mesh
from tests.serving.test_open_inference import tensor

from tulle.errors import Invalid
from tulle.serving.decide import Override, Rules, problems
from tulle.serving.loaded import Loaded, load
from tulle.serving.open_inference import OpenModel
from tulle.serving.predict import Predict


def build(mesh: Mesh, more: str) -> Loaded:
    text = PREDICTOR.replace("service: high-value-predictor", "service: decided")
    return load(
        mesh.unpacked(mesh.build(text.replace("  model: high_value\n", f"  model: high_value\n{more}")))
    )


def ask(loaded: Loaded, **features: Any) -> dict[str, Any]:
    status, answer = asyncio.run(loaded.ask("high-value", {"features": features}))
    assert status == 200
    result: dict[str, Any] = json.loads(answer)["result"]
    return result


def test_a_threshold_decides_between_two_classes(mesh: Mesh) -> None:
    plain = ask(build(mesh, ""), customer_id="00003")
    share = plain["probas"]["1"]
    for threshold, expected in ((share, 1), (share / 2, 1), (min(1, share + 1e-6), 0), (0, 1)):
        found = ask(build(mesh, f"  threshold: {threshold!r}\n"), customer_id="00003")
        assert found == {**plain, "prediction": expected}


RULES = """  overrides:
  - {name: new ones, when: {frequency: {below: 2}}, prediction: 0}
  - {name: the best, when: {spend: {above: 5}, recency: {in: [9, 10]}}, prediction: 1}
"""


def test_the_first_rule_that_holds_says_the_prediction(mesh: Mesh) -> None:
    plain, ruled = build(mesh, ""), build(mesh, RULES)
    before = ask(plain, customer_id="00003")
    found = ask(ruled, customer_id="00003")
    assert found["prediction"] == 1
    assert found["override"] == {
        "ruleMatched": True,
        "appliedRule": "the best",
        "rawResult": {"prediction": before["prediction"], "probabilities": before["probas"]},
        "predictionChanged": before["prediction"] != 1,
    }
    assert found["probas"] == before["probas"]
    new = ask(ruled, recency=9, frequency=1, spend=700)
    assert (new["prediction"], new["override"]["appliedRule"]) == (0, "new ones")
    other = {"recency": 100, "frequency": 5, "spend": 1}
    assert ask(ruled, **other) == ask(plain, **other)
    described = json.loads(ruled.openapi)["paths"]["/high-value/predict"]["post"]["responses"]["200"]
    result = described["content"]["application/json"]["schema"]["properties"]["result"]
    assert "override" in result["properties"]


def test_other_protocols_are_told_the_same(mesh: Mesh) -> None:
    ruled = build(mesh, RULES + "  threshold: 0\n")
    model = OpenModel("high-value", "v1", cast("Predict", ruled.endpoints["high-value"]))
    inputs = [tensor("recency", [9, 1]), tensor("frequency", [1, 5]), tensor("spend", [700.0, 1.0])]
    answer = asyncio.run(model.infer(json.dumps({"inputs": inputs}).encode(), "r", ()))
    assert json.loads(answer.body)["outputs"][0]["data"] == [0, 1]


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        (
            "  overrides: [{name: a, when: {spent: {above: 1}}, prediction: 1}]\n",
            "'spent' is no feature",
            "'spend'",
        ),
        ("  overrides: [{name: a, when: {spend: {above: 1}}, prediction: 7}]\n", "7 is no class", "0, 1"),
        (
            "  overrides: [{name: a, when: {spend: {above: 1}}, prediction: true}]\n",
            "True is no class",
            "0, 1",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_told(mesh: Mesh, more: str, message: str, hint: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        build(mesh, more)
    (problem,) = caught.value.problems
    assert hint in str(problem.hint)
    assert str(problem.place).startswith("services/s.yaml:9:")


@pytest.mark.parametrize(
    "more",
    [
        "  threshold: 2\n",
        "  overrides: [{name: a, when: {}, prediction: 1}]\n",
        "  overrides: [{name: a, when: {spend: 1}, prediction: 1}]\n",
        "  overrides: [{name: a, when: {spend: {over: 1}}, prediction: 1}]\n",
    ],
)
def test_what_no_rule_can_be_is_refused(mesh: Mesh, more: str) -> None:
    with pytest.raises(Invalid, match="is not valid"):
        build(mesh, more)


def test_models_that_have_no_two_classes() -> None:
    number = cast(
        "Any",
        SimpleNamespace(name="m", classes=(), clusters=(), has_probabilities=False, feature_names=("a",)),
    )
    rule = Override("r", {"a": {"exists": True}}, "high")
    assert [prop for prop, *_ in problems(0.5, [rule], number)] == ["threshold", "overrides"]
    rules = Rules([Override("r", {"a": {"exists": False}}, 3.5)], ["a"])
    assert rules.applied([1]) is None
    told = json.loads(rules.overridden('{"prediction":1.5,"ignored":false}', [None]))
    assert (told["prediction"], told["override"]["rawResult"]) == (3.5, {"prediction": 1.5})
