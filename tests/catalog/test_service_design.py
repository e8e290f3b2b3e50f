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
