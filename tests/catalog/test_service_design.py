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

from tulle.catalog.service_design import read_design
from tulle.serving.service import load_service

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
    said = page.get_by_role("form", name="Services file").locator("[data-part=said]")
    expect(said).to_contain_text("is not valid")
    page.get_by_role("button", name="As it was").click()
    page.get_by_label("An endpoint more").select_option("function")
    page.get_by_role("button", name="Add it").click()
    form = page.get_by_role("form", name="One more endpoint: function")
    expect(form.get_by_role("heading")).to_be_focused()
    form.get_by_label("Name of the endpoint").fill("a-function")
    form.get_by_role("button", name="Put it in the text").click()
    expect(form.get_by_label("File")).to_be_focused()
    expect(form.locator("#endpoint-file-wrong")).to_have_text("it is needed")
    form.get_by_label("File").fill("my_functions.py")
    form.get_by_label("File").press("Enter")
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
    expect(said).to_contain_text("was changed meanwhile")
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


@pytest.mark.system
@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed")
def test_a_test_query_is_filled_in_run_made_from_data_and_saved(desk: Desk) -> None:
    file = desk.world.settings.folder / FILE
    wrong: list[str] = []
    page = desk.tab(HOME, viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.on("pageerror", lambda error: wrong.append(str(error)))
    more = page.get_by_role("button", name="One more test query of total")
    more.press("Enter")
    form, run = page.get_by_role("form", name="One more test query"), page.get_by_role("form", name="Run it")
    expect(form.get_by_role("heading")).to_be_focused()
    form.get_by_label("Name").fill("<i>ann</i>")
    form.get_by_label("What is sent").fill("{")
    form.get_by_role("button", name="Put it in the text").click()
    expect(form.get_by_label("What is sent")).to_be_focused()
    expect(form.locator("#query-sent-wrong")).to_contain_text("this is no JSON")
    desk.sign_in(page, "Run it", "ann")
    run.get_by_role("button", name="Run it").click()
    expect(run.get_by_role("alert")).to_contain_text("What is sent is no JSON")
    form.get_by_label("What is sent").fill('{"customer": "ann"}')
    form.get_by_label("Expected answer").fill('{"total": "<b>"}')
    run.get_by_role("button", name="Run it").click()
    expect(run.locator("[data-part=verdict]")).to_have_text("failed", timeout=20_000)
    expect(run.locator("[data-part=answer]")).to_be_focused()
    expect(run.locator("[data-part=expected]")).to_contain_text('"<b>"')
    expect(run.locator("[data-part=answered]")).to_contain_text('"results"')
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    run.get_by_role("button", name="Expect this answer").click()
    run.get_by_role("button", name="Run it").click()
    expect(run.locator("[data-part=verdict]")).to_have_text("passed", timeout=20_000)
    form.get_by_role("button", name="Put it in the text").click()
    expect(form).to_have_count(0)
    expect(more).to_be_focused()
    expect(page.locator("#view summary").last).to_have_text("<i>ann</i>")
    more.click()
    made = page.get_by_role("form", name="Make from data")
    made.get_by_label("Data set").fill("totals")
    made.get_by_label("How many").fill("2")
    made.get_by_role("button", name="Make them").click()
    expect(page.locator("#view summary")).to_have_count(4)
    page.get_by_role("button", name="Describe it (total").click()
    page.get_by_role("textbox", name="Description (").fill("What one spent")
    page.get_by_role("button", name="Change the text").click()
    expect(page.locator("#view")).to_contain_text("What one spent")
    with page.expect_navigation():
        page.get_by_role("button", name="Save the file").click()
    page.wait_for_load_state()
    (endpoint,) = load_service(file).endpoints
    assert endpoint.description == "What one spent"
    assert [one.name for one in endpoint.test_queries] == ["ann", "<i>ann</i>", "totals 1", "totals 2"]
    assert endpoint.test_queries[1].body == {"data": {"customer": "ann"}}
    assert wrong == []


@pytest.mark.system
@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed")
def test_annotations_are_filled_in_and_nobody_elses_change_is_lost(desk: Desk) -> None:
    file = (desk.world.settings.folder / FILE).with_suffix(".openapi.yaml")
    wrong: list[str] = []
    page = desk.tab(HOME, viewport={"width": 400, "height": 800})
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.get_by_role("button", name="One more annotation").click()
    form = page.get_by_role("form", name="One more annotation")
    form.get_by_label("What it is of").fill("$.info")
    form.get_by_role("button", name="Put it in the text").click()
    expect(form.locator("#annotation-description-wrong")).to_contain_text("it says nothing")
    form.get_by_label("Description").fill("<i>What customers spent</i>")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    form.get_by_role("button", name="Put it in the text").click()
    expect(page.locator("#annotations-view")).to_contain_text("<i>What customers spent</i>")
    desk.sign_in(page, "Annotations", "ann")
    with page.expect_navigation():
        page.get_by_role("button", name="Save the annotations").click()
    page.wait_for_load_state()
    saved = file.read_text()
    assert saved.endswith(
        "actions:\n  - target: $.info\n    update: {description: <i>What customers spent</i>}\n"
    )
    page.get_by_role("button", name="Change it (annotation of $.info)").click()
    page.get_by_label("Title").fill("Totals")
    page.get_by_role("button", name="Change the text").click()
    expect(page.locator("#annotations-view")).to_contain_text("Totals")
    file.write_text(saved + "# somebody else\n")
    page.get_by_role("button", name="Save the annotations").click()
    said = page.get_by_role("form", name="Annotations", exact=True).locator("[data-part=said]")
    expect(said).to_contain_text("was changed meanwhile")
    assert file.read_text() == saved + "# somebody else\n"
    page.locator("#annotations-text").fill(saved)  # so that the page may be left
    assert wrong == []
