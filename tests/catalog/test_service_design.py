"""The page on which a service is designed: its file, what that declares, and saving it, in a browser too."""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.sync_api import expect
from tests.catalog.conftest import Browser, World
from tests.catalog.test_deploying_in_chromium import Desk, desk
from tests.catalog.test_service_deployments import NAME
from tests.system.test_portal import CHROMIUM, CONTRAST, NAMELESS

from tulle.catalog.service_design import SNIPPETS, read_design
from tulle.serving.kinds import KINDS

__all__ = ["desk"]  # a fixture
HOME = f"/services/{NAME}/design"
FILE = "products/crm/people/services/customer-totals.yaml"
OVERLAY = """
overlay: 1.0.0  # <i>ours</i>
info: {title: Ours, version: "1"}
actions:
- {target: $.info, update: {title: Totals}}
"""
WHOLE = """
service: all-of-it
endpoints:
- name: chance
  type: predict
  model: returns
  enrich:
  - data_set: features
    product: shops
    key: {customer: customer_id}
    columns: {recency: days_since_last}
    defaults: {recency: 365}
    no_match: default
"""


def test_a_text_is_told_at_a_glance() -> None:
    design = read_design(WHOLE, "services/x.yaml")
    assert design.problems == ()
    (endpoint,) = design.endpoints
    (found,) = endpoint.look_ups
    assert (endpoint.kind, endpoint.of, found.data_set) == ("predict", "returns", "shops/features")
    assert (found.key, found.columns) == ((("customer", "customer_id"),), (("recency", "days_since_last"),))
    assert found.defaults == (("recency", "365"),)
    assert ("no row is found", "default") in found.policies
    aged = "    source: latest\n    version: '1.2'\n    event_time: at\n    max_age: 36 hours\n    too_old: error\n"
    (endpoint,) = read_design(WHOLE + aged, "services/x.yaml").endpoints
    assert endpoint.look_ups[0].source == "latest, pinned to 1.2"
    assert ("older than 36 hours by at", "error") in endpoint.look_ups[0].policies
    stored = "    source: {connection: pg, table: shop.orders}\n"
    (endpoint,) = read_design(WHOLE + stored, "services/x.yaml").endpoints
    assert endpoint.look_ups[0].source == "pg: shop.orders"
    joined = "service: all-of-it\nendpoints:\n- {name: a, type: lookup, lookups: [{data_set: x, key: k}, {data_set: y, key: k}]}"
    (endpoint,) = read_design(joined, "services/x.yaml").endpoints
    assert ([one.data_set for one in endpoint.look_ups], endpoint.takes_more) == (["x", "y"], True)


def test_what_is_wrong_is_told_with_its_place() -> None:
    design = read_design(WHOLE.replace("model: returns", "modell: returns"), "services/x.yaml")
    assert [str(one.place) for one in design.problems] == ["services/x.yaml:6:3"]
    assert read_design("a: [", "x").problems


def test_what_is_added_is_taken_by_the_parser() -> None:
    assert set(SNIPPETS) == set(KINDS)
    lookup = SNIPPETS["lookup"]
    for kind, text in SNIPPETS.items():
        more = lookup if kind == "compose" else ""
        design = read_design(f"service: some-service\nendpoints:\n{more}{text}", "x")
        assert [str(one) for one in design.problems] == []
        assert design.endpoints[-1].kind == kind


def test_the_page_shows_both_and_checks_what_is_typed(world: World, browser: Browser) -> None:
    page = browser.get(HOME)
    assert "data_set: totals" in page
    assert "Looks up in" in page
    (world.settings.folder / FILE).with_suffix(".openapi.yaml").write_text(OVERLAY)
    assert "# &lt;i&gt;ours" in browser.get(HOME)
    typed = {"text": "service: x\nendpoints: <b>"}
    answer = browser.client.post(f"{HOME}/view", json=typed)
    assert answer.status_code == 200
    assert "<b>" not in answer.text
    assert "services/customer-totals.yaml:1:" in answer.text
    assert "there is no service" in browser.get("/services/no-such/design", 404)


@pytest.mark.system
@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed")
def test_a_service_is_changed_in_the_page_and_nobody_elses_change_is_lost(desk: Desk) -> None:
    file = desk.world.settings.folder / FILE
    page = desk.tab(HOME, viewport={"width": 380, "height": 800}, color_scheme="dark")
    text = page.locator("#text")
    text.fill(file.read_text().replace("key: [customer]", "kee: [customer]"))
    expect(page.locator("#view").get_by_role("alert")).to_contain_text("kee")
    desk.sign_in(page, "Services file", "ann")
    page.get_by_role("button", name="Save the file").click()
    expect(page.locator("form [data-part=said]")).to_contain_text("is not valid")
    page.get_by_role("button", name="As it was").click()
    page.get_by_label("An endpoint more").select_option("function")
    page.get_by_role("button", name="Add it").click()
    expect(page.locator("#view")).to_contain_text("a-function")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    with page.expect_navigation():
        page.get_by_role("button", name="Save the file").click()
    page.wait_for_load_state()
    saved = file.read_text()
    assert saved.endswith("- name: a-function\n  type: function\n  file: my_functions.py\n")
    assert [one.name for one in file.parent.iterdir() if one.name.startswith(".")] == []
    text.fill(saved.replace("a-function", "another"))
    file.write_text(saved + "# somebody else\n")
    os.utime(file)
    page.get_by_role("button", name="Save the file").click()
    expect(page.locator("form [data-part=said]")).to_contain_text("was changed meanwhile")
    assert file.read_text() == saved + "# somebody else\n"
    text.fill(saved)  # so that the page may be left


