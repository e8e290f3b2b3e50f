"""Explanations: what features add, measured against models of which it is known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from tests.serving.conftest import FEATURES, PREDICTOR, Mesh, customers, make_mesh

from tulle.errors import Broken, Invalid
from tulle.pipeline.model_file import save_model
from tulle.serving.endpoint import Answer, Headed
from tulle.serving.explain import BACKGROUND, Asked, Explainer, usual_values
from tulle.serving.explaining import Explaining
from tulle.serving.loaded import Loaded, load
from tulle.serving.request import RequestError
from tulle.serving.service import load_service

# Of a name of its own: others count the versions of the predictor in the mesh that tests share.
EXPLAINED = PREDICTOR.replace("service: high-value-predictor", "service: explained").replace(
    "  model: high_value\n", "  model: high_value\n  explanations: {features: 3, steps: 50}\n"
)


def ask(loaded: Loaded, body: Any, action: str = "predict") -> dict[str, Any]:
    async def work() -> bytes:
        do = loaded.endpoints["high-value"].actions[action]
        assert not isinstance(do, Headed)
        given = do(json.dumps(body).encode(), "r")
        return given if isinstance(given, bytes) else (await cast("Awaitable[Answer]", given)).body

    answer: dict[str, Any] = json.loads(asyncio.run(work()))
    return answer


@pytest.fixture(scope="module")
def explained(shared_mesh: Mesh) -> Loaded:
    return load(shared_mesh.unpacked(shared_mesh.build(EXPLAINED)))


def signature(*, classes: tuple[Any, ...] = (), count: int = 3) -> Any:
    names = tuple(f"f{i}" for i in range(count))
    return SimpleNamespace(clusters=(), feature_names=names, classes=classes, has_probabilities=bool(classes))


def explain(value: Any, row: list[float], usual: list[list[float]], how: Explaining) -> dict[str, float]:
    plan = Explainer(signature(count=len(row)), usual).plan(row, ([value(row)], None), how)
    return plan.parts([([value(one)], None) for one in plan.rows])


def test_the_parts_of_a_sum_are_what_each_term_adds() -> None:
    usual = [[0.0, 2.0], [10.0, 10.0], [1.0, 3.0]]

    def value(row: list[float]) -> float:
        return 3 * row[0] - row[1] + 0 * row[2]

    how = Explaining(features=3, steps=1000)
    parts = explain(value, [5.0, 7.0, 9.0], usual, how)
    assert parts["f0"] == pytest.approx(3 * (5 - 1), abs=0.4)
    assert parts["f1"] == pytest.approx(10 - 7)
    assert parts["f2"] == 0
    assert list(parts) == ["f0", "f1", "f2"]
    assert explain(value, [5.0, 7.0, 9.0], usual, how) == parts  # equal rows are explained alike
    ice = explain(value, [5.0, 7.0, 9.0], usual, Explaining(method="ice", features=2))
    assert ice == {"f0": 12.0, "f1": 3.0}


def test_what_two_features_do_together_is_shared() -> None:
    parts = explain(
        lambda row: row[0] * row[1], [1.0, 1.0], [[0.0], [0.0]], Explaining(features=2, steps=1000)
    )
    assert sum(parts.values()) == pytest.approx(1)
    assert parts["f0"] == pytest.approx(0.5, abs=0.06)


def test_the_class_that_is_predicted_is_explained() -> None:
    three = signature(classes=("a", "b", "c"), count=1)
    plan = Explainer(three, [[0.0]]).plan([1.0], ([0.1, 0.7, 0.2], "b"), Explaining())
    scores = [([0.5, 0.3, 0.2], "a") if row == [0.0] else ([0.1, 0.7, 0.2], "b") for row in plan.rows]
    assert plan.parts(scores) == {"f0": pytest.approx(0.4)}
    labels_only = SimpleNamespace(
        clusters=(), feature_names=("f0",), classes=("a", "b"), has_probabilities=False
    )
    plan = Explainer(cast("Any", labels_only), [[0.0]]).plan([1.0], ([0.0], "b"), Explaining())
    assert plan.parts([([0.0], "a" if row == [0.0] else "b") for row in plan.rows]) == {"f0": 1.0}


def test_parts_of_tiny_numbers_are_told_and_add_up() -> None:
    parts = explain(lambda row: 1e-9 * (row[0] + row[1]), [1.0, 3.0], [[0.0], [0.0]], Explaining(steps=25))
    assert parts == {"f1": pytest.approx(3e-9), "f0": pytest.approx(1e-9)}


@pytest.mark.parametrize("method", ["shapley", "ice"])
def test_a_wide_model_takes_fewer_steps_and_not_all_memory(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulle.serving.explain.MOST_VALUES", 20_000)
    row, usual = [1.0] * 60, [[0.0, 0.0, 0.0]] * 60
    plan = Explainer(signature(count=60), usual).plan(
        row, ([60.0], None), Explaining(method=method, features=60, steps=1000)
    )
    assert len(plan.rows) * 60 <= 20_000
    parts = plan.parts([([sum(one)], None) for one in plan.rows])
    assert sum(parts.values()) == pytest.approx(60)


def test_usual_values_are_quantiles_and_no_rows() -> None:
    (numbers, words, nothing) = usual_values(
        [list(range(1000)), ["a"] * 60 + ["b"] * 20 + [None] * 20, [None, None]]
    )
    assert (len(numbers), numbers[0], numbers[-1]) == (20, 25, 974)
    assert [words.count(value) for value in ("a", "b", None)] == [12, 4, 4]
    assert nothing == [None] * 20


def test_an_explanation_is_given_when_it_is_asked_for(explained: Loaded) -> None:
    plain = ask(explained, {"features": {"customer_id": "00003"}})
    assert "explanations" not in plain["result"]
    nulls = {"enabled": None, "method": None, "nExplanations": None, "nMonteCarloSteps": None}
    assert (
        ask(explained, {"features": {"customer_id": "00003"}, "explanations": nulls})["result"]
        == plain["result"]
    )
    asked = ask(explained, {"features": {"customer_id": "00003"}, "explanations": {"enabled": True}})
    parts = asked["result"].pop("explanations")
    assert asked["result"] == plain["result"]
    assert set(parts) == set(FEATURES)
    again = ask(explained, {"features": {"customer_id": "00003"}, "explanations": {"enabled": True}})
    assert again["result"]["explanations"] == parts
    few = {"enabled": True, "method": "ICE", "nExplanations": 1}
    assert (
        len(
            ask(explained, {"features": {"customer_id": "00003"}, "explanations": few})["result"][
                "explanations"
            ]
        )
        == 1
    )
    many = ask(
        explained,
        {
            "items": [{"features": {"customer_id": "00003"}}, {"features": {"customer_id": "nobody"}}],
            "explanations": {"enabled": True},
        },
        "predict-multi",
    )
    assert many["results"][0]["explanations"] == parts
    assert many["results"][1]["ignoreReason"] == "NoMatch"


def test_too_much_at_once_is_refused(explained: Loaded) -> None:
    items = [{"features": {"customer_id": "00003"}}] * 60
    body = {"items": items, "explanations": {"enabled": True, "nMonteCarloSteps": 1000}}
    with pytest.raises(RequestError, match="60 rows in 1000 steps each are too many") as caught:
        ask(explained, body, "predict-multi")
    assert caught.value.status == 400


def test_bounds_of_what_is_asked_for() -> None:
    usual = Explaining(enabled=True, steps=60)
    assert Asked().over(usual) == usual
    assert Asked(enabled=False, number=0, steps=1, method="ICE").over(usual) == Explaining(
        False, "ice", 1, 25
    )
    assert Asked(steps=10**9).over(usual).steps == 1000


def test_an_endpoint_may_always_explain_and_says_so(mesh: Mesh) -> None:
    loaded = load(mesh.unpacked(mesh.build(EXPLAINED.replace("{features", "{enabled: true, features"))))
    assert ask(loaded, {"features": {"customer_id": "00003"}})["result"]["explanations"]
    off = ask(loaded, {"features": {"customer_id": "00003"}, "explanations": {"enabled": False}})
    assert "explanations" not in off["result"]
    simple = loaded.endpoints["high-value"].queries["predict-simple"]
    assert not isinstance(simple, Headed)

    async def work() -> bytes:
        given = simple([("customer_id", "00003")], "r")
        assert not isinstance(given, bytes)
        return (await given).body

    assert "explanations" in json.loads(asyncio.run(work()))["result"]
    body = json.loads(loaded.openapi)["paths"]["/high-value/predict"]["post"]["requestBody"]
    assert "explanations" in body["content"]["application/json"]["schema"]["properties"]


def test_the_package_has_what_is_usual(mesh: Mesh) -> None:
    folder = mesh.unpacked(mesh.build(EXPLAINED))
    file = folder / "models/high_value" / BACKGROUND
    assert [len(column) for column in json.loads(file.read_text())] == [20, 20, 20]
    file.unlink()
    with pytest.raises(Broken, match=r"lacks 'models/high_value/background\.json'"):
        load(folder)


def test_a_number_is_explained_too(tmp_path: Path) -> None:
    table = customers()
    matrix = np.column_stack([np.asarray(table.column(f).to_pylist(), dtype=float) for f in FEATURES])
    saved = save_model(
        tmp_path / "m",
        "high_value",
        LinearRegression().fit(matrix, 2 * matrix[:, 0] - matrix[:, 1]),
        features=FEATURES,
        sample=table,
        metrics={},
    )
    mesh = make_mesh(tmp_path / "mesh", saved)
    try:
        loaded = load(mesh.unpacked(mesh.build(EXPLAINED.replace("steps: 50", "steps: 1000"))))
        body = {"features": {"recency": 299, "frequency": 1, "spend": 5}, "explanations": {"enabled": True}}
        parts = ask(loaded, body)["result"]["explanations"]
        usual = usual_values([[float(value) for value in matrix[:, i]] for i in range(3)])
        assert parts["recency"] == pytest.approx(2 * (299 - np.mean(usual[0])), rel=0.05)
        assert parts["frequency"] == pytest.approx(np.mean(usual[1]) - 1, rel=0.05)
        assert parts["spend"] == pytest.approx(0, abs=0.01)
    finally:
        mesh.database.close()


@pytest.mark.parametrize("said", ["{steps: 5}", "{method: lime}", "{features: 0}", "yes"])
def test_what_no_explanation_can_be_is_told(said: str) -> None:
    with pytest.raises(Invalid):
        load_service(PREDICTOR.replace("  model:", f"  explanations: {said}\n  model:"), name="s.yaml")
