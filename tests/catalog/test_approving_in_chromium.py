"""Approving a promotion in the page of releases, in a real browser, with people's own access keys."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import update
from tests.control.test_approvals import Office
from tests.system.conftest import free_port
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

from tulle.control import promotion
from tulle.pipeline import promotion as record
from tulle.state.tables import promotions

HOSTILE = '<img src=x onerror="document.title=1">'

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


@dataclass
class Desk:
    """An office whose pages a browser can open, each at a tab of its own."""

    office: Office
    browser: Browser
    address: str

    def tab(self, **how: object) -> Page:
        page = self.browser.new_context(base_url=self.address, **how).new_page()  # type: ignore[arg-type]
        page.goto("/releases")
        return page

    def sign_in(self, page: Page, name: str) -> None:
        key = self.office.keys[name]
        page.locator("details summary", has_text="Approve or refuse").click()
        page.get_by_label("Access key id").fill(key.id)
        page.get_by_label("Secret access key").fill(key.secret)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    office = Office(tmp_path / "mesh")
    server = uvicorn.Server(uvicorn.Config(office.app, port=free_port(), log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            yield Desk(office, browser, f"http://127.0.0.1:{server.config.port}")
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)
        office.close()


def asked(desk: Desk) -> record.Promotion:
    return promotion.promote(desk.office.workspace, "sales", "1.0.0", to="prod", by="ann", note=HOSTILE)


def test_two_people_approve_in_the_page_and_it_begins(desk: Desk) -> None:
    office, waits = desk.office, asked(desk)
    page = desk.tab()
    desk.sign_in(page, "zoe")
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("'zoe' may not approve for 'prod'")
    for name in ("bob", "eve"):
        page = desk.tab()
        desk.sign_in(page, name)
        page.get_by_label("Why").fill(f"read by {name}")
        with page.expect_navigation():
            page.get_by_role("button", name="Approve", exact=True).click()
        page.wait_for_load_state()
    expect(page.get_by_text("Waiting for approval")).to_have_count(0)
    assert office.team.wait(record.get(office.workspace.database, waits.id)).status == "done"
    given = promotion.decisions(office.workspace.database, waits.id)
    assert [(one.approver, one.note) for one in given] == [("bob", "read by bob"), ("eve", "read by eve")]


def test_what_the_page_did_not_show_is_not_agreed_to(desk: Desk) -> None:
    office, waits = desk.office, asked(desk)
    page = desk.tab()
    with office.workspace.database.write() as cx:
        cx.execute(update(promotions).where(promotions.c.id == waits.id).values(breaking=[HOSTILE]))
    desk.sign_in(page, "bob")
    page.get_by_role("button", name="Approve", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("breaks more than was known")
    expect(page.get_by_role("alert")).to_contain_text(HOSTILE)
    page.reload()
    page.locator("details summary", has_text="Approve or refuse").click()  # bob is signed in still
    with page.expect_navigation():
        page.get_by_role("button", name="Refuse", exact=True).click()
    assert record.get(office.workspace.database, waits.id).status == "refused"


@pytest.mark.parametrize(
    "how",
    [
        {"viewport": {"width": 1400, "height": 900}},
        {"viewport": {"width": 380, "height": 800}, "color_scheme": "dark"},
    ],
)
def test_the_form_is_readable_and_named_wide_and_narrow(desk: Desk, how: dict[str, object]) -> None:
    asked(desk)
    page = desk.tab(**how)
    desk.sign_in(page, "bob")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(CONTRAST) == []
    assert page.title() != "1"
