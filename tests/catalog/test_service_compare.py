"""The page that compares two generations of a service: what it begins with, and in a browser what it shows."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import expect
from tests.catalog.conftest import Browser, World
from tests.catalog.test_deploying_in_chromium import Desk, desk
from tests.catalog.test_service_deployments import NAME, again
from tests.system.test_portal import CHROMIUM, CONTRAST, NAMELESS

from tulle.catalog.service_compare import compare_page
from tulle.errors import NotFound

__all__ = ["desk"]  # a fixture
HOME = f"/services/{NAME}/compare"


def test_what_answers_is_compared_with_the_newest_other(world: World, browser: Browser) -> None:
    assert "There is one version" in browser.get(HOME)
    again(world)
    page = compare_page(world.database, NAME)
    assert (page.versions, page.left, page.right, page.questions) == (("v2", "v1"), "v1", "v2", 1)
    assert compare_page(world.database, NAME, "v2").right == "v1"
    assert compare_page(world.database, NAME, "", "v1").left == "v2"
    html = browser.get(f"{HOME}?left=v2&right=v1")
    assert f"tulle service compare {NAME} v2 v1 --recorded" in html
    with pytest.raises(NotFound, match="has no version 'v9'"):
        compare_page(world.database, NAME, "v9")


@pytest.mark.system
@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed")
def test_saved_queries_are_asked_of_both_in_the_page(desk: Desk) -> None:
    page = desk.tab(HOME, viewport={"width": 380, "height": 800}, color_scheme="dark")
    desk.sign_in(page, "Compare", "ann")
    page.get_by_role("button", name="Compare recorded answers").click()
    expect(page.get_by_role("form", name="Compare").get_by_role("alert")).to_contain_text(
        "no request was answered by both v1 and v2"
    )
    page.get_by_role("button", name="Ask the saved queries").click()
    expect(page.locator("#found")).to_contain_text(
        "1 asked of both, 1 answered alike, 0 not.", timeout=60_000
    )
    expect(page.locator("#found")).to_be_focused()
    expect(page.get_by_role("group", name="Latency")).to_contain_text("p95")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
