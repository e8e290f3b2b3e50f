"""A loaded service judges its own saved queries and tells whether it is well."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh

from tulle.errors import Broken
from tulle.serving.loaded import Loaded, load


def verdicts(mesh: Mesh, text: str) -> list[tuple[bool, str]]:
    return [(v.passed, v.message) for v in asyncio.run(load(mesh.unpacked(mesh.build(text))).test())]


def test_saved_queries_pass_and_say_how_long_they_took(lookups: Loaded, predictor: Loaded) -> None:
    for service in (lookups, predictor):
        found = asyncio.run(service.test())
        assert found
        assert [v.passed for v in found] == [True] * len(found)
        assert all(v.milliseconds >= 0 for v in found)


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("{recency: 9, spend: 5.25, vip: false, note: null}", ""),
        ("{spend: 5.2500001}", ""),
        ("{spend: 5.26}", "spend is 5.25, expected 5.26"),
        ("{vip: 0}", "vip is False, expected 0"),
        ("{recency: '9'}", "recency is 9, expected '9'"),
        ("{recenzy: 9}", "recenzy is missing from the answer"),
        ("{error: NoMatch}", "expected the error NoMatch, got an answer"),
    ],
)
def test_an_expectation_is_compared_member_by_member(shared_mesh: Mesh, expect: str, message: str) -> None:
    text = LOOKUPS.replace("{recency: 9, spend: 5.25}", expect)
    assert verdicts(shared_mesh, text) == [(not message, message)]


def test_a_tolerance_may_be_given(shared_mesh: Mesh) -> None:
    text = LOOKUPS.replace("expect: {recency: 9, spend: 5.25}", "expect: {spend: 5.3}, tolerance: 0.1")
    assert verdicts(shared_mesh, text) == [(True, "")]


def test_a_query_that_is_refused_unexpectedly_fails(shared_mesh: Mesh) -> None:
    text = PREDICTOR.replace(", expect: {error: NoMatch}", "")
    assert verdicts(shared_mesh, text)[1] == (False, '404 NoMatch: nothing is known of customer_id "nobody"')


def test_an_endpoint_without_saved_queries_is_probed_with_a_real_row(shared_mesh: Mesh) -> None:
    text = PREDICTOR[: PREDICTOR.index("  test_queries")]
    service = load(shared_mesh.unpacked(shared_mesh.build(text)))
    assert service.entries["high-value"].probe == {"features": {"customer_id": "00000"}}
    assert asyncio.run(service.probe()) == {}
    text = text[: text.index("  enrich:")]
    service = load(shared_mesh.unpacked(shared_mesh.build(text)))
    assert service.entries["high-value"].probe == {"features": {"recency": 0, "frequency": 1, "spend": 0.0}}
    assert asyncio.run(service.probe()) == {}


def test_an_endpoint_that_fails_is_not_well(predictor_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = load(predictor_folder)

    def broken(_row: Any) -> list[float]:
        raise RuntimeError("out of order")

    monkeypatch.setattr(service.endpoints["high-value"], "_single", broken)
    assert asyncio.run(service.probe()) == {"high-value": "RuntimeError: out of order"}
    assert [v.status for v in asyncio.run(service.test())] == [500, 404]


class Slow:
    """Has endpoints answer the first questions and no further one; what they were asked, and how often given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, answered: int) -> None:
        self.asked: list[str] = []
        self.given_up = 0
        self.begun = asyncio.Event()
        usual = Loaded.ask

        async def slow(
            service: Loaded, endpoint: str, body: Mapping[str, Any], request_id: str = ""
        ) -> tuple[int, bytes]:
            self.asked.append(endpoint)
            self.begun.set()
            try:
                await asyncio.sleep(0 if len(self.asked) <= answered else 60)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                self.given_up += 1
                raise
            return await usual(service, endpoint, body, request_id)

        monkeypatch.setattr(Loaded, "ask", slow)


def test_what_there_is_no_time_for_has_no_verdict(
    predictor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation that is slow and well fails nothing."""
    service, slow = load(predictor_folder), Slow(monkeypatch, answered=1)

    async def ask(seconds: float) -> list[bool]:
        found = await service.test(most=200, seconds=seconds)
        assert len(asyncio.all_tasks()) == 1  # what is given up does not go on
        return [one.passed for one in found]

    assert asyncio.run(ask(0.0)) == []
    assert slow.asked == []
    assert asyncio.run(ask(1.0)) == [True]
    assert (len(slow.asked), slow.given_up) == (2, 1)


def test_who_gives_up_asking_gives_up_the_query(
    predictor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, slow = load(predictor_folder), Slow(monkeypatch, answered=0)

    async def ask() -> int:
        asking = asyncio.create_task(service.test())
        await asyncio.wait_for(slow.begun.wait(), 20)
        asking.cancel()
        await asyncio.wait([asking])
        return slow.given_up

    assert asyncio.run(ask()) == 1


def test_every_endpoint_is_asked_before_one_is_asked_again(shared_mesh: Mesh) -> None:
    more = "spend: 5.25}}\n  - {name: any, data: {customer_id: '00004'}}"
    text = LOOKUPS.replace("spend: 5.25}}", more)
    text += "  test_queries: [{name: first, data: {first_on: '1997-01-01', number: 0}}]\n"
    service = load(shared_mesh.unpacked(shared_mesh.build(text)))

    def asked(most: int | None) -> list[tuple[str, str]]:
        return [(one.endpoint, one.name) for one in asyncio.run(service.test(most=most, seconds=30))]

    every = [("profile", "a known customer"), ("profile", "any"), ("by-day", "first")]
    assert asked(None) == asked(3) == every
    assert asked(2) == [every[0], every[2]]


def test_a_generation_may_be_called_otherwise_than_its_version(predictor_folder: Path) -> None:
    service = load(predictor_folder, "blue")
    status, answer = asyncio.run(service.ask("high-value", {"features": {"customer_id": "00003"}}))
    assert status == 200
    assert b'"serviceGeneration":"blue","packageVersion":"v1"' in answer


def test_a_folder_that_is_no_package_is_told(tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"the package lacks manifest\.json"):
        load(tmp_path)
