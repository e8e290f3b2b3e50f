"""The same requests that nobody can mean, to endpoints that forecast, tell effects or find clusters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression
from tests.bad_input.test_services import LARGEST, VALUES, World
from tests.serving.conftest import FEATURES, customers, make_mesh, model  # noqa: F401  a fixture
from tests.serving.test_forecast import HORIZON, lags, past_and_future, plain, rows_of, table

from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_series import save_forecaster
from tulle.sdk.causal import TLearner
from tulle.serving.app import App
from tulle.serving.loaded import load
from tulle.serving.recorder import Recorder

SERVICE = """
service: models
endpoints:
- {name: demand, type: forecast, model: demand, pool: {floor: 1, ceil: 1}}
- {name: coupon, type: predict, model: effects, pool: {floor: 1, ceil: 1}}
- {name: kinds, type: predict, model: clusters,
   enrich: [{product: customer-features, data_set: customer_features, key: customer_id, no_match: ignore}]}
- name: all-of-it
  type: compose
  input: {customer: {}}
  steps:
  - {name: ahead, call: demand, with: {items: [{day: '2024-01-01', shop: $input.customer, sold: 1, offer: 0}]}, on_failure: leave_out}
  - {name: kind, call: kinds, with: {customer_id: $input.customer}, on_failure: leave_out}
  - {name: effect, call: coupon, with: {recency: 1, frequency: 1, spend: '$(len(input.customer))'}}
  output: {ahead: $ahead?, kind: $kind.prediction?, effect: $effect.effect}
"""
HOME = "/public/api/v1/models"
# Every action, and the members of its body that something can be wrong with.
POSTS: dict[str, tuple[str, ...]] = {
    "demand/forecast": ("items", "dispatch"),
    "coupon/predict": ("features", "dispatch", "explanations"),
    "coupon/predict-effect": ("features", "dispatch"),
    "coupon/predict-effect-multi": ("items", "dispatch"),
    "kinds/predict": ("features", "explanations"),
    "kinds/predict-multi": ("items",),
    "all-of-it/run": ("customer",),
    "v2/models/coupon/infer": ("inputs", "outputs"),
    "v2/models/kinds/infer": ("inputs", "outputs", "id", "parameters"),
}
RIGHT = {"recency": 9, "frequency": 22, "spend": 5.25}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    model: tuple[ModelFile, Any],  # noqa: F811
) -> Iterator[World]:
    place = tmp_path_factory.mktemp("models")
    rows = np.column_stack([np.asarray(customers().column(f).to_pylist(), dtype=float) for f in FEATURES])
    treated = np.arange(len(rows)) % 2
    learner = TLearner(LinearRegression()).fit(rows, treated, rows[:, 2] + treated * rows[:, 0])
    clusters = KMeans(3, n_init=1, random_state=0).fit(rows)
    about: dict[str, Any] = {"features": FEATURES, "sample": customers(), "metrics": {}}
    saved = {
        "effects": save_model(place / "e", "effects", learner, **about),
        "clusters": save_model(place / "c", "clusters", clusters, **about),
        "demand": save_forecaster(
            place / "d", "demand", lags(externals=True), sample=table(), time="day", target="sold",
            identifiers=["shop"], externals=["offer"], horizon=HORIZON, step="1 day", metrics={},
        ),
    }  # fmt: skip
    mesh = make_mesh(place / "mesh", model[0])
    own = mesh.lake.repository("high-value-customers")
    for name, one in saved.items():
        for file in one.files:
            own.put("main", f"models/{name}/{file}", one.folder / file)
    own.commit("main", "models")
    service = load(mesh.unpacked(mesh.build(SERVICE)), "g1")
    recorder = Recorder(place / "log", "models", "v1", "g1")
    made = World(App(service, max_request_bytes=LARGEST, recorder=recorder), HOME)
    recorder.start()
    yield made
    recorder.close()
    service.close()
    made.runner.close()
    mesh.database.close()


@pytest.mark.parametrize("action", POSTS)
def test_what_is_no_json_is_refused(world: World, action: str) -> None:
    world.refuses_no_json(action)


@pytest.mark.parametrize("action", POSTS)
def test_what_has_a_wrong_form_is_refused_or_answered(world: World, action: str) -> None:
    bodies = [*VALUES]
    for name in POSTS[action]:
        rest = b"" if name in {"features", "items"} else b', "features": ' + json.dumps(RIGHT).encode()
        bodies += [b'{"%s": %s%s}' % (name.encode(), value, rest) for value in VALUES]
        if name == "items" and "multi" in action:
            bodies += [b'{"items": [{"features": %s}, 3]}' % value for value in VALUES]
    world.refuses_or_answers(action, bodies)


def row(**more: Any) -> dict[str, Any]:
    return {"day": "2024-01-01", "shop": "A", "sold": 1.0, "offer": 0} | more


SERIES: tuple[list[dict[str, Any]], ...] = (
    *([row(**{name: value})] for name in row() for value in (None, True, -1, 1e300, "", "x", [], {}, "9999-12-31")),
    [row(), row()],
    [row(day="2024-01-01"), row(day="2024-01-03"), row(day="2025-01-01")],
    [row(day="0001-01-01"), row(day="9999-12-31")],
    [row(day="2024-01-01T00:00:00.000001Z"), row(day="2024-01-02T23:59:59+14:00")],
    [row(shop=f"{number}") for number in range(1001)],
    [row(sold=None)] * 3,
    [{}],
    [{"day": "2024-01-01"}],
    [row(**{"x" * 1000: 1})],
    [row(**{f"name {number}": 1 for number in range(3000)})],
    plain(rows_of("A")),
    past_and_future("A")[:-1],
    past_and_future("A")[::-1] + plain(rows_of("B"))[:3],
    [{**one, "sold": 1e308} for one in past_and_future("A")[:-HORIZON]] + past_and_future("A")[-HORIZON:],
)  # fmt: skip


def test_series_that_nobody_can_mean_are_refused_or_answered(world: World) -> None:
    world.refuses_or_answers("demand/forecast", [json.dumps({"items": one}).encode() for one in SERIES])


def test_what_is_too_large_is_not_read(world: World) -> None:
    for action in POSTS:
        said = world.ask("POST", f"{HOME}/{action}", b" " * 300_001)
        assert said.refuses(413)["errorType"] == "RequestTooLarge"


def test_after_all_that_the_models_are_as_they_were(world: World) -> None:
    assert json.loads(world.ask("GET", "/isAlive/").body)["alive"] is True
    items = json.dumps({"items": past_and_future("A")}).encode()
    assert len(json.loads(world.post("demand/forecast", items).body)["results"]) == HORIZON
    body = json.dumps({"features": RIGHT}).encode()
    assert json.loads(world.post("coupon/predict-effect", body).body)["result"]["effect"] == pytest.approx(9)
    assert json.loads(world.post("kinds/predict", body).body)["result"]["prediction"] in {0, 1, 2}
    ignored = json.loads(world.post("kinds/predict", b'{"features": {"customer_id": "nobody"}}').body)
    assert ignored["result"] == {"ignored": True, "ignoreReason": "NO_LOOKUP_MATCH"}
    answer = json.loads(world.post("all-of-it/run", b'{"customer": "00003"}').body)
    assert (answer["response"]["effect"], answer["response"]["ahead"]) == (pytest.approx(1), None)
    assert [one["step"] for one in answer["failed"]] == ["ahead"]
