"""The pages as a browser gets them: what is on them, what must not be, and what trying a service may do."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import replace

import pytest
from tests.catalog.conftest import Browser, World

from tulle.catalog.trial import How, TryAnswer
from tulle.errors import Unavailable
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, schedule
from tulle.spec.schedule import Schedule
from tulle.state.tables import run_steps

PAGES = [
    "/",
    "/search?q=sale",
    "/products/sales",
    "/products/people",
    "/runs",
    "/schedules",
    "/schedules/calendar",
    "/rejected",
    "/plans",
    "/products/sales/plans",
    "/services",
    "/services/customer-totals",
    "/services/customer-totals/queries",
    "/applications",
    "/applications?q=web&owner=Web%20team",
    "/applications/web-shop",
    "/access",
    "/access?product=people",
    "/access/requests",
    "/capabilities",
    "/lake",
    "/lake/sales",
    "/lake/sales?prefix=sales/",
]
DAILY = Schedule(cron="30 6 * * *")
TRY = {"endpoint": "total", "action": "lookup", "body": '{"data": {"customer": "ann"}}'}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_keeps_to_the_rules(browser: Browser, path: str) -> None:
    html = browser.get(path)
    assert html.startswith("<!doctype html>")
    assert '<html lang="en"' in html
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert "<main" in html
    assert "<nav" in html
    assert 'name="viewport"' in html
    # the content security policy refuses these, and nothing is fetched from elsewhere
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", html)
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//(?!127\.0\.0\.1)""", html)
    assert "@x.org" not in html  # what names a person
    assert "tulle-portal" not in html


@pytest.mark.parametrize("path", PAGES)
def test_every_id_is_there_once_and_every_link_inside_a_page_leads_somewhere(
    browser: Browser, path: str
) -> None:
    html = browser.get(path)
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'href="#([^"]+)"', html):
        assert target in ids


@pytest.mark.parametrize(
    "path", ["/", "/products/sales", "/products/people", "/services/customer-totals", "/lake"]
)
def test_every_link_of_ours_leads_to_a_page(browser: Browser, path: str) -> None:
    links = {
        href for href in re.findall(r'href="(/[^"]*)"', browser.get(path)) if not href.startswith("/static")
    }
    assert len(links) > 5
    for link in links:
        address, _, anchor = link.replace("&amp;", "&").partition("#")
        answer = browser.client.get(address)
        assert answer.status_code == 200, link
        assert not anchor or f'id="{anchor}"' in answer.text, link


def test_what_a_document_says_is_text_and_never_markup(browser: Browser) -> None:
    html = browser.get("/products/sales")
    assert "What was sold &lt;b&gt;today&lt;/b&gt;" in html
    assert "<b>today" not in html
    assert "<script>" not in browser.get("/search?q=<script>alert(1)</script>")


def test_a_product_page_tells_all(browser: Browser) -> None:
    html = browser.get("/products/sales")
    for text in (
        "Ann Owner",
        "1.2.0",
        "be kind",
        "the number of the sale",
        "10.50",
        "sales.csv",
        "days refreshed",
    ):
        assert text in html


def test_a_product_page_tells_of_environments_releases_and_plans(world: World, browser: Browser) -> None:
    html = browser.get("/products/sales")
    assert 'id="environments"' in html
    assert "its folder" in html
    assert "tulle release sales" in html
    assert "No plan was carried out for it yet" in html
    assert "It runs when somebody asks for it" in html
    with world.database.write() as cx:
        schedule.sync(cx, {"sales": replace(world.reader().known.all()["sales"].product, schedule=DAILY)})
    html = browser.get("/products/sales")
    assert "at &#39;30 6 * * *&#39;" in html
    assert 'href="/schedules/calendar?product=sales"' in html


@pytest.mark.parametrize(
    "path", ["/", "/products", "/runs", "/schedules", "/services", "/applications", "/lake"]
)
def test_an_empty_mesh_says_what_to_do_next(empty: World, path: str) -> None:
    with Browser(empty) as browser:
        assert "tulle " in browser.get(path)


