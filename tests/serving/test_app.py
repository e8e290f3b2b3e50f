"""The ASGI application in this process: paths, methods, headers, sizes, and one form of every error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from tests.serving.asking import InProcess

from tulle.serving.app import App
from tulle.serving.loaded import Loaded

HOME = "/public/api/v1/high-value-predictor"
PREDICT = f"{HOME}/high-value/predict"
BODY = b'{"features": {"customer_id": "00003"}}'


@pytest.fixture
def app(predictor: Loaded) -> App:
    return App(predictor, max_request_bytes=10_000)


def call(
    app: App, method: str, path: str, content: Any = b"", headers: Mapping[str, str] | None = None
) -> httpx.Response:
    async def once() -> httpx.Response:
        async with httpx.AsyncClient(transport=InProcess(app)) as client:
            return await client.request(method, "http://worker" + path, content=content, headers=headers)

    return asyncio.run(once())


def test_an_answer_has_its_headers(app: App) -> None:
    answer = call(app, "POST", PREDICT, BODY, {"x-request-id": "abc-1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.json()["apiContext"]["requestId"] == "abc-1"
    assert answer.headers["x-tulle-generation"] == "v1"
    assert answer.headers["dss-api-version"] == "1"
    assert answer.headers["dss-version"].startswith("tulle-")
    commits = answer.json()["apiContext"]["dataCommits"]
    assert answer.headers["x-tulle-data-commit"] == ",".join(f"{k}@{v}" for k, v in commits.items())


def test_requests_without_an_id_or_with_an_unsafe_one_get_one(app: App) -> None:
    first = call(app, "POST", PREDICT, BODY).headers["x-request-id"]
    second = call(app, "POST", PREDICT, BODY, {"x-request-id": 'evil"}'}).headers["x-request-id"]
    assert first != second
    assert len(first) > 10
    assert "evil" not in second


@pytest.mark.parametrize(
    "path", [PREDICT, "/" + PREDICT, PREDICT + "/", PREDICT.replace("/high-value/", "//high-value///")]
)
def test_doubled_and_trailing_slashes_do_not_matter(app: App, path: str) -> None:
    assert call(app, "POST", path, BODY).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_does_not_matter(app: App, kind: str) -> None:
    assert call(app, "POST", PREDICT, BODY, {"content-type": kind}).status_code == 200


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"errorType", "message", "detailedMessage", "requestId"}
    assert body["requestId"] == answer.headers["x-request-id"]
    return answer.status_code, body["errorType"], body["message"]


def test_wrong_paths_name_the_right_ones(app: App) -> None:
    answer = call(app, "POST", f"{HOME}/high-vale/predict", BODY)
    assert error(answer) == (404, "UnknownEndpoint", f"there is no '{HOME}/high-vale/predict'")
    detail = answer.json()["detailedMessage"]
    assert f"Did you mean '{PREDICT}'?" in detail
    assert f"{HOME}/openapi.json" in detail
    other = call(app, "POST", "/public/api/v1/other/high-value/predict", BODY)
    assert error(other)[:2] == (404, "UnknownService")
    assert error(call(app, "GET", "/"))[:2] == (404, "UnknownEndpoint")


def test_wrong_methods_name_the_right_one(app: App) -> None:
    answer = call(app, "GET", PREDICT)
    assert error(answer)[:2] == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "POST"
    answer = call(app, "DELETE", f"{HOME}/high-value/predict-simple")
    assert answer.headers["allow"] == "GET"


def test_an_empty_body_is_an_empty_object(app: App) -> None:
    assert error(call(app, "POST", PREDICT))[1:] == ("InvalidRequest", "'features' is missing")


def test_large_bodies_are_refused(app: App) -> None:
    answer = call(app, "POST", PREDICT, b"x" * 10_001)
    assert error(answer) == (413, "RequestTooLarge", "the request body is larger than 10000 bytes")


def test_who_waits_for_an_answer_when_the_process_ends_is_told(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(*_asked: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(app.routes[PREDICT], "headed", endless)

    async def work() -> httpx.Response:
        async with httpx.AsyncClient(transport=InProcess(app)) as client:
            asked = asyncio.create_task(client.post("http://worker" + PREDICT, content=BODY))
            await asyncio.sleep(0.05)
            asked.cancel()
            return await asked

    assert error(asyncio.run(work()))[:2] == (503, "Stopped")


def test_what_an_endpoint_did_not_expect_is_an_error_of_the_same_form(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_body: Any, _request_id: str) -> bytes:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr(app.routes[PREDICT], "action", broken)
    answer = call(app, "POST", PREDICT, BODY)
    assert error(answer) == (500, "EvaluationFailed", "the endpoint failed on this request")
    assert "secret" not in answer.text
    traced = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}
    assert call(app, "POST", PREDICT, BODY, traced).json()["traceId"] == "a" * 32
    assert "traceId" not in answer.json()
    assert "a secret of the house" in caplog.text


def test_a_browser_may_try_a_prediction(app: App) -> None:
    answer = call(app, "GET", f"{HOME}/high-value/predict-simple?customer_id=00003")
    assert answer.json()["result"] == call(app, "POST", PREDICT, BODY).json()["result"]
    assert error(call(app, "GET", f"{HOME}/high-value/predict-simple?recency=x%20y"))[0] == 400


def test_the_description_and_the_counters_are_served(app: App) -> None:
    assert call(app, "GET", f"{HOME}/openapi.json").json()["openapi"] == "3.1.0"
    for body in (BODY, BODY, b"{"):
        call(app, "POST", PREDICT, body)
    counted = call(app, "GET", "/metrics").json()
    assert counted["paths"]["high-value/predict"]["answered"] == 2
    assert counted["paths"]["high-value/predict"]["errors"] == {"400": 1}
    assert counted["paths"]["high-value/predict"]["microseconds"] > 0


def test_a_worker_is_alive_when_every_endpoint_answers(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/isAlive/", "/isAlive"):
        answer = call(app, "GET", path)
        assert (answer.status_code, answer.json()["alive"]) == (200, True)

    def broken(_row: Any) -> list[float]:
        raise RuntimeError("out of order")

    monkeypatch.setattr(app.service.endpoints["high-value"], "_single", broken)
    answer = call(app, "GET", "/isAlive/")
    assert error(answer)[:2] == (503, "NotAlive")
    assert "high-value: RuntimeError: out of order" in json.loads(answer.content)["detailedMessage"]