def test_a_look_up_is_a_form_and_the_form_is_text(browser: Browser) -> None:
    text = WHOLE.replace("service: all-of-it", "service: all-of-it  # ours")
    html = browser.client.post(f"{HOME}/look-up/form", json={"text": text, "endpoint": 0, "number": 0})
    assert html.status_code == 200
    assert "Look-up of chance" in html.text
    assert 'value="customer_id"' in html.text
    assert '<option value="default" selected>' in html.text
    body = {
        "text": text,
        "endpoint": 0,
        "number": -1,
        "texts": {"data_set": "<b>"},
        "pairs": {"key": [["id", ""]]},
    }
    refused = browser.client.post(f"{HOME}/look-up", json=body)
    assert refused.status_code == 422
    assert set(refused.json()["problems"]) == {"data_set"}
    taken = browser.client.post(f"{HOME}/look-up", json={**body, "texts": {"data_set": "totals"}})
    assert taken.status_code == 200
    assert taken.json()["text"] == f"{text}  - data_set: totals\n    key: id\n"
    gone = {"text": text, "endpoint": 7, "number": 0}
    assert browser.client.post(f"{HOME}/look-up/form", json=gone).status_code == 404
    assert browser.client.post("/services/no-such/design/look-up", json=body).status_code == 404
    known = browser.json(f"{HOME}/suggested?data_set=totals")
    assert known == {
        "products": ["people", "sales"],
        "data_sets": ["totals"],
        "columns": ["customer", "total"],
    }
    assert browser.json(f"{HOME}/suggested?product=sales")["data_sets"] == ["sales"]  # type: ignore[index]


def test_a_file_that_is_not_valid_is_shown_where_it_can_be_mended(world: World, browser: Browser) -> None:
    file = world.settings.folder / FILE
    file.write_text(file.read_text().replace("key: [customer]", "kee: [customer]"))
    page = browser.get(HOME)
    assert "kee: [customer]" in page
    assert "unknown property &#39;kee&#39;" in page
    assert "services/customer-totals.yaml:7:3" in page
    assert "unknown property &#39;kee&#39;" in browser.get("/services")
    file.write_bytes(file.read_bytes() + b"# \xff\n")
    assert "is not UTF-8" in browser.get(HOME, 422)
    file.unlink()
    assert "declared no longer" in browser.get(HOME, 404)


@pytest.mark.system
@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed")
def test_a_look_up_is_changed_field_by_field(desk: Desk) -> None:
    file = desk.world.settings.folder / FILE
    wrong: list[str] = []
    page = desk.tab(HOME, viewport={"width": 390, "height": 800})
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.get_by_role("button", name="Change it (total").click()
    form = page.get_by_role("form", name="Rows of total")
    expect(form.get_by_role("heading")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    form.get_by_label("Counts for").fill("soon")
    form.get_by_role("button", name="Change the text").click()
    field = form.get_by_label("Counts for")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(form.locator("#look-up-max_age-wrong")).to_contain_text("without the event time")
    field.fill("")
    form.get_by_label("When several rows have it").select_option("all")
    form.get_by_role("button", name="One more line of columns").click()
    form.locator("[data-pairs=columns]").get_by_label("Column", exact=True).fill("total")
    form.locator("[data-pairs=columns]").get_by_label("Called").fill("spent")
    form.get_by_label("Source").select_option("connection")
    expect(form.get_by_label("Table")).to_be_visible()
    form.get_by_label("Source").select_option("latest")
    expect(form.get_by_label("Table")).to_be_hidden()
    form.get_by_role("button", name="Change the text").click()
    expect(form).to_have_count(0)
    text = page.locator("#text")
    before = file.read_text()
    after = before.replace("  data_set: totals\n", "  data_set: totals\n  source: latest\n").replace(
        "  key: [customer]\n", "  key: [customer]\n  columns: {spent: total}\n  several: all\n"
    )
    expect(text).to_have_value(after)
    expect(page.get_by_role("button", name="Change it (total")).to_be_focused()
    expect(page.locator("#view")).to_contain_text("total → spent")
    page.get_by_role("button", name="Change it (total").click()
    text.fill(before)
    form.get_by_role("button", name="Change the text").click()
    expect(form.get_by_role("alert")).to_contain_text("changed in the text meanwhile")
    form.get_by_role("button", name="Leave it").click()
    expect(form).to_have_count(0)
    assert file.read_text() == before
    assert wrong == []