def test_a_failing_run_shows_its_rows_and_keeps_secrets(world: World, browser: Browser) -> None:
    world.write(
        "products/shop/sales/checks/sales.yaml",
        "checks:\n- {data_set: sales, type: range, column: amount, max: 5}\n",
    )
    run = world.run("sales")
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/progress"):
        html = browser.get(path)
        assert "10.50" in html
        assert "@x.org" not in html
        assert run.branch is not None
        assert run.branch in html
    assert "failed" in browser.get("/")


def test_why_a_run_failed_is_told_without_the_rows_of_people(world: World, browser: Browser) -> None:
    world.write(
        "products/shop/sales/data/sales.csv", "id,customer,email,amount\n1,ann,7,ann@x.org\nbob@x.org,b,,1\n"
    )
    run = world.run("sales")
    html = browser.get(f"/runs/{run.id}")
    assert "@x.org" in str(run.error)
    assert "@x.org" not in html
    assert "products/shop/sales/data/sales.csv:2" in html
    assert "column &#39;amount&#39; is …, expected a number" in html
    world.write("products/shop/sales/data/sales.csv", "id,customer,email,amount\n1,ann,ann@x.org,2\n")
    world.write(
        "products/shop/sales/transform/sales.sql",
        "SELECT id, customer, email, CAST(CAST(email AS INTEGER) AS DECIMAL(10,2)) AS amount FROM till_rows\n",
    )
    run = world.run("sales")
    assert "ann@x.org" in str(run.error)
    assert "@x.org" not in browser.get(f"/runs/{run.id}")


RAISES = """inputs = ["INPUT"]
def model(run):
    customer = run.read("INPUT").column("customer")[0].as_py()
    raise ValueError(f"what to do with {customer} xyz?")
"""


@pytest.mark.parametrize(
    ("product", "given", "is_shown"), [("shop/sales", "sales", False), ("crm/people", "sold", True)]
)
def test_what_a_model_raises_is_told_where_it_can_name_nobody(
    world: World, browser: Browser, product: str, given: str, is_shown: bool
) -> None:
    world.write(f"products/{product}/transform/odd.py", RAISES.replace("INPUT", given))
    run = world.run(product.partition("/")[2])
    assert "ann xyz" in str(run.error)
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/progress"):
        html = browser.get(path)
        assert ("ann xyz" in html) is is_shown
        assert f"products/{product}/transform/odd.py:4: ValueError" in html
        assert "the full trace is in the run&#39;s log" in html


@pytest.mark.parametrize(("product", "is_shown"), [("sales", False), ("people", True)])
def test_what_a_step_wrote_is_shown_where_it_can_name_nobody(
    world: World, browser: Browser, product: str, is_shown: bool
) -> None:
    run = world.run(product)
    with world.database.write() as cx:
        report = runs.Report(log=("ann has 3",)).as_dict()
        cx.execute(run_steps.update().where(run_steps.c.run_id == run.id).values(report=report))
    assert ("ann has 3" in browser.get(f"/runs/{run.id}")) is is_shown


def test_a_run_that_goes_on_asks_to_be_looked_at_again(world: World, browser: Browser) -> None:
    run_id = runs.request(world.database, "sales")
    going_on = browser.get(f"/runs/{run_id}")
    assert f"/runs/{run_id}/progress" in going_on
    world.database.engine.dispose()
    run_end.finish(world.database, run_id, "stopped")
    assert "stopped" in browser.get(f"/runs/{run_id}/progress")


@pytest.mark.parametrize(
    "path",
    ["/products/salez", "/runs/nope", "/services/nope", "/lake/nope", "/lake/sales?ref=no.such", "/nope"],
)
def test_what_is_not_there_is_a_page_too(browser: Browser, path: str) -> None:
    answer = browser.client.get(path)
    assert answer.status_code in {404, 422}
    if path != "/nope":  # the server's door gives that one its looks
        assert "<h1" in answer.text


def test_a_hint_is_on_the_page_of_a_failure(browser: Browser) -> None:
    assert "did you mean &#39;sales&#39;" in browser.get("/products/salez", status=404)


def test_the_openapi_document_is_the_packages(browser: Browser) -> None:
    document = browser.json("/services/customer-totals/openapi.json")
    assert isinstance(document, dict)
    assert document["openapi"].startswith("3.1")
    assert "/total/lookup" in document["paths"]


