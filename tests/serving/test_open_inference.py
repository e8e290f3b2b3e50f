"""The Open Inference Protocol: the same answers as ours, in tensors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.serving.asking import answer

from tulle.serving.app import App
from tulle.serving.loaded import Loaded

HOME = "/public/api/v1/high-value-predictor/v2"
IT = f"{HOME}/models/high-value"


def ask(loaded: Loaded, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """What the application answers: to a POST where there is a body."""

    app = App(loaded, max_request_bytes=1 << 20)
    method = "GET" if body is None else "POST"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answered = asyncio.run(answer(app, method, path, content, [(b"x-request-id", b"r-1")]))
    return answered.status_code, answered.json()


def tensor(
    name: str, data: list[Any], datatype: str = "FP64", shape: list[int] | None = None
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def ours(loaded: Loaded, **features: Any) -> dict[str, Any]:
    _, answer = asyncio.run(loaded.ask("high-value", {"features": features}))
    result: dict[str, Any] = json.loads(answer)["result"]
    return result


def test_the_server_and_its_models_tell_of_themselves(predictor: Loaded) -> None:
    assert ask(predictor, HOME)[1] == {"name": "high-value-predictor", "version": "v1", "extensions": []}
    assert ask(predictor, f"{HOME}/health/live") == (200, {"live": True})
    assert ask(predictor, f"{HOME}/health/ready") == (200, {"ready": True})
    assert ask(predictor, f"{IT}/ready") == (200, {"name": "high-value", "ready": True})
    _, told = ask(predictor, f"{IT}/versions/v1")
    assert told == ask(predictor, IT)[1]
    assert (told["name"], told["versions"], told["platform"]) == ("high-value", ["v1"], "onnx")
    assert {"name": "customer_id", "datatype": "BYTES", "shape": [-1]} in told["inputs"]
    assert told["outputs"] == [
        {"name": "predict", "datatype": "INT64", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]},
    ]


def test_rows_are_predicted_as_by_our_own_requests(predictor: Loaded) -> None:
    inputs = [
        tensor("recency", [9, 30], "INT64"),
        tensor("frequency", [22, 3], "INT64", [2, 1]),
        tensor("spend", [5.25, 700.0], "FP32"),
    ]
    status, answer = ask(predictor, f"{IT}/infer", {"id": "mine", "inputs": inputs})
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("high-value", "v1", "mine")
    first = ours(predictor, recency=9, frequency=22, spend=5.25)
    second = ours(predictor, recency=30, frequency=3, spend=700.0)
    labels, shares = answer["outputs"]
    assert labels["data"] == [first["prediction"], second["prediction"]]
    assert shares["shape"] == [2, 2]
    assert shares["data"] == [*first["probas"].values(), *second["probas"].values()]


def test_one_tensor_may_hold_all_features_and_rows_may_be_looked_up(predictor: Loaded) -> None:
    names = list(predictor.endpoints["high-value"].signature.feature_names)  # type: ignore[attr-defined]
    row = [{"recency": 9, "frequency": 22, "spend": 5.25}[name] for name in names]
    for data in ([*row, *row], [row, row]):
        body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 3], "data": data}]}
        _, answer = ask(predictor, f"{IT}/versions/v1/infer", body)
        assert answer["outputs"][1]["shape"] == [2, 2]
    body = {"inputs": [tensor("customer_id", ["00003"], "BYTES")], "outputs": [{"name": "predict_proba"}]}
    _, looked_up = ask(predictor, f"{IT}/infer", body)
    (output,) = looked_up["outputs"]
    assert output["data"] == answer["outputs"][1]["data"][:2]
    assert looked_up["id"] == "r-1"


def test_a_refusal_counts_and_has_the_form_of_the_protocol_at_any_spelling_of_its_path(
    predictor: Loaded,
) -> None:
    app = App(predictor, max_request_bytes=1 << 20)
    refused = asyncio.run(answer(app, "POST", IT.replace("/v2/", "//v2/") + "/infer/", b"{}"))
    assert (refused.status_code, refused.json()["errorType"]) == (400, "InvalidRequest")
    assert refused.json()["error"] == refused.json()["detailedMessage"]
    counted = asyncio.run(answer(app, "GET", "/metrics")).json()["paths"]
    assert counted["v2/models/high-value/infer"]["errors"] == {"400": 1}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is not JSON"),
        ({}, 400, "missing required field `inputs`"),
        ({"inputs": []}, 400, "there are no inputs"),
        ({"inputs": [tensor("recency", ["x"], "BYTES")]}, 400, "feature 'recency' is \"x\", expected"),
        ({"inputs": [tensor("recency", ["x"])]}, 400, "input 'recency' holds \"x\", which is no FP64"),
        ({"inputs": [tensor("recency", [1], "FP65")]}, 400, "unknown datatype 'FP65'"),
        ({"inputs": [tensor("recency", [1, 2], shape=[3])]}, 400, "has 2 values, its shape [3] has 3"),
        ({"inputs": [tensor("recency", [1], shape=[-1])]}, 400, "expected one or two sizes"),
        ({"inputs": [tensor("recency", [1, 2], shape=[1, 2])]}, 400, "expected [1] or [1, 1]"),
        ({"inputs": [tensor("x", [[1, 2, 3, 4], [5, 6]], shape=[2, 3])]}, 400, "rows of other lengths"),
        ({"inputs": [tensor("recency", [[1], 2], shape=[2, 1])]}, 400, "rows of other lengths"),
        ({"inputs": [tensor("recency", [200], "INT8")]}, 400, "holds 200, which is no INT8"),
        ({"inputs": [tensor("recency", [-1], "UINT64")]}, 400, "holds -1, which is no UINT64"),
        ({"inputs": [tensor("recency", [3e9], "INT32")]}, 400, "which is no INT32"),
        ({"inputs": [tensor("recncy", [1])]}, 400, "did you mean 'recency'?"),
        ({"inputs": [tensor("recency", [1]), tensor("recency", [1])]}, 400, "is given twice"),
        (
            {"inputs": [tensor("recency", [1]), tensor("spend", [1, 2])]},
            400,
            "has 2 rows, those before have 1",
        ),
        ({"inputs": [tensor("recency", [1])]}, 400, "features are missing: frequency, spend"),
        ({"inputs": [tensor("customer_id", ["00003", "nobody"], "BYTES")]}, 404, "row 1: nothing is known"),
        ({"inputs": [], "outputs": [{"name": "predct"}]}, 400, "there is no output 'predct'"),
        ({"inputs": [tensor("recency", [0] * 10_001)]}, 400, "at most 10,000"),
    ],
)
def test_what_is_wrong_is_told_in_both_forms(predictor: Loaded, body: Any, status: int, message: str) -> None:
    found, answer = ask(predictor, f"{IT}/infer", body)
    assert found == status
    assert message in answer["error"]
    assert answer["detailedMessage"] == answer["error"]
    assert answer["requestId"] == "r-1"


def test_another_generation_or_model_is_unknown(predictor: Loaded, lookups: Loaded) -> None:
    assert ask(predictor, f"{IT}/versions/v9/infer", {"inputs": []})[0] == 404
    assert ask(predictor, f"{HOME}/models/other")[0] == 404
    assert ask(lookups, "/public/api/v1/customer-features/v2")[0] == 404


def test_what_is_not_there_is_told_in_the_protocols_words(predictor: Loaded) -> None:
    for path in (f"{HOME}/models/nothing", f"{HOME}/health", f"{IT}/versions/v9"):
        status, told = ask(predictor, path)
        assert status == 404
        assert told["error"].startswith("there is no '")
        assert told["errorType"] == "UnknownEndpoint"
    assert "error" not in ask(predictor, HOME.replace("/v2", "/nothing"))[1]
