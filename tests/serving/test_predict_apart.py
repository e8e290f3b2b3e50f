"""Models that are not converted: their processes, rows that are scored together, and what misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import FixedThresholdClassifier
from tests.serving.conftest import FEATURES, customers, make_mesh
from tests.serving.misbehaving import Misbehaving

from tulle.pipeline.model_file import save_model
from tulle.serving.endpoint import Headed
from tulle.serving.loaded import Loaded, load
from tulle.serving.predict_apart import PredictApart
from tulle.serving.request import RequestError

SERVICE = """
service: predictor
endpoints:
- name: it
  type: predict
  model: high_value
  pool: {floor: 1, ceil: 1}
  timeout: 2
  memory: 200MB
  explanations: {steps: 50}
  show_features: {features: [recency]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An unpacked package with a native model."""
    place = tmp_path_factory.mktemp("apart")
    table = customers()
    matrix = np.column_stack([np.asarray(table.column(f).to_pylist(), dtype=float) for f in FEATURES])
    target = np.where(matrix[:, 1] * matrix[:, 2] > 1500, "high", "usual")
    inner = GradientBoostingClassifier(n_estimators=5, random_state=0)
    estimator = FixedThresholdClassifier(inner, threshold=0.95, pos_label="usual").fit(matrix, target)
    saved = save_model(place / "m", "high_value", estimator, features=FEATURES, sample=table, metrics={})
    assert saved.signature.conversion.form == "native"
    mesh = make_mesh(place / "mesh", saved)
    yield mesh.unpacked(mesh.build(SERVICE))
    mesh.database.close()


@pytest.fixture
def log(folder: Path, tmp_path: Path) -> Path:
    """Where the model, which is another one now, writes its calls down."""
    file = tmp_path / "calls"
    joblib.dump(Misbehaving(str(file)), folder / "models/high_value/model.joblib")
    return file


async def ask(loaded: Loaded, recency: int, frequency: int = 50) -> dict[str, Any] | tuple[int, str]:
    action = loaded.endpoints["it"].actions["predict"]
    assert isinstance(action, Headed)
    body = json.dumps({"features": {"recency": recency, "frequency": frequency, "spend": 1}}).encode()
    try:
        result: dict[str, Any] = json.loads((await action.call(body, "r", ())).body)["result"]
    except RequestError as error:
        assert "secret" not in error.detail
        return error.status, error.error_type
    return result


def test_rows_that_come_together_are_scored_together(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        assert await loaded.ready() == {}
        found = await asyncio.gather(*(ask(loaded, 1, number) for number in range(100)))
        for number, result in enumerate(found):
            assert isinstance(result, dict)
            assert result["probas"]["high"] == number / 100
            assert result["prediction"] == ("high" if number > 90 else "usual")
        action = loaded.endpoints["it"].actions["predict"]
        assert isinstance(action, Headed)
        body = {"features": {"recency": 1, "frequency": 7, "spend": 1}, "showFeatures": True}
        told = json.loads((await action.call(json.dumps(body).encode(), "r", ())).body)["result"]
        assert told["features"] == {"recency": 1}
        # Asked again in the very step in which the answer came, with one process at most.
        simple = loaded.endpoints["it"].queries["predict-simple"]
        assert isinstance(simple, Headed)
        pairs = [("recency", "1"), ("frequency", "7"), ("spend", "1")]
        assert json.loads((await simple.call(pairs, "r", ())).body)["result"]["probas"]["high"] == 0.07
        loaded.close()

    asyncio.run(work())
    calls = [int(line) for line in log.read_text().split()]
    assert sum(calls) == 102
    assert len(calls) < 10


def test_a_row_the_model_cannot_bear_fails_alone(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        slow = asyncio.create_task(ask(loaded, 904))  # so that all others come together
        await asyncio.sleep(0.1)
        found = await asyncio.gather(
            ask(loaded, 1),
            ask(loaded, 901),
            ask(loaded, 2),
            ask(loaded, 902),
            ask(loaded, 3),
            ask(loaded, 903),
            ask(loaded, 905),
            ask(loaded, 906),
        )
        assert isinstance(await slow, dict)
        assert [one if isinstance(one, tuple) else one["prediction"] for one in found] == [
            "usual",
            (500, "EvaluationFailed"),
            "usual",
            (500, "EndpointCrashed"),
            "usual",
            (504, "TookTooLong"),
            (500, "EvaluationFailed"),
            (500, "EvaluationFailed"),
        ]
        assert isinstance(await ask(loaded, 4), dict)
        loaded.close()

    asyncio.run(work())


def test_one_bad_item_of_many_is_told_as_such(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        action = loaded.endpoints["it"].actions["predict-multi"]
        assert isinstance(action, Headed)
        items = [{"features": {"recency": r, "frequency": 5, "spend": 1}} for r in (1, 901, 2)]
        items.append({"features": {"recency": "x"}})
        answer = json.loads((await action.call(json.dumps({"items": items}).encode(), "r", ())).body)
        assert [one.get("ignoreReason") for one in answer["results"]] == [
            None,
            "EvaluationFailed",
            None,
            "InvalidFeatures",
        ]
        assert answer["results"][2]["prediction"] == "usual"
        loaded.close()

    asyncio.run(work())


def test_a_model_that_hangs_at_every_row_is_not_asked_for_every_row(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        found = await asyncio.gather(*(ask(loaded, 903) for _ in range(20)))
        assert found == [(504, "TookTooLong")] * 20
        loaded.close()

    asyncio.run(work())
    assert log.read_text().split() == ["20", "1", "1"]


def test_one_request_may_hold_more_rows_than_may_wait(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        many = 33 * 64 + 500
        action = loaded.endpoints["it"].actions["predict-multi"]
        assert isinstance(action, Headed)
        items = [{"features": {"recency": 1, "frequency": i % 100, "spend": 1}} for i in range(many)]
        answer = json.loads((await action.call(json.dumps({"items": items}).encode(), "r", ())).body)
        shares = [one["probas"]["high"] for one in answer["results"]]
        assert shares == [i % 100 / 100 for i in range(many)]
        endpoint = loaded.endpoints["it"]
        assert isinstance(endpoint, PredictApart)
        assert len(await endpoint.scores([[1, 2, 3]] * many)) == many
        loaded.close()

    asyncio.run(work())


def test_too_many_rows_are_refused(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        many = (32 + 1) * 64
        asked = [asyncio.create_task(ask(loaded, 904 if number == 0 else 1)) for number in range(many + 80)]
        found = await asyncio.gather(*asked)
        refused = [one for one in found if one == (503, "QueueFull")]
        assert refused
        assert len(found) - len(refused) >= many
        loaded.close()

    asyncio.run(work())


def test_its_predictions_are_explained_as_others_are(folder: Path, log: Path) -> None:
    async def work() -> None:
        loaded = load(folder)
        action = loaded.endpoints["it"].actions["predict"]
        assert isinstance(action, Headed)
        features = {"recency": 1, "frequency": 90, "spend": 1}
        body = json.dumps({"features": features, "explanations": {"enabled": True}}).encode()
        parts = json.loads((await action.call(body, "r", ())).body)["result"]["explanations"]
        assert parts["recency"] == parts["spend"] == 0
        assert parts["frequency"] < -0.5  # less probable to be usual
        loaded.close()

    asyncio.run(work())


def test_a_model_that_needs_too_much_memory_fails_its_own_row_and_is_replaced(
    folder: Path, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        loaded = load(folder)
        endpoint = loaded.endpoints["it"]
        assert isinstance(endpoint, PredictApart)
        endpoint.pool.bounds = replace(endpoint.pool.bounds, seconds=60)  # a busy machine gives memory slowly
        assert await loaded.ready() == {}
        slow = asyncio.create_task(ask(loaded, 904))  # so that the others come together
        await asyncio.sleep(0.1)
        found = await asyncio.gather(ask(loaded, 1), ask(loaded, 907), ask(loaded, 2))
        assert isinstance(await slow, dict)
        assert [one if isinstance(one, tuple) else one["prediction"] for one in found] == [
            "usual",
            (500, "TooMuchMemory"),
            "usual",
        ]
        assert "is replaced" not in caplog.text
        # It answers, has grown past its memory, and makes way for another.
        assert isinstance(await ask(loaded, 908), dict)
        assert isinstance(await ask(loaded, 3), dict)
        loaded.close()

    asyncio.run(work())
    assert caplog.text.count("MB and is replaced") == 1


def endless() -> bytes:
    """A model in ONNX that goes round a loop as often as the first feature says."""
    number, flag = TensorProto.FLOAT, TensorProto.BOOL
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", flag, []),
            helper.make_tensor_value_info("value", number, None),
        ],
        [
            helper.make_tensor_value_info("go_on", flag, []),
            helper.make_tensor_value_info("next", number, None),
        ],
    )
    weights = np.array([[0.0], [1.0], [0.0]], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "first"], ["rounds_of_each"], axis=1),
            helper.make_node("ReduceMax", ["rounds_of_each"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
            helper.make_node("MatMul", ["x", "w"], ["start"]),
            helper.make_node("Loop", ["rounds", "", "start"], ["y"], body=body),
        ],
        "g",
        [helper.make_tensor_value_info("x", number, ["N", 3])],
        [helper.make_tensor_value_info("y", number, ["N", 1])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(0), "first")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def test_a_model_in_onnx_that_does_not_end_holds_up_nobody_else(tmp_path: Path) -> None:
    table = customers()
    saved = save_model(tmp_path / "m", "high_value", endless(), features=FEATURES, sample=table, metrics={})
    conversion = saved.signature.conversion
    assert conversion.form == "native"
    assert "has a loop" in conversion.reason
    mesh = make_mesh(tmp_path / "mesh", saved)
    text = SERVICE.replace("timeout: 2", "timeout: 1").replace("200MB", "1GB").replace(
        "  explanations: {steps: 50}\n", ""
    ) + (
        "- {name: row, type: lookup, product: customer-features, data_set: customer_features, key: customer_id}\n"
    )
    loaded = load(mesh.unpacked(mesh.build(text)))

    async def work() -> None:
        assert await loaded.ready() == {}
        assert await ask(loaded, 3, 17) == {"prediction": 17.0, "ignored": False}
        hung = asyncio.create_task(ask(loaded, 10**15))
        await asyncio.sleep(0.1)
        for _ in range(100):
            status, _answer = await loaded.ask("row", {"data": {"customer_id": "00003"}})
            assert status == 200
        assert not hung.done()
        assert await hung == (504, "TookTooLong")
        assert isinstance(await ask(loaded, 3), dict)  # in another process
        loaded.close()

    asyncio.run(work())
    mesh.database.close()


def test_a_model_in_onnx_that_a_row_makes_as_large_as_it_likes_harms_nobody_else(tmp_path: Path) -> None:
    """The number in a row is how many zeros are made: few in the sample, more than there is memory for here."""
    number = TensorProto.FLOAT
    weights = np.array([[0.0], [1.0], [0.0]], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "first"], ["of_each"], axis=1),
            helper.make_node("ReduceMax", ["of_each"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", ["count", "first"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
            helper.make_node("MatMul", ["x", "w"], ["start"]),
            helper.make_node("Add", ["start", "nothing"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", number, ["N", 3])],
        [helper.make_tensor_value_info("y", number, ["N", 1])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([0]), "first")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    given, table = bytes(made.SerializeToString()), customers()
    saved = save_model(tmp_path / "m", "high_value", given, features=FEATURES, sample=table, metrics={})
    conversion = saved.signature.conversion
    assert conversion.form == "native"
    assert "'ConstantOfShape', which takes as much memory as a value of a row says" in conversion.reason
    mesh = make_mesh(tmp_path / "mesh", saved)
    text = SERVICE.replace("200MB", "1GB").replace("  explanations: {steps: 50}\n", "")
    loaded = load(mesh.unpacked(mesh.build(text)))

    async def work() -> None:
        assert await loaded.ready() == {}
        assert await ask(loaded, 3, 17) == {"prediction": 17.0, "ignored": False}
        assert await ask(loaded, 10**10) == (500, "TooMuchMemory")
        assert await ask(loaded, 3, 18) == {"prediction": 18.0, "ignored": False}
        loaded.close()

    asyncio.run(work())
    mesh.database.close()
