"""The pages of what services are asked: the mesh, an API, a generation, a client; also of thirty days of many APIs."""

from __future__ import annotations

import random
import re
import time

import pytest
from tests.catalog.conftest import Browser, World
from tests.observe.lines import as_read, line

from tulle.catalog.insight import InsightReader
from tulle.errors import Invalid, NotFound
from tulle.gateway import applications
from tulle.observe.batch import Batch, Cell, Key
from tulle.observe.calls import HOUR, Calls, Place
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally

SERVICE = "customer-totals"


def count(world: World, *lines: bytes) -> None:
    counting = Tally(Operations({SERVICE: ["POST /total/lookup"]}, "/public/api/v1/"))
    counting.count(as_read(lines))
    calls = Calls(world.settings.state_folder)
    calls.add(counting.taken(), Place("f", 1))
    calls.close()


@pytest.fixture
def asked(world: World) -> str:
    """What a service was asked in the last half hour; the client id of who asked."""
    now, path = time.time() - 1800, f"/public/api/v1/{SERVICE}/total/lookup"
    (shop,) = (one.client_id for one in applications.applications(world.database) if one.name == "web-shop")
    usual = {"service": SERVICE, "path": path, "client": shop}
    count(
        world,
        *(line(now - 3 * HOUR, **usual) for _ in range(5)),
        *(line(now + n * 10, us=2000 + n, **usual) for n in range(100)),
        line(now, us=900_000, **(usual | {"code": 500, "generation": "v2", "request_id": "slow-one"})),
        line(now, **(usual | {"code": 429, "details": "request_rate_limited", "client": "<b>evil</b>"})),
        line(now, **(usual | {"service": None, "code": 404, "details": "direct_response"})),
    )
    return shop


def test_the_mesh_has_its_apis_their_curves_and_what_was_refused(world: World, asked: str) -> None:
    with Browser(world) as browser:
        page = browser.get("/insight?span=hour")
    assert asked in page
    assert f'href="/insight/apis/{SERVICE}?span=hour"' in page
    assert "103 requests, at most" in page
    assert "1 failed and 2 were wrong, of which 2 were refused" in page
    assert "TooManyRequests" in page
    assert "at no service" in page
    assert "slow-one" in page
    assert page.count("<polyline") >= 4
    assert "<b>evil" not in page
    assert 'href="/insight"' in page


def test_an_api_has_operations_generations_clients_and_patterns(world: World, asked: str) -> None:
    with Browser(world) as browser:
        page = browser.get(f"/insight/apis/{SERVICE}?span=day")
        of_one = browser.get(f"/insight/apis/{SERVICE}?span=day&generation=v2")
        assert "there is no span" in browser.get(f"/insight/apis/{SERVICE}?span=year", 422)
        assert "did you mean" in browser.get("/insight/apis/customer-total", 404)
        assert "nowhere" in browser.get("/insight?environment=nowhere", 404)
    assert "POST /total/lookup" in page
    assert "generation=v1" in page
    assert "web-shop" in page
    assert f'href="/insight/clients/{asked}?span=day"' in page
    assert "&lt;b&gt;evil" in page
    assert 'href="/insight/clients/&lt;' not in page
    assert "When it is asked, and what may come" in page
    assert re.search(r"No forecast: [34] hours are known, and 72 are needed", page)
    assert "1 request</h2>" in of_one
    assert re.search(r"(89|90)\d ms", of_one)


def test_violations_of_an_api_are_told_by_version_and_on_the_page_of_each(world: World) -> None:
    at, limited = time.time() - 1800, {"code": 429, "details": "request_rate_limited", "service": SERVICE}
    count(
        world,
        *(line(at, version="v1", **limited) for _ in range(3)),
        line(at, version="<i>v2", **(limited | {"code": 413, "details": "request_payload_too_large"})),
    )
    with Browser(world) as browser:
        page = browser.get(f"/insight/apis/{SERVICE}?span=day")
        of_one = browser.get(f"/insight/apis/{SERVICE}?span=day&version=v1")
        of_none = browser.get(f"/insight/apis/{SERVICE}?span=day&version=v1&generation=v9")
    assert "<td>v1</td><td>TooManyRequests</td>" in page
    assert "<td>&lt;i&gt;v2</td><td>RequestTooLarge</td>" in page
    assert "TooManyRequests" in of_one
    assert "RequestTooLarge" not in of_one
    assert "TooManyRequests" not in of_none


def test_a_client_has_what_it_asked(world: World, asked: str) -> None:
    with Browser(world) as browser:
        page = browser.get(f"/insight/clients/{asked}?span=hour")
        assert "no client" in browser.get("/insight/clients/nobody", 404)
    assert "<h1>web-shop</h1>" in page
    assert SERVICE in page
    assert "102 requests" in page  # one of them at no service's address


def test_before_anything_was_asked_the_pages_say_so(world: World) -> None:
    with Browser(world) as browser:
        assert "Nothing was asked in prod in the last day: calls are counted" in browser.get("/insight")
        assert "Nothing was asked" in browser.get(f"/insight/apis/{SERVICE}")


def test_thirty_days_of_a_hundred_apis_are_one_question_for_each_table(world: World) -> None:
    drawn, now = random.Random(1), time.time() // HOUR * HOUR
    calls, cells = Calls(world.settings.state_folder), {}
    for api in range(100):
        for day in range(30):
            key = Key(f"api-{api:03}", "", "GET /x", "v1", f"app-{api % 7}")
            number = drawn.randrange(1, 500)
            cells[int(now - day * 86_400), key] = Cell(
                [number, number, 0, 0, 0, 0, 1, 1, number * 900], {170: number}
            )
    calls.add(Batch.of(cells), Place("f", 1))
    read = 0

    class Counted(Calls):
        def read(self):  # type: ignore[no-untyped-def]
            nonlocal read
            read += 1
            return super().read()

    reader = InsightReader(world.settings, world.database, Counted(world.settings.state_folder))
    page = reader.mesh(span="month")
    assert len(page.rows["APIs"]) == 100
    assert read <= 8  # whatever the number of APIs is
    assert page.whole is not None
    assert page.whole.requests == sum(row.whole.requests for row in page.rows["APIs"])
    ranked = [row.whole.requests for row in page.rows["APIs"]]
    assert ranked == sorted(ranked, reverse=True)
    assert re.fullmatch(r"([0-9.]+,[0-9.]+ ?)+", page.rows["APIs"][0].spark)
    calls.close()


def test_readers_refuse_what_is_not_there(world: World) -> None:
    reader = InsightReader(world.settings, world.database, Calls(world.settings.state_folder))
    with pytest.raises(NotFound):
        reader.mesh("nowhere")
    with pytest.raises(Invalid):
        reader.mesh(span="decade")