# ── trying a service ─────────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_sent_as_typed_and_its_answer_shown(world: World, browser: Browser) -> None:
    headers = {
        "x-ratelimit-limit": "5",
        "x-request-id": "r1",
        "x-tulle-generation": "v1",
        "set-cookie": "no",
        "server": "no",
    }
    world.answer = TryAnswer(200, headers, '{"a":{"b":1.10}}', 12.5)
    answer = browser.attempt("customer-totals", TRY)
    assert answer.json() == {
        "status": 200,
        "headers": {"x-ratelimit-limit": "5", "x-request-id": "r1", "x-tulle-generation": "v1"},
        "body": json.dumps({"a": {"b": 1.1}}, indent=2),
        "milliseconds": 12.5,
    }
    assert world.called == [("customer-totals", "total", "lookup", TRY["body"].encode(), None)]


def test_a_refusal_and_what_is_no_json_are_shown_as_they_are(world: World, browser: Browser) -> None:
    world.answer = TryAnswer(502, {}, "<html>bad gateway", 1.0)
    answer = browser.attempt("customer-totals", TRY | {"body": "{not json"})
    assert answer.status_code == 200
    assert answer.json()["status"] == 502
    assert answer.json()["body"] == "<html>bad gateway"
    assert world.called[0][3] == b"{not json"


def test_own_credentials_are_used_and_must_be_whole(world: World, browser: Browser) -> None:
    browser.attempt("customer-totals", TRY | {"client_id": "a", "client_secret": "b"})
    assert world.called[0][4] == ("a", "b")
    assert browser.attempt("customer-totals", TRY | {"client_id": "a"}).status_code == 422
    assert len(world.called) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "other"},
        {"action": "predict"},
        {"endpoint": "../../secret", "action": "lookup"},
        {"action": "lookup/../../x"},
        {"endpoint": ""},
        {"unknown": 1},
        {"body": {"data": {}}},
    ],
)
def test_a_page_sends_requests_to_known_endpoints_only(
    world: World, browser: Browser, change: dict[str, object]
) -> None:
    assert browser.attempt("customer-totals", TRY | change).status_code in {404, 422}
    assert browser.attempt("other-service", TRY).status_code == 404
    assert world.called == []


def test_it_goes_where_it_is_sent_and_nowhere_that_is_not(world: World, browser: Browser) -> None:
    how = {"environment": "prod", "generation": "v1", "key": "user é", "steps": True}
    assert browser.attempt("customer-totals", TRY | how).status_code == 200
    assert world.hows == [How("", "v1", "user é", steps=True)]
    assert world.hows[0].headers() == {
        b"forced-generation": b"v1",
        b"dispatch-key": "user é".encode(),
        b"tulle-steps": b"true",
    }
    for wrong in ({"environment": "nowhere"}, {"generation": "v9"}, {"key": "a\r\nclient_id: b"}):
        assert browser.attempt("customer-totals", TRY | wrong).status_code in {404, 422}
    assert len(world.called) == 1


def test_a_gateway_that_is_down_is_told(world: World, browser: Browser) -> None:
    world.answer = Unavailable("the mesh is not up", hint="`tulle up`")
    assert "the mesh is not up" in browser.attempt("customer-totals", TRY).text


# ── the calendar ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_calendar_is_linked(applied: World) -> None:
    with Browser(applied) as browser:
        assert 'href="/schedules/calendar"' in browser.get("/schedules")
        month = dt.datetime.now(dt.UTC).strftime("%B %Y")
        assert f"<h1>{month}" in browser.get("/schedules/calendar")
        assert "is no day of a calendar" in browser.get("/schedules/calendar?month=x", status=422)


def test_the_page_of_a_service_tells_its_look_ups(browser: Browser) -> None:
    page = browser.get("/services/customer-totals")
    (section,) = re.findall(r'<section[^>]*id="look-ups".*?</section>', page, re.DOTALL)
    (told,) = browser.world.reader().services.page("customer-totals").look_ups
    assert told.rows
    for shown in (told.data_set, "bundled", told.commit[:8], f">{told.rows:,}<"):
        assert shown in section
