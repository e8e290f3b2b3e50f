"""Requests for many: as one by one, bounded, from one commit, and others are answered while they are worked on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.serving.asking import answer

from tulle.pipeline.model_score import Matrix, Scorer
from tulle.serving.app import App
from tulle.serving.endpoint import MOST_ITEMS
from tulle.serving.finder import Held
from tulle.serving.loaded import Loaded, load
from tulle.serving.lookup import Lookup
from tulle.serving.predict import Predict
from tulle.serving.predict_rows import AT_ONCE, PART, RowScorer

MANY = 2 * PART + 500
PREDICT = "/public/api/v1/high-value-predictor/high-value/"
LOOKUP = "/public/api/v1/customer-features/profile/"


@pytest.fixture
def predicting(predictor_folder: Path) -> Iterator[Loaded]:
    loaded = load(predictor_folder)
    yield loaded
    loaded.close()


def app(service: Loaded) -> App:
    return App(service, max_request_bytes=10_000_000)


def body(name: str, items: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"items": [{name: item} for item in items]}).encode()


def customer(number: int) -> dict[str, Any]:
    """Known ones, and one of every hundred that nobody knows."""
    return {"customer_id": "nobody" if number % 100 == 7 else f"{number % 200:05}"}


class Slow:
    """A model that takes until it is told to go on."""

    def __init__(self, inner: Scorer) -> None:
        self.inner, self.begun, self.goes_on = inner, threading.Event(), threading.Event()

    def probabilities(self, rows: Sequence[Sequence[Any]]) -> Matrix:
        self.begun.set()
        assert self.goes_on.wait(20)
        return self.inner.probabilities(rows)

    def labels(self, rows: Sequence[Sequence[Any]]) -> Matrix:
        return self.inner.labels(rows)

    def single(self, row: Sequence[Any]) -> list[float]:
        return self.inner.single(row)


def test_many_get_what_each_gets_alone(predicting: Loaded, lookups: Loaded) -> None:
    async def all_of_it() -> None:
        for service, home, name in ((predicting, PREDICT, "features"), (lookups, LOOKUP, "data")):
            asked = app(service)
            action = home + ("predict" if name == "features" else "lookup")
            items = [customer(number) for number in range(MANY)]
            many = (await answer(asked, "POST", action + "-multi", body(name, items))).json()
            few = (await answer(asked, "POST", action + "-multi", body(name, items[:50]))).json()
            assert len(many["results"]) == MANY
            assert many["results"][:50] == few["results"]
            for number, result in enumerate(many["results"]):
                assert result == many["results"][number % 200]
            assert many["results"][7]["error"]["errorType"] == "NoMatch"
            alone = (await answer(asked, "POST", action, json.dumps({name: items[3]}).encode())).json()
            assert (alone.get("result") or alone["results"][0]) == many["results"][3]
            assert many["apiContext"]["dataCommits"] == alone["apiContext"]["dataCommits"]

    asyncio.run(all_of_it())


@pytest.mark.parametrize("number", [AT_ONCE + 1, MANY])
def test_others_are_answered_while_many_are_scored(number: int, predicting: Loaded, lookups: Loaded) -> None:
    """Were it the loop that scores, nobody would let the model go on."""
    endpoint = predicting.endpoints["high-value"]
    assert isinstance(endpoint, Predict)
    scorer = endpoint._row_scorer
    assert isinstance(scorer, RowScorer)
    slow = Slow(scorer._scorer)
    scorer._scorer = slow

    async def all_of_it() -> None:
        asked = app(predicting)
        items = [customer(place) for place in range(number)]
        many = asyncio.create_task(answer(asked, "POST", PREDICT + "predict-multi", body("features", items)))
        assert await asyncio.to_thread(slow.begun.wait, 20)
        one = await answer(asked, "POST", PREDICT + "predict", b'{"features": {"customer_id": "00003"}}')
        assert one.json()["result"]["ignored"] is False
        found = await answer(app(lookups), "POST", LOOKUP + "lookup", b'{"data": {"customer_id": "00003"}}')
        assert found.json()["results"][0]["data"]["customer_id"] == "00003"
        assert (await answer(asked, "GET", "/isAlive/")).json()["alive"] is True
        assert not many.done()
        slow.goes_on.set()
        said = (await many).json()["results"]
        assert len(said) == number
        assert said[3] == one.json()["result"]

    try:
        asyncio.run(all_of_it())
    finally:
        slow.goes_on.set()


def test_others_are_answered_between_the_parts_of_many_look_ups(lookups: Loaded) -> None:
    async def all_of_it() -> None:
        asked, others = app(lookups), 0
        items = [customer(number) for number in range(MANY)]
        many = asyncio.create_task(answer(asked, "POST", LOOKUP + "lookup-multi", body("data", items)))
        while not many.done():
            await asyncio.sleep(0)
            other = await answer(asked, "POST", LOOKUP + "lookup", b'{"data": {"customer_id": "00003"}}')
            others += other.status_code == 200 and not many.done()
        assert others >= 2

    asyncio.run(all_of_it())


def test_too_many_items_are_refused(predicting: Loaded, lookups: Loaded) -> None:
    async def all_of_it() -> None:
        for service, path in ((predicting, PREDICT + "predict-multi"), (lookups, LOOKUP + "lookup-multi")):
            raw = json.dumps({"items": [1] * (MOST_ITEMS + 1)}).encode()
            refused = await answer(app(service), "POST", path, raw)
            error = refused.json()
            assert (refused.status_code, error["errorType"]) == (400, "TooManyItems")
            assert error["message"] == "10,001 items are too many at once"
            assert "Send 10,000 at most" in error["detailedMessage"]
            assert error["requestId"] == refused.headers["x-request-id"]
            described = service.openapi.decode()
            assert f'"maxItems":{MOST_ITEMS}' in described.replace(" ", "")

    asyncio.run(all_of_it())


@pytest.mark.parametrize("kind", ["predict", "lookup"])
def test_what_is_published_meanwhile_is_answered_to_all_of_them_or_none(
    kind: str, predictor_folder: Path, lookups_folder: Path
) -> None:
    """All rows are looked up in the newer index, and the answer says so in its body and its headers."""
    service = load(predictor_folder if kind == "predict" else lookups_folder)
    name, home, member = (
        ("high-value", PREDICT, "features") if kind == "predict" else ("profile", LOOKUP, "data")
    )
    endpoint = service.endpoints[name]
    assert isinstance(endpoint, Predict | Lookup)
    (finder,) = endpoint.finders
    keys = [f"{number:05}" for number in range(200)]
    other = finder.get(["00005"])
    newer = Held({finder.place([key]): other for key in keys})

    async def all_of_it() -> None:
        asked = app(service)
        items = [{"customer_id": keys[number % 200]} for number in range(MANY)]
        asking = answer(asked, "POST", f"{home}{kind}-multi", body(member, items))
        many = asyncio.create_task(asking)
        await asyncio.sleep(0)  # the first part, from what was published before
        assert not many.done()
        finder.use(newer)  # type: ignore[arg-type]
        endpoint.renew({"customer-features": "newer"})
        said = await many
        results = said.json()["results"]
        assert len(results) == MANY
        assert all(result == results[5] for result in results)
        assert said.json()["apiContext"]["dataCommits"] == {"customer-features": "newer"}
        assert said.headers["x-tulle-data-commit"] == "customer-features@newer"

    asyncio.run(all_of_it())
    service.close()
